"""The contract of every data set, and what each does without a network."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest

from harness.data.datasets import DATASETS
from harness.data.images import ImageSet
from harness.errors import BadOption, DataError
from harness.work.reading import Files

DOWNLOADED = {
    "cifar10": "CIFAR10",
    "fashion_mnist": "FashionMNIST",
    "flowers102": "Flowers102",
    "mnist": "MNIST",
}


@pytest.fixture
def data_dir(tmp_path, write_zip, pictures):
    """A folder that holds what each data set can be read from."""
    colour, grey = (pictures(10, mode=mode) for mode in ("RGB", "L"))

    def both_parts(images):
        return {f"{'test' if i < 4 else 'train'}/{i}.png": image for i, image in enumerate(images)}

    write_zip("cifar10.zip", both_parts(colour))
    write_zip("mnist.zip", both_parts(grey))
    write_zip("fashion_mnist.zip", both_parts(grey))
    flowers = {f"image_{i:05d}.png": image for i, image in enumerate(colour)}
    write_zip("flowers102-64.zip", {**flowers, "labels.csv": b"file,label", "split.csv": b""})
    write_zip("mine.zip", flowers)
    return tmp_path


def load(name, data_dir):
    required = {"folder": {"path": "mine.zip"}}
    return DATASETS[name](data_dir, **required.get(name, {}))


@pytest.mark.parametrize("name", DATASETS.names())
def test_every_data_set_is_square_images_in_two_parts_that_share_none(name, data_dir):
    images = load(name, data_dir)
    assert isinstance(images, ImageSet)
    assert images.name == name
    for part in (images.train, images.held_out):
        assert part.dtype == np.uint8
        assert part.shape == (len(part), images.channels, images.size, images.size)
    held_out = {image.tobytes() for image in images.held_out}
    assert not any(image.tobytes() in held_out for image in images.train)
    assert load(name, data_dir).fingerprint == images.fingerprint


def sources(name, data_dir, **options):
    return DATASETS[name].sources(data_dir, **options)


def test_the_sources_of_a_data_set_are_the_files_that_it_is_read_from(data_dir, pictures):
    for name in ("digits", "finite", "gaussian", "mixture"):
        assert sources(name, data_dir) == []
    for name in ("cifar10", "mnist", "fashion_mnist"):
        assert sources(name, data_dir) == [data_dir / f"{name}.zip"]
    assert sources("flowers102", data_dir, image_size=32) == [data_dir / "flowers102-64.zip"]
    assert sources("finite", data_dir, of="mnist") == [data_dir / "mnist.zip"]
    assert sources("folder", data_dir, path="mine.zip") == [data_dir / "mine.zip"]
    (data_dir / "own" / "kind").mkdir(parents=True)
    names = ["own/b.png", "own/kind/a.jfif", "own/notes.txt"]
    for name, content in zip(names, pictures(3), strict=True):
        (data_dir / name).write_bytes(content)
    found = sources("folder", data_dir, path="own", held_out=0.5, grey=True)
    assert found == [data_dir / "own" / "b.png", data_dir / "own" / "kind" / "a.jfif"]
    images = DATASETS["folder"](data_dir, path="own", held_out=0.5)
    assert images.notes == images.reading.sentences()
    assert images.reading.skipped == {".txt": Files(1, "notes.txt")}


def test_the_sources_of_what_torchvision_unpacked_are_its_files(tmp_path):
    assert sources("cifar10", tmp_path) == []
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(b"images")
    assert sources("cifar10", tmp_path) == [tmp_path / "cifar-10-batches-py" / "test_batch"]


def test_photographs_that_an_interruption_left_out_are_not_passed_over(tmp_path, pictures):
    photographs = tmp_path / "flowers-102" / "jpg"
    photographs.mkdir(parents=True)
    (photographs / "image_00001.jpg").write_bytes(pictures(1)[0])
    assert sources("flowers102", tmp_path) == [photographs / "image_00001.jpg"]
    with pytest.raises(DataError, match="holds 1 of the 8,189 photographs"):
        DATASETS["flowers102"](tmp_path)


@pytest.mark.parametrize("name", DATASETS.names())
def test_every_data_set_describes_itself(name):
    assert len(DATASETS.describe(name)) > 20
    assert "data_dir" not in [option.name for option in DATASETS.options(name)]


@pytest.mark.parametrize("name", DOWNLOADED)
@pytest.mark.parametrize("problem", [URLError("no route"), RuntimeError("404\n"), TimeoutError()])
def test_without_file_and_network_one_error_says_what_belongs_where(
    name, problem, tmp_path, monkeypatch
):
    def fail(*_args, **_options):
        raise problem

    monkeypatch.setattr(f"torchvision.datasets.{DOWNLOADED[name]}", fail)
    with pytest.raises(DataError) as caught:
        DATASETS[name](tmp_path)
    assert f"{name}" in str(caught.value)
    assert ".zip" in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", DOWNLOADED)
def test_the_error_of_torchvision_itself_is_caught(name, tmp_path, monkeypatch):
    def no_network(*_args, **_options):
        raise URLError("network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    patience = socket.getdefaulttimeout()
    with pytest.raises(DataError, match="network is unreachable"):
        DATASETS[name](tmp_path)
    assert socket.getdefaulttimeout() == patience


@pytest.mark.parametrize("there", [True, False])
def test_the_files_of_torchvision_are_fetched_only_where_they_are_not_there(
    there, tmp_path, monkeypatch
):
    class Fake:
        def __init__(self, _root, *, train, download):
            if download == there:
                raise RuntimeError("fetched again" if there else "not found")
            self.data = np.full((3 if train else 2, 32, 32, 3), (10, 20, 30), np.uint8)
            self.classes, self.targets = ["plane", "car"], [1, 0, 1] if train else [0, 0]

    monkeypatch.setattr("torchvision.datasets.CIFAR10", Fake)
    images = DATASETS["cifar10"](tmp_path)
    assert images.train.shape == (3, 3, 32, 32)
    assert images.held_out.shape == (2, 3, 32, 32)
    assert images.train[0, :, 0, 0].tolist() == [10, 20, 30]
    assert images.labels.counts == {"car": 2, "plane": 3}


@pytest.mark.parametrize("name", ["cifar10", "fashion_mnist", "mnist"])
def test_the_official_test_part_is_the_one_held_out(name, data_dir):
    images = DATASETS[name](data_dir)
    assert (len(images.train), len(images.held_out)) == (6, 4)


def test_digits_are_as_many_as_the_source_has_and_use_the_whole_range(tmp_path):
    images = DATASETS["digits"](tmp_path)
    assert (len(images.train), len(images.held_out)) == (1297, 500)
    assert (images.channels, images.size, images.flip) == (1, 8, False)
    assert (images.train.min(), images.train.max()) == (0, 255)


def test_mnist_is_padded_to_32_pixels(data_dir):
    images = DATASETS["mnist"](data_dir)
    assert images.size == 32
    assert not images.train[:, :, :2].any()
    assert not images.train[:, :, :, 30:].any()
    assert images.train[:, :, 2].any()


def test_flowers_are_read_from_the_smallest_archive_that_is_large_enough(
    tmp_path, write_zip, pictures
):
    for side in (32, 64, 128):
        files = pictures(side // 4, width=side, height=side)
        write_zip(f"flowers102-{side}.zip", {f"{i}.png": file for i, file in enumerate(files)})

    def count(size):
        return len(DATASETS["flowers102"](tmp_path, image_size=size).reference("all"))

    assert [count(size) for size in (16, 32, 33, 64, 100)] == [8, 8, 16, 16, 32]


def test_flowers_are_never_enlarged_from_a_small_archive(data_dir, monkeypatch):
    def no_network(*_args, **_options):
        raise URLError("no network")

    monkeypatch.setattr("torchvision.datasets.Flowers102", no_network)
    with pytest.raises(DataError, match=r"flowers102-128\.zip"):
        DATASETS["flowers102"](data_dir, image_size=128)


def test_a_path_is_looked_for_from_the_working_directory_first(
    data_dir, tmp_path, monkeypatch, pictures
):
    here = tmp_path / "here"
    (here / "mine.zip").mkdir(parents=True)
    for number, content in enumerate(pictures(3)):
        (here / "mine.zip" / f"{number}.png").write_bytes(content)
    monkeypatch.chdir(here)
    assert len(DATASETS["folder"](data_dir, path="mine.zip").reference("all")) == 3
    assert len(DATASETS["folder"](data_dir, path=str(data_dir / "mine.zip")).reference("all")) == 10
    monkeypatch.chdir(data_dir / "here" / "mine.zip")
    assert len(DATASETS["folder"](data_dir, path="mine.zip").reference("all")) == 10


@pytest.mark.parametrize("path", ["", "nowhere", "/nowhere/at/all.zip"])
def test_a_path_that_does_not_exist_is_refused(tmp_path, path):
    with pytest.raises(DataError, match=f"'{path}' does not exist"):
        DATASETS["folder"](tmp_path, path=path)


def test_a_single_image_cannot_be_split(tmp_path, write_zip, pictures):
    archive = write_zip("a.zip", {"image.png": pictures(1)[0]})
    with pytest.raises(DataError, match="both parts need one"):
        DATASETS["folder"](tmp_path, path=str(archive))


def test_the_options_of_folder_are_checked_before_anything_is_read():
    checked = DATASETS.check_options("folder", {"path": "x", "held_out": 0.5, "image_size": 64})
    assert checked == {"path": "x", "held_out": 0.5}
    for wrong in [{}, {"path": "x", "held_out": 1.0}, {"path": "x", "image_size": 0}]:
        with pytest.raises(BadOption):
            DATASETS.check_options("folder", wrong)


def test_data_sets_do_not_wait_for_torch():
    script = (
        "import sys; from harness.data.datasets import DATASETS; from pathlib import Path;"
        "DATASETS['digits'](Path()); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.slow
def test_the_prepared_flowers_are_whole_and_their_duplicates_on_one_side():
    data_dir = Path(os.environ.get("HARNESS_TEST_DATA", "data"))
    if not (data_dir / "flowers102-64.zip").exists():
        pytest.skip("HARNESS_TEST_DATA names no folder that holds flowers102-64.zip")
    images = DATASETS["flowers102"](data_dir)
    assert len(images.train) + len(images.held_out) == 8189
    train, held_out = (
        {image.tobytes() for image in part} for part in (images.train, images.held_out)
    )
    assert not train & held_out
    assert len(train) + len(held_out) == 8189 - 4
