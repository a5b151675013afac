"""A mistake in a part of another package is found, by the claim that it breaks."""

import math
import re
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from harness.contracts.check import Check, NotChecked
from harness.contracts.verify import of_kind, of_part
from harness.data.images import ImageSet
from harness.diffusion.objective import LOSSES, Target
from harness.diffusion.samplers import ddim, ddpm, noise_in, sampler, walk
from harness.diffusion.schedules import Cosine, Linear, Schedule
from harness.diffusion.times import spacing
from harness.errors import NotDefined
from harness.metrics.distances import METRICS, Metric
from harness.metrics.features import Pixels
from harness.models.presets import MODELS


@pytest.fixture
def failing(offered, bench):
    """The claims that a part of a kind breaks, and the reasons that are told."""

    def failing(kind, part):
        offered(kind, part)
        found = [each for each in of_part(kind, "wrong", bench) if not each.holds]
        assert all(each.part.startswith("wrong") for each in found)
        return {re.sub(r" \([^)]*\)$", "", each.claim): each.reason for each in found}

    return failing


# Schedules and spacings.


def test_a_schedule_that_rises(failing):
    class Rising(Linear):
        def log_snr(self, t):
            return super().log_snr(1 - t)

    assert "log SNR falls from t = 0 to 1" in failing("schedule", Rising)


def test_a_schedule_whose_rates_are_not_its_log_snr(failing):
    class Loose(Linear):
        def alpha(self, t):
            return super().alpha(t) * 0.99

    broken = failing("schedule", Loose)
    assert {"alpha^2 + sigma^2 = 1", "log SNR = log(alpha^2 / sigma^2)"} <= {*broken}
    assert "log SNR falls from t = 0 to 1" not in broken


def test_a_schedule_that_answers_in_another_dtype(failing):
    class Double(Linear):
        def alpha(self, t):
            return super().alpha(t.double()).float()

    assert "keeps shape and dtype" in failing("schedule", Double)


def test_a_schedule_that_ends_elsewhere_than_its_paper_says(failing):
    class Misquoted(Cosine):
        abar_at_1 = 0.01

    assert [*failing("schedule", Misquoted)] == ["abar(1) over the paper's"]


def test_a_schedule_that_raises_is_told_by_its_reason(failing):
    class Broken(Schedule):
        def log_snr(self, t):
            raise RuntimeError("the coefficients were not found")

    broken = failing("schedule", Broken)
    assert "RuntimeError: the coefficients were not found" in broken.values()


def test_a_part_that_needs_an_option_is_not_checked(offered, bench):
    @dataclass(frozen=True)
    class Demanding(Linear):
        slope: float = field(kw_only=True)

    offered("schedule", Demanding)
    assert of_part("schedule", "wrong", bench) == [
        NotChecked("schedule", "wrong", "it needs the option slope")
    ]


def test_a_broken_schedule_breaks_no_other_part(offered, bench, few):
    offered("schedule", type("Broken", (Linear,), {"log_snr": lambda self, t: t * math.nan}))
    assert all(each.holds for kind in ("sampler", "spacing") for each in of_kind(kind, bench))


def test_a_spacing_that_makes_a_step_too_many(failing):
    @spacing()
    def generous(schedule, steps):
        return [1 - k / (steps + 1) for k in range(steps + 1)]

    assert [*failing("spacing", generous)] == ["N asked are N done"]


def test_a_spacing_that_does_not_end_at_0(failing):
    def unfinished(schedule, steps, dtype=torch.float64):
        return torch.linspace(1, 0.01, steps + 1, dtype=dtype)

    assert [*failing("spacing", unfinished)] == ["N asked are N done"]


# Samplers.

SPREAD = "spread of N(0, 0.25), 500 log_snr"


def test_a_sampler_of_nonsense(failing):
    def nonsense(denoise, schedule, x, times, draw_noise):
        return torch.zeros_like(x)

    assert {"evaluations beyond those declared", SPREAD} <= {*failing("sampler", nonsense)}


def test_a_sampler_that_forgets_its_noise(failing):
    def forgetful(denoise, schedule, x, times, draw_noise):
        return ddpm(denoise, schedule, x, times, lambda: torch.zeros_like(x))

    assert [*failing("sampler", forgetful)] == [SPREAD]


def test_a_sampler_that_takes_the_wrong_rate(failing):
    def mistaken(denoise, schedule, x, times, draw_noise):
        def step(x, x_0, t, s):
            return t.alpha * x_0 + s.sigma * noise_in(x, x_0, t)

        return walk(denoise, schedule, x, times, step)

    assert [*failing("sampler", mistaken)] == [SPREAD]


def test_a_sampler_that_evaluates_more_than_it_says(failing):
    def wasteful(denoise, schedule, x, times, draw_noise):
        denoise(x, times[0])
        return ddim(denoise, schedule, x, times, draw_noise)

    assert [*failing("sampler", wasteful)] == ["evaluations beyond those declared"]


def test_a_sampler_that_draws_twice_a_step(failing):
    def thirsty(denoise, schedule, x, times, draw_noise):
        return ddpm(denoise, schedule, x, times, lambda: (draw_noise() + draw_noise()) / 2**0.5)

    assert "dtype, shape, draws a step" in failing("sampler", thirsty)
    assert [*failing("sampler", sampler(draws=lambda: 2)(thirsty))] == []


def test_a_sampler_that_claims_too_high_an_order(failing):
    @sampler(order=2, like="ddpm")
    def boastful(denoise, schedule, x, times, draw_noise):
        return ddim(denoise, schedule, x, times, draw_noise)

    assert [*failing("sampler", boastful)] == ["first step is that of ddpm", "order of convergence"]


# The objective.


def test_a_target_whose_way_back_is_wrong(failing):
    wrong = Target(
        "x_0, but for a sign",
        value=lambda x_0, eps, alpha, sigma: x_0,
        image=lambda x, x_0, alpha, sigma: -x_0,
        error_ratio=lambda snr: snr**0,
    )
    assert "the samples of the exact denoiser" in failing("target", wrong)


def test_a_target_whose_error_ratio_is_wrong(failing):
    wrong = Target(
        "x_0",
        value=lambda x_0, eps, alpha, sigma: x_0,
        image=lambda x, x_0, alpha, sigma: x_0,
        error_ratio=lambda snr: snr,
    )
    assert [*failing("target", wrong)] == ["an error of x_0 by its error ratio"]


@pytest.mark.parametrize(
    "weighting",
    [
        lambda log_snr: log_snr,
        lambda log_snr: log_snr.exp() / (log_snr + 20),
        lambda log_snr: log_snr.exp().float(),
        lambda log_snr: log_snr.new_zeros(log_snr.shape),
        lambda log_snr: 1.0,
    ],
    ids=["negative", "infinite", "another dtype", "nothing", "no tensor"],
)
def test_a_weighting_that_is_no_weight(failing, weighting):
    assert [*failing("weighting", weighting)] == ["finite, from 0 up"]


def test_a_loss_that_knows_signs(failing):
    part = replace(LOSSES["mse"], error=lambda error: error.square() + error)
    broken = failing("loss", part)
    assert "even: difference of both signs" in broken


# Models, data sets, extractors.


class Copied:
    """A model that hands everything on to the tiny one, but for what a test changes."""

    def check(self, size):
        MODELS["tiny"]().check(size)

    def build(self, channels, size):
        return MODELS["tiny"](widths=(8,), attention=()).build(channels, size)


class Deaf(torch.nn.Module):
    def __init__(self, channels, size):
        super().__init__()
        self.layer = torch.nn.Conv2d(channels, channels, 1)
        self.unused = torch.nn.Linear(2, 2)

    def forward(self, x, log_snr):
        return self.layer(x)


def test_a_model_that_ignores_the_log_snr_and_has_idle_parameters(failing):
    class Model(Copied):
        build = staticmethod(Deaf)

    assert [*failing("model", Model)] == [
        "heeds the log SNR",
        "parameters that no gradient reaches",
    ]


def test_a_model_that_mixes_the_images_of_a_batch(failing):
    class Mixing(Deaf):
        def forward(self, x, log_snr):
            return self.layer(x) + x.mean() + log_snr.mean() * self.unused.weight.sum()

    class Model(Copied):
        build = staticmethod(Mixing)

    assert "answers for each image alone" in failing("model", Model)


def test_a_model_that_takes_what_it_cannot_halve(failing):
    class Model(Copied):
        def check(self, size):
            pass

        def build(self, channels, size):
            return MODELS["tiny"](widths=(8, 8), attention=()).build(channels, size - size % 2)

    assert [*failing("model", Model)] == ["takes images of 7 pixels, or refuses them"]


def test_a_data_set_that_changes_and_one_that_is_none(failing):
    def changing(data_dir):
        images = np.random.default_rng().integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
        return ImageSet("changing", images[:10], images[10:])

    assert [*failing("dataset", changing)] == ["other images the next time"]
    reasons = failing("dataset", lambda data_dir: np.zeros((20, 1, 8, 8)))
    assert "gives no ImageSet" in reasons["can be made"]


def test_an_extractor_whose_features_are_float32_and_of_another_shape(failing):
    class Flat(Pixels):
        def __call__(self, images, batch_size=0):
            return super().__call__(images).astype(np.float32).ravel()

    reason = failing("extractor", Flat)["features [N, d] float64"]
    assert reason == "gives float32 [320] for 5 images"


def test_an_extractor_that_takes_floats_and_has_no_name(failing):
    class Careless(Pixels):
        label = fingerprint = ""

        def __call__(self, images, batch_size=0):
            return images.reshape(len(images), -1) / 127.5

    broken = failing("extractor", Careless)
    assert [*broken] == ["refuses floats from 0 to 1", "has a label and a fingerprint"]


def test_an_extractor_that_depends_on_its_batches(failing):
    class Normalised(Pixels):
        def __call__(self, images, batch_size=1000):
            features = super().__call__(images)
            return features - features[:batch_size].mean(axis=0)

    assert [*failing("extractor", Normalised)] == ["one batch or several"]


# Metrics.

KID = METRICS["kid"]


def minimal(function, **more):
    return Metric(name="Mine", lower_is_better=True, description="mine", function=function, **more)


def test_a_minimal_metric_that_is_right(failing):
    def distance(features, reference):
        return KID.function(features, reference)

    assert failing("metric", minimal(distance)) == {}


@pytest.mark.parametrize("given", ["far", None, np.zeros(3), True])
def test_a_metric_that_gives_no_number(failing, given):
    reason = failing("metric", minimal(lambda features, reference: given))["a number, of two sets"]
    assert reason.startswith("gives no number, but ")


def test_a_metric_of_many_images_is_not_checked_with_few(offered, bench):
    def demanding(features, reference):
        raise NotDefined("it needs 10,000 images")

    offered("metric", minimal(demanding))
    told = NotChecked("metric", "wrong", "it needs 10,000 images")
    assert of_part("metric", "wrong", bench) == [told]


def test_a_metric_that_refuses_nothing(failing):
    def distance(features, reference):
        return float(np.abs(np.nanmean(features) - np.nanmean(reference)))

    assert [*failing("metric", minimal(distance))][:1] == ["refuses what has no meaning"]


def test_a_metric_of_the_wrong_direction(failing):
    broken = failing("metric", replace(KID, lower_is_better=False))
    assert [*broken] == ["worse when moved away", "worse with noise"]


def test_a_metric_that_draws_at_random(failing):
    def drawn(features, reference):
        return KID.function(features, reference) + np.random.default_rng().random()

    assert "the same each time" in failing("metric", minimal(drawn))


def test_a_metric_that_needs_what_nothing_gives(failing):
    assert "needs nothing but logits and held_out" in failing(
        "metric", replace(KID, needs=frozenset({"captions"}))
    )


def test_influences_errors_and_left_out_values_of_another_metric(failing):
    def error(features, reference):
        return -1.0

    other = METRICS["fid"]
    broken = failing(
        "metric",
        replace(KID, influence=other.influence, standard_error=error, left_out=other.left_out),
    )
    assert [*broken] == [
        "influences are what leaving an image out does",
        "values without a group",
        "errors and variances from 0 up",
    ]


def test_what_is_not_a_number_does_not_hold():
    assert not Check("sampler", "x", "claim", 1.0, math.nan, 0.1, "float64").holds
    assert Check("sampler", "x", "claim", 1.0, 1.1, 0.11, "float64").holds
    assert not Check("sampler", "x", "claim", 1.0, 1.2, 0.11, "float64").holds
