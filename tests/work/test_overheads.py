"""What a run takes beside its work: measured while it goes on, and kept for the next."""

import pytest

from harness.work import overheads
from harness.work.overheads import USUAL, Overheads, Stopwatch


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    now = [100.0]
    monkeypatch.setattr(overheads.time, "monotonic", lambda: now[0])

    def passes(seconds):
        now[0] += seconds

    return passes


def test_each_part_is_what_the_clock_says_less_the_work(clock):
    watch = Stopwatch(start=20.0)
    watch.lap()
    assert not watch
    clock(30)
    watch.trained(work=20)
    clock(9)
    watch.scored(work=2)  # the first, before which everything is loaded
    for _ in range(3):
        clock(3)
        watch.scored(work=2)
    clock(30)
    watch.reported(cells=100)
    found = watch.overheads(Overheads(1, 1, 1, 1, report=5, report_cell=0.1))
    assert found == Overheads(20, 10, scoring=6, cell=1, report=10, report_cell=0.2)
    assert found.seconds(rounds=2, cells=4, reported=100) == 20 + 20 + 6 + 4 + 30


def test_what_was_not_measured_is_as_before(clock):
    watch = Stopwatch()
    watch.lap()
    clock(1)
    watch.trained(work=50)  # it went on from an earlier run
    assert watch.overheads(USUAL) == USUAL


def test_a_machine_that_starts_slowly_is_taken_to_be_slow_in_all():
    slow = USUAL.started_in(2 * USUAL.start)
    assert slow.start == 2 * USUAL.start
    assert slow.report == 2 * USUAL.report
    assert USUAL.started_in(1e6).report <= 4 * USUAL.report
    assert USUAL.started_in(None) == USUAL


def test_what_is_kept_is_read_back_and_what_is_damaged_is_none():
    assert Overheads.from_json(vars(USUAL)) == USUAL
    assert Overheads.from_json({"start": 1}) is None
    assert Overheads.from_json(vars(USUAL) | {"cell": "soon"}) is None
