"""Results as a tracker would give them, without a tracker: plausible, small and the same each time.

The numbers follow a trial on handwritten digits: DDIM ahead at few steps, DDPM at many, cosine
below linear throughout, and training seeds that matter three times as much as sampling.
"""

import io
from itertools import product

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from harness.report.table import Results

MACHINE = "Intel(R) Xeon(R) Processor, 2 cores"
LIMIT = {"linear": 0.030, "cosine": 0.013}  # what remains at many steps
SLOPE = {("linear", "ddim"): 1.1, ("cosine", "ddim"): 0.40,
         ("linear", "ddpm"): 2.3, ("cosine", "ddpm"): 0.75}  # fmt: skip
EXTRA = {"ddim": 0.012, "ddpm": 0.0}  # deterministic sampling keeps its errors


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
    """Results of a full grid; `gain` scales the luck of training. `crossed` samples every network
    under every schedule; `exact` puts the exact denoiser beside the networks."""
    draw = np.random.default_rng(7)
    trainings = [training(draw, schedule, seed) for schedule, seed in product(schedules, seeds)]
    luck = {row["key"]: draw.normal(0, 0.05 * gain) for row in trainings}
    cells = [
        cell(draw, row, luck[row["key"]], sampler, count)
        for row, sampler, count in product(trainings, samplers, steps)
    ]
    if crossed:
        cells += [elsewhere(row, other) for row in cells for other in schedules
                  if other != row["schedule"]]  # fmt: skip
    if exact:
        at_home = [row for row in cells if row["sample_schedule"] == row["schedule"]]
        cells += [exactly(row) for row in at_home if row["seed"] == seeds[0]]
    return Results(
        name=name,
        cells=pd.DataFrame(cells),
        trainings=pd.DataFrame(trainings),
        failures=pd.DataFrame(columns=["kind", "key", "what", "reason"]),
        losses={row["key"]: loss_curve(draw, row["schedule"]) for row in trainings},
        time_losses={row["key"]: loss_by_time(draw, row["schedule"]) for row in trainings},
        schedules={schedule: schedule_curve(schedule) for schedule in schedules},
        sheets={row["key"]: sheet(row["kid"], row["seed"]) for row in cells},
        films={row["key"]: film(row["kid"], row["steps"]) for row in cells},
        nearest={row["key"]: neighbours(row["kid"], row["seed"]) for row in cells},
        paths={row["key"]: path(row["sample_schedule"], row["steps"]) for row in cells},
        experiment="1",
        grid_text=f"name: {name}\ndata: digits\nschedules: [{', '.join(schedules)}]\n",
        expected_cells=len(cells),
        versions={"harness": "0.1.0", "python": "3.11.9", "torch": "2.13.0"},
        commit="abc1234",
    )


def training(draw, schedule, seed):
    return {
        "key": f"t-{schedule}-{seed}", "run_id": f"run-t-{schedule}-{seed}", "machine": MACHINE,
        "data": "digits", "model": "tiny", "schedule": schedule, "seed": seed, "target": "noise",
        "weighting": "simple", "training_steps": 1200, "batch_size": 128, "learning_rate": 1e-3,
        "ema": 0.1, "precision": "bfloat16", "parameters": 252_113,
        "loss": 0.055 + 0.002 * draw.standard_normal(), "seconds": 41 + draw.normal(),
        "images_per_second": 3700 + 40 * draw.normal(), "reused": False,
        "forecast_seconds": "38.0",
    }  # fmt: skip


def cell(draw, row, luck, sampler, steps):
    schedule = row["schedule"]
    slope = SLOPE.get((schedule, sampler.split("(")[0]), 1.0)
    truth = LIMIT.get(schedule, 0.02) + EXTRA.get(sampler, 0.006) + slope / steps**1.15
    kid = truth * (1 + luck + draw.normal(0, 0.01)) - 0.004
    per_image = (0.21 + 0.83 * steps) * (1 + 0.02 * draw.normal()) * 1e-3
    return {
        "key": f"c-{schedule}-{sampler}-{steps}-{row['seed']}",
        "run_id": f"run-c-{schedule}-{sampler}-{steps}-{row['seed']}", "machine": MACHINE,
        "data": "digits", "model": "tiny", "schedule": schedule, "sample_schedule": schedule,
        "sampler": sampler,
        "eta": 0.0 if sampler == "ddim" else np.nan, "spacing": "leading", "steps": steps,
        "seed": row["seed"], "sampling_seed": 0, "images": 2000, "target": "noise",
        "precision": "bfloat16", "clip": False, "extractor": "digits", "reference": "train",
        "training_key": row["key"], "training_steps": 1200, "reused": False,
        "kid": kid, "kid_se": 0.0012 + 0.01 * truth, "kid_floor": -0.0068,
        "fid": 0.2 + 21 * truth * (1 + luck + draw.normal(0, 0.01)),
        "fid_se": 0.02 + 0.2 * truth, "fid_floor": 0.22, "floor_images": 2000,
        "nfe": float(steps), "seconds_per_image": per_image,
        "seconds_per_image_spread": 0.01 * per_image, "images_per_second": 1 / per_image,
        "peak_memory_bytes": 4.1e8, "first_abar": 4.1e-5, "feature_seconds_per_image": 1e-4,
        "forecast_seconds": str(2000 * (0.9e-3 * steps + 1e-4)),
        "contrast": 1 - 0.9 / steps, "contrast_theory": 1 - 1.0 / steps,
    }  # fmt: skip


def elsewhere(row, other):
    """The same network sampled under another schedule: half as far again from the data."""
    return row | {
        "key": f"{row['key']}-as-{other}", "run_id": f"{row['run_id']}-as-{other}",
        "sample_schedule": other, "kid": 1.5 * row["kid"] + 0.01, "clamped_times": 2.0,
    }  # fmt: skip


def exactly(row):
    """What the exact denoiser reaches in the same way: a third of the distance."""
    return row | {
        "key": f"{row['key']}-exact", "run_id": f"{row['run_id']}-exact", "model": "exact",
        "training_key": "none", "precision": "float32", "seed": 0, "kid": row["kid"] / 3,
    }  # fmt: skip


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
    return pd.DataFrame({"step": step, "loss": loss, "images_per_second": 3700.0})


def loss_by_time(draw, schedule):
    edges = np.linspace(0, 1, 21)
    middle = (edges[1:] + edges[:-1]) / 2
    height = 0.4 if schedule == "linear" else 0.6
    loss = height * np.exp(-middle / 0.18) + 0.01
    loss = loss * (1 + 0.05 * draw.standard_normal(20))
    return pd.DataFrame({"t_low": edges[:-1], "t_high": edges[1:], "loss": loss})


def path(schedule, steps):
    curve = schedule_curve(schedule)
    t = 1 - np.arange(steps + 1) / steps
    return pd.DataFrame({"t": t, "log_snr": np.interp(t, curve["t"], curve["log_snr"])})


def film(kid, steps):
    """Two images in at most seven evaluations and as they end: what is held, what is estimated."""
    evaluations = np.unique(np.linspace(1, steps, min(7, steps)).round().astype(int))
    pixels = np.concatenate(
        [blobs(kid + 1 - i / len(evaluations), 0, (4, 1)) for i in range(len(evaluations) + 1)],
        axis=1,
    )
    return png(pixels, evaluations=" ".join(map(str, evaluations)))


def neighbours(kid, seed):
    return png(blobs(kid, seed, (2, 8)))


def sheet(kid, seed, side=8, tiles=64):
    """Blobs that drown in noise as KID grows; tile i has the same blob in every cell."""
    return png(blobs(kid, seed, (tiles // 8, 8), side))


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


@pytest.fixture(name="build", scope="session")
def _build():
    """Makes Results of a grid with the axes it is given."""
    return build


@pytest.fixture(scope="session")
def everything():
    """Results in which every figure and every finding has something to say."""
    return build(crossed=True, exact=True)


@pytest.fixture(scope="session")
def results():
    """Two schedules, two samplers, four step counts, three training seeds."""
    return build()
