"""What may be compared, what a label names, and when results are the same results."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from harness.report.contents import contents
from harness.report.points import seconds_of
from harness.report.table import FID, KID, Measure, comparable, tidy


def changed(results, rows, **columns):
    """The results with these columns set in some rows of the cells."""
    cells = results.cells.copy()
    for column, value in columns.items():
        if column not in cells:
            cells[column] = ""
        cells[column] = cells[column].astype(object)
        cells.loc[rows, column] = value
    return replace(results, cells=cells)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("extractor", "inception-768"),
        ("images", 500),
        ("reference", "all"),
        ("precision", "float32"),
    ],
)
def test_different_quantities_never_share_a_group(results, column, value):
    groups = comparable(changed(results, slice(0, 9), **{column: value}))
    assert [len(group.cells) for group in groups] == [38, 10]
    assert all(group.cells[column].nunique() == 1 for group in groups)


def test_a_label_names_all_that_differs_and_nothing_that_does_not(results):
    varied = changed(
        results, results.cells["training_key"] == "t-linear-0", schedule_options="max_signal=0.99",
        sample_schedule_options="max_signal=0.99", sampler_options="eta=0.5", spacing="trailing",
    )  # fmt: skip
    trainings = results.trainings.copy()
    trainings.loc[trainings["key"] == "t-linear-0", "target"] = "velocity"
    frame = tidy(replace(varied, trainings=trainings), KID)
    assert frame.loc[0, "schedule"] == "linear(max_signal=0.99), velocity"
    assert frame.loc[0, "sampler"] == "ddpm(eta=0.5), trailing"
    assert (frame.loc[0, "kind"], frame.loc[0, "setting"]) == ("ddpm(eta=0.5)", ", trailing")
    assert set(tidy(results, KID)["schedule"]) == {"linear", "cosine"}
    assert set(tidy(results, KID)["sampler"]) == {"ddpm", "ddim"}


def test_a_model_sampled_under_another_schedule_is_not_taken_for_its_own(results):
    frame = tidy(changed(results, [0], sample_schedule="cosine"), KID)
    assert frame.loc[0, "schedule"] == "linear sampled as cosine"


def test_what_differs_between_trainings_is_found_in_their_table(results):
    trainings = results.trainings.copy()
    trainings["learning_rate"] = [1e-3, 2e-4] * 3
    frame = tidy(replace(results, trainings=trainings), KID)
    assert set(frame["schedule"]) == {
        f"{schedule}, learning rate {rate}"
        for schedule in ("linear", "cosine")
        for rate in ("0.001", "0.0002")
    }


def test_a_biased_measure_names_its_n_and_refuses_a_floor_of_another_n(results):
    assert FID.named(2000, "digits") == "FID (n = 2,000) on digits features"
    assert tidy(results, FID)["floor"].notna().all()
    cells = results.cells.assign(floor_images=360)
    assert tidy(replace(results, cells=cells), FID)["floor"].isna().all()
    assert tidy(replace(results, cells=cells), KID)["floor"].notna().all()


def test_an_unknown_metric_with_an_error_is_a_measure_too(results):
    cells = results.cells.assign(precision_at_k=0.5, precision_at_k_se=0.1)
    assert replace(results, cells=cells).present() == [
        KID,
        FID,
        Measure("precision_at_k", "precision_at_k"),
    ]
    bare = results.cells.drop(columns=["kid"]).assign(fid=np.nan)
    assert replace(results, cells=bare).present() == []


def test_the_fingerprint_does_not_depend_on_the_order_of_rows_or_columns(results):
    shuffled = replace(
        results,
        cells=results.cells.sample(frac=1, random_state=1)[sorted(results.cells.columns)],
        trainings=results.trainings[::-1],
        losses=dict(reversed(results.losses.items())),
    )
    assert shuffled.fingerprint() == results.fingerprint()


@pytest.mark.parametrize(
    "change",
    [
        lambda r: replace(r, name="other"),
        lambda r: replace(r, grid_text=r.grid_text + " "),
        lambda r: replace(r, expected_cells=r.expected_cells + 1),
        lambda r: replace(r, commit="abc1234 (modified)"),
        lambda r: replace(r, versions=r.versions | {"torch": "2.14.0"}),
        lambda r: replace(r, cells=r.cells.assign(kid=r.cells["kid"] + 1e-12)),
        lambda r: replace(r, sheets=r.sheets | {r.cells["key"][0]: b"another picture"}),
        lambda r: replace(r, losses={key: frame * 1.01 for key, frame in r.losses.items()}),
        lambda r: replace(r, schedules={}),
        lambda r: replace(
            r, failures=pd.DataFrame([{"kind": "cell", "key": "k", "what": "w", "reason": "r"}])
        ),
    ],
)
def test_the_fingerprint_changes_with_every_input(results, change):
    assert change(results).fingerprint() != results.fingerprint()


def test_the_exact_denoiser_stands_beside_the_networks_sampled_in_the_same_way(build):
    results = build(crossed=True, exact=True)
    [group] = comparable(results)  # the exact denoiser knows but one precision
    frame = tidy(group, KID)
    assert len(frame) == 96
    assert not frame["is_exact"].any()
    cells = results.cells.set_index("key")
    for row in frame.itertuples():
        beside = cells.loc[row.exact_key]
        assert beside["model"] == "exact"
        assert beside["sample_schedule"] == row.sampled
        assert (beside["sampler"], beside["steps"]) == (row.sampler, row.steps)
        assert row.exact_value == beside["kid"]
    assert tidy(comparable(build())[0], KID)["exact_value"].isna().all()


def test_the_exact_denoiser_of_another_quantity_stands_beside_nothing(build):
    results = build(exact=True)
    cells = results.cells.copy()
    cells.loc[cells["model"] == "exact", "images"] = 500
    [group] = comparable(replace(results, cells=cells))
    assert tidy(group, KID)["exact_value"].isna().all()


def test_where_there_are_no_networks_the_exact_denoiser_has_rows_of_its_own(build):
    results = build(exact=True)
    cells = results.cells[results.cells["model"] == "exact"].reset_index(drop=True)
    alone = replace(results, cells=cells, trainings=results.trainings[:0])
    frame = tidy(comparable(alone)[0], KID)
    assert len(frame) == 16
    assert frame["is_exact"].all()
    assert set(frame["schedule"]) == {"linear", "cosine"}


def test_where_a_grid_counts_evaluations_cells_are_told_by_what_they_were_allowed(results):
    assert set(tidy(results, KID)["unit"]) == {"step"}
    budgets = dict.fromkeys(results.cells["key"], 25)
    frame = tidy(replace(results, budgets=budgets), KID)
    assert set(frame["unit"]) == {"evaluation"}
    assert set(frame["steps"]) == {25}


def test_a_report_says_where_fid_has_too_few_images_to_be_known(results):
    def limits(width):
        cells = results.cells.assign(features=width)
        return " ".join(contents(replace(results, cells=cells).ordered())["limits"])

    assert "FID of 2,000 images with 768 features is hardly known" in limits(768)
    assert "About 3,840 images would do" in limits(768)
    assert "hardly known" not in limits(64)


def test_what_was_measured_beside_quality_stands_beside_it(results):
    varied = changed(
        results, [0], precision_score=0.7, precision_score_se=0.02, recall=0.5, memorisation=0.05,
        kid_checkpoint=0.4, joules_per_image=2.5, last_abar=0.9025,
    )  # fmt: skip
    moves = {"kid_checkpoint": np.ones(3, np.float32)}
    key = results.cells.loc[0, "key"]
    first = tidy(replace(varied, influences={key: moves}), KID).loc[0]
    assert (first["precision"], first["precision_error"], first["recall"]) == (0.7, 0.02, 0.5)
    assert (first["memorisation"], first["joules"], first["checkpoint"]) == (0.05, 2.5, 0.4)
    assert first["checkpoint_influence"] is moves["kid_checkpoint"]
    assert first["last_signal"] == pytest.approx(0.95)
    assert np.isnan(first["recall_error"])
    assert np.isnan(tidy(varied, FID).loc[0, "checkpoint"])


def test_only_work_done_here_is_held_against_its_forecast(results):
    frame = tidy(results, KID)
    per_image = results.cells["seconds_per_image"] + results.cells["feature_seconds_per_image"]
    assert frame["took"].to_numpy() == pytest.approx((2000 * per_image).to_numpy())
    assert set(frame["training_forecast"]) == {38.0}
    reused = replace(
        changed(results, [0], reused=True), trainings=results.trainings.assign(reused=True)
    )
    frame = tidy(reused, KID)
    assert frame[["forecast", "took"]].isna().all(axis=1).tolist() == [True] + [False] * 47
    assert frame[["training_forecast", "training_took"]].isna().all(axis=None)


def test_seconds_are_of_the_machine_that_timed_most_cells(results):
    frame = tidy(changed(results, slice(0, 5), machine="another", seconds_per_image=9.0), KID)
    costs = seconds_of(frame)
    assert costs.machine == results.cells["machine"].iloc[-1]
    assert max(costs.of.values()) < 1
