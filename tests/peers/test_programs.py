"""Other people's programs at our work: each piece does what it is timed for."""

import sys

import numpy as np
import pytest
import torch
from programs import (
    AsPeersCallIt,
    diffusers_pipeline,
    diffusers_sampling,
    diffusers_training_step,
    fidelity_metrics,
    lucidrains_diffusion,
    lucidrains_sampling,
    lucidrains_training_step,
)

from harness.data.digits import digits
from harness.diffusion.objective import TARGETS, Denoiser, Estimate
from harness.diffusion.samplers import ddim
from harness.diffusion.schedules import Linear
from harness.diffusion.times import SPACINGS
from harness.errors import HarnessError
from harness.metrics.distances import METRICS
from harness.metrics.features import EXTRACTORS
from harness.models.presets import tiny

BATCH = 16
SHAPE = (1, 8, 8)
TRAININGS = {"diffusers": diffusers_training_step, "lucidrains": lucidrains_training_step}
SAMPLINGS = {"diffusers": diffusers_sampling, "lucidrains": lucidrains_sampling}
PACKAGES = {"diffusers": ["diffusers", "accelerate"], "lucidrains": ["denoising_diffusion_pytorch"]}


@pytest.fixture(params=PACKAGES)
def peer(request):
    for package in PACKAGES[request.param]:
        pytest.importorskip(package, reason=f"pip install -e '.[peers]' brings {package}")
    return request.param


@pytest.fixture
def network():
    """One that predicts something: an untrained one says 0 whatever it is asked."""
    torch.manual_seed(0)
    made = tiny(widths=(8, 16), attention=()).build(1, 8)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return made


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (24, *SHAPE), dtype=np.uint8)


def copied(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def differ(one, other):
    return any(not torch.equal(one[name], other[name]) for name in one)


def test_a_training_step_moves_a_copy_of_the_weights(peer, network, images, monkeypatch):
    losses, squared = [], torch.nn.functional.mse_loss

    def watched(prediction, target, **options):
        assert prediction.shape == (BATCH, *SHAPE)
        losses.append(squared(prediction, target, **options))
        return losses[-1]

    monkeypatch.setattr(torch.nn.functional, "mse_loss", watched)
    ours = copied(network)
    step = TRAININGS[peer](network, images, BATCH, flip=True)
    assert not differ(ours, step.network.state_dict())
    step()
    step()  # the first of diffusers' has a learning rate of 0
    assert differ(ours, step.network.state_dict())
    assert not differ(ours, network.state_dict())
    assert len(losses) == 2
    assert all(loss.isfinite().all() for loss in losses)
    assert all(value.isfinite().all() for value in step.network.state_dict().values())


def test_training_goes_on_past_the_end_of_a_pass(peer, network, images):
    step = TRAININGS[peer](network, images[:3], 256)  # 2 steps are a pass
    for _ in range(3):
        step()


def test_training_sees_the_images_it_was_given(peer, network, images, monkeypatch):
    """As far as noise lets through: with none, the network is shown the images themselves."""
    monkeypatch.setattr(torch, "randn", lambda *size, **_: torch.zeros(*size))
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    step, seen = TRAININGS[peer](network, images, BATCH), []
    step.network.register_forward_hook(lambda _, given, __: seen.append(given))
    step()
    [(x, log_snr)] = seen
    shown = (x.detach() / torch.sigmoid(log_snr).sqrt()[:, None, None, None] + 1) * 127.5
    known = {image.tobytes() for image in images}
    near = log_snr > -2  # beyond, what is left of an image is too little to tell it by
    assert near.any()
    assert all(image.round().byte().numpy().tobytes() in known for image in shown[near])


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_sampling_gives_images(peer, network, sampler):
    evaluated = []
    sample = SAMPLINGS[peer](network, SHAPE, 5, 4, sampler)
    handle = torch.nn.modules.module.register_module_forward_hook(
        lambda module, given, _: (
            evaluated.append(given) if isinstance(module, AsPeersCallIt) else None
        )
    )
    try:
        images = sample()
    finally:
        handle.remove()
    assert images.shape == (5, *SHAPE)
    assert images.dtype == torch.uint8
    assert images.min() < 100
    assert images.max() > 150
    assert len(evaluated) == 4


def test_a_timestep_becomes_its_log_snr(peer, network):
    if peer == "diffusers":
        ours = diffusers_pipeline(network, SHAPE, "ddim").unet
    else:
        ours = lucidrains_diffusion(network, SHAPE, 20).model
    seen = []
    ours.network.register_forward_hook(lambda _, given, __: seen.append(given[1]))
    with torch.inference_mode():
        ours(torch.zeros(1000, *SHAPE), torch.arange(1000))
        ours(torch.zeros(3, *SHAPE), torch.tensor(17))
    expected = Linear().log_snr((torch.arange(1000, dtype=torch.float64) + 1) / 1000)
    assert torch.allclose(seen[0].double(), expected, rtol=0, atol=1e-4)
    assert torch.equal(seen[1], seen[0][17].expand(3))


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddim_of_diffusers_is_our_ddim(network, spacing):
    pytest.importorskip("diffusers", reason="pip install -e '.[peers]' brings diffusers")
    pipeline = diffusers_pipeline(
        network, SHAPE, "ddim", timestep_spacing=spacing, clip_sample=False
    )
    theirs = pipeline(
        batch_size=3,
        num_inference_steps=20,
        output_type="pt",
        generator=torch.Generator().manual_seed(5),
    ).images
    noise = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(5))
    schedule = Linear()
    with torch.inference_mode():
        estimate = Estimate(network, schedule, TARGETS["noise"])
        ours = ddim(
            Denoiser(estimate), schedule, noise, SPACINGS[spacing](schedule, 20), lambda: None
        )
    assert ((ours / 2 + 0.5).clamp(0, 1) - theirs).abs().max() < 1e-3


def test_ddim_of_lucidrains_begins_and_ends_where_ours_does(network):
    pytest.importorskip("denoising_diffusion_pytorch", reason="pip install -e '.[peers]' brings it")
    theirs = lucidrains_diffusion(network, SHAPE, 20)
    asked = []
    theirs.model.network.register_forward_hook(lambda _, given, __: asked.append(given[1][0]))
    theirs.sample(batch_size=2)
    assert torch.allclose(
        torch.stack(asked).double(),
        Linear().log_snr(SPACINGS["trailing"](Linear(), 20)[:-1]),
        atol=1e-4,
    )


def test_the_metrics_are_ours(tmp_path):
    found = digits(tmp_path)
    extract = EXTRACTORS["digits"](tmp_path, "cpu")
    some, others = found.train[:150], found.train[150:350]
    theirs = fidelity_metrics(some, others, extract)()
    ours = {
        name: METRICS[name].function(extract(some), extract(others))
        for name in ("fid", "precision", "recall")
    }
    assert theirs["frechet_inception_distance"] == pytest.approx(ours["fid"], rel=1e-3)
    assert theirs["precision"] == pytest.approx(ours["precision"])
    assert theirs["recall"] == pytest.approx(ours["recall"])
    assert np.isfinite(theirs["kernel_inception_distance_mean"])


def test_the_trainer_of_lucidrains_takes_no_small_batch(network, images):
    pytest.importorskip("denoising_diffusion_pytorch", reason="pip install -e '.[peers]' brings it")
    with pytest.raises(HarnessError, match="16 images or more, not 8"):
        lucidrains_training_step(network, images, 8)


def test_images_that_no_png_holds_are_refused(peer, images):
    network = tiny(widths=(8, 16), attention=()).build(2, 8)
    with pytest.raises(HarnessError, match="grey or RGB images, not 2 channels"):
        TRAININGS[peer](network, np.concatenate([images, images], axis=1), BATCH)


def test_colour_is_trained_on_and_sampled(peer, images):
    network = tiny(widths=(8, 16), attention=()).build(3, 8)
    TRAININGS[peer](network, np.concatenate([images] * 3, axis=1), BATCH)()
    assert SAMPLINGS[peer](network, (3, 8, 8), 2, 2)().shape == (2, 3, 8, 8)


@pytest.mark.parametrize(
    ("lacking", "use"),
    [
        ("diffusers", lambda network, images: diffusers_sampling(network, SHAPE, 2, 2)),
        ("diffusers", lambda network, images: diffusers_training_step(network, images, BATCH)),
        ("accelerate", lambda network, images: diffusers_training_step(network, images, BATCH)),
        (
            "denoising_diffusion_pytorch",
            lambda network, images: lucidrains_training_step(network, images, BATCH),
        ),
        (
            "denoising_diffusion_pytorch",
            lambda network, images: lucidrains_sampling(network, SHAPE, 2, 2),
        ),
        ("torch_fidelity", lambda network, images: fidelity_metrics(images, images, None)),
    ],
)
def test_what_is_missing_is_named_with_its_remedy(lacking, use, network, images, monkeypatch):
    monkeypatch.setitem(sys.modules, lacking, None)
    # Without the extra, another of its packages may be the first that is missed.
    named = rf"({lacking}|accelerate).*Use pip install -e '\.\[peers\]'"
    with pytest.raises(HarnessError, match=named):
        use(network, images)
