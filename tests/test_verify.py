"""`harness verify`: all holds as it comes, and a part that is wrong is found by name."""

import json
import math
from dataclasses import dataclass, field

import pytest
import torch
from click.testing import CliRunner

from harness.cli import main
from harness.diffusion.objective import TARGETS, Target
from harness.diffusion.samplers import SAMPLERS, ddim, ddpm, noise_in, walk
from harness.diffusion.schedules import SCHEDULES, Linear, Schedule
from harness.diffusion.times import SPACINGS, spacing
from harness.oracles import Bench
from harness.verify import (
    Check,
    of_samplers,
    of_schedules,
    of_spacings,
    of_targets,
    verify,
    verify_here,
)

CPU = torch.device("cpu")


class Loose(Linear):
    """A schedule whose signal rate does not follow from its log SNR."""

    def alpha(self, t):
        return super().alpha(t) * 0.99


@pytest.fixture(scope="module")
def checks():
    return list(verify(["float32", "float64"], CPU))


def test_everything_holds_in_both_precisions(checks):
    assert [check for check in checks if not check.holds] == []
    assert {check.precision for check in checks} == {"float32", "float64"}


@pytest.mark.parametrize(
    ("kind", "registry"),
    [("schedule", SCHEDULES), ("spacing", SPACINGS), ("sampler", SAMPLERS), ("target", TARGETS)],
)
def test_every_registered_part_is_checked(checks, kind, registry):
    assert {check.part for check in checks if check.kind == kind} >= {*registry.names()}


def test_what_is_not_a_number_does_not_hold():
    assert not Check("sampler", "x", "claim", 1.0, math.nan, 0.1, "float64").holds
    assert Check("sampler", "x", "claim", 1.0, 1.1, 0.11, "float64").holds
    assert not Check("sampler", "x", "claim", 1.0, 1.2, 0.11, "float64").holds


# Wrong parts, as another package might bring them.


@pytest.fixture
def few(monkeypatch):
    """Only the samplers that claims speak of by name: all of them take a quarter of a minute."""
    kept = {name: SAMPLERS[name] for name in ("ddim", "ddpm", "ddpm_large")}
    monkeypatch.setattr(SAMPLERS, "_builtin", kept)


@pytest.fixture
def failing(monkeypatch, few):
    """The claims of a kind that do not hold once its registry has this part too."""

    def failing(claims, registry, part):
        monkeypatch.setitem(registry._builtin, "wrong", part)
        found = [check for check in claims(Bench(torch.float64, CPU)) if not check.holds]
        assert all(check.part.startswith("wrong") for check in found)
        return list(dict.fromkeys(check.claim for check in found))

    return failing


def test_a_schedule_that_rises_is_found(failing):
    class Rising(Linear):
        def log_snr(self, t):
            return super().log_snr(1 - t)

    claims = failing(of_schedules, SCHEDULES, Rising)
    assert "log SNR falls (table entries where not)" in claims


def test_a_schedule_whose_rates_are_not_its_log_snr_is_found(failing):
    claims = failing(of_schedules, SCHEDULES, Loose)
    assert claims == ["alpha^2 + sigma^2 = 1", "log SNR = log(alpha^2 / sigma^2)"]


def test_a_spacing_that_makes_a_step_too_many_is_found(failing):
    @spacing()
    def generous(schedule, steps):
        return [1 - k / (steps + 1) for k in range(steps + 1)]

    assert failing(of_spacings, SPACINGS, generous) == ["N asked are N done (cases where not)"]


def test_a_sampler_that_forgets_its_noise_is_found(failing):
    def forgetful(denoise, schedule, x, times, draw_noise):
        return ddpm(denoise, schedule, x, times, lambda: torch.zeros_like(x))

    assert failing(of_samplers, SAMPLERS, forgetful) == ["spread of N(0, 0.25), 500 log_snr"]


def test_a_sampler_that_takes_the_wrong_rate_is_found(failing):
    def mistaken(denoise, schedule, x, times, draw_noise):
        def step(x, x_0, t, s):
            return t.alpha * x_0 + s.sigma * noise_in(x, x_0, t)

        return walk(denoise, schedule, x, times, step)

    assert failing(of_samplers, SAMPLERS, mistaken) == ["spread of N(0, 0.25), 500 log_snr"]


def test_a_sampler_that_evaluates_more_than_it_says_is_found(failing):
    def wasteful(denoise, schedule, x, times, draw_noise):
        denoise(x, times[0])
        return ddim(denoise, schedule, x, times, draw_noise)

    assert failing(of_samplers, SAMPLERS, wasteful) == ["evaluations beyond those declared"]


def test_a_sampler_that_draws_twice_a_step_is_found(failing):
    def thirsty(denoise, schedule, x, times, draw_noise):
        return ddpm(denoise, schedule, x, times, lambda: (draw_noise() + draw_noise()) / 2**0.5)

    assert "keeps dtype, draws once a step (faults)" in failing(of_samplers, SAMPLERS, thirsty)


def test_a_target_whose_way_back_is_wrong_is_found(failing):
    wrong = Target(
        "x_0, but for a sign",
        value=lambda x_0, eps, alpha, sigma: x_0,
        image=lambda x, x_0, alpha, sigma: -x_0,
        error_ratio=lambda snr: snr**0,
    )
    assert failing(of_targets, TARGETS, wrong) == ["the samples of the exact denoiser"]


def test_a_part_that_needs_an_option_is_left_out(failing):
    @dataclass(frozen=True)
    class Demanding(Linear):
        slope: float = field(kw_only=True)

    assert failing(of_schedules, SCHEDULES, Demanding) == []


def test_a_part_that_raises_is_a_claim_that_fails_and_not_a_crash(monkeypatch, few):
    class Broken(Schedule):
        def log_snr(self, t):
            raise RuntimeError("the coefficients were not found")

    monkeypatch.setitem(SCHEDULES._builtin, "broken", Broken)
    told = verify_here("float64", "cpu")
    assert not told.holds
    assert "schedule broken: RuntimeError: the coefficients were not found" in told.as_text()


# The command.


def run(*arguments):
    return CliRunner().invoke(main, ["verify", *arguments])


def test_the_command_prints_a_table_and_the_sum_of_it(few):
    result = run("--precision", "float32")
    assert result.exit_code == 0
    first, *rows = result.output.splitlines()
    assert first.split() == ["part", "claim", "expected", "found", "tolerance", "in"]
    assert all(row.startswith("ok") for row in rows if row.endswith("float32"))
    assert "all hold." in result.output


def test_the_command_prints_one_object_and_fails_where_a_claim_does(monkeypatch, few):
    monkeypatch.setitem(SCHEDULES._builtin, "loose", Loose)
    result = run("--precision", "float64", "--json")
    assert result.exit_code == 1
    told = json.loads(result.output)
    assert told["holds"] is False
    assert {check["part"] for check in told["checks"] if not check["holds"]} >= {"loose"}


def test_a_device_that_is_not_there_is_a_clean_message():
    result = run("--device", "nonsense")
    assert result.exit_code == 1
    assert "device 'nonsense' cannot be used here" in result.output
