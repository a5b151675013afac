"""All figures by their names, in the order of the page.

A figure function takes a study and returns a matplotlib figure, or None where there is nothing to
show. The first line of its docstring is the caption and the alternative text, the rest says how to
read it: a line that begins with `[word]`, with those that follow it, only where the figure's
`drawn`, a dictionary, has that word (`style.Drawing`). To add one, write the function in the file
of its kind and name it in FIGURES; another package uses the entry point `harness.plots`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import getdoc

import matplotlib as mpl
from matplotlib.figure import Figure

from harness.analysis.study import Study
from harness.errors import Fault
from harness.registry import Registry
from harness.registry.foreign import contained
from harness.registry.signature import shown
from harness.report.figures.comparisons import main_comparisons
from harness.report.figures.cost import forecast_and_actual_seconds, quality_by_cost
from harness.report.figures.curves import loss_by_time, losses, schedule_curves, snr_by_step
from harness.report.figures.denoising import denoising_error
from harness.report.figures.images import (
    best_samples,
    film,
    forward_process,
    nearest_images,
    samples,
    training_looks,
)
from harness.report.figures.matrix import trained_by_sampled
from harness.report.figures.quality import quality_by_seconds, quality_by_steps
from harness.report.figures.style import STYLE

FIGURES: dict[str, Callable[[Study], Figure | None]] = {
    "quality_by_steps": quality_by_steps,
    "samples": samples,
    "best_samples": best_samples,
    "film": film,
    "training_looks": training_looks,
    "train_by_sample": trained_by_sampled,
    "quality_by_seconds": quality_by_seconds,
    "pareto_front": quality_by_cost,
    "comparisons": main_comparisons,
    "forward_process": forward_process,
    "schedule_curves": schedule_curves,
    "snr_by_step": snr_by_step,
    "denoising_error": denoising_error,
    "losses": losses,
    "loss_by_time": loss_by_time,
    "nearest_images": nearest_images,
    "forecast": forecast_and_actual_seconds,
}

MARK = re.compile(r"\[(\w+)\] ")  # of what a caption says only where it is drawn

PLOTS = Registry(
    "plot",
    FIGURES,
    ("study",),
    contract="""A function:

    plot(study) -> matplotlib.figure.Figure, or None where there is nothing to show

study is a harness.analysis.study.Study; its configurations() are what was compared, each with mean
and interval. The first line of the docstring is the caption, the rest says how to read the figure.
pyplot is not used: it keeps every figure.""",
)


def in_page_order() -> list[str]:
    """The names of all figures: the built-in ones first."""
    return [*FIGURES, *(name for name in PLOTS if name not in FIGURES)]


def figure_named(name: str, study: Study) -> Figure | None:
    """The figure of this name in the style of all figures, or None where it has nothing to show.
    Raises PartFailed where it raises anything, so that a report can go on without it."""
    with drawing(name), mpl.rc_context(STYLE):
        figure: object = PLOTS[name](study)
        if figure is not None and not isinstance(figure, Figure):
            raise Fault(f"gives no Figure, but {shown(figure)}")
        return figure


@contextmanager
def drawing(name: str) -> Iterator[None]:
    """Raises PartFailed, naming the figure, for whatever goes wrong while it is drawn or saved."""
    use = "the report without it, and tell its author"
    with PLOTS.blamed(name, "could not be drawn", use), contained():
        yield


def caption(name: str, figure: Figure | None = None) -> tuple[str, str]:
    """What a figure shows, and how to read it: of this one all that is drawn in it, of none what
    holds of each."""
    shows, _, reading = (getdoc(PLOTS[name]) or name).partition("\n")
    drawn = getattr(figure, "drawn", {})
    kept = []
    for part in re.split(r"\n(?=\[\w+\] |\n)", reading):
        words = " ".join(part.split())
        mark = MARK.match(words)
        if not mark:
            kept.append(words)
        elif mark[1] in drawn:
            kept.append(words[mark.end() :].format_map(drawn))
    return shows, " ".join(filter(None, kept))
