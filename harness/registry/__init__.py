"""Named parts of the benchmark, their options, and how another package adds one.

A registry is one visible dict at the bottom of the module that holds the parts. Another package
adds a part with an entry point, and no code here changes:

    [project.entry-points."harness.schedules"]
    steep = "my_package:Steep"

`Registry.contract` says what the program calls a part with and what it must return; `harness parts
NAME` prints it. All that the program must know of a part beyond that, its formula for instance, are
attributes of the part.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, TypeVar

from harness.errors import BadOption, HarnessError, PartFailed, UnknownName, suggestion
from harness.registry.signature import Between, Option, options_of, plain, shown

__all__ = ["Between", "Option", "Registry", "about"]

P = TypeVar("P")
Function = TypeVar("Function", bound=Callable[..., Any])
BUILT_IN = "built in"


def about(*, formula: str = "", check: Callable[..., None] | None = None) -> Callable[
    [Function], Function
]:  # fmt: skip
    """Says of a part that is a plain function its formula for the page and, with
    `check(**options)`, which options do not go together: it raises BadOption."""

    def mark(function: Function) -> Function:
        vars(function).update(formula=formula, check_options=check)
        return function

    return mark


class Registry(Generic[P]):
    """The built-in parts of one kind, plus those that installed packages offer.

    `given` names, in order, the arguments that the program passes and a person cannot set.
    `contract` tells the author of a part what it is called with and what it returns.
    """

    def __init__(
        self,
        kind: str,
        builtin: Mapping[str, P],
        given: Collection[str] = (),
        contract: str = "",
    ):
        self.kind = kind
        self.given = tuple(given)
        self.contract = contract
        self._builtin = dict(builtin)
        self._options: dict[str, tuple[P, list[Option]]] = {}
        self._sources: dict[str, tuple[P, str]] = {}

    def names(self) -> list[str]:
        return sorted({*self._builtin, *self._offered()})

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self._builtin or name in self._offered()

    def __getitem__(self, name: str) -> P:
        """The part of this name. Raises UnknownName, with the closest name there is, and
        PartFailed where the package that offers it cannot be used."""
        if name in self._builtin:  # a plug-in can add a name, never change a built-in one
            return self._builtin[name]
        if name not in self._offered():
            raise UnknownName(f"there is no {self.kind} '{name}'.{suggestion(name, self.names())}")
        point = self._point(name)
        try:
            loaded: P = point.load()
        except (Exception, SystemExit) as error:
            reason = " ".join(str(error).split())
            raise PartFailed(
                f"{self.kind} '{name}' cannot be loaded: the entry point {point.value} of "
                f"{_package(point)} fails with {type(error).__name__}: {reason}. Use a {self.kind} "
                "of another package, or repair or uninstall that one."
            ) from error
        return loaded

    def problem(self, name: str) -> str:
        """Why the part of this name cannot be used; empty where it can."""
        try:
            self.options(name)
        except PartFailed as error:
            return str(error)
        return ""

    def origin(self, name: str) -> str:
        """The package that a part comes from."""
        if name in self._builtin:
            return BUILT_IN
        return " and ".join(dict.fromkeys(map(_package, self._offered()[name])))

    def source(self, name: str) -> str:
        """The distribution, its version and a digest of the code that defines a part, so that
        another formula is other work; empty for a built-in part."""
        if name in self._builtin:
            return ""
        part, point = self[name], self._point(name)
        known, source = self._sources.get(name, (None, ""))
        if known is not part:
            version = f" {point.dist.version}" if point.dist else ""
            source = f"{_package(point)}{version} #{_digest(part, point)}"
            self._sources[name] = part, source
        return source

    def describe(self, name: str) -> str:
        """The first line of the part's docstring (a record describes itself)."""
        part = self[name]
        text = getattr(part, "description", None) or inspect.getdoc(part) or ""
        return text.strip().split("\n", 1)[0]

    def formula(self, name: str) -> str:
        """The part's formula, as in a paper, in plain letters; empty where it tells none, also of
        a recorded part that is not installed here."""
        try:
            return getattr(self[name], "formula", "")
        except (UnknownName, PartFailed):
            return ""

    def options(self, name: str) -> list[Option]:
        """The options of a part: its keyword arguments beyond those the program passes."""
        part = self[name]
        known, options = self._options.get(name, (None, []))
        if known is not part:
            try:
                options = options_of(part, self.given)
            except PartFailed as error:
                raise PartFailed(f"{self.kind} '{name}': {error}") from None
            self._options[name] = part, options
        return options

    def check_options(self, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """The given options in their own types, without those that repeat a default.

        So two ways of writing the same part are the same work. Raises BadOption naming the
        option, the value and what to use.
        """
        known = {option.name: option for option in self.options(name)}
        for option in known.values():
            if option.required and option.name not in given:
                raise BadOption(
                    f"{self.kind} '{name}' needs the option '{option.name}'. "
                    f"Use {{name: {name}, {option.name}: ...}} with {option.wanted}."
                )
        checked = {}
        for key, value in given.items():
            if key not in known:
                hint = suggestion(key, list(known)) if known else " It has none."
                raise BadOption(f"{self.kind} '{name}' has no option '{key}'.{hint}")
            try:
                converted = known[key].convert(value)
            except ValueError:
                raise BadOption(
                    f"{self.kind} '{name}': {key} must be {known[key].wanted}, not {shown(value)}"
                ) from None
            if converted != plain(known[key].default):
                checked[key] = converted
        if check := getattr(self[name], "check_options", None):
            check(**checked)
        return checked

    def make(self, name: str, options: Mapping[str, Any]) -> Any:
        """Call the part with these options: for the kinds whose parts are made and then used."""
        part: Any = self[name]
        try:
            return part(**options)
        except HarnessError:
            raise
        except Exception as error:
            raise PartFailed(
                f"{self.kind} '{name}' cannot be made with {dict(options)}: "
                f"{type(error).__name__}: {error}. Use other options."
            ) from error

    def _offered(self) -> dict[str, list[EntryPoint]]:
        return _installed(f"harness.{plural(self.kind)}", tuple(sys.path))

    def _point(self, name: str) -> EntryPoint:
        point, *others = self._offered()[name]
        if others:
            raise PartFailed(
                f"{self.kind} '{name}' is offered by several packages: {self.origin(name)}. "
                "Use one of them, and uninstall the others."
            )
        return point


@cache
def _installed(group: str, path: tuple[str, ...]) -> dict[str, list[EntryPoint]]:
    """By name, what the packages on this path offer. Looking is slow, so it is done once."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=group):
        found.setdefault(point.name, []).append(point)
    return found


def plural(kind: str) -> str:
    """What an entry point's group calls the parts of a kind."""
    return f"{kind}{'es' if kind.endswith('s') else 's'}"


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "an unnamed package"


def _digest(part: Any, point: EntryPoint) -> str:
    """Of the source of each module of its package that a part is made of: its own, those of its
    base classes and of the functions in a record, and all that these import."""
    made_of = [part, *getattr(part, "__mro__", ()), *getattr(part, "__dict__", {}).values()]
    names = {point.module, *(str(getattr(each, "__module__", "")) for each in made_of)}
    tops = {point.module.partition(".")[0]}
    if point.dist and (listed := point.dist.read_text("top_level.txt")):
        tops.update(listed.split())
    sources: dict[str, bytes] = {}
    waiting = sorted(names)
    while waiting:
        name = waiting.pop()
        if name.partition(".")[0] in tops and name not in sources:
            sources[name] = _source_of(name)
            waiting += _imported(name, sources[name])
    return hashlib.sha256(b"".join(sources[name] for name in sorted(sources))).hexdigest()[:12]


def _source_of(module: str) -> bytes:
    """The text of a module; empty where there is none of this name."""
    try:
        found = find_spec(module)
        return Path(found.origin).read_bytes() if found and found.origin else b""
    except (ImportError, AttributeError, ValueError, OSError):
        return b""


def _imported(module: str, source: bytes) -> Iterator[str]:
    """The names of modules that a module imports, and some that are none."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # no Python
        return
    found = sys.modules.get(module)
    package = getattr(found, "__package__", None) or module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            parts = [*(above if node.level else []), *filter(None, [node.module])]
            yield ".".join(parts)
            yield from (".".join([*parts, each.name]) for each in node.names)
