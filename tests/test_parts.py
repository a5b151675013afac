"""What `harness parts` tells: every part of every registry, broken ones included."""

import json

import pytest
from installing import installer

from harness.errors import UnknownName
from harness.parts import (
    REGISTRIES,
    as_json,
    as_text,
    every_part,
    one_part,
    parts_named,
    registries,
)
from harness.registry import plural


@pytest.fixture
def install(tmp_path, monkeypatch):
    return installer(tmp_path, monkeypatch)


def test_every_part_of_every_registry_is_listed():
    found = {(part.kind, part.name) for part in every_part()}
    assert found == {(registry.kind, name) for registry in registries() for name in registry}
    assert {registry.kind for registry in registries()} == {
        "schedule", "sampler", "spacing", "target", "weighting", "time_density", "loss", "clip",
        "model", "dataset", "extractor", "metric", "plot", "finding",
    }  # fmt: skip


def test_the_list_can_be_read_by_a_person_and_by_a_program():
    found = every_part()
    text, data = as_text(found), json.loads(json.dumps(as_json(found)))["parts"]
    for part in found:
        assert f"  {part.name} " in text
        assert f"\n{plural(part.kind)}\n" in f"\n{text}"
    [ddim] = [part for part in data if part["name"] == "ddim"]
    assert ddim["options"]["eta"] == {
        "type": "number", "minimum": 0, "maximum": 1, "default": 0.0, "required": False,
    }  # fmt: skip
    assert ddim["formula"].startswith("x_s = ")
    assert ddim["origin"] == "built in"


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_an_author_is_told_what_a_part_is_called_with(registry):
    assert registry.contract
    told = one_part(registry.names()[0])
    assert registry.contract.splitlines()[0] in told


def test_one_part_is_told_in_full():
    told = one_part("unipc")
    for words in ("order: a whole number between 1 and 3; default 2", "Formula: a predictor",
                  "converges with order 3", "its first step is that of ddim", "denoise(x, t)",
                  "From: built in"):  # fmt: skip
        assert words in told
    assert "path: a text; required" in one_part("folder")
    assert "higher is better" in one_part("recall")


@pytest.mark.parametrize("name", ["target", "targets", "time density", "time_densities"])
def test_the_name_of_a_kind_lists_its_parts(name):
    [kind] = {part.kind for part in parts_named(name)}
    assert name.replace(" ", "_") in (kind, plural(kind))
    assert one_part(name) == as_text(part for part in every_part() if part.kind == kind)


def test_what_a_contract_lists_stays_a_list():
    for name in ("velocity", "ddim"):
        *_, contract = one_part(name).partition(" is:")[2].partition("\n")
        begin = [line.split("(")[0].split()[0] for line in contract.splitlines() if line.strip()]
        assert {"velocity": "error_ratio", "ddim": "draw_noise"}[name] in begin


def test_a_name_of_several_kinds_is_told_of_each():
    told = one_part("sigmoid")
    assert "schedule sigmoid" in told
    assert "weighting sigmoid" in told


def test_an_unknown_name_is_refused_with_the_closest_there_is():
    with pytest.raises(UnknownName, match="no part 'dimm'"):
        one_part("dimm")


def test_a_part_that_cannot_be_loaded_is_shown_with_the_reason_among_the_others(install):
    install("import nothere\n", "[harness.samplers]\nbroken = kitchen_plugin:broken\n")
    found = every_part()
    [broken] = [part for part in found if part.name == "broken"]
    assert "No module named 'nothere'" in broken.problem
    assert broken.origin == "kitchen-plugin"
    assert "No module named 'nothere'" in as_text(found)
    assert "No module named 'nothere'" in one_part("broken").replace("\n", " ")
    assert "ddim" in {part.name for part in found if not part.problem}


def test_a_part_that_wants_a_built_in_name_is_told_beside_the_built_in_one(install):
    install("def ddim(): pass\n", "[harness.samplers]\nddim = kitchen_plugin:ddim\n")
    [ddim] = [part for part in every_part() if (part.kind, part.name) == ("sampler", "ddim")]
    assert (ddim.origin, ddim.shadows) == ("built in", "kitchen-plugin")
    told = "kitchen-plugin offers a sampler of this name too, which is not used"
    assert told in as_text(every_part())
    assert told in one_part("ddim")


def test_no_control_character_of_a_package_reaches_the_terminal(install):
    install(
        "def red(log_snr, *, k='\\x1b[31m'):\n    '\\x1b[31mRed.\\x07'\n",
        "[harness.weightings]\nred\x1b[1m = kitchen_plugin:red\n",
    )
    text = as_text(every_part()) + one_part("red\\x1b[1m")
    assert text.replace("\n", "").isprintable()


def test_a_part_of_another_package_is_told_with_its_source(install):
    install(
        "def mine(log_snr, *, power: int = 2):\n    '''Mine.'''\n",
        "[harness.weightings]\nmine = kitchen_plugin:mine\n",
    )
    told = one_part("mine")
    assert "From: kitchen-plugin 1.0 #" in told
    assert "power: a whole number; default 2" in told
