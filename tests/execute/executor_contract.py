"""What every executor must do. A test class derives from this and gives the fixture `execute`."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from harness.errors import DataError, DiskFull
from harness.execute.progress import Progress, Stopped
from harness.work.options import Workplace
from harness.work.results import Failure

AT = Workplace(Path("the store"), Path("the data"))


def work(job, at, report):
    """A job that does what it is called."""
    report(Progress(1, 2, {"half": 0.5}, {"picture.png": b"\x89PNG"}))
    if job == "fail":
        raise ValueError("it broke")
    if job == "refuse":
        raise DataError("no such images")
    if job == "fill":
        raise DiskFull("the disk is full")
    if job == "die":
        os._exit(9)
    if job == "wait":
        for _ in range(600):
            time.sleep(0.05)
            report(Progress(1, 2))
    if job == "slow":
        time.sleep(1)
    return f"{job} done at {at.store}"


def never():
    return False


def ignore(job, progress):
    pass


class ExecutorContract:
    """The fixture `execute` is an Executor, its `workers` already chosen."""

    @pytest.fixture
    def execute(self):
        raise NotImplementedError

    def test_every_job_comes_back_with_its_result(self, execute):
        jobs = ["a", "b", "c"]
        assert dict(execute(work, jobs, AT, ignore, never)) == {
            job: f"{job} done at the store" for job in jobs
        }

    def test_without_jobs_nothing_comes_back(self, execute):
        assert list(execute(work, [], AT, ignore, never)) == []

    def test_a_job_that_fails_does_not_stop_the_others(self, execute):
        outcomes = dict(execute(work, ["fail", "a", "refuse"], AT, ignore, never))
        assert outcomes["a"] == "a done at the store"
        assert outcomes["fail"].reason == "ValueError: it broke"
        assert "in work" in outcomes["fail"].details
        assert outcomes["refuse"] == Failure("no such images")

    def test_progress_with_numbers_and_files_always_arrives(self, execute):
        seen = []
        list(execute(work, ["a"], AT, lambda *told: seen.append(told), never))
        assert ("a", Progress(1, 2, {"half": 0.5}, {"picture.png": b"\x89PNG"})) in seen

    def test_jobs_that_are_asked_to_stop_stop(self, execute):
        began = time.monotonic()
        seen = []
        with pytest.raises(Stopped):
            list(
                execute(
                    work, ["wait", "wait"], AT, lambda job, _: seen.append(job),
                    lambda: len(seen) > 2,
                )
            )  # fmt: skip
        assert time.monotonic() - began < 20

    def test_nothing_begins_once_it_should_stop(self, execute):
        seen = []
        with pytest.raises(Stopped):
            list(execute(work, ["wait"], AT, lambda *told: seen.append(told), lambda: True))
        assert len(seen) <= 1

    def test_trouble_of_the_driver_is_no_failure_of_a_job(self, execute):
        def on_progress(job, progress):
            raise OSError("the tracking server went away")

        with pytest.raises(OSError, match="went away"):
            list(execute(work, ["a", "b"], AT, on_progress, never))

    def test_a_full_disk_ends_the_work_and_is_no_failure_of_a_job(self, execute):
        with pytest.raises(DiskFull, match="is full"):
            list(execute(work, ["fill", "a", "b", "c"], AT, ignore, never))

    def test_a_reader_who_goes_away_ends_the_work(self, execute):
        outcomes = execute(work, ["a", "wait"], AT, ignore, never)
        next(outcomes)
        began = time.monotonic()
        outcomes.close()
        assert time.monotonic() - began < 10
