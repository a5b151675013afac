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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import EntryPoint, distributions, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, TypeVar

from harness.errors import (
    BadOption,
    Ended,
    Fault,
    HarnessError,
    PartFailed,
    UnknownName,
    is_out_of_memory,
    legible,
    reason_of,
    suggestion,
)
from harness.registry.foreign import contained, told_if_slow
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
    `contract` tells the author of a part what it is called with and what it returns. `record` is
    the class of parts that are values and no functions.
    """

    def __init__(
        self,
        kind: str,
        builtin: Mapping[str, P],
        given: Collection[str] = (),
        contract: str = "",
        record: type[P] | None = None,
    ):
        self.kind = kind
        self.noun = kind.replace("_", " ")  # in messages
        self.given = tuple(given)
        self.contract = contract
        self._record = record
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
            raise UnknownName(f"there is no {self.noun} '{name}'.{suggestion(name, self.names())}")
        point = self._point(name)
        loaded = self._loaded(name, point)
        if not (isinstance(loaded, self._record) if self._record else callable(loaded)):
            wanted = f"a {self._record.__name__}" if self._record else "a function or class"
            raise PartFailed(
                f"{self.noun} '{name}' cannot be used: the entry point {legible(point.value)} of "
                f"{_package(point)} is {legible(shown(loaded))}. Use one that is {wanted}."
            )
        part: P = loaded
        return part

    def modules(self, name: str) -> list[str]:
        """The modules that other packages offer this part from."""
        return [point.value.partition(":")[0].strip() for point in self._offered().get(name, ())]

    def problem(self, name: str) -> str:
        """Why the part of this name cannot be used; empty where it can."""
        try:
            self.options(name)
        except PartFailed as error:
            return str(error)
        return ""

    def origin(self, name: str) -> str:
        """The package that a part comes from."""
        return BUILT_IN if name in self._builtin else _packages(self._offered()[name])

    @property
    def shadowed(self) -> dict[str, str]:
        """By the names of built-in parts, the packages that offer another one by it: the built-in
        part is used."""
        offered = self._offered()
        return {name: _packages(offered[name]) for name in self._builtin if name in offered}

    def source(self, name: str) -> str:
        """The distribution, its version and a digest of the code that defines a part, so that
        another formula is other work; empty for a built-in part."""
        if name in self._builtin:
            return ""
        part, point = self[name], self._point(name)
        known, source = self._sources.get(name, (None, ""))
        if known is not part:
            source = f"{_package(point)}{_version(point)} #{_digest(part, point)}"
            self._sources[name] = part, source
        return source

    def describe(self, name: str) -> str:
        """The first line of the part's docstring (a record describes itself)."""
        part = self[name]
        text = getattr(part, "description", None) or inspect.getdoc(part) or ""
        return legible(str(text).strip().split("\n", 1)[0])

    def formula(self, name: str) -> str:
        """The part's formula, as in a paper, in plain letters; empty where it tells none, also of
        a recorded part that is not installed here."""
        try:
            return legible(str(getattr(self[name], "formula", "")))
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
                raise PartFailed(f"{self.noun} '{name}': {error}") from None
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
                    f"{self.noun} '{name}' needs the option '{option.name}'. "
                    f"Use {{name: {name}, {option.name}: ...}} with {option.wanted}."
                )
        checked = {}
        for key, value in given.items():
            if key not in known:
                hint = (
                    suggestion(key, list(known)) if known else " It has none. Use its name alone."
                )
                raise BadOption(f"{self.noun} '{name}' has no option '{key}'.{hint}")
            try:
                converted = known[key].convert(value)
            except ValueError:
                raise BadOption(
                    f"{self.noun} '{name}': {key} must be {known[key].wanted}, not {shown(value)}"
                ) from None
            if converted != plain(known[key].default):
                checked[key] = converted
        if check := getattr(self[name], "check_options", None):
            with self.blamed(name, "cannot check its options"):
                check(**checked)
        return checked

    def make(self, name: str, options: Mapping[str, Any], *given: object) -> Any:
        """Call the part with these options: for the kinds whose parts are made and then used."""
        part: Any = self[name]
        what = f"cannot be made with {dict(options)}"
        with self.blamed(name, what, f"other options, or another {self.noun}"), contained():
            return part(*given, **options)

    @contextmanager
    def blamed(self, name: str, what: str = "fails", use: str = "") -> Iterator[None]:
        """Raises PartFailed, naming the part and its package, for whatever its code raises and for
        every Fault: `what` it cannot do, and what to `use`. Errors that a person can act on go
        through."""
        try:
            yield
        except (HarnessError, KeyboardInterrupt, Ended):
            raise
        except BaseException as error:  # SystemExit, or the panic of an extension module
            if is_out_of_memory(error):
                raise
            told = reason_of(error) if isinstance(error, Fault) else f"{what}: {reason_of(error)}"
            use = use or f"another {self.noun}, or have that one repaired"
            raise PartFailed(
                f"{self.noun} '{name}' ({self.origin(name)}) {told}. Use {use}."
            ) from error

    def _loaded(self, name: str, point: EntryPoint) -> Any:
        """What an entry point stands for. Raises PartFailed where that cannot be imported."""
        what = f"the entry point {legible(point.value)} of {_package(point)}"
        try:
            if point.module in sys.modules:  # as it is but for the first time
                return point.load()
            with contained(), told_if_slow(_package(point)):
                return point.load()
        except (KeyboardInterrupt, Ended):
            raise
        except BaseException as error:  # SystemExit, or the panic of an extension module
            raise PartFailed(
                f"{self.noun} '{name}' cannot be loaded: {what} fails with {reason_of(error)}. Use "
                f"a {self.noun} of another package, or repair or uninstall that one."
            ) from error

    def _offered(self) -> dict[str, list[EntryPoint]]:
        return _installed(f"harness.{plural(self.kind)}", tuple(sys.path))

    def _point(self, name: str) -> EntryPoint:
        point, *others = self._offered()[name]
        if others:
            raise PartFailed(
                f"{self.noun} '{name}' is offered by several packages: {self.origin(name)}. "
                "Use one of them, and uninstall the others."
            )
        return point


@cache
def _installed(group: str, path: tuple[str, ...]) -> dict[str, list[EntryPoint]]:
    """By name, what the packages on this path offer. Looking is slow, so it is done once."""
    found: dict[str, list[EntryPoint]] = {}
    for point in _entry_points(group):
        found.setdefault(legible(point.name), []).append(point)
    return found


def _entry_points(group: str) -> Iterable[EntryPoint]:
    """Of all packages whose own description can be read."""
    try:
        return entry_points(group=group)
    except Exception:  # of one package is enough: look at each by itself
        every = (point for _, points, _ in _packages_one_by_one() for point in points)
        return dict.fromkeys(point for point in every if point.group == group)


def unreadable_packages() -> dict[str, str]:
    """The folders of packages whose own description cannot be read, with the reason."""
    return {folder: problem for folder, _, problem in _packages_one_by_one() if problem}


def _packages_one_by_one() -> Iterator[tuple[str, list[EntryPoint], str]]:
    """The folder of each installed package, its entry points, and why they cannot be read."""
    for package in distributions():
        folder = legible(str(getattr(package, "_path", "an unnamed package")))
        try:
            yield folder, list(package.entry_points), ""
        except Exception as error:
            yield folder, [], reason_of(error)


def plural(kind: str) -> str:
    """What an entry point's group calls the parts of a kind."""
    if kind.endswith("ty"):
        return f"{kind.removesuffix('y')}ies"
    return f"{kind}{'es' if kind.endswith('s') else 's'}"


def _package(point: EntryPoint) -> str:
    with suppress(Exception):  # a package need not describe itself in a way that can be read
        if point.dist:
            return legible(point.dist.name)
    return "an unnamed package"


def _packages(points: Iterable[EntryPoint]) -> str:
    return " and ".join(dict.fromkeys(map(_package, points)))


def _version(point: EntryPoint) -> str:
    with suppress(Exception):
        if point.dist:
            return f" {legible(point.dist.version)}"
    return ""


def _digest(part: Any, point: EntryPoint) -> str:
    """Of the source of each module of its package that a part is made of: its own, those of its
    base classes and of the functions in a record, and all that these import."""
    made_of = [part, *getattr(part, "__mro__", ()), *getattr(part, "__dict__", {}).values()]
    names = {point.module, *(str(getattr(each, "__module__", "")) for each in made_of)}
    tops = {point.module.partition(".")[0]}
    with suppress(UnicodeDecodeError):
        listed = point.dist.read_text("top_level.txt") if point.dist else ""
        tops.update((listed or "").split())
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
        found = _spec_of(module)
        return Path(found.origin).read_bytes() if found and found.origin else b""
    except (ImportError, AttributeError, ValueError, OSError):
        return b""


def _spec_of(module: str) -> ModuleSpec | None:
    """Where a module is. Unlike find_spec, it runs none of the packages that the module is in: a
    package may need what is not here, and load it only where it is used."""
    above = module.rpartition(".")[0]
    if not above or module in sys.modules:
        return find_spec(module)
    package = _spec_of(above)
    places = package.submodule_search_locations if package else None
    return None if places is None else PathFinder.find_spec(module, [*places])


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
