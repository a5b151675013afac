"""Looking until all is decided: when it stops, what each look adds, and that it goes on."""

from types import SimpleNamespace

import made
import numpy as np
import pytest

from harness.analysis.questions import questions
from harness.analysis.study import Study
from harness.jobs import Summary
from harness.until import until_decided
from harness.work.options import Until

KID = {"linear": 0.13, "cosine": 0.08, "quad": 0.9}
LUCK = 0.03 * np.array([1, -1, 0, 0.3, -0.3, 0.7, -0.7, 0, 0.1, -0.1, 0.2, -0.2])  # of 12 seeds


def clear(cell):
    """Far apart by schedule, whatever the seed."""
    return KID[str(cell.training.schedule)] + 0.02 * LUCK[cell.training.seed]


def vague(cell):
    """Linear and cosine are nearer than the first seeds vary, and are told apart by more."""
    name, seed = str(cell.training.schedule), cell.training.seed
    return KID[name] + {"linear": LUCK, "cosine": -LUCK, "quad": 5 * LUCK}[name][seed]


class MadeUp:
    """A run without networks, which remembers what was asked of it."""

    def __init__(self, value, status=0, seconds=100.0):
        self.value, self.status, self.seconds = value, status, seconds
        self.worked, self.looks, self.reported = [], [], []

    def work(self, cells, looks):
        self.worked.append(list(cells))
        self.looks.append(tuple(looks))
        return Summary(len(cells), done=len(cells), status=self.status)

    def study(self, cells, looks):
        assert not self.status, "what failed is no look"
        measured = [made.result(one, kid=made.measured(self.value(one))) for one in cells]
        return Study(tuple(measured), looks=tuple(looks))

    def report(self, cells, looks, summary):
        self.reported.append((list(cells), tuple(looks)))
        return summary

    def cost(self, cells):
        done = {cell for each in self.worked for cell in each}
        return self.seconds * len({*cells} - done)

    def question(self):
        [asked] = questions(self.study(*self.reported[-1]))
        return asked


def grid(schedules=("linear", "cosine"), seeds=(0,)):
    return [made.cell(schedule, seed=seed) for schedule in schedules for seed in seeds]


def go(run, cells=None, **limits):
    """The summary and what was said."""
    said = []
    screen = SimpleNamespace(say=said.append)
    return until_decided(cells or grid(), Until(**limits), run, screen), "\n".join(said)


def seeds_of(cells, schedule="linear"):
    return {cell.training.seed for cell in cells if str(cell.training.schedule) == schedule}


def test_it_stops_at_the_look_that_decides():
    run = MadeUp(clear)
    summary, said = go(run)
    assert len(run.worked) == len(run.reported) == 1
    assert seeds_of(run.worked[0]) == {0, 1, 2}
    assert len(run.reported[0][1]) == 1
    assert run.question().best == ("cosine",)
    assert "cosine (decided at look 1)" in said
    assert summary.status == 0


def test_what_is_open_gets_more_seeds_until_it_is_decided():
    run = MadeUp(vague)
    _, said = go(run)
    assert 1 < len(run.worked) <= 4
    assert run.question().best == ("cosine",)
    for before, after in zip(run.worked, run.worked[1:], strict=False):
        assert {*before} < {*after}
    assert [len(looks) for looks in run.looks] == [*range(1, len(run.looks) + 1)]
    assert run.reported == [(run.worked[-1], run.looks[-1])]
    assert "The next look adds" in said


def test_a_level_that_lost_gets_no_more_seeds():
    run = MadeUp(vague)
    go(run, grid(("linear", "cosine", "quad")))
    assert seeds_of(run.worked[-1], "quad") == {0, 1, 2} < seeds_of(run.worked[-1], "cosine")


def test_it_stops_where_its_limit_of_seeds_is_reached():
    run = MadeUp(vague)
    _, said = go(run, most_seeds=3)
    assert len(run.worked) == 1
    assert not run.question().is_decided
    assert "limits" in said


def test_it_stops_where_more_would_decide_nothing():
    run = MadeUp(lambda cell: 0.2 * (1 + 0.001 * cell.training.seed))
    go(run)
    assert len(run.worked) == 1
    assert not run.question().is_decided


def test_no_look_is_begun_that_goes_beyond_the_time():
    run = MadeUp(vague)
    _, said = go(run, most_seconds=150.0)  # the next look takes more
    assert len(run.worked) == 1
    assert "--at-most" in said
    assert len(run.reported) == 1
    more = MadeUp(vague)
    go(more, most_seconds=1e6)
    assert len(more.worked) > 1


def test_a_look_whose_cost_is_not_known_is_begun():
    run = MadeUp(vague)
    run.cost = lambda cells: None
    go(run, most_seconds=60.0)
    assert len(run.worked) > 1


@pytest.mark.parametrize("status", [1, 75, 130])
def test_a_look_that_failed_or_was_stopped_is_the_last_and_gives_the_status(status):
    run = MadeUp(vague, status=status)
    summary, _ = go(run)
    assert summary.status == status
    assert len(run.worked) == len(run.reported) == 1


def test_without_a_number_there_is_nothing_to_look_at():
    run = MadeUp(vague)
    run.study = lambda cells, looks: None
    go(run)
    assert len(run.worked) == len(run.reported) == 1


def test_the_same_command_goes_on_where_it_stopped():
    """The looks are taken again from the first, of what was done, and end as they would have."""
    whole, halted = MadeUp(vague), MadeUp(vague)
    go(whole)
    go(halted, most_seconds=150.0)
    assert len(halted.worked) == 1
    go(halted)
    assert halted.worked[1:] == whole.worked
    assert halted.reported[-1] == whole.reported[-1]


def test_a_grid_that_varies_nothing_is_looked_at_once():
    run = MadeUp(clear)
    _, said = go(run, grid(("cosine",)))
    assert len(run.worked) == 1
    assert "nothing to decide" in said
