"""The options of a part, read off its own signature and checked by pydantic.

A part that takes `eta: Annotated[float, Between(0, 1)] = 0.0` by keyword has the option `eta`.
"""

from __future__ import annotations

import inspect
import json
import sys
import typing
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from annotated_types import Ge, GroupedMetadata, Le

from harness.errors import PartFailed

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Schema = dict[str, Any]  # a JSON schema


@dataclass(frozen=True)
class Between(GroupedMetadata):
    """Marks the numbers an option may take: `eta: Annotated[float, Between(0, 1)] = 0.0`."""

    low: float
    high: float

    def __iter__(self) -> Iterator[Any]:
        return iter([Ge(self.low), Le(self.high)])


@dataclass(frozen=True)
class Option:
    """One option that a person may set on a part, read off the part's own signature."""

    name: str
    default: Any  # inspect.Parameter.empty where the option must be given
    annotation: Any = object  # object takes whatever is given

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty

    @cached_property
    def schema(self) -> Schema:
        """The JSON schema of its values: type, bounds, default."""
        schema = {} if self._adapter is None else self._adapter.json_schema()
        if not self.required and is_plain(self.default):
            schema["default"] = plain(self.default)
        return schema

    @property
    def wanted(self) -> str:
        """What may be given, in words."""
        return in_words(self.schema)

    def convert(self, given: Any) -> Any:
        """The value in the option's type. Raises ValueError where it cannot be that: booleans are
        not numbers here, and neither infinity nor NaN is an option's value."""
        if not is_plain(given):
            raise ValueError(f"{shown(given)} is neither a plain value nor a list of them")
        if self._adapter is None:
            return plain(given)
        found = self._adapter.validate_json(json.dumps(given))
        return plain(found if is_plain(found) else given)

    @cached_property
    def _adapter(self) -> TypeAdapter[Any] | None:
        """None where pydantic knows no such type: what a plug-in's own type takes is its affair."""
        from pydantic import ConfigDict, TypeAdapter

        if self.annotation is object:
            return None
        try:
            adapter = TypeAdapter[Any](
                self.annotation, config=ConfigDict(strict=True, allow_inf_nan=False)
            )
            adapter.json_schema()
        except Exception:
            return None
        return adapter


def options_of(part: object, given: Collection[str]) -> list[Option]:
    """The keyword arguments of a part beyond those that the program passes. Raises PartFailed
    where those have other names."""
    if not callable(part):
        return []
    parameters = [
        parameter
        for parameter in inspect.signature(part).parameters.values()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]
    found = [p for p in parameters if p.name not in given]
    is_misnamed = any(p.default is p.empty and p.kind != p.KEYWORD_ONLY for p in found)
    if is_misnamed and not {*given} <= {p.name for p in parameters}:
        raise PartFailed(
            f"its first arguments must be {', '.join(given)}, not "
            f"{', '.join(p.name for p in parameters)}. Use these names, and keywords for options."
        )
    return [Option(p.name, p.default, _annotation(p, part)) for p in found]


def in_words(schema: Schema) -> str:
    """The values that a JSON schema allows: `a number between 0 and 1`."""
    if "enum" in schema or "const" in schema:
        allowed = schema.get("enum", [schema.get("const")])
        return f"one of {', '.join(map(str, allowed))}" if len(allowed) > 1 else str(allowed[0])
    if "anyOf" in schema:
        return " or ".join(in_words(each) for each in schema["anyOf"])
    kinds = {
        "boolean": "true or false", "integer": "a whole number", "number": "a number",
        "string": "a text", "array": "a list", "null": "null",
    }  # fmt: skip
    words = kinds.get(schema.get("type", ""), "a plain value")
    many = {"integer": " of whole numbers", "number": " of numbers", "string": " of texts"}
    words += many.get(schema.get("items", {}).get("type", ""), "")
    if {"minimum", "maximum"} <= schema.keys():
        return f"{words} between {schema['minimum']:g} and {schema['maximum']:g}"
    bounds = {
        "minimum": "at least", "maximum": "at most",
        "exclusiveMinimum": "above", "exclusiveMaximum": "below",
    }  # fmt: skip
    limits = [f"{bound} {schema[key]:g}" for key, bound in bounds.items() if key in schema]
    return " ".join([words, " and ".join(limits)]).strip()


def _annotation(parameter: inspect.Parameter, part: Any) -> Any:
    """The type of an option; object where it cannot be known. Only the annotations of options are
    resolved, never those of what the program passes: they name the types of tensors, and reading a
    grid must not import torch."""
    name, annotation = parameter.name, parameter.annotation
    if annotation is parameter.empty:
        return object
    # The class that declares an inherited option may stand in another module.
    owners = (
        owner for owner in getattr(part, "__mro__", ()) if name in inspect.get_annotations(owner)
    )
    function = inspect.unwrap(vars(part).get("__init__", part) if isinstance(part, type) else part)
    holder = SimpleNamespace(__annotations__={name: annotation})
    try:
        names = vars(sys.modules[next(owners, function).__module__])
        return typing.get_type_hints(holder, names, include_extras=True)[name]
    except Exception:
        return object


def plain(value: Any) -> Any:
    """A value that can be hashed: lists become tuples."""
    return tuple(map(plain, value)) if isinstance(value, list | tuple) else value


def is_plain(value: Any) -> bool:
    """Whether a value can stand in a key: a plain one, or a list of them."""
    items = value if isinstance(value, list | tuple) else [value]
    return all(item is None or isinstance(item, bool | int | float | str) for item in items)


def shown(value: Any) -> str:
    """A value as an error quotes it."""
    try:
        text = repr(value)
    except ValueError:  # Python does not write out numbers of many thousand digits
        return "a number too long to write out"
    return text if len(text) <= 60 else text[:57] + "..."
