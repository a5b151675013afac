"""The bench: what it reports and how it counts. No test here depends on how fast a machine is."""

import io
import json
import subprocess
import sys
import time

import pytest
import torch
from click.testing import CliRunner
from rich.console import Console

from harness import bench
from harness.bench import scaling, timing
from harness.cli import main
from harness.engine.compiled import Compiled
from harness.errors import BadOption, Ended
from harness.execute import machine, others
from harness.execute.interrupt import Interruption
from harness.execute.screen import Screen
from harness.plan.grid import load_grid
from harness.work.options import Workplace
from harness.work.outputs import adapter_of

CPU = torch.device("cpu")
DIGITS = load_grid("digits")


@pytest.fixture
def at(tmp_path):
    return Workplace(tmp_path / "store", tmp_path, "cpu")


@pytest.fixture
def said():
    return io.StringIO()


@pytest.fixture
def shown(said):
    with Screen(Console(file=said, width=200)) as screen:
        yield screen


@pytest.fixture
def in_a_moment(monkeypatch):
    monkeypatch.setattr(timing, "SECONDS_A_SET", 0.0)
    monkeypatch.setattr(timing, "TURNS", (1, 1))
    monkeypatch.setattr(bench, "PLAIN_SIDE", 8)
    monkeypatch.setattr(timing, "PRODUCT_SIDES", (64,))
    monkeypatch.setattr(bench, "STEPS", 3)


def test_pieces_are_measured_in_turns():
    order = []
    seconds = timing.in_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, CPU)
    assert order[:8] == ["a", "b", "a", "b", "b", "a", "a", "b"]  # the first two before the clock
    assert seconds.keys() == {"a", "b"}


def test_a_slower_piece_takes_longer():
    seconds = timing.in_turns(
        {"slow": lambda: time.sleep(0.02), "fast": lambda: time.sleep(0.002)}, CPU
    )
    assert seconds["slow"].median > 2 * seconds["fast"].median


def test_operations_are_counted():
    a = torch.zeros(8, 16)
    b = torch.zeros(16, 4)
    assert timing.flops_of(lambda: a @ b) == 2 * 8 * 16 * 4


def test_the_bench_reports_ratios_and_figures_of_this_machine(
    at, in_a_moment, monkeypatch, said, shown
):
    monkeypatch.setattr(scaling, "run_cells", lambda folder, count: 1.0 + 0.05 * count)
    before = []

    def arithmetic(subject, part):
        before.append(said.getvalue())

    monkeypatch.setattr(bench, "arithmetic", arithmetic)
    report = bench.bench_here(DIGITS, at, shown)
    told = adapter_of("bench").validate_python(report.as_json(), strict=True)
    assert told["machine"]["model"] == "tiny(skip=True)"
    assert told["ratios"]["driver_seconds_per_cell"] == pytest.approx(0.05)
    assert {
        "training_loop", "sampling_ddim", "sampling_ddpm", "scoring", "driver_seconds_per_cell",
    } <= told["ratios"].keys()  # fmt: skip
    assert all(value > 0 for value in {**told["ratios"], **told["absolute"]}.values())
    assert told["spread"].keys() >= {"training: our step", "sampling: evaluations"}
    assert "at least 0.92" in before[0]  # each part is told before the next is measured
    assert report.as_text().startswith(said.getvalue().rstrip())
    assert not at.store.exists()


def test_a_compiled_network_never_runs_where_operations_are_counted(at, in_a_moment, monkeypatch):
    subject, counting = bench.subject_of(DIGITS, at), []
    state = subject.setting.first_state(1)

    def compiled(x, log_snr):
        assert not counting
        return state.network(x, log_snr)

    def flops_of(piece):
        counting.append(piece)
        piece()
        counting.clear()
        return 1.0

    made = Compiled(compiled)
    monkeypatch.setattr(bench.Subject, "state_and_network", lambda self: (state, made))
    monkeypatch.setattr(bench, "flops_of", flops_of)
    part = timing.Part("training")
    bench.training(subject, part)
    assert part.ratios["training_share_of_peak"].value > 0


@pytest.mark.parametrize("measure", [bench.training, bench.sampling])
def test_a_network_that_cannot_be_compiled_is_told_with_its_reason(
    at, in_a_moment, monkeypatch, measure
):
    def fails(*network, **options):
        raise RuntimeError("no C++ compiler\nand more")

    monkeypatch.setattr(torch, "compile", fails)
    part = timing.Part("part")
    measure(bench.subject_of(DIGITS, at, "on"), part)
    assert part.compiling["trouble"] == "no C++ compiler"
    assert part.compiling["seconds"] > 0
    assert "no C++ compiler" in part.as_text()


def test_starting_noise_is_drawn_before_the_clock_runs(at, in_a_moment, monkeypatch):
    drawn, draw = [], bench.starting_noise
    monkeypatch.setattr(bench, "starting_noise", lambda *given: drawn.append(1) or draw(*given))
    bench.sampling(bench.subject_of(DIGITS, at), timing.Part("sampling"))
    assert len(drawn) == 1


def test_a_grid_that_trains_nothing_is_refused(at, shown):
    with pytest.raises(BadOption, match="no network to measure"):
        bench.bench_here(load_grid(scaling.EXACT_GRID), at, shown)


def test_how_cost_grows_is_reported_by_the_number_of_cells(shown):
    told = scaling.scaling_here(shown, (1, 2)).as_json()
    assert told["ratios"].keys() == {"seconds_per_cell_growth", "memory_bytes_growth"}
    assert told["absolute"]["seconds_per_cell_2"] > 0


def test_a_signal_while_the_driver_is_measured_ends_the_bench(tmp_path, monkeypatch):
    def typed(self):
        self.status = 130
        return True

    monkeypatch.setattr(Interruption, "should_stop", typed)
    with pytest.raises(Ended) as ended:
        scaling.run_cells(tmp_path / "cells", 2)
    assert ended.value.code == 130


def measured(chosen, at, screen, compile):
    """A part that is measured, of the grid's batch and on the machine that is given."""
    report = timing.BenchReport({"name": "one", "batch": str(chosen.training.batch_size)})
    report.add(timing.Part("training", {"a": timing.Ratio("a / b", 0.5)}, {"b": 2.0}), screen)
    if compile == "on":
        raise KeyboardInterrupt
    return report


@pytest.fixture
def invoked(monkeypatch):
    monkeypatch.setattr(bench, "bench_here", measured)
    return lambda *given: CliRunner().invoke(main, ["bench", *given])


def test_json_is_one_object_and_nothing_else(invoked):
    result = invoked("--json", "training.batch_size=3")
    told = json.loads(result.stdout)
    assert (told["machine"], told["ratios"]) == ({"name": "one", "batch": "[3]"}, {"a": 0.5})
    assert "a / b" in result.stderr


def test_each_figure_is_printed_once(invoked):
    for given in ([], ["--quiet"]):
        result = invoked(*given)
        assert result.stdout.count("a / b") == 1
        assert result.stdout.count("The machine was") == 1
        assert not result.stderr


def test_what_was_told_stays_where_the_bench_is_interrupted(invoked):
    result = invoked("--compile", "on")
    assert result.exit_code == 130
    assert "a / b" in result.stdout


@pytest.mark.parametrize("given", [["steps=[5]"], ["--compile", "on"], ["--grid", "digits"]])
def test_what_scaling_does_not_measure_is_refused(invoked, given):
    result = invoked("--scaling", *given)
    assert result.exit_code == 1
    assert "Use it without" in result.stderr


def burning(seconds):
    """Programs on all cores for so long."""
    script = f"import time; t = time.monotonic()\nwhile time.monotonic() < t + {seconds}: pass"
    return [subprocess.Popen([sys.executable, "-c", script]) for _ in range(machine.cores())]


def test_programs_that_this_one_did_not_start_are_others(monkeypatch):
    """Our own at work are none: only those that another program started."""
    watch, began = others.Watch(), time.monotonic()
    started = burning(1.0)
    for one in started:
        one.wait()
    took = (time.monotonic() - began) * machine.cores()
    with_ours, ours = watch.others(), others.Times.now().ours - watch._before.ours
    monkeypatch.setattr(others, "_ours", lambda: watch._before.ours)
    without = watch.others()
    assert ours > 0.1
    assert without.used - with_ours.used == pytest.approx(ours / took, rel=0.3)


@pytest.mark.parametrize(
    ("used", "spread", "is_quiet"),
    [(0.01, 0.02, True), (None, 0.02, True), (0.2, 0.02, False), (0.01, 0.4, False)],
)
def test_a_busy_machine_is_told_from_a_quiet_one(used, spread, is_quiet):
    found = others.Others(used, 0.0, 1.0)
    assert found.as_json(spread)["is_quiet"] == is_quiet
    assert ("was quiet" in found.told(spread, "training: our step")) == is_quiet
