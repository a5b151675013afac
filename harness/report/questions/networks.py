"""What the networks add: their error, their training, and what they remember."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.data.damage import DAMAGES
from harness.metrics.statistics import paired_error
from harness.report.finding import Finding
from harness.report.phrases import described, is_known, quantity
from harness.report.points import Point, best, points
from harness.report.words import at_steps, estimate, listed, number, sentence
from harness.report.yardsticks import Z, floor_error, floor_of, mean_of

SETTLED = 0.05  # of the distance to real images: a training that gains less has settled
BY_CHANCE = 0.05  # of new images lie nearer to a training image than 95 % of held-out ones do


def sampler_against_network(frame: pd.DataFrame) -> Finding | None:
    """How much of the error is the sampler's own, and how much the network's?

    The exact denoiser makes no error, so what it scores under a sampler is that sampler's own.
    """
    both = frame[frame["exact_value"].notna()]
    if both.empty:
        return None
    everything = points(both)
    leader = best(everything).label
    line = [point for point in everything if point.label == leader]
    ends = line if len(line) < 2 else [line[0], line[-1]]
    told = {point.steps: _network_error(both, point) for point in ends}
    where = [at_steps([point.steps], point.unit) for point in ends]
    exact = listed(
        f"{number(told[point.steps].exact)} {there}"
        for point, there in zip(ends, where, strict=True)
    )
    found = listed(number(point.mean) for point in ends)
    adds = listed(
        f"{estimate(each.network, each.low, each.high)}"
        + ("" if each.is_clear else ", which may be luck")
        for each in told.values()
    )
    last = told[ends[-1].steps]
    words = (
        f"With {line[0].schedule} and {line[0].sampler}, the exact denoiser has {quantity(frame)} "
        f"{exact}, which is the sampler's own error; the trained network has {found}, "
        f"so the network adds {adds}"
    )
    clear = all(each.is_clear for each in told.values())
    return Finding(
        "How much of the error is the sampler's, and how much the network's?", sentence(words),
        sorted({key for each in told.values() for key in each.keys}), last.network, last.low,
        last.high, "measured" if clear else "inconclusive", ends[-1].seeds,
        "" if clear else "more images per cell",
    )  # fmt: skip


def distance_to_real_images(frame: pd.DataFrame) -> Finding | None:
    """Can the best images be told from real ones?"""
    everything, floor = points(frame), floor_of(frame)
    if not everything or not is_known(floor):
        return None
    leader = best(everything)
    distance = leader.mean - floor
    reach = Z * float(np.hypot(leader.error, floor_error(frame, leader)))
    low, high = distance - reach, distance + reach
    is_apart = low > 0 if leader.lower_is_better else high < 0
    verb = "can still" if is_apart else "cannot"
    words = (
        f"The best images, {described(leader)}, {verb} be told from real held-out images: "
        f"{quantity(frame)} {number(leader.mean)} against {number(floor, 2)}, "
        f"a distance of {estimate(distance, low, high)}"
    )
    if not is_known(reach):
        words = (
            f"The best images, {described(leader)}, reach {quantity(frame)} {number(leader.mean)} "
            f"against {number(floor, 2)} for real held-out images, with no error to judge it by"
        )
    scale = _scale(frame, leader)
    words += f" (for scale: {scale})" if scale else ""
    return Finding(
        "Can the best images be told from real ones?", sentence(words), list(leader.keys), distance,
        low, high, "worse" if is_apart else "inconclusive", leader.seeds,
        "" if is_apart else "more images, generated and held out",
    )  # fmt: skip


def _scale(frame: pd.DataFrame, leader: Point) -> str:
    """What real images score that are a little damaged, as many as the leader has."""
    own = frame[frame["key"].isin(leader.keys)]
    known = [
        f"{number(mean)} {damage.words}"
        for name, damage in DAMAGES.items()
        if is_known(mean := float(own[name].mean()))
    ]
    return f"real images score {listed(known)}" if known else ""


def training_long_enough(frame: pd.DataFrame) -> Finding | None:
    """Was the training long enough?

    The same cell, sampled from the same noise with the network as it was a tenth before the end of
    its training: networks that still improve may change places with longer training.
    """
    rows = frame[frame["checkpoint"].notna()]
    if rows.empty:
        return None
    floor = floor_of(frame)
    gains = {str(name): _last_tenth(group, floor) for name, group in rows.groupby("trained")}
    ways = listed(dict.fromkeys(f"{point.sampler} {at_steps([point.steps], point.unit)}" for point
                                in points(rows)))  # fmt: skip
    of_what = " of its distance to real images" if is_known(floor) else ""
    parts = listed(
        f"by {number(gain.change)} (an improvement by "
        f"{estimate(100 * gain.share, 100 * gain.low, 100 * gain.high)} %{of_what}) under {trained}"
        for trained, gain in gains.items()
    )
    words = f"The last tenth of the training moved {quantity(frame)} ({ways}) {parts}"
    improving = [trained for trained, gain in gains.items() if gain.low > 0 < gain.share - SETTLED]
    unclear = [trained for trained, gain in gains.items()
               if trained not in improving and not gain.high <= SETTLED]  # fmt: skip
    if improving:
        words += (
            f": {listed(improving)} {'was' if len(improving) == 1 else 'were'} still learning, so "
            "longer training would help and may change the comparison of schedules"
        )
    elif not unclear:
        words += f": none was still improving by more than {number(100 * SETTLED, 2)} %"
    else:
        words += f": whether {listed(unclear)} had settled is not clear"
    largest = max(gains.values(), key=lambda gain: gain.share)
    return Finding(
        "Was the training long enough?", sentence(words), sorted(rows["key"]), largest.share,
        largest.low, largest.high, "inconclusive" if unclear and not improving else "measured",
        int(rows["seed"].nunique()),
        "more images per cell" if unclear and not improving else "",
    )  # fmt: skip


def memorisation(frame: pd.DataFrame) -> Finding | None:
    """Are images copies of training images?

    The share of images that lie nearer to a training image than 95 % of held-out ones do.
    """
    known = points(frame[frame["memorisation"].notna()])
    if not known:
        return None
    shares = {point.keys: _mean_of(frame, point, "memorisation") for point in known}
    leader, most = best(known), max(known, key=lambda point: shares[point.keys][0])
    share, error = shares[leader.keys]
    low, high = share - Z * error, share + Z * error
    words = (
        f"Of the best images, {described(leader)}, {number(100 * share, 2)} % lie nearer to a "
        f"training image than all but 5 % of real held-out images do"
    )
    if low > BY_CHANCE:
        words += ", which is more than chance: the network repeats what it was trained on"
    elif high <= 2 * BY_CHANCE:
        words += ", no more than new images would: no sign of copies"
    else:
        words += f", where sampling error allows {number(100 * max(low, 0), 2)} to "
        words += f"{number(100 * high, 2)} %"
    if most is not leader and shares[most.keys][0] > share:
        words += f"; the most of all ways is {number(100 * shares[most.keys][0], 2)} %, "
        words += described(most)
    is_clear = low > BY_CHANCE or high <= 2 * BY_CHANCE
    return Finding(
        "Are the images copies of training images?", sentence(words), list(leader.keys), share,
        low, high, ("worse" if low > BY_CHANCE else "measured") if is_clear else "inconclusive",
        leader.seeds, "" if is_clear else "more images per cell",
    )  # fmt: skip


def variety_against_fidelity(frame: pd.DataFrame) -> Finding | None:
    """Do faithful images cost variety?

    Precision is the share of images that look real, recall the share of real ones that are covered;
    held against each other between the ways with the most steps.
    """
    known = points(frame[frame["precision"].notna() & frame["recall"].notna()])
    if not known:
        return None
    steps = max(point.steps for point in known)
    there = [point for point in known if point.steps == steps]
    if len(there) < 2:
        return None
    faithful, varied = (
        max(there, key=lambda point: (_mean_of(frame, point, name)[0], point.label))
        for name in ("precision", "recall")
    )
    where = at_steps([steps], faithful.unit)
    if faithful is varied:
        words = (
            f"Of all ways {where}, {faithful.label} has both the highest precision "
            f"({_measured(frame, faithful, 'precision')}) and the highest recall "
            f"({_measured(frame, faithful, 'recall')}): fidelity costs no variety here"
        )
        return Finding(
            "Do faithful images cost variety?", sentence(words), list(faithful.keys),
            n=faithful.seeds,
        )  # fmt: skip
    gaps = [_gap(frame, faithful, varied, "precision"), _gap(frame, varied, faithful, "recall")]
    is_clear = all(low > 0 for _, low, _ in gaps)
    words = (
        f"Of all ways {where}, {faithful.label} is the most faithful (precision "
        f"{_measured(frame, faithful, 'precision')}, recall {_measured(frame, faithful, 'recall')})"
        f" and {varied.label} the most varied ({_measured(frame, varied, 'precision')} and "
        f"{_measured(frame, varied, 'recall')})"
    )
    words += (
        ": fidelity costs variety" if is_clear else ", but not both differences are more than luck"
    )
    effect, low, high = gaps[0]
    return Finding(
        "Do faithful images cost variety?", sentence(words), sorted({*faithful.keys, *varied.keys}),
        effect, low, high, "measured" if is_clear else "inconclusive", faithful.seeds,
        "" if is_clear else "more images per cell",
    )  # fmt: skip


@dataclass(frozen=True)
class _Gain:
    """What the last tenth of the trainings under one schedule did: the change of the measure, and
    the share of its distance to real images that it took away, with 95 % bounds."""

    change: float
    share: float
    low: float
    high: float


def _last_tenth(rows: pd.DataFrame, floor: float) -> _Gain:
    """On the models at hand, paired image by image where both tell how far each moves them."""
    each: Iterable[Any] = rows.itertuples()
    changes = rows["centre"] - rows["checkpoint"]
    errors = [
        paired_error(row.influence, row.checkpoint_influence)
        if row.influence is not None and row.checkpoint_influence is not None
        else 2**0.5 * row.error
        for row in each
    ]
    change = float(changes.mean())
    reach = Z * float(np.sqrt(np.sum(np.square(errors)))) / len(errors)
    lower_is_better = bool(rows["lower_is_better"].iloc[0])
    before = float(rows["checkpoint"].mean())
    left = before - floor if is_known(floor) else before if lower_is_better else -before
    share = -change / left
    return _Gain(change, share, share - reach / abs(left), share + reach / abs(left))


def _mean_of(frame: pd.DataFrame, point: Point, name: str) -> tuple[float, float]:
    """The mean of another measure over a point's cells, and its error on these models."""
    return mean_of(frame[frame["key"].isin(point.keys)], name)


def _measured(frame: pd.DataFrame, point: Point, name: str) -> str:
    mean, error = _mean_of(frame, point, name)
    return estimate(mean, mean - Z * error, mean + Z * error)


def _gap(frame: pd.DataFrame, one: Point, other: Point, name: str) -> tuple[float, float, float]:
    """How much more one has than the other, with 95 % bounds, their errors taken as independent."""
    (first, error), (second, its_error) = (_mean_of(frame, point, name) for point in (one, other))
    reach = Z * float(np.hypot(error, its_error))
    return first - second, first - second - reach, first - second + reach


@dataclass(frozen=True)
class _Split:
    """What the exact denoiser scores in a point's way, and what the network adds to it."""

    exact: float
    network: float
    low: float
    high: float
    keys: tuple[str, ...]

    @property
    def is_clear(self) -> bool:
        return self.low > 0 or self.high < 0


def _network_error(frame: pd.DataFrame, point: Point) -> _Split:
    """On the models at hand, with all errors taken as independent: on the safe side, since both
    start from the same noise."""
    rows = frame[frame["key"].isin(point.keys)]
    once = rows.drop_duplicates("exact_key")
    exact = float(rows["exact_value"].mean())
    error = float(np.sqrt((once["exact_error"] ** 2).sum()) / len(once))
    reach = Z * float(np.hypot(point.error, error))
    added = point.mean - exact
    keys = (*point.keys, *sorted(once["exact_key"]))
    return _Split(exact, added, added - reach, added + reach, keys)
