"""The options of a part, read off its own signature and checked by pydantic.

A part that takes `eta: Annotated[float, Between(0, 1)] = 0.0` by keyword has the option `eta`.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import TYPE_CHECKING, Any

from annotated_types import Ge, GroupedMetadata, Le

from harness.errors import Ended, PartFailed, reason_of
from harness.registry.annotation import option_type

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
        if not self.required and is_plain(self.default) and is_json(self.default):
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
        except Ended:
            raise
        except (Exception, SystemExit):
            return None
        return adapter


def options_of(part: object, given: Collection[str]) -> list[Option]:
    """The keyword arguments of a part beyond those that the program passes. Raises PartFailed
    where those have other names."""
    if not callable(part):
        return []
    try:
        signature = inspect.signature(part)
    except (TypeError, ValueError) as error:
        raise PartFailed(f"{reason_of(error)}. Use a function that is written in Python.") from None
    parameters = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]
    found = [p for p in parameters if p.name not in given]
    is_misnamed = any(p.default is p.empty and p.kind != p.KEYWORD_ONLY for p in found)
    if is_misnamed and not {*given} <= {p.name for p in parameters}:
        raise PartFailed(
            f"its first arguments must be {', '.join(given)}, not "
            f"{', '.join(p.name for p in parameters)}. Use these names, and keywords for options."
        )
    return [Option(p.name, p.default, option_type(p, part)) for p in found]


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


def plain(value: Any) -> Any:
    """A value that can be hashed: lists become tuples."""
    return tuple(map(plain, value)) if isinstance(value, list | tuple) else value


def is_plain(value: Any) -> bool:
    """Whether a value can stand in a key: a plain one, or a list of them."""
    items = value if isinstance(value, list | tuple) else [value]
    return all(item is None or isinstance(item, bool | int | float | str) for item in items)


def is_json(value: Any) -> bool:
    """Whether JSON has this plain value: it has neither infinity nor NaN."""
    items = value if isinstance(value, list | tuple) else [value]
    return all(isfinite(item) for item in items if isinstance(item, float))


def shown(value: Any) -> str:
    """A value as an error quotes it."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python does not write out numbers of many thousand digits
        return "a number too long to write out"
    except Exception:  # what another package gives need not be able to tell what it is
        return f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."
