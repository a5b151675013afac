"""What the pages print, computed: the templates only arrange it."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from shlex import quote
from typing import Any

from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from PIL import Image

from harness.analysis.questions import Question, questions
from harness.analysis.study import OF_THE_TRAINING, Study, levels_of, studies
from harness.diffusion.objective import CLIPS, LOSSES, TARGETS, WEIGHTINGS
from harness.diffusion.samplers import SAMPLERS
from harness.diffusion.schedules import SCHEDULES
from harness.diffusion.times import SPACINGS
from harness.diffusion.training_times import TIME_DENSITIES
from harness.errors import PartFailed
from harness.models.presets import MODELS
from harness.registry import Registry
from harness.report.decision_table import decisions, details
from harness.report.figures import style
from harness.report.figures.catalogue import caption, drawing, figure_named, in_page_order
from harness.report.findings.catalogue import all_findings, matter
from harness.report.findings.finding import Finding
from harness.report.first import FirstScreen, awaits_networks, first_screen
from harness.report.limitations import limitations, with_what_is_there
from harness.report.recipe import Facts, recipe
from harness.report.redaction import SHORTENED
from harness.report.study_tables import by_steps, every_cell, quality, trainings
from harness.report.tables import Table, clip_in_words, heading, title_of
from harness.report.wording import called, count, listed, number, shown
from harness.work.cells import UNIFORM
from harness.work.options import changes_in, report_command
from harness.work.results import Experiment

LEAD = "quality_by_steps"  # the figure that shows the answer
EVIDENCE = "evidence"  # where a figure stands that has no other place
SECTIONS = {
    "images": ("samples", "best_samples", "film", "training_looks", "nearest_images"),
    "costs": ("quality_by_seconds", "pareto_front", "forecast"),
    "method": ("forward_process", "schedule_curves", "snr_by_step", "losses", "loss_by_time"),
}
TITLE = "Which schedule, which sampler, how many steps?"


@dataclass(frozen=True)
class Picture:
    """A figure as a page shows it."""

    name: str
    caption: str
    reading: str  # how to read it
    png: bytes
    source: str  # a data: URI, so that the page needs no other file
    is_drawing: bool  # lines and letters, which a dark page may show light on dark
    moving: bytes = b""  # an animated WebP to lie beside the page, where there is one


@dataclass(frozen=True)
class Group:
    """One study in numbers."""

    heading: str
    caption: str  # of its table by steps
    by_steps: Table
    quality: list[Table]
    every: Table

    @classmethod
    def of(cls, study: Study) -> Group:
        return cls(
            heading(study), _caption(study), by_steps(study), quality(study), every_cell(study)
        )


@dataclass(frozen=True)
class Contents:
    """Everything a template may ask for, by the name it asks by."""

    experiment: Experiment  # without the files that could not be read
    study: Study  # what the answer, the figures and the findings are about
    first: FirstScreen
    metric: str  # the name of that which decides
    scope: str  # with its extractor and reference, named once
    findings: list[Finding]  # those that stand open
    folded: list[Finding]
    lead: Picture | None
    pictures: dict[str, list[Picture]]  # by section
    groups: list[Group]
    compared: Facts
    recipe: dict[str, Facts]
    formulae: list[tuple[str, str, str]]
    metrics: list[str]
    trainings: Table | None
    decisions: Table | None
    details: Table | None
    asked: int  # questions
    limitations: list[str]
    covers_reference: bool
    is_whole: bool  # whether all files of the results could be read
    command: str  # that was run
    title: str = TITLE
    shortened: str = SHORTENED  # what a path in a text begins with where it was cut

    @property
    def grid_file(self) -> str:
        """The file that the command reads."""
        found = re.match(r"harness run ('[^']*'|\S+)", self.command)
        return found[1].strip("'") if found else f"{self.experiment.name}.yaml"

    @property
    def report_command(self) -> str:
        """The command that writes these pages again."""
        return report_command(self.command)

    @property
    def answer(self) -> list[str]:
        """The first screen in sentences."""
        return [one.as_line for one in self.first.answers]


def contents(experiment: Experiment) -> Contents:
    """What the pages say of an experiment."""
    experiment, missing = with_what_is_there(experiment)
    groups = studies(experiment)
    measured = [study for study in groups if study.metrics]
    main = next(iter(measured or groups), Study((), experiment.trainings, experiment.runs))
    measurements = [each for one in experiment.cells for each in one.measurements.values()]
    pictures, undrawn = _pictures(main)
    is_before = awaits_networks(main, experiment.expected_trainings)
    answers_something = bool(main.metrics) and not is_before
    those = questions(main) if answers_something else ()
    lead = LEAD if those or len(main.configurations()) < 2 else ""  # it would rank noise
    command = _command(experiment)
    found, folded = matter(all_findings(main) if answers_something else [])
    return Contents(
        experiment=experiment,
        study=main,
        first=first_screen(
            main, command, _expected(experiment, groups), experiment.expected_trainings
        ),
        metric=main.metric.title if main.metrics else "",
        scope=_scope(main) if main.metrics else "",
        findings=found,
        folded=folded,
        lead=next((one for one in pictures if one.name == lead), None),
        pictures={
            section: [one for one in pictures if one.name != lead and of(one.name) == section]
            for section in (EVIDENCE, *SECTIONS)
        },
        groups=[Group.of(study) for study in measured],
        compared=_compared(main) if main.cells else {},
        recipe=recipe(main),
        formulae=_formulae(main),
        metrics=[metric.explanation for metric in main.metrics if metric.explanation],
        trainings=trainings(experiment),
        decisions=decisions(main) if those else None,
        details=details(main) if those else None,
        asked=len(those),
        limitations=[*undrawn, *limitations(experiment, groups, missing)],
        covers_reference=any(one.reference_error is not None for one in measurements),
        is_whole=not missing,
        command=command,
        title=_title(those),
    )


def _command(experiment: Experiment) -> str:
    """What made the experiment, or would make it where that is not known."""
    if experiment.command:
        return experiment.command
    changes = changes_in(experiment.grid_text)
    return " ".join(["harness run", *map(quote, [f"{experiment.name}.yaml", *changes])])


def _title(those: Iterable[Question]) -> str:
    """What the grid asks, by name where it compares recipes."""
    named = [one.name for one in those]
    if not {*named} & {*OF_THE_TRAINING}:
        return TITLE
    steps = ", how many steps" if "steps" in named else ""
    return f"Which {listed(called(name) for name in named if name != 'steps')}{steps}?"


def _expected(experiment: Experiment, groups: list[Study]) -> int:
    """The cells that are to come into the main study, where all are comparable."""
    return experiment.expected_cells if len(groups) < 2 else 0


def of(figure: str) -> str:
    """The section that a figure stands in."""
    return next((name for name, figures in SECTIONS.items() if figure in figures), EVIDENCE)


def _scope(study: Study) -> str:
    """`KID on digits features, lower is better; 500 images a cell against the train reference.`"""
    of, better = study.quantity, "lower" if study.metric.lower_is_better else "higher"
    return (
        f"{title_of(study.metric, study)} on {of.extractor} features, {better} is better; "
        f"{of.images:,} images a cell, compared with the {of.reference} reference."
    )


def _caption(study: Study) -> str:
    """Of a table by steps: the metric, what is in brackets, and what real images reach."""
    seeds = len({one.cell.training.seed for one in study.cells if one.cell.training.is_trained})
    over = f" over {count(seeds, 'training seed')}" if seeds > 1 else ", of the sampling alone"
    real, images = study.baseline(), study.baseline_images
    baseline = f" {images:,} real held-out images reach {number(real, 2)}." if images else ""
    return (
        f"{study.named(study.metric)} by schedule, sampler and number of {study.unit}s, mean "
        f"[95 % interval{over}], best in bold. {_scope(study)}{baseline if isfinite(real) else ''}"
    )


def _pictures(study: Study) -> tuple[list[Picture], list[str]]:
    """The figures that have something to show, and a sentence for each that could not be drawn."""
    pictures, undrawn = [], []
    for name in in_page_order():
        try:
            if (figure := figure_named(name, study)) is not None:
                with drawing(name):
                    pictures.append(_picture(name, figure))
        except PartFailed as error:
            undrawn.append(f"The {error}")
    return pictures, undrawn


def _picture(name: str, figure: Figure) -> Picture:
    shows, reading = caption(name, figure)
    is_raster = style.is_raster(figure)
    png = style.saved(figure, "png")
    if is_raster:
        data = png = _smaller(png)
    else:
        data = style.saved(figure, "svg")
    kind = "png" if is_raster else "svg+xml"
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    # What is dark where a value is high would say the opposite if it were turned light on dark.
    parts = [part for axes in figure.axes for part in axes.collections]
    is_drawing = not is_raster and not any(isinstance(part, QuadMesh) for part in parts)
    moving = getattr(figure, "moving", b"")
    return Picture(name, shows, reading, png, source, is_drawing, moving)


def _smaller(png: bytes) -> bytes:
    """The same pixels in fewer bytes: a figure is opaque, and needs no alpha."""
    image = Image.open(io.BytesIO(png))
    opaque = image.convert("RGB")
    if opaque.convert(image.mode).tobytes() != image.tobytes():
        return png
    file = io.BytesIO()
    opaque.save(file, "png", optimize=True, dpi=image.info.get("dpi"))
    return min(png, file.getvalue(), key=len)


def _compared(study: Study) -> dict[str, str]:
    """What was compared, one line for each thing that was chosen."""
    cells = [one.cell for one in study.cells]
    of = study.quantity
    trained = [cell.training for cell in cells if cell.training.is_trained]
    lines = {
        "data": of.data,
        "model": _distinct(one.cell.training.model for one in study.results),
        "schedules": _distinct(cell.training.schedule for cell in cells),
        "samplers": _distinct(cell.sampler for cell in cells),
        "spacing": _distinct(cell.spacing for cell in cells),
        "steps": _counted(cell.steps for cell in cells),
        "evaluations allowed": _counted(cell.budget for cell in cells if cell.budget),
        "training seeds": _counted(one.seed for one in trained),
        "training steps": _counted(one.training_steps for one in trained),
        "target": _distinct(cell.training.target for cell in cells),
        "loss": _distinct(one.training.loss for one in study.trainings),
        **_varied(study),
        "images per cell": f"{of.images:,}",
        "features": of.extractor,
        "reference": of.reference,
        "precision": of.precision,
        "estimate clipped": _distinct(clip_in_words(cell) for cell in cells),
        "machine": _distinct(one.provenance.machine for one in study.cells),
    }
    return {name: value for name, value in lines.items() if value}


def _varied(study: Study) -> dict[str, str]:
    """What else of the recipe differs between trainings."""
    trainings = [one.cell.training for one in study.cells]
    found = {
        name.replace("_", " "): sorted(levels_of(trainings, name))
        for name in ("batch_size", "learning_rate", "ema")
    }
    for name in ("weighting", "scale", "optimizer"):
        found[name] = sorted(map(str, levels_of(trainings, name)))
    return {name: listed(map(shown, values)) for name, values in found.items() if len(values) > 1}


def _counted(numbers: Iterable[int]) -> str:
    return listed(f"{number:,}" for number in sorted({*numbers}))


def _distinct(parts: Iterable[object]) -> str:
    return listed(sorted({str(part) for part in parts} - {""}))


def _formulae(study: Study) -> list[tuple[str, str, str]]:
    """(kind, name, formula) of the parts that were used and have a formula."""
    cells = [one.cell for one in study.results]
    trained = [cell.training for cell in cells]
    used: list[tuple[Registry[Any], Iterable[str]]] = [
        (SCHEDULES, (part.name for cell in cells
                     for part in (cell.training.schedule, cell.sample_schedule))),
        (SAMPLERS, (cell.sampler.name for cell in cells)),
        (SPACINGS, (cell.spacing.name for cell in cells)),
        (CLIPS, (cell.clipping.name for cell in cells if cell.clipping)),
        (MODELS, (training.model.name for training in trained)),
        (TARGETS, (training.target for training in trained)),
        (WEIGHTINGS, (one.training.weighting.name for one in study.trainings)),
        (TIME_DENSITIES, {one.training.times.name for one in study.trainings} - {UNIFORM}),
        (LOSSES, (one.training.loss for one in study.trainings)),
    ]  # fmt: skip
    parts = [(registry, name) for registry, names in used for name in sorted({*names})]
    formulae = [(registry.kind, name, registry.formula(name)) for registry, name in parts]
    return [line for line in formulae if line[2]]
