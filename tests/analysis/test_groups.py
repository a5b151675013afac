"""`harness compare`: what is paired with what, what is refused, and what a verdict rests on."""

import json
from dataclasses import replace

import made
import numpy as np
import pytest
from click.testing import CliRunner

from harness.analysis.decisions import SAMPLING, TRAINING
from harness.analysis.groups import compare, the_one
from harness.analysis.questions import questions
from harness.analysis.study import studies
from harness.cli import main
from harness.errors import BadOption, NotComparable, StoreError, UnknownName
from harness.metrics.kid import kid, kid_influence, kid_standard_error
from harness.metrics.uncertainty import kid_reference_influence
from harness.store import Store
from harness.work.cells import Part
from harness.work.results import Experiment, Measurement

IMAGES, WIDTH = 200, 4
REFERENCE = np.random.default_rng(0).normal(size=(300, WIDTH))


def cell(sampler="ddim", steps=10, schedule="cosine", seed=0, noise=0, model="tiny", **changes):
    changes = {"images": IMAGES, "sampling_seed": noise} | changes
    return made.cell(schedule, sampler, steps, seed, model=Part(model), **changes)


def features_of(one, shift=0.0):
    """Features that share their noise between the cells of one sampling seed and one network, as
    images do that start from the same noise."""
    shared = np.random.default_rng([one.sampling_seed, one.training.seed])
    own = np.random.default_rng(sum(map(ord, one.title)))
    mine = 0.1 * own.normal(size=(IMAGES, WIDTH))
    return shared.normal(size=(IMAGES, WIDTH)) + mine + shift


def scored(*cells, with_influences=True, with_reference=False, **provenance):
    """Results of cells: (cell, shift of its features from the reference)."""
    found = []
    for one, shift in cells:
        features = features_of(one, shift)
        influences = {"kid": kid_influence(features, REFERENCE).astype(np.float32)}
        if with_reference:
            influences["kid_reference"] = kid_reference_influence(features, REFERENCE)
        value = kid(features, REFERENCE)
        measured = Measurement(value, value, kid_standard_error(features, REFERENCE))
        result = made.result(one, kid=measured, influences=influences if with_influences else {})
        found.append(replace(result, provenance=replace(result.provenance, **provenance)))
    return found


def slopes(*values):
    """What an image's influence counts on the scale of relative differences, typed out: values that
    are clearly positive have logarithms."""
    size = np.mean(np.abs(values))
    return [1 / v for v in values] if min(values) > 0.01 * size else [1 / size] * len(values)


# What is paired, and how sure it is.


def test_two_cells_of_one_network_get_a_verdict_paired_image_by_image():
    results = scored((cell("ddim"), 0.2), (cell("ddpm"), 0.4))
    effect = compare(results, "sampler=ddim", "sampler=ddpm", "kid").effect
    assert (effect.verdict, effect.covers, effect.is_paired) == ("better", SAMPLING, True)
    one, other = features_of(cell("ddim"), 0.2), features_of(cell("ddpm"), 0.4)
    values = kid(one, REFERENCE), kid(other, REFERENCE)
    assert effect.value == pytest.approx(np.log(values[0] / values[1]), rel=1e-9)
    a, b = slopes(*values)
    apart = a * kid_influence(one, REFERENCE) - b * kid_influence(other, REFERENCE)
    assert effect.error == pytest.approx(apart.std(ddof=1) / np.sqrt(IMAGES), rel=1e-5)
    assert effect.change.low < effect.change.estimate < effect.change.high < 0


def test_without_influences_the_errors_are_taken_as_independent_and_said_to_be():
    cells = (cell("ddim"), 0.2), (cell("ddpm"), 0.3)
    results = scored(*cells, with_influences=False)
    told = compare(results, "sampler=ddim", "sampler=ddpm", "kid")
    assert not told.effect.is_paired
    assert "errors as independent" in told.as_text()
    measured = [one.measurements["kid"] for one in results]
    scale = slopes(*(one.value for one in measured))
    errors = [slope * one.standard_error for slope, one in zip(scale, measured, strict=True)]
    assert told.effect.error == pytest.approx(np.hypot(*errors))


def test_the_choice_of_the_reference_is_covered_where_that_was_asked_for():
    cells = (cell("ddim"), 0.2), (cell("ddpm"), 0.3)
    asked = "sampler=ddim", "sampler=ddpm", "kid"
    held_fixed = compare(scored(*cells), *asked).effect
    covered = compare(scored(*cells, with_reference=True), *asked).effect
    g = [kid_reference_influence(features_of(one, shift), REFERENCE) for one, shift in cells]
    a, b = slopes(*(kid(features_of(one, shift), REFERENCE) for one, shift in cells))
    added = (a * g[0] - b * g[1]).std(ddof=1) / np.sqrt(len(REFERENCE))
    assert covered.error == pytest.approx(np.hypot(held_fixed.error, added), rel=1e-5)


def test_a_schedule_needs_several_training_seeds():
    def seeds(count):
        return [
            (cell(schedule="cosine", seed=seed), 0.3 + 0.01 * seed) for seed in range(count)
        ] + [(cell(schedule="linear", seed=seed), 0.8 + 0.01 * seed) for seed in range(count)]

    asked = "schedule=cosine", "schedule=linear", "kid"
    one = compare(scored(*seeds(1)), *asked).effect
    assert one.verdict == "inconclusive"
    assert "one training seed" in one.why
    enough = compare(scored(*seeds(3)), *asked)
    assert (enough.effect.verdict, enough.effect.covers) == ("better", TRAINING)
    assert enough.effect.n == 3
    assert "over 3 training seeds" in enough.as_text()


def test_exact_denoisers_need_no_training_seeds():
    cells = [(cell(schedule="cosine", model="exact"), 0.0),
             (cell(schedule="linear", model="exact"), 0.5)]  # fmt: skip
    told = compare(scored(*cells), "schedule=cosine", "schedule=linear", "kid")
    assert (told.effect.verdict, told.effect.covers) == ("better", SAMPLING)
    assert "on the exact denoiser" in told.as_text()


def test_a_filter_that_names_no_model_means_trained_networks():
    """As the report does: exact denoisers are not pooled with networks."""
    cells = [(cell(sampler, model=model), 0.3 + 0.2 * (sampler == "ddpm"))
             for model in ("tiny", "exact") for sampler in ("ddim", "ddpm")]  # fmt: skip
    results = scored(*cells)
    exact = [one.cell for one in results if one.cell.training.is_exact]

    def compared(first="sampler=ddim", second="sampler=ddpm", only=None, results=results):
        told = compare(results, first, second, "kid", only)
        return {one.cell.training.model.name for one in told.pairs[0]}, told.passed_over

    assert compared() == ({"tiny"}, tuple(exact))
    assert compared(only="model=exact") == ({"exact"}, ())
    assert compared("model=exact,sampler=ddim", "model=tiny,sampler=ddim") == (
        {"exact", "tiny"}, ())  # fmt: skip
    assert compared(results=[one for one in results if one.cell in exact]) == ({"exact"}, ())
    # Networks of one side alone could be compared with nothing.
    assert compared(results=[one for one in results if one.cell != cell("ddpm")]) == (
        {"exact"}, ())  # fmt: skip
    assert (
        "model=exact left out" in compare(results, "sampler=ddim", "sampler=ddpm", "kid").as_text()
    )
    assert the_one([one.cell for one in results], "sampler=ddim") == cell("ddim")


@pytest.mark.parametrize("shift", [0.0, 0.2])
def test_of_values_near_zero_no_share_is_told(shift):
    told = compare(
        scored((cell("ddim"), shift), (cell("ddpm"), 0.5)), "sampler=ddim", "sampler=ddpm", "kid"
    )
    assert told.is_share == (told.means[0] > 0) == bool(shift)
    assert ("a difference of" not in told.as_text()) == (" %" in told.as_text()) == bool(shift)
    assert (told.as_json()["change"] is not None) == bool(shift)


def test_an_average_of_ratios_is_called_so_where_it_is_not_the_ratio_of_the_means():
    cells = [(cell(sampler, steps), 0.2 + a) for steps, a in ((5, 0), (10, 0.8))
             for sampler in ("ddim", "ddpm")]  # fmt: skip
    cells[1] = (cells[1][0], 0.6)
    asked = "sampler=ddim", "sampler=ddpm", "kid"
    assert "average of ratios" in compare(scored(*cells), *asked).as_text()
    assert "average of ratios" not in compare(scored(*cells[:2]), *asked).as_text()


def test_groups_are_paired_by_all_that_the_filters_do_not_name():
    cells = [
        (cell(sampler, steps, seed=seed), 0.3 * (sampler == "ddpm") + 1 / steps)
        for sampler in ("ddim", "ddpm")
        for steps in (5, 10)
        for seed in (0, 1)
    ]
    results = scored(*cells, (cell("ddim", 50), 0.0))
    told = compare(results, "sampler=ddim", "sampler=ddpm", "kid")
    for first, second in told.pairs:
        assert replace(first.cell, sampler=Part("ddpm")) == second.cell
    assert len(told.pairs) == 4
    assert told.left_out == 1
    assert "1 cell has no partner" in told.as_text()
    assert told.effect.n == 2  # networks


def test_cells_that_share_their_noise_are_not_counted_as_independent():
    """Two pairs of the same noise say hardly more than one, under two networks or one."""
    steps = [(cell(sampler, n, seed=seed), 0.2 + 0.02 * (sampler == "ddpm"))
             for n in (5, 10) for seed in (0, 1) for sampler in ("ddim", "ddpm")]  # fmt: skip
    both = compare(scored(*steps), "sampler=ddim", "sampler=ddpm", "kid")
    h = {one.key: kid_influence(features_of(one, shift), REFERENCE) for one, shift in steps}
    value = {one.key: kid(features_of(one, shift), REFERENCE) for one, shift in steps}
    apart = np.zeros(IMAGES)
    for n in (5, 10):
        pairs = [(a.cell.key, b.cell.key) for a, b in both.pairs if a.cell.steps == n]
        for side, sign in ((0, 1), (1, -1)):
            mean = np.mean([value[pair[side]] for pair in pairs])
            apart += sign / 2 * np.mean([h[pair[side]] for pair in pairs], axis=0) / mean
    assert both.effect.error == pytest.approx(apart.std(ddof=1) / np.sqrt(IMAGES), rel=1e-5)


def test_a_key_is_compared_with_whatever_other_key():
    one, other = cell("ddim", 5), cell("ddpm", 10)
    told = compare(scored((one, 0.0), (other, 0.5)), one.key[:8], other.key, "kid")
    assert [(a.cell, b.cell) for a, b in told.pairs] == [(one, other)]


def test_identical_images_are_inconclusive():
    one = cell("ddim")
    told = compare(scored((one, 0.0)), one.key, one.key, "kid")
    assert told.effect.verdict == "inconclusive"
    assert "do not vary" in told.effect.why


# What is refused.


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"images": 100}, "images"),
        ({"extractor": Part("inception")}, "extractor"),
        ({"reference": "all"}, "reference"),
    ],
)
def test_different_quantities_are_refused(changes, name):
    one, other = cell("ddim"), cell("ddpm", **changes)
    results = scored((one, 0.0), (other, 0.0), extractor="")
    with pytest.raises(NotComparable, match=f"these cells differ in {name}"):
        compare(results, one.key, other.key, "kid")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("data", "data fingerprint"),
        ("extractor_fingerprint", "extractor fingerprint"),
        ("precision", "precision"),
    ],
)
def test_what_only_the_machine_knows_is_looked_at_too(name, told):
    results = scored((cell("ddim"), 0.0)) + scored((cell("ddpm"), 0.0), **{name: "other"})
    with pytest.raises(NotComparable, match=f"differ in {told}"):
        compare(results, "sampler=ddim", "sampler=ddpm", "kid")


def test_the_precision_of_the_exact_denoiser_is_no_difference():
    results = scored((cell("ddim", model="exact"), 0.0), precision="float32")
    results += scored((cell("ddim"), 0.3), precision="bfloat16")
    told = compare(results, "model=exact", "model=tiny", "kid")
    assert len(told.pairs) == 1


def test_groups_that_leave_a_choice_are_refused():
    results = scored((cell("ddim", 5), 0.0), (cell("ddim", 10), 0.0), (cell("ddpm", 5), 0.0))
    with pytest.raises(NotComparable, match="would have the same partner"):
        compare(results, "sampler=ddim,steps=[5,10]", "sampler=ddpm,steps=5", "kid")


def test_one_cell_each_that_differ_in_what_no_filter_names_are_refused():
    results = scored((cell("ddim", 5), 0.0), (cell("ddpm", 10), 0.3))
    with pytest.raises(NotComparable, match="no two cells of these groups agree in all else"):
        compare(results, "sampler=ddim", "sampler=ddpm", "kid")
    keys = [one.cell.key for one in results]
    assert len(compare(results, *keys, "kid").pairs) == 1  # of keys everything may differ


def test_groups_that_share_nothing_are_refused():
    cells = [(cell("ddim", n), 0.0) for n in (5, 10)] + [(cell("ddpm", n), 0.0) for n in (20, 50)]
    with pytest.raises(NotComparable, match="no two cells of these groups agree in all else"):
        compare(scored(*cells), "sampler=ddim", "sampler=ddpm", "kid")


def test_a_metric_that_a_cell_does_not_have_is_named():
    results = scored((cell("ddim"), 0.0), (cell("ddpm"), 0.0))
    with pytest.raises(NotComparable, match=r"was not measured\. Use it in the grid"):
        compare(results, "sampler=ddim", "sampler=ddpm", "fid")


def test_names_of_nothing_are_refused():
    results = scored((cell("ddim"), 0.0))
    with pytest.raises(BadOption, match="no cell of the store matches"):
        compare(results, "sampler=ddim", "sampler=ddpm", "kid")
    with pytest.raises(StoreError, match="no finished cell of the 1 in the store"):
        compare(results, "zzz", "sampler=ddim", "kid")
    with pytest.raises(UnknownName, match="kidd"):
        compare(results, "sampler=ddim", "sampler=ddim", "kidd")


# One judge: the report and the command say the same of the same pairs.


def grid_of(*cells):
    results = scored(*cells)
    grids = {"one": studies(Experiment("one", tuple(results)))}
    return results, grids, grids["one"][0]


@pytest.mark.parametrize("factor", ["sampler", "schedule", "steps"])
def test_the_command_has_the_verdicts_of_the_report(factor):
    """Of main effects and of single configurations, either way round."""
    results, grids, study = grid_of(
        *((cell(sampler, n, schedule, seed), 0.2 + 0.02 * seed + 1 / n
           + 0.05 * (sampler == "ddpm") + 0.1 * (schedule == "linear"))
          for sampler in ("ddim", "ddpm") for n in (5, 10)
          for schedule in ("cosine", "linear") for seed in (0, 1, 2))
    )  # fmt: skip
    [question] = [one for one in questions(study) if one.name == factor]
    [main] = question.main
    first, second = f"{factor}={main.first}", f"{factor}={main.second}"
    told = compare(results, first, second, "kid", grids=grids)
    assert (told.effect.verdict, told.effect.value) == (main.verdict, main.effect.value)
    assert told.effect.adjusted == main.effect.adjusted
    assert "of the grid 'one'" in told.question
    turned = compare(results, second, first, "kid", grids=grids).effect
    assert turned.value == -main.effect.value
    assert {turned.verdict, told.effect.verdict} in ({"better", "worse"}, {"inconclusive"})
    for one in question.comparisons:
        of = one.first
        rest = {"sampler": of.kind, "steps": of.steps, "schedule": of.schedule}
        only = ",".join(f"{name}={value}" for name, value in rest.items() if name != factor)
        alone = compare(results, first, second, "kid", only, grids)
        assert (alone.effect.verdict, alone.effect.adjusted) == (one.verdict, one.effect.adjusted)


def test_what_no_grid_asks_is_exploratory():
    results, grids, _ = grid_of(
        (cell("ddim", 5), 0.1), (cell("ddpm", 5), 0.3), (cell("ddim", 10), 0.1)
    )
    keys = [one.cell.key for one in results]
    told = compare(results, keys[1], keys[2], "kid", grids=grids)
    assert told.question == ""
    assert "exploratory" in told.as_text()


def test_cells_of_changed_images_are_never_averaged_by_either():
    old = scored(*[(cell("ddim", 10, "linear", seed), 0.0) for seed in (0, 1, 2)])
    new = scored(
        *[
            (cell("ddim", 10, name, seed), 0.1)
            for name in ("cosine", "linear")
            for seed in (3, 4, 5)
        ],
        data="other images",
    )
    first, second = studies(Experiment("e", (*old, *new)))
    assert {one.provenance.data for one in first.cells} == {"other images"}
    assert {one.provenance.data for one in second.cells} == {"d"}
    with pytest.raises(NotComparable, match="data fingerprint"):
        compare([*old, *new], "schedule=linear", "schedule=cosine", "kid")


# The command.


@pytest.fixture
def run(tmp_path):
    def run(results, *arguments):
        store = Store(tmp_path / "store")
        with store.locked():
            for one in results:
                store.keep(one)
        return CliRunner().invoke(main, ["compare", *arguments, "--store", str(store.root)])

    return run


def test_the_command_says_who_is_better_by_how_much_and_on_what(run):
    results = scored((cell("ddim"), 0.2), (cell("ddpm"), 0.5), (cell("ddim", 20), 0.0))
    result = run(results, "sampler=ddim", "sampler=ddpm", "--only", "steps=10")
    assert result.exit_code == 0, result.output
    first, second, third = result.output.splitlines()
    assert first == "sampler=ddim is better than sampler=ddpm"
    assert second.startswith("KID: ")
    assert "95 % interval [-" in second
    assert third.startswith(
        "From 1 pair of cells. Covers sampling only, on 1 trained model, paired image by image; "
        "the reference images are held fixed."
    )
    assert "exploratory" in third


def test_the_command_prints_one_object(run):
    results = scored((cell("ddim"), 0.4), (cell("ddpm"), 0.5))
    told = json.loads(run(results, "sampler=ddpm", "sampler=ddim", "--json").output)
    assert told["verdict"] == "worse"
    assert told["low"] < told["change"] < told["high"]
    assert told["pairs"] == [[cell("ddpm").key, cell("ddim").key]]


def test_the_command_refuses_with_one_message(run):
    result = run([], "sampler=ddim", "sampler=ddpm")
    assert result.exit_code == 1
    assert "has no finished cells. Use `harness run`" in result.output
    assert "Traceback" not in result.output
