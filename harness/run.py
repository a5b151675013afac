"""THE STORY of `harness run grid.yaml`, from a file to a report, in named steps. Read this first.

    load_grid, expand       what is asked for, as plain values                     plan/
    work_left               what of it nobody has done yet                         tracking, store
    preflight               refuse now what would fail after hours                 data/, metrics/
    record_known            what another grid has already paid for                 store -> tracking
    train, then score       each distinct training once, then each cell            engine/, runtime/
    write_report            from what was recorded, and only if that changed       report/

Every step can be cut short by Ctrl-C, a time limit or a power cut, and the same command goes on
where it stopped. torch is imported only when there is something to train, sample or score.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Container, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.data.download import NotHereYet, no_downloads
from harness.errors import DataError, MachineError, TrackingError
from harness.metrics.distances import METRICS
from harness.metrics.judgement import decisive, numbers_of
from harness.plan.checkpoints import cells_at_checkpoints
from harness.plan.forecast import Plan, Speeds, measured_speeds, warnings_of
from harness.plan.grid import Grid, budgets, expand
from harness.plan.work import Cell, Filter, Part, Training, distinct_trainings
from harness.report.page import check_address
from harness.runtime import machine
from harness.runtime.execute import Failure, here
from harness.runtime.interrupt import Interruption
from harness.runtime.progress import Progress, Screen, Stopped
from harness.runtime.store import Store, check_writable
from harness.tracking import REUSED, Tracker

LEAST_DISK = 200_000_000  # bytes: a few models, features and pictures

Work = Training | Cell
Execute = Callable[..., Generator[tuple[Any, Any]]]


@dataclass(frozen=True)
class Place:
    """Where everything is."""

    store: Path
    tracking_uri: str
    report_dir: Path
    data_dir: Path
    device: str = "auto"
    ui_url: str = ""  # of the MLflow UI that a report's rows link to


@dataclass(frozen=True)
class Wishes:
    """What a person asks of one run beyond the grid file."""

    only: Filter | None = None
    redo: Filter | None = None
    retime: bool = False
    compile: str = "auto"  # auto, on, off: whether networks are compiled
    report: bool = True  # whether it is written at the end
    fail_fast: bool = False
    time_limit: float | None = None  # seconds
    processes: int = 1  # that train each network together, this one and those that follow it


@dataclass
class Left:
    """What is still to be done of a grid."""

    trainings: list[Training] = field(default_factory=list)  # to train
    cells: list[Cell] = field(default_factory=list)  # to sample, score or time
    known: list[Work] = field(default_factory=list)  # done, but not recorded in this experiment
    twice: frozenset[str] = frozenset()  # cells that are sampled at their checkpoint, too

    def __bool__(self) -> bool:
        return bool(self.trainings or self.cells or self.known)


@dataclass
class Summary:
    """How a run ended."""

    cells: int
    done: int = 0
    failed: list[tuple[Work, Failure]] = field(default_factory=list)
    status: int = 0  # of the process: 0, 1 with failures, 75 out of time, 130 interrupted
    report: Path | None = None

    def text(self) -> str:
        """What a person reads at the end."""
        lines = [f"{self.done} of {self.cells} cells are finished."]
        if self.failed:
            lines.append(f"{len(self.failed)} failed:")
            lines += [f"  {work.key}  {work.title}: {why.reason}" for work, why in self.failed]
        if self.status in (130, 75):
            lines.append("The same command goes on from here.")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        return {
            "cells": self.cells,
            "finished": self.done,
            "failed": [
                {"key": work.key, "what": work.title, "reason": why.reason}
                for work, why in self.failed
            ],
            "status": self.status,
            "report": str(self.report) if self.report else None,
        }


def run_grid(
    grid: Grid, place: Place, wishes: Wishes, screen: Screen, execute: Execute = here
) -> Summary:
    """Do what is missing of a grid and write its report. Raises HarnessError before any work
    where something that it needs is missing."""
    check_address(place.ui_url)
    whole = expand(grid)
    cells = chosen(whole, wishes)
    tracker = open_tracker(grid, place)
    store = Store(place.store)
    summary = Summary(len(cells))

    interruption = Interruption(wishes.time_limit, screen.say)  # the time limit begins here
    again = wishes.redo.choose(cells) if wishes.redo else []
    left = work_left(grid, cells, tracker, store, wishes)
    if again or left:
        plan = plan_of(grid, whole, cells, left, again)
        device = "cpu"
        if plan.to_train or plan.to_score:
            device = preflight(grid, cells, place)
            plan = with_cost(plan, grid, store, place, device, wishes.processes)
            screen.say(plan.cost())
        with store.locked(), interruption:
            forget(again, whole, tracker, store)
            left = work_left(grid, cells, tracker, store, wishes)  # now that nobody else works
            tracker.open(grid.text, [cell.key for cell in whole], origin())
            try:
                record_known(left, tracker, store)
                doing = Doing(
                    grid, place, wishes, screen, tracker, interruption, execute, device, plan
                )
                doing.train(left.trainings, summary)
                doing.score(left.cells, left.twice, summary)
            except Stopped:
                summary.status = interruption.status or 1
            except KeyboardInterrupt:
                summary.status = 130
                raise
            finally:
                tracker.close("KILLED" if summary.status > 1 else "FINISHED")
    else:
        screen.say(f"Nothing to do: all {len(cells)} cells of '{grid.name}' are finished.")

    recorded = tracker.finished()
    summary.done = sum(cell.key in recorded for cell in cells)
    if summary.failed and not summary.status:
        summary.status = 1
    if wishes.report and summary.status <= 1 and summary.done:
        summary.report = write_report(grid, place, tracker, screen)
    return summary


def chosen(cells: list[Cell], wishes: Wishes) -> list[Cell]:
    """The cells this run is about. Raises BadOption where `only` names none of them."""
    return wishes.only.choose(cells) if wishes.only else cells


def open_tracker(grid: Grid, place: Place) -> Tracker:
    """The tracker of this grid's experiment; makes nothing yet."""
    local = place.tracking_uri.startswith("sqlite:")
    artifacts = place.store / "artifacts" if local else None
    return Tracker(place.tracking_uri, grid.name, artifacts, store=store_name(place))


def store_name(place: Place) -> str:
    """Tells our runs from those of another machine in a shared tracking server, without saying
    where on this one they are."""
    text = f"{platform.node()} {place.store.resolve()}"
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:12]


def origin() -> dict[str, str]:
    """Which program writes here, for the parent run."""
    tags = {f"harness.version.{name}": value for name, value in machine.versions().items()}
    return tags | {"harness.commit": machine.commit()}


def work_left(
    grid: Grid, cells: list[Cell], tracker: Tracker, store: Store, wishes: Wishes
) -> Left:
    """What is neither recorded in this experiment nor, for the whole of it, in the store."""
    recorded = tracker.finished()
    left = Left(twice=sampled_twice(grid, store, recorded))
    waited_for = set()  # trainings whose network a cell must be sampled from
    for cell in cells:
        wanted = numbers_of(grid.metrics, grid.reference_variance, cell.key in left.twice)
        if wanted <= recorded.get(cell.key, frozenset()) and not wishes.retime:
            continue
        told = store.outcome(cell.key)
        complete = told is not None and wanted <= told["metrics"].keys()
        if complete and cell.key not in recorded and not wishes.retime:
            left.known.append(cell)
            continue
        left.cells.append(cell)
        if wishes.retime or told is None or not store.features(cell.key).exists():
            waited_for.add(cell.training.key)
    for training in distinct_trainings(cells):
        if training.key in waited_for and not store.has_model(training.key):
            left.trainings.append(training)
        elif training.key not in recorded and store.has_model(training.key):
            left.known.append(training)
    return left


def sampled_twice(grid: Grid, store: Store, recorded: Container[str]) -> frozenset[str]:
    """The cells that are also sampled at the checkpoint of their training: where that is kept, or
    will be, and a metric can tell what came of it. Nothing is trained again for it."""
    if decisive(grid.metrics) is None:
        return frozenset()
    whole = expand(grid)
    kept = {
        training.key
        for training in distinct_trainings(whole)
        if store.checkpoint(training.key).exists()
        or not (store.has_model(training.key) or training.key in recorded)
    }
    return cells_at_checkpoints(cell for cell in whole if cell.training.key in kept)


def preflight(grid: Grid, cells: list[Cell], place: Place) -> str:
    """Look at everything the work will need: the images, the extractor and its weights, the
    device, the disk. Returns the device's name; raises HarnessError saying what is missing."""
    from harness.engine.score import extractor, image_set, with_logits
    from harness.models.presets import MODELS

    device = str(machine.find_device(place.device))
    images = image_set(place.data_dir, grid.data)
    for model in {cell.training.model for cell in cells}:
        MODELS.make(model.name, model.keywords).check(images.size)
    extract = extractor(place.data_dir, device, grid.extractor)
    extract.check(images.channels, images.size)
    if any("logits" in METRICS[name].needs for name in grid.metrics):
        with_logits(extract)
    if len(images.reference(grid.reference)) < 2:
        raise DataError(f"'{grid.data}' has fewer than two images to compare with")
    Store(place.store).check()
    check_writable(place.report_dir, "report", "--report-dir")
    if (free := machine.free_disk(place.store)) < LEAST_DISK:
        raise MachineError(
            f"only {free / 1e6:.0f} MB are free where the store {place.store} is; at least "
            f"{LEAST_DISK / 1e6:.0f} MB are needed. Make room, or give another --store."
        )
    return device


def forget(again: list[Cell], cells: list[Cell], tracker: Tracker, store: Store) -> None:
    """Set aside what is to be done again: these cells, and each training all of whose cells are
    among them. Their runs stay in MLflow, marked as superseded."""
    whole = redone_whole(again, cells)
    tracker.supersede([work.key for work in [*again, *whole]])
    for cell in again:
        store.forget_cell(cell.key)
    for training in whole:
        store.forget_model(training.key)


def redone_whole(again: list[Cell], cells: list[Cell]) -> list[Training]:
    """The trainings all of whose cells are done again."""
    chosen = keys(again)
    kept = {cell.training.key for cell in cells if cell.key not in chosen}
    return [training for training in distinct_trainings(again) if training.key not in kept]


def workers_for(grid: Grid, device: str) -> int:
    """How many trainings run side by side: on a CPU one a core, on GPUs one each.

    From the whole grid, not from what is left of it, so that a training that was stopped before
    its first saved state begins again with as many threads and ends in the same bits.
    """
    if device != "cpu":
        return max(1, len(machine.gpus())) if device == "cuda" else 1
    return max(1, min(machine.cores(), len(distinct_trainings(expand(grid)))))


def record_known(left: Left, tracker: Tracker, store: Store) -> None:
    """Record in this experiment what the store has from another one."""
    for work in left.known:
        outcome = result_of(work, store)
        if outcome:
            run_id = tracker.begin(work, {REUSED: "true"})
            tracker.end(run_id, outcome, files_of(work, store), last_step(work))


@dataclass
class Doing:
    """The two long steps, and what they need to tell of themselves while they go on."""

    grid: Grid
    place: Place
    wishes: Wishes
    screen: Screen
    tracker: Tracker
    interruption: Interruption
    execute: Execute
    device: str
    plan: Plan  # what was foretold of it
    has_told_of_compiling: bool = False

    def train(self, trainings: list[Training], summary: Summary) -> None:
        """Each distinct training once: several side by side, or one after the other by all the
        processes that torchrun started."""
        if not trainings:
            return
        from harness.engine.score import image_set
        from harness.engine.train import TrainJob, train

        values = image_set(self.place.data_dir, self.grid.data).train[0].size
        together = self.wishes.processes
        workers = 1 if together > 1 else workers_for(self.grid, self.device)
        threads = machine.threads_for(values, max(workers, together))
        jobs = [
            TrainJob(
                training,
                self.place.store,
                self.place.data_dir,
                self.device,
                threads,
                self._compiles(self.plan.seconds(training)),
            )
            for training in trainings
        ]
        execute = self.execute
        if together > 1:
            from harness.runtime.together import lead as execute
        self._carry_out("training", train, jobs, workers, summary, execute)

    def score(self, cells: list[Cell], twice: frozenset[str], summary: Summary) -> None:
        """Sample and score each cell whose network is there, alone, so that seconds are honest."""
        from harness.engine.score import ScoreJob, score

        reasons = {work.key: failure.reason for work, failure in summary.failed}
        # Not for their seconds: on a processor their batches go over the cores in parts, which
        # gains what compiling would.
        compiles = self._compiles(0.0)
        for cell in cells:
            if reason := reasons.get(cell.training.key):
                summary.failed.append((cell, Failure(f"its training failed: {reason}")))
        jobs = [
            ScoreJob(
                cell,
                tuple(self.grid.metrics),
                self.place.store,
                self.place.data_dir,
                self.device,
                self.wishes.retime,
                self.grid.reference_variance,
                cell.key in twice,
                compiles,
            )
            for cell in cells
            if cell.training.key not in reasons
        ]
        # Alone on a CPU and on each GPU, so that seconds are honest.
        workers = workers_for(self.grid, self.device) if self.device != "cpu" else 1
        self._carry_out("cell", score, jobs, workers, summary, self.execute)

    def _say_once_why_not_compiled(self, outcome: Any) -> None:
        trouble = "" if isinstance(outcome, Failure) else outcome.get("compiled", "")
        if trouble not in ("", "True", "False") and not self.has_told_of_compiling:
            self.has_told_of_compiling = True
            self.screen.say(f"The work goes on without compiled networks: {trouble}")

    def _compiles(self, seconds: float) -> bool:
        """Whether a network that works for so long is compiled."""
        from harness.engine.compiled import pays

        if self.wishes.compile != "auto":
            return self.wishes.compile == "on"
        return pays(seconds, machine.find_device(self.device))

    def _carry_out(
        self,
        stage: str,
        function: Any,
        jobs: list[Any],
        workers: int,
        summary: Summary,
        execute: Execute,
    ) -> None:
        """Execute jobs and record each as it goes: its progress live, its outcome when it ends."""
        if not jobs:
            return
        store, tracker, screen = Store(self.place.store), self.tracker, self.screen
        runs: dict[str, str] = {}
        recorded = tracker.run_ids()

        def run_of(work: Work) -> str:
            if work.key not in runs:
                runs[work.key] = tracker.begin(work, {}, self.plan.seconds(work))
            return runs[work.key]

        def on_progress(job: Any, progress: Progress) -> None:
            screen.update(job.work.title, progress)
            if progress.values:
                tracker.progress(run_of(job.work), progress.done, progress.values)
            for file in progress.files:
                tracker.file(run_of(job.work), Path(file), "sheets")

        def record(work: Work, outcome: Any) -> str:
            """Write down what came of a piece of work; returns it in short."""
            files = files_of(work, store)
            if isinstance(outcome, Failure):
                summary.failed.append((work, outcome))
                tracker.fail(run_of(work), outcome)
            elif work.key in recorded:
                tracker.amend(recorded[work.key], outcome, files)
            else:
                tracker.end(run_of(work), outcome, files, last_step(work))
            runs.pop(work.key, None)
            self._say_once_why_not_compiled(outcome)
            if isinstance(outcome, Failure):
                return f"FAILED: {outcome.reason}"
            return in_short(outcome, self.grid.metrics)

        screen.stage(stage, len(jobs))
        outcomes = execute(
            function,
            jobs,
            on_progress,
            self.interruption.should_stop,
            workers=workers,
            **one_gpu_each(self.device, workers),
        )
        try:
            # Closed whatever happens: its workers end before the store is let go.
            with closing(outcomes):
                for job, outcome in outcomes:
                    screen.finish(job.work.title, record(job.work, outcome))
                    if summary.failed and self.wishes.fail_fast:
                        raise Stopped
        finally:
            for run_id in runs.values():
                tracker.abandon(run_id)


def one_gpu_each(device: str, workers: int) -> dict[str, Any]:
    """What makes each of several workers see a GPU of its own."""
    if device != "cuda" or workers == 1:
        return {}
    return {"environments": [{"CUDA_VISIBLE_DEVICES": name} for name in machine.gpus()]}


def in_short(outcome: dict[str, Any], metrics: Iterable[str]) -> str:
    """The numbers of an outcome that a person watches."""
    shown = ("loss", *metrics)
    numbers = [
        f"{name} {outcome['metrics'][name]:.4g}" for name in shown if name in outcome["metrics"]
    ]
    return "  ".join(numbers)


def result_of(work: Work, store: Store) -> dict[str, Any] | None:
    return store.trained(work.key) if isinstance(work, Training) else store.outcome(work.key)


def last_step(work: Work) -> int:
    """The step of a run's final numbers."""
    return work.training_steps if isinstance(work, Training) else 0


def files_of(work: Work, store: Store) -> list[Path]:
    """What is kept with a finished run in MLflow."""
    if isinstance(work, Training):
        of_training = ("weights.safetensors", "loss.csv", "loss_by_time.csv", "schedule.csv")
        return [store.model(work.key, name) for name in of_training]
    of_cell = (
        "samples.png", "film.png", "nearest.png", "influence.npz", "path.csv", "schedule.csv",
    )  # fmt: skip
    return [store.cell(work.key, name) for name in of_cell]


def write_report(grid: Grid, place: Place, tracker: Tracker, screen: Screen) -> Path | None:
    """The report of what is recorded of this grid, unless the one in place already says it."""
    from harness.report import page
    from harness.report.contents import verdicts
    from harness.results import read_results

    cells = expand(grid)
    results = read_results(grid.name, grid.text, cells, tracker, budgets(grid, cells), place.ui_url)
    if page.is_current(results, place.report_dir):
        screen.say(f"The report is up to date: {place.report_dir / 'report.html'}")
        return place.report_dir / "report.html"
    written = page.write(results, place.report_dir)
    beginning, _, _ = (place.report_dir / "report.md").read_text(encoding="utf-8").partition("![")
    tracker.publish(place.report_dir, written, beginning, verdicts(results))
    screen.say(f"Report: {place.report_dir / 'report.html'}")
    return place.report_dir / "report.html"


def report_grid(grid: Grid, place: Place, screen: Screen) -> Path | None:
    """The report alone. Raises TrackingError where nothing of the grid has been recorded."""
    tracker = open_tracker(grid, place)
    if not tracker.finished():
        raise TrackingError(
            f"nothing of '{grid.name}' is recorded in {place.tracking_uri}; run the grid first"
        )
    return write_report(grid, place, tracker, screen)


def plan_grid(grid: Grid, place: Place, wishes: Wishes) -> Plan:
    """What a run would do and cost. Makes no file."""
    whole = expand(grid)
    cells, store = chosen(whole, wishes), Store(place.store)
    left = work_left(grid, cells, open_tracker(grid, place), store, wishes)
    again = wishes.redo.choose(cells) if wishes.redo else []
    plan = plan_of(grid, whole, cells, left, again)
    if not plan.to_train and not plan.to_score:
        return plan
    try:
        with no_downloads():
            device = preflight(grid, cells, place)
            return with_cost(plan, grid, store, place, device, wishes.processes)
    except NotHereYet as missing:
        return replace(plan, warnings=(f"{missing}; until then the cost cannot be told",))


def plan_of(
    grid: Grid, whole: list[Cell], cells: list[Cell], left: Left, again: list[Cell]
) -> Plan:
    """What is left to do, and to do again; its cost is not known yet."""
    return Plan(
        grid.name,
        distinct_trainings(cells),
        cells,
        to_train=keys([*left.trainings, *redone_whole(again, whole)]),
        to_score=keys([*left.cells, *again]),
        known=keys(left.known),
        speeds={},
        side_by_side=1,
        twice=left.twice,
    )


def with_cost(
    plan: Plan, grid: Grid, store: Store, place: Place, device: str, processes: int
) -> Plan:
    """The plan with how many trainings go side by side on this machine, or processes together on
    one, how fast the work with each model is, and what should be known of it beforehand."""
    from harness.engine.probe import probe
    from harness.engine.sample import clamped_times, first_abar
    from harness.engine.score import image_set

    workers = 1 if processes > 1 else workers_for(grid, device)
    here = machine.name(machine.find_device(device))
    values = image_set(place.data_dir, grid.data).train[0].size
    threads = machine.threads_for(values, max(workers, processes)) if device == "cpu" else None
    speeds: dict[Part, Speeds] = {}
    for cell in plan.cells:
        model = cell.training.model
        if model not in speeds:
            speeds[model] = measured_speeds(store, cell.training, here, threads) or Speeds(
                **probe(cell, place.data_dir, device, max(workers, processes))._asdict(),
                source="a short probe of this machine",
            )
    warnings = [
        told
        for cell in plan.cells
        for told in warnings_of(cell, first_abar(cell), clamped_times(cell))
    ]
    return replace(
        plan,
        speeds=speeds,
        side_by_side=workers,
        processes=processes,
        warnings=tuple(dict.fromkeys(warnings)),
    )


def keys(works: Iterable[Work]) -> frozenset[str]:
    return frozenset(work.key for work in works)
