"""What every executor must do. A test class derives from this and gives the fixture `execute`."""

from __future__ import annotations

import os
import signal
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
    if job == "exit":
        os._exit(9)
    if str(job).startswith("die"):  # in its first attempts, as many as it says
        name, times, folder = job.split(" ")
        counter = Path(folder) / name
        died = int(counter.read_text()) if counter.exists() else 0
        if died < int(times):
            counter.write_text(str(died + 1))
            os.kill(os.getpid(), signal.SIGKILL)
    if job == "wait":
        for _ in range(600):
            time.sleep(0.05)
            report(Progress(1, 2))
    if job == "slow":
        time.sleep(1)
    return f"{job} done at {at.store}"


def lost_of(seen, job):
    """What was told of the lost attempts of a job."""
    return [progress.lost for one, progress in seen if one == job and progress.lost]


def never():
    return False


def ignore(job, progress):
    pass


class ExecutorContract:
    """The fixture `execute` is an Executor, its `workers` already chosen."""

    HAS_WORKERS = True  # whether jobs run in processes of their own

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

    def test_a_job_whose_process_is_killed_is_tried_again(self, execute, tmp_path):
        if not self.HAS_WORKERS:
            pytest.skip("jobs run in the process that was started")
        job, seen = f"die 2 {tmp_path}", []
        outcomes = dict(execute(work, [job, "a"], AT, lambda *told: seen.append(told), never))
        assert outcomes == {one: f"{one} done at the store" for one in (job, "a")}
        assert len(lost_of(seen, job)) == 2
        assert not lost_of(seen, "a")

    def test_a_job_whose_process_is_always_killed_fails(self, execute, tmp_path):
        if not self.HAS_WORKERS:
            pytest.skip("jobs run in the process that was started")
        job, seen = f"die 9 {tmp_path}", []
        outcomes = dict(execute(work, [job, "a"], AT, lambda *told: seen.append(told), never))
        assert outcomes["a"] == "a done at the store"
        assert "tried 3 times" in outcomes[job].reason
        assert len(lost_of(seen, job)) == 2
        assert (tmp_path / "die").read_text() == "3"

    def test_a_job_that_fails_is_tried_once(self, execute):
        seen = []
        [(_, outcome)] = execute(work, ["fail"], AT, lambda *told: seen.append(told), never)
        assert outcome.reason == "ValueError: it broke"
        assert not lost_of(seen, "fail")

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
