"""The type of an option, from what a part's signature says of it.

Text in the place of a type is looked up, never run: only names, the brackets of types and bounds
such as `Between(0, 1)` are read.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import operator
import sys
import typing
from collections.abc import Mapping
from typing import Annotated, Any, ForwardRef, Literal

from harness.errors import Ended, PartFailed, legible

BOUNDS = frozenset({"annotated_types", "pydantic", "harness"})  # packages whose classes bound types

# Types by `|`, and bounds that are worked out.
BETWEEN = {
    ast.BitOr: operator.or_, ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.Pow: operator.pow,
}  # fmt: skip


def option_type(parameter: inspect.Parameter, part: Any) -> Any:
    """The type of an option; object where it cannot be known. Raises PartFailed where code stands
    in its place. Only the annotations of options are resolved, never those of what the program
    passes: they name the types of tensors, and reading a grid must not import torch."""
    name, annotation = parameter.name, parameter.annotation
    if annotation is parameter.empty:
        return object
    # The class that declares an inherited option may stand in another module.
    owners = (
        owner for owner in getattr(part, "__mro__", ()) if name in inspect.get_annotations(owner)
    )
    function = inspect.unwrap(vars(part).get("__init__", part) if isinstance(part, type) else part)
    try:
        if isinstance(annotation, str):
            names = vars(sys.modules[next(owners, function).__module__])
            annotation = _meant(ast.parse(annotation.strip(), mode="eval").body, names)
        return annotation if _is_settled(annotation) else object
    except _Code:
        raise PartFailed(
            f"its option '{name}' is annotated with {legible(parameter.annotation)}, which is "
            "code and no type. Use a type, such as int or Annotated[float, Between(0, 1)]."
        ) from None
    except Ended:
        raise
    except (Exception, SystemExit):
        return object


class _Code(Exception):
    """An annotation that would have to be run."""


def _meant(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """What the text of an annotation stands for. Raises _Code where it would have to be run."""

    def of(inner: ast.expr) -> Any:
        return _meant(inner, names)

    found: Any
    match node:
        case ast.Name(name):
            found = names[name] if name in names else getattr(builtins, name)
        case ast.Attribute(value, name):
            found = getattr(of(value), name)
        case ast.Constant(value):
            found = value
        case ast.Tuple(items):
            found = tuple(map(of, items))
        case ast.List(items):
            found = list(map(of, items))
        case ast.Subscript(value, index):
            found = of(value)[of(index)]
        case ast.BinOp(left, symbol, right) if type(symbol) in BETWEEN:
            found = BETWEEN[type(symbol)](of(left), of(right))
        case ast.UnaryOp(ast.USub(), value):
            found = -of(value)
        case ast.Call(function, given, keywords) if _is_bound(bound := of(function)):
            found = bound(*map(of, given), **{str(each.arg): of(each.value) for each in keywords})
        case _:
            raise _Code
    return found


def _is_bound(called: Any) -> bool:
    package = str(getattr(called, "__module__", "")).partition(".")[0]
    is_named = isinstance(called, type) or getattr(called, "__name__", "") == "Field"
    return is_named and package in BOUNDS


def _is_settled(annotation: Any) -> bool:
    """Whether no text is left in a type, which pydantic would run."""
    if isinstance(annotation, str | ForwardRef):
        return False
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return True
    return all(map(_is_settled, inner[:1] if origin is Annotated else inner))
