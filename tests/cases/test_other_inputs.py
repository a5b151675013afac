"""Other images or weights under an old name are other work: old and new never meet."""

import json
import shutil
import zipfile

import pytest
from situations import NETWORK, harness, images, last_report


def state(*arguments):
    """Of each cell, what a plan says of it."""
    return [row["state"] for row in json.loads(harness("plan", *arguments, "--json"))["cells"]]


def zipped(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)


def test_replaced_images_are_other_work_and_compare_tells_the_two_apart(place):
    harness("run", "network.yaml")
    images(place / "imgs", seed=2)
    assert set(state("network.yaml")) == {"to do"}
    harness("run", "network.yaml", "samplers=[ddim,ddpm]")
    assert "2 configurations" in (last_report(place, "case") / "report.md").read_text()
    told = harness("compare", "sampler=ddim", "sampler=ddpm", status=1)
    assert "data fingerprint" in told
    [fingerprint] = {
        row["data_fingerprint"]
        for row in json.loads(harness("plan", "network.yaml", "--json"))["cells"]
    }
    assert fingerprint in told
    told = harness("compare", "sampler=ddim", "sampler=ddpm", "--only",
                   f"data_fingerprint={fingerprint}")  # fmt: skip
    assert "1 pair of cells" in told


def test_an_archive_replaced_under_its_name_is_other_work(place):
    zipped(place / "imgs", place / "imgs.zip")
    (place / "zip.yaml").write_text(NETWORK.replace("path: imgs", "path: imgs.zip"))
    harness("run", "zip.yaml")
    assert set(state("zip.yaml")) == {"finished"}
    images(place / "others", seed=2)
    zipped(place / "others", place / "imgs.zip")
    assert set(state("zip.yaml")) == {"to do"}


def test_two_people_with_a_folder_of_one_name_share_a_store_and_no_result(place, monkeypatch):
    for person, seed in (("ada", 3), ("bob", 4)):
        images(place / person / "imgs", seed)
        shutil.copy(place / "network.yaml", place / person)
        monkeypatch.chdir(place / person)
        assert set(state("network.yaml", "--store", place / "runs/store")) == {"to do"}
        harness("run", "network.yaml", "--store", place / "runs/store")
    monkeypatch.chdir(place / "ada")
    assert set(state("network.yaml", "--store", place / "runs/store")) == {"finished"}


WEIGHED = """
import hashlib
import numpy as np

class Weighed:
    label = "weighed"
    def __init__(self, data_dir, device):
        self.text = (data_dir / "weights.txt").read_text()
        self.fingerprint = hashlib.sha256(self.text.encode()).hexdigest()
    def check(self, channels, size):
        pass
    def __call__(self, images):
        return float(self.text) * images.reshape(len(images), -1)[:, :4].astype(np.float64)
"""


@pytest.fixture
def weighed(place, package):
    package({("extractors", "weighed"): "weighed:Weighed"}, weighed=WEIGHED)
    (place / "weights.txt").write_text("1.0")


def test_replaced_weights_of_an_extractor_are_other_work(place, weighed):
    at = ("exact.yaml", "extractor=weighed", "--data-dir", place)
    harness("run", *at)
    assert set(state(*at)) == {"finished"}
    (place / "weights.txt").write_text("2.0")
    assert set(state(*at)) == {"to do"}
    harness("run", *at)
    assert "1 of 1" in harness("run", *at)
