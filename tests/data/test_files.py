import io
import struct

import numpy as np
import pytest
from PIL import Image

from harness.data.files import read_images
from harness.errors import DataError


def test_a_zip_and_a_folder_of_the_same_files_are_the_same_images(tmp_path, write_zip, pictures):
    files = {f"kind/{number}.png": content for number, content in enumerate(pictures(4))}
    (tmp_path / "folder" / "kind").mkdir(parents=True)
    for name, content in files.items():
        (tmp_path / "folder" / name).write_bytes(content)
    from_zip = read_images(write_zip("a.zip", dict(reversed(files.items()))), 6)
    from_folder = read_images(tmp_path / "folder", 6)
    assert np.array_equal(from_zip, from_folder)
    assert from_zip.shape == (4, 3, 6, 6)
    assert np.array_equal(
        from_zip[0].transpose(1, 2, 0), Image.open(io.BytesIO(files["kind/0.png"]))
    )


def test_what_is_hidden_or_no_image_is_passed_over(write_zip, pictures):
    [content] = pictures(1)
    archive = write_zip(
        "a.zip",
        {
            "image.PNG": content,
            ".hidden.png": b"no image",
            ".cache/image.png": b"no image",
            "__MACOSX/._image.png": b"no image",
            "labels.csv": b"file,label",
            "README": b"",
        },
    )
    assert len(read_images(archive, 6)) == 1


def test_the_square_in_the_centre_is_taken(tmp_path):
    pixels = np.zeros((4, 10, 3), np.uint8)
    pixels[:, 3:7] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    Image.fromarray(pixels.transpose(1, 0, 2)).save(tmp_path / "tall.png")
    assert (read_images(tmp_path, 4) == 255).all()


def test_shrinking_averages_instead_of_skipping_pixels(tmp_path):
    fine = np.indices((64, 64)).sum(axis=0) % 2 * 255  # a chess board of single pixels
    Image.fromarray(fine.astype(np.uint8)).save(tmp_path / "fine.png")
    assert np.abs(read_images(tmp_path, 8).astype(int) - 128).max() <= 2


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1"])
def test_pictures_of_any_usual_mode_become_colour_or_grey(tmp_path, mode):
    Image.new("RGB", (6, 6), (255, 255, 255)).convert(mode).save(tmp_path / "white.png")
    for grey, channels in [(False, 3), (True, 1)]:
        images = read_images(tmp_path, 6, grey=grey)
        assert images.shape == (1, channels, 6, 6)
        assert images.dtype == np.uint8
        assert (images == 255).all()


def test_sixteen_bits_are_refused_and_not_clipped_to_white(tmp_path):
    Image.fromarray(np.full((6, 6), 1000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match=r"deep.png in .*8 bits"):
        read_images(tmp_path, 6)


@pytest.mark.parametrize("content", [b"", b"no image", "cut short", "wrong checksum"])
def test_a_broken_image_is_named(tmp_path, pictures, content):
    [whole] = pictures(1)
    if content == "cut short":
        content = whole[: len(whole) // 2]
    elif content == "wrong checksum":
        content = whole[:40] + struct.pack("B", whole[40] ^ 255) + whole[41:]
    (tmp_path / "good.png").write_bytes(whole)
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.png in .*Replace it"):
        read_images(tmp_path, 6)


def test_a_zip_that_was_cut_short_is_named(write_zip, pictures):
    archive = write_zip("a.zip", {"image.png": pictures(1)[0]})
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"a\.zip is neither a folder nor a zip"):
        read_images(archive, 6)


def test_a_zip_with_a_damaged_file_names_the_file(write_zip, pictures):
    [content] = pictures(1)
    archive = write_zip("a.zip", {"good.png": content, "image.png": content})
    damaged = bytearray(archive.read_bytes())
    damaged[damaged.rindex(content) + 60] ^= 255
    archive.write_bytes(damaged)
    with pytest.raises(DataError, match=r"image\.png in .*a\.zip cannot be read.*CRC"):
        read_images(archive, 6)


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "labels.csv").write_text("file,label")
    with pytest.raises(DataError, match=r"no image in .*\.png"):
        read_images(tmp_path, 6)


def test_only_the_images_of_a_part_are_read(write_zip, pictures):
    one, two, three = pictures(3)
    archive = write_zip(
        "a.zip", {"x/train/1.png": one, "x/test/2.png": two, "train/y/3.png": three}
    )
    assert len(read_images(archive, 6, part="train")) == 2
    assert len(read_images(archive, 6, part="test")) == 1
    with pytest.raises(DataError, match="folder 'val'"):
        read_images(archive, 6, part="val")
