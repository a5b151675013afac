"""Named parts of the benchmark, their options, and how another package adds one.

A registry is one visible dict at the bottom of the module that holds the parts. Another package
adds a part with an entry point, and no code here changes:

    [project.entry-points."harness.schedules"]
    sigmoid = "my_package:Sigmoid"
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, Generic, TypeVar, get_args, get_origin

from harness.errors import BadOption, UnknownName

T = TypeVar("T")


@dataclass(frozen=True)
class Between:
    """Marks the numbers an option may take: `eta: Annotated[float, Between(0, 1)] = 0.0`."""

    low: float
    high: float

    def __str__(self) -> str:
        return f" between {self.low:g} and {self.high:g}"


@dataclass(frozen=True)
class Option:
    """One option that a person may set on a part, read off the part's own signature."""

    name: str
    kind: type
    default: Any  # inspect.Parameter.empty where the option must be given
    bounds: Between | None = None

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty

    @property
    def wanted(self) -> str:
        """What may be given, in words."""
        kinds = {
            bool: "true or false", int: "a whole number", float: "a number", str: "a text",
            tuple: "a list",
        }  # fmt: skip
        return f"{kinds.get(self.kind, self.kind.__name__)}{self.bounds or ''}"

    def convert(self, given: Any) -> Any:
        """The value in the option's type, or None where it cannot be that. Booleans are not
        numbers here, and neither infinity nor NaN is an option's value."""
        value: Any = given
        if self.kind in (int, float):
            if isinstance(given, bool) or not isinstance(given, int | float):
                return None
            if self.kind is float:
                value = float(given) if abs(given) <= sys.float_info.max else None
        if self.kind is tuple and isinstance(given, list):
            if any(isinstance(item, list | dict) for item in given):
                return None
            value = tuple(given)
        if not isinstance(value, self.kind):
            return None
        inside = self.bounds is None or self.bounds.low <= given <= self.bounds.high
        return value if inside else None


class Registry(Generic[T]):
    """The built-in parts of one kind, plus those that installed packages offer.

    `given` names the leading arguments of a part that the program passes and a person cannot set.
    """

    def __init__(self, kind: str, builtin: Mapping[str, T], given: frozenset[str] = frozenset()):
        self.kind = kind
        self.given = given
        self._builtin = dict(builtin)

    def names(self) -> list[str]:
        return sorted({*self._builtin, *self._offered()})

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __getitem__(self, name: str) -> T:
        """The part of this name. Raises UnknownName, with the closest name there is."""
        if name in self._builtin:  # a plugin can add a name, never change a built-in one
            return self._builtin[name]
        if name in (offered := self._offered()):
            loaded: T = offered[name].load()
            return loaded
        raise UnknownName(f"unknown {self.kind} '{name}'.{suggestion(name, self.names())}")

    def origin(self, name: str) -> str:
        """The package that a part comes from."""
        if name in self._builtin:
            return "built in"
        distribution = self._offered()[name].dist
        return distribution.name if distribution else "an entry point"

    def describe(self, name: str) -> str:
        """The first line of the part's docstring (a record describes itself)."""
        part = self[name]
        text = getattr(part, "description", None) or inspect.getdoc(part) or ""
        return text.strip().split("\n", 1)[0]

    def options(self, name: str) -> list[Option]:
        """The options of a part: its keyword arguments beyond those the program passes."""
        part = self[name]
        if not callable(part):
            return []
        return [
            _option(parameter, part)
            for parameter in inspect.signature(part).parameters.values()
            if parameter.name not in self.given
            and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        ]

    def check_options(self, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """The given options in their own types, without those that repeat a default.

        So two ways of writing the same part are the same work. Raises BadOption naming the
        option, the value and what would do.
        """
        known = {option.name: option for option in self.options(name)}
        for option in known.values():
            if option.required and option.name not in given:
                raise BadOption(f"{self.kind} '{name}' needs the option '{option.name}'")
        checked = {}
        for key, value in given.items():
            if key not in known:
                hint = suggestion(key, list(known)) if known else " It has none."
                raise BadOption(f"{self.kind} '{name}' has no option '{key}'.{hint}")
            converted = known[key].convert(value)
            if converted is None:
                raise BadOption(
                    f"{self.kind} '{name}': {key} must be {known[key].wanted}, not {value!r}"
                )
            if converted != known[key].default:
                checked[key] = converted
        return checked

    def make(self, name: str, options: Mapping[str, Any]) -> Any:
        """Call the part with these options: for the kinds whose parts are made and then used."""
        part: Any = self[name]
        return part(**options)

    def _offered(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=f"harness.{self.kind}s")}


def suggestion(name: str, known: list[str]) -> str:
    """How an error about an unknown name ends."""
    close = get_close_matches(str(name), known, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return f"{hint} Available: {', '.join(known)}."


def _option(parameter: inspect.Parameter, part: Any) -> Option:
    """Only the annotations of options are evaluated, never those of what the program passes:
    they name the types of tensors, and reading a grid must not import torch."""
    annotation = parameter.annotation
    if isinstance(annotation, str):
        # The class that declares an inherited option may stand in another module.
        owners = (
            owner
            for owner in getattr(part, "__mro__", ())
            if parameter.name in inspect.get_annotations(owner)
        )
        module = sys.modules[next(owners, inspect.unwrap(part)).__module__]
        annotation = eval(annotation, vars(module))
    bounds = None
    if get_origin(annotation) is Annotated:
        annotation, *marks = get_args(annotation)
        bounds = next((mark for mark in marks if isinstance(mark, Between)), None)
    kind = get_origin(annotation) or annotation
    if not isinstance(kind, type) or kind is inspect.Parameter.empty:
        kind = object  # a plugin's own idea of a type: what it is given is its own affair
    return Option(parameter.name, kind, parameter.default, bounds)
