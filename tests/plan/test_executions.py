"""How trainings are computed on a machine is settled once: by what was trained, or by a probe."""

import json
from dataclasses import asdict, replace

import made
import pytest

from harness.engine import fastest as module
from harness.errors import StoreError
from harness.execute import machine
from harness.plan.executions import compiling, executions
from harness.plan.pending import Plan
from harness.plan.preflight import Site
from harness.store import FORMAT, Store
from harness.work.cells import Part
from harness.work.execution import Format
from harness.work.options import Workplace

TRAINING = replace(made.TRAINING, precision="auto")
OTHER = replace(TRAINING, model=Part.of("tiny", {"widths": (16,)}), training_steps=1)
LARGER = replace(OTHER, training_steps=2 * TRAINING.training_steps)
FULL, HALF = Format("float32", True), Format("bfloat16", False)


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store on a processor that goes by bfloat16 and computes faster in float32."""
    monkeypatch.setattr(machine, "_cpu_can", lambda what: what == "avx512_bf16")
    monkeypatch.setattr(machine, "name", lambda device: made.MACHINE)
    monkeypatch.setattr(module, "fastest", measuring(FULL))
    (tmp_path / "store").mkdir()
    return Store(tmp_path / "store")


def measuring(format, probes=None):
    """A probe that finds this format the fastest of those that it may try."""

    def fastest(of, rule, formats, threads, is_worth):
        if probes is not None:
            probes.append(formats)
        if not is_worth(1e9):
            return None
        return replace(rule, format=format if format in formats else formats[0], gain=1.2)

    return fastest


def settled_in(store, *trainings, processes=1):
    """The format of each of these trainings, which are all that a grid has."""
    cells = tuple(replace(made.CELL, training=one) for one in trainings)
    plan = Plan("g", cells, cells, to_train=trainings)
    site = Site(Workplace(store.root, store.root, "cpu"), (1, 8, 8))
    found = executions(plan, site, processes, processes, 1)
    return [found[one.model].format for one in trainings]


def never(*_):
    raise AssertionError("it is probed")


def test_what_is_measured_first_is_settled(store, monkeypatch):
    assert settled_in(store, TRAINING) == [FULL]
    monkeypatch.setattr(module, "fastest", never)
    assert settled_in(store, replace(TRAINING, seed=1)) == [FULL]
    [kept] = store.executions()
    assert (kept.machine, kept.format, kept.rule_format) == (made.MACHINE, FULL, HALF)


def test_the_first_of_two_probes_at_a_time_counts(store):
    kept = store.keep_execution("key", made.EXECUTION)
    later = replace(kept, format=HALF, threads=7)
    assert store.keep_execution("key", later) == kept == store.execution("key")
    damaged = json.dumps(
        asdict(later) | {"format": {"precision": "float31", "channels_last": False}}
    )
    (store.root / "executions/key.json").write_text(damaged)
    assert store.execution("key") is None
    assert store.keep_execution("key", later) == later == store.execution("key")


def test_a_grid_has_one_precision_whatever_else_changes(store, monkeypatch):
    """A later probe, with other trainings beside or of another model, may only choose the rest."""
    assert settled_in(store, TRAINING) == [FULL]
    probes = []
    monkeypatch.setattr(module, "fastest", measuring(HALF, probes))
    assert settled_in(store, TRAINING, processes=2)[0].precision == "float32"
    assert settled_in(store, OTHER)[0].precision == "float32"
    assert {format.precision for formats in probes for format in formats} == {"float32"}
    assert len(probes) == 2


def test_models_of_a_grid_are_in_the_precision_of_that_with_most_to_do(store):
    assert {one.precision for one in settled_in(store, OTHER, TRAINING)} == {"float32"}


def test_what_was_trained_or_begun_settles_the_precision(store):
    done = made.trained(TRAINING)
    store.keep(replace(done, provenance=replace(done.provenance, precision="bfloat16")))
    assert settled_in(store, replace(TRAINING, seed=1)) == [HALF]
    elsewhere = replace(made.PROVENANCE, machine="another", precision="bfloat16")
    store.forget(TRAINING)
    store.keep(replace(done, provenance=elsewhere))
    (store.root / "executions").rename(store.root / "elsewhere")
    assert settled_in(store, replace(TRAINING, seed=1)) == [FULL]


@pytest.mark.parametrize("told", [[made.MACHINE, "bfloat16", False], None])
def test_an_unfinished_training_settles_it_too(store, monkeypatch, told):
    """One that an earlier version began goes by the rule."""
    monkeypatch.setattr("harness.store.told_by_state", lambda path, name: told if name == FORMAT
                        else [0.9])  # fmt: skip
    store.state(TRAINING).parent.mkdir(parents=True)
    store.state(TRAINING).touch()
    assert settled_in(store, TRAINING, replace(TRAINING, seed=1)) == [HALF, HALF]
    (store.root / "executions").rename(store.root / "elsewhere")
    assert settled_in(store, TRAINING, LARGER)[1].precision == "bfloat16"


def test_what_another_machine_has_begun_settles_nothing_here(store, monkeypatch):
    told = {FORMAT: ["another", "bfloat16", False]}
    monkeypatch.setattr("harness.store.told_by_state", lambda path, name: told.get(name, [0.9]))
    store.state(TRAINING).parent.mkdir(parents=True)
    store.state(TRAINING).touch()
    assert settled_in(store, TRAINING) == [FULL]


def test_what_cannot_be_kept_or_is_not_worth_it_is_by_rule(store, monkeypatch):
    assert settled_in(store, replace(TRAINING, training_steps=0)) == [HALF]
    assert not store.executions()

    def full(*_):
        raise StoreError("the disk is full")

    monkeypatch.setattr(Store, "keep_execution", full)
    assert settled_in(store, TRAINING) == [HALF]


def test_what_compiling_gains_is_known_from_trainings_that_differ_in_it_alone(store):
    plain = made.trained(TRAINING, seconds=100.0)
    here = replace(made.PROVENANCE, machine=made.MACHINE, threads=1)
    store.keep(replace(plain, provenance=here))
    assert compiling(store, TRAINING, made.MACHINE) is None
    compiled = replace(plain, training=replace(TRAINING, seed=1), seconds=70.0,
                       compile_seconds=40.0)  # fmt: skip
    store.keep(replace(compiled, provenance=replace(here, is_compiled=True)))
    gain, cost = compiling(store, replace(TRAINING, seed=2), made.MACHINE)
    assert (gain, cost) == (pytest.approx(0.3), 40.0)
    assert compiling(store, TRAINING, "another") is None
    assert compiling(store, OTHER, made.MACHINE) is None


def test_a_precision_that_is_asked_for_stays(store):
    assert settled_in(store, replace(TRAINING, precision="bfloat16"))[0].precision == "bfloat16"
