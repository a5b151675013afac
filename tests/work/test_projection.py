"""What MLflow shows of a result, and a row of the table."""

import math
from dataclasses import replace

import made
import pytest

from harness.work.projection import column_of, facts_of, metrics_of, names_of, rows_of
from harness.work.results import Denoising, DenoisingError, Mean, PixelSpread, Run

FULL = made.result(
    kid=made.measured(0.1, 0.01, baseline=0.001, degraded={"noisy": 0.02}),
    fid=made.measured(3.0, 0.3, corrected=2.8, reference_error=0.1, baseline=0.5,
                      baseline_corrected=0.4),
    precision=0.7,
    undefined={"recall": "too few images"},
    pixel_spread=PixelSpread(0.9, 0.01, None),
    baseline_images=500,
)  # fmt: skip


def test_a_metric_is_shown_with_its_errors_its_baseline_and_its_scale():
    shown = metrics_of(FULL)
    assert {name: shown[name] for name in ("kid", "kid_se", "kid_floor", "kid_noisy")} == {
        "kid": 0.1, "kid_se": 0.01, "kid_floor": 0.001, "kid_noisy": 0.02,
    }  # fmt: skip
    assert (shown["fid"], shown["fid_centre"], shown["fid_reference_se"]) == (3.0, 2.8, 0.1)
    assert (shown["fid_floor"], shown["fid_floor_centre"]) == (0.5, 0.4)
    assert "kid_centre" not in shown  # it has no bias
    assert math.isnan(shown["recall"])
    assert (shown["contrast"], shown["floor_images"]) == (0.9, 500)
    assert "contrast_theory" not in shown
    assert (shown["nfe"], shown["seconds_per_image"]) == (10, 0.011)


def test_why_a_metric_has_no_value_is_a_fact():
    assert facts_of(FULL)["undefined_recall"] == "too few images"
    assert facts_of(FULL)["training_key"] == FULL.cell.training.key


def test_a_training_is_shown_by_its_numbers():
    shown = metrics_of(made.trained(seconds=4.0))
    assert shown["images_per_second"] == 100 * 10 / 4
    assert shown["loss"] == 0.055
    assert "bits_per_dim" not in shown  # it was trained before that was measured


def test_a_training_is_shown_by_its_denoising_error_at_a_few_levels():
    levels = tuple(
        DenoisingError(snr, False, Mean(0.1 * place, 0.01), Mean(0.1, 0.01), None, None, None)
        for place, snr in enumerate([-6.5, -3.0, 0.5, 6.0])
    )
    measured = Denoising(levels, 128, 1, 0.3, Mean(5.2, 0.1), Mean(5.0, 0.1))
    shown = metrics_of(made.trained(denoising=measured))
    assert (shown["bits_per_dim"], shown["bits_per_dim_train"]) == (5.2, 5.0)
    assert [shown[f"denoising_error_log_snr_{snr}"] for snr in ("-6.5", "0.5", "6.0")] == [
        0.0,
        0.2,
        pytest.approx(0.3),
    ]


def only_row(result, run):
    [row] = rows_of([result], {result.cell.key: run})
    return row


def test_a_row_holds_params_metrics_and_where_it_is_recorded():
    row = only_row(FULL, Run("run", True, 3.0))
    assert (row["schedule"], row["steps"], row["clip"]) == ("cosine", 10, False)
    assert (row["kid"], row["precision_score"], row["precision"]) == (0.1, 0.7, "float32")
    assert (row["key"], row["run_id"], row["machine"]) == (FULL.cell.key, "run", made.MACHINE)
    assert (row["reused"], row["forecast_seconds"]) == (True, 3.0)
    assert "forecast_seconds" not in only_row(FULL, Run("run"))


def test_a_machine_that_did_not_compile_says_why():
    trouble = replace(made.PROVENANCE, compile_trouble="no compiler")
    assert facts_of(made.result(provenance=trouble))["compiled"] == "no compiler"
    assert facts_of(made.result())["compiled"] == "False"


def test_a_training_says_in_how_many_parts_its_batches_went():
    parts = replace(made.PROVENANCE, micro_batches=4)
    assert facts_of(made.trained(provenance=parts))["micro_batches"] == "4"
    assert facts_of(made.trained())["micro_batches"] == "1"


@pytest.mark.parametrize("name", ["precision", "precision_se"])
def test_the_precision_of_images_is_not_that_of_numbers(name):
    assert column_of(name) == name.replace("precision", "precision_score")


def test_a_complete_cell_has_the_names_that_were_asked_for():
    assert names_of(["kid", "recall"], ["kid"]) == {"kid", "recall", "kid_reference_se"}


def test_a_value_at_a_checkpoint_stands_in_the_row_of_its_cell():
    again = made.result(replace(FULL.cell, weights="0.9"), kid=made.measured(0.2, corrected=0.15))
    [row] = rows_of([again, FULL], {})
    assert (row["kid"], row["kid_checkpoint"]) == (0.1, 0.15)
    assert rows_of([again], {}) == []
