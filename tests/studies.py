"""Studies made by hand: {(schedule, sampler, steps): value, or values by training seed}."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import made
import numpy as np
import pandas as pd

from harness.analysis.study import Study
from harness.work.cells import EXACT, Cell, Part
from harness.work.results import (
    PURE_NOISE,
    Artifacts,
    CellResult,
    Denoising,
    DenoisingError,
    Mean,
    Run,
)

LUCK = np.array([0.0, 0.004, -0.003])  # what three training seeds add to every value
LINE = ("cosine", "ddim")


def results(
    values: Mapping[tuple, object],
    *,
    metric: str = "kid",
    error: float | None = 0.001,
    baseline: float | None = None,
    seconds: Callable[[Cell], float] = lambda cell: 0.0,
    machine: str = "one",
    more: Callable[[CellResult], CellResult] = lambda result: result,
    **fields: object,
) -> list[CellResult]:
    """Results of these values; a fourth item of a key is the spacing, `linear sampled as cosine` a
    mismatched schedule. One row of values is by training seed, several are by sampling seed."""
    made_by_hand = []
    for (schedule, sampler, steps, *spacing), given in values.items():
        trained, _, sampled = schedule.partition(" sampled as ")
        by_seed = np.asarray(given) if np.ndim(given) else given + LUCK * (1 + 0.1 * given)
        for (noise, seed), value in np.ndenumerate(np.atleast_2d(by_seed)):
            of = made.cell(
                trained, sampler, steps, seed, sampling_seed=noise,
                spacing=Part(*spacing or ["trailing"]),
                sample_schedule=made.part(sampled or trained), **fields,
            )  # fmt: skip
            result = made.result(
                of,
                cost=replace(made.COST, nfe=steps, seconds_per_image=(seconds(of),)),
                provenance=replace(made.PROVENANCE, machine=machine),
                baseline_images=of.images,
                **{metric: made.measured(float(value), error, baseline=baseline)},
            )
            made_by_hand.append(more(result))
    return made_by_hand


def study(values: Mapping[tuple, object], **options: object) -> Study:
    return Study.of(results(values, **options))


def two_schedules(linear_few, cosine_few, linear_many, cosine_many, **options) -> Study:
    """One sampler at 5 and 50 steps."""
    return study(
        {("linear", "ddim", 5): linear_few, ("cosine", "ddim", 5): cosine_few,
         ("linear", "ddim", 50): linear_many, ("cosine", "ddim", 50): cosine_many}, **options,
    )  # fmt: skip


def by_sampler(values: Mapping[str, list[object]], steps=(5, 10, 20, 50), **options) -> Study:
    """One schedule, at several numbers of steps."""
    return study(
        {("cosine", sampler, n): value for sampler, those in values.items()
         for n, value in zip(steps, those, strict=False)}, **options,
    )  # fmt: skip


def by_steps(values: Mapping[int, object], **options) -> Study:
    return study({(*LINE, steps): value for steps, value in values.items()}, **options)


def exactly(result: CellResult, value: float) -> CellResult:
    """What the exact denoiser reaches in the same way."""
    training = replace(result.cell.training, model=Part(EXACT), training_steps=0, seed=0)
    measured = {"kid": replace(result.measurements["kid"], value=value, corrected=value)}
    return replace(result, cell=replace(result.cell, training=training), measurements=measured)


def noise_of(score: float) -> dict[str, object]:
    """Options of a study beside whose cells pure noise scores this, and real images nothing."""

    def more(result: CellResult) -> CellResult:
        kid = replace(result.measurements["kid"], degraded={PURE_NOISE: score})
        return replace(result, measurements={**result.measurements, "kid": kid})

    return {"baseline": 0.0, "more": more}


def before(
    result: CellResult, metric: str, times: float, moves: np.ndarray | None = None
) -> CellResult:
    """The same cell at 90 % of its training, with so many times its value."""
    value = times * result.measurements[metric].value
    return made.result(
        replace(result.cell, weights="0.9"),
        influences={} if moves is None else {metric: moves},
        **{metric: made.measured(value)},
    )


def forecast(ratio: float, steps=(5, 10, 50)) -> Study:
    """Work that took so many times as long as predicted: 100 s of training, and a second for each
    step."""
    free = {"feature_seconds_per_image": 0.0}
    cells = results(
        {(*LINE, n): [0.1] for n in steps},
        seconds=lambda cell: ratio * cell.steps / cell.images,
        more=lambda result: replace(result, cost=replace(result.cost, **free)),
    )
    training = made.trained(cells[0].cell.training, seconds=100 * ratio)
    runs = {one.cell.key: Run(forecast=float(one.cell.steps)) for one in cells}
    return Study(tuple(cells), (training,), runs | {training.training.key: Run(forecast=100.0)})


def denoised(
    held_out: Mapping[str, list[float]],
    *,
    training: float = 1.0,
    last_tenth: float = -0.01,
    outside: Mapping[str, int] = {},
    bits: float = 0.0,
    seeds: int = 3,
    path: tuple[float, ...] = (-4.0, 2.0),
    of: Study | None = None,
) -> Study:
    """Linear and cosine with the denoising error of each at log SNR -4, -2, 0, 2 and 4, of which
    the first `outside` were not trained on; that of training images is `training` times as large.
    The best linear denoiser has 0.5 at each level, and the cells visit `path`."""
    luck = (0.0, 0.01, -0.01)
    cells = of.cells if of else two_schedules(0.3, 0.1, 0.2, 0.05).cells
    table = pd.DataFrame({"t": range(len(path) + 1), "log_snr": [*path, 9.0]})
    files = Artifacts.of({"path.csv": table.to_csv(index=False).encode()})
    kept = [replace(one, artifacts=files) for one in cells if one.cell.training.seed < seeds]
    trainings = []
    for work in dict.fromkeys(one.cell.training for one in kept):
        name = str(work.schedule)
        levels = tuple(
            DenoisingError(
                2.0 * place - 4, place < outside.get(name, 0),
                Mean(each * (1 + luck[work.seed]), 0.01), Mean(training * each, 0.01),
                Mean(last_tenth * each, 0.001), 0.5, None,
            )
            for place, each in enumerate(held_out[name])
        )  # fmt: skip
        found = Denoising(levels, 64, 1, 0.3, Mean(5.0 + bits, 0.01), Mean(5.0, 0.01))
        trainings.append(made.trained(work, denoising=found))
    return Study.of([*kept, *trainings])
