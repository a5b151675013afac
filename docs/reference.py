"""The reference of the grid's fields and of the commands, written from the schema and the help."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

import click

from harness.cli import main
from harness.parts import REGISTRIES
from harness.plan.grid import Grid
from harness.registry import plural
from harness.work.outputs import OUTPUTS, schema_of

Schema = Mapping[str, Any]
WITHIN = {"training": "TrainingFields", "include": "Axes"}  # fields that hold fields
NAMES = {tuple(registry.names()): registry.kind for registry in REGISTRIES}


def grid_fields() -> str:
    """A table of the grid's fields, and one of those of its training."""
    schema = Grid.model_json_schema()
    required = {*schema["required"]}
    sections = ["## Fields of a grid", *table(schema["properties"], required)]
    training = schema["$defs"]["TrainingFields"]["properties"]
    sections += ["", "## Fields of `training`", "", *table(training, set())]
    return "\n".join(sections)


def table(fields: Schema, required: set[str]) -> Iterator[str]:
    yield from ("", "| field | what it is | values | default |", "|---|---|---|---|")
    for name, field in fields.items():
        what = field.get("description") or "How each network is trained, in fields of its own"
        default = "**must be given**" if name in required else default_of(name, field)
        yield f"| `{name}` | {cell(what)} | {cell(values(name, field))} | {default} |"


def default_of(name: str, field: Schema) -> str:
    value = field.get("default")
    if value is None:
        return "–" if name in WITHIN else "chosen by the data"
    if value in ([], ""):
        return "none"
    number = isinstance(value, int) and not isinstance(value, bool)
    return f"`{value:,}`" if number else f"`{json.dumps(value)}`".replace('"', "")


def values(name: str, field: Schema) -> str:
    """What may be given, in words; parts by their kind."""
    if name == "training":
        return "[its own fields](#fields-of-training)"
    if name in ("include", "exclude"):
        return "a list of fields with other values"
    found = [*dict.fromkeys(kinds(field))]
    several = is_list(field)
    return " or ".join(found) + (f"; {several}" if several else "")


def is_list(field: Schema) -> str:
    if field.get("type") == "array":
        return "a list"
    return "one or a list" if any(is_list(each) for each in field.get("anyOf", ())) else ""


def kinds(field: Schema) -> Iterator[str]:
    """Each kind of value, once or more."""
    for each in (*field.get("anyOf", ()), *([field["items"]] if "items" in field else ())):
        yield from kinds(each)
    if "enum" in field:
        yield from enumerated([str(value) for value in field["enum"]])
    elif field.get("type") in ("integer", "number"):
        kind = "a whole number" if field["type"] == "integer" else "a number"
        yield kind + bounds(field)
    elif field.get("type") == "boolean":
        yield "`true` or `false`"
    elif "pattern" in field:
        yield "letters, digits, `.`, `_` and `-`"


def enumerated(names: list[str]) -> Iterator[str]:
    """Names as a link to the parts of their kind, or as they are."""
    for known, kind in NAMES.items():
        parts = [name for name in names if name in known]
        if len(parts) > 1 and len(names) - len(parts) <= 1:
            yield from (f"`{name}`" for name in names if name not in known)
            yield f"[{article(kind)} {kind.replace('_', ' ')}](method.md#{anchor(kind)})"
            return
    yield ", ".join(f"`{name}`" for name in names)


def article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"


def anchor(kind: str) -> str:
    """Of the parts of a kind on the page of the method."""
    return plural(kind).replace("_", "-")


def bounds(field: Schema) -> str:
    low = field.get("minimum", field.get("exclusiveMinimum"))
    high = field.get("maximum", field.get("exclusiveMaximum"))
    above = "above" if "exclusiveMinimum" in field else "from"
    below = "below" if "exclusiveMaximum" in field else "to"
    said = [f"{above} {shown(low)}"] * (low is not None) + [f"{below} {shown(high)}"] * (
        high is not None
    )
    return f" {' '.join(said)}" if said else ""


def shown(number: float) -> str:
    return "2³²" if number == 2**32 else f"{number:,}"


def cell(text: str) -> str:
    """As a cell of a table; names of fields and values in the type of code."""
    text = re.sub(r"\b(x_0)\b", "x₀", text)
    return text.replace("|", "\\|")


def commands() -> str:
    """Each command with its help, its options and its examples."""
    context = click.Context(main, info_name="harness", **main.context_settings)
    return "\n".join(
        line
        for name in main.list_commands(context)
        for line in command(name, main.commands[name], context)
    )


def command(name: str, found: click.Command, above: click.Context) -> Iterator[str]:
    context = click.Context(found, info_name=name, parent=above)
    text, _, examples = (found.help or "").replace("\b", "").partition("Example:")
    usage = " ".join([context.command_path, *found.collect_usage_pieces(context)])
    yield from (f"## harness {name}", "", f"`{usage}`", "", prose(text), "")
    yield from (
        "```sh",
        *(line.strip() for line in examples.splitlines() if line.strip()),
        "```",
        "",
    )
    options = [each for each in found.get_params(context) if isinstance(each, click.Option)]
    yield from ("| option | what it does |", "|---|---|")
    for option in options:
        names, _ = option.get_help_record(context) or ("", "")
        yield f"| {in_code(names)} | {cell(what_it_does(option, context))} |"
    yield from ("", *as_json(name))


def as_json(command: str) -> Iterator[str]:
    """What a command prints for programs, as a table that opens."""
    if command in OUTPUTS:
        yield from (f'??? note "What `harness {command} --json` prints"', "")
        yield from (f"    {line}" for line in json_table(schema_of(command)))
        yield ""


def json_table(schema: Schema) -> Iterator[str]:
    yield from ("| field | type | what it is |", "|---|---|---|")
    for path, kind, what in json_fields(schema, schema):
        yield f"| `{path}` | {kind} | {cell(what)} |"


def json_fields(schema: Schema, whole: Schema, above: str = "") -> Iterator[tuple[str, str, str]]:
    """Path, type and description of each field of an object, those of objects in it included."""
    for name, field in schema.get("properties", {}).items():
        path = f"{above}{name}"
        yield path, kind_of(field, whole), field.get("description", "")
        for within, mark in held(field, whole):
            yield from json_fields(within, whole, f"{path}{mark}.")


def held(field: Schema, whole: Schema) -> Iterator[tuple[Schema, str]]:
    """The objects that a field holds, and how a path says so."""
    if "$ref" in field:
        yield whole["$defs"][field["$ref"].rpartition("/")[2]], ""
    for each in field.get("anyOf", ()):
        yield from held(each, whole)
    for key, mark in (("items", "[]"), ("additionalProperties", "[name]")):
        if isinstance(within := field.get(key), dict):
            yield from ((found, mark + more) for found, more in held(within, whole))


def kind_of(field: Schema, whole: Schema) -> str:
    """The type of a JSON value in words."""
    if "$ref" in field:
        return kind_of(whole["$defs"][field["$ref"].rpartition("/")[2]], whole)
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(kind_of(each, whole) for each in field["anyOf"]))
    if "enum" in field or "const" in field:
        return ", ".join(f"`{each}`" for each in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        return f"list of {kind_of(field.get('items', {}), whole)}"
    words = {"string": "text", "integer": "whole number", "boolean": "true or false"}
    kind = str(field.get("type", "value"))
    return words.get(kind, kind)


def in_code(text: str) -> str:
    """As code in a cell of a table, where Markdown has no way to write a bar."""
    named = re.sub(r" (INTEGER|FLOAT) RANGE", " N", text)
    return ", ".join(
        f"<code>{escape(each).replace('|', '&#124;')}</code>" for each in named.split(", ")
    )


def what_it_does(option: click.Option, context: click.Context) -> str:
    """The help of an option, with its bounds and its default."""
    told = [re.sub(r"\s*\[default: (.*)\]", r" Default: \1.", option.help or "")]
    low, high = getattr(option.type, "min", None), getattr(option.type, "max", None)
    if low is not None:
        told.append(f"At least {low:,}." if high is None else f"From {low:,} to {high:,}.")
    if option.show_default and not option.is_flag:
        told.append(f"Default: {option.get_default(context)}.")
    elif option.required:
        told.append("Must be given.")
    return " ".join(told)


def prose(text: str) -> str:
    """Paragraphs of a help text, one line each; fields and statuses as they are."""
    paragraphs = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(re.sub(r"\s+", " ", each.replace("\b", "")) for each in paragraphs)
