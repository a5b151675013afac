"""Studies: what may stand side by side, what it is called, and what stands beside it."""

import math
from dataclasses import replace

import made
import pytest
from studies import before, by_steps, exactly, results, study

from harness.analysis.study import Study, studies
from harness.work.cells import Part
from harness.work.results import Experiment


def changed(result, **fields):
    """The same result of a changed training."""
    training = replace(result.cell.training, **fields)
    return replace(result, cell=replace(result.cell, training=training))


@pytest.fixture
def one():
    return results({("cosine", "ddim", 10): [0.1]})[0]


def elsewhere(result, where, **fields):
    return replace(result, **{where: replace(getattr(result, where), **fields)})


@pytest.mark.parametrize(
    "other",
    [
        lambda one: elsewhere(one, "provenance", data="changed images"),
        lambda one: elsewhere(one, "provenance", extractor_fingerprint="other weights"),
        lambda one: elsewhere(one, "provenance", extractor="pixels"),
        lambda one: elsewhere(one, "provenance", precision="bfloat16"),
        lambda one: elsewhere(one, "cell", images=51),
        lambda one: elsewhere(one, "cell", reference="test"),
    ],
)
def test_cells_that_measure_different_quantities_never_share_a_study(one, other):
    found = studies(Experiment("x", (one, other(one))))
    assert [len(each.results) for each in found] == [1, 1]


def test_the_largest_group_comes_first_and_brings_its_trainings_alone(one):
    other = elsewhere(changed(one, seed=7), "provenance", data="changed images")
    two = results({("cosine", "ddim", 5): [0.1, 0.2]})
    trainings = [made.trained(each.cell.training) for each in (*two, other)]
    first, second = studies(Experiment("x", (other, *two), tuple(trainings)))
    assert (len(first.cells), len(second.cells)) == (2, 1)
    assert [each.training.seed for each in first.trainings] == [0, 1]
    assert [each.training.seed for each in second.trainings] == [7]


def test_results_are_in_an_order_that_does_not_depend_on_who_finished_first():
    cells = results({("cosine", "ddim", 5): 0.1, ("linear", "ddim", 50): 0.1})
    there, back = (studies(Experiment("x", tuple(each)))[0] for each in (cells, cells[::-1]))
    assert there.results == back.results
    assert there.cells == back.cells


def test_nothing_is_averaged_over_unseen_what_differs_joins_the_label(one):
    cells = [
        one,
        changed(one, target="velocity", learning_rate=0.01, weighting=Part.of("min_snr", {"k": 5})),
        elsewhere(one, "cell", spacing=Part("leading"), clip=True),
    ]
    of = Study.of(cells)
    noise = "cosine, target noise, weighting simple, learning rate 0.001"
    velocity = "cosine, target velocity, weighting min_snr(k=5), learning rate 0.01"
    assert {each.label for each in of.configurations()} == {
        f"{noise} with ddim, trailing, clip False",
        f"{velocity} with ddim, trailing, clip False",
        f"{noise} with ddim, leading, clip True",
    }
    assert of.training_label(one.cell.training).startswith("cosine, target noise")
    assert [each.label for each in Study.of([one]).configurations()] == ["cosine with ddim"]


def test_trainings_are_told_apart_where_the_record_of_one_is_lost(one):
    wider = changed(one, learning_rate=0.01)
    trained = made.trained(one.cell.training)
    assert len(Study.of([one, wider, trained]).configurations()) == 2


def test_a_mismatched_schedule_is_named_and_is_another_configuration(one):
    mismatched = elsewhere(one, "cell", sample_schedule=Part("linear"))
    labels = Study.of([one, mismatched]).labels(mismatched.cell)
    assert labels.schedule == "cosine sampled as linear"
    assert (labels.trained, labels.sampled) == ("cosine", "linear")
    assert len(Study.of([one, mismatched]).configurations()) == 2


def test_options_of_parts_tell_configurations_apart(one):
    eta = elsewhere(one, "cell", sampler=made.part("ddim(eta=0.5)"))
    assert [each.eta for each in Study.of([one, eta]).configurations()] == [0.0, 0.5]


def test_where_evaluations_were_allowed_those_are_counted(one):
    of = Study.of([elsewhere(one, "cell", steps=5, budget=10)])
    assert (of.unit, of.configurations()[0].steps) == ("evaluation", 10)
    assert Study.of([one]).unit == "step"


def test_the_exact_denoiser_stands_beside_networks_and_is_no_cell_of_the_study():
    networks = results({("cosine", "ddim", 5): 0.3, ("cosine", "ddim", 50): 0.1})
    exact = elsewhere(exactly(networks[0], 0.2), "provenance", precision="float64")
    [of] = studies(Experiment("x", (*networks, exact)))
    assert len(of.cells) == 6
    twins = [of.exact_twin(cell) for cell in of.cells]
    assert [twin is not None and twin.cell.key for twin in twins] == [exact.cell.key] * 3 + [
        False
    ] * 3
    assert of.exact_twin(exact) is None
    [alone] = studies(Experiment("x", (exact,)))
    assert alone.cells == (exact,)


def test_the_exact_denoiser_is_another_in_each_scale_of_the_data(one):
    unit = changed(one, scale="unit")
    exact = [exactly(each, 0.2) for each in (one, unit)]
    [of] = studies(Experiment("x", (one, unit, *exact)))
    assert [of.exact_twin(cell) for cell in (one, unit)] == exact
    [alone] = studies(Experiment("x", tuple(exact)))
    assert {each.label for each in alone.configurations()} == {
        "cosine, scale range with ddim", "cosine, scale unit with ddim",
    }  # fmt: skip


def test_a_checkpoint_is_found_from_its_cell_and_is_none_of_the_study(one):
    earlier = before(one, "kid", 1.5)
    [of] = studies(Experiment("x", (earlier, one)))
    assert of.cells == (one,)
    assert of.checkpoint(one) == earlier
    assert studies(Experiment("x", (one,)))[0].checkpoint(one) is None


def test_kid_decides_where_it_is_measured_and_then_fid():
    def more(one):
        extra = {"recall": made.measured(0.5), "fid": made.measured(3.0), "mine": made.measured(1)}
        return replace(one, measurements={**one.measurements, **extra})

    of = by_steps({10: [0.1]}, more=more)
    assert [metric.key for metric in of.metrics] == ["kid", "fid", "recall", "mine"]
    assert of.metric.key == "kid"
    assert len(of.configurations("mine")) == 1


def test_a_biased_metric_is_named_with_its_number_of_images_and_its_correction():
    def fid(corrected):
        return lambda one: replace(
            one, measurements={"fid": made.measured(3.0, corrected=corrected)}
        )

    plain, corrected = (by_steps({10: [0.1]}, more=fid(value)) for value in (3.0, 2.5))
    assert plain.named(plain.metric) == "FID (n = 50)"
    assert corrected.named(corrected.metric) == "FID (n = 50, bias-corrected)"
    kid = by_steps({10: [0.1]})
    assert kid.named(kid.metric) == "KID"


def test_the_baseline_of_a_biased_metric_counts_only_at_the_cells_number_of_images():
    def fid(images):
        fid = made.measured(3.0, corrected=2.5, baseline=0.9, baseline_corrected=0.4)
        return lambda one: replace(one, measurements={"fid": fid}, baseline_images=images)

    same, fewer = (by_steps({10: [0.1]}, more=fid(images)) for images in (50, 20))
    assert same.baseline() == 0.4
    assert same.baseline(corrected=False) == 0.9
    assert math.isnan(fewer.baseline())
    assert by_steps({10: [0.1]}, baseline=-0.01).baseline() == -0.01
    assert math.isnan(study({("cosine", "ddim", 10): [0.1]}).baseline())


def test_the_exact_denoiser_of_other_images_stands_beside_no_network(one):
    exact = elsewhere(exactly(one, 0.01), "provenance", data="other images")
    [found] = studies(Experiment("e", (one, exact)))
    assert found.exact_twin(one) is None
    assert found.results == (one,)
