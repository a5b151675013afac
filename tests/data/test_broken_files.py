"""Files that were cut short, corrupted, misnamed or are none: each is read, or named in a line."""

import gzip
import io
import os
import random
import resource
import struct
import warnings
import zipfile

import numpy as np
import pytest
from hostile import TEXTS, unprintable
from PIL import Image

from harness.data.classics import mnist
from harness.data.files import read_folder
from harness.data.folder import existing_path
from harness.data.prepare import Preparation
from harness.errors import DataError
from harness.work.reading import Files

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 20, 4), dtype=np.uint8)


def encoded(kind, mode="RGB", **options):
    file = io.BytesIO()
    image = Image.fromarray(PIXELS).convert(mode)
    if options.get("save_all"):
        options["append_images"] = [Image.eval(image, lambda level: 255 - level)]
    image.save(file, kind, **options)
    return file.getvalue()


WHOLE = {
    "a.png": encoded("PNG"), "alpha.png": encoded("PNG", "RGBA"),
    "palette.png": encoded("PNG", "P"), "film.png": encoded("PNG", save_all=True),
    "a.jpg": encoded("JPEG"), "cmyk.jpg": encoded("JPEG", "CMYK"),
    "slow.jpg": encoded("JPEG", progressive=True),
    "a.gif": encoded("GIF", "P"), "film.gif": encoded("GIF", "P", save_all=True),
    "a.webp": encoded("WEBP"), "film.webp": encoded("WEBP", "RGBA", save_all=True),
    "a.tif": encoded("TIFF"), "lzw.tif": encoded("TIFF", "RGBA", compression="tiff_lzw"),
    "a.bmp": encoded("BMP"), "a.ppm": encoded("PPM"),
}  # fmt: skip


def corrupted(content, draw):
    """Cut short, with bits flipped, with a large number among its sizes, or ending in nonsense."""
    broken, place = bytearray(content), draw.randrange(len(content))
    kind = draw.randrange(4)
    if kind == 0:
        return content[:place]
    if kind == 1:
        for _ in range(draw.choice([1, 4, 20])):
            broken[draw.randrange(len(broken))] ^= 1 << draw.randrange(8)
    elif kind == 2:
        start = draw.randrange(min(60, len(broken) - 4))
        broken[start : start + 4] = draw.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"])
    else:
        broken[place:] = draw.randbytes(50)
    return bytes(broken)


def told(path, name):
    """What is said of the images here; a refusal is one line that names the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found = read_folder(path, Preparation(6))
        except DataError as error:
            line = str(error)
            assert name in line
            assert "\n" not in line
            assert not unprintable(line)
            assert len(line) < 600
            return line
    assert found.images.dtype == np.uint8
    return " ".join(found.reading.sentences())


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_image_is_read_and_a_broken_one_named(tmp_path, name):
    path, draw = tmp_path / name, random.Random(name)
    path.write_bytes(WHOLE[name])
    assert "cannot" not in told(tmp_path, name)
    for _ in range(10):
        path.write_bytes(corrupted(WHOLE[name], draw))
        told(tmp_path, name)


def test_a_broken_zip_is_named(tmp_path):
    path, draw = tmp_path / "images.zip", random.Random(1)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../up.png", WHOLE["a.png"])
        archive.writestr("/etc/a.png", WHOLE["alpha.png"])
    whole = path.read_bytes()
    assert "transparent" in told(path, "images.zip")
    assert {*tmp_path.iterdir()} == {path}  # nothing is unpacked beside it, or above
    for _ in range(50):
        path.write_bytes(corrupted(whole, draw))
        told(path, "images.zip")


MISNAMED = {
    "empty": b"", "text": b"no image", "html": b"<html>" * 100, "a zip": b"PK\3\4" + bytes(40),
    "only a head": WHOLE["a.png"][:8], "a pickle": b"\x80\4\x95", "a script": b"#!/bin/sh\n",
}  # fmt: skip


@pytest.mark.parametrize("case", MISNAMED)
def test_what_is_no_image_by_its_content_is_named(tmp_path, case):
    (tmp_path / "x.png").write_bytes(MISNAMED[case])
    assert "cannot be used" in told(tmp_path, "x.png")


def test_an_image_by_another_suffix_and_one_of_a_single_pixel_are_read(tmp_path):
    (tmp_path / "x.png").write_bytes(WHOLE["a.jpg"])
    Image.new("RGB", (1, 1), "red").save(tmp_path / "y.png")
    reading = read_folder(tmp_path, Preparation(6)).reading
    assert reading.used == 2
    assert reading.altered == {"enlarged": Files(1, "y.png")}


@pytest.mark.parametrize("content", ["a file", "a zip"])
def test_what_would_fill_the_memory_is_refused_unread(tmp_path, content):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if content == "a file":
        with (tmp_path / "x.png").open("wb") as file:
            file.truncate(20 * 2**30)  # sparse: it takes no room on the disk
        assert "bytes" in told(tmp_path, "x.png")
    else:
        path = tmp_path / "x.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.png", b"x")
        whole = path.read_bytes()
        at = whole.rindex(b"PK\1\2") + 24  # what its directory says of its size
        path.write_bytes(whole[:at] + struct.pack("<I", 2**32 - 2) + whole[at + 4 :])
        assert "bytes" in told(path, "x.png")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


def test_names_that_lead_to_no_file_are_counted(tmp_path):
    (tmp_path / "good.png").write_bytes(WHOLE["a.png"])
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "broken.png").symlink_to("nowhere")
    (tmp_path / "loop.png").symlink_to("loop.png")
    os.mkfifo(tmp_path / "pipe.png")  # to read it would take for ever
    assert read_folder(tmp_path, Preparation(6)).reading.stray.count == 3


def test_a_pipe_in_the_place_of_an_archive_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.zip")
    assert "it is no file" in told(tmp_path / "x.zip", "x.zip")


def test_a_file_of_any_name_is_read_or_named(tmp_path):
    names = [text.replace("/", "").replace("\0", "") for text in TEXTS]
    for name in [*names, "\udc80", "-rf", "x" * 200]:
        path = tmp_path / f"{name}.png"
        path.write_bytes(WHOLE["a.png"])
        assert told(tmp_path, "") == ""
        path.write_bytes(b"")
        assert "cannot be used" in told(tmp_path, "")
        path.unlink()


def test_thousands_of_other_files_are_counted_in_a_line(tmp_path):
    (tmp_path / "x.png").write_bytes(WHOLE["a.png"])
    for n in range(2000):
        (tmp_path / f"{n}.{n}\n").touch()
    reading = read_folder(tmp_path, Preparation(6)).reading
    assert sum(files.count for files in reading.skipped.values()) == 2000
    line = told(tmp_path, "")
    assert "\n" not in line
    assert len(line) < 200


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000, "~nobody-here/x", "", "a\nb"])
def test_a_path_that_nothing_can_have_is_refused(tmp_path, path):
    with pytest.raises(DataError, match="Give the folder or zip of images"):
        existing_path(path, tmp_path)


IDX = {"train-images-idx3-ubyte": (3, 60), "t10k-images-idx3-ubyte": (3, 10),
       "train-labels-idx1-ubyte": (1, 60), "t10k-labels-idx1-ubyte": (1, 10)}  # fmt: skip


@pytest.mark.parametrize(
    "broken", [None, b"", b"\0\0\x08\3", struct.pack(">4i", 2051, 2**31 - 1, 28, 28) + bytes(99),
               struct.pack(">4i", 0x77777777, 60, 28, 28), gzip.compress(bytes(99))[:20]],
    ids=["whole", "empty", "cut short", "2^31 images", "another magic", "cut gzip"],
)  # fmt: skip
def test_damaged_files_of_a_classic_are_said_to_be_damaged(tmp_path, broken):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, (dimensions, count) in IDX.items():
        shape = (count, 28, 28)[:dimensions]
        head = struct.pack(f">{1 + dimensions}i", 0x800 + dimensions, *shape)
        (raw / name).write_bytes(head + bytes(int(np.prod(shape))))
    if broken is None:
        assert len(mnist(tmp_path).held_out) == 10
        return
    (raw / "train-images-idx3-ubyte").write_bytes(broken)
    with pytest.raises(DataError, match=r"MNIST is damaged .* delete it"):
        mnist(tmp_path)
