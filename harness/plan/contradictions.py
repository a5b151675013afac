"""What a grid says that does not go together: each part is asked what it refuses."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from functools import cache
from itertools import islice
from typing import Any

from harness.diffusion.objective import check_target
from harness.diffusion.samplers import SAMPLERS
from harness.diffusion.schedules import SCHEDULES, Schedule
from harness.diffusion.times import SPACINGS, fitting_of
from harness.errors import BadOption, PartFailed
from harness.metrics.distances import METRICS
from harness.models.presets import MODELS
from harness.work.cells import Cell, Part


def contradictions(
    cells: Collection[Cell], own_steps: Collection[int], metrics: Collection[str]
) -> Iterator[str]:
    """What in these cells and metrics does not go together, and what to use."""
    for spacing, steps in dict.fromkeys((cell.spacing, cell.steps) for cell in cells):
        if told := refusal(SPACINGS[spacing.name], "check_steps", steps, **spacing.keywords):
            yield told if steps in own_steps else f"{told} (in include)"
    for path in dict.fromkeys((cell.sample_schedule, cell.spacing, cell.steps) for cell in cells):
        if told := path_refused(*path):
            yield told if path[-1] in own_steps else f"{told} (in include)"
    under = {
        (cell.training.target, schedule)
        for cell in cells
        if cell.training.is_trained
        for schedule in (cell.training.schedule, cell.sample_schedule)
    }
    for target, schedule in sorted(under, key=str):
        if told := refused(check_target, target, made_schedule(schedule)):
            yield told
    trained = {cell.training for cell in cells if cell.training.is_trained}
    for model, target in dict.fromkeys((one.model, one.target) for one in trained):
        if told := refusal(MODELS.make(model.name, model.keywords), "check_target", target):
            yield told
    yield from starts_refused(cells)
    if any(cell.reference != "train" for cell in cells):
        for name in metrics:
            if "held_out" in METRICS[name].needs:
                yield (
                    f"metric '{name}' compares with the training images. Use reference: train, or "
                    "leave the metric out."
                )


def starts_refused(cells: Collection[Cell]) -> Iterator[str]:
    """Samplers that cannot begin where no signal is left."""
    steps_of: dict[tuple[Part, Part, str], dict[int, None]] = {}
    for cell in cells:
        if made_schedule(cell.sample_schedule).ends_in_pure_noise:
            path = cell.sample_schedule, cell.spacing, cell.sampler.name
            steps_of.setdefault(path, {})[cell.steps] = None
    for (schedule, spacing, sampler), steps in steps_of.items():
        if refusal(SAMPLERS[sampler], "check_start", -math.inf):
            # Until one is refused: the times of ten thousand numbers of steps take minutes.
            refusals = (start_refused(schedule, spacing, each, sampler) for each in steps)
            yield from islice(filter(None, refusals), 1)


def path_refused(schedule: Part, spacing: Part, steps: int) -> str:
    return refusal(SPACINGS[spacing.name], "check_schedule", made_schedule(schedule), steps)


def start_refused(schedule: Part, spacing: Part, steps: int, sampler: str) -> str:
    is_no_path = refusal(SPACINGS[spacing.name], "check_steps", steps, **spacing.keywords)
    if is_no_path or path_refused(schedule, spacing, steps):
        return ""  # and that is told as such
    return refusal(SAMPLERS[sampler], "check_start", first_log_snr(schedule, spacing, steps))


@cache
def first_log_snr(schedule: Part, spacing: Part, steps: int) -> float:
    made = made_schedule(schedule)
    if fitting_of(spacing.name, **spacing.keywords):
        spacing = Part("uniform")  # starts at t = 1 too
    return float(made.log_snr(SPACINGS[spacing.name](made, steps, **spacing.keywords)[:1]))


def refusal(part: Any, check: str, *given: object, **options: object) -> str:
    """What a part says against something, where it can be asked; empty where it agrees."""
    return refused(getattr(part, check, lambda *given, **options: None), *given, **options)


def refused(check: Callable[..., object], *given: object, **options: object) -> str:
    try:
        check(*given, **options)
    except BadOption as error:
        return str(error)
    return ""


@cache
def made_schedule(part: Part) -> Schedule:
    made = SCHEDULES.make(part.name, part.keywords)
    if not isinstance(made, Schedule):
        raise PartFailed(
            f"schedule '{part.name}' of {SCHEDULES.origin(part.name)} is no Schedule. Use "
            "harness.diffusion.schedules.Schedule as its base class."
        )
    return made
