"""Extractors: their contract, and that distances in their space see what an eye would see."""

import os
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image, ImageFilter

from harness.data.datasets import DATASETS
from harness.errors import BadOption, DataError
from harness.metrics.distances import METRICS
from harness.metrics.features import EXTRACTORS, LAST_BLOCK, TORCH_FIDELITY, UP_TO_768

SUITABLE = {"digits": (1, 8), "inception": (3, 16), "pixels": (2, 4)}  # channels and size


@pytest.fixture(scope="module")
def inception_dir(tmp_path_factory):
    """A folder with random weights of the right shapes, as far as the features of 192."""
    import torch
    from safetensors.torch import save_file
    from torch_fidelity.feature_extractor_inceptionv3 import BasicConv2d

    blocks = {
        "Conv2d_1a_3x3": (3, 32), "Conv2d_2a_3x3": (32, 32), "Conv2d_2b_3x3": (32, 64),
        "Conv2d_3b_1x1": (64, 80), "Conv2d_4a_3x3": (80, 192),
    }  # fmt: skip
    torch.manual_seed(0)
    weights = {
        f"{block}.{name}": tensor
        for block, channels in blocks.items()
        for name, tensor in BasicConv2d(*channels, kernel_size=1 if "1x1" in block else 3)
        .state_dict()
        .items()
        if name != "bn.num_batches_tracked"
    }
    folder = tmp_path_factory.mktemp("inception")
    save_file(weights, folder / "start.safetensors")
    return folder


@pytest.fixture(params=EXTRACTORS.names())
def extractor(request, inception_dir):
    """Each extractor, with images that suit it."""
    options = {"inception": {"layer": 64, "weights": "start.safetensors"}}
    made = EXTRACTORS[request.param](inception_dir, "cpu", **options.get(request.param, {}))
    channels, size = SUITABLE[request.param]
    shape = (5, channels, size, size)
    return made, np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


# The contract of every extractor.


def test_every_extractor_gives_one_finite_row_for_each_image(extractor):
    extract, images = extractor
    features = extract(images)
    assert features.shape == (5, features.shape[1])
    assert features.dtype == np.float64
    assert np.isfinite(features).all()
    assert len(np.unique(features, axis=0)) == 5


def test_no_feature_depends_on_the_batches(extractor):
    extract, images = extractor
    np.testing.assert_allclose(extract(images, batch_size=2), extract(images), rtol=1e-4, atol=1e-5)


def test_every_extractor_names_its_quantity_and_its_weights(extractor):
    extract, images = extractor
    assert extract.label
    assert len(extract.fingerprint) == 64
    assert extract.check(images.shape[1], images.shape[2]) is None
    if extract.label != "pixels":  # any channel is a number like another to it
        with pytest.raises(DataError, match="channel"):
            extract.check(7, images.shape[2])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda images: images / np.float32(255),
        lambda images: images.astype(np.int64),
        lambda images: images[0],
        lambda images: images[:0],
        lambda images: images[:, :, :-1],
        lambda images: images.tolist(),
    ],
)
def test_every_extractor_refuses_what_is_no_set_of_8_bit_images(extractor, spoil):
    extract, images = extractor
    with pytest.raises(ValueError, match="images must be"):
        extract(spoil(images))


def test_extractors_are_found_and_checked_without_torch(inception_dir):
    script = (
        "import sys; from pathlib import Path; from harness.metrics.features import EXTRACTORS;"
        f"folder = Path({str(inception_dir)!r});"
        "EXTRACTORS['inception'](folder, 'cpu', layer=192, weights='start.safetensors');"
        "print(EXTRACTORS['digits'](folder, 'cpu').fingerprint);"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


# Digits.


@pytest.fixture(scope="module")
def digits():
    """What is asked of the digits' features: their training part, and some held out."""
    images = DATASETS["digits"](Path())
    extract = EXTRACTORS["digits"](Path(), "cpu")
    return extract, extract(images.train), images.held_out


def blurred(images, radius):
    blur = ImageFilter.GaussianBlur(radius)
    return np.stack([np.asarray(Image.fromarray(image[0]).filter(blur))[None] for image in images])


def noisy(images, spread):
    noise = np.random.default_rng(0).normal(size=images.shape)
    return np.clip(np.rint(images + spread * noise), 0, 255).astype(np.uint8)


def without_classes(images, dropped):
    """Without those that show the highest `dropped` of the ten digits."""
    from harness.metrics.make_digits_extractor import labels

    return images[labels(images).numpy() < 10 - dropped]


@pytest.mark.parametrize("name", METRICS.names())
@pytest.mark.parametrize(
    ("damage", "amounts"),
    [
        (noisy, [0, 15, 30, 60, 100, 150, 1000]),
        (blurred, [0, 0.5, 0.6, 0.8, 1, 1.5]),
        (without_classes, [0, 1, 3, 5, 7, 9]),
    ],
)
def test_every_metric_gets_worse_with_every_damage_to_digits(digits, name, damage, amounts):
    extract, reference, held_out = digits
    values = [METRICS[name].function(extract(damage(held_out, a)), reference) for a in amounts]
    assert values == sorted(values)
    assert len(set(values)) == len(values)


def test_real_digits_are_far_closer_than_noise(digits):
    extract, reference, held_out = digits
    noise = np.random.default_rng(0).integers(0, 256, held_out.shape, dtype=np.uint8)
    fid, kid = METRICS["fid"].function, METRICS["kid"].function
    assert abs(kid(extract(held_out), reference)) < 0.02
    assert kid(extract(noise), reference) > 0.5
    assert fid(extract(noise), reference) > 20 * fid(extract(held_out), reference)


def test_every_feature_of_digits_is_alive_and_of_one_scale(digits):
    _, reference, _ = digits
    np.testing.assert_allclose(reference.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(reference.std(axis=0, ddof=1), 1, atol=1e-4)


def test_the_weights_of_digits_are_small_enough_to_ship():
    import harness.metrics

    file = Path(harness.metrics.__file__).with_name("digits.safetensors")
    assert file.stat().st_size < 1_000_000


def test_digits_refuses_a_data_set_of_other_images():
    with pytest.raises(DataError, match="Use the extractor 'inception'"):
        EXTRACTORS["digits"](Path(), "cpu").check(3, 64)


# Inception.


def test_inception_takes_grey_as_three_equal_channels(inception_dir):
    extract = EXTRACTORS["inception"](inception_dir, "cpu", layer=64, weights="start.safetensors")
    grey = np.random.default_rng(0).integers(0, 256, (3, 1, 16, 16), dtype=np.uint8)
    np.testing.assert_array_equal(extract(grey), extract(np.repeat(grey, 3, axis=1)))
    assert extract.label == "inception-64"


def test_inception_equals_the_network_of_torch_fidelity_with_the_same_weights(inception_dir):
    import torch
    from safetensors.torch import load_file
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    file = inception_dir / "start.safetensors"
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16), dtype=np.uint8)
    ours = EXTRACTORS["inception"](inception_dir, "cpu", layer=192, weights=str(file))
    whole = ours._network.state_dict()
    assert all(torch.equal(whole[name], tensor) for name, tensor in load_file(file).items())
    whole_file = inception_dir / "whole.pth"
    torch.save(whole, whole_file)
    theirs = FeatureExtractorInceptionV3("x", ["192"], str(whole_file))
    [expected] = theirs(torch.from_numpy(images))
    np.testing.assert_allclose(ours(images), expected.double().numpy(), rtol=1e-5, atol=1e-6)
    by_pth = EXTRACTORS["inception"](inception_dir, "cpu", layer=192, weights="whole.pth")
    np.testing.assert_array_equal(by_pth(images), ours(images))
    later = EXTRACTORS["inception"](inception_dir, "cpu", layer=768, weights="whole.pth")
    assert np.isnan(later(images)).all()  # what was never given cannot pass for a feature


@pytest.mark.parametrize("layer", LAST_BLOCK)
def test_without_weights_and_network_one_error_says_what_belongs_where(
    layer, tmp_path, monkeypatch
):
    def fail(*_args, **_options):
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("torch.hub.urlopen", fail)
    with pytest.raises(DataError) as caught:
        EXTRACTORS["inception"](tmp_path / "data", "cpu", layer=layer)
    assert "no route to host" in str(caught.value)
    assert f"into {tmp_path / 'data'}" in str(caught.value)
    assert TORCH_FIDELITY in str(caught.value)
    assert (UP_TO_768[0] in str(caught.value)) == (layer <= 768)
    assert not (tmp_path / "data").exists()


def test_the_weights_of_torch_fidelity_are_found_in_its_own_cache(tmp_path, monkeypatch):
    cached = tmp_path / "hub" / "checkpoints" / TORCH_FIDELITY
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"weights")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    extract = EXTRACTORS["inception"](tmp_path, "cpu")
    assert extract.label == "inception-2048"
    with pytest.raises(DataError, match="cannot be read as weights"):
        extract(np.zeros((1, 3, 8, 8), np.uint8))


def test_weights_that_end_before_the_layer_are_refused_at_once(inception_dir):
    with pytest.raises(DataError, match=r"has no layer Mixed_6e.*Set 'layer' to a smaller one"):
        EXTRACTORS["inception"](inception_dir, "cpu", layer=768, weights="start.safetensors")


def test_weights_that_are_missing_or_none_are_refused_at_once(tmp_path):
    with pytest.raises(DataError, match=r"there are no weights 'mine\.pth'"):
        EXTRACTORS["inception"](tmp_path, "cpu", weights="mine.pth")
    (tmp_path / "mine.safetensors").write_bytes(b"not found on this server")
    with pytest.raises(DataError, match="cannot be read as weights"):
        EXTRACTORS["inception"](tmp_path, "cpu", weights="mine.safetensors")


def test_the_weights_of_another_network_are_refused(tmp_path):
    import torch
    from safetensors.torch import save_file

    save_file({"Conv2d_2b_3x3.conv.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    extract = EXTRACTORS["inception"](tmp_path, "cpu", layer=64, weights="other.safetensors")
    with pytest.raises(DataError, match="does not hold weights of this Inception network"):
        extract(np.zeros((1, 3, 8, 8), np.uint8))


def test_a_layer_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(BadOption, match="must be one of 64, 192, 768, 2048, not 512"):
        EXTRACTORS["inception"](tmp_path, "cpu", layer=512)


@pytest.mark.slow
def test_the_reference_figure_of_flowers_is_reproduced():
    """0.498 for 120 + 120 images of the official parts, computed by torch-fidelity alone."""
    import csv
    import io
    import zipfile

    data_dir = Path(os.environ.get("HARNESS_TEST_DATA", "data"))
    archive = data_dir / "flowers102-64.zip"
    if not archive.exists() or not (data_dir / UP_TO_768[0]).exists():
        pytest.skip("HARNESS_TEST_DATA names no folder that holds the flowers and the weights")
    generator = np.random.default_rng(0)

    def chosen(part):
        files = [name for name, of in csv.reader(io.StringIO(split)) if of == part]
        taken = [sorted(files)[index] for index in generator.permutation(len(files))[:120]]
        pictures = [Image.open(io.BytesIO(flowers.read(name))).convert("RGB") for name in taken]
        return np.stack([np.asarray(picture).transpose(2, 0, 1) for picture in pictures])

    with zipfile.ZipFile(archive) as flowers:
        split = flowers.read("split.csv").decode()
        extract = EXTRACTORS["inception"](data_dir, "cpu", layer=768)
        train, val = (extract(chosen(part)) for part in ("train", "val"))
    assert METRICS["fid"].function(train, val) == pytest.approx(0.498, abs=0.02)
    assert METRICS["kid"].function(train, val) == pytest.approx(-0.008e-3, abs=0.03e-3)
