"""Steps fitted to a network: the times at which DDIM departs least from the network's own path.

GITS (Chen et al. 2024, "On the Trajectory Regularity of ODE-based Diffusion Sampling"): follow the
network in many small steps, work out what each longer step between two of these times would miss,
and find the N steps that miss least in sum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.diffusion.levels import levels
from harness.diffusion.schedules import Schedule
from harness.diffusion.stepping import Denoise, along, noise_in, walk
from harness.lazy import torch

LEAST_SPREAD = 1e-9  # of images at one time, of the largest at any


def candidate_times(schedule: Schedule, candidates: int) -> torch.Tensor:
    """So many times even in the angle atan2(sigma, alpha) from t = 1, and 0: [candidates + 1],
    falling. A schedule with a table is not asked below its first entry, where no network was
    trained."""
    first = 0.0 if schedule.table_steps is None else 1 / schedule.table_steps
    ends = torch.tensor([1.0, first], dtype=torch.float64)
    start, end = torch.atan2(schedule.sigma(ends), schedule.alpha(ends)).tolist()
    steps = candidates if first == 0 else candidates - 1
    shares = torch.arange(1, candidates, dtype=torch.float64) / steps
    times = schedule.t(-2 * torch.log(torch.tan(start + shares * (end - start))))
    return torch.cat([ends[:1], times, torch.zeros(1, dtype=torch.float64)])


@dataclass(frozen=True, eq=False)
class Departures:
    """What DDIM's steps between candidate times miss, summed over images, so that batches add up.

    The teacher is DDIM through all candidates, whose estimates of x_0 each longer step begins with:
    it costs one network evaluation a candidate and image.
    """

    squares: torch.Tensor  # [M + 1, M + 1] of the step from i to j: squared distance from x_j
    sums: torch.Tensor  # [M + 1, ...] of the teacher's x_j over images
    powers: torch.Tensor  # [M + 1] of the teacher's x_j squared, over images and pixels
    images: int

    @classmethod
    def of(
        cls, denoise: Denoise, schedule: Schedule, x: torch.Tensor, times: torch.Tensor
    ) -> Departures:
        """Along the paths from this noise x [images, ...] at t = 1."""
        seen: list[torch.Tensor] = []
        estimates: list[torch.Tensor] = []

        def watched(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            estimates.append(denoise(x, t))
            return estimates[-1]

        seen.append(walk(watched, schedule, x, times, along))
        held, path = torch.stack(seen), levels(schedule, times)[:-1]
        # As a walk ends: the step to time 0 gives the estimate of x_0.
        alphas = column([*(t.alpha for t in path), 1.0], held)
        sigmas = column([*(t.sigma for t in path), 0.0], held)
        squares = torch.full((len(held), len(held)), math.inf, dtype=torch.float64)
        for i, (t, x_0) in enumerate(zip(path, estimates, strict=True)):
            reached = alphas[i + 1 :] * x_0 + sigmas[i + 1 :] * noise_in(held[i], x_0, t)
            squares[i, i + 1 :] = total(reached - held[i + 1 :])
        return cls(squares, held.sum(1).cpu().double(), total(held), len(x))

    def __add__(self, other: Departures) -> Departures:
        return Departures(
            self.squares + other.squares,
            self.sums + other.sums,
            self.powers + other.powers,
            self.images + other.images,
        )

    @property
    def costs(self) -> torch.Tensor:
        """The cost of a step from candidate i to j [M + 1, M + 1]: the root mean square distance
        from the teacher at j, relative to the standard deviation of the teacher's images there, so
        that an error counts by what is left of it at the end (exactly so for Gaussian data)."""
        variance = self.powers / self.images - (self.sums / self.images).square().flatten(1).sum(1)
        # Images that agree but for rounding have none.
        least = max(float(variance.max()) * LEAST_SPREAD, torch.finfo(variance.dtype).tiny)
        return (self.squares / self.images / variance.clamp(min=least)).sqrt()


def column(values: list[float], like: torch.Tensor) -> torch.Tensor:
    """One number for each entry of a tensor [N, ...], to be multiplied with it."""
    return like.new_tensor(values).reshape(-1, *[1] * (like.ndim - 1))


def total(each: torch.Tensor) -> torch.Tensor:
    """The sum of the squares of each entry of a tensor [N, ...]: [N] in float64 on the CPU."""
    return each.flatten(1).square().sum(1).cpu().double()


def least_costly(costs: torch.Tensor, steps: int) -> list[int]:
    """The path of so many steps from the first candidate to the last whose costs [M + 1, M + 1]
    have the least sum, by dynamic programming: steps + 1 indices that rise."""
    spent, came_from = costs[0], list[torch.Tensor]()
    for _ in range(steps - 1):
        best = (spent[:, None] + costs).min(dim=0)
        spent = best.values
        came_from.append(best.indices)
    path = [len(costs) - 1]
    for before in reversed(came_from):
        path.append(int(before[path[-1]]))
    return [0, *reversed(path)]
