import numpy as np
import pytest

from harness.data.images import ImageSet, split_by_content
from harness.errors import BadOption, DataError


def some_images(count, seed=0, size=4):
    return np.random.default_rng(seed).integers(0, 256, (count, 3, size, size), dtype=np.uint8)


def contents(images):
    return {image.tobytes() for image in images}


def test_a_split_does_not_depend_on_the_order_of_the_files():
    images = some_images(50)
    forward, backward = (
        split_by_content("x", each, held_out=10) for each in (images, images[::-1])
    )
    assert len(forward.train) == 40
    assert len(forward.held_out) == 10
    assert forward.fingerprint == backward.fingerprint
    assert contents(forward.train) | contents(forward.held_out) == contents(images)


@pytest.mark.parametrize("held_out", range(1, 19))
def test_equal_images_are_never_on_both_sides(held_out):
    images = np.repeat(some_images(7), 3, axis=0)
    split = split_by_content("x", images, held_out)
    assert not contents(split.train) & contents(split.held_out)
    assert len(split.train) + len(split.held_out) == len(images)
    assert held_out <= len(split.held_out) < held_out + 3


@pytest.mark.parametrize("held_out", [0, 1, 5])
def test_a_split_that_leaves_a_side_empty_is_refused(held_out):
    images = np.repeat(some_images(1), 5, axis=0)  # all equal, so they cannot be parted
    with pytest.raises(DataError, match="'x': no image is left for the part"):
        split_by_content("x", images, held_out)


def test_a_reference_is_one_part_or_both():
    images = ImageSet("x", train=some_images(5), held_out=some_images(3, seed=1))
    assert np.array_equal(images.reference("train"), images.train)
    assert np.array_equal(images.reference("held_out"), images.held_out)
    assert len(images.reference("all")) == 8
    with pytest.raises(BadOption, match="Did you mean 'train'"):
        images.reference("trian")


def test_a_fingerprint_changes_with_a_single_pixel_and_with_the_part():
    train, held_out = some_images(5), some_images(3, seed=1)
    changed = train.copy()
    changed[4, 2, 3, 3] ^= 1
    fingerprints = {
        ImageSet("x", *parts).fingerprint
        for parts in [(train, held_out), (changed, held_out), (held_out, train)]
    }
    assert len(fingerprints) == 3
    assert ImageSet("y", train, held_out).fingerprint in fingerprints


@pytest.mark.parametrize(
    ("train", "problem"),
    [
        (some_images(5) / np.float32(255), "uint8"),
        (some_images(5)[0], "uint8"),
        (some_images(5)[:, :, :3], "side, side"),
        (some_images(5, size=8), "must be alike"),
    ],
)
def test_images_that_no_network_could_take_are_refused(train, problem):
    with pytest.raises(DataError, match=problem):
        ImageSet("x", train, some_images(3))


def test_size_and_channels_are_those_of_the_images():
    images = ImageSet("x", some_images(5), some_images(3))
    assert (images.channels, images.size, images.flip) == (3, 4, False)
