"""The plan: what of a grid is to be trained, scored, recorded, and done again."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, cast

from harness.data.degraded import DEGRADATIONS
from harness.errors import StoreError
from harness.metrics.distances import METRICS
from harness.metrics.evaluation import deciding, lacking
from harness.plan.cheaper import Cheaper, cheaper
from harness.plan.checkpoints import checkpoint_cells
from harness.plan.expand import by_training
from harness.plan.forecast import Forecast, fitted_evaluations, nfe_of, sampled_evaluations
from harness.plan.grid import Grid
from harness.store import FROM_SAMPLES, Store
from harness.work.cells import Cell, Part, Training, distinct_trainings, titles, trained_together
from harness.work.execution import Execution
from harness.work.options import Options
from harness.work.projection import names_of
from harness.work.reading import Reading
from harness.work.results import SHOWN_FILES, CellResult, Result

if TYPE_CHECKING:
    from harness.work.outputs import PlannedWork, PlanOutput

LONG = 60.0  # seconds of a run
LISTED = 60  # lines of cells on the screen; --json has all

Recorded = Mapping[str, frozenset[str]]  # by key, the names of a run's metrics
Work = Training | Cell


@dataclass(frozen=True, repr=False)
class Plan:
    """The work of a grid: what of it is pending, and what that will cost."""

    name: str
    cells: tuple[Cell, ...]  # those asked for, with final weights
    whole: tuple[Cell, ...]  # of the grid, whatever was asked for
    to_train: tuple[Training, ...] = ()
    to_score: tuple[Cell, ...] = ()  # checkpoint cells are among them
    to_record: tuple[Work, ...] = ()  # done, but not recorded in this experiment
    to_redo: tuple[Work, ...] = ()  # set aside first; among the others, too
    checkpoints: tuple[Cell, ...] = ()
    from_features: frozenset[str] = frozenset()  # of those to score, keys of those not sampled
    to_fit: tuple[Cell, ...] = ()  # of those to sample, one for each fit of steps to a network
    forecast: Forecast | None = None
    executions: Mapping[Part, Execution] = field(default_factory=dict)  # by model, of trainings
    warnings: tuple[str, ...] = ()
    images: Reading | None = None  # what was read, where the work needed it

    def __repr__(self) -> str:
        return self.text()

    def __bool__(self) -> bool:
        return bool(self.to_train or self.to_score or self.to_record or self.to_redo)

    @property
    def is_work(self) -> bool:
        """Whether anything is to be trained, sampled or scored."""
        return bool(self.to_train or self.to_score)

    @property
    def trainings(self) -> list[Training]:
        return distinct_trainings(self.cells)

    @property
    def asked(self) -> list[Cell]:
        """All cells that the grid stands for, checkpoint cells included."""
        return [*self.cells, *self.checkpoints]

    @property
    def evaluations(self) -> int:
        """Network evaluations of single images still to be made for samples."""
        count = self.forecast.evaluations if self.forecast else sampled_evaluations
        return count(self.to_sample)

    @property
    def to_sample(self) -> list[Cell]:
        """What is to be scored and has no features yet."""
        return [cell for cell in self.to_score if cell.key not in self.from_features]

    def rounds(
        self, trained_at_once: Callable[[], int], scored_at_once: int
    ) -> Iterator[tuple[Sequence[Training], Sequence[Cell]]]:
        """The work in its order: the cells that wait for no training; then, again and again, as
        many trainings as go side by side, those of other decays with them, and the cells that wait
        for those, checkpoint cells after the others of their training. Where cells go one by one,
        each training's are a round. How many trainings go side by side is asked anew for each
        round: a cluster may have grown."""
        waiting: dict[str, list[Cell]] = {training.key: [] for training in self.to_train}
        ready: dict[str, list[Cell]] = {}
        for cell in self.to_score:
            key, waits = cell.training.key, cell.key not in self.from_features
            (waiting[key] if waits and key in waiting else ready.setdefault(key, [])).append(cell)

        def groups() -> Iterator[tuple[tuple[Training, ...], list[list[Cell]]]]:
            yield (), [*ready.values()]
            pending = trained_together(self.to_train)
            while pending:
                count = trained_at_once()
                trainings = (*chain(*pending[:count]),)
                yield trainings, [waiting[one.key] for one in trainings]
                pending = pending[count:]

        for trainings, cells in groups():
            together = [[*chain(*cells)]] if scored_at_once > 1 else cells
            for number, some_cells in enumerate(together):
                yield (() if number else trainings), some_cells

    def state(self, work: Work) -> str:
        if work in self.to_train or work in self.to_score:
            return "to do"
        return "in the store" if work in self.to_record else "finished"

    def seconds(self, work: Work) -> float | None:
        """What a piece of work is predicted to take; None where that is not known."""
        is_sampled = work.key not in self.from_features
        return self.forecast.seconds(work) if self.forecast and is_sampled else None

    @property
    def cheaper(self) -> tuple[Cheaper, ...]:
        """What would make long work affordable."""
        if self.forecast is None:
            return ()
        return cheaper(self.forecast, self.to_train, self.to_sample)

    def cost(self) -> str:
        """What the pending work will take, in a sentence, and what would make it take less where
        that is long; empty where it is not known."""
        if self.forecast is None or not (self.to_train or self.to_sample):
            return ""
        told = [self.forecast.sentence(self.to_train, self.to_sample, self.to_fit)]
        if self.cheaper:
            wide = max(len(one.change) for one in self.cheaper)
            told += ["What would take less:"]
            told += [f"  {one.change:{wide}}  {one.cost}" for one in self.cheaper]
            gpu = "  a GPU: `harness plan` on its machine tells what it takes there"
            told += [gpu] * self.forecast.is_processor
        return "\n".join(told)

    @property
    def computed(self) -> list[str]:
        """How the trainings are computed, a sentence a model, where that was measured."""
        measured = [one for one in self.executions.values() if one.gain is not None]
        return [f"{one.said()}." for one in measured]

    @property
    def predicted(self) -> float | None:
        """The seconds that the pending work is predicted to take; None where that is not known."""
        if self.forecast is None:
            return None
        return self.forecast.total(self.to_train, self.to_sample, self.to_fit)

    @property
    def is_long(self) -> bool:
        """Whether training, sampling and scoring alone take a while."""
        if self.forecast is None:
            return False
        return self.forecast.work_seconds(self.to_train, self.to_sample, self.to_fit) > LONG

    def text(self) -> str:
        """For a person."""
        counts = ", ".join((_count(len(self.trainings), "training"),
                            _count(len(self.cells), "cell")))  # fmt: skip
        runs = len(trained_together(self.to_train))
        lines = [
            f"{self.name}: {counts}; {len(self.to_train)} to train, {self._to_sample_in_words()}."
        ]
        if runs < len(self.to_train):
            lines.append(
                f"Those that differ in ema alone are trained together, which takes the time of "
                f"{runs:,}."
            )
        if measured := len(self.from_features):
            lines.append(f"{_count(measured, 'cell')} to score from kept features.")
        if self.to_record:
            lines.append(f"{len(self.to_record)} to record from the store.")
        if cost := self.cost():
            lines.append(cost)
            lines += self.computed
        elif not self:
            lines.append("Nothing to do.")
        if self.images:
            lines += _of_images(self.images, self.cells[0].training.data)
        lines += [f"Note: {warning}" for warning in self.warnings]
        everything: list[Work] = [*self.trainings, *self.asked]
        shown = everything[:LISTED]
        named = titles(work for work in shown if isinstance(work, Training))
        named |= titles(work for work in shown if isinstance(work, Cell))
        lines += [""] + [
            f"  {work.key}  {self.state(work):12}  {named[work.key]}" for work in shown
        ]
        if len(everything) > LISTED:
            lines.append(f"  ... and {len(everything) - LISTED} more (--json lists all)")
        return "\n".join(lines)

    def _to_sample_in_words(self) -> str:
        """Cells that the grid asks for, and those that are added to them."""
        final = sum(cell.weights == "final" for cell in self.to_sample)
        told = f"{final} to sample and score"
        if again := len(self.to_sample) - final:
            told += f", and {again} once more with the weights at 90 % of the training"
        return told

    def as_json(self) -> PlanOutput:
        return {
            "name": self.name,
            "trainings": [self._row(training) for training in self.trainings],
            "cells": [{**self._row(cell), "nfe": nfe_of(cell)} for cell in self.asked],
            "forecast": self.forecast.as_json(self.to_train, self.to_sample, self.to_fit)
            if self.forecast
            else None,
            "computed": self.computed,
            "images": self.images.as_json() if self.images else None,
            "cheaper": [one.as_json() for one in self.cheaper],
            "warnings": list(self.warnings),
        }

    def _row(self, work: Work) -> PlannedWork:
        row = {
            "key": work.key,
            "state": self.state(work),
            **work.params(),
            **work.identity(),
            "forecast_seconds": self.seconds(work),
        }
        return cast("PlannedWork", row)


def pending(
    grid: Grid, whole: list[Cell], store: Store, recorded: Recorded, options: Options
) -> Plan:
    """What is neither recorded in this experiment nor, for the whole of it, in the store.

    `whole` are all cells of the grid; the plan is about those that `options.only` names. Raises
    BadOption where a filter names none.
    """
    cells = options.only.choose(whole) if options.only else whole
    redone = options.redo.choose(cells) if options.redo else []
    checkpoints = [
        cell
        for cell in checkpoint_cells(_kept_at_checkpoints(whole, store, recorded))
        if replace(cell, weights="final") in cells and deciding(grid.metrics)
    ]
    redone += [cell for cell in checkpoints if replace(cell, weights="final") in redone]
    trainings_redone = _redone_trainings(redone, [*whole, *checkpoints])
    again = {work.key for work in [*redone, *trainings_redone]}
    to_score: list[Cell] = []
    to_record: list[Work] = []
    for cell in [*cells, *checkpoints]:
        state = "pending" if cell.key in again else _state(cell, grid, store, recorded, options)
        if state == "pending":
            to_score.append(cell)
        elif state == "kept":
            to_record.append(cell)
    sampled = [cell for cell in to_score if _needs_network(cell, again, store, options)]
    networks = {cell.training.key for cell in sampled}
    from_features = {cell.key for cell in to_score} - {cell.key for cell in sampled}
    to_train, kept = [], []
    for training in distinct_trainings(cells):
        is_kept = store.has_model(training.key) and kept_result(store, training) is not None
        is_there = is_kept and training.key not in again
        kept += [training] * is_there
        if training.key in networks and not (is_there and not store.damage(training)):
            to_train.append(training)
        elif training.key not in recorded and is_there:
            to_record.append(training)
    return Plan(
        grid.name, tuple(cells), tuple(whole), tuple(to_train), tuple(by_training(to_score)),
        tuple(to_record), (*redone, *trainings_redone), tuple(checkpoints),
        frozenset(from_features), tuple(_fits(sampled, to_train, store)),
        warnings=(
            *_warnings_of_damage(store, [*to_train, *to_score]),
            *_added_decays(store, [one for one in to_train if not store.has_model(one.key)], kept),
        ),
    )  # fmt: skip


def metrics_of(cell: Cell, grid: Grid) -> tuple[str, ...]:
    """What is measured of a cell: of one at a checkpoint, the metric that decides."""
    if cell.weights == "final":
        return tuple(grid.metrics)
    return tuple(filter(None, [deciding(grid.metrics)]))


def kept_result(store: Store, work: Work) -> Result | None:
    """What the store has of this work; of what is damaged, nothing."""
    with suppress(StoreError):
        return store.result(work)
    return None


def _state(cell: Cell, grid: Grid, store: Store, recorded: Recorded, options: Options) -> str:
    """finished, kept (in the store alone) or pending."""
    metrics = metrics_of(cell, grid)
    with_reference = [
        name for name in metrics if grid.reference_variance and METRICS[name].reference_variance
    ]
    if options.retime and cell.weights == "final":
        return "pending"
    sources = {name: source for name in metrics if (source := METRICS.source(name))}
    names = recorded.get(cell.key, frozenset())
    result = kept_result(store, cell)
    is_whole = result is not None and not store.lacking(result, SHOWN_FILES)
    if (
        names_of(metrics, with_reference, sources) <= names
        and (not _lacks_scale(names, metrics) or _needs_network(cell, set(), store, options))
        and (is_whole or not store.folder(cell).exists())
    ):
        return "finished"
    if not isinstance(result, CellResult) or not is_whole:
        return "pending"
    if lacking(result, metrics, grid.reference_variance):
        return "pending"
    return "kept" if cell.key not in recorded else "pending"


def _lacks_scale(names: frozenset[str], metrics: Iterable[str]) -> bool:
    """Whether a part of the scale of the deciding metric is recorded alone, as by a version that
    did not know the others: no reason to sample anew, but to complete it from kept features."""
    scale = {f"{deciding(metrics)}_{name}" for name in DEGRADATIONS}
    return bool(scale & names) and not scale <= names


def _needs_network(cell: Cell, again: set[str], store: Store, options: Options) -> bool:
    """Whether a cell must be sampled: what is measured later comes from kept features."""
    if options.retime or cell.key in again:
        return True
    result = kept_result(store, cell)
    return result is None or bool(store.lacking(result, FROM_SAMPLES))


def _fits(sampled: Iterable[Cell], to_train: Sequence[Training], store: Store) -> Iterable[Cell]:
    """One of these cells for each fit of steps to a network that is to be made."""
    fits = {store.fit(cell): cell for cell in sampled if fitted_evaluations(cell)}
    anew = {training.key for training in to_train}
    return [c for path, c in fits.items() if c.training.key in anew or not path.exists()]


def _kept_at_checkpoints(whole: Iterable[Cell], store: Store, recorded: Recorded) -> list[Cell]:
    """The cells of trainings whose weights at 90 % are kept, or will be: nothing is trained again
    for them."""
    whole = list(whole)
    kept = {
        training.key
        for training in distinct_trainings(whole)
        if store.has_checkpoint(training.key)
        or not (store.has_model(training.key) or training.key in recorded)
    }
    return [cell for cell in whole if cell.training.key in kept]


def _redone_trainings(redone: Iterable[Cell], whole: Iterable[Cell]) -> list[Training]:
    """The trainings all of whose cells are done again."""
    redone = list(redone)
    chosen = {cell.key for cell in redone}
    kept = {cell.training.key for cell in whole if cell.key not in chosen}
    return [training for training in distinct_trainings(redone) if training.key not in kept]


def _warnings_of_damage(store: Store, works: Iterable[Work]) -> tuple[str, ...]:
    return tuple(
        f"{damaged} is damaged: a run sets it aside and does the work again"
        for work in works
        if (damaged := store.damage(work))
    )


def _added_decays(
    store: Store, to_train: Iterable[Training], kept: Iterable[Training]
) -> list[str]:
    """What is to be known of trainings whose steps are made again for another average, those that
    are finished and those that are not; nothing where a saved state has it."""
    done = {replace(training, ema=0.0) for training in kept}
    finished = begun = 0
    for group in trained_together(to_train):
        saved = store.saved_decays(group[0])
        if saved is not None:
            begun += not {one.ema for one in group} <= {*saved}
        elif not any(path.exists() for path in store.states(group)):
            finished += replace(group[0], ema=0.0) in done
    warnings = []
    if finished:
        are = "1 training is" if finished == 1 else f"{finished:,} trainings are"
        warnings += [
            f"{are} made again, for a decay that was added: only averages of the weights are kept"
        ]
    if begun:
        begin = "1 training begins" if begun == 1 else f"{begun:,} trainings begin"
        warnings += [f"{begin} anew, for a decay that was added: no average of it was begun"]
    return warnings


def _of_images(images: Reading, data: Part) -> list[str]:
    """What was read: in a line each, what limits the results; in one line, what else became of the
    files."""
    remarks = images.remarks()
    lines = [f"Images: {images.in_words()}."]
    lines += [f"  {remark.sentence}." for remark in remarks if remark.limits]
    if others := [remark.what for remark in remarks if not remark.limits]:
        lines.append(f"  {'; '.join(others)}.")
    if remarks and "path" in data.keywords:
        look = f"harness data {shlex.quote(data.keywords['path'])} --size {images.side}"
        lines.append(f"  `{look}` says why, and what would change it.")
    return lines


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
