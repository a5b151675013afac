"""Jobs in this process and in worker processes of this machine."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest
from executor_contract import AT, ExecutorContract, ignore, lost_of, never, work

from harness.execute.executor import Lost
from harness.execute.here import Crew, KeptWorkers, here, rest_beside, workers_of
from harness.work.results import Failure


class TestInThisProcess(ExecutorContract):
    HAS_WORKERS = False

    @pytest.fixture
    def execute(self):
        return here


class TestInTwoWorkers(ExecutorContract):
    @pytest.fixture
    def execute(self):
        return partial(here, workers=2)


class TestInKeptWorkers(ExecutorContract):
    @pytest.fixture
    def execute(self):
        with KeptWorkers() as kept:
            yield partial(on_a_processor, kept)


def on_a_processor(execute, function, jobs, at, *rest):
    return execute(function, jobs, replace(at, device="cpu"), *rest, workers=2)


def process_of(job, at, report):
    return os.getpid()


def test_workers_stay_for_the_next_jobs_until_they_are_dismissed_or_their_jobs_given_up():
    with KeptWorkers() as kept:
        do = partial(on_a_processor, kept, process_of)
        first = {process for _, process in do(["a", "b", "c"], AT, ignore, never)}
        assert {process for _, process in do(["d"], AT, ignore, never)} <= first
        given_up = do(["e", "f"], AT, ignore, never)
        next(given_up)
        given_up.close()
        assert not any(map(psutil.pid_exists, first))
        [(_, last)] = do(["g"], AT, ignore, never)
        assert psutil.pid_exists(last)
    assert not psutil.pid_exists(last)


def large(job, at, report):
    return bytes(10**7)  # more than a pipe holds


def test_a_worker_whose_results_nobody_reads_any_more_is_not_waited_for():
    outcomes = here(large, ["a", "b", "c"], AT, ignore, never, workers=2)
    next(outcomes)
    processes = multiprocessing.active_children()
    outcomes.close()
    assert [process.exitcode for process in processes] == [0, 0]  # and none was killed


def begun(job, at, report):
    """The part of a job that is done before its rest."""


def beside(function, jobs, at, on_progress, should_stop):
    with Crew(workers_of(function, at), [{}], on_progress) as crew:
        outcomes = here(begun, jobs, at, on_progress, should_stop)
        yield from rest_beside(outcomes, crew, should_stop)


class TestTheRestBesideOtherJobs(ExecutorContract):
    @pytest.fixture
    def execute(self):
        return beside


def test_few_jobs_wait_for_their_rest_and_one_that_failed_has_none():
    begun_jobs = []

    def first_part(job, at, report):
        begun_jobs.append(job)
        if job == "b":
            raise ValueError("no images")

    jobs = ["slow", "a", "b", "c", "d", "e"]
    with Crew(workers_of(work, AT), [{}], ignore) as crew:
        outcomes = rest_beside(here(first_part, jobs, AT, ignore, never), crew, never)
        job, outcome = next(outcomes)
        assert (job, outcome.reason) == ("b", "ValueError: no images")
        assert next(outcomes)[0] == "slow"
        assert begun_jobs == jobs[: 2 + crew.most]
        assert [job for job, _ in outcomes] == ["a", "c", "d", "e"]


def test_jobs_come_back_in_the_order_in_which_they_end():
    outcomes = here(work, ["slow", "a", "b"], AT, ignore, never, workers=2)
    assert [job for job, _ in outcomes][-1] == "slow"


def test_a_process_that_exits_is_a_failure_and_is_replaced():
    seen = []
    jobs = ["exit", "a", "b", "c"]
    outcomes = dict(here(work, jobs, AT, lambda *told: seen.append(told), never, workers=2))
    assert "status 9" in outcomes["exit"].reason
    assert not lost_of(seen, "exit")
    assert [outcomes[job] for job in "abc"] == [f"{job} done at the store" for job in "abc"]


def output_of(script, text):
    script.write_text(text)
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False,
                          env=os.environ | {"PYTHONPATH": paths})  # fmt: skip
    return done.stdout + done.stderr


def test_a_script_that_starts_a_run_as_soon_as_it_is_read_is_read_once(tmp_path):
    told = output_of(
        tmp_path / "script.py",
        "from executor_contract import AT, ignore, never, work\n"
        "from harness.execute.here import here\n"
        "print(sorted(dict(here(work, ['a', 'b'], AT, ignore, never, workers=2))))\n",
    )
    assert told == "['a', 'b']\n"


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="Windows has no such signals")
def test_a_ctrl_c_while_the_first_process_starts_does_not_end_it(tmp_path):
    told = output_of(
        tmp_path / "script.py",
        "import os, signal\n"
        "from executor_contract import AT, work\n"
        "from harness.execute.here import workers_of\n"
        "worker = workers_of(work, AT)({})\n"
        "os.kill(worker.process.pid, signal.SIGINT)\n"
        "worker.tell('a')\n"
        "print(type(worker.hear()).__name__)\n"
        "worker.tell(None)\n"
        "worker.dismiss()\n",
    )
    assert told == "Progress\n"


def leave(job, at, report):
    raise SystemExit(3)


def test_a_job_that_wants_to_end_the_program_fails_alone():
    outcomes = dict(here(leave, ["a", "b"], AT, ignore, never))
    assert [outcomes[job].reason for job in "ab"] == ["SystemExit: 3"] * 2


def test_a_process_that_is_killed_between_two_jobs_is_replaced():
    outcomes = dict(here(last_words, range(6), AT, ignore, never, workers=2))
    assert outcomes == {job: job for job in range(6)}


def last_words(job, at, report):
    """Does its job, and is killed right after the result was sent, as likely as not before the
    next job comes."""
    if job == 0:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGKILL)).start()
    else:
        time.sleep(0.1)
    return job


def test_of_several_processes_of_a_job_one_that_is_killed_is_none_of_its_failures():
    """As where a training is shared by processes of its own."""
    seen, lost = [], iter([Lost.by_signal(signal.SIGKILL), None])

    def job_of_several(job, at, report):
        if killed := next(lost):
            raise killed
        return "done"

    [(_, outcome)] = here(job_of_several, ["a"], AT, lambda *told: seen.append(told), never)
    assert outcome == "done"
    assert lost_of(seen, "a") == ["its process was killed by SIGKILL (out of memory?)"]


def test_a_signal_without_a_name_is_told_by_its_number():
    assert str(Lost.by_signal(signal.SIGRTMIN + 3)).endswith(f"by signal {signal.SIGRTMIN + 3}")


def seen(job, at, report):
    time.sleep(0.3)  # long enough for every worker to get a job
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def test_each_worker_sees_an_environment_of_its_own(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    environments = [{"CUDA_VISIBLE_DEVICES": name} for name in ("0", "1")]
    outcomes = dict(here(seen, range(6), AT, ignore, never, workers=2, environments=environments))
    assert set(outcomes.values()) == {"0", "1"}
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"


def test_a_worker_that_is_replaced_keeps_its_environment(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    environments = [{"CUDA_VISIBLE_DEVICES": name} for name in ("0", "1")]
    jobs = [("die", 0), *(("look", n) for n in range(5))]
    outcomes = dict(
        here(look_or_die, jobs, AT, ignore, never, workers=2, environments=environments)
    )
    assert isinstance(outcomes["die", 0], Failure)
    assert {outcome for job, outcome in outcomes.items() if job[0] == "look"} == {"0", "1"}
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def look_or_die(job, at, report):
    if job[0] == "die":
        os._exit(3)
    time.sleep(0.5)
    return os.environ.get("CUDA_VISIBLE_DEVICES")
