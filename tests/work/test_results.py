"""Results: written once and read back equal, with the files that go with them."""

import math
import pickle
from dataclasses import replace

import made
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import StoreError
from harness.work import results
from harness.work.cells import Cell, Part, Training
from harness.work.results import (
    Artifacts,
    CellResult,
    Measurement,
    TrainingResult,
    from_json,
    to_json,
)

finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = st.booleans() | st.integers(-(2**53), 2**53) | finite | texts
st.register_type_strategy(
    Part,
    st.builds(
        Part.of,
        texts,
        st.dictionaries(texts, scalars | st.lists(scalars, max_size=3).map(tuple), max_size=3),
        texts,
    ),
)
st.register_type_strategy(float, finite)
st.register_type_strategy(str, texts)
st.register_type_strategy(
    Artifacts, st.dictionaries(texts, st.binary(max_size=8), max_size=3).map(Artifacts.of)
)
st.register_type_strategy(Training, st.builds(Training))
st.register_type_strategy(
    results.Cost,
    st.builds(results.Cost, seconds_per_image=st.lists(finite, min_size=1).map(tuple)),
)


named = st.dictionaries(texts, texts, max_size=3)
provenances = st.builds(results.Provenance, versions=named)
measurements = st.builds(Measurement, degraded=st.dictionaries(texts, finite, max_size=2))
cell_results = st.builds(
    CellResult,
    measurements=st.dictionaries(texts, measurements, max_size=3),
    provenance=provenances,
    undefined=named,
)


@settings(max_examples=60, deadline=None)
@given(cell_results)
def test_a_result_of_a_cell_is_read_back_equal(result):
    again = from_json(CellResult, to_json(result), None, "it")
    assert again == result
    assert again.cell.key == result.cell.key
    assert again.cell.budget == result.cell.budget
    assert to_json(again) == to_json(result)


@settings(max_examples=60, deadline=None)
@given(st.builds(TrainingResult, provenance=provenances))
def test_a_result_of_a_training_is_read_back_equal(result):
    again = from_json(TrainingResult, to_json(result), None, "it")
    assert again == result
    assert again.training.key == result.training.key
    assert to_json(again) == to_json(result)


def test_a_training_of_before_denoising_was_measured_is_read_back():
    text = to_json(made.trained()).replace(' "denoising": null,\n', "")
    signed = text.split("\n", 2)[2]  # without the checksum, as the first versions wrote it
    assert "denoising" not in signed
    assert from_json(TrainingResult, "{\n" + signed, None, "it") == made.trained()


@pytest.mark.parametrize("value", [True, 1, 1.0, "1", (1,), (1.0,), ()])
def test_options_keep_their_types(value):
    cell = replace(made.CELL, sampler=Part.of("mine", {"it": value}))
    again = from_json(CellResult, to_json(made.result(cell)), None, "it")
    [(_, found)] = again.cell.sampler.options
    assert (found, type(found)) == (value, type(value))


def test_infinity_is_not_lost():
    result = made.result(kid=Measurement(math.inf, -math.inf))
    again = from_json(CellResult, to_json(result), None, "it")
    assert again.measurements["kid"] == Measurement(math.inf, -math.inf)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"value": 0.1', '"value": "a lot"'),
        ('"value": 0.1', '"value": null'),
        ('"nfe": 10', '"nfe": 10.5'),
        ('"measurements": {', '"measurments": {'),
        ("{", "[", ),
        ('"value": 0.1', '"value": 0.1, "worth": 3'),
    ],
)  # fmt: skip
def test_what_was_not_written_is_refused_and_named(before, after):
    text = to_json(made.result(kid=0.1))
    assert before in text
    with pytest.raises(StoreError, match=r"cells/abc/result\.json is not what was written"):
        from_json(CellResult, text.replace(before, after, 1), None, "cells/abc/result.json")


def test_files_are_read_where_they_are_and_told_from_damaged_ones():
    artifacts = Artifacts.of({"a.csv": b"t,alpha\n0,1\n", "b": b"b"})
    assert artifacts.read("a.csv") == b"t,alpha\n0,1\n"
    assert artifacts.table("a.csv").to_dict("list") == {"t": [0], "alpha": [1]}
    assert artifacts.read("none") is None
    assert replace(artifacts, read_from=None).read("b") is None
    with pytest.raises(StoreError, match="the file b of a result is damaged"):
        replace(artifacts, read_from=lambda name: b"B").read("b")
    assert replace(artifacts, read_from=None) == artifacts


def test_influences_are_there_by_metric_and_empty_where_the_file_is_gone():
    arrays = {"kid": np.arange(3, dtype=np.float32), "kid_reference": np.ones(2, np.float32)}
    result = made.result(influences=arrays)
    assert (result.influence("kid") == arrays["kid"]).all()
    assert (result.reference_influence("kid") == 1).all()
    assert result.influence("fid") is None
    gone = replace(result, artifacts=replace(result.artifacts, read_from=None))
    assert gone.influence("kid") is None


def test_a_result_can_be_sent_to_another_process():
    result = made.result(kid=0.1, files={"samples.png": b"png"})
    again = pickle.loads(pickle.dumps(result))
    assert again == result
    assert again.artifacts.read("samples.png") == b"png"


def test_seconds_are_the_median_of_their_repeats_with_half_their_interquartile_range():
    cost = replace(made.COST, seconds_per_image=(4.0, 1.0, 2.0, 3.0))
    assert cost.seconds == 2.5
    assert cost.seconds_spread == 1.25  # quartiles at 1.25 and 3.75
    assert replace(cost, seconds_per_image=(1.0, 2.0)).seconds_spread is None


def test_a_cell_builder_of_these_tests_makes_cells():
    cell = made.cell("cosine(max_signal=0.9)", "ddim(eta=0.5)", 5, 2, learning_rate=1.0)
    assert isinstance(cell, Cell)
    assert (cell.training.learning_rate, cell.training.seed) == (1.0, 2)
    assert str(cell.sample_schedule) == "cosine(max_signal=0.9)"
