"""What would make a grid affordable whose forecast is long: single changes, and what each costs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.data.datasets import DATASETS
from harness.plan.forecast import Forecast, nfe_of
from harness.plan.grid_file import as_override
from harness.work.cells import Cell, Part, Training, distinct_trainings
from harness.work.options import quoted
from harness.work.speeds import Speeds, duration

if TYPE_CHECKING:
    from harness.work.outputs import CheaperOutput

TOO_LONG = 12 * 3600.0  # seconds, from which on a person is told what would be cheaper
AIM = 6 * 3600.0  # what the training steps are made fewer for
FEWEST_STEPS = 500  # of a training: fewer teach a network too little
SMALLEST_SIDE = 32  # pixels, below which photographs are not halved
ENOUGH_SEEDS = 3  # for a verdict on what is trained
WORTH = 0.8  # of the forecast, above which a change is not worth a word


@dataclass(frozen=True)
class Cheaper:
    """A change of a grid as it is typed, and the seconds that the pending work would then take."""

    change: str
    seconds: float
    note: str = ""

    @property
    def cost(self) -> str:
        return f"about {duration(self.seconds)}{self.note and f', {self.note}'}"

    def as_json(self) -> CheaperOutput:
        return {"change": self.change, "seconds": self.seconds, "note": self.note}


def cheaper(
    forecast: Forecast, to_train: Sequence[Training], to_score: Sequence[Cell]
) -> tuple[Cheaper, ...]:
    """Changes that make this work cost clearly less, the cheapest first; none where it is no more
    than half a day."""
    now = forecast.total(to_train, to_score)
    if now < TOO_LONG:
        return ()
    work = Work(forecast, tuple(to_train), tuple(to_score))
    changes = [
        *work.fewer_training_steps(now), *work.fewer_seeds(), *work.fewer_sampling_steps(),
        *work.smaller_images(),
    ]  # fmt: skip
    found = [one for one in changes if one.seconds < WORTH * now]
    return tuple(sorted(found, key=lambda one: one.seconds))


@dataclass(frozen=True)
class Work:
    """What is to be done, and what it will cost."""

    forecast: Forecast
    to_train: tuple[Training, ...]
    to_score: tuple[Cell, ...]

    def fewer_training_steps(self, now: float) -> Iterator[Cheaper]:
        """So many that all takes about a quarter of a day, in two digits."""
        counts = {one.training_steps for one in self.to_train}
        training = self.forecast.training_seconds(self.to_train)
        share = (AIM - (now - training)) / training if training else 0.0
        if len(counts) != 1 or share >= 1:
            return
        steps = max(FEWEST_STEPS, round(float(f"{max(0.0, share) * max(counts):.1e}")))
        if steps < max(counts):
            shorter = [replace(one, training_steps=steps) for one in self.to_train]
            yield Cheaper(f"training.steps={steps}", self.forecast.total(shorter, self.to_score))

    def fewer_seeds(self) -> Iterator[Cheaper]:
        """Three, which are enough for a clear difference; and one, which is for none."""
        seeds = sorted({one.seed for one in self.to_train})
        for count, note in ((ENOUGH_SEEDS, ""), (1, "no verdict on what is trained")):
            if len(seeds) > count:
                kept = seeds[:count]
                yield Cheaper(_only("seed", kept), self._of(seeds=kept), note)

    def fewer_sampling_steps(self) -> Iterator[Cheaper]:
        """Without the number of steps that takes most."""
        steps = sorted({cell.steps for cell in self.to_score})
        if len(steps) > 1:
            cost = {number: sum(cell.images * nfe_of(cell) for cell in self.to_score
                                if cell.steps == number) for number in steps}  # fmt: skip
            kept = [number for number in steps if number != max(steps, key=cost.__getitem__)]
            yield Cheaper(_only("steps", kept), self._of(steps=kept))

    def smaller_images(self) -> Iterator[Cheaper]:
        """Of half the side, for which a convolutional network needs a quarter."""
        found = {work.training.data for work in self.to_score}
        if len(found) != 1:
            return
        [data] = found
        side = side_of(data)
        if side is None or side < 2 * SMALLEST_SIDE or side % 16:
            return
        half = Part.of(data.name, {**data.keywords, "image_size": side // 2})
        quick = {model: a_quarter(one) for model, one in self.forecast.speeds.items()}
        told = replace(self.forecast, speeds=quick)
        yield Cheaper(override_of(half), told.total(self.to_train, self.to_score), "other results")

    def _of(self, seeds: Collection[int] = (), steps: Collection[int] = ()) -> float:
        """What is left to pay with these training seeds, or these numbers of steps, alone."""
        cells = [cell for cell in self.to_score
                 if cell.training.seed in (seeds or [cell.training.seed])
                 and cell.steps in (steps or [cell.steps])]  # fmt: skip
        needed = set(distinct_trainings(cells))
        return self.forecast.total([one for one in self.to_train if one in needed], cells)


def side_of(data: Part) -> int | None:
    """The side of the images of a data set that gives them in any size."""
    sizes = {one.name: one.default for one in DATASETS.options(data.name)} | data.keywords
    side = sizes.get("image_size")
    return side if isinstance(side, int) else None


def a_quarter(speeds: Speeds) -> Speeds:
    return replace(speeds, train=speeds.train / 4, evaluate=speeds.evaluate / 4)


def override_of(data: Part) -> str:
    [override] = as_override("data", {"name": data.name, **data.keywords})
    return quoted(override)


def _only(field: str, values: Sequence[int]) -> str:
    listed = str(values[0]) if len(values) == 1 else f"[{','.join(map(str, values))}]"
    return f"--only {quoted(f'{field}={listed}')}"
