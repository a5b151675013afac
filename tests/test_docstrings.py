"""What computes something says so: what it gives, in which shapes, what it raises, and from where.

Contracts are stated once: what a registry tells of its parts, a class of its call, a base class of
its methods, an alias of its arrays and a line `Shapes:` of its module, no function says again.
"""

import ast
import inspect
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import harness.errors
from harness.errors import HarnessError
from harness.parts import REGISTRIES, info

PACKAGE = Path(__file__).parent.parent / "harness"
FOLDERS = ("diffusion", "metrics", "analysis", "engine", "models", "data")
MODULES = sorted(path for folder in FOLDERS for path in (PACKAGE / folder).rglob("*.py"))
# Of another package's classes, or told by their names: plain values for a file or a screen.
KNOWN = {"as_json", "as_text", "from_json", "forward", "work", "works"}
ARRAYS = re.compile(r"\b(Tensor|NDArray|ndarray)\b")
# `[N, C, H, W]`, `[T]`; of what has no shape of its own, words.
SHAPE = re.compile(r"\[[A-Za-z0-9.][^\]\n]*\]|any shape|0-d|scalar|shaped like|broadcast|its shape")
ERRORS = {
    name for name, value in vars(harness.errors).items()
    if isinstance(value, type) and issubclass(value, HarnessError)
}  # fmt: skip
OF_THE_METHOD = {"schedule", "sampler", "spacing", "target", "weighting", "time_density", "loss",
                 "clip", "metric"}  # fmt: skip
YEAR = re.compile(r"\b(19|20)\d\d[ab]?\b")
# Plain definitions, without a paper to name, and formulas of this program.
OWN = {
    "mae", "mse",  # the mean of a square and of an absolute value
    "explicit",  # what a person wrote
    "uniform", "angle",  # even steps
    "signal_linear", "noise_linear",  # one rate that falls evenly
    "memorisation",  # its docstring says how it is counted
    "image",  # x_0 itself
}  # fmt: skip


@dataclass(frozen=True)
class Public:
    """A public function, method or class, and what is said around it."""

    path: Path
    name: str
    node: ast.FunctionDef | ast.ClassDef
    owner: ast.ClassDef | None

    def __str__(self):
        return f"{self.path.relative_to(PACKAGE)}:{self.node.lineno} {self.name}"

    @property
    def doc(self):
        return ast.get_docstring(self.node) or ""

    @property
    def is_told_by_its_base(self):
        return self.owner is not None and self.node.name in methods_of_bases(self.owner)


@cache
def trees():
    return {path: ast.parse(path.read_text()) for path in MODULES}


@cache
def everything():
    def inside(path, body, owner=None):
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
                name = f"{owner.name}.{node.name}" if owner else node.name
                yield Public(path, name, node, owner)
                if isinstance(node, ast.ClassDef):
                    yield from inside(path, node.body, node)

    return [one for path, tree in trees().items() for one in inside(path, tree.body)]


@cache
def classes():
    return {one.node.name: one.node for one in everything() if isinstance(one.node, ast.ClassDef)}


def methods_of_bases(owner):
    """The methods that the classes above a class document, protocols that it keeps included."""
    found = set()
    for base in map(ast.unparse, owner.bases):
        if above := classes().get(base.split("[")[0]):
            found |= {n.name for n in above.body if isinstance(n, ast.FunctionDef)
                      and ast.get_docstring(n)} | methods_of_bases(above)  # fmt: skip
    return found


def functions():
    return [one for one in everything() if isinstance(one.node, ast.FunctionDef)]


@cache
def registered():
    """The functions whose registry tells the shapes that parts of its kind take and give."""
    return {
        inspect.unwrap(registry[name]).__name__
        for registry in REGISTRIES if SHAPE.search(registry.contract)
        for name in registry if hasattr(registry[name], "__name__")
    }  # fmt: skip


def annotations(node):
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return " ".join(
        ast.unparse(each) for each in [*(one.annotation for one in arguments), node.returns] if each
    )


def shapes_around(one):
    """What the class of a method and its module say of shapes."""
    module = ast.get_docstring(trees()[one.path]) or ""
    of_module = module.partition("Shapes:")[2]
    return [one.doc, ast.get_docstring(one.owner) or "" if one.owner else "", of_module]


def raised_by(node):
    """The errors of ours that stand in a function itself."""
    for each in ast.walk(node):
        if isinstance(each, ast.Raise) and isinstance(each.exc, ast.Call):
            name = ast.unparse(each.exc.func).split(".")[-1]
            if name in ERRORS:
                yield name


def test_every_public_name_says_what_it_is():
    silent = [
        str(one) for one in everything()
        if not one.doc and one.node.name not in KNOWN and not one.is_told_by_its_base
    ]  # fmt: skip
    assert silent == []


def test_what_takes_or_gives_arrays_says_their_shapes():
    silent = [
        str(one) for one in functions()
        if ARRAYS.search(annotations(one.node))
        and one.node.name not in registered()
        and not one.is_told_by_its_base
        and not any(map(SHAPE.search, shapes_around(one)))
    ]  # fmt: skip
    assert silent == []


def test_what_raises_an_error_of_ours_names_it():
    silent = [
        f"{one} raises {name}" for one in functions() if not one.is_told_by_its_base
        for name in sorted({*raised_by(one.node)}) if name not in one.doc
    ]  # fmt: skip
    assert silent == []


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_a_part_of_the_method_names_its_paper_where_harness_parts_shows_it(registry):
    if registry.kind in OF_THE_METHOD:
        told = {name: info(registry, name) for name in registry}
        assert [
            name for name, part in told.items()
            if name not in OWN and not YEAR.search(f"{part.description} {part.formula}")
        ] == []  # fmt: skip
