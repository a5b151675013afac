"""A grid that joins networks with the exact denoiser, crosses schedules and counts evaluations."""

import io
import shutil

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.tracking import Tracker

GRID = """
name: joined
data: {name: mixture, images: 200}
model: {name: tiny, widths: [8], attention: []}
training: {steps: 12, batch_size: 16, precision: float32, loss: mae, target: velocity}
schedules: [linear, {name: cosine_discrete, zero_terminal_snr: true}]
sample_schedules: [same, linear]
samplers: [ddim, dpmpp_2m]
spacing: [trailing]
steps: [5, 8]
budget: nfe
images: 80
extractor: pixels
include:
  - {model: exact}
  - {samplers: [heun], sample_schedules: [linear]}
"""


@pytest.fixture(scope="module")
def joined(tmp_path_factory, database):
    """A finished run of the grid, in its folder."""
    folder = tmp_path_factory.mktemp("joined")
    (folder / "joined.yaml").write_text(GRID)
    (folder / "store").mkdir()
    shutil.copy(database, folder / "store" / "mlflow.db")
    result = run(folder, "run")
    assert result.exit_code == 0, result.output
    return folder


def run(folder, command):
    places = ["--store", folder / "store", "--report-dir", folder / "report"]
    more = ["--data-dir", folder, "--device", "cpu"] if command != "report" else []
    arguments = [command, folder / "joined.yaml", *places, *more]
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def tracker(joined):
    return Tracker(f"sqlite:///{joined / 'store' / 'mlflow.db'}", "joined")


@pytest.fixture(scope="module")
def report(joined):
    return (joined / "report" / "report.md").read_text()


def test_only_networks_are_trained_and_only_once(tracker):
    trainings, cells = tracker.trainings(), tracker.table()
    assert len(trainings) == 2
    assert set(trainings["loss_function"]) == {"mae"}
    # 2 networks: 2 + 1 ways of ddim and dpmpp_2m, 2 of heun; the exact denoiser under 2 schedules.
    networks, exact = cells[cells["model"] != "exact"], cells[cells["model"] == "exact"]
    assert len(networks) == (2 + 1) * 2 * 2 + 2 * 2
    assert len(exact) == 2 * 2 * 2
    assert set(exact["precision"]) == {"float32"}


def test_each_sampler_takes_the_steps_it_can_afford(tracker):
    cells = tracker.table()
    heun = cells[cells["sampler"] == "heun"]
    assert set(zip(heun["steps"], heun["nfe"], strict=True)) == {(3, 5.0), (4, 7.0)}
    others = cells[cells["sampler"] != "heun"]
    assert (others["steps"] == others["nfe"]).all()


def test_times_that_a_network_was_not_trained_on_are_counted(tracker):
    cells = tracker.table()
    away = cells["schedule"] != cells["sample_schedule"]
    # Linear ends at log SNR -10, which the other reaches too: it ends in pure noise.
    assert (cells["clamped_times"] == 0).all()
    assert away.any()


def test_the_schedule_of_cells_that_no_training_keeps_is_kept(tracker):
    cells = tracker.table()
    for row in cells.itertuples():
        kept = tracker.artifact(row.run_id, "schedule.csv")
        needed = row.model == "exact" or row.schedule != row.sample_schedule
        assert (kept is not None) == needed
        if kept:
            curve = pd.read_csv(io.BytesIO(kept))
            assert np.allclose(curve["alpha"] ** 2 + curve["sigma"] ** 2, 1)


@pytest.mark.parametrize(
    "words",
    [
        "How much of the error is the sampler's, and how much the network's?",
        "the exact denoiser has KID on pixels features",
        "Is a network best sampled under the schedule it was trained under?",
        "| evaluations allowed | NFE |",
        "KID of the exact denoiser",
        "| evaluations allowed | 5 and 8 |",
        "model **exact**: no network",
        "(figures/train_by_sample.png)",
        "| loss | mae |",
    ],
)
def test_the_report_tells_of_it(report, words):
    assert words in report


def test_the_report_speaks_of_evaluations_and_not_of_steps(report):
    findings = report.partition("## Findings")[2].partition("## Trainings")[0]
    assert "at 5 evaluations" in findings
    assert "at 5 steps" not in findings


def test_a_second_run_does_nothing(joined):
    result = run(joined, "run")
    assert "Nothing to do: all 24 cells of 'joined' are finished." in result.output
    assert run(joined, "report").exit_code == 0


def test_a_plan_names_the_exact_cells_and_no_training_of_them(joined):
    result = run(joined, "plan")
    assert result.output.startswith("joined: 2 trainings, 24 cells; 0 to train")
    assert "linear exact ddim 5 steps trailing" in result.output
