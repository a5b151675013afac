"""`harness compare`: what is paired with what, what is refused, and what a verdict rests on."""

import json
from dataclasses import replace

import numpy as np
import pytest
import works
from click.testing import CliRunner

from harness.cli import main
from harness.comparing import compare
from harness.errors import BadOption, NotComparable, StoreError, UnknownName
from harness.metrics.kid import kid, kid_influence, kid_standard_error
from harness.metrics.statistics import SAMPLING, TRAINING
from harness.metrics.uncertainty import kid_difference_error
from harness.plan.work import Part
from harness.runtime.store import Store, write_json

IMAGES, WIDTH = 200, 4
REFERENCE = np.random.default_rng(0).normal(size=(300, WIDTH))


def training(schedule="cosine", seed=0, model="tiny"):
    return replace(
        works.TRAINING,
        model=Part(model),
        schedule=Part(schedule),
        seed=seed,
        training_steps=10,
        batch_size=4,
    )


def cell(sampler="ddim", steps=10, schedule="cosine", seed=0, noise=0, model="tiny", **changes):
    made = replace(
        works.CELL,
        training=training(schedule, seed, model),
        sample_schedule=Part(schedule),
        sampler=Part(sampler),
        steps=steps,
        images=IMAGES,
        sampling_seed=noise,
    )
    return replace(made, **changes)


def features_of(one, shift=0.0):
    """Features that share their noise between the cells of one sampling seed and one network, as
    images do that start from the same noise."""
    shared = np.random.default_rng([one.sampling_seed, one.training.seed])
    own = np.random.default_rng(int(one.key, 16))
    mine = 0.1 * own.normal(size=(IMAGES, WIDTH))
    return shared.normal(size=(IMAGES, WIDTH)) + mine + shift


@pytest.fixture
def keep(tmp_path):
    """Puts finished cells into a store: (cell, shift of its features from the reference)."""
    store = Store(tmp_path / "store")

    def keep(*cells, with_features=True, **changes):
        np_path = store.features("real")
        np_path.parent.mkdir(parents=True, exist_ok=True)
        np.save(np_path, REFERENCE)
        for one, shift in cells:
            features = features_of(one, shift)
            outcome = {
                "cell": one.canonical(),
                "metrics": {
                    "kid": kid(features, REFERENCE),
                    "kid_se": kid_standard_error(features, REFERENCE),
                },
                "extractor": "digits",
                "extractor_fingerprint": "e",
                "data_fingerprint": "d",
                "precision": "float32",
                "machine": "here",
                "reference_features": "real",
            }
            write_json(store.cell(one.key, "outcome.json"), outcome | changes)
            influence = kid_influence(features, REFERENCE).astype(np.float32)
            np.savez(store.cell(one.key, "influence.npz"), kid=influence)
            if with_features:
                np.save(store.features(one.key), features)
        return store.root

    return keep


# What is paired, and how sure it is.


def test_two_cells_of_one_network_get_a_verdict_paired_image_by_image(keep):
    store = keep((cell("ddim"), 0.0), (cell("ddpm"), 0.2))
    told = compare(store, "sampler=ddim", "sampler=ddpm", "kid")
    assert told.comparison.verdict == "better"
    assert told.comparison.covers == SAMPLING
    assert told.is_paired
    assert told.is_corrected
    one, other = features_of(cell("ddim")), features_of(cell("ddpm"), 0.2)
    assert told.comparison.difference == pytest.approx(
        kid(one, REFERENCE) - kid(other, REFERENCE), rel=1e-12
    )
    reach = 1.959964 * kid_difference_error(one, other, REFERENCE)
    assert told.comparison.high - told.comparison.difference == pytest.approx(reach, rel=1e-5)


def test_from_influences_alone_the_interval_is_a_little_wider_and_says_so(keep):
    cells = (cell("ddim"), 0.0), (cell("ddpm"), 0.05)
    wide = compare(keep(*cells, with_features=False), "sampler=ddim", "sampler=ddpm", "kid")
    assert (wide.is_paired, wide.is_corrected) == (True, False)
    assert "slightly too wide" in wide.as_text()
    narrow = compare(keep(*cells), "sampler=ddim", "sampler=ddpm", "kid")
    assert "slightly" not in narrow.as_text()
    reach = [told.comparison.high - told.comparison.low for told in (narrow, wide)]
    assert reach[0] <= reach[1] < 1.3 * reach[0]
    plain = np.std(
        kid_influence(features_of(cell("ddim")), REFERENCE)
        - kid_influence(features_of(cell("ddpm"), 0.05), REFERENCE),
        ddof=1,
    ) / np.sqrt(IMAGES)
    assert reach[1] == pytest.approx(2 * 1.959964 * plain, rel=1e-5)


def test_a_schedule_needs_three_training_seeds(keep):
    def seeds(count):
        return [(cell(schedule="cosine", seed=seed), 0.02 * seed) for seed in range(count)] + [
            (cell(schedule="linear", seed=seed), 0.5 + 0.01 * seed) for seed in range(count)
        ]

    asked = "schedule=cosine", "schedule=linear", "kid"
    for count in (1, 2):
        few = compare(keep(*seeds(count)), *asked)
        assert few.comparison.verdict == "inconclusive"
        assert "training seed" in few.comparison.reason
    enough = compare(keep(*seeds(3)), *asked)
    assert (enough.comparison.verdict, enough.comparison.covers) == ("better", TRAINING)
    assert enough.comparison.n == 3
    assert "over 3 training seeds" in enough.as_text()


def test_exact_denoisers_need_no_training_seeds(keep):
    cells = [(cell(schedule="cosine", model="exact"), 0.0),
             (cell(schedule="linear", model="exact"), 0.5)]  # fmt: skip
    told = compare(keep(*cells), "schedule=cosine", "schedule=linear", "kid")
    assert (told.comparison.verdict, told.comparison.covers) == ("better", SAMPLING)
    assert "on the exact denoiser" in told.as_text()


def test_groups_are_paired_by_all_that_the_filters_do_not_name(keep):
    cells = [
        (cell(sampler, steps, seed=seed), 0.3 * (sampler == "ddpm") + 1 / steps)
        for sampler in ("ddim", "ddpm")
        for steps in (5, 10)
        for seed in (0, 1)
    ]
    store = keep(*cells, (cell("ddim", 50), 0.0))
    told = compare(store, "sampler=ddim", "sampler=ddpm", "kid")
    by_key = {one.key: one for one, _ in cells}
    for first, second in told.pairs:
        assert replace(by_key[first], sampler=Part("ddpm")) == by_key[second]
    assert len(told.pairs) == 4
    assert told.left_out == 1
    assert "1 cell has no partner" in told.as_text()
    assert told.comparison.n == 2  # networks


def test_cells_that_share_their_noise_are_not_counted_as_independent(keep):
    """Two pairs of the same noise say hardly more than one."""
    steps = [(cell(sampler, n), 0.02 * (sampler == "ddpm")) for n in (5, 10)
             for sampler in ("ddim", "ddpm")]  # fmt: skip
    both = compare(keep(*steps, with_features=False), "sampler=ddim", "sampler=ddpm", "kid")
    h = {one.key: kid_influence(features_of(one, shift), REFERENCE) for one, shift in steps}
    apart = sum(h[a] - h[b] for a, b in both.pairs) / 2
    error = (both.comparison.high - both.comparison.low) / (2 * 1.959964)
    assert error == pytest.approx(apart.std(ddof=1) / np.sqrt(IMAGES), rel=1e-5)


def test_a_key_is_compared_with_whatever_other_key(keep):
    one, other = cell("ddim", 5), cell("ddpm", 10)
    told = compare(keep((one, 0.0), (other, 0.5)), one.key[:8], other.key, "kid")
    assert told.pairs == [(one.key, other.key)]


def test_identical_images_are_inconclusive(keep):
    one = cell("ddim")
    told = compare(keep((one, 0.0)), one.key, one.key, "kid")
    assert told.comparison.verdict == "inconclusive"
    assert "the images are the same" in told.comparison.reason


# What is refused.


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"images": 100}, "images"),
        ({"extractor": Part("inception")}, "extractor"),
        ({"reference": "all"}, "reference"),
    ],
)
def test_different_quantities_are_refused(keep, changes, name):
    one, other = cell("ddim"), cell("ddpm", **changes)
    store = keep((one, 0.0))
    outcome = {"extractor": str(other.extractor)}
    keep((other, 0.0), **outcome)
    with pytest.raises(NotComparable, match=f"these cells differ in {name}"):
        compare(store, one.key, other.key, "kid")


@pytest.mark.parametrize("name", ["data_fingerprint", "extractor_fingerprint", "precision"])
def test_what_only_the_machine_knows_is_looked_at_too(keep, name):
    store = keep((cell("ddim"), 0.0))
    keep((cell("ddpm"), 0.0), **{name: "other"})
    with pytest.raises(NotComparable, match=f"differ in {name.replace('_', ' ')}"):
        compare(store, "sampler=ddim", "sampler=ddpm", "kid")


def test_groups_that_leave_a_choice_are_refused(keep):
    store = keep((cell("ddim", 5), 0.0), (cell("ddim", 10), 0.0), (cell("ddpm", 5), 0.0))
    with pytest.raises(NotComparable, match="would have the same partner"):
        compare(store, "sampler=ddim,steps=[5,10]", "sampler=ddpm,steps=5", "kid")


def test_groups_that_share_nothing_are_refused(keep):
    cells = [(cell("ddim", n), 0.0) for n in (5, 10)] + [(cell("ddpm", n), 0.0) for n in (20, 50)]
    with pytest.raises(NotComparable, match="no two cells of these groups agree in all else"):
        compare(keep(*cells), "sampler=ddim", "sampler=ddpm", "kid")


def test_a_metric_that_a_cell_does_not_have_is_named(keep):
    store = keep((cell("ddim"), 0.0), (cell("ddpm"), 0.0))
    with pytest.raises(NotComparable, match="Name it in the grid's metrics"):
        compare(store, "sampler=ddim", "sampler=ddpm", "fid")


def test_names_of_nothing_are_refused(keep):
    store = keep((cell("ddim"), 0.0))
    with pytest.raises(BadOption, match="no cell of the store matches"):
        compare(store, "sampler=ddim", "sampler=ddpm", "kid")
    with pytest.raises(StoreError, match="no finished cell of the store"):
        compare(store, "zzz", "sampler=ddim", "kid")
    with pytest.raises(UnknownName, match="unknown metric 'kidd'"):
        compare(store, "sampler=ddim", "sampler=ddim", "kidd")


# The command.


def run(store, *arguments):
    return CliRunner().invoke(main, ["compare", *arguments, "--store", str(store)])


def test_the_command_says_who_is_better_by_how_much_and_on_what(keep):
    store = keep((cell("ddim"), 0.0), (cell("ddpm"), 0.5), (cell("ddim", 20), 0.0))
    result = run(store, "sampler=ddim", "sampler=ddpm", "--only", "steps=10")
    assert result.exit_code == 0, result.output
    first, second, third = result.output.splitlines()
    assert first == "sampler=ddim is better than sampler=ddpm"
    assert second.startswith("KID: ")
    assert "95 % interval [-" in second
    assert third == (
        "From 1 pair of cells. Covers sampling only, on 1 trained model, paired image by image; "
        "the reference images are held fixed."
    )


def test_the_command_prints_one_object(keep):
    store = keep((cell("ddim"), 0.0), (cell("ddpm"), 0.5))
    told = json.loads(run(store, "sampler=ddpm", "sampler=ddim", "--json").output)
    assert told["verdict"] == "worse"
    assert told["low"] < told["difference"] < told["high"]
    assert told["pairs"] == [[cell("ddpm").key, cell("ddim").key]]


def test_the_command_refuses_with_one_message(tmp_path):
    result = run(tmp_path / "nothing", "sampler=ddim", "sampler=ddpm")
    assert result.exit_code == 1
    assert "has no finished cells; run a grid first" in result.output
    assert "Traceback" not in result.output
