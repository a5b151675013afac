"""Everything that a grid file can name, from every registry."""

from __future__ import annotations

from typing import Any

from harness.data.datasets import DATASETS
from harness.diffusion.objective import TARGETS, WEIGHTINGS
from harness.diffusion.samplers import SAMPLERS
from harness.diffusion.schedules import SCHEDULES
from harness.diffusion.times import SPACINGS
from harness.metrics.distances import METRICS
from harness.metrics.features import EXTRACTORS
from harness.models.presets import MODELS
from harness.registry import Registry

REGISTRIES: tuple[Registry[Any], ...] = (
    SCHEDULES, SAMPLERS, SPACINGS, TARGETS, WEIGHTINGS, MODELS, DATASETS, EXTRACTORS, METRICS,
)  # fmt: skip


def every_part() -> list[dict[str, Any]]:
    """kind, name, description, origin and options (name -> default) of each part."""
    return [
        {
            "kind": registry.kind,
            "name": name,
            "description": registry.describe(name),
            "origin": registry.origin(name),
            "options": {
                option.name: "required" if option.required else option.default
                for option in registry.options(name)
            },
        }
        for registry in REGISTRIES
        for name in registry
    ]


def as_text(found: list[dict[str, Any]]) -> str:
    """The parts as a page of text, kind by kind."""
    wide = max(len(part["name"]) for part in found)
    lines: list[str] = []
    kind = None
    for part in found:
        if part["kind"] != kind:
            kind = part["kind"]
            lines += ["", f"{kind}s"]
        origin = "" if part["origin"] == "built in" else f"  [{part['origin']}]"
        lines.append(f"  {part['name']:{wide}}  {part['description']}{origin}")
        if part["options"]:
            options = ", ".join(f"{name}={value}" for name, value in part["options"].items())
            lines.append(f"  {'':{wide}}    {options}")
    return "\n".join(lines[1:])
