"""The handout: one or two pages to print and hand in, beside the report and from the same
experiment. Equal experiments give equal bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.analysis.configurations import Configuration, best, best_of_each
from harness.analysis.study import Study
from harness.diffusion.schedules import SCHEDULES
from harness.report.contents import Contents, Picture
from harness.report.latex import as_latex
from harness.report.recipe import data_of, said_of
from harness.report.render import handout_as_html, handout_as_markdown
from harness.report.study_tables import by_steps
from harness.report.tables import Table
from harness.report.wording import count, described, estimate, listed
from harness.store import write_bytes
from harness.work.cells import denoiser_name, distinct_trainings

MOST_ROWS, MOST_STEPS = 8, 6  # of the table
MOST_SCHEDULES = 6  # that have a paragraph
MOST_LIMITATIONS = 3  # beside the last, which always applies
MOST_LINES = 30  # of the grid


@dataclass(frozen=True)
class Schedule:
    """What a schedule does, and how it did."""

    name: str
    does: str
    formula: str
    did: str


@dataclass(frozen=True)
class Handout:
    """What the templates arrange, beside the contents of the report."""

    done: str
    pictures: list[Picture]  # the main figure and the samples
    results: Table | None
    left_out: str  # of the table, for want of room
    schedules: list[Schedule]
    limitations: list[str]
    command: str
    grid: str  # without its comments; empty where it is too long


def write(content: Contents, folder: Path) -> list[Path]:
    """Write the handout into the folder of the report with these contents; returns the files,
    handout.html first. Raises StoreError with the reason where the folder cannot be written."""
    made = handout(content)
    files = {
        "handout.html": handout_as_html(content, made).encode(),
        "handout.md": handout_as_markdown(content, made).encode(),
        "results.tex": as_latex(content).encode(),
        **{f"figures/{picture.name}.png": picture.png for picture in made.pictures},
    }
    for name, data in files.items():
        write_bytes(folder / name, data)
    return [folder / name for name in files]


def handout(content: Contents) -> Handout:
    """What a handout says of an experiment, beside what its report says."""
    study, (*first, last) = content.study, content.limitations
    results = by_steps(study, MOST_ROWS, MOST_STEPS) if study.metrics else None
    samples = [one for one in content.pictures["images"] if one.name == "samples"]
    lines = content.experiment.grid_text.splitlines()
    kept = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return Handout(
        done=_done(study),
        pictures=[*([content.lead] if content.lead else []), *samples],
        results=results,
        left_out=_left_out(content, results) if results else "",
        schedules=_schedules(study) if study.metrics else [],
        limitations=[*first[:MOST_LIMITATIONS], last],
        command=content.command,
        grid="\n".join(kept) if len(kept) <= MOST_LINES else "",
    )


def _done(study: Study) -> str:
    """What was trained, and what was sampled and measured: two sentences."""
    if not study.cells:
        return ""
    cells = [one.cell for one in study.cells]
    networks = distinct_trainings(cells)
    schedules = sorted({str(cell.training.schedule) for cell in cells})
    under = f"{count(len(schedules), 'schedule')} ({listed(schedules)})"
    data = data_of(study)
    if networks:
        models = listed(sorted({str(one.model) for one in networks}))
        steps = listed(f"{n:,}" for n in sorted({one.training_steps for one in networks}))
        seeds = count(len({one.seed for one in networks}), "training seed")
        trained = (
            f"The network {models} was trained for {steps} steps under {under} with {seeds} each, "
            f"{len(networks):,} trainings in all, on {data}."
        )
    else:
        names = sorted({denoiser_name(cell.training) for cell in cells})
        told = f"{listed(names)}, not trained here, made the images, under {under}, on {data}."
        trained = told[0].upper() + told[1:]
    samplers = sorted({str(cell.sampler) for cell in cells})
    steps = listed(f"{n:,}" for n in sorted({cell.budget or cell.steps for cell in cells}))
    most = len({cell.sampling_seed for cell in cells})
    noises = f", of up to {most} sampling seeds" if most > 1 else ""
    measures = listed(metric.title for metric in study.metrics) or "nothing"
    measures += " compare" if len(study.metrics) > 1 else " compares"
    return (
        f"{trained} Each was sampled by {count(len(samplers), 'sampler')} ({listed(samplers)}) "
        f"in {steps} {study.unit}s, {study.quantity.images:,} images in each of "
        f"{count(len(cells), 'cell')}{noises}; {measures} them with real images."
    )


def _left_out(content: Contents, shown: Table) -> str:
    """How much of the whole table is shown, where that is not all."""
    whole = content.groups[0].by_steps
    sizes = {
        "rows (the best)": (len(shown.rows), len(whole.rows)),
        f"{content.study.unit} counts": (len(shown.columns) - 2, len(whole.columns) - 2),
    }
    cut = [f"{some} of {every} {what}" for what, (some, every) in sizes.items() if some < every]
    return f"Shown are {listed(cut)}." if cut else ""


def _schedules(study: Study) -> list[Schedule]:
    """A paragraph for each schedule that was trained under, the best first."""
    everything = study.configurations()
    ranked, wins = best_of_each(everything, _trained_under), _wins(everything)
    found = []
    for rank, one in enumerate(ranked, 1):
        part = one.cells[0].cell.training.schedule
        does, formula = said_of(SCHEDULES, part.name), SCHEDULES.formula(part.name)
        if formula:  # which names its source, too
            does = re.sub(r" \([^()]*\)$", "", does)
        value = estimate(one.mean, one.interval.low, one.interval.high)
        did = f"Its best {study.named(one.metric)} is {value}: {described(one)}."
        if len(ranked) > 1:
            did += f" Rank {rank} of {len(ranked)}"
            won = [winner == str(part) for winner in wins]
            pairs = f"{len(won)} pairs of sampler and {study.unit} count"
            did += f", and ahead in {sum(won)} of {pairs}." if won else "."
        found.append(Schedule(str(part), does, formula, did))
    return found[:MOST_SCHEDULES]


def _trained_under(one: Configuration) -> str:
    return str(one.cells[0].cell.training.schedule)


def _wins(everything: Iterable[Configuration]) -> list[str]:
    """The schedule with the best mean at each sampler and number of steps that several have, each
    sampled under the schedule that it was trained under."""
    alike: dict[tuple[str, int], list[Configuration]] = {}
    for one in everything:
        if one.is_matched:
            alike.setdefault((one.sampler, one.steps), []).append(one)
    groups = (group for group in alike.values() if len({*map(_trained_under, group)}) > 1)
    return [_trained_under(best(group)) for group in groups]
