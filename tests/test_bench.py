"""The bench: what it reports and how it counts. No test here depends on how fast a machine is."""

import json
import time

import pytest
import torch
from click.testing import CliRunner

from harness import bench
from harness.bench import scaling, timing
from harness.cli import main
from harness.errors import BadOption
from harness.work.options import Paths

CPU = torch.device("cpu")


@pytest.fixture
def paths(tmp_path):
    store = tmp_path / "store"
    return Paths(store, f"sqlite:///{store / 'mlflow.db'}", tmp_path, tmp_path, "cpu")


@pytest.fixture
def in_a_moment(monkeypatch):
    monkeypatch.setattr(timing, "SECONDS_A_SET", 0.0)
    monkeypatch.setattr(timing, "TURNS", (1, 1))
    monkeypatch.setattr(bench, "PLAIN_SIDE", 8)
    monkeypatch.setattr(timing, "PEAK_SIDE", 64)
    monkeypatch.setattr(bench, "STEPS", 3)


def test_pieces_are_measured_in_turns():
    order = []
    seconds = timing.in_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, CPU)
    assert order[:6] == ["a", "b"] * 3
    assert seconds.keys() == {"a", "b"}


def test_a_slower_piece_takes_longer():
    seconds = timing.in_turns(
        {"slow": lambda: time.sleep(0.02), "fast": lambda: time.sleep(0.002)}, CPU
    )
    assert seconds["slow"] > 2 * seconds["fast"]


def test_operations_are_counted():
    a = torch.zeros(8, 16)
    b = torch.zeros(16, 4)
    assert timing.flops_of(lambda: a @ b) == 2 * 8 * 16 * 4


def test_the_bench_reports_ratios_and_figures_of_this_machine(paths, in_a_moment, monkeypatch):
    monkeypatch.setattr(scaling, "run_cells", lambda folder, count: 1.0 + 0.05 * count)
    report = bench.bench_here(None, paths, lambda text: None)
    assert report.machine["model"] == "tiny"
    assert report.ratios["driver_seconds_per_cell"].value == pytest.approx(0.05)
    assert {
        "training_loop", "sampling_ddim", "sampling_ddpm", "scoring", "driver_seconds_per_cell",
    } <= report.ratios.keys()  # fmt: skip
    assert all(ratio.value > 0 for ratio in report.ratios.values())
    assert all(value > 0 for value in report.absolute.values())
    assert json.loads(json.dumps(report.as_json())).keys() == {"machine", "ratios", "absolute"}
    assert "at least 0.92" in report.as_text()
    assert not paths.store.exists()


def test_a_compiled_network_never_runs_where_operations_are_counted(
    paths, in_a_moment, monkeypatch
):
    subject, counting = bench.subject_of(None, paths.workplace), []
    state = subject.setting.first_state(1)

    def compiled(x, log_snr):
        assert not counting
        return state.network(x, log_snr)

    def flops_of(piece):
        counting.append(piece)
        piece()
        counting.clear()
        return 1.0

    monkeypatch.setattr(bench.Subject, "state_and_network", lambda self: (state, compiled))
    monkeypatch.setattr(bench, "flops_of", flops_of)
    report = timing.BenchReport({})
    bench.training(subject, report)
    assert report.ratios["training_share_of_peak"].value > 0


def test_starting_noise_is_drawn_before_the_clock_runs(paths, in_a_moment, monkeypatch):
    drawn, draw = [], bench.starting_noise
    monkeypatch.setattr(bench, "starting_noise", lambda *given: drawn.append(1) or draw(*given))
    bench.sampling(bench.subject_of(None, paths.workplace), timing.BenchReport({}))
    assert len(drawn) == 1


def test_a_grid_that_trains_nothing_is_refused(paths, tmp_path):
    (tmp_path / "exact.yaml").write_text(scaling.EXACT_GRID)
    with pytest.raises(BadOption, match="no network to measure"):
        bench.bench_here(tmp_path / "exact.yaml", paths, lambda text: None)


def test_how_cost_grows_is_reported_by_the_number_of_cells():
    report = scaling.scaling_here(lambda text: None, (1, 2))
    assert report.ratios.keys() == {"seconds_per_cell_growth", "memory_bytes_growth"}
    assert report.absolute["seconds_per_cell_2"] > 0


def test_json_is_one_object_and_nothing_else(monkeypatch):
    report = timing.BenchReport({"name": "one"}, {"a": timing.Ratio("title", 0.5)}, {"b": 2.0})

    def measured(grid, paths, say):
        say("measuring")
        return report

    monkeypatch.setattr(bench, "bench_here", measured)
    result = CliRunner().invoke(main, ["bench", "--json"])
    assert json.loads(result.stdout) == {
        "machine": {"name": "one"}, "ratios": {"a": 0.5}, "absolute": {"b": 2.0},
    }  # fmt: skip
