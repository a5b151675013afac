"""The parts with their formulae, sources and options, written from their own records."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import escape

from harness.parts import PartInfo, info, registries
from harness.registry import Registry

# A letter and what stands below it: x_s, σ_t², c_skip, ε̂_n₋₁.
INDEXED = re.compile(r"(?<![A-Za-z_])([A-Za-zα-ωΑ-Ω]\u0302?)_([A-Za-z]+[₋₁]*)")
OPTION = re.compile(r"(?<![A-Za-z_])([a-z]{2,}_[a-z_]+)(?![A-Za-z_])")
ROOT = re.compile(r"√(\((?:[^()]|\([^()]*\))*\)|[\w./⁻]+(?:<sub>\w+</sub>)?)")


def of_kind(kind: str) -> Registry[object]:
    return next(registry for registry in registries() if registry.kind == kind)


def parts(*kinds: str) -> str:
    """All parts of these kinds, each with its formula and its options."""
    return "\n".join(line for kind in kinds for line in listed(of_kind(kind)))


def listed(registry: Registry[object]) -> Iterator[str]:
    for name in registry:
        found = info(registry, name)
        if found.origin != "built in":  # a package that the machine happens to have
            continue
        yield from (f"#### `{name}` {{ #{registry.kind.replace('_', '-')}-{name} }}", "")
        yield from (marked(found.description), "")
        if found.formula:
            yield from (f'<p class="formula">{typeset(found.formula)}</p>', "")
        if known := "; ".join([*found.facts, *options(found)]):
            yield from (f'<p class="facts">{known}</p>', "")


def options(found: PartInfo) -> Iterator[str]:
    """Each option with what it takes and its default."""
    for option in found.options:
        default = "must be given" if option.required else f"default {written(option.default)}"
        yield f"<code>{option.name}</code>: {escape(option.wanted)}, {escape(default)}"


def written(value: object) -> str:
    """A default as a grid file has it."""
    return json.dumps(value).strip('"') or "none"


def typeset(formula: str) -> str:
    """A formula in plain letters as HTML: indices below the line, roots with a bar, options in the
    type of code."""
    text = escape(formula, quote=False)
    text = INDEXED.sub(r"\1<sub>\2</sub>", text)
    text = ROOT.sub(lambda root: f"√<span>{without_brackets(root[1])}</span>", text)
    return OPTION.sub(r"<code>\1</code>", text)


def without_brackets(text: str) -> str:
    return text[1:-1] if text.startswith("(") else text


def marked(description: str) -> str:
    """A description as Markdown that holds no mark but those for code."""
    outside = re.split(r"(`[^`]*`)", escape(description, quote=False))
    outside[::2] = [re.sub(r"([*_\[\]])", r"\\\1", text) for text in outside[::2]]
    text = "".join(outside)
    return text if text.endswith(".") else f"{text}."


def contracts() -> str:
    """What the program calls a part of each kind with, and what it must return."""
    return "\n".join(
        f'??? note "What a {registry.kind.replace("_", " ")} is"\n\n'
        f"    ```text\n{indented(registry.contract)}\n    ```\n"
        for registry in registries()
        if registry.contract
    )


def indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())
