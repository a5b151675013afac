"""Which of several ways to compute a training is taken, by what each is said to take; and a real
probe."""

from contextlib import contextmanager
from dataclasses import replace

import made
import pytest
import torch

from harness.engine import fastest as module
from harness.engine.fastest import MARGIN, Subject, fastest
from harness.execute import machine
from harness.execute.others import Others, Watch
from harness.models.presets import tiny
from harness.work.execution import Format

CPU = torch.device("cpu")
SUBJECT = Subject(tiny(widths=(8,), attention=()), (16, 1, 8, 8), CPU)
FULL, HALF = Format("float32", False), Format("bfloat16", False)
FULL_LAST, HALF_LAST = Format("float32", True), Format("bfloat16", True)
RULE = replace(made.EXECUTION, format=HALF, rule_format=HALF, threads=1, rule_threads=1)


@pytest.fixture
def at(monkeypatch):
    """The choice on a machine that takes so many seconds in each format and with more threads than
    one so much of that, beside others that are at work or not."""

    def at(seconds, more=1.0, rule=RULE, counts=(1,), is_busy=False):
        @contextmanager
        def watched():
            yield lambda: is_busy

        def taken(step, device, threads, own=True):
            return seconds[step] * (1.0 if threads == 1 else more)

        monkeypatch.setattr(module, "PROBE_SECONDS", 0.0)
        monkeypatch.setattr(module, "watched", watched)
        monkeypatch.setattr(module, "step_on", lambda of, format, images: format)
        monkeypatch.setattr(module, "step_seconds", taken)
        return fastest(SUBJECT, rule, list(seconds), counts)

    return at


def test_the_fastest_is_taken_with_what_it_gains(at):
    found = at({HALF: 2.0, FULL: 1.5, FULL_LAST: 1.0, HALF_LAST: 3.0})
    assert (found.format, found.gain, found.is_rule) == (FULL_LAST, 2.0, False)
    assert found.said() == (
        "tiny at 8x8 is computed in float32, channels last, 1 thread: 2.00 times as fast here "
        "as in bfloat16, 1 thread"
    )


def test_what_is_as_fast_within_the_margin_leaves_the_rule(at):
    found = at({HALF: 1.0, FULL: 1.01 / MARGIN})
    assert (found.format, found.gain, found.is_rule) == (HALF, 1.0, True)
    assert at({HALF: 1.0, FULL: 0.99 / MARGIN}).format == FULL


def test_threads_are_chosen_after_the_format_and_gains_multiply(at):
    seconds = {HALF: 0.2, FULL: 0.1}
    found = at(seconds, more=0.5, counts=(1, 2))
    assert (found.format, found.threads, found.gain) == (FULL, 2, 4.0)
    assert at(seconds, more=2.0, counts=(1, 2)).threads == 1
    both = replace(RULE, threads=2, rule_threads=2)
    assert at(seconds, more=2.0, rule=both, counts=(2, 1)).threads == 1


def test_of_a_network_that_is_too_large_for_a_probe_nothing_is_told(at):
    assert at({HALF: 2 * module.TOO_LONG, FULL: 1.0}) is None


def test_on_a_busy_machine_threads_are_by_rule_and_of_several_nothing_can_be_told(at):
    seconds = {HALF: 0.2, FULL: 0.1}
    found = at(seconds, more=0.1, counts=(1, 2), is_busy=True)
    assert (found.format, found.threads, found.gain) == (FULL, 1, 2.0)
    assert at(seconds, rule=replace(RULE, threads=2), counts=(2, 1), is_busy=True) is None


def test_a_gpu_leaves_the_rule_for_what_is_clearly_faster_alone(at, monkeypatch):
    """It is compared uncompiled, and a run compiles."""
    monkeypatch.setitem(globals(), "SUBJECT", replace(SUBJECT, device=torch.device("cuda")))
    rule = replace(RULE, threads=None, rule_threads=None)
    assert at({HALF: 1.2, HALF_LAST: 1.0}, rule=rule, counts=()).is_rule
    found = at({HALF: 1.3, HALF_LAST: 1.0}, rule=rule, counts=())
    assert found.format == HALF_LAST
    assert "thread" not in found.said()


def test_real_steps_are_timed_and_leave_no_trace():
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    found = fastest(SUBJECT, RULE, [HALF, FULL], [1, 2])
    assert found.format in (HALF, FULL)
    assert found.gain >= 1
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)
    assert fastest(SUBJECT, RULE, [HALF], [1], lambda seconds: False) is None


def test_another_program_at_work_is_noticed(monkeypatch):
    for cores, is_busy in ((0.0, False), (0.1, False), (1.0, True)):
        seen = Others(cores / machine.cores(), 0.0, None)
        monkeypatch.setattr(Watch, "others", lambda self, seen=seen: seen)
        with module.watched() as others:
            pass
        assert others() == is_busy
