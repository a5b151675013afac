"""Where jobs run changes nothing about what comes of them."""

import os
import time

import pytest

from harness.errors import DataError
from harness.runtime.execute import Failure, here
from harness.runtime.progress import Progress, Stopped


def work(job, report):
    """A job that does what it is called."""
    report(Progress(1, 2, {"half": 0.5}))
    if job == "fail":
        raise ValueError("it broke")
    if job == "refuse":
        raise DataError("no such images")
    if job == "die":
        os._exit(9)
    if job == "wait":
        for _ in range(600):
            time.sleep(0.05)
            report(Progress(1, 2))
    return f"{job} done"


def never():
    return False


def ignore(job, progress):
    pass


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_comes_back_with_its_result(workers):
    jobs = ["a", "b", "c"]
    assert dict(here(work, jobs, ignore, never, workers=workers)) == {
        job: f"{job} done" for job in jobs
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_that_fails_does_not_stop_the_others(workers):
    outcomes = dict(here(work, ["fail", "a", "refuse"], ignore, never, workers=workers))
    assert outcomes["a"] == "a done"
    assert outcomes["fail"].reason == "ValueError: it broke"
    assert "in work" in outcomes["fail"].details
    assert outcomes["refuse"] == Failure("no such images")


def test_a_process_that_dies_is_a_failure_and_is_replaced():
    outcomes = dict(here(work, ["die", "a", "b", "c"], ignore, never, workers=2))
    assert "status 9" in outcomes["die"].reason
    assert [outcomes[job] for job in "abc"] == ["a done", "b done", "c done"]


@pytest.mark.parametrize("workers", [1, 2])
def test_progress_with_numbers_always_arrives(workers):
    seen = []
    list(here(work, ["a"], lambda job, p: seen.append((job, dict(p.values))), never, workers))
    assert ("a", {"half": 0.5}) in seen


@pytest.mark.parametrize("workers", [1, 2])
def test_work_that_is_asked_to_stop_stops(workers):
    began = time.monotonic()
    seen = []

    def on_progress(job, progress):
        seen.append(job)

    with pytest.raises(Stopped):
        list(here(work, ["wait", "wait"], on_progress, lambda: len(seen) > 2, workers=workers))
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("workers", [1, 2])
def test_trouble_of_the_driver_is_no_failure_of_a_job(workers):
    def on_progress(job, progress):
        raise OSError("the tracking server went away")

    with pytest.raises(OSError, match="went away"):
        list(here(work, ["a", "b"], on_progress, never, workers=workers))


def test_a_reader_who_goes_away_leaves_no_process_behind():
    outcomes = here(work, ["a", "wait"], ignore, never, workers=2)
    next(outcomes)
    began = time.monotonic()
    outcomes.close()
    assert time.monotonic() - began < 10


def seen(job, report):
    time.sleep(0.3)  # long enough for every worker to get a job
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def test_each_worker_sees_an_environment_of_its_own(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    environments = [{"CUDA_VISIBLE_DEVICES": name} for name in ("0", "1")]
    outcomes = dict(here(seen, range(6), ignore, never, workers=2, environments=environments))
    assert set(outcomes.values()) == {"0", "1"}
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"


def test_a_worker_that_is_replaced_keeps_its_environment(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    environments = [{"CUDA_VISIBLE_DEVICES": name} for name in ("0", "1")]
    jobs = [("die", 0), *(("look", n) for n in range(5))]
    outcomes = dict(here(look_or_die, jobs, ignore, never, workers=2, environments=environments))
    assert isinstance(outcomes["die", 0], Failure)
    assert {outcome for job, outcome in outcomes.items() if job[0] == "look"} == {"0", "1"}
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def look_or_die(job, report):
    if job[0] == "die":
        os._exit(3)
    time.sleep(0.5)
    return os.environ.get("CUDA_VISIBLE_DEVICES")
