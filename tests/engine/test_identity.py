"""Fingerprints of images and weights: right after every change, and cheap without one."""

import hashlib
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from harness.data.datasets import DATASETS
from harness.engine import identity as module
from harness.engine.identity import data_fingerprint, extractor_fingerprint, keep_fingerprints
from harness.errors import DataError
from harness.work.cells import Part
from harness.work.options import Workplace

PHOTOS = Part.of("folder", {"path": "photos", "image_size": 8})


def paint(folder, number, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / f"{number}.bmp")  # all of one size in bytes


@pytest.fixture
def place(tmp_path):
    """A store, and a folder of images that nobody has touched for long."""
    (tmp_path / "store").mkdir()
    photos = tmp_path / "data" / "photos"
    photos.mkdir(parents=True)
    for number in range(6):
        paint(photos, number, number)
    return Workplace(tmp_path / "store", tmp_path / "data", "cpu")


@pytest.fixture(autouse=True)
def settled_at_once(monkeypatch):
    """Files need not rest for seconds before their times are trusted."""
    monkeypatch.setattr(module, "SETTLED_SECONDS", 0.0)


@pytest.fixture
def looks(monkeypatch):
    """How often images were loaded."""
    seen = []
    real = module.image_set

    def noted(*arguments, **keywords):
        seen.append(arguments)
        return real(*arguments, **keywords)

    monkeypatch.setattr(module, "image_set", noted)
    return seen


def test_it_is_that_of_the_images_and_is_looked_up_once(place, looks):
    expected = DATASETS["folder"](place.data_dir, path="photos", image_size=8).fingerprint
    assert [data_fingerprint(PHOTOS, place) for _ in range(3)] == [expected] * 3
    assert len(looks) == 1


@pytest.mark.parametrize("what", ["one image", "its time kept", "one more", "one less", "renamed"])
def test_a_changed_folder_is_looked_at_anew(place, looks, what):
    photos = place.data_dir / "photos"
    before = data_fingerprint(PHOTOS, place)
    times = (photos / "0.bmp").stat()
    time.sleep(0.02)
    if what == "one less":
        (photos / "0.bmp").unlink()
    elif what == "renamed":
        (photos / "0.bmp").rename(photos / "zero.bmp")
    else:
        paint(photos, 9 if what == "one more" else 0, seed=100)
        if what == "its time kept":
            os.utime(photos / "0.bmp", ns=(times.st_atime_ns, times.st_mtime_ns))
    after = data_fingerprint(PHOTOS, place)
    assert len(looks) == 2
    assert (after == before) == (what == "renamed")  # the same pixels


def test_a_file_that_changed_a_moment_ago_is_not_trusted(place, looks, monkeypatch):
    monkeypatch.setattr(module, "SETTLED_SECONDS", 60.0)
    for _ in range(2):
        data_fingerprint(PHOTOS, place)
    assert len(looks) == 2


def test_options_and_stores_are_told_apart(place, looks, tmp_path):
    small = data_fingerprint(PHOTOS, place)
    assert data_fingerprint(Part.of("folder", {"path": "photos", "image_size": 4}), place) != small
    other = Workplace(tmp_path / "another store", place.data_dir, "cpu")
    assert data_fingerprint(PHOTOS, other) == small
    assert not other.store.exists()
    keep_fingerprints(other)
    assert (other.store / "fingerprints.json").exists()
    assert data_fingerprint(PHOTOS, other) == small
    assert len(looks) == 3


def test_nothing_of_this_machine_is_kept(place):
    absolute = Part.of("folder", {"path": str(place.data_dir / "photos"), "image_size": 8})
    data_fingerprint(absolute, place)
    kept = (place.store / "fingerprints.json").read_text()
    assert json.loads(kept)
    assert str(place.data_dir) not in kept


def test_images_that_are_not_there_are_told_of(place):
    with pytest.raises(DataError, match="does not exist"):
        data_fingerprint(Part.of("folder", {"path": "elsewhere"}), place)


def test_a_data_set_that_names_no_sources_is_looked_at_each_time(place, looks, monkeypatch):
    monkeypatch.delattr(DATASETS["digits"], "sources")
    for _ in range(2):
        data_fingerprint(Part("digits"), place)
    assert len(looks) == 2


def test_the_weights_of_an_extractor_have_the_fingerprint_of_their_file(place):
    from importlib import resources

    content = resources.files("harness.metrics").joinpath("digits.safetensors").read_bytes()
    expected = hashlib.sha256(content).hexdigest()
    assert extractor_fingerprint(Part("digits"), place) == expected
    assert extractor_fingerprint(Part("pixels"), place) != expected


def test_what_is_known_is_told_without_the_libraries_that_load_it(place):
    parts = [Part("digits"), Part("gaussian"), Part.of("finite", {"of": "digits"})]
    known = [data_fingerprint(part, place) for part in parts]
    script = (
        "import sys; from pathlib import Path;"
        "from harness.engine.identity import data_fingerprint, extractor_fingerprint;"
        "from harness.work.cells import Part; from harness.work.options import Workplace;"
        f"at = Workplace(Path({str(place.store)!r}), Path({str(place.data_dir)!r}), 'cpu');"
        "extractor_fingerprint(Part('digits'), at);"
        "parts = [Part('digits'), Part('gaussian'), Part.of('finite', {'of': 'digits'})];"
        "print([data_fingerprint(part, at) for part in parts]);"
        "print(sorted({'torch', 'sklearn', 'torchvision'} & {*sys.modules}))"
    )
    told = subprocess.check_output([sys.executable, "-c", script], text=True).splitlines()
    assert told == [str(known), "[]"]
