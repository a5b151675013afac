"""Jobs on Ray clusters whose nodes share no files but by chance."""

import pickle
import platform
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import made
import pytest
from clusters import nodes_of
from executor_contract import AT, ExecutorContract, ignore, never

from harness.engine.courier import Courier
from harness.engine.inputs import image_set
from harness.engine.score import ScoreJob, score
from harness.engine.train import TrainJob, train
from harness.errors import BadOption, DataError, DiskFull, MachineError
from harness.execute import ray as module
from harness.execute import ray_node
from harness.execute.executor import Needs
from harness.execute.here import here
from harness.execute.progress import Stopped
from harness.execute.ray import NoLuggage, RayCluster
from harness.store import Store
from harness.work.cells import Part
from harness.work.options import Workplace
from harness.work.results import Failure


@pytest.fixture(scope="class")
def cluster():
    with nodes_of(2, 2, 2) as nodes, RayCluster(nodes.address) as cluster:
        yield cluster


@pytest.mark.faults
class TestOnRay(ExecutorContract):
    @pytest.fixture
    def execute(self, cluster):
        return cluster

    def test_a_request_that_no_node_can_satisfy_is_refused_at_once(self, execute):
        with pytest.raises(MachineError, match=r"takes 1 GPUs .* they have 0 GPUs and 2 cores"):
            execute.at_once(Needs(gpus=1))
        with pytest.raises(MachineError, match="3 cores"):
            list(execute(never, ["a"], AT, ignore, never, needs=Needs(cores=3)))
        assert execute.at_once(Needs(cores=1)) == 6
        assert execute.at_once(Needs(cores=2)) == execute.at_once(Needs(cores=2)) == 3

    def test_what_waits_for_a_node_does_not_hold_up_a_stop(self, execute):
        hold = execute.ray.remote(sleeps).options(num_cpus=2)  # as another run would
        held = [hold.remote(60) for _ in range(3)]
        began = time.monotonic()
        try:
            with pytest.raises(Stopped):
                list(
                    execute(
                        where, ["a", "b"], AT, ignore, lambda: time.monotonic() > began + 1,
                        needs=Needs(cores=2),
                    )
                )  # fmt: skip
            assert time.monotonic() - began < 20
        finally:
            for reference in held:
                execute.ray.cancel(reference, force=True)

    def test_its_device_is_what_nodes_have(self, execute):
        assert execute.device("auto") == "cpu"
        with pytest.raises(MachineError, match="Use --device auto, cpu or cuda"):
            execute.device("cuda:1")


def test_a_cluster_that_is_not_there_is_one_message_at_once():
    for address in ("127.0.0.1:1", "127.0.0.1:123456", "nonsense"):
        with pytest.raises(MachineError, match=f"no Ray cluster at '{address}' can be joined"):
            RayCluster(address).ray  # noqa: B018
    with pytest.raises(BadOption, match="ray job submit"):
        RayCluster("ray://there:10001").ray  # noqa: B018


def test_to_join_a_cluster_leaves_signals_to_the_program(monkeypatch):
    exceptions = pytest.importorskip("ray").exceptions
    before = signal.getsignal(signal.SIGTERM)

    def init(**_):
        signal.signal(signal.SIGTERM, lambda number, frame: None)

    monkeypatch.setattr(
        module, "the_ray", lambda: SimpleNamespace(init=init, exceptions=exceptions)
    )
    RayCluster("auto").ray  # noqa: B018
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_full_disk_of_a_node_is_told_with_its_name(monkeypatch):
    node = SimpleNamespace(begin=list, flush=list, send=None, is_to_stop=never)
    monkeypatch.setattr(ray_node, "Line", lambda *_: node)
    monkeypatch.setattr(ray_node, "node_of", lambda *_: None)
    order = ray_node.Order(fills, "a", AT, NoLuggage(), None, "run", Needs())
    ending = pickle.loads(pickle.dumps(ray_node.do_attempt(order, None, 1)))
    assert isinstance(ending, DiskFull)
    assert platform.node() in str(ending)


def fills(job, at, report):
    raise DiskFull("the disk is full")


class SendsNothing(NoLuggage):
    """A courier who cannot pack one of the jobs."""

    def __init__(self, job, error):
        self.job, self.error = job, error

    def pack(self, job, at, put):
        if job == self.job:
            raise self.error
        return super().pack(job, at, put)


@pytest.fixture
def joined(monkeypatch):
    """A cluster of Ray's own, which does nothing that it is asked."""
    exceptions = pytest.importorskip("ray").exceptions
    monkeypatch.setattr(RayCluster, "ray", SimpleNamespace(exceptions=exceptions))
    monkeypatch.setattr(RayCluster, "at_once", lambda self, needs: 1)
    return exceptions


def test_a_job_that_cannot_be_sent_fails_alone(joined):
    cluster = RayCluster("auto", SendsNothing("a", DataError("no such images")))
    outcomes = cluster(never, ["a"], AT, ignore, never)
    assert list(outcomes) == [("a", Failure("no such images"))]


def test_what_ray_raises_on_the_driver_is_one_message(joined):
    full = joined.OutOfDiskError("no room to spill")
    cluster = RayCluster("auto", SendsNothing("a", full))
    with pytest.raises(MachineError, match=r"OutOfDiskError.* use the same command"):
        list(cluster(never, ["a"], AT, ignore, never))


def sleeps(seconds):
    time.sleep(seconds)


def where(job, at, report):
    import ray

    time.sleep(0.5)
    return ray.get_runtime_context().get_node_id()


@pytest.mark.faults
def test_a_node_that_joins_later_is_used():
    with nodes_of(0, 1) as nodes, RayCluster(nodes.address) as cluster:
        seen = set()
        for number, (_, node) in enumerate(cluster(where, range(60), AT, ignore, never)):
            if number == 1:
                nodes.add_node(num_cpus=1)
            seen.add(node)
        assert number == 59
        assert len(seen) == 2


def train_saving_often(job, at, report):
    from harness.engine import train as module

    module.SAVE_SECONDS = 0.2
    return train(job, at, report)


def fingerprinted(training):
    images = image_set(None, training.data)
    return replace(training, data_fingerprint=images.fingerprint)


class LosesItsNode:
    """Ends the only node that does jobs, once it is told what is worth losing; another one has
    joined by then."""

    def __init__(self, nodes, is_time):
        self.nodes, self.is_time = nodes, is_time
        self.worker = next(node for node in nodes.worker_nodes)
        self.lost, self.seen = [], []

    def __call__(self, job, progress):
        self.seen.append(progress.done)
        if progress.lost:
            self.lost.append((len(self.seen), progress.lost))
        elif not self.lost and self.worker and self.is_time(progress):
            self.nodes.add_node(num_cpus=1)
            self.nodes.remove_node(self.worker, allow_graceful=False)
            self.worker = None


@pytest.mark.faults
def test_a_training_goes_on_where_it_was_when_its_node_dies(tmp_path):
    training = fingerprinted(replace(made.TRAINING, training_steps=3000))
    at, job = Workplace(tmp_path / "here", tmp_path, "cpu"), TrainJob(training, 1)
    state = Store(at.store).state(training)
    with nodes_of(0, 1) as nodes, RayCluster(nodes.address, Courier()) as cluster:
        loses = LosesItsNode(nodes, lambda progress: state.exists() and progress.done > 500)
        [(_, result)] = cluster(train_saving_often, [job], at, loses, never)
    [(place, _)] = loses.lost
    assert loses.seen[place] > 100  # it did not begin again
    assert not state.exists()
    there = replace(at, store=tmp_path / "there")
    train(job, there, lambda progress: None)
    assert result.artifacts == Store(there.store).training_result(training.key).artifacts


@pytest.mark.faults
def test_cells_are_scored_though_a_node_dies(tmp_path):
    training = replace(made.TRAINING, data=Part("gaussian"), model=Part("exact"), training_steps=0)
    cell = replace(made.CELL, training=fingerprinted(training), extractor=Part("pixels"))
    jobs = [ScoreJob(replace(cell, steps=200 + n, images=500), ("kid",)) for n in range(8)]
    at = Workplace(tmp_path / "here", tmp_path, "cpu")
    with nodes_of(0, 1) as nodes, RayCluster(nodes.address, Courier()) as cluster:
        loses = LosesItsNode(nodes, lambda progress: 0 < progress.done < progress.total)
        outcomes = dict(cluster(score, jobs, at, loses, never))
    assert loses.lost
    for job in jobs:
        expected = score(job, replace(at, store=tmp_path / "there"), lambda progress: None)
        assert outcomes[job].measurements == expected.measurements


@pytest.mark.faults
def test_a_hundred_analytic_cells_on_three_nodes_have_the_same_numbers(tmp_path):
    training = replace(made.TRAINING, data=Part("gaussian"), model=Part("exact"), training_steps=0)
    cell = replace(made.CELL, training=fingerprinted(training), extractor=Part("pixels"))
    jobs = [ScoreJob(replace(cell, steps=2 + n), ("kid", "fid")) for n in range(100)]
    at = Workplace(tmp_path / "here", tmp_path, "cpu")
    with nodes_of(1, 1, 1) as nodes, RayCluster(nodes.address, Courier()) as cluster:
        outcomes = dict(cluster(score, jobs, at, ignore, never))
        assert len(cluster.used) == 3
    for job, expected in here(score, jobs, replace(at, store=tmp_path / "there"), ignore, never):
        assert outcomes[job].measurements == expected.measurements
        assert outcomes[job].artifacts == expected.artifacts
