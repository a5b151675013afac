"""`harness verify`, and the parts of other packages that a run refuses."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner
from made import CELL

from harness.cli import main
from harness.contracts import failures, refuse_broken
from harness.contracts.verify import CONTRACTS, VerifyReport, of_part, verify_here
from harness.diffusion.schedules import Linear
from harness.errors import PartFailed
from harness.models.presets import MODELS
from harness.work.cells import Part


@pytest.fixture
def only(monkeypatch):
    """Leaves some kinds of parts to be checked, and of the models the smallest."""

    def only(*kinds):
        kept = {kind: contract for kind, contract in CONTRACTS.items() if kind in kinds}
        monkeypatch.setattr("harness.contracts.verify.CONTRACTS", kept)
        monkeypatch.setattr(MODELS, "_builtin", {"tiny": MODELS["tiny"]})

    return only


class Loose(Linear):
    """A schedule whose signal rate does not follow from its log SNR."""

    def alpha(self, t):
        return super().alpha(t) * 0.99


def nonsense(denoise, schedule, x, times, draw_noise):
    """Gives back the noise."""
    return x


def run(*arguments):
    return CliRunner().invoke(main, ["verify", *arguments])


def test_the_command_prints_a_table_and_the_sum_of_it(only):
    only("target", "metric", "dataset")
    result = run("--precision", "float32")
    assert result.exit_code == 0
    first, *rows = result.stdout.splitlines()
    assert first.split() == ["part", "claim", "expected", "found", "tolerance", "in"]
    assert all(row.startswith("ok") for row in rows if row.endswith("float32"))
    assert any(row.startswith("ok  metric kid") and row.endswith("float64") for row in rows)
    assert "dataset folder: not checked, it needs the option path" in rows
    assert "all hold." in result.output


def test_the_command_prints_one_object_and_fails_where_a_claim_does(offered, only):
    only("schedule", "loss")
    offered("schedule", Loose)
    result = run("--precision", "float64", "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["holds"] is False
    failed = {check["part"] for check in told["checks"] if not check["holds"]}
    assert failed == {"wrong", "wrong, zero SNR"}
    assert {check["kind"] for check in told["checks"]} >= {"schedule", "loss", "sampler"}


def test_a_part_that_raises_is_a_claim_that_fails_and_not_a_crash(offered, bench):
    def broken(**options):
        raise RuntimeError("the coefficients were not found")

    offered("schedule", broken)
    told = VerifyReport("a machine", of_part("schedule", "wrong", bench), [], 1.0)
    assert not told.holds
    assert "RuntimeError: the coefficients were not found" in told.as_text()


def test_what_matters_in_one_precision_is_checked_once(only):
    only("target", "metric", "model")
    told = verify_here("both", "cpu")
    assert told.holds
    found = {(check.kind, check.precision) for check in told.checks}
    assert {("target", "float32"), ("target", "float64"), ("model", "float32")} <= found
    assert ("model", "float64") not in found
    once = [(check.part, check.claim) for check in told.checks if check.kind == "metric"]
    assert len(once) == len({*once})


def test_a_device_that_is_not_there_is_a_clean_message():
    result = run("--device", "nonsense")
    assert result.exit_code == 1
    assert "device 'nonsense' cannot be used here" in result.output


# Before a run.


def test_a_nonsense_sampler_of_another_package_is_refused_before_the_work(offered):
    offered("sampler", nonsense)
    with pytest.raises(PartFailed) as refused:
        refuse_broken([CELL, replace(CELL, sampler=Part("wrong"))], ["kid"])
    told = str(refused.value)
    assert told.startswith("sampler 'wrong' of an unnamed package does not keep its contract (")
    assert ": expected " in told
    assert ", found " in told
    assert told.endswith("Use `harness verify` to see all claims of a part.")


def test_a_metric_of_another_package_is_looked_at_too(offered):
    offered("metric", replace_function(lambda features, reference: "far"))
    with pytest.raises(PartFailed, match=r"gives no number, but 'far'"):
        refuse_broken([CELL], ["kid", "wrong"])


def replace_function(function):
    from harness.metrics.distances import METRICS

    return replace(METRICS["kid"], function=function)


def test_built_in_parts_and_parts_that_no_cell_uses_are_not_looked_at(offered, monkeypatch):
    offered("sampler", nonsense)
    monkeypatch.setattr("harness.contracts.foreign.of_part", None)
    refuse_broken([CELL], ["kid", "fid"])
    assert failures([("sampler", Part("ddim")), ("model", Part("base"))]) == []


def test_a_part_of_another_package_that_is_right_is_taken(offered):
    offered("schedule", type("Mine", (Linear,), {"__doc__": "Mine."}))
    assert failures([("schedule", Part("wrong")), ("schedule", Part("wrong"))]) == []
