"""The figure of what the networks learned at each amount of noise."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from harness.analysis.denoising import Array, Learned, Levels, levels
from harness.analysis.study import Study
from harness.report.figures import style
from harness.work.cells import UNIFORM
from harness.work.results import SCHEDULE_CURVE

KNOWN: style.Look = {"color": style.FAINT, "linewidth": 1.3}
LINEAR = KNOWN | {"linestyle": "-"}
EXACT = KNOWN | {"linestyle": (0, style.DASHES[2])}
TRAIN: style.Look = {"linestyle": (0, style.DASHES[1]), "linewidth": 1}
LEAST = 1e-4  # of the error: below it the exact denoiser alone is of interest to nobody


def denoising_error(study: Study) -> Figure | None:
    """Denoising error by log SNR: where each network learned better.

    The mean squared error of ε per pixel, where predicting no noise has 1, from nearly pure noise
    (left) to nearly clean images; with the same images and noise for all networks, on held-out
    images (solid) and on training images (dashed). A line is the mean over training seeds, faint
    where the network was not trained.
    [exact] Dotted is the exact denoiser, the least error there is: of the distribution of the data
    where it is known, else of the training images on themselves.
    [against] Below, the held-out error relative to the geometric mean of all networks, at the
    levels that all were trained on; bands are the range over training seeds.
    [density] At the bottom, the share of its training that each schedule spends on a unit of log
    SNR.
    [scales] Log SNR is that of pixels in −1..1, since the scales of the data differ.
    """
    found = levels(study)
    if found is None:
        return None
    has_others, densities = found.decision is not None, _densities(study, found)
    heights = [2.6, *[1.4] * has_others, *[0.9] * bool(densities)]
    figure = style.drawing(0.9 + sum(heights))
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    panels: list[Axes] = []
    for place in range(len(heights)):
        panels.append(figure.add_subplot(grid[place], sharex=panels[0] if panels else None))
        panels[-1].tick_params(labelbottom=place == len(heights) - 1)
    look = style.looks(study)
    entries: dict[str, style.Look] = look.entries(one.trained for one in found.learned)
    entries |= {"held out": {}, "training images": TRAIN} | _known(panels[0], found)
    for one in found.learned:
        _errors(panels[0], found, one, look.of(one.trained))
        if has_others:
            _against(panels[1], found, one, look.of(one.trained))
    if has_others:
        panels[1].axhline(0, color=style.FAINT, linewidth=0.8)
        panels[1].set_ylabel("% above\ngeometric mean")
    for name, (log_snr, density) in densities.items():
        panels[-1].plot(log_snr, density, **look.of(name), linewidth=1.3)
    if densities:
        panels[-1].set(ylabel="training\ndensity", ylim=(0, None))
        panels[-1].set_yticks([])
    panels[-1].set(
        xlabel=f"{found.axis}: from noise to image", xlim=(found.log_snr[0], found.log_snr[-1])
    )
    panels[0].set_ylabel("error of ε")
    has = {"exact": np.isfinite(found.exact).any(), "against": has_others, "density": densities,
           "scales": found.has_scales}  # fmt: skip
    figure.drawn = {name: True for name, there in has.items() if there}
    style.explain(figure, entries)
    return figure


def _known(axes: Axes, found: Levels) -> dict[str, style.Look]:
    """Draw the denoisers that are known; returns their lines of the legend."""
    axes.plot(found.log_snr, found.linear, **LINEAR)
    shown = [found.linear, *(one.held_out.mean(0) for one in found.learned)]
    style.log_axis(axes, "y", np.concatenate(shown).clip(LEAST))
    axes.set_ylim(max(LEAST, 0.7 * float(np.min(shown))), 1.3 * float(np.max(shown)))
    entries: dict[str, style.Look] = {"best affine (Wiener) denoiser": LINEAR}
    if np.isfinite(found.exact).any():
        axes.plot(found.log_snr, found.exact, **EXACT)
        entries["exact denoiser"] = EXACT
    return entries


def _errors(axes: Axes, found: Levels, one: Learned, look: style.Look) -> None:
    for values, how in ((one.held_out, {"linewidth": 1.8}), (one.train, TRAIN)):
        mean = values.mean(0)
        axes.plot(found.log_snr, mean, **look, **how, alpha=0.3)
        axes.plot(found.log_snr, _where(mean, one.inside), **look, **how)


def _against(axes: Axes, found: Levels, one: Learned, look: style.Look) -> None:
    """By how much the error is above the mean of all networks, in per cent."""
    means = np.array([each.held_out.mean(0) for each in found.learned])
    middle = np.exp(np.log(means).mean(0))
    apart = 100 * (one.held_out / middle - 1)
    low, mean, high = (_where(each, found.common)
                       for each in (apart.min(0), apart.mean(0), apart.max(0)))  # fmt: skip
    axes.plot(found.log_snr, mean, **look, linewidth=1.8, marker="o", markersize=3)
    axes.fill_between(found.log_snr, low, high, color=look["color"], alpha=0.2, linewidth=0)


def _where(values: Array, these: NDArray[np.bool_]) -> Array:
    return np.where(these, values, np.nan)


def _densities(study: Study, levels: Levels) -> dict[str, tuple[Array, Array]]:
    """Of each kind of network: log SNRs up to both ends, and the share of times in a unit of it."""
    found = {}
    for one in study.trainings:
        table = one.artifacts.table(SCHEDULE_CURVE)
        is_even = one.training.times.name == UNIFORM  # else times are not what time is spent on
        if table is not None and one.denoising is not None and is_even:
            t, log_snr = table["t"].to_numpy(), table["log_snr"].to_numpy()
            is_finite = np.isfinite(log_snr)
            t, log_snr = t[is_finite], levels.seen(log_snr[is_finite], one.denoising)
            middle, share = (log_snr[1:] + log_snr[:-1]) / 2, -np.diff(t) / np.diff(log_snr)
            ends = log_snr[0], log_snr[-1]  # to which it was trained, between two times at most
            label = study.training_label(one.training)
            found[label] = np.r_[ends[0], middle, ends[1]], np.r_[share[0], share, share[-1]]
    return dict(sorted(found.items()))
