"""The first screen as templates arrange it: answers, what to take, what to run next."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from PIL import Image

from harness.analysis.configurations import Configuration
from harness.analysis.costs import cell_seconds, training_seconds
from harness.analysis.decisions import Effect
from harness.analysis.questions import questions
from harness.analysis.study import OF_THE_TRAINING, Study, is_exact, levels_of
from harness.report import wording as say
from harness.report.advice import Budget, Next, budgets, next_commands
from harness.report.answers import Answer, answers
from harness.report.figures.strips import strip
from harness.work.cells import Part
from harness.work.results import SAMPLES
from harness.work.speeds import duration

SHOWN = 8  # samples in a row: the first ones, not chosen
TILES = 8  # of a sheet, on each side
GAP = 1  # pixels between images


@dataclass(frozen=True)
class Row:
    """What to take for a budget of network evaluations, or of time."""

    limit: str  # `20` evaluations, or `5 ms`
    schedule: str
    sampler: str
    also: str  # other samplers that do not differ significantly
    value: str
    rival: str  # its value; empty where there is none
    change: str
    time: str  # ms per image
    strip: str  # SVG; empty where there is no rival
    samples: str  # a data: URI; empty where there are no pictures


@dataclass(frozen=True)
class FirstScreen:
    """What a reader needs, in ten seconds."""

    compared: str  # what was compared, in a line
    so_far: str  # `32 of 48 cells so far`; empty where all are there
    answers: list[Answer]
    rows: list[Row]
    rivals: str  # what the changes are of
    next: list[Next]

    def as_text(self) -> str:
        """For the terminal."""
        lines = [f"{self.so_far}:"] * bool(self.so_far) + [one.as_line for one in self.answers]
        lines += [f"Next ({one.comment}):\n  {one.command}" for one in self.next[:1]]
        return "\n".join(lines)


def first_screen(study: Study, command: str, expected: int = 0, trainings: int = 0) -> FirstScreen:
    """Of a study, the main one of an experiment of which so many cells and trainings are expected.
    While there are none but cells of the exact denoiser, it answers nothing about networks."""
    # Of exact denoisers, too, which stand beside the networks.
    there = len({one.cell.key for one in study.results if one.cell.weights == "final"})
    missing = max(expected - there, 0)
    has_answer = bool(study.cells and study.metrics)
    is_before = has_answer and awaits_networks(study, trainings)
    ranked = budgets(study) if has_answer and questions(study) and not is_before else []
    rivals = {_other(one) for one in ranked if one.rival}
    return FirstScreen(
        _compared(study) if has_answer else "",
        _so_far(there, expected, is_before),
        [] if is_before else answers(study),
        _rows(ranked, study),
        rivals.pop() if len(rivals) == 1 else "the next best",
        next_commands(study, command, missing) if has_answer and command else [],
    )


def awaits_networks(study: Study, trainings: int) -> bool:
    """Whether a study is of the exact denoiser alone, where so many trainings are expected."""
    return trainings > 0 and is_exact(study)


def _so_far(there: int, expected: int, is_before: bool) -> str:
    """`32 of 48 cells so far`, and what they are before a network is trained."""
    count = f"{there:,} of {expected:,} cells so far" if there < expected else ""
    if is_before:
        told = "only the exact denoiser: no network is trained yet"
        return f"{count}, {told}" if count else f"So far {told}"
    return count


def _compared(study: Study) -> str:
    """`digits · 2 schedules × 2 samplers × 4 step counts · lower KID is better · 8 min of
    computing`."""
    cells = [one.cell for one in study.cells]
    recipes = [
        say.counted(len(values), name)
        for name in OF_THE_TRAINING
        if len(values := levels_of((cell.training for cell in cells), name)) > 1
    ]
    counts: list[tuple[set[Any], str]] = [
        ({str(c.training.schedule) for c in cells}, "schedule"),
        ({str(c.sampler) for c in cells}, "sampler"),
        ({c.budget or c.steps for c in cells}, f"{study.unit} count"),
        ({c.training.seed for c in cells if c.training.is_trained}, "training seed"),
    ]
    first, *rest = [say.count(len(values), name) for values, name in counts if values]
    product = " × ".join([first, *recipes, *rest])
    better = "lower" if study.metric.lower_is_better else "higher"
    seconds = training_seconds(study) + cell_seconds(study)
    parts = [_data(cells[0].training.data), product, f"{better} {study.metric.title} is better",
             f"{duration(seconds)} of computing", "[95 % intervals]"]  # fmt: skip
    return " · ".join(parts)


def _data(data: Part) -> str:
    """`digits`; of files the name of their folder, without where it is."""
    path = data.keywords.get("path")
    return re.split(r"[\\/]+", str(path).rstrip("\\/"))[-1] if path else data.name


def _rows(ranked: Sequence[Budget], study: Study) -> list[Row]:
    changes = [one.effect.change if one.effect else None for one in ranked]
    spans = [one for one in changes if one and isfinite(one.low)]
    low, high = min((s.low for s in spans), default=0.0), max((s.high for s in spans), default=0.0)
    rows = []
    for one, change in zip(ranked, changes, strict=True):
        is_sure = one.rival is not None and one.rival.winner is not None
        take = one.take
        setting = take.setting.removeprefix(", ")
        rows.append(
            Row(
                one.limit,
                take.schedule,
                take.kind + (f" ({setting})" if setting else ""),
                f"/ {' / '.join(one.also)}" if one.also else "",
                say.number(take.mean),
                f"{say.number(one.rival.second.mean)}" if one.rival else "",
                _signed(one.effect) if one.effect else "",
                say.number(1e3 * one.seconds, 2) if isfinite(one.seconds) else "",
                strip(change, min(low, 0.0), max(high, 0.0), is_sure) if change else "",
                _samples(take),
            )
        )
    return rows


def _signed(effect: Effect) -> str:
    """`−57 % [−63, −50]`, with why it is no verdict where its interval looks like one; empty where
    a ratio means nothing."""
    span = effect.change
    if not say.change(effect):
        return ""
    told = f"{say.number(100 * span.estimate, decimals=0)} %"
    told = f"{told} {say.interval(100 * span.low, 100 * span.high, 0)}".rstrip()
    is_beyond_zero = span.low * span.high > 0  # as a verdict would be, and yet there is none
    return f"{told}, {effect.why}" if effect.why and is_beyond_zero else told


def _other(budget: Budget) -> str:
    assert budget.rival
    one, other = budget.rival.first, budget.rival.second
    return other.schedule if one.schedule != other.schedule else other.sampler


def _samples(one: Configuration) -> str:
    """The first row of the sheet of its first cell."""
    sheet = one.cells[0].artifacts.read(SAMPLES)
    if sheet is None:
        return ""
    image = Image.open(io.BytesIO(sheet))
    tile = image.width // TILES
    row = Image.new(image.mode, (SHOWN * (tile + GAP) - GAP, tile), "white")
    for n in range(SHOWN):
        row.paste(image.crop((n * tile, 0, (n + 1) * tile, tile)), (n * (tile + GAP), 0))
    file = io.BytesIO()
    row.save(file, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
