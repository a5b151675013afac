"""What a job takes along and brings back, between two folders that share nothing."""

import hashlib
import shutil
from dataclasses import dataclass, replace

import made
import numpy as np
import pytest
from PIL import Image

from harness.data.images import ImageSet
from harness.engine import courier as module
from harness.engine import fitted
from harness.engine import train as training_module
from harness.engine.courier import Courier
from harness.engine.inputs import image_set
from harness.engine.score import ScoreJob, score
from harness.engine.train import TrainJob, train
from harness.errors import PartFailed
from harness.execute.progress import Stopped
from harness.execute.ray_node import Node
from harness.metrics.features import EXTRACTORS, Pixels
from harness.store import FEATURES, STATE, Store, write_bytes
from harness.work.cells import Part
from harness.work.options import Workplace

PLAIN = Courier()


@dataclass(frozen=True)
class InMemory:
    """Takes the place of Sent, which needs a cluster."""

    content: bytes

    @classmethod
    def of(cls, content):
        return cls(content)

    def get(self):
        return self.content


@pytest.fixture(autouse=True)
def without_cluster(monkeypatch):
    monkeypatch.setattr(module, "Sent", InMemory)


class Travel:
    """Between the driver's folder and the folder of a node."""

    def __init__(self, folder, is_shared=False):
        self.here = Workplace(folder / "here", folder / "data", "cpu")
        self.node = Node(folder / "node", is_shared)
        self.put = {}

    def pack(self, job, courier):
        def put(name, load):
            return self.put.setdefault(name, InMemory(load()))

        return courier.pack(job, self.here, put)

    def there_and_back(self, function, job, report=lambda progress: None, courier=PLAIN):
        packed = self.pack(job, courier)
        result = courier.do(function, packed, self.node, job, self.here, report)
        return courier.unpack(job, result, self.here)


@pytest.fixture
def photos(tmp_path):
    """A data set in the driver's data folder, of no path that a node has."""
    draw = np.random.default_rng(0)
    for number in range(20):
        path = tmp_path / "data" / "photos" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (8, 8), np.uint8)).save(path)
    return Part.of("folder", {"path": "photos", "image_size": 8, "grey": True})


def training_on(data, folder):
    fingerprint = image_set(folder / "data", data).fingerprint
    return replace(made.TRAINING, data=data, data_fingerprint=fingerprint, training_steps=20)


@pytest.mark.parametrize("is_away", [False, True], ids=["at hand", "sent"])
def test_a_training_and_its_cell_are_those_of_this_machine(tmp_path, photos, is_away):
    training = training_on(photos, tmp_path)
    cell = replace(
        made.CELL, training=training, images=40, steps=3,
        extractor_fingerprint=EXTRACTORS["digits"](tmp_path, "cpu").fingerprint,
    )  # fmt: skip
    expected = Workplace(tmp_path / "expected", tmp_path / "data", "cpu")
    jobs = [(train, TrainJob(training, 1)), (score, ScoreJob(cell, ("kid",)))]
    for function, job in jobs:
        function(job, expected, lambda progress: None)
    travel = Travel(tmp_path)
    for function, job in jobs:
        packed = travel.pack(job, Courier())
        if is_away:  # the driver's folder, which a node does not have
            (tmp_path / "data").rename(tmp_path / "away")
            image_set(tmp_path / "data", made.TRAINING.data, is_fresh=True)
            module.has_images.cache_clear()
        result = Courier().do(function, packed, travel.node, job, travel.here, lambda _: None)
        if is_away:
            (tmp_path / "away").rename(tmp_path / "data")
        assert Store(travel.node.folder / "store").images(training.data_fingerprint).exists() == (
            is_away
        )
        shutil.rmtree(travel.node.folder)  # nothing there is needed any more
        found = Courier().unpack(job, result, travel.here)
        same = Store(expected.store).result(job.work)
        assert found.artifacts == same.artifacts
        assert getattr(found, "measurements", None) == getattr(same, "measurements", None)
        kept = {path.name for path in Store(travel.here.store).folder(job.work).iterdir()}
        assert kept == {*same.artifacts.checksums, "result.json"} - {FEATURES}


def test_features_come_back_where_they_are_wanted_and_serve_the_next_metric(tmp_path):
    cell = exact_cell(tmp_path)
    travel = Travel(tmp_path)
    first = travel.there_and_back(score, ScoreJob(cell, ("kid",)), courier=Courier(True))
    assert Store(travel.here.store).cell(cell.key, FEATURES).exists()
    shutil.rmtree(travel.node.folder)
    more = travel.there_and_back(score, ScoreJob(cell, ("kid", "fid")))
    assert more.cost == first.cost  # it was not sampled again
    assert {"kid", "fid"} <= more.measurements.keys()
    assert Store(travel.here.store).cell(cell.key, FEATURES).exists()


def test_without_features_a_metric_that_is_added_samples_again(tmp_path):
    cell = exact_cell(tmp_path)
    travel = Travel(tmp_path, is_shared=True)
    first = travel.there_and_back(score, ScoreJob(cell, ("kid",)))
    assert not Store(travel.here.store).cell(cell.key, FEATURES).exists()
    shutil.rmtree(travel.node.folder)
    more = travel.there_and_back(score, ScoreJob(cell, ("kid", "fid")))
    assert more.cost != first.cost
    assert more.measurements["kid"] == first.measurements["kid"]
    assert "fid" in more.measurements


def test_a_fit_of_steps_comes_back_and_is_that_of_the_next_node(tmp_path, monkeypatch):
    fits, fit = [], fitted.fit
    monkeypatch.setattr(fitted, "fit", lambda *given: fits.append(given) or fit(*given))
    spacing = Part.of("fitted", {"candidates": 10, "images": 4})
    cell, travel = replace(exact_cell(tmp_path), spacing=spacing), Travel(tmp_path)
    first = travel.there_and_back(score, ScoreJob(cell, ("kid",)))
    here = Store(travel.here.store)
    assert here.has_whole(here.fit(cell))
    shutil.rmtree(travel.node.folder)
    more = travel.there_and_back(score, ScoreJob(replace(cell, sampling_seed=1), ("kid",)))
    assert more.path.times == first.path.times
    assert len(fits) == 1


def test_seconds_of_a_shared_node_are_marked_where_they_were_taken_there(tmp_path):
    cell = exact_cell(tmp_path)
    own, shared = Travel(tmp_path), Travel(tmp_path, is_shared=True)
    keeping = Courier(with_features=True)
    job = ScoreJob(cell, ("kid",))
    assert not own.there_and_back(score, job, courier=keeping).provenance.is_shared
    more = shared.there_and_back(score, replace(job, metrics=("kid", "fid")))
    assert not more.provenance.is_shared  # nothing was timed
    assert shared.there_and_back(score, replace(job, retime=True)).provenance.is_shared
    assert not own.there_and_back(score, replace(job, retime=True)).provenance.is_shared


def exact_cell(folder):
    data = Part("gaussian")
    training = replace(training_on(data, folder), model=Part("exact"), training_steps=0)
    return replace(made.CELL, training=training, images=40, steps=3, extractor=Part("pixels"))


def test_a_training_goes_on_from_the_state_that_was_sent_last(tmp_path, monkeypatch):
    monkeypatch.setattr(training_module, "SAVE_SECONDS", 0.0)
    training = training_on(Part("digits"), tmp_path)
    job, travel = TrainJob(training, 1), Travel(tmp_path)
    steps = []

    def lost_after_ten_steps(progress):
        if progress.saved:
            Courier().keep(job, progress.saved, travel.here)
        if progress.done == 10:
            raise ConnectionError

    with pytest.raises(ConnectionError):
        travel.there_and_back(train, job, lost_after_ten_steps)
    shutil.rmtree(travel.node.folder)
    assert Store(travel.here.store).state(training).exists()
    travel.there_and_back(train, job, lambda progress: steps.append(progress.done))
    assert steps[0] == 10  # the state after step 9 was the last that was sent
    assert not Store(travel.here.store).state(training).exists()
    expected = Workplace(tmp_path / "expected", tmp_path / "data", "cpu")
    train(job, expected, lambda progress: None)
    assert (
        Store(travel.here.store).training_result(training.key).artifacts
        == Store(expected.store).training_result(training.key).artifacts
    )


def test_the_averages_of_the_same_steps_come_back_as_results_of_their_own(tmp_path):
    first = training_on(Part("digits"), tmp_path)
    others = tuple(replace(first, ema=decay) for decay in (0.95, 0.99))
    job, travel = TrainJob(first, 1, siblings=others), Travel(tmp_path)
    # Of an earlier version, for one of them.
    write_bytes(Store(travel.here.store).model(others[0].key, STATE), b"")
    back = travel.there_and_back(train, job)
    expected = Workplace(tmp_path / "expected", tmp_path / "data", "cpu")
    train(job, expected, lambda progress: None)
    here, there = Store(travel.here.store), Store(expected.store)
    assert back == here.training_result(first.key)
    for one in job.works:
        found = here.training_result(one.key)
        assert found.artifacts == there.training_result(one.key).artifacts
        assert not here.lacking(found, found.artifacts.checksums)
    assert not [*here.root.rglob(STATE)]


def test_a_training_that_is_stopped_sends_its_state_before_it_ends(tmp_path):
    training = training_on(Part("digits"), tmp_path)
    job, travel, saved = TrainJob(training, 1), Travel(tmp_path), []

    def stopped_at_five(progress):
        saved.extend([progress.saved] * (progress.saved is not None))
        if progress.done >= 5:
            raise Stopped

    with pytest.raises(Stopped):
        travel.there_and_back(train, job, stopped_at_five)
    assert len(saved) == 1


class Shuffled(Pixels):
    """An extractor with a file of weights."""

    def __init__(self, data_dir, device):
        super().__init__(data_dir, device)
        self.file = data_dir / "extractors" / "order.bin"

    @classmethod
    def sources(cls, data_dir):
        return [cls(data_dir, "cpu").file]

    @property
    def fingerprint(self):
        return hashlib.sha256(self.file.read_bytes()).hexdigest()


def test_weights_of_an_extractor_are_sent_where_a_node_has_others(tmp_path, monkeypatch):
    monkeypatch.setitem(EXTRACTORS._builtin, "shuffled", Shuffled)
    weights = tmp_path / "data" / "extractors" / "order.bin"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"the right ones")
    cell = replace(
        exact_cell(tmp_path), extractor=Part("shuffled"),
        extractor_fingerprint=Shuffled(tmp_path / "data", "cpu").fingerprint,
    )  # fmt: skip
    travel, job = Travel(tmp_path), ScoreJob(cell, ("kid",))
    packed = travel.pack(job, Courier())
    weights.write_bytes(b"those of a node")
    result = Courier().do(score, packed, travel.node, job, travel.here, lambda progress: None)
    assert result.results[0].provenance.extractor_fingerprint == cell.extractor_fingerprint
    sent = travel.node.folder / "data" / "extractors" / "order.bin"
    assert sent.read_bytes() == b"the right ones"


@pytest.mark.parametrize(
    ("told", "found"), [(["{}/order.bin", "/else.bin"], {"order.bin"}), (None, set())]
)
def test_weights_may_be_told_as_text_and_may_be_none(tmp_path, monkeypatch, told, found):
    said = told and [path.format(tmp_path) for path in told]
    monkeypatch.setattr(Shuffled, "sources", lambda data_dir: said)
    monkeypatch.setitem(EXTRACTORS._builtin, "shuffled", Shuffled)
    job = ScoreJob(replace(made.CELL, extractor=Part("shuffled")), ("kid",))
    assert {name for name, _ in module.weights_of(job, tmp_path)} == found


def test_an_extractor_that_cannot_tell_its_files_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(Shuffled, "sources", lambda data_dir: data_dir / 0)
    monkeypatch.setitem(EXTRACTORS._builtin, "shuffled", Shuffled)
    job = ScoreJob(replace(made.CELL, extractor=Part("shuffled")), ("kid",))
    with pytest.raises(PartFailed, match=r"extractor 'shuffled' .* which files"):
        list(module.weights_of(job, tmp_path))


@pytest.mark.parametrize("data", ["digits", "gaussian"])
def test_images_are_the_same_after_their_way(tmp_path, data):
    images = replace(image_set(tmp_path, Part(data)), notes=("3 files were left out",), flip=True)
    file = tmp_path / "images.npz"
    file.write_bytes(images.as_npz())
    found = ImageSet.from_npz(file)
    assert found.fingerprint == images.fingerprint
    assert (found.name, found.flip, found.notes) == (images.name, True, images.notes)
    if images.distribution is None:
        assert found.distribution is None
    else:
        for name, expected in vars(images.distribution).items():
            np.testing.assert_array_equal(getattr(found.distribution, name), expected)
