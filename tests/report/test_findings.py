"""Every finding with a table in which it is true, false, undecidable, and one with a single row."""

import math

import numpy as np
import pandas as pd
import pytest

from harness.report.family import family
from harness.report.findings import BUILT_IN, FINDINGS, answers, found
from harness.report.published import CIFAR_10, FLOWERS
from harness.report.table import comparable, tidy

NAN = math.nan
LUCK = np.array([0.0, 0.004, -0.003])  # what three training seeds add to every value


def table(
    values,
    *,
    error=0.001,
    floor=NAN,
    seconds=None,
    machine="one",
    lower_is_better=True,
    exact=None,
    beside=None,
):
    """A tidy frame: {(schedule, sampler, steps): value or values by seed}; `exact` is what the
    exact denoiser reaches, by steps; `beside` gives other columns, by schedule, sampler, steps."""
    rows = []
    for (schedule, sampler, steps), given in values.items():
        by_seed = (
            given if isinstance(given, list | np.ndarray) else given + LUCK * (1 + 0.1 * given)
        )
        trained, _, sampled = schedule.partition(" sampled as ")
        for seed, value in enumerate(by_seed):
            rows.append(
                {
                    "key": f"{schedule}-{sampler}-{steps}-{seed}", "schedule": schedule,
                    "sampler": sampler, "kind": sampler, "setting": "", "steps": steps,
                    "seed": seed, "sampling_seed": 0, "nfe": float(steps), "machine": machine,
                    "seconds": seconds(steps) if seconds else NAN, "value": value,
                    "centre": value, "error": error, "influence": None,
                    "reference_influence": None,
                    "floor": floor, "floor_error": NAN, "floor_images": 1000.0, "images": 1000.0,
                    "metric": "KID", "quantity": "KID on digits features",
                    "lower_is_better": lower_is_better, "trained": trained,
                    "sampled": sampled or trained, "is_home": not sampled, "is_exact": False,
                    "unit": "step", "exact_value": (exact or {}).get(steps, NAN),
                    "exact_error": error, "exact_key": f"exact-{sampler}-{steps}" if exact else "",
                    "eta": eta_of(sampler), "spacing": "trailing",
                    "training_key": f"{trained}-{seed}", "checkpoint_influence": None,
                    **dict.fromkeys(BESIDE, NAN),
                    **(beside(schedule, sampler, steps, value) if beside else {}),
                }
            )  # fmt: skip
    return pd.DataFrame(rows, columns=None if rows else list(ONE_ROW.columns))


BESIDE = [
    "half_resolution", "noisy", "joules", "contrast", "contrast_error", "contrast_theory",
    "last_signal", "checkpoint", "forecast", "took", "training_forecast", "training_took",
    "precision", "precision_error", "recall", "recall_error", "memorisation", "memorisation_error",
]  # fmt: skip


def eta_of(sampler):
    return float(sampler[9:-1]) if "eta" in sampler else 0.0 if sampler == "ddim" else NAN


def grid(linear_few, cosine_few, linear_many, cosine_many, **options):
    """Two schedules, one sampler, 5 and 50 steps."""
    return table(
        {
            ("linear", "ddim", 5): linear_few,
            ("cosine", "ddim", 5): cosine_few,
            ("linear", "ddim", 50): linear_many,
            ("cosine", "ddim", 50): cosine_many,
        },
        **options,
    )


def samplers(ddim, ddpm, **options):
    """DDIM and DDPM under one schedule at 5, 10, 20 and 50 steps."""
    steps = (5, 10, 20, 50)
    values = {("cosine", "ddim", n): value for n, value in zip(steps, ddim, strict=False)}
    values |= {("cosine", "ddpm", n): value for n, value in zip(steps, ddpm, strict=False)}
    return table(values, **options)


def four_samplers(**values):
    """Samplers under one schedule at 10 and 50 steps."""
    return table(
        {("cosine", sampler, steps): value for sampler, pair in values.items()
         for steps, value in zip((10, 50), pair, strict=True)}
    )  # fmt: skip


def noises(values, **options):
    """One way of sampling; values [training seeds, sampling seeds]."""
    frames = [
        table({(*LINE, 10): list(column)}, **options).assign(sampling_seed=noise)
        for noise, column in enumerate(values.T)
    ]
    frame = pd.concat(frames, ignore_index=True)
    return frame.assign(key=frame["key"] + "-" + frame["sampling_seed"].astype(str))


LINE = ("cosine", "ddim")
ONE_ROW = table({("cosine", "ddim", 10): [0.1]}, floor=0.0)


def etas(values, steps=(5, 50), **options):
    """DDIM by eta, under one schedule: {eta: values by step count}."""
    names = {eta: f"ddim(eta={eta})" if eta else "ddim" for eta in values}
    return table(
        {("cosine", names[eta], n): value for eta, those in values.items()
         for n, value in zip(steps, those, strict=True)}, **options,
    )  # fmt: skip


def spaced(values, steps=(5, 50), **options):
    """DDIM by spacing, under one schedule: {spacing: values by step count}."""
    frames = []
    for spacing, those in values.items():
        one = {("cosine", f"ddim, {spacing}", n): v for n, v in zip(steps, those, strict=True)}
        frame = table(one, **options)
        frames.append(frame.assign(kind="ddim", setting=f", {spacing}", spacing=spacing))
    return pd.concat(frames, ignore_index=True)


def contrasting(theory, measured, last=(1.0, 0.95), values=(0.3, 0.1, 0.2, 0.05), error=0.002):
    """`grid` with the contrast of linear and cosine, foreseen and measured."""
    place = {"linear": 0, "cosine": 1}

    def beside(schedule, sampler, steps, value):
        return {
            "contrast_theory": theory[place[schedule]], "contrast": measured[place[schedule]],
            "contrast_error": error, "last_signal": last[place[schedule]],
        }  # fmt: skip

    return grid(*values, beside=beside)


def before(change, error=0.001, floor=0.0):
    """`grid` whose cells at 50 steps were higher by this share a tenth before the end."""

    def beside(schedule, sampler, steps, value):
        return {"checkpoint": value * (1 + change[schedule])} if steps == 50 else {}

    return grid(0.3, 0.1, 0.2, 0.05, beside=beside, error=error, floor=floor)


def remembered(share, error):
    return steps_of(
        {5: 0.3, 50: 0.1},
        beside=lambda *_: {"memorisation": share, "memorisation_error": error},
    )


def faithful(numbers, error=0.005):
    """DDIM and DDPM at 50 steps: {sampler: (precision, recall)}."""

    def beside(schedule, sampler, steps, value):
        precision, recall = numbers[sampler]
        return {
            "precision": precision, "recall": recall, "precision_error": error,
            "recall_error": error,
        }  # fmt: skip

    return table({("cosine", name, 50): 0.1 for name in numbers}, beside=beside)


def foretold(ratio, steps=(5, 10, 50)):
    """Work that took so many times as long as foretold."""

    def beside(schedule, sampler, steps, value):
        return {
            "forecast": 1.0 * steps, "took": ratio * steps, "training_forecast": 100.0,
            "training_took": 100.0 * ratio,
        }  # fmt: skip

    return table({("cosine", "ddim", n): [0.1] for n in steps}, beside=beside)


def steps_of(values, **options):
    return table({(*LINE, steps): value for steps, value in values.items()}, **options)


def seconds_with(noise):
    def seconds(steps):
        seconds.calls += 1
        return (0.001 + 0.002 * steps) * (1 + noise * (-1) ** seconds.calls)

    seconds.calls = 0
    return seconds


# finding: (frame, verdict, what the sentence must hold), where None stands for nothing to print.
CASES = {
    "best_of_all": {
        "true": (grid(0.3, 0.1, 0.2, 0.05), "better", ["cosine with ddim at 50 steps", "worse by"]),
        "false": (table({("cosine", "ddim", 5): 0.1}), None, []),
        "undecidable": (grid(0.3, 0.1, [0.05], [0.05]), "inconclusive", ["cannot be told"]),
    },
    "schedule_at_few_steps": {
        "true": (grid(0.3, 0.1, 0.2, 0.05), "better", ["At 5 steps with ddim, cosine is better"]),
        "false": (samplers([0.1, 0.1], [0.2, 0.1]), None, []),
        "undecidable": (
            grid([0.3], [0.1], [0.2], [0.05]),
            "inconclusive",
            ["cosine is ahead of linear", "one training seed gives no verdict"],
        ),
    },
    "schedule_at_many_steps": {
        "true": (grid(0.1, 0.3, 0.05, 0.2), "better", ["50 steps", "linear is better than cosine"]),
        "false": (table({("linear", "ddim", 5): 0.1, ("cosine", "ddim", 5): 0.2}), None, []),
        "undecidable": (
            grid(0.3, 0.1, [0.10, 0.13, 0.11], [0.11, 0.10, 0.13]),
            "inconclusive",
            ["cannot be told apart", "no larger than luck"],
        ),
    },
    "schedule_across_steps": {
        "true": (grid(0.3, 0.1, 0.2, 0.05), "better", ["cosine schedule is best at every number"]),
        "false": (
            grid(0.3, 0.1, 0.05, 0.2),
            "better",
            ["depends on the steps: cosine at 5 steps and linear at 50 steps"],
        ),
        "undecidable": (grid([0.3], [0.1], [0.2], [0.05]), "inconclusive", ["without a verdict"]),
    },
    "ddim_against_ddpm": {
        "true": (
            samplers([0.1, 0.08, 0.06, 0.05], [0.3, 0.15, 0.0601, 0.02]),
            "better",
            [
                "better than ddpm at 5 and 10 steps and worse at 50 steps",
                "without a verdict at 20 steps",
                "ddpm overtakes between 10 and 50 steps",
            ],
        ),
        "false": (table({("linear", "ddim", 5): 0.1, ("cosine", "ddim", 5): 0.2}), None, []),
        "undecidable": (
            samplers([0.1, 0.08], [0.101, 0.0801], error=0.01),
            "inconclusive",
            ["ddim cannot be told from ddpm at 5 and 10 steps"],
        ),
    },
    "published_schedules": {
        "true": (
            grid(0.2, 0.3, 0.2, 0.1),
            "measured",
            [
                "linear is ahead at 5 steps (as on CIFAR-10) and cosine is ahead at 50 steps (as "
                "on 64x64 ImageNet)",
            ],
        ),
        "false": (
            table({("linear", "ddim", 5): 0.1, ("sigmoid", "ddim", 5): 0.2}), None, [],
        ),
        "undecidable": (
            grid([0.2], [0.3], [0.2], [0.1]),
            "inconclusive",
            ["there is no verdict at 5 and 50 steps"],
        ),
    },
    "published_order": {
        "true": (
            four_samplers(ddim=(0.3, 0.1), ab2=(0.2, 0.1), ddpm=(0.4, 0.3), ddpm_large=(0.6, 0.2)),
            "measured",
            [
                "published for flowers",
                "agrees in 5 comparisons (ab2 ahead of ddim at 10 steps, ddim ahead of ddpm at 10 "
                "and 50 steps, ddpm ahead of ddpm_large at 10 steps and ddpm_large ahead of ddpm",
                "There ddpm_large overtakes ddpm between 8 and 16 evaluations; here between 10 "
                "and 50",
            ],
        ),
        "false": (table({("cosine", "ddim", 10): 0.1, ("cosine", "euler", 10): 0.2}), None, []),
        "undecidable": (
            samplers([0.1, 0.08], [0.101, 0.0801], error=0.01),
            "inconclusive",
            ["gives no verdict in 2 comparisons (ddim ahead of ddpm at 5 and 10 steps)"],
        ),
    },
    "fewest_evaluations_near_the_best": {
        "true": (
            steps_of({5: 0.3, 10: 0.102, 50: 0.1}, floor=-0.01),
            "measured",
            ["10 network evaluations per image come within 10 %", "of real held-out images"],
        ),
        "false": (
            steps_of({5: 0.3, 10: 0.2, 50: 0.1}, floor=-0.01),
            "measured",
            ["nothing under 50 network evaluations"],
        ),
        "undecidable": (
            steps_of({5: 0.3, 50: 0.001}, floor=0.0, error=0.01),
            "inconclusive",
            ["ten per cent of the rest means nothing"],
        ),
    },
    "more_steps": {
        "true": (
            steps_of({5: 0.4, 10: 0.2, 20: 0.1}),
            "better",
            ["falls by 0.20", "from 5 to 10 steps", "a doubling divides it by 2.00"],
        ),
        "false": (
            steps_of({5: 0.2, 10: 0.1, 20: 0.3}),
            "worse",
            ["falls by 0.10", "rises by 0.20", "from 10 to 20 steps"],
        ),
        "undecidable": (
            steps_of({5: 0.2, 10: 0.199}, error=0.01),
            "inconclusive",
            ["does not clearly change from 5 to 10 steps"],
        ),
    },
    "best_under_a_budget": {
        "true": (
            samplers([0.1, 0.08, 0.06, 0.05], [0.3, 0.15, 0.1, 0.02]),
            "better",
            ["With at most 10 network evaluations per image the best is cosine with ddim at 10"],
        ),
        "false": (steps_of({100: 0.2, 200: 0.1}), None, []),
        "undecidable": (
            samplers([0.1, 0.08, 0.06, 0.05], [0.1, 0.0801, 0.06, 0.02], error=0.01),
            "inconclusive",
            ["cannot be told from it"],
        ),
    },
    "best_under_a_time_budget": {
        "true": (
            samplers([0.1, 0.08, 0.06, 0.05], [0.3, 0.15, 0.1, 0.02], seconds=lambda n: n / 1000),
            "better",
            ["In at most 10.0 ms per image on one the best is cosine with ddim at 10 steps"],
        ),
        "false": (samplers([0.1, 0.08], [0.3, 0.15]), None, []),  # nothing is timed
        "undecidable": (
            samplers(
                [0.1, 0.08, 0.06, 0.05], [0.1, 0.0801, 0.1, 0.02], error=0.01,
                seconds=lambda n: n / 1000,
            ),
            "inconclusive",
            ["In at most 10.0 ms", "cannot be told from it"],
        ),
    },
    "pareto_front": {
        "true": (
            samplers([0.1, 0.08, 0.06, 0.05], [0.3, 0.15, 0.1, 0.02], seconds=lambda n: n / 1000),
            "measured",
            [
                "4 of 8 ways",
                "cosine with ddim at 5 steps (0.100), cosine with ddim at 10 steps (0.0803), "
                "cosine with ddim at 20 steps (0.0603) and cosine with ddpm at 50 steps (0.0203)",
                "by seconds on one they are the same",
            ],
        ),
        "false": (table({("linear", "ddim", 5): 0.1, ("cosine", "ddim", 5): 0.2}), None, []),
        "undecidable": (
            steps_of({5: 0.2, 10: 0.199}, error=0.01),
            "inconclusive",
            ["cannot be told apart: cosine with ddim at 10 steps from cosine with ddim at 5 steps"],
        ),
    },
    "why_at_few_steps": {
        "true": (
            contrasting((0.65, 0.71), (0.7, 0.75)),
            "measured",
            [
                "ddim at 5 steps keeps 71.0 % of the contrast under cosine and 65.0 % under linear",
                "(measured: 75.0 % and 70.0 %)",
                "theory and measurement agree on cosine",
            ],
        ),
        "false": (grid(0.3, 0.1, 0.2, 0.05), None, []),  # no closed form is known
        "undecidable": (
            contrasting((0.65, 0.71), (0.7, 0.75), values=([0.3], [0.1], [0.2], [0.05])),
            "inconclusive",
            ["which decides nothing, so theory cannot be held against it"],
        ),
    },
    "contrast_lost": {
        "true": (
            contrasting((0.95, 0.9), (0.96, 0.89)),
            "measured",
            [
                "Under cosine the signal rate never exceeds 0.950, so contrast is lost for good",
                "at 50 steps with ddim images have 89.0",
                "foresees 90.0 %",
                "it is 96.0 % under linear (95.0 % foreseen)",
            ],
        ),
        "false": (contrasting((0.95, 0.9), (0.96, 0.89), last=(1.0, 1.0)), None, []),
        "undecidable": (
            contrasting((0.95, 0.9), (0.96, 0.89), error=0.2),
            "inconclusive",
            ["images have 89 [66, 112] %"],
        ),
    },
    "price_of_eta": {
        "true": (
            etas({0: (0.1, 0.05), 0.5: (0.2, 0.04), 1: (0.3, 0.02)}),
            "better",
            [
                "ddim is better than ddim(eta=1) at 5 steps and worse at 50 steps",
                "ddim(eta=1) overtakes between 5 and 50 steps",
                "at 5 steps it is 0.100 at eta 0, 0.200 at eta 0.5 and 0.300 at eta 1",
            ],
        ),
        "false": (samplers([0.1, 0.1], [0.2, 0.1]), None, []),
        "undecidable": (
            etas({0: (0.1, 0.05), 1: (0.101, 0.0501)}, error=0.01),
            "inconclusive",
            ["ddim cannot be told from ddim(eta=1) at 5 and 50 steps"],
        ),
    },
    "effect_of_spacing": {
        "true": (
            spaced({"trailing": (0.1, 0.05), "leading": (0.2, 0.03)}),
            "better",
            [
                "The best spacing is trailing at 5 steps and leading at 50 steps",
                "at 5 steps against leading: 0.100 against 0.200",
            ],
        ),
        "false": (grid(0.3, 0.1, 0.2, 0.05), None, []),
        "undecidable": (
            spaced({"trailing": (0.1, 0.05), "leading": (0.101, 0.0501)}, error=0.01),
            "inconclusive",
            ["the best spacing cannot be told from the next at 5 and 50 steps"],
        ),
    },
    "forecast_against_actual": {
        "true": (
            foretold(1.1),
            "measured",
            [
                "took 3.03 min where 2.75 min were foretold, 10 % more",
                "training 110 s for 100 s",
                "100 % of the 4 pieces came within 15 %",
            ],
        ),
        "false": (grid(0.3, 0.1, 0.2, 0.05), None, []),  # nothing was foretold
        "undecidable": (foretold(2.0, steps=(5,)), "inconclusive", ["100 % more", "0 % of the 2"]),
    },
    "training_long_enough": {
        "true": (
            before({"linear": 0.0, "cosine": 0.2}),
            "measured",
            [
                "(ddim at 50 steps)",
                "by −0.0101 (an improvement by 16.7 [14.0, 19.3] % of its distance to real images)",
                "cosine was still learning, so longer training would help",
            ],
        ),
        "false": (grid(0.3, 0.1, 0.2, 0.05), None, []),  # no checkpoint was kept
        "undecidable": (
            before({"linear": 0.0, "cosine": 0.02}, error=0.02),
            "inconclusive",
            ["whether cosine and linear had settled is not clear"],
        ),
    },
    "memorisation": {
        "true": (
            remembered(0.3, 0.02),
            "worse",
            ["30 % lie nearer to a training image", "repeats what it was trained on"],
        ),
        "false": (steps_of({5: 0.3, 50: 0.1}), None, []),  # it was not measured
        "undecidable": (remembered(0.1, 0.1), "inconclusive", ["sampling error allows 0 to 21 %"]),
    },
    "variety_against_fidelity": {
        "true": (
            faithful({"ddim": (0.9, 0.6), "ddpm": (0.7, 0.8)}),
            "measured",
            [
                "cosine with ddim is the most faithful",
                "cosine with ddpm the most varied",
                "fidelity costs variety",
            ],
        ),
        "false": (grid(0.3, 0.1, 0.2, 0.05), None, []),  # neither was measured
        "undecidable": (
            faithful({"ddim": (0.9, 0.6), "ddpm": (0.89, 0.8)}, error=0.05),
            "inconclusive",
            ["not both differences are more than luck"],
        ),
    },
    "price_of_an_evaluation": {
        "true": (
            steps_of({5: 0.2, 10: 0.1, 50: 0.05}, seconds=seconds_with(0.001)),
            "measured",
            ["1.00 ms plus 2.00", "ms per network evaluation", "9 cells"],
        ),
        "false": (steps_of({5: 0.2, 10: 0.1}), None, []),
        "undecidable": (
            steps_of({5: 0.2, 10: 0.1, 50: 0.05}, seconds=seconds_with(0.9)),
            "inconclusive",
            ["too rough a line"],
        ),
    },
    "training_spread": {
        "true": (
            grid(0.3, 0.1, 0.2, 0.05),
            "measured",
            ["at 5 steps", "% of the gap", "over 3 seeds", "times the error of sampling"],
        ),
        "false": (table({}), None, []),
        "undecidable": (grid([0.3], [0.1], [0.2], [0.05]), "inconclusive", ["was not measured"]),
    },
    "sampling_spread": {
        "true": (
            noises(np.random.default_rng(0).normal(0.1, 0.01, (3, 20)), error=0.01),
            "measured",
            ["Another sampling seed moves", "3 networks and ways", "which agrees"],
        ),
        "false": (steps_of({5: 0.3, 50: 0.1}), None, []),
        "undecidable": (
            noises(np.random.default_rng(0).normal(0.1, 0.01, (3, 20)), error=0.1),
            "measured",
            ["which does not agree"],
        ),
    },
    "sampler_against_network": {
        "true": (
            steps_of({5: 0.3, 50: 0.1}, exact={5: 0.2, 50: 0.01}),
            "measured",
            [
                "the exact denoiser has KID on digits features 0.200 at 5 steps and 0.0100 at 50",
                "the network adds 0.10",
                "and 0.09",
            ],
        ),
        "false": (steps_of({5: 0.3, 50: 0.1}), None, []),
        "undecidable": (
            steps_of({5: 0.3, 50: 0.1}, exact={5: 0.2, 50: 0.0999}),
            "inconclusive",
            ["which may be luck"],
        ),
    },
    "sampled_elsewhere": {
        "true": (
            table(
                {
                    ("linear", "ddim", 10): 0.1,
                    ("linear sampled as cosine", "ddim", 10): 0.2,
                    ("cosine", "ddim", 10): 0.05,
                    ("cosine sampled as linear", "ddim", 10): 0.02,
                }
            ),
            "better",
            [
                "a network trained under cosine is better sampled under another at 10 steps "
                "(cosine against cosine sampled as linear at 10 steps)",
                "a network trained under linear is best sampled under its own at 10 steps",
            ],
        ),
        "false": (grid(0.3, 0.1, 0.2, 0.05), None, []),
        "undecidable": (
            table(
                {("linear", "ddim", 10): 0.1, ("linear sampled as cosine", "ddim", 10): 0.1001},
                error=0.01,
            ),
            "inconclusive",
            ["a network trained under linear gives no verdict at 10 steps"],
        ),
    },
    "distance_to_real_images": {
        "true": (steps_of({5: 0.3, 50: 0.1}, floor=0.0), "worse", ["can still be told from real"]),
        "false": (steps_of({5: 0.3, 50: 0.1}), None, []),
        "undecidable": (
            steps_of({5: 0.3, 50: 0.001}, floor=0.0),
            "inconclusive",
            ["cannot be told from real held-out images"],
        ),
    },
    "without_verdict": {
        "true": (
            grid([0.3], [0.1], [0.2], [0.05]),
            "inconclusive",
            ["have no verdict", "cosine against linear at 5 and 50 steps"],
        ),
        "false": (grid(0.3, 0.1, 0.2, 0.05), None, []),
        "undecidable": (
            samplers([0.1], [0.101], error=0.01),
            "inconclusive",
            ["1 of 1 comparison has no verdict"],
        ),
    },
}  # fmt: skip


def told(name, frame):
    answer = FINDINGS[name](frame)
    return answer if isinstance(answer, list) else [answer] if answer else []


@pytest.mark.parametrize("case", ["true", "false", "undecidable"])
@pytest.mark.parametrize("name", BUILT_IN)
def test_a_finding_says_what_the_table_supports_and_no_more(name, case):
    frame, verdict, words = CASES[name][case]
    findings = told(name, frame)
    if verdict is None:
        assert findings == []
        return
    assert findings[0].verdict == verdict, findings[0].sentence
    for word in words:
        assert word in findings[0].sentence
    assert (verdict == "inconclusive") <= bool(findings[0].would_decide)
    assert set(findings[0].evidence) <= {*frame["key"], *frame["exact_key"]}


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_single_cell_supports_no_comparison(name):
    findings = told(name, ONE_ROW)
    allowed = {"training_spread": "inconclusive", "distance_to_real_images": "worse"}
    verdicts = [finding.verdict for finding in findings]
    assert verdicts == ([allowed[name]] if name in allowed else [])


@pytest.mark.parametrize("name", BUILT_IN)
def test_no_cell_supports_nothing(name):
    assert told(name, table({})) == []


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (
            contrasting((0.75, 0.71), (0.8, 0.7)),
            "better for cosine: theory and measurement disagre",
        ),
        (contrasting((0.71, 0.712), (0.8, 0.7)), "is not the contrast that the sampler keeps"),
    ],
)
def test_theory_is_said_to_be_wrong_or_silent_where_it_is(frame, words):
    assert words in told("why_at_few_steps", frame)[0].sentence


def test_trainings_that_gain_little_or_lose_have_settled():
    for change in (0.01, -0.2):
        [finding] = told("training_long_enough", before({"linear": change, "cosine": change}))
        assert finding.verdict == "measured"
        assert "none was still improving by more than 5.0 %" in finding.sentence


def test_the_last_tenth_is_judged_image_by_image_where_that_is_known():
    frame = before({"linear": 0.1, "cosine": 0.1}, error=0.5)
    assert told("training_long_enough", frame)[0].verdict == "inconclusive"
    moves = np.random.default_rng(0).standard_normal(1000)
    paired = frame.assign(
        influence=[moves] * len(frame), checkpoint_influence=[moves + 0.01] * len(frame)
    )
    [finding] = told("training_long_enough", paired)
    assert "cosine and linear were still learning" in finding.sentence


def test_of_two_schedules_that_lose_contrast_the_one_with_less_signal_is_told():
    frame = contrasting((0.95, 0.9), (0.96, 0.89), last=(0.9, 0.95))
    [finding] = told("contrast_lost", frame)
    assert "Under linear the signal rate never exceeds 0.900" in finding.sentence


def test_what_a_training_gained_is_a_share_of_its_distance_to_real_images():
    far = before({"linear": 0.2, "cosine": 0.2}, floor=0.0)
    near = before({"linear": 0.2, "cosine": 0.2}, floor=0.03)
    assert "improvement by 16.7" in told("training_long_enough", far)[0].sentence
    # Cosine had .0601 to go to 0, and half of that to a floor of .03.
    [finding] = told("training_long_enough", near)
    assert finding.effect == pytest.approx(1 / 6 * 0.0604 / 0.0304, rel=0.02)


def test_fifteen_per_cent_are_of_the_forecast():
    assert "100 % of the 4 pieces" in told("forecast_against_actual", foretold(0.86))[0].sentence
    assert "0 % of the 4 pieces" in told("forecast_against_actual", foretold(1.16))[0].sentence


def test_one_way_may_lead_in_fidelity_and_variety():
    frame = faithful({"ddim": (0.9, 0.8), "ddpm": (0.7, 0.6)})
    assert "fidelity costs no variety" in told("variety_against_fidelity", frame)[0].sentence


def test_as_few_copies_as_new_images_are_no_sign_of_memory():
    [finding] = told("memorisation", remembered(0.04, 0.01))
    assert finding.verdict == "measured"
    assert "no sign of copies" in finding.sentence


def test_a_front_in_seconds_may_differ_from_that_in_evaluations():
    slow = {"ddim": 0.1, "ddpm": 0.001}
    frame = table(
        {("cosine", "ddim", 5): 0.1, ("cosine", "ddpm", 10): 0.09, ("cosine", "ddim", 50): 0.05}
    )
    frame["seconds"] = frame["sampler"].map(slow) * frame["steps"]
    [finding] = told("pareto_front", frame)
    assert "by seconds on one they are not cosine with ddim at 5 steps" in finding.sentence


def test_where_more_is_better_a_training_that_rises_is_still_learning():
    frame = before({"linear": -0.2, "cosine": -0.2}, floor=NAN).assign(lower_is_better=False)
    assert "were still learning" in told("training_long_enough", frame)[0].sentence


def test_what_needs_no_training_is_judged_by_the_luck_of_sampling_alone():
    one_seed = grid([0.3], [0.1], [0.2], [0.05])
    assert told("schedule_at_few_steps", one_seed)[0].verdict == "inconclusive"
    exact = one_seed.assign(is_exact=True)
    [finding] = told("schedule_at_few_steps", exact)
    assert finding.verdict == "better"
    assert "seed" not in finding.sentence
    assert told("training_spread", exact) == []


def test_where_evaluations_are_counted_no_sentence_speaks_of_steps():
    frame = samplers([0.1, 0.08, 0.06, 0.05], [0.3, 0.15, 0.1, 0.02], floor=0.0)
    frame = pd.concat([frame, grid(0.3, 0.1, 0.2, 0.05)], ignore_index=True)
    for finding in found(frame.drop_duplicates("key").assign(unit="evaluation")):
        if "step cost" not in finding.question:
            assert "step" not in finding.question + finding.sentence


def test_the_best_sampler_is_held_against_the_next_whatever_they_are_called():
    frame = table({("cosine", name, 10): value for name, value in
                   {"ddim": 0.3, "ddpm": 0.2, "heun": 0.05, "dpmpp_2m": 0.1}.items()})  # fmt: skip
    asked = {
        (contrast.first.sampler, contrast.second.sampler)
        for contrast in family(frame)
        if contrast.question == "sampler"
    }
    assert asked == {("ddim", "ddpm"), ("heun", "dpmpp_2m")}


@pytest.mark.parametrize("seeds", [(0,), (0, 1), (0, 1, 2)])
def test_sentences_are_whole_and_name_what_they_measure_by(build, seeds):
    results = build(seeds=seeds).ordered()
    for finding in found(tidy(comparable(results)[0], results.present()[0])):
        assert finding.sentence[0].isupper() or finding.sentence[0].isdigit()
        assert finding.sentence.endswith(".")
        assert finding.sentence.count("(") == finding.sentence.count(")")
        assert not any(slip in finding.sentence for slip in ("nan", "None", "  ", "..", " ,", "–"))
        others = ("step cost", "could not", "foretold", "contrast", "copies", "faithful")
        if not any(word in finding.question for word in others):
            assert "KID on digits features" in finding.sentence


def test_the_answer_is_at_most_three_sentences_one_for_each_question(build):
    results = build().ordered()
    chosen = answers(tidy(comparable(results)[0], results.present()[0]))
    assert len(chosen) == 3
    for finding, word in zip(chosen, ["schedule", "ddpm", "How few"], strict=True):
        assert word in finding.question
    assert answers(table({})) == []


def test_a_measure_of_which_more_is_better_turns_the_verdicts_round():
    lower, higher = grid(0.3, 0.1, 0.2, 0.05), grid(0.3, 0.1, 0.2, 0.05, lower_is_better=False)
    assert "cosine is better than linear" in told("schedule_at_few_steps", lower)[0].sentence
    assert "linear is better than cosine" in told("schedule_at_few_steps", higher)[0].sentence
    assert "higher by" in told("schedule_at_few_steps", higher)[0].sentence


def test_seconds_of_two_machines_are_never_put_into_one_line():
    fast = steps_of({5: 0.2, 10: 0.1, 50: 0.05}, seconds=seconds_with(0.001))
    slow = steps_of({5: 0.2, 10: 0.1}, seconds=lambda steps: 9.0 * steps, machine="two")
    [finding] = told("price_of_an_evaluation", pd.concat([fast, slow], ignore_index=True))
    assert "6 cells timed on other machines left out" in finding.sentence
    assert finding.effect == pytest.approx(0.002, rel=0.01)


def test_a_verdict_counts_all_comparisons_of_the_report():
    """The same two schedules: decided alone, not when the table invites many comparisons."""
    a, b = [0.100, 0.101, 0.099], [0.111, 0.116, 0.110]
    alone = table({("linear", "ddim", 5): b, ("cosine", "ddim", 5): a})
    crowd = {("linear", "ddim", n): [0.1, 0.13, 0.11] for n in range(6, 30)}
    crowd |= {("cosine", "ddim", n): [0.11, 0.10, 0.13] for n in range(6, 30)}
    many = table({("linear", "ddim", 5): b, ("cosine", "ddim", 5): a} | crowd)
    assert told("schedule_at_few_steps", alone)[0].verdict == "better"
    [finding] = told("schedule_at_few_steps", many)
    assert finding.verdict == "inconclusive"
    assert "too little among so many comparisons" in finding.sentence


def test_a_budget_counts_evaluations_and_not_steps():
    frame = table({("cosine", "heun", 10): 0.01, ("cosine", "ddim", 10): 0.1,
                   ("cosine", "ddim", 50): 0.05})  # fmt: skip
    frame.loc[frame["sampler"] == "heun", "nfe"] = 19.0
    findings = told("best_under_a_budget", frame)
    assert "With at most 25" in findings[-1].sentence
    assert "cosine with heun at 10 steps" in findings[-1].sentence


def test_schedules_are_compared_where_they_have_the_most_training_seeds_in_common():
    # Another sampler, and another schedule, are better by far but on one network each.
    frame = table(
        {
            ("linear", "ddim", 5): 0.3, ("cosine", "ddim", 5): 0.2,
            ("sigmoid", "ddim", 5): [0.1],
            ("linear", "ab2", 5): [0.1], ("cosine", "ab2", 5): [0.15],
        }
    )  # fmt: skip
    words = told("schedule_at_few_steps", frame)[0].sentence
    assert "with ddim, cosine is better than linear" in words
    assert "with ab2 the means are in the opposite order" in words
    assert (
        "sigmoid, ahead at 5 steps by the mean, has too few training seeds in common with it"
    ) in words
    behind = frame.assign(centre=frame["centre"].where(frame["schedule"] != "sigmoid", 0.9))
    assert "sigmoid" not in told("schedule_at_few_steps", behind)[0].sentence
    elsewhere = frame.assign(seed=frame["seed"].where(frame["schedule"] != "sigmoid", 7))
    assert "sigmoid" not in told("schedule_at_few_steps", elsewhere)[0].sentence


def test_a_schedule_with_too_few_seeds_is_named_without_a_verdict_too():
    frame = table(
        {("linear", "ddim", n): [0.3, 0.31] for n in (5, 50)}
        | {("cosine", "ddim", n): [0.29, 0.32] for n in (5, 50)}
        | {("sigmoid", "ddim", n): [0.1] for n in (5, 50)}
    )
    [found] = told("schedule_across_steps", frame)
    assert "without a verdict" in found.sentence
    assert "sigmoid, ahead at 5 and 50 steps by the mean" in found.sentence


def renamed(frame, **names):
    """The same, with other names of schedules."""
    labels = ["schedule", "trained", "sampled"]
    return frame.assign(**{label: frame[label].replace(names) for label in labels})


def test_published_orders_of_schedules_are_those_of_trained_networks_that_differ_in_nothing_else():
    frame = grid(0.2, 0.3, 0.2, 0.1)
    assert told("published_schedules", frame.assign(is_exact=True)) == []
    one = renamed(frame, linear="linear(beta_end=0.01), velocity")
    assert told("published_schedules", one) == []
    [found] = told("published_schedules", renamed(one, cosine="cosine_discrete(x=1), velocity"))
    assert "cosine_discrete(x=1), velocity is ahead at 50 steps (as on 64x64" in found.sentence


def test_schedules_without_a_training_seed_in_common_are_not_hidden():
    frame = table({("linear", "ddim", 5): [0.3], ("cosine", "ddim", 5): [0.2]})
    frame["seed"] = [0, 1]
    assert told("schedule_at_few_steps", frame)[0].verdict == "inconclusive"


def test_what_contradicts_the_published_order_is_said_to():
    frame = four_samplers(ddim=(0.3, 0.1), ab2=(0.5, 0.1), ddpm=(0.2, 0.3), ddpm_large=(0.6, 0.4))
    [found] = told("published_order", frame)
    assert (
        "disagrees in 3 comparisons (ab2 ahead of ddim at 10 steps, ddim ahead of ddpm at 10 steps"
        in (found.sentence)
    )
    assert "here ddpm is ahead at 50" in found.sentence


@pytest.mark.parametrize(
    ("evaluations", "order"),
    [(5, ("ab2", "ddim")), (2, ("ddim", "ab2")), (20, None), (250, None)],
)
def test_the_published_order_is_that_of_the_nearest_count_if_it_is_near(evaluations, order):
    assert FLOWERS.ahead("ddim", "ab2", evaluations) == order  # 16: a tie; 64 is far from 250
    assert CIFAR_10.ahead("ddim", "ab2", evaluations) is None
    assert CIFAR_10.crossings("ddpm", "ddpm_large") == [(100, 1000, "ddpm_large", "ddpm")]


def test_a_distance_is_told_beside_that_of_damaged_images():
    frame = table({("cosine", "ddim", 10): [0.1]}, floor=0.0)
    assert "for scale" not in told("distance_to_real_images", frame)[0].sentence
    frame = frame.assign(half_resolution=0.0381, noisy=0.0412)
    assert (
        "(for scale: real images score 0.0381 at half their resolution and 0.0412 with Gaussian "
        "noise of 10 of 255)"
    ) in told("distance_to_real_images", frame)[0].sentence
