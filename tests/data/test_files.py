import io
import struct
import warnings

import numpy as np
import pytest
from PIL import Image

from harness.data.contents import image_files
from harness.data.files import read_folder, read_images
from harness.data.prepare import Preparation
from harness.errors import DataError
from harness.work.reading import Files


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
    found = read_folder(archive, Preparation(6))
    assert len(found.images) == 1
    assert {suffix: files.count for suffix, files in found.reading.skipped.items()} == {
        ".csv": 1, "no suffix": 1,
    }  # fmt: skip
    assert found.reading.found == 3


def test_where_nothing_is_left_out_or_altered_nothing_is_said(write_zip, pictures):
    found = read_folder(write_zip("a.zip", {"a.png": pictures(1)[0]}), Preparation(6))
    assert found.reading.remarks() == []


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JPG"])
def test_every_usual_name_of_a_jpeg_is_read(tmp_path, suffix):
    Image.new("RGB", (6, 6), "red").save(tmp_path / f"image{suffix}", "JPEG")
    assert read_images(tmp_path, 6).shape == (1, 3, 6, 6)


def test_links_to_folders_are_followed_and_each_folder_is_read_once(tmp_path, pictures):
    for folder, contents in [("images/dog", pictures(2)), ("elsewhere", pictures(3))]:
        (tmp_path / folder).mkdir(parents=True)
        for number, content in enumerate(contents):
            (tmp_path / folder / f"{number}.png").write_bytes(content)
    images = tmp_path / "images"
    (images / "cat").symlink_to(tmp_path / "elsewhere")
    (images / "dog" / "back").symlink_to(images)  # it never ends, where links are followed blindly
    assert len(read_images(images, 6)) == 5
    assert [str(file.relative_to(images)) for file in image_files(images)] == [
        "cat/0.png", "cat/1.png", "cat/2.png", "dog/0.png", "dog/1.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("grey", "background", "shown"),
    [(False, "white", [255] * 3), (True, "white", [255]), (False, "black", [0] * 3),
     (True, "grey", [128])],
)  # fmt: skip
def test_what_is_transparent_is_the_background_and_not_the_colour_beneath(
    tmp_path, grey, background, shown
):
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[..., 0] = 255  # red, which nobody sees
    pixels[4:12, 4:12] = [10, 200, 30, 255]
    Image.fromarray(pixels).save(tmp_path / "image.png")
    found = read_folder(tmp_path, Preparation(16, grey, background))
    [image] = found.images
    assert image[:, 0, 0].tolist() == shown
    assert image[:, 8, 8].tolist() == ([124] if grey else [10, 200, 30])  # 0.299 R + ...
    assert found.reading.altered == {"transparent": Files(1, "image.png")}
    [remark] = found.reading.remarks()
    assert background in remark.what


def test_of_a_film_the_first_frame_is_taken_and_that_is_said(tmp_path):
    red, blue = (Image.new("RGB", (6, 6), colour) for colour in ("red", "blue"))
    red.save(tmp_path / "film.gif", save_all=True, append_images=[blue])
    found = read_folder(tmp_path, Preparation(6))
    assert found.images[0, :, 0, 0].tolist() == [255, 0, 0]
    assert found.reading.altered["first_frame"] == Files(1, "film.gif")


def test_an_image_too_large_for_memory_is_named_and_one_that_is_only_large_is_read(
    tmp_path, monkeypatch
):
    Image.new("L", (50, 50)).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match=r"huge\.png in .* more than 2,000 pixels.* Use a smaller"):
        read_images(tmp_path, 6)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_images(tmp_path, 6).shape == (1, 3, 6, 6)


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


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_are_reduced_to_eight_and_not_clipped_to_white(tmp_path, suffix):
    levels = np.linspace(0, 65535, 36).astype(np.uint16).reshape(6, 6)
    path = tmp_path / f"deep.{suffix}"
    if suffix == "pgm":  # which Pillow 10 reads and does not write
        path.write_bytes(b"P5 6 6 65535\n" + levels.astype(">u2").tobytes())
    else:
        Image.fromarray(levels).save(path)
    found = read_folder(tmp_path, Preparation(6, grey=True))
    assert np.array_equal(found.images[0, 0], levels >> 8)
    assert found.reading.altered == {"deep": Files(1, f"deep.{suffix}")}
    assert found.reading.grey == 1


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_values_of_an_unknown_range_are_refused(tmp_path, kind):
    Image.fromarray(np.full((6, 6), 1000, kind)).save(tmp_path / "deep.tif")
    with pytest.raises(DataError, match=r"deep.tif in .*16 bits"):
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
    with pytest.raises(DataError, match=r"image\.png in .*a\.zip cannot be used.*CRC"):
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
