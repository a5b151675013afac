import os
import signal

import pytest

from harness.contracts.check import check
from harness.contracts.foreign import blaming_others
from harness.diffusion.samplers import SAMPLERS
from harness.errors import BadOption, Ended
from harness.execute.here import outcome_of
from harness.execute.interrupt import Interruption, ending_in_order, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("9m", 540), ("1h30m", 5400), ("0.5h", 1800), ("1h1m1s", 3661)],
)
def test_lengths_of_time_are_read(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "9x", "m", "9 minutes", "-5m", "5m3", "1e3"])
def test_what_is_no_length_of_time_is_refused(text):
    with pytest.raises(BadOption, match="no length of time"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_asks_the_work_to_stop(number, status):
    said = []
    with Interruption(None, said.append) as interruption:
        assert not interruption.should_stop()
        os.kill(os.getpid(), number)
        assert interruption.should_stop()
        assert interruption.should_stop()
    assert interruption.status == status
    assert len(said) == 1
    assert "Stopping" in said[0]


def test_a_second_ctrl_c_ends_the_program():
    with Interruption(None, lambda text: None):
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGHUP])
def test_a_system_that_asks_twice_is_answered_once_and_ctrl_c_still_ends_the_program(first):
    with Interruption(None, lambda text: None) as interruption:
        for number in (first, first, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert interruption.status == 128 + first
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_program_under_nohup_outlives_its_terminal():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption(None, lambda text: None) as interruption, ending_in_order():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interruption.should_stop()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_outside_of_the_work_a_signal_ends_the_program_as_an_error_does(number):
    tidied = []
    with pytest.raises(SystemExit) as ended, ending_in_order():  # noqa: PT012
        try:
            os.kill(os.getpid(), number)
        finally:
            tidied.append(True)
    assert ended.value.code == 128 + number
    assert tidied


def kill_ourselves(*_, **__):
    os.kill(os.getpid(), signal.SIGTERM)


def while_blamed():
    with SAMPLERS.blamed("ddim"):
        kill_ourselves()


def while_tried():
    with blaming_others([], []):
        kill_ourselves()


@pytest.mark.parametrize(
    "work",
    [
        while_blamed,
        while_tried,
        lambda: outcome_of(kill_ourselves, None, None, None),
        lambda: check(None, "sampler ddim", "is fine", 0, kill_ourselves),
    ],
)
def test_a_signal_is_no_failure_of_what_was_at_work(work):
    with pytest.raises(Ended) as ended, ending_in_order():
        work()
    assert ended.value.code == 128 + signal.SIGTERM


def test_the_old_handlers_come_back():
    before = signal.getsignal(signal.SIGINT)
    with Interruption(None, lambda text: None):
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


def test_work_ends_early_enough_for_what_follows_it(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("harness.execute.interrupt.time.monotonic", lambda: now[0])
    interruption = Interruption(60.0, lambda text: None)
    assert not interruption.keep(30.0)  # it would leave the work too little
    assert interruption.keep(10.0)
    now[0] += 35
    assert not interruption.should_stop()
    assert not interruption.has_kept_time
    now[0] += 10
    assert interruption.should_stop()
    assert interruption.status == 75
    assert interruption.has_kept_time
    now[0] += 6  # it took so long to save
    assert not interruption.has_kept_time
    assert not Interruption(None, lambda text: None).should_stop()


def test_time_runs_out_with_a_status_of_its_own():
    with Interruption(1e-9, lambda text: None) as interruption:
        assert interruption.should_stop()
    assert interruption.status == 75
