"""From pending work to jobs, their execution and the record: the only code that knows all four."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import DiskFull
from harness.execute import machine
from harness.execute.executor import Needs
from harness.execute.here import Crew, rest_beside, workers_of
from harness.execute.interrupt import Interruption
from harness.execute.progress import Progress, Stopped
from harness.execute.screen import Screen
from harness.lazy import torch
from harness.plan.executions import compiling
from harness.plan.grid import Grid
from harness.plan.pending import Plan, Work, kept_result, metrics_of
from harness.plan.preflight import (
    Site,
    cell_needs,
    scored_at_once,
    trained_at_once,
    training_needs,
    training_threads,
)
from harness.store import FEATURES, Store, set_aside
from harness.tracking.recorder import Recorder
from harness.work.cells import Cell, Training, titles, trained_together
from harness.work.options import Options
from harness.work.overheads import Stopwatch
from harness.work.projection import metrics_of as numbers_of
from harness.work.results import SHOWN_FILES, Failure, Result, TrainingResult

if TYPE_CHECKING:
    from harness.work.outputs import RunOutput

TRAINING, CELL, AT_CHECKPOINT = "training", "cell", "checkpoint cell"
WITHOUT_GPU = {"CUDA_VISIBLE_DEVICES": ""}
Execute = Callable[..., Generator[tuple[Any, Any]]]


@dataclass
class Summary:
    """How a run ended."""

    cells: int
    is_redone: bool = False  # whether finished work was asked for again
    done: int = 0
    failed: list[tuple[Work, Failure]] = field(default_factory=list)
    retries: int = 0  # of work whose process was killed
    status: int = 0  # of the process: 0; 1 with failures; 75 out of time; 128 + N by signal N
    report: Path | None = None
    answers: str = ""  # of the first screen of the report
    lacking: str = ""  # of a run that was stopped, how to bring its report up to date

    def text(self) -> str:
        """What a person reads at the end."""
        lines = [self.answers] if self.answers and not self.failed else []
        lines += [f"{self.done} of {self.cells} cells are finished."]
        if self.retries:
            again = "once" if self.retries == 1 else f"{self.retries} times"
            lines.append(f"Work was tried again {again}, after its process was killed.")
        if self.failed:
            lines.append(f"{len(self.failed)} failed:")
            lines += [f"  {work.key}  {work.title}: {why.reason}" for work, why in self.failed]
        if self.status > 1:
            without = " without --redo" if self.is_redone else ""
            lines.append(f"The same command{without} goes on from here.")
        if self.report:
            lines.append(f"Report: {self.report}")
        if self.lacking:
            lines.append(self.lacking)
        return "\n".join(lines)

    def as_json(self) -> RunOutput:
        return {
            "cells": self.cells,
            "finished": self.done,
            "failed": [
                {"key": work.key, "what": work.title, "reason": why.reason}
                for work, why in self.failed
            ],
            "retries": self.retries,
            "status": self.status,
            "report": str(self.report) if self.report else None,
            "answers": self.answers.splitlines(),
        }


@dataclass
class JobRunner:
    """Runs training and scoring jobs; records progress, results and failures."""

    grid: Grid
    plan: Plan
    options: Options
    site: Site
    recorder: Recorder
    screen: Screen
    interruption: Interruption
    execute: Execute
    summary: Summary
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    beside: ExitStack = field(default_factory=ExitStack)  # processes that do the rest of cells
    has_told_of_compiling: bool = False
    _longest: float = 0.0  # seconds of the trainings of a round
    _is_even: bool = True  # whether all of a round went well: else its seconds tell nothing
    # Cells that were not scored, for their training failed, by what they are counted as.
    _lost: Counter[str] = field(default_factory=Counter)
    _retries: Counter[str] = field(default_factory=Counter)  # of work, by its key
    # By data, model and batch, what compiling gained and took here before.
    _compiling: dict[object, tuple[float, float] | None] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        return Store(self.site.at.store)

    def set_aside(self) -> None:
        """Set aside what is done again, and what is damaged. The runs of the former stay in
        MLflow, marked as superseded."""
        self.recorder.superseded([work.key for work in self.plan.to_redo])
        for work in self.plan.to_redo:
            self.store.forget(work)
        pending: list[Work] = [*self.plan.to_train, *self.plan.to_score]
        for work in pending:
            if self.store.damage(work):
                set_aside(self.store.folder(work))
            elif result := self.store.result(work):
                self.store.set_aside_files(result, (FEATURES, *SHOWN_FILES))

    def record_kept(self) -> None:
        """Record in this experiment what the store has from another one."""
        from harness.engine.identity import keep_fingerprints

        keep_fingerprints(self.site.at)
        for work in self.plan.to_record:
            if result := self.store.result(work):
                self.recorder.ended(work, result, is_reused=True)

    def rounds(self) -> Iterator[tuple[Sequence[Training], Sequence[Cell]]]:
        """What to train and then to score, in turn: the first results stand long before the last
        training, and nothing is timed while something trains."""
        at_once = scored_at_once(self.plan, self.site) if self.plan.to_score else 1
        return self.plan.rounds(self._trained_at_once, at_once)

    def _trained_at_once(self) -> int:
        return trained_at_once(self.grid, self.plan, self.site)

    def train(self, trainings: Sequence[Training]) -> None:
        """Each of these trainings, side by side where devices or cores allow it."""
        if not trainings:
            return
        from harness.engine.train import TrainJob, train

        devices, workers = self.grid.training.devices, self._trained_at_once()
        usual = training_threads(self.grid, self.plan, self.site)
        needs = training_needs(self.grid, self.plan, self.site)
        jobs = []
        for first, *siblings in trained_together(trainings):
            how = self.plan.executions.get(first.model)
            threads = (how.threads if how else None) or usual
            format = how.format if how else None
            compiles = self._compiles(self.plan.seconds(first) or 0, first)
            jobs.append(TrainJob(first, threads, compiles, devices, tuple(siblings), format))
        self._longest, self._is_even = 0.0, True
        self.stopwatch.lap()
        totals = {TRAINING: len(self.plan.to_train)}
        self._carry_out(TRAINING, totals, train, jobs, workers, needs, devices)
        if self._is_even:
            self.stopwatch.trained(self._longest)

    def score(self, cells: Sequence[Cell]) -> None:
        """Sample and score each of these cells whose network is there: alone on a CPU and on each
        GPU, so that seconds are honest."""
        if not cells:
            return
        from harness.engine.score import ScoreJob, sample_alone, score

        reasons = {work.key: failure.reason for work, failure in self.summary.failed}
        # Not for their seconds: on a processor their batches go over the cores in parts, which
        # gains what compiling would.
        compiles = self._compiles(0.0)
        jobs = []
        for cell in cells:
            if reason := reasons.get(cell.training.key):
                self._lost[counted_as(cell)] += 1
                self.summary.failed.append((cell, Failure(f"its training failed: {reason}")))
            else:
                jobs.append(
                    ScoreJob(
                        cell,
                        metrics_of(cell, self.grid),
                        self.options.retime,
                        self.grid.reference_variance,
                        compiles,
                    )
                )
        totals = Counter(map(counted_as, self.plan.to_score))
        totals.subtract(self._lost)
        self._is_even = True
        self.stopwatch.lap()
        self._carry_out(
            CELL if totals[CELL] else AT_CHECKPOINT, totals,
            sample_alone if self._crew else score, jobs,
            scored_at_once(self.plan, self.site), cell_needs(self.site), crew=self._crew,
        )  # fmt: skip

    @cached_property
    def _crew(self) -> Crew[Any] | None:
        """Processes that measure cells while others are sampled, started once for all rounds; None
        where that would take something from the seconds that are measured, or is not worth it."""
        overlaps, forecast = self.options.overlap, self.plan.forecast
        if overlaps is None:
            overlaps = forecast is not None and forecast.overlaps(len(self.plan.to_score))
        if not overlaps or self.site.cluster:
            return None
        from harness.engine.score import score_beside

        start = workers_of(score_beside, replace(self.site.at, device="cpu"))
        workers = min(scored_at_once(self.plan, self.site), max(1, machine.cores() - 1))
        environments = [WITHOUT_GPU] * workers
        return self.beside.enter_context(Crew(start, environments, self._on_progress))

    def _compiles(self, seconds: float, training: Training | None = None) -> bool:
        """Whether a network that works for so long is compiled; that of a training by what
        compiling it gained and took here before, where that is known."""
        from harness.engine.compiled import pays

        if self.options.compile != "auto":
            return self.options.compile == "on"
        device = torch.device(self.site.at.device)
        if training is None or device.type != "cpu":
            return pays(seconds, device)
        # All results of the store tell it, which are not to be read for each training again.
        of = training.data, training.model, training.batch_size
        if of not in self._compiling:
            self._compiling[of] = compiling(self.store, training, machine.name(device))
        return pays(seconds, device, *(self._compiling[of] or ()))

    def _carry_out(
        self,
        stage: str,
        totals: Mapping[str, int],
        function: Callable[..., Result | None],
        jobs: list[Any],
        workers: int,
        needs: Needs,
        devices: int = 1,
        crew: Crew[Any] | None = None,
    ) -> None:
        """Execute jobs of a stage, each on so many devices, and record each as it goes: its
        progress live, its result when it ends; the rest of each by a crew, where there is one.
        `totals` are those of the whole run, by what they are counted as."""
        if not jobs:
            return
        self.screen.stage(stage, totals)
        outcomes = self.execute(
            function, jobs, self.site.at, self._on_progress, self.interruption.should_stop,
            workers=workers, needs=needs, **self._environments(workers, devices),
        )  # fmt: skip
        if crew:
            outcomes = rest_beside(outcomes, crew, self.interruption.should_stop)
        try:
            # Closed whatever happens: its workers end before the store is let go.
            with closing(outcomes):
                for job, outcome in outcomes:
                    self._end(job, outcome)
                    if self.summary.failed and self.options.fail_fast:
                        raise Stopped
        finally:
            with suppress(DiskFull):  # it is what ends the work, and is told
                self.recorder.abandon()

    def _environments(self, workers: int, devices: int) -> dict[str, list[dict[str, str]]]:
        return {} if self.site.cluster else devices_of(self.site.at.device, workers, devices)

    @cached_property
    def _titles(self) -> dict[str, str]:
        return titles(self.plan.trainings) | titles(self.plan.asked)

    def _title(self, work: Work) -> str:
        return self._titles.get(work.key, work.title)

    def _on_progress(self, job: Any, progress: Progress) -> None:
        if progress.lost:
            self.summary.retries += 1
            self._is_even = False
            self._retries[job.work.key] += 1
            self.screen.say(f"{self._title(job.work)}: {progress.lost}; it is tried again.")
            return
        self.screen.update(self._title(job.work), progress)
        self.recorder.progress(job.work, progress, self.plan.seconds(job.work), job.works[1:])

    def _end(self, job: Any, outcome: Result | Failure) -> None:
        """Record what came of a job: of the work in whose name it was done, and of the others, of
        which the store has the results. The forecast is of the job, and so told once."""
        retries, forecast = self._retries[job.work.key], self.plan.seconds(job.work)
        said = self._record(job.work, outcome, retries, forecast)
        self.screen.finish(self._title(job.work), said, counted_as(job.work))
        for work in job.works[1:]:
            found = outcome
            if not isinstance(outcome, Failure):
                found = kept_result(self.store, work) or Failure("its result is damaged")
            said = self._record(work, found, retries)
            self.screen.finish(self._title(work), said, counted_as(work))

    def _record(
        self, work: Work, outcome: Result | Failure, retries: int, forecast: float | None = None
    ) -> str:
        """Write down what came of a piece of work; returns it in short."""
        self.recorder.ended(work, outcome, forecast, retries=retries)
        if isinstance(outcome, Failure):
            self.summary.failed.append((work, outcome))
            self._is_even = False
            return f"FAILED: {outcome.reason}"
        self._say_once_why_not_compiled(outcome)
        self._time(outcome)
        return in_short(outcome, self.grid.metrics)

    def _time(self, result: Result) -> None:
        """Tell what a piece of work took from what a run takes beside it."""
        forecast = self.plan.forecast
        if isinstance(result, TrainingResult):
            seconds = result.seconds + result.compile_seconds
            seconds += forecast.measuring_seconds(result.training) if forecast else 0.0
            self._longest = max(self._longest, seconds)
        elif result.cell.key in self.plan.from_features or not self._is_even:
            self.stopwatch.lap()
            self._is_even = True
        else:
            cost = result.cost
            evaluations = forecast.evaluations([result.cell]) if forecast else 0
            seconds = evaluations * cost.seconds / cost.nfe
            seconds += result.cell.images * cost.feature_seconds_per_image
            seconds += forecast.metrics if forecast else 0.0
            seconds += cost.compile_seconds + cost.fit_seconds
            seconds += forecast.real_seconds() if forecast and not self.stopwatch.has_scored else 0
            self.stopwatch.scored(seconds)

    def _say_once_why_not_compiled(self, result: Result) -> None:
        trouble = result.provenance.compile_trouble
        if trouble and not self.has_told_of_compiling:
            self.has_told_of_compiling = True
            self.screen.say(f"The work goes on without compiled networks: {trouble}")


def counted_as(work: Work) -> str:
    """What a piece of work is counted as on the screen: cells at the checkpoint are none that the
    grid asks for."""
    if isinstance(work, Training):
        return TRAINING
    return CELL if work.weights == "final" else AT_CHECKPOINT


def devices_of(device: str, workers: int, devices: int) -> dict[str, list[dict[str, str]]]:
    """What makes each of several workers see GPUs of its own, as many as a training takes."""
    if device != "cuda" or workers == 1:
        return {}
    names = machine.gpus()
    groups = [names[i : i + devices] for i in range(0, workers * devices, devices)]
    return {"environments": [{"CUDA_VISIBLE_DEVICES": ",".join(group)} for group in groups]}


def in_short(result: Result, metrics: Iterable[str]) -> str:
    """The numbers of a result that a person watches."""
    numbers = numbers_of(result)
    shown = ["loss"] if isinstance(result.work, Training) else list(metrics)
    told = {name: f"{numbers[name]:.4g}" for name in shown if isfinite(numbers.get(name, nan))}
    return "  ".join(
        f"{name} {told.get(name, 'not defined')}"
        for name in shown
        if name in numbers or name in getattr(result, "undefined", ())
    )
