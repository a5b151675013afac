"""Everything that a grid file can name, and what the report is made of, from every registry."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, cast

from harness.data.datasets import DATASETS
from harness.diffusion.objective import CLIPS, LOSSES, TARGETS, WEIGHTINGS
from harness.diffusion.samplers import SAMPLERS
from harness.diffusion.schedules import SCHEDULES
from harness.diffusion.times import SPACINGS
from harness.diffusion.training_times import TIME_DENSITIES
from harness.errors import PartFailed, UnknownName, guess, legible
from harness.lines import column_starts
from harness.metrics.distances import METRICS
from harness.metrics.features import EXTRACTORS
from harness.models.presets import MODELS
from harness.registry import BUILT_IN, Registry, plural
from harness.registry.signature import Option, shown

if TYPE_CHECKING:
    from harness.work.outputs import PartOutput, PartsOutput

# Those that a grid file names; the report's own stand beside them in `registries`.
REGISTRIES: tuple[Registry[Any], ...] = (
    SCHEDULES, SAMPLERS, SPACINGS, TARGETS, WEIGHTINGS, TIME_DENSITIES, LOSSES, CLIPS, MODELS,
    DATASETS, EXTRACTORS, METRICS,
)  # fmt: skip
CALL = re.compile(r"\w+\([^)]*\) ->")  # of a function that a part brings along
SOURCE_WIDTH = 90  # of a line of a docstring: where a word did not fit any more


@dataclass(frozen=True)
class PartInfo:
    """What is known of one part."""

    kind: str
    name: str
    description: str = ""
    origin: str = ""
    source: str = ""  # distribution, version and digest of a part of another package
    formula: str = ""
    facts: tuple[str, ...] = ()  # what the program goes by, such as its order of convergence
    options: tuple[Option, ...] = ()
    problem: str = ""  # why it cannot be used
    shadows: str = ""  # the packages that offer another part by this name, which is not used

    def as_json(self) -> PartOutput:
        options = {
            option.name: option.schema | {"required": option.required} for option in self.options
        }
        return cast("PartOutput", vars(self) | {"facts": list(self.facts), "options": options})


def registries() -> tuple[Registry[Any], ...]:
    # Plots are imported for this alone.
    from harness.report.figures.catalogue import PLOTS
    from harness.report.findings.catalogue import FINDINGS

    return (*REGISTRIES, PLOTS, FINDINGS)


def every_part() -> list[PartInfo]:
    """Each part of each registry, by kind and name; a part that cannot be loaded says why."""
    return [info(registry, name) for registry in registries() for name in registry]


def parts_named(name: str) -> list[PartInfo]:
    """What is known of the parts of this name, or else of this kind. Raises UnknownName."""
    if kind := kind_alone(name):
        return [info(kind, each) for each in kind]
    return [info(registry, name) for registry in with_part(name)]


def kind_alone(name: str) -> Registry[Any] | None:
    """The kind that a name is of, in the singular or the plural, where no part has that name."""
    word = re.sub("[ -]", "_", name.lower())
    found = (one for one in registries() if word in (one.kind, plural(one.kind)))
    return None if any(name in registry for registry in registries()) else next(found, None)


def info(registry: Registry[Any], name: str) -> PartInfo:
    """What is known of a part; of one that cannot be used, why."""
    known = PartInfo(
        registry.kind,
        name,
        origin=registry.origin(name),
        problem=registry.problem(name),
        shadows=registry.shadowed.get(name, ""),
    )
    if known.problem:
        return known
    try:
        with registry.blamed(name, "cannot be described"):
            return replace(
                known,
                description=registry.describe(name),
                formula=registry.formula(name),
                options=tuple(registry.options(name)),
                facts=tuple(map(legible, known_facts(registry[name]))),
                source=registry.source(name),
            )
    except PartFailed as error:
        return replace(known, problem=str(error))


def known_facts(part: object) -> Iterable[str]:
    """What a part's record says beyond its formula, in words."""
    if (order := getattr(part, "order", None)) is not None:
        yield f"converges with order {order}"
    if like := getattr(part, "like", ""):
        yield f"its first step is that of {like}"
    if (lower := getattr(part, "lower_is_better", None)) is not None:
        yield f"{'lower' if lower else 'higher'} is better"
    if needs := getattr(part, "needs", ()):
        yield f"needs {' and '.join(sorted(needs))}"


def as_text(found: Iterable[PartInfo]) -> str:
    """The parts as a page of text, kind by kind."""
    lines: list[str] = []
    for kind, parts in groupby(found, lambda part: part.kind):
        of_kind = list(parts)
        wide = max(len(part.name) for part in of_kind)
        lines += ["", plural(kind)]
        for part in of_kind:
            origin = "" if part.origin == BUILT_IN else f"  [{part.origin}]"
            text = f"cannot be used: {part.problem}" if part.problem else part.description
            lines.append(f"  {part.name:{wide}}  {text}{origin}")
            if part.options:
                given = [
                    f"{o.name}={'required' if o.required else o.default}" for o in part.options
                ]
                lines.append(f"  {'':{wide}}    {legible(', '.join(given))}")
            if part.shadows:
                lines.append(f"  {'':{wide}}    {shadowing_of(part.kind, part.shadows)}")
    return "\n".join(lines[1:])


def shadowing_of(kind: str, package: str) -> str:
    """That a package wants the name of a built-in part."""
    return (
        f"{package} offers a {kind} of this name too, which is not used: no package changes a "
        "built-in part."
    )


def as_json(found: Iterable[PartInfo]) -> PartsOutput:
    return {"parts": [part.as_json() for part in found]}


def with_part(name: str) -> list[Registry[Any]]:
    """Those that have a part of this name. Raises UnknownName where none has."""
    found = [registry for registry in registries() if name in registry]
    if not found:
        kinds = {plural(registry.kind) for registry in registries()}
        known = sorted(kinds | {each for registry in registries() for each in registry})
        raise UnknownName(
            f"there is no part '{name}'.{guess(name, known)} Use `harness parts` to see all."
        )
    return found


def one_part(name: str) -> str:
    """All about the parts of this name, of whatever kind, or a list of those of the kind that it
    names. Raises UnknownName."""
    if kind_alone(name):
        return as_text(parts_named(name))
    return "\n\n".join(in_full(registry, name) for registry in with_part(name))


def in_full(registry: Registry[Any], name: str) -> str:
    """One part with its options and their bounds, its formula, its source, and the contract that
    parts of its kind keep."""
    part = info(registry, name)
    paragraphs = [f"{registry.noun} {part.name}", part.description]
    paragraphs += [f"It cannot be used: {part.problem}"] * bool(part.problem)
    paragraphs += [f"Formula: {part.formula}"] * bool(part.formula)
    paragraphs += [f"Known of it: {'; '.join(part.facts)}"] * bool(part.facts)
    paragraphs.append(f"From: {part.source or part.origin}")
    paragraphs += [shadowing_of(part.kind, part.shadows)] * bool(part.shadows)
    lines = [text for text in paragraphs if text]
    if part.options:
        lines += ["", "Options:"]
        for option in part.options:
            default = "required" if option.required else f"default {shown(option.default)}"
            lines.append(legible(f"  {option.name}: {option.wanted}; {default}"))
    if registry.contract:
        article = "an" if registry.noun[0] in "aeiou" else "a"
        contract = textwrap.indent(joined(registry.contract), "  ")
        lines += ["", f"What {article} {registry.noun} is:", contract]
    return "\n".join(lines)


def joined(text: str) -> str:
    """A docstring in whose paragraphs and columns no line is broken: who shows it knows how wide
    the screen is."""
    lines: list[str] = []
    for line in text.split("\n"):
        begin, before = line.lstrip(), lines[-1] if lines else ""
        starts = {len(before) - len(before.lstrip()), *column_starts(before)}
        indent = len(line) - len(begin)
        is_entry = CALL.match(begin) or any(start > indent for start in column_starts(line))
        goes_on = indent in starts and begin and before.strip() and not is_entry
        if goes_on and len(before) + len(begin.split()[0]) >= SOURCE_WIDTH:
            lines[-1] = f"{before} {begin}"
        else:
            lines.append(line)
    return "\n".join(lines)
