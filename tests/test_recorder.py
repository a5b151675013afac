"""Recording while the tracking store is away for some of its calls, or all of them."""

import shutil
from collections import Counter

import made
import pytest
from mlflow import MlflowClient

from harness.errors import TrackerAway
from harness.execute.progress import Progress
from harness.plan.grid import expand, load_grid
from harness.store import Store
from harness.tracking import Tracker
from harness.tracking.client import ClientRuns
from harness.tracking.recorder import Recorder
from harness.work.cells import Asked
from harness.work.results import Failure


class Flaky:
    """MLflow's client, away at some of its calls: before they are done, or before the answer."""

    def __init__(self, client, is_away, loses):
        self.client, self.is_away, self.loses, self.calls = client, is_away, loses, 0

    def __getattr__(self, name):
        def call(*arguments, **keywords):
            self.calls += 1
            is_away = self.is_away(self.calls)
            if is_away and not self.loses:
                raise TrackerAway("it does not answer")
            found = getattr(self.client, name)(*arguments, **keywords)
            if is_away:
                raise TrackerAway("its answer was lost")
            return found

        return call


@pytest.fixture
def cells(grid_file):
    return expand(load_grid(grid_file))[:3]


@pytest.fixture
def recorder(store_folder, database, monkeypatch):
    """Makes one of a tracker that is away at the calls for which a function says so."""
    monkeypatch.setattr("harness.tracking.recorder.FIRST_WAIT", 0.0)
    monkeypatch.setattr("harness.tracking.recorder.LONGEST_WAIT", 0.0)
    monkeypatch.setattr("harness.tracking.recorder.AT_THE_END", (0.0,) * 5)

    def make(is_away=lambda number: False, loses=False, folder=store_folder):
        folder.mkdir(exist_ok=True)
        if not (folder / "mlflow.db").exists():
            shutil.copy(database, folder / "mlflow.db")
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        tracker = Tracker(uri, "small", folder / "artifacts", "mine", folder)
        client = Flaky(tracker._client, is_away, loses)
        tracker.__dict__ |= {"_client": client, "_source": ClientRuns(client)}
        told = []
        made_of_it = Recorder(tracker, Store(folder), "small", told.append)
        return made_of_it, client, told

    return make


def work_on(recorder, cells, last=None):
    """What a run does: a training with its progress, cells, one of which may fail at the end."""
    store, training = recorder.store, cells[0].training
    recorder.open("name: small", Asked.of(cells), {})
    for step in (5, 10):
        progress = Progress(step, 10, {"loss": 1.0 / step}, {"a.png": b"png"})
        recorder.progress(training, progress, 3.0)
    for result in (made.trained(training), *(made.result(cell, kid=0.1) for cell in cells)):
        store.keep(result)
        recorder.ended(result.work, last if last and result.work == cells[-1] else result, 1.0)
    recorder.close("FINISHED")


def runs_of(store_folder):
    client = MlflowClient(f"sqlite:///{store_folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("small")
    return client.search_runs([experiment.experiment_id]) if experiment else []


def check(store_folder, cells):
    """Each piece of work is recorded once, with its numbers, and nothing is under way."""
    runs = runs_of(store_folder)
    assert not [run for run in runs if run.info.status == "RUNNING"]
    done = [run for run in runs if run.info.status == "FINISHED"]
    keys = Counter(run.data.tags.get("harness.key") for run in done)
    assert keys == dict.fromkeys((None, cells[0].training.key, *(c.key for c in cells)), 1)
    for run in done:
        if run.data.tags["harness.kind"] == "cell":
            assert run.data.metrics["kid"] == 0.1
            assert run.data.params["sampler"]


@pytest.fixture
def calls(recorder, cells, store_folder):
    """How many calls a run makes that nothing disturbs."""
    one, client, told = recorder()
    work_on(one, cells)
    check(store_folder, cells)
    assert told == []
    return client.calls


@pytest.mark.parametrize("loses", [False, True], ids=["not done", "answer lost"])
def test_away_at_any_call_for_a_while(recorder, cells, tmp_path, calls, loses):
    for first in range(1, calls + 1, 3):
        folder = tmp_path / str(first)

        def is_away(number, first=first):
            return first <= number < first + 3

        one, _, told = recorder(is_away, loses, folder)
        work_on(one, cells)
        check(folder, cells)
        assert not one.owed
        assert "is back" in told[-1]


def test_away_for_good_owes_everything_and_the_next_run_pays(recorder, cells, store_folder):
    one, _, told = recorder(lambda number: True)
    work_on(one, cells)
    assert {*one.owed} == {cells[0].training.key, *(cell.key for cell in cells)}
    assert "4 results are not recorded" in told[-1]
    assert runs_of(store_folder) == []
    assert len(one.read(Asked.of(cells)).cells) == 3
    assert one.asked() == Asked({}, ())  # the store was told of no grid
    again, _, told = recorder()
    again.open("name: small", Asked.of(cells), {})
    for work in (cells[0].training, *cells):
        again.ended(work, again.store.result(work), is_reused=True)
    again.close("FINISHED")
    check(store_folder, cells)


def test_work_done_again_while_it_was_away_is_recorded_by_the_next_run(
    recorder, cells, store_folder
):
    """Not taken for what was recorded of it before."""
    one, _, _ = recorder()
    work_on(one, cells)
    away, client, _ = recorder()
    away.open("name: small", Asked.of(cells), {})
    client.is_away = lambda number: True
    again = made.result(cells[0], kid=0.9)
    away.superseded([again.work.key])
    away.store.keep(again)
    away.ended(again.work, again, 3.0, retries=2)
    away.close("FINISHED")
    assert away.is_owing
    later, _, told = recorder()
    assert again.work.key not in later.finished()
    later.open("name: small", Asked.of(cells), {})
    later.ended(again.work, again, is_reused=True)
    later.close("FINISHED")
    assert told == []
    assert not later.is_owing
    [kid] = [one.measurements["kid"].value for one in later.read(Asked.of(cells[:1])).cells]
    assert kid == 0.9
    assert again.work.key in recorder()[0].finished()
    [run] = [
        run
        for run in runs_of(store_folder)
        if run.data.tags.get("harness.key") == again.work.key and run.info.status == "FINISHED"
    ]
    assert run.data.tags["harness.retries"] == "2"
    assert "harness.reused" not in run.data.tags


@pytest.mark.parametrize("loses", [False, True], ids=["not done", "answer lost"])
def test_work_that_was_tried_again_or_made_again_counts_once(recorder, cells, tmp_path, loses):
    for first in range(1, 12):
        one, client, _ = recorder(folder=tmp_path / str(first))
        work_on(one, cells)
        one.open("name: small", Asked.of(cells), {})
        one.progress(cells[0].training, Progress(1, 10, {"loss": 1.0}), None)  # it has a run again
        start = client.calls + first
        client.is_away, client.loses = (lambda n, start=start: start <= n < start + 2), loses
        one.ended(cells[0].training, one.store.result(cells[0].training), retries=1)
        one.ended(cells[0], one.store.result(cells[0]), retries=1)
        one.close("FINISHED")
        client.is_away = lambda number: False
        assert {cells[0].key, cells[0].training.key} <= one.tracker.finished().keys()
        assert not one.is_owing


def test_a_run_whose_end_could_not_be_told_is_ended_by_the_next(recorder, cells, store_folder):
    one, client, _ = recorder()
    one.open("name: small", Asked.of(cells), {})
    client.is_away = lambda number: True
    one.close("FINISHED")
    assert one.is_owing
    later, _, _ = recorder()
    assert not later.has_grid("name: small", Asked.of(cells))
    later.open("name: small", Asked.of(cells), {})
    later.close("FINISHED")
    assert later.has_grid("name: small", Asked.of(cells))
    assert [run.info.status for run in runs_of(store_folder)] == ["FINISHED"]


def test_what_failed_while_it_was_away_is_told_later(recorder, cells, store_folder):
    one, _, _ = recorder(lambda number: 1 <= number < 6)
    work_on(one, cells, Failure("it broke", "Traceback"))
    [failed] = [run for run in runs_of(store_folder) if run.info.status == "FAILED"]
    assert failed.data.tags["harness.reason"] == "it broke"


def test_live_numbers_are_as_seldom_as_the_store_is_slow(recorder, cells, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("harness.tracking.recorder.time.monotonic", lambda: clock[0])
    one, _, _ = recorder()
    one.open("name: small", Asked.of(cells), {})
    told = []

    def slowly(run_id, step, values):
        told.append(step)
        clock[0] += 2.0

    monkeypatch.setattr(one.tracker, "progress", slowly)
    for second in range(200):
        clock[0] = max(clock[0], float(second))
        one.progress(cells[0].training, Progress(second, 200, {"loss": 1.0}), None)
    assert len(told) <= 0.05 * 200 / 2 + 1
