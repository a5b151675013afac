"""Experiments as a tracker would give them, made by hand: plausible, small and the same each time.

The numbers follow a trial on handwritten digits: DDIM ahead at few steps, DDPM at many, cosine
below linear throughout, and training seeds that matter three times as much as sampling.
"""

import io
import re
from dataclasses import replace
from itertools import product

import made
import numpy as np
import pandas as pd
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from harness.work.cells import EXACT, Part
from harness.work.results import (
    Cost,
    Denoising,
    DenoisingError,
    Experiment,
    LossBin,
    LossPoint,
    Mean,
    PixelSpread,
    Run,
    SamplingPath,
)

LIMIT = {"linear": 0.030, "cosine": 0.013}  # what remains at many steps
SLOPE = {("linear", "ddim"): 1.1, ("cosine", "ddim"): 0.40,
         ("linear", "ddpm"): 2.3, ("cosine", "ddpm"): 0.75}  # fmt: skip
EXTRA = {"ddim": 0.012, "ddpm": 0.0}  # deterministic sampling keeps its errors
NETWORK = replace(made.PROVENANCE, precision="bfloat16")
OF_THE_TRAINING = {"training_steps": 1200, "batch_size": 128, "ema": 0.1, "precision": "bfloat16",
                   "model": Part("tiny")}  # fmt: skip


def build(
    *,
    schedules=("linear", "cosine"),
    samplers=("ddpm", "ddim"),
    steps=(5, 10, 20, 50),
    seeds=(0, 1, 2),
    name="digits",
    gain=1.0,
    crossed=False,
    exact=False,
):
    """The experiment of a full grid; `gain` scales the variance between seeds. `crossed` samples
    every network under every schedule; `exact` puts the exact denoiser beside the networks."""
    draw = np.random.default_rng(7)
    places = [*product(schedules, seeds)]
    numbers = [draw.normal(0, 1, 3) for _ in places]
    luck = [draw.normal(0, 0.05 * gain) for _ in places]
    rows = [
        (schedule, sampler, count, seed, network_cell(draw, schedule, sampler, count, seed, each))
        for (schedule, seed), each in zip(places, luck, strict=True)
        for sampler, count in product(samplers, steps)
    ]
    cells = {f"c-{schedule}-{sampler}-{count}-{seed}": one
             for schedule, sampler, count, seed, one in rows}  # fmt: skip
    crossing = {
        f"c-{schedule}-{sampler}-{count}-{seed}-as-{other}": mismatched(one, other)
        for schedule, sampler, count, seed, one in rows
        for other in schedules
        if crossed and other != schedule
    }
    beside = {
        f"c-{schedule}-{sampler}-{count}-{seed}-exact": exactly(one)
        for schedule, sampler, count, seed, one in rows
        if exact and seed == seeds[0]
    }
    cells |= crossing | beside
    trainings = {f"t-{schedule}-{seed}": training(draw, schedule, seed, each)
                 for (schedule, seed), each in zip(places, numbers, strict=True)}  # fmt: skip
    runs = {one.work.key: Run(f"run-{run}", forecast=forecast(one))
            for run, one in (trainings | cells).items()}  # fmt: skip
    return Experiment(
        name=name,
        cells=tuple(cells.values()),
        trainings=tuple(trainings.values()),
        runs=runs,
        id="1",
        grid_text=f"name: {name}\ndata: digits\nschedules: [{', '.join(schedules)}]\n",
        expected_cells=len(cells),
        versions={"harness": "0.1.0", "python": "3.11.9", "torch": "2.13.0"},
        commit="abc1234",
    )


def part(text):
    """`ddim(eta=0.5)`; a name that no part would have is taken as it stands."""
    return made.part(text) if re.fullmatch(r"\w+(\(.*\))?", text) else Part(text)


def training(draw, schedule, seed, numbers):
    of = made.cell("x", seed=seed, **OF_THE_TRAINING).training
    return made.trained(
        replace(of, schedule=part(schedule)),
        {"schedule.csv": csv(schedule_curve(schedule)), **training_pictures(schedule)},
        loss=0.055 + 0.002 * numbers[0],
        loss_curve=loss_curve(draw, schedule),
        loss_by_time=loss_by_time(draw, schedule),
        denoising=denoising(schedule, seed),
        seconds=41 + numbers[1],
        provenance=replace(NETWORK, extractor="", extractor_fingerprint="", threads=1),
    )


def network_cell(draw, schedule, sampler, steps, seed, luck):
    slope = SLOPE.get((schedule, sampler.split("(")[0]), 1.0)
    truth = LIMIT.get(schedule, 0.02) + EXTRA.get(sampler, 0.006) + slope / steps**1.15
    kid = truth * (1 + luck + draw.normal(0, 0.01)) - 0.004
    per_image = (0.21 + 0.83 * steps) * (1 + 0.02 * draw.normal()) * 1e-3
    fid = 0.2 + 21 * truth * (1 + luck + draw.normal(0, 0.01))
    of = made.cell("x", "x", steps, seed, images=2000, spacing=Part("leading"), **OF_THE_TRAINING)
    named = part(schedule)
    return made.result(
        replace(of, training=replace(of.training, schedule=named), sample_schedule=named,
                sampler=part(sampler)),
        pictures(kid, seed, steps) | {"path.csv": csv(path(schedule, steps))},
        kid=made.measured(kid, 0.0012 + 0.01 * truth, baseline=-0.0068),
        fid=made.measured(fid, 0.02 + 0.2 * truth, baseline=0.22),
        cost=Cost(steps, (0.99 * per_image, per_image, 1.01 * per_image), 1e-4, 410_000_000),
        provenance=NETWORK,
        pixel_spread=PixelSpread(1 - 0.9 / steps, None, 1 - 1.0 / steps),
        baseline_images=2000,
    )  # fmt: skip


def with_metric(result, key, **changes):
    """The result with a changed measurement: `value`, and with it `corrected`, or others."""
    if "value" in changes:
        changes.setdefault("corrected", changes["value"])
    measured = replace(result.measurements.get(key, made.measured(0.0)), **changes)
    return replace(result, measurements={**result.measurements, key: measured})


def mismatched(result, other):
    """The same network sampled under another schedule: half as far again from the data."""
    return replace(
        with_metric(result, "kid", value=1.5 * result.measurements["kid"].value + 0.01),
        cell=replace(result.cell, sample_schedule=part(other)),
        path=SamplingPath(4.1e-5, 1.0, 2),
    )


def exactly(result):
    """What the exact denoiser reaches in the same way: a third of the distance."""
    of = replace(result.cell.training, model=Part(EXACT), training_steps=0, seed=0)
    return replace(
        with_metric(result, "kid", value=result.measurements["kid"].value / 3),
        cell=replace(result.cell, training=of),
        provenance=replace(NETWORK, precision="float32"),
    )


def forecast(result):
    cell = getattr(result, "cell", None)
    return 2000 * (0.9e-3 * cell.steps + 1e-4) if cell else 38.0


def schedule_curve(schedule):
    t = np.linspace(0, 1, 101)
    angle = (1 - t) * np.arccos(0.95) + t * np.arccos(0.02)
    linear = np.exp(-(0.1 * t + 19.9 * t**2 / 2) / 2)
    alpha = linear if schedule == "linear" else np.cos(angle)
    sigma = np.sqrt(1 - alpha**2)
    with np.errstate(divide="ignore"):
        return pd.DataFrame(
            {"t": t, "alpha": alpha, "sigma": sigma, "log_snr": 2 * np.log(alpha / sigma)}
        )


def loss_curve(draw, schedule):
    step = np.arange(10, 1201, 10)
    end = 0.055 if schedule == "linear" else 0.085
    loss = end + 0.9 * np.exp(-step / 60) + 0.1 * np.exp(-step / 400)
    loss = loss * (1 + 0.06 * draw.standard_normal(len(step)))
    return tuple(LossPoint(int(n), float(each)) for n, each in zip(step, loss, strict=True))


def loss_by_time(draw, schedule):
    edges = np.linspace(0, 1, 21)
    middle = (edges[1:] + edges[:-1]) / 2
    height = 0.4 if schedule == "linear" else 0.6
    loss = height * np.exp(-middle / 0.18) + 0.01
    loss = loss * (1 + 0.05 * draw.standard_normal(20))
    return tuple(LossBin(*map(float, each)) for each in zip(edges, edges[1:], loss, strict=False))


def denoising(schedule, seed):
    """Cosine is 10 % below linear where there is little noise and above it where there is much, and
    the training images' error 3 % below that of held-out ones; the best linear denoiser of data of
    variance 0.3 in the middle."""
    log_snr = np.linspace(-12, 12, 20)
    snr = np.exp(log_snr)
    error = 0.002 + 0.8 * 0.3 * snr / (1 + 0.3 * snr) * (1 + 0.002 * (seed % 3 - 1))
    error *= np.where(log_snr > 0, 0.95, 1.05) if schedule == "cosine" else 1
    low, high = (-7.8, 2.2) if schedule == "cosine" else (-10.1, 9.2)
    levels = tuple(
        DenoisingError(
            float(level), not low < level < high, Mean(float(each), 0.02 * float(each)),
            Mean(float(0.97 * each), 0.02 * float(each)), Mean(float(-0.01 * each), 1e-4),
            float(0.3 * ratio / (1 + 0.3 * ratio)), float(0.1 * ratio / (1 + ratio**2)),
        )
        for level, ratio, each in zip(log_snr, snr, error, strict=True)
    )  # fmt: skip
    return Denoising(levels, 128, 1, 0.35, Mean(5.3, 0.03), Mean(5.2, 0.03))


def path(schedule, steps):
    curve = schedule_curve(schedule)
    t = 1 - np.arange(steps + 1) / steps
    return pd.DataFrame({"t": t, "log_snr": np.interp(t, curve["t"], curve["log_snr"])})


def csv(frame):
    return frame.to_csv(index=False).encode()


def pictures(kid, seed, steps):
    """Blobs that drown in noise as KID grows; tile i has the same blob in every cell. Of the films
    two images in at most seven or ten evaluations and as they end: what is held, what is
    estimated."""
    few, many = (
        np.unique(np.linspace(1, steps, min(most, steps)).round().astype(int)) for most in (7, 10)
    )
    return {
        "samples.png": png(blobs(kid, seed, (8, 8))),
        "nearest.png": png(blobs(kid, seed, (2, 8))),
        "film.png": png(columns(kid, len(few) + 1), evaluations=" ".join(map(str, few))),
        "film.webp": webp(columns(kid, len(many) + 1), " ".join(map(str, many))),
    }


def training_pictures(schedule):
    """Three blobs in noise at eleven times, and four that come out of it at three steps."""
    shown = schedule_curve(schedule).iloc[::10]
    noisy = [blobs(ratio, 0, (3, 1)) for ratio in shown["sigma"] / shown["alpha"]]
    return {
        "forward.png": png(np.concatenate(noisy, axis=1)),
        "looks.png": png(columns(0.1, 3), steps="400 800 1200"),
    }


def columns(kid, count):
    """Four lines of one blob each, in less noise in each of so many columns."""
    return np.concatenate(
        [blobs(kid + 1 - i / max(1, count - 1), 0, (4, 1)) for i in range(count)], axis=1
    )


def blobs(kid, seed, shape, side=8):
    draw = np.random.default_rng(seed)
    rows = np.zeros((*shape, side, side))
    y, x = np.mgrid[:side, :side] / (side - 1)
    for place in np.ndindex(*shape):
        centre, width = draw.uniform(0.25, 0.75, 2), draw.uniform(0.02, 0.06)
        blob = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / width)
        rows[place] = blob + min(kid, 1) * 1.2 * draw.standard_normal((side, side))
    pixels = np.clip(rows, 0, 1).transpose(0, 2, 1, 3).reshape(shape[0] * side, shape[1] * side)
    return (255 * pixels).astype(np.uint8)


def png(pixels, **texts):
    file, info = io.BytesIO(), PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    Image.fromarray(pixels).save(file, "png", pnginfo=info)
    return file.getvalue()


def webp(pixels, text):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "webp", lossless=True, xmp=text.encode())
    return file.getvalue()
