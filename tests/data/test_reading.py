"""What became of the files of a folder: counted by kind, with what would change it."""

import dataclasses
import sys
from pathlib import PurePosixPath

import numpy as np
import pytest
from PIL import ExifTags, Image

from harness.data import formats
from harness.data.datasets import DATASETS
from harness.data.files import read_folder, telling
from harness.data.images import ImageSet
from harness.data.labels import Labels, class_folders
from harness.data.prepare import Preparation
from harness.errors import BadOption, DataError
from harness.work.cells import Part
from harness.work.reading import Files, Measures, Reading

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)


@pytest.fixture
def photo():
    return Image.fromarray(PIXELS)


@pytest.fixture
def without_pillow_heif(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    formats.readable_suffixes.cache_clear()
    yield
    formats.readable_suffixes.cache_clear()


def reading_of(folder, **how):
    return read_folder(folder, Preparation(**{"size": 16} | how), on_bad="skip").reading


def turned(image):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return {"exif": exif}


@pytest.mark.parametrize(
    ("kind", "name", "mode", "options"),
    [("cmyk", "a.jpg", "CMYK", None), ("palette", "a.png", "P", None),
     ("rotated", "a.jpg", "RGB", turned)],
)  # fmt: skip
def test_every_alteration_is_counted_with_an_example(tmp_path, photo, kind, name, mode, options):
    photo.convert(mode).save(tmp_path / name, **(options(photo) if options else {}))
    reading = reading_of(tmp_path)
    assert reading.altered == {kind: Files(1, name)}
    [remark] = reading.remarks()
    assert remark.what
    assert remark.why


def test_an_image_is_turned_upright_before_it_is_cut(tmp_path, photo):
    photo.crop((0, 0, 8, 16)).save(tmp_path / "a.png", **turned(photo))
    reading = reading_of(tmp_path)
    assert reading.altered.keys() == {"rotated", "cropped", "enlarged"}
    assert reading.smallest == Measures(16, 8, "a.png")


def test_the_example_of_what_is_cropped_or_enlarged_shows_it_best(tmp_path, photo):
    for width in (15, 4, 12):
        photo.crop((0, 0, width, 16)).save(tmp_path / f"{width:02}.png")
    reading = reading_of(tmp_path)
    assert reading.altered["cropped"] == reading.altered["enlarged"] == Files(3, "04.png")
    assert (str(reading.smallest), str(reading.largest)) == ("4x16", "15x16")
    assert any("image_size (4 " in remark.use for remark in reading.remarks())


def test_copies_are_counted_whatever_their_files(tmp_path, photo):
    photo.save(tmp_path / "a.png")
    photo.save(tmp_path / "b.bmp")
    photo.rotate(90).save(tmp_path / "c.png")
    assert reading_of(tmp_path).duplicates == Files(1, "b.bmp, as a.png")


def test_a_broken_file_is_skipped_only_where_that_is_asked_for(tmp_path, pictures):
    for number, content in enumerate(pictures(3)):
        (tmp_path / f"{number}.png").write_bytes(content)
    (tmp_path / "bad.png").write_bytes(b"no image")
    skipping = DATASETS["folder"](tmp_path, path=str(tmp_path), on_bad="skip")
    assert skipping.as_read.used == 3
    assert skipping.as_read.unreadable.example == "bad.png"
    with pytest.raises(DataError, match=r"bad\.png"):
        DATASETS["folder"](tmp_path, path=str(tmp_path))


def test_options_at_their_defaults_leave_the_work_what_it_was():
    given = {"path": "x", "background": "white", "on_bad": "refuse"}
    checked = DATASETS.check_options("folder", given)
    assert Part.of("folder", checked) == Part.of("folder", {"path": "x"})
    for wrong in ({"background": "red"}, {"on_bad": "stop"}):
        with pytest.raises(BadOption, match="one of"):
            DATASETS.check_options("folder", {"path": "x"} | wrong)


@pytest.mark.parametrize("suffix", [".heic", ".avif"])
def test_pictures_of_telephones_and_pages_are_read(tmp_path, photo, suffix):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    if suffix not in formats.readable_suffixes():
        pytest.skip(f"nothing here reads {suffix}")
    Image.new("RGB", (16, 16), (200, 30, 30)).save(tmp_path / f"a{suffix}")
    [image] = read_folder(tmp_path, Preparation(16)).images
    assert np.abs(image[:, 8, 8].astype(int) - [200, 30, 30]).max() < 12


def test_where_nothing_reads_heic_its_files_are_named_with_the_remedy(
    tmp_path, pictures, without_pillow_heif
):
    (tmp_path / "a.heic").write_bytes(b"whatever")
    with pytest.raises(DataError, match="pip install pillow-heif"):
        read_folder(tmp_path, Preparation(6))
    (tmp_path / "a.png").write_bytes(pictures(1)[0])
    [remark] = reading_of(tmp_path, size=6).remarks()
    assert remark.example == "a.heic"
    assert remark.limits


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["cat/1.png", "dog/a/2.png"], ["cat", "dog"]),
        (["all/cat/1.png", "all/dog/2.png"], ["cat", "dog"]),
        (["train/cat/1.png", "test/dog/2.png"], ["cat", "dog"]),
        (["cat/1.png", "2.png"], None),
        (["cat/1.png", "cat/2.png"], None),
        (["train/1.png", "val/2.png"], None),
        ([], None),
    ],
)
def test_classes_are_the_folders_that_differ(names, classes):
    assert class_folders([*map(PurePosixPath, names)]) == classes


def test_labels_stay_with_their_images_and_change_no_fingerprint(tmp_path, pictures):
    for number, content in enumerate(pictures(9)):
        folder = tmp_path / "images" / ("odd" if number % 2 else "even")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(content)
    images = DATASETS["folder"](tmp_path, path="images", image_size=6, held_out=0.3)
    alone = {
        name: read_folder(tmp_path / "images" / name, Preparation(6)).images
        for name in ("even", "odd")
    }
    assert images.labels.names == ("even", "odd")
    for part in ("train", "held_out"):
        for image, label in zip(getattr(images, part), getattr(images.labels, part), strict=True):
            assert image.tobytes() in {one.tobytes() for one in alone[images.labels.names[label]]}
    assert images.as_read.classes == {"even": 5, "odd": 4}
    assert dataclasses.replace(images, labels=None).fingerprint == images.fingerprint
    file = tmp_path / "images.npz"
    file.write_bytes(images.as_npz())
    found = ImageSet.from_npz(file)
    assert found.as_read == images.as_read
    assert np.array_equal(found.labels.train, images.labels.train)
    assert np.array_equal(found.labels.held_out, images.labels.held_out)


def test_labels_that_do_not_fit_are_refused(tmp_path):
    images = DATASETS["digits"](tmp_path)
    for wrong in (Labels.of(["a"], ["b"]), dataclasses.replace(images.labels, names=("0", "1"))):
        with pytest.raises(DataError, match="labels of train"):
            dataclasses.replace(images, labels=wrong)


def test_digits_and_what_is_made_of_them_have_ten_classes(tmp_path):
    digits = DATASETS["digits"](tmp_path)
    assert [*digits.as_read.classes] == [*"0123456789"]
    some = DATASETS["finite"](tmp_path, images=50)
    assert np.array_equal(some.labels.train, digits.labels.train[:50])


def test_a_reading_is_read_back_equal_and_may_lose_the_names_of_files(tmp_path, photo):
    photo.crop((0, 0, 5, 9)).save(tmp_path / "private.png")
    (tmp_path / "private.txt").write_text("")
    (tmp_path / "private-broken.png").write_bytes(b"")
    reading = reading_of(tmp_path)
    assert Reading.from_json(reading.to_json()) == reading
    assert "private" in reading.to_json()
    nameless = reading.without_names()
    assert "private" not in nameless.to_json()
    assert [remark.what for remark in nameless.remarks()] == [one.what for one in reading.remarks()]


def test_whoever_asks_is_told_how_far_reading_is(write_zip, pictures):
    archive = write_zip("a.zip", {f"{n}.png": each for n, each in enumerate(pictures(3))})
    told = []
    with telling(lambda done, total: told.append((done, total))):
        read_folder(archive, Preparation(6))
    read_folder(archive, Preparation(6))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
