"""A grid file as it is read: YAML 1.2 to plain values, and what is wrong with them in words."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, MaxDepthExceededError
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError

from harness.errors import GridError, at_most, suggestion
from harness.registry.signature import shown
from harness.work.options import CHANGED

LARGEST_FILE = 200_000  # bytes
MOST_VALUES = 15_000  # keys included
DEEPEST = 50  # lists and mappings within each other
MOST_PROBLEMS = 30  # told at once


class OfAPerson(Composer):
    """Refuses what a small file could use to stand for a huge one, anchors and their aliases, and
    more values than a person writes: the parser takes 0.1 ms for each."""

    values = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.parser.peek_event()
        self.values += 1
        if getattr(event, "anchor", None) is not None:
            told = "anchors and aliases (&name, *name) are not read here. Use the value itself."
            raise MarkedYAMLError(problem=told, problem_mark=event.start_mark)
        if self.values > MOST_VALUES:
            told = f"here are more than {MOST_VALUES:,} values. Use shorter lists."
            raise MarkedYAMLError(problem=told, problem_mark=event.start_mark)
        return super().compose_node(parent, index)


def read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)  # /dev/zero has no end
        if len(content) > LARGEST_FILE:
            raise GridError(
                f"{path} is larger than {LARGEST_FILE:,} bytes and no grid file. Use a smaller one."
            )
        return content.decode("utf-8")
    except (OSError, ValueError) as error:
        if isinstance(error, UnicodeDecodeError):
            raise GridError(f"the grid {path} is not text in UTF-8. Use that encoding.") from None
        told = getattr(error, "strerror", None) or error
        raise GridError(
            f"the grid {path} cannot be read: {told}. Use the path of a grid file, such as "
            "runs/digits.yaml."
        ) from None


def fields_of(text: str, where: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The fields of a grid with what the command line changes; messages call it `where`."""
    fields = parsed(text, where)
    if not isinstance(fields, dict):
        raise GridError(f"{where} is not a valid grid. Use `field: value` lines.")
    for override in overrides:
        apply(fields, override)
    return fields


def parsed(text: str, where: str) -> Any:
    """YAML to plain values. Raises GridError with the line."""
    reader = YAML(typ="safe", pure=True)
    reader.Composer = OfAPerson
    reader.max_depth = DEEPEST
    try:
        return reader.load(text)
    except (MaxDepthExceededError, RecursionError):
        raise GridError(
            f"{where} is not a grid: it is nested too deeply. Use fewer levels."
        ) from None
    except MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        told = str(error.problem or error.note or error)
        if isinstance(error, DuplicateKeyError):
            told = re.sub(
                r'.*?duplicate key "(.*?)" with.*', r"the field '\1' is given twice", told
            )
        told = told.splitlines()[0].replace("'<stream end>'", "the end")
        remedy = "" if "Use " in told else ". Use `field: value` lines, as in runs/digits.yaml"
        raise GridError(f"{where}{line}: {told}{remedy}") from None
    except Exception as error:  # the parser's own constructors raise what they happen to
        told = (str(error).splitlines() or [type(error).__name__])[0]
        raise GridError(f"{where} is not YAML: {told}. Use quotes around such a text.") from None


def apply(fields: dict[str, Any], override: str) -> None:
    """Set one `field.field=value`."""
    name, equals, value = override.partition("=")
    if not equals or not name:
        raise GridError(
            f"'{override}' is not of the form field=value. Use such as training.steps=200."
        )
    *above, last = name.split(".")
    for step in above:
        fields = fields.setdefault(step, {})
        if not isinstance(fields, dict):
            raise GridError(f"'{override}': '{step}' has no fields within it. Use {step}=....")
    try:
        fields[last] = parsed(value, f"'{override}'")
    except GridError as error:
        raise GridError(
            f"{error}. Use a value as in a grid file, and quotes around all of it where it has "
            "brackets or spaces, such as 'steps=[5,10]'."
        ) from None


def as_override(name: str, value: object) -> Iterator[str]:
    """What sets a field to a value of Python. Fields that belong to no named part are set one by
    one, so that `training={"steps": 200}` leaves the rest of the training as it is."""
    if isinstance(value, Mapping) and value and "name" not in value:
        for field, inner in value.items():
            yield from as_override(f"{name}.{field}", inner)
    else:
        yield f"{name}={as_yaml(value, in_one_line=True)}"


def as_yaml(value: object, in_one_line: bool = False) -> str:
    """A value of Python as a grid file has it. Raises GridError where YAML has no such value."""
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = True if in_one_line else None
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    writer.width = 10 * LARGEST_FILE if in_one_line else 100
    text = io.StringIO()
    writer.dump(plain(value), text)
    return text.getvalue().removesuffix("...\n").rstrip("\n") + "\n" * (not in_one_line)


def plain(value: object) -> object:
    """The value in lists, mappings, numbers and text. Raises GridError for any other."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # of numpy
        return plain(value.tolist())
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [plain(inner) for inner in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise GridError(
        f"a value of type {type(value).__name__} cannot stand in a grid. Use numbers, texts, lists "
        "and dicts."
    )


def changed(overrides: Sequence[str]) -> str:
    """Comment lines that tell what the command line changed."""
    return "".join(f"{CHANGED}{line}\n" for override in overrides for line in override.splitlines())


def words_of(
    error: ValidationError,
    where: str,
    model: type[BaseModel],
    within: Mapping[tuple[str, ...], type[BaseModel]],
) -> str:
    """Every problem that was found with the fields of a model; some hold fields `within`."""
    found = error.errors(include_url=False)
    told = at_most(found, MOST_PROBLEMS, lambda each: in_words(each, model, within))
    return "\n  ".join([f"{where} is not a valid grid:", *told])


PLAINLY = {
    "list_type": "must be a list, not {given}. Use such as [a, b].",
    "too_short": "must have at least 1 item, not {given}. Use such as [a].",
    "too_long": "has too many items. Use at most {max_length}.",
    "model_type": "must be fields, not {given}. Use such as {{steps: 200}}.",
    "string_pattern_mismatch": "cannot be {given}. Use 1 to 100 letters, digits, '.', '_' or '-', "
    "beginning with a letter or digit.",
    "greater_than_equal": "{given} is too low. Use {ge} or more.",
    "greater_than": "{given} is too low. Use more than {gt}.",
    "less_than_equal": "{given} is too high. Use {le} or less.",
    "less_than": "{given} is too high. Use less than {lt}.",
    "int_type": "{given} is not a whole number. Use one without quotes or a point.",
    "float_type": "{given} is not a number. Use one without quotes.",
    "bool_type": "{given} is neither true nor false. Use one of these.",
    "string_type": "{given} is not a text. Use quotes around it.",
    "literal_error": "cannot be {given}. Use {expected}.",
}
MISSING = {
    "extractor": "`digits` for the digits, `inception` (downloads) for photos, or `pixels` for a "
    "quick look"
}


def in_words(
    error: ErrorDetails, model: type[BaseModel], within: Mapping[tuple[str, ...], type[BaseModel]]
) -> str:
    """One problem as a person reads it: where, what was given, what to use."""
    is_unknown = error["type"] == "extra_forbidden"  # the last step is what a person wrote
    last = str(error["loc"][-1]) if error["loc"] else ""
    path = [step for step in error["loc"][: -1 if is_unknown else None] if not is_machinery(step)]
    path += [last or "''"] * is_unknown
    if len(path) > 1 and isinstance(path[-1], int):
        path.pop()  # the value itself is quoted
    place = ".".join(map(str, path))
    if is_unknown:
        model = within.get(tuple(step for step in path[:-1] if isinstance(step, str)), model)
        return f"{place}: there is no such field.{suggestion(last, list(model.model_fields))}"
    if error["type"] == "missing":
        if place in MISSING:
            return f"{place} is missing: {MISSING[place]}"
        [example, *_] = model.model_fields[last].examples or ["..."]
        return f"{place} is missing. Use such as {place}: {written(example)}."
    if error.get("input") != error.get("input"):  # NaN, which is neither too low nor too high
        return f"{place}: nan is not a number. Use one."
    if error["type"] in PLAINLY:
        bounds = {
            name: int(bound) if isinstance(bound, float) and bound.is_integer() else bound
            for name, bound in error.get("ctx", {}).items()
        }
        words = PLAINLY[error["type"]].format(**bounds, given=shown(error.get("input")))
        return f"{place}: {words}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] != "value_error":
        message = f"{message[0].lower()}{message[1:]}, not {shown(error.get('input'))}"
    return f"{place}: {message}" if place else message


def written(example: object) -> str:
    """An example as YAML writes it."""
    return f"[{', '.join(map(str, example))}]" if isinstance(example, list) else str(example)


def is_machinery(step: int | str) -> bool:
    """Whether a step of pydantic's path names a branch of a type and not a field."""
    return isinstance(step, str) and bool(re.search(r"[\[\](]|^literal|^function", step))
