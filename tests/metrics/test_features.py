"""Extractors: their contract, and that distances in their space see what an eye would see."""

import hashlib
import os
import subprocess
import sys
import warnings
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from make_digits_extractor import labels, named
from PIL import Image, ImageFilter

from harness.data.datasets import DATASETS
from harness.errors import BadOption, DataError
from harness.metrics.distances import METRICS
from harness.metrics.features import EXTRACTORS, digits_network, has_logits
from harness.metrics.inception import LAST_BLOCK, TORCH_FIDELITY, UP_TO_768
from harness.metrics.vision_transformers import CLIP, DINOV2, dinov2_positions

SUITABLE = {
    "clip": (3, 16), "digits": (1, 8), "dinov2": (3, 16), "inception": (3, 16), "pixels": (2, 4),
}  # channels and size  # fmt: skip


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


@pytest.fixture(scope="module")
def dinov2_dir(tmp_path_factory):
    """A folder with random weights of the smallest DINOv2, under their published name."""
    import torch

    _, name = DINOV2["vit-s-14"]
    width, depth = 384, 12
    torch.manual_seed(0)

    def layer(name, columns, rows):
        weight, bias = torch.randn(rows, columns) / columns**0.5, 0.1 * torch.randn(rows)
        return {f"{name}.weight": weight, f"{name}.bias": bias}

    def norm(name):
        return {
            f"{name}.weight": 1 + 0.1 * torch.randn(width),
            f"{name}.bias": 0.1 * torch.randn(width),
        }

    weights = {
        "cls_token": torch.randn(1, 1, width),
        "pos_embed": torch.randn(1, 37 * 37 + 1, width),
        "mask_token": torch.zeros(1, width),
        "patch_embed.proj.weight": torch.randn(width, 3, 14, 14) / (3 * 14**2) ** 0.5,
        "patch_embed.proj.bias": torch.randn(width),
        **norm("norm"),
    }
    for block in range(depth):
        here = f"blocks.{block}"
        weights |= layer(f"{here}.attn.qkv", width, 3 * width)
        weights |= layer(f"{here}.attn.proj", width, width)
        weights |= layer(f"{here}.mlp.fc1", width, 4 * width)
        weights |= layer(f"{here}.mlp.fc2", 4 * width, width)
        weights |= norm(f"{here}.norm1") | norm(f"{here}.norm2")
        weights |= {f"{here}.{scale}.gamma": torch.rand(width) for scale in ("ls1", "ls2")}
    folder = tmp_path_factory.mktemp("dinov2")
    torch.save(weights, folder / name)
    return folder


@pytest.fixture(scope="module")
def clip_dir(tmp_path_factory):
    """A folder with an archive like OpenAI's, of a small network with random weights."""
    import torch
    from torch_fidelity.feature_extractor_clip import CLIPVisual

    class Clip(CLIPVisual):
        def __init__(self):
            super().__init__(
                embed_dim=24, image_resolution=64, vision_layers=2, vision_width=64,
                vision_patch_size=32,
            )  # fmt: skip
            self.text_projection = torch.nn.Parameter(torch.randn(16, 24))

        def forward(self, images):
            return self.visual(images)

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.trace(Clip().eval(), torch.randn(1, 3, 64, 64)).save(folder / CLIP["vit-b-32"][0])
    return folder


@pytest.fixture
def folder_of(request):
    """The folder that holds weights for an extractor."""
    made = {"clip": "clip_dir", "dinov2": "dinov2_dir"}
    return lambda name: request.getfixturevalue(made.get(name, "inception_dir"))


@pytest.fixture(params=EXTRACTORS.names())
def extractor(request, folder_of):
    """Each extractor, with images that suit it."""
    options = {
        "dinov2": {"model": "vit-s-14"},
        "inception": {"layer": 64, "weights": "start.safetensors"},
    }.get(request.param, {})
    made = EXTRACTORS[request.param](folder_of(request.param), "cpu", **options)
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


def test_the_sources_of_an_extractor_are_its_files_of_weights(inception_dir, dinov2_dir):
    start = {"layer": 192, "weights": "start.safetensors"}
    found = EXTRACTORS["inception"].sources(inception_dir, **start)
    assert found == [inception_dir / "start.safetensors"]
    found = EXTRACTORS["dinov2"].sources(dinov2_dir, model="vit-s-14")
    assert found == [dinov2_dir / DINOV2["vit-s-14"][1]]


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


def test_logits_are_one_finite_row_for_each_image_and_follow_from_its_features(extractor):
    extract, images = extractor
    assert has_logits(extract) == (extract.label == "digits")
    if has_logits(extract):
        logits = extract.logits(images)
        assert logits.shape == (5, extract.classes)
        assert logits.dtype == np.float64
        assert np.isfinite(logits).all()
        np.testing.assert_allclose(extract.logits_from(extract(images)), logits, rtol=1e-9)
        with pytest.raises(ValueError, match="images must be"):
            extract.logits(images / 255)


def test_extractors_are_found_and_checked_without_torch(inception_dir, dinov2_dir, clip_dir):
    script = (
        "import sys; from pathlib import Path; from harness.metrics.features import EXTRACTORS;"
        f"folder = Path({str(inception_dir)!r});"
        "EXTRACTORS['inception'](folder, 'cpu', layer=192, weights='start.safetensors');"
        f"EXTRACTORS['dinov2'](Path({str(dinov2_dir)!r}), 'cpu', model='vit-s-14').fingerprint;"
        f"EXTRACTORS['clip'](Path({str(clip_dir)!r}), 'cpu').fingerprint;"
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
    return images[labels(images).numpy() < 10 - dropped]


DAMAGES = {
    noisy: [0, 15, 30, 60, 100, 150, 1000],
    blurred: [0, 0.5, 0.6, 0.8, 1, 1.5],
    without_classes: [0, 1, 3, 5, 7, 9],
}


@pytest.mark.parametrize("name", ["kid", "fid"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_every_distance_grows_with_every_damage_to_digits(digits, name, damage):
    extract, reference, held_out = digits
    values = [
        METRICS[name].function(extract(damage(held_out, amount)), reference)
        for amount in DAMAGES[damage]
    ]
    assert values == sorted(values)
    assert len(set(values)) == len(values)


@pytest.mark.parametrize(
    ("name", "damages"),
    [
        ("precision", [noisy, blurred]),  # what is left of the classes is as real as before
        ("density", [noisy, blurred]),
        ("recall", [without_classes]),  # noise is wide enough to hold real images too
        ("coverage", [noisy, blurred, without_classes]),
        ("inception_score", [noisy, without_classes]),
    ],
)
def test_every_other_metric_falls_with_the_damages_it_is_meant_to_see(digits, name, damages):
    extract, reference, held_out = digits
    metric = METRICS[name]
    assert not metric.lower_is_better

    def value(features):
        given = {"logits": extract.logits_from(features)} if metric.needs else {}
        return metric.function(features, reference, **given)

    for damage in damages:
        amounts = DAMAGES[damage]
        values = [value(extract(damage(held_out, amounts[i]))) for i in (0, 2, 4, -1)]
        assert values == sorted(values, reverse=True), (damage, values)
        assert values[0] > 1.2 * values[-1]


def test_memorisation_sees_copies_and_nothing_in_fresh_images(digits):
    extract, reference, held_out = digits
    half, rest = (extract(part) for part in (held_out[::2], held_out[1::2]))
    share = METRICS["memorisation"].function(rest, reference, held_out=half)
    assert share == pytest.approx(0.05, abs=0.05)  # of 250 images
    assert METRICS["memorisation"].function(reference[:100], reference, held_out=half) == 1


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


def test_the_logits_of_digits_name_the_digits(digits):
    import torch
    from safetensors.torch import load_file

    import harness.metrics

    extract, _, held_out = digits
    logits = extract.logits(held_out)
    assert (logits.argmax(axis=1) == labels(held_out).numpy()).mean() > 0.98

    # The classifier itself, as it was trained: from features that are not standardised.
    folder = Path(harness.metrics.__file__).parent
    weights = load_file(folder / "digits.safetensors") | load_file(
        folder / "digits-head.safetensors"
    )
    expected = named(weights, digits_network(weights, torch.from_numpy(held_out)))
    np.testing.assert_allclose(logits, expected.numpy(), rtol=1e-4, atol=1e-4)


def test_the_inception_score_of_digits_falls_with_noise_and_with_dropped_classes(digits):
    from harness.metrics.logits import inception_score

    extract, reference, held_out = digits

    def score(images):
        return inception_score(extract(images), reference, logits=extract.logits(images))

    for damage, amounts in [(noisy, [0, 60, 150, 1000]), (without_classes, [0, 3, 5, 9])]:
        scores = [score(damage(held_out, amount)) for amount in amounts]
        assert scores == sorted(scores, reverse=True)
        assert scores[0] > 5


def test_neighbours_of_digits_tell_noise_blur_dropped_classes_and_copies_apart(digits):
    from harness.metrics import copies, neighbours

    extract, reference, held_out = digits
    four = (neighbours.precision, neighbours.recall, neighbours.density, neighbours.coverage)

    def judged(images):
        return [metric(extract(images), reference) for metric in four]

    whole, noise = judged(held_out), judged(noisy(held_out, 150))
    blur, some = judged(blurred(held_out, 1)), judged(without_classes(held_out, 5))
    assert min(whole) > 0.6
    assert max(noise[0], noise[2], noise[3]) < 0.3
    assert blur[3] < whole[3] / 2
    assert some[0] == pytest.approx(whole[0], abs=0.1)
    assert some[1] == pytest.approx(whole[1] / 2, abs=0.12)
    assert some[3] == pytest.approx(whole[3] / 2, abs=0.12)
    copied, fresh = extract(DATASETS["digits"](Path()).train[:100]), extract(held_out)
    memorised = [
        copies.memorisation(features, reference, held_out=fresh) for features in (copied, fresh)
    ]
    assert memorised == pytest.approx([1, 0.05], abs=0.005)


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
    monkeypatch.setattr("requests.get", fail)
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


@pytest.mark.parametrize(("layer", "expected"), [(768, UP_TO_768[0]), (2048, TORCH_FIDELITY)])
def test_the_smaller_file_is_preferred_where_it_is_enough(layer, expected, inception_dir, tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(inception_dir / "start.safetensors")
    save_file(weights | {"Mixed_6e.weight": torch.zeros(1)}, tmp_path / UP_TO_768[0])
    (tmp_path / TORCH_FIDELITY).write_bytes(b"weights")
    content = hashlib.sha256((tmp_path / expected).read_bytes()).hexdigest()
    assert EXTRACTORS["inception"](tmp_path, "cpu", layer=layer).fingerprint == content


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


def test_the_logits_of_inception_equal_those_of_torch_fidelity(tmp_path, inception_dir):
    """With random weights that let something through, for 299x299 images as it makes of all."""
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    start = EXTRACTORS["inception"](inception_dir, "cpu", layer=64, weights="start.safetensors")
    torch.manual_seed(0)
    weights = {
        name: torch.rand_like(tensor) + 0.5
        if tensor.ndim == 1
        else torch.randn_like(tensor) * (2 / tensor[0].numel()) ** 0.5
        for name, tensor in start._network.state_dict().items()
        if "num_batches" not in name
    }
    counts = {n: t for n, t in start._network.state_dict().items() if "num_batches" in n}
    torch.save(weights | counts, tmp_path / TORCH_FIDELITY)
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16), dtype=np.uint8)
    extract = EXTRACTORS["inception"](tmp_path, "cpu")
    theirs = FeatureExtractorInceptionV3(
        "x", ["2048", "logits_unbiased"], str(tmp_path / TORCH_FIDELITY)
    )
    features, logits = (each.double().numpy() for each in theirs(torch.from_numpy(images)))
    assert has_logits(extract)
    assert extract.classes == 1008
    np.testing.assert_allclose(extract(images), features, rtol=1e-5)
    scale = np.abs(logits).max()
    assert logits.std() > 0.01 * scale
    np.testing.assert_allclose(extract.logits(images), logits, rtol=1e-4, atol=1e-5 * scale)


def test_inception_gives_no_logits_of_a_smaller_layer_or_without_the_last_one(
    inception_dir, tmp_path
):
    import torch
    from safetensors.torch import load_file, save_file

    smaller = EXTRACTORS["inception"](inception_dir, "cpu", layer=64, weights="start.safetensors")
    assert not has_logits(smaller)
    with pytest.raises(BadOption, match="Set 'layer' to 2048"):
        smaller.logits(np.zeros((1, 3, 16, 16), np.uint8))
    headless = load_file(inception_dir / "start.safetensors")
    headless["Mixed_7c.branch1x1.conv.weight"] = torch.zeros(1)
    save_file(headless, tmp_path / "headless.safetensors")
    assert not has_logits(EXTRACTORS["inception"](tmp_path, "cpu", weights="headless.safetensors"))
    save_file(headless | {"fc.weight": torch.zeros(1)}, tmp_path / "whole.safetensors")
    assert has_logits(EXTRACTORS["inception"](tmp_path, "cpu", weights="whole.safetensors"))
    whole_file = {"layer": 64, "weights": "whole.safetensors"}
    assert not has_logits(EXTRACTORS["inception"](tmp_path, "cpu", **whole_file))


# DINOv2 and CLIP.


def test_dinov2_equals_the_vision_transformer_of_torchvision(dinov2_dir):
    """Which knows no scaled branches: they go into the last weights of each branch."""
    import torch
    from torch_fidelity.interpolate_compat_tensorflow import (
        interpolate_bilinear_2d_like_tensorflow1x,
    )
    from torchvision.models.vision_transformer import VisionTransformer

    _, name = DINOV2["vit-s-14"]
    width, depth = 384, 12
    weights = torch.load(dinov2_dir / name)
    theirs = {
        "conv_proj.weight": weights["patch_embed.proj.weight"],
        "conv_proj.bias": weights["patch_embed.proj.bias"],
        "class_token": weights["cls_token"],
        "encoder.pos_embedding": dinov2_positions(weights["pos_embed"], 16),
        "encoder.ln.weight": weights["norm.weight"],
        "encoder.ln.bias": weights["norm.bias"],
    }
    for block in range(depth):
        here, there = f"blocks.{block}", f"encoder.layers.encoder_layer_{block}"
        for kind in ("weight", "bias"):
            theirs[f"{there}.ln_1.{kind}"] = weights[f"{here}.norm1.{kind}"]
            theirs[f"{there}.ln_2.{kind}"] = weights[f"{here}.norm2.{kind}"]
            theirs[f"{there}.self_attention.in_proj_{kind}"] = weights[f"{here}.attn.qkv.{kind}"]
            theirs[f"{there}.mlp.0.{kind}"] = weights[f"{here}.mlp.fc1.{kind}"]
            for ours, other, scale in [
                ("attn.proj", "self_attention.out_proj", "ls1"),
                ("mlp.fc2", "mlp.3", "ls2"),
            ]:
                gamma = weights[f"{here}.{scale}.gamma"]
                gamma = gamma[:, None] if kind == "weight" else gamma
                theirs[f"{there}.{other}.{kind}"] = gamma * weights[f"{here}.{ours}.{kind}"]
    network = VisionTransformer(
        image_size=224, patch_size=14, num_layers=depth, num_heads=6, hidden_dim=width,
        mlp_dim=4 * width,
    ).eval()  # fmt: skip
    network.heads = torch.nn.Identity()
    network.load_state_dict(theirs)
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 30, 30), dtype=np.uint8)
    resized = interpolate_bilinear_2d_like_tensorflow1x(
        torch.from_numpy(images).float(), size=(224, 224), align_corners=False
    )
    mean, spread = (
        torch.tensor(values)[:, None, None]  # of ImageNet
        for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.inference_mode():
        expected = network((resized / 255 - mean) / spread)
    extract = EXTRACTORS["dinov2"](dinov2_dir, "cpu", model="vit-s-14")
    np.testing.assert_allclose(extract(images), expected.numpy(), rtol=1e-3, atol=1e-4)
    assert extract.label == "dinov2-vit-s-14"


def test_the_positions_of_dinov2_are_those_of_a_grid_larger_by_a_tenth_of_a_patch():
    """Bicubic interpolation leaves straight lines straight within 0.05, away from the borders; in a
    grid of 16 alone the last place would be off by 0.19."""
    import torch

    down, right = torch.meshgrid(torch.arange(37.0), torch.arange(37.0), indexing="ij")
    first = torch.tensor([[[-1.0, -2.0]]])
    learned = torch.cat([first, torch.stack([down, right], dim=-1).view(1, 37 * 37, 2)], dim=1)
    found = dinov2_positions(learned, 16)
    assert found.shape == (1, 257, 2)
    assert torch.equal(found[:, :1], first)
    places = (torch.arange(2.0, 14) + 0.5) * 37 / 16.1 - 0.5
    inside = found[0, 1:].view(16, 16, 2)[2:14, 2:14]
    torch.testing.assert_close(inside[..., 0], places[:, None].expand(12, 12), rtol=0, atol=0.06)
    torch.testing.assert_close(inside[..., 1], places[None, :].expand(12, 12), rtol=0, atol=0.06)


def test_clip_equals_torch_fidelity_with_the_same_archive(clip_dir):
    import torch
    from torch_fidelity.feature_extractor_clip import FeatureExtractorCLIP

    file = clip_dir / CLIP["vit-b-32"][0]
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 30, 30), dtype=np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        network = FeatureExtractorCLIP("clip-vit-b-32", ["clip"], str(file))
    [expected] = network(torch.from_numpy(images))
    found, given = EXTRACTORS["clip"](clip_dir, "cpu"), EXTRACTORS["clip"]
    np.testing.assert_allclose(found(images), expected.double().numpy(), rtol=1e-5, atol=1e-6)
    other = given(clip_dir, "cpu", model="vit-l-14", weights=str(file))
    assert (found.label, other.label) == ("clip-vit-b-32", "clip-vit-l-14")


@pytest.mark.parametrize(
    ("name", "options"), [("dinov2", {"model": "vit-s-14"}), ("clip", {}), ("inception", None)]
)
def test_colour_networks_take_grey_as_three_equal_channels(name, options, folder_of):
    options = {"layer": 64, "weights": "start.safetensors"} if options is None else options
    extract = EXTRACTORS[name](folder_of(name), "cpu", **options)
    grey = np.random.default_rng(0).integers(0, 256, (2, 1, 16, 16), dtype=np.uint8)
    np.testing.assert_array_equal(extract(grey), extract(np.repeat(grey, 3, axis=1)))


@pytest.mark.parametrize(
    ("name", "model", "file"),
    [
        *(("dinov2", model, file) for model, (_, file) in DINOV2.items()),
        *(("clip", model, file) for model, (file, _) in CLIP.items()),
    ],
)
def test_without_its_weights_and_network_a_model_says_what_belongs_where(
    name, model, file, tmp_path, monkeypatch
):
    asked = []

    def fail(url, *_args, **_options):
        asked.append(url)
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("requests.get", fail)
    with pytest.raises(DataError) as caught:
        EXTRACTORS[name](tmp_path / "data", "cpu", model=model)
    assert f"weights of the extractor '{name}' could not be downloaded (" in str(caught.value)
    assert "no route to host" in str(caught.value)
    assert f"put {file} into {tmp_path / 'data'}" in str(caught.value)
    assert asked[0].startswith("https://")
    assert asked[0].endswith(file)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("name", "cached"),
    [("dinov2", "dinov2_vitl14_pretrain.pth"), ("clip", f"clip-vit-b-32-{CLIP['vit-b-32'][1]}.pt")],
)
def test_weights_that_torch_fidelity_downloaded_are_found_in_the_cache(
    name, cached, tmp_path, monkeypatch
):
    place = tmp_path / "hub" / "checkpoints" / cached
    place.parent.mkdir(parents=True)
    place.write_bytes(b"not found on this server")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    extract = EXTRACTORS[name](tmp_path / "data", "cpu")
    with pytest.raises(DataError, match=r"(?s)cannot be read|does not hold.*once more"):
        extract(np.zeros((1, 3, 8, 8), np.uint8))


def test_dinov2_says_which_package_brings_its_network(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.metrics.vision_transformers.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install .*timm"):
        EXTRACTORS["dinov2"](tmp_path, "cpu")


def test_weights_of_another_model_are_refused(dinov2_dir, tmp_path):
    import torch

    _, name = DINOV2["vit-s-14"]
    image = np.zeros((1, 3, 8, 8), np.uint8)
    other = EXTRACTORS["dinov2"](dinov2_dir, "cpu", model="vit-b-14", weights=name)
    with pytest.raises(DataError, match=r"does not hold weights of dinov2-vit-b-14.*mismatch.*384"):
        other(image)
    weights = torch.load(dinov2_dir / name)
    torch.save(weights | {"register_tokens": torch.zeros(1)}, tmp_path / "registers.pth")
    other = EXTRACTORS["dinov2"](tmp_path, "cpu", model="vit-s-14", weights="registers.pth")
    with pytest.raises(DataError, match=r"does not hold weights .*register_tokens"):
        other(image)
    del weights["blocks.11.norm1.weight"]
    torch.save(weights, tmp_path / "short.pth")
    other = EXTRACTORS["dinov2"](tmp_path, "cpu", model="vit-s-14", weights="short.pth")
    with pytest.raises(DataError, match=r"does not hold weights .*blocks\.11\.norm1\.weight"):
        other(image)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(tmp_path / "other.pt")
    other = EXTRACTORS["clip"](tmp_path, "cpu", weights="other.pt")
    with pytest.raises(DataError, match="does not hold weights of clip-vit-b-32"):
        other(image)


@pytest.mark.parametrize(("name", "known"), [("dinov2", DINOV2), ("clip", CLIP)])
def test_a_model_that_there_is_not_is_refused(name, known, tmp_path):
    with pytest.raises(BadOption, match=f"must be one of {', '.join(known)}, not 'vit'"):
        EXTRACTORS[name](tmp_path, "cpu", model="vit")


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
