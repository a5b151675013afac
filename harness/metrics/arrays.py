"""Feature matrices: what every metric asks of them, and answers that are not worked out twice."""

from __future__ import annotations

import hashlib
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.execute.machine import cores, one_numpy_thread

Matrix = NDArray[np.float64]  # two axes
Vector = NDArray[np.float64]  # one axis
Answer = TypeVar("Answer")

HELD = 2**22  # values of a matrix held at once, 32 MB in each of a few copies
WORTH_A_THREAD = 128  # side of a matrix: smaller ones are mostly work of the interpreter
MOST_AT_ONCE = 8  # problems, each of which holds a few copies of its matrix


def remembered(function: Callable[..., Answer]) -> Callable[..., Answer]:
    """Keep the latest answers by the content of the arrays that were asked about.

    The value, the influences and the standard error of one set are three questions about the
    same sums, and a whole grid is held against one reference. Content, unlike identity, cannot
    give a stale answer; to hash n rows is nothing beside the n^2 or d^3 that it saves.
    """
    answers: OrderedDict[tuple[object, ...], Answer] = OrderedDict()

    @wraps(function)
    def ask(*arrays: Matrix) -> Answer:
        contents = [np.ascontiguousarray(array) for array in arrays]
        key = tuple((array.shape, digest(array)) for array in contents)
        answer = answers.pop(key) if key in answers else function(*contents)
        answers[key] = answer
        if len(answers) > 4:
            answers.popitem(last=False)
        return answer

    return ask


def digest(array: Matrix) -> bytes:
    """A hash of the content of a contiguous array. That of a read-only one is worked out once:
    nobody can change it, and the reference of a grid is asked about in every cell."""
    if array.flags.writeable:
        return hashlib.blake2b(array.data).digest()
    known = _digests.get(id(array))
    if known is None or known[0]() is not array:
        alive = weakref.ref(array, partial(_forget, id(array)))
        known = _digests[id(array)] = (alive, hashlib.blake2b(array.data).digest())
    return known[1]


def _forget(name: int, gone: object) -> None:
    _digests.pop(name, None)


_digests: dict[int, tuple[weakref.ref[Matrix], bytes]] = {}


def row_blocks(rows: int, columns: int, held: int = 0) -> Iterator[slice]:
    """Whole rows that together have `held` values (or HELD), so that memory stays bounded."""
    height = max(1, (held or HELD) // columns)
    for start in range(0, rows, height):
        yield slice(start, start + height)


def without_each(group: Callable[[int], float], groups: int, side: int) -> Vector:
    """The value without each group in turn, [groups], from one symmetric problem of this side each.

    Each has one thread of the linear algebra, so that it ends in the same bits on any machine, and
    large ones go side by side: threads within one problem wait for each other longer than they
    work (50 problems of 768 features took 18 processor seconds on two cores, and take 1.5).
    """
    with one_numpy_thread():
        if side < WORTH_A_THREAD:
            return np.array([group(number) for number in range(groups)])
        with ThreadPoolExecutor(min(cores(), MOST_AT_ONCE)) as threads:
            return np.array(list(threads.map(group, range(groups))))


def checked(features: Matrix, reference: Matrix) -> tuple[Matrix, Matrix]:
    """Both sets in float64. Raises ValueError where no distance between them has a meaning."""
    features, reference = np.asarray(features, np.float64), np.asarray(reference, np.float64)
    for name, values in [("features", features), ("reference", reference)]:
        if values.ndim != 2 or values.shape[1] == 0:
            raise ValueError(f"{name} must be [images, features], not of shape {values.shape}")
        if len(values) < 2:
            raise ValueError(f"{name} must hold at least 2 images, not {len(values)}")
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values).all(axis=1)).sum())
            raise ValueError(f"{name} holds values that are not finite, in {bad} images")
    if features.shape[1] != reference.shape[1]:
        raise ValueError(
            f"features have {features.shape[1]} columns and the reference has "
            f"{reference.shape[1]}: they come from two different extractors"
        )
    return features, reference
