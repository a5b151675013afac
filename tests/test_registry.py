"""Registries: names, options, and parts that other packages offer."""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import pytest
import torch
from annotated_types import Gt
from installing import installer

from harness.diffusion.objective import LOSSES, TARGETS, WEIGHTINGS
from harness.diffusion.samplers import SAMPLERS
from harness.diffusion.schedules import SCHEDULES, Linear
from harness.diffusion.times import SPACINGS
from harness.errors import BadOption, HarnessError, PartFailed, UnknownName, suggestion
from harness.metrics.distances import METRICS
from harness.registry import Between, Registry, about, unreadable_packages

EVERY_REGISTRY = [SCHEDULES, SPACINGS, SAMPLERS, TARGETS, WEIGHTINGS, LOSSES]

if TYPE_CHECKING:
    from nowhere import Pressure, Water


def boil(
    water,
    *,
    minutes: Annotated[float, Between(1, 20)] = 5.0,
    eggs: int = 1,
    salt: bool = False,
    vessel: str = "pot",
    spices: tuple = (),
):
    """Boil in water.

    The second paragraph is for those who read the code.
    """


@dataclass(frozen=True)
class Fry:
    """Fry in a pan."""

    water: None
    fat: str
    heat: Annotated[int, Between(1, 9)] = 5


@dataclass(frozen=True)
class Record:
    description: str


@pytest.fixture
def ways():
    """A registry of ways to cook."""
    parts = {"boil": boil, "fry": Fry, "raw": Record("Eat as it is.\nIf you dare.")}
    return Registry("way", parts, given=("water",))


# Names.


def test_names_are_sorted_and_can_be_asked_for(ways):
    assert ways.names() == list(ways) == ["boil", "fry", "raw"]
    assert "boil" in ways
    assert "bake" not in ways
    assert ways["boil"] is boil


def test_an_unknown_name_is_refused_with_the_closest_there_is(ways):
    with pytest.raises(UnknownName) as refused:
        ways["boll"]
    assert str(refused.value) == (
        "there is no way 'boll'. Did you mean 'boil'? Available: boil, fry, raw."
    )
    assert isinstance(refused.value, HarnessError)


def test_a_name_like_no_other_is_refused_with_the_list_only(ways):
    with pytest.raises(UnknownName) as refused:
        ways["sous-vide"]
    assert str(refused.value) == "there is no way 'sous-vide'. Available: boil, fry, raw."


def test_a_suggestion_takes_whatever_was_written():
    assert suggestion(7, ["one", "two"]) == " Available: one, two."


@pytest.mark.parametrize("registry", EVERY_REGISTRY, ids=lambda registry: registry.kind)
def test_every_registry_of_the_method_refuses_a_slip_of_the_pen(registry):
    for name in registry:
        with pytest.raises(UnknownName, match=f"no {registry.kind} '{name}x'. Did you mean"):
            registry[f"{name}x"]


# Descriptions.


def test_a_formula_stands_with_the_part(ways):
    assert SCHEDULES.formula("cosine").startswith("θ(t) = ")
    assert ways.formula("boil") == ""


def test_a_formula_of_a_part_that_is_not_installed_here_is_empty(ways):
    assert ways.formula("sous-vide") == ""


@pytest.mark.parametrize("registry", EVERY_REGISTRY, ids=lambda registry: registry.kind)
def test_every_part_of_the_method_tells_its_formula(registry):
    for name in registry:
        assert registry.formula(name), name


def test_what_is_claimed_of_a_schedule_is_not_claimed_of_one_made_from_it():
    @dataclass(frozen=True)
    class Steeper(Linear):
        beta_end: float = 0.03

    assert Steeper.formula == ""
    assert Steeper.abar_at_1 is None
    assert Linear.abar_at_1 == 4.0358e-5


def test_a_part_is_described_by_the_first_line_of_its_docstring(ways):
    assert ways.describe("boil") == "Boil in water."
    assert ways.describe("fry") == "Fry in a pan."


def test_a_record_describes_itself(ways):
    assert ways.describe("raw") == "Eat as it is."


@pytest.mark.parametrize("registry", EVERY_REGISTRY, ids=lambda registry: registry.kind)
def test_every_part_of_the_method_has_a_description(registry):
    for name in registry:
        assert len(registry.describe(name)) > 15


@pytest.mark.parametrize("registry", EVERY_REGISTRY, ids=lambda registry: registry.kind)
def test_the_options_of_every_part_of_the_method_are_ones_it_would_accept(registry):
    for name in registry:
        defaults = {
            option.name: option.default for option in registry.options(name) if not option.required
        }
        assert registry.check_options(name, defaults) == {}


# Options.


def test_options_are_read_off_the_signature_without_what_the_program_passes(ways):
    described = {option.name: (option.wanted, option.default) for option in ways.options("boil")}
    assert described == {
        "minutes": ("a number between 1 and 20", 5.0),
        "eggs": ("a whole number", 1),
        "salt": ("true or false", False),
        "vessel": ("a text", "pot"),
        "spices": ("a list", ()),
    }


def test_a_record_has_no_options(ways):
    assert ways.options("raw") == []


def test_options_come_back_in_their_own_types(ways):
    given = {"minutes": 7, "eggs": 3, "salt": True, "vessel": "pan", "spices": ["bay", "dill"]}
    checked = ways.check_options("boil", given)
    assert checked == given | {"spices": ("bay", "dill")}
    assert type(checked["minutes"]) is float


def test_an_option_that_repeats_its_default_is_left_out(ways):
    given = {"minutes": 5, "eggs": 1, "salt": False, "vessel": "pot", "spices": []}
    assert ways.check_options("boil", given) == {}
    assert ways.check_options("boil", {"minutes": 5, "eggs": 2}) == {"eggs": 2}


def test_an_option_may_take_its_bounds(ways):
    assert ways.check_options("boil", {"minutes": 1}) == {"minutes": 1}
    assert ways.check_options("boil", {"minutes": 20}) == {"minutes": 20}


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("minutes", 0.5, "a number between 1 and 20, not 0.5"),
        ("minutes", 20.1, "a number between 1 and 20, not 20.1"),
        ("minutes", "5", "a number between 1 and 20, not '5'"),
        ("minutes", True, "a number between 1 and 20, not True"),
        ("minutes", math.nan, "a number between 1 and 20, not nan"),
        ("minutes", math.inf, "a number between 1 and 20, not inf"),
        ("minutes", None, "a number between 1 and 20, not None"),
        ("eggs", 1.0, "a whole number, not 1.0"),
        ("eggs", True, "a whole number, not True"),
        ("salt", 1, "true or false, not 1"),
        ("salt", "yes", "true or false, not 'yes'"),
        ("vessel", 3, "a text, not 3"),
        ("spices", "dill", "a list, not 'dill'"),
    ],
)
def test_a_value_that_an_option_cannot_take_is_refused(ways, option, value, wanted):
    with pytest.raises(BadOption) as refused:
        ways.check_options("boil", {option: value})
    assert str(refused.value).startswith(f"way 'boil': {option} must be {wanted}")


def test_a_whole_number_beyond_all_floats_is_refused_like_any_other(ways):
    with pytest.raises(BadOption, match="minutes must be a number between 1 and 20, not 1000"):
        ways.check_options("boil", {"minutes": 10**400})


def test_an_unknown_option_is_refused_with_the_closest_there_is(ways):
    with pytest.raises(BadOption) as refused:
        ways.check_options("boil", {"minuets": 5})
    assert str(refused.value) == (
        "way 'boil' has no option 'minuets'. Did you mean 'minutes'? "
        "Available: minutes, eggs, salt, vessel, spices."
    )


def test_an_option_of_a_part_without_any_is_refused(ways):
    with pytest.raises(BadOption, match=r"way 'raw' has no option 'salt'\. It has none\."):
        ways.check_options("raw", {"salt": True})


def test_what_the_program_passes_is_no_option(ways):
    with pytest.raises(BadOption, match="way 'boil' has no option 'water'"):
        ways.check_options("boil", {"water": 1})


def test_options_that_do_not_go_together_are_refused_by_the_part_itself():
    def check(*, low: int = 0, high: int = 1) -> None:
        if low > high:
            raise BadOption("low must not be above high")

    @about(formula="x in [low, high]", check=check)
    def limit(*, low: int = 0, high: int = 1):
        """Limit x."""

    limits = Registry("limit", {"both": limit})
    assert limits.formula("both") == "x in [low, high]"
    assert limits.check_options("both", {"low": 1}) == {"low": 1}
    with pytest.raises(BadOption, match="low must not be above high"):
        limits.check_options("both", {"low": 2})


def braise(
    water: "Water",
    *,
    lid: Literal["on", "off"] = "on",
    times: tuple[int, ...] = (),
    weight: Annotated[float | None, Between(0, 9)] = None,
    above: Annotated[float, Gt(0)] = 1.0,
    under: "Pressure" = 1,
    untold=0,
):
    """Braise under a lid."""


@pytest.fixture
def braised():
    return Registry("way", {"braise": braise}, given=("water",))


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"lid": "off"}, {"lid": "off"}),
        ({"times": [1, 2]}, {"times": (1, 2)}),
        ({"weight": 3}, {"weight": 3.0}),
        ({"weight": None}, {}),
        ({"under": "a lot"}, {"under": "a lot"}),
        ({"untold": [1, "b"]}, {"untold": (1, "b")}),
    ],
    ids=str,
)
def test_an_option_takes_what_its_annotation_says_and_anything_where_that_is_unknown(
    braised, given, taken
):
    assert braised.check_options("braise", given) == taken


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"lid": "up"}, "lid must be one of on, off, not 'up'"),
        ({"times": [1.5]}, "times must be a list of whole numbers, not [1.5]"),
        ({"times": [True]}, "times must be a list of whole numbers"),
        ({"times": [[1]]}, "times must be a list of whole numbers"),
        ({"weight": 10}, "weight must be a number between 0 and 9 or null, not 10"),
        ({"above": 0}, "above must be a number above 0, not 0"),
        ({"untold": {"a": 1}}, "untold must be a plain value"),
    ],
    ids=str,
)
def test_an_option_refuses_what_its_annotation_excludes(braised, given, wanted):
    with pytest.raises(BadOption) as refused:
        braised.check_options("braise", given)
    assert wanted in str(refused.value)


def test_the_schema_of_an_option_has_its_type_bounds_and_default(ways):
    schemas = {option.name: option.schema for option in ways.options("boil")}
    assert schemas["minutes"] == {"type": "number", "minimum": 1, "maximum": 20, "default": 5.0}
    assert schemas["eggs"] == {"type": "integer", "default": 1}
    assert schemas["salt"] == {"type": "boolean", "default": False}


def test_an_annotation_of_what_the_program_passes_is_never_looked_at(braised):
    assert [option.name for option in braised.options("braise")] == [
        "lid", "times", "weight", "above", "under", "untold",
    ]  # fmt: skip


CODE = ["run()", "[run() for _ in 'a']", "Annotated[int, run()]", "(lambda: run())()", "f'{run()}'"]


@pytest.mark.parametrize("is_within", [False, True])
@pytest.mark.parametrize("code", CODE)
def test_an_annotation_is_never_run(code, is_within, monkeypatch):
    def simmer(*, long=1):
        """Simmer."""

    ran = []
    monkeypatch.setitem(globals(), "run", lambda: ran.append(1))
    simmer.__annotations__ = {"long": Annotated[code, 1] if is_within else code}
    way = Registry("way", {"simmer": simmer})
    if is_within:  # text within a type: what the option takes is not known
        assert way.check_options("simmer", {"long": "any"}) == {"long": "any"}
    else:
        with pytest.raises(PartFailed, match=r"'long' is annotated with .* no type\. Use a type"):
            way.options("simmer")
    assert not ran


@pytest.mark.parametrize(
    ("annotation", "wanted"),
    [
        ("Annotated[int, Between(-1, 10**3)]", "a whole number between -1 and 1000"),
        ("Literal['on', 'off'] | None", "one of on, off or null"),
        ("math.nothing", "a plain value"),
        ("'int'", "a plain value"),
    ],
)
def test_an_annotation_that_is_text_is_read(annotation, wanted):
    def simmer(*, long=1):
        """Simmer."""

    simmer.__annotations__ = {"long": annotation}
    [option] = Registry("way", {"simmer": simmer}).options("simmer")
    assert option.wanted == wanted


def test_the_author_of_a_part_is_told_what_its_first_arguments_must_be():
    def mine(model, schedule, x, times, draw_noise):
        """Mine."""

    samplers = Registry("sampler", {"mine": mine}, given=SAMPLERS.given)
    with pytest.raises(PartFailed) as refused:
        samplers.check_options("mine", {})
    assert str(refused.value).startswith(
        "sampler 'mine': its first arguments must be denoise, schedule, x, times, draw_noise"
    )


def test_a_missing_option_that_must_be_given_is_asked_for(ways):
    with pytest.raises(BadOption, match="way 'fry' needs the option 'fat'"):
        ways.check_options("fry", {"heat": 3})
    assert ways.check_options("fry", {"fat": "butter", "heat": 5}) == {"fat": "butter"}


# Other packages.


@pytest.fixture
def install(tmp_path, monkeypatch):
    return installer(tmp_path, monkeypatch)


def test_another_package_adds_a_part(ways, install):
    install(
        'def bake(water, *, loaves: int = 1):\n    """Bake in an oven."""\n',
        "[harness.ways]\nbake = kitchen_plugin:bake\n",
    )
    assert ways.names() == ["bake", "boil", "fry", "raw"]
    assert "bake" in ways
    assert ways["bake"].__module__ == "kitchen_plugin"
    assert ways.describe("bake") == "Bake in an oven."
    assert ways.check_options("bake", {"loaves": 2}) == {"loaves": 2}
    assert ways.origin("bake") == "kitchen-plugin"
    assert ways.origin("boil") == "built in"
    with pytest.raises(UnknownName, match=r"Did you mean 'bake'\? Available: bake, boil"):
        ways["bakee"]


def test_another_package_cannot_change_a_built_in_part(ways, install):
    install("def boil(water):\n    pass\n", "[harness.ways]\nboil = kitchen_plugin:boil\n")
    assert ways["boil"] is boil
    assert ways.origin("boil") == "built in"
    assert ways.names() == ["boil", "fry", "raw"]


def test_a_package_adds_only_to_the_kind_it_names(ways, install):
    install("def bake(water):\n    pass\n", "[harness.schedules]\nbake = kitchen_plugin:bake\n")
    assert "bake" not in ways
    assert "bake" in SCHEDULES


BAKE = "[harness.ways]\nbake = kitchen_plugin:bake\n"


SILENT = "class Silent(Exception):\n    def __str__(self): return 1 / 0\nraise Silent\n"
PANIC = "class Panic(BaseException): pass\nraise Panic('\\x1b[31mred')\n"
MODULES = {
    "import": "import nothere\n", "exit": "raise SystemExit(3)\n", "no such name": "\n",
    "no Python": "def bake(:\n", "no words": SILENT, "panic": PANIC, "a value": "bake = 3\n",
}  # fmt: skip


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
def test_a_part_that_cannot_be_loaded_is_refused_where_it_is_used_and_nowhere_else(
    ways, install, module
):
    install(module, BAKE)
    assert "bake" in ways.names()
    assert ways.check_options("boil", {}) == {}
    assert ways.origin("bake") == "kitchen-plugin"
    with pytest.raises(PartFailed) as refused:
        ways["bake"]
    for told in ("way 'bake'", "kitchen_plugin:bake", "kitchen-plugin"):
        assert told in str(refused.value)
    assert str(refused.value).isprintable()
    assert ways.problem("bake") == str(refused.value)
    assert ways.problem("boil") == ""


def test_a_part_whose_making_fails_is_refused_with_its_error(ways, install):
    install("def bake():\n    return 1 / 0\n", BAKE)
    with pytest.raises(PartFailed, match=r"'bake' \(kitchen-plugin\) cannot be made .* by zero"):
        ways.make("bake", {})


def test_what_an_import_changes_for_everybody_is_put_back(ways, install, capfd, tmp_path):
    install(
        "import os, torch\nprint('hello')\nos.chdir('/')\n"
        "torch.set_default_dtype(torch.float64)\ndef bake(water): pass\n",
        BAKE,
    )
    before = Path.cwd(), torch.get_default_dtype()
    assert ways.problem("bake") == ""
    assert (Path.cwd(), torch.get_default_dtype()) == before
    assert capfd.readouterr().out == ""


def test_a_slow_import_says_what_is_waited_for_and_later_how_to_end_it(
    ways, install, monkeypatch, caplog
):
    monkeypatch.setattr("harness.registry.foreign.SLOW_SECONDS", 0.01)
    monkeypatch.setattr("harness.registry.foreign.VERY_SLOW_SECONDS", 0.05)
    install("import time\ntime.sleep(0.2)\ndef bake(water): pass\n", BAKE)
    ways.options("bake")
    first, second = caplog.messages
    assert "kitchen-plugin" in first
    assert "Ctrl-C" not in first
    assert "Ctrl-C" in second


def test_a_record_is_wanted_where_parts_are_records(install):
    install("def bake(): pass\n", "[harness.metrics]\nbake = kitchen_plugin:bake\n")
    with pytest.raises(PartFailed, match="Use one that is a Metric"):
        METRICS["bake"]


def test_a_package_whose_description_cannot_be_read_is_named_and_hides_no_other(
    ways, install, tmp_path
):
    install("def bake(water): pass\n", BAKE)
    [site] = tmp_path.glob("site-*")
    (site / "broken-1.0.dist-info").mkdir()
    (site / "broken-1.0.dist-info/entry_points.txt").write_bytes(b"[harness.ways]\nbroken = \xff")
    (site / "kitchen_plugin-1.0.dist-info/METADATA").unlink()
    assert "bake" in ways
    assert ways.source("bake").startswith("an unnamed package #")
    [(folder, reason)] = unreadable_packages().items()
    assert folder.endswith("broken-1.0.dist-info")
    assert "UnicodeDecodeError" in reason


def test_a_built_in_name_that_a_package_wants_too_is_told(ways, install):
    install("def boil(water): pass\n", "[harness.ways]\nboil = kitchen_plugin:boil\n")
    assert ways.shadowed == {"boil": "kitchen-plugin"}
    assert SCHEDULES.shadowed == {}


def test_one_name_of_two_packages_is_refused_naming_both(ways, install):
    install("def bake(water): pass\n", BAKE)
    install("def bake(water): pass\n", BAKE.replace("kitchen_", "oven_"), package="oven_plugin")
    with pytest.raises(PartFailed) as refused:
        ways["bake"]
    assert "kitchen-plugin" in str(refused.value)
    assert "oven-plugin" in str(refused.value)


def test_the_source_of_a_part_is_its_distribution_version_and_code(ways, install):
    install("def bake(water): return 1\n", BAKE)
    first = ways.source("bake")
    assert first.startswith("kitchen-plugin 1.0 #")
    assert ways.source("bake") == first
    install("def bake(water): return 2\n", BAKE)
    assert ways.source("bake").startswith("kitchen-plugin 1.0 #")
    assert ways.source("bake") != first
    assert ways.source("boil") == ""


def test_a_module_is_part_of_the_source_though_its_package_cannot_be_run_here(install, tmp_path):
    install("def bake(water):\n    from kitchen_gpu.fast import oven\n", BAKE)
    [site] = tmp_path.glob("site-*")
    [info] = site.glob("*.dist-info")
    (info / "top_level.txt").write_text("kitchen_plugin\nkitchen_gpu\n")
    (site / "kitchen_gpu").mkdir()
    (site / "kitchen_gpu/__init__.py").write_text("raise RuntimeError('no GPU is here')\n")
    sources = set()
    for oven in (1, 2, 2):
        (site / "kitchen_gpu/fast.py").write_text(f"oven = {oven}\n")
        sources.add(Registry("way", {}).source("bake"))
        assert "kitchen_gpu" not in sys.modules
    assert len(sources) == 2


def test_packages_are_looked_up_once(ways, install, monkeypatch):
    install("def bake(water): pass\n", BAKE)
    ways.names()
    monkeypatch.setattr("harness.registry.entry_points", None)  # a second look would fail
    assert "bake" in ways.names()


def test_another_package_adds_a_schedule_that_samplers_can_use(install):
    install(
        """
from __future__ import annotations
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal
from harness.diffusion.schedules import Schedule
from harness.registry import Between

@dataclass(frozen=True)
class Straight(Schedule):
    '''Log SNR falls evenly.'''

    top: Annotated[float, Between(1, 30)] = 10.0

    def log_snr(self, t):
        return self.top * (1 - 2 * t)
""",
        "[harness.schedules]\nstraight = kitchen_plugin:Straight\n",
    )
    options = SCHEDULES.check_options("straight", {"top": 5})
    schedule = SCHEDULES["straight"](**options)
    times = SPACINGS["uniform"](schedule, 4)
    images = SAMPLERS["ddim"](lambda x, t: x / 2, schedule, torch.ones(3), times, lambda: None)
    assert images.shape == (3,)


def test_another_package_adds_a_schedule_made_from_a_built_in_one(install):
    install(
        "from dataclasses import dataclass\n"
        "from harness.diffusion.schedules import Linear\n\n"
        "@dataclass(frozen=True)\n"
        "class Steeper(Linear):\n"
        "    '''Ends in more noise.'''\n\n"
        "    beta_end: float = 0.03\n",
        "[harness.schedules]\nsteeper = kitchen_plugin:Steeper\n",
    )
    assert SCHEDULES.check_options("steeper", {"beta_start": 2e-4}) == {"beta_start": 2e-4}
    assert isinstance(SCHEDULES["steeper"](), Linear)
