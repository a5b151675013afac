"""The layout is the architecture: a module may import only from the floors below its own."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

FLOORS = [
    {"cli"},
    {"api", "doctor"},
    {"bench", "parts"},
    {"preview", "run", "status", "stored", "starter"},
    {"until", "clean"},
    {"jobs", "interim", "reporting"},
    {"plan", "tracking", "report", "contracts"},
    {"analysis", "engine"},
    {"execute", "store", "data", "models", "diffusion", "metrics"},
    {"work", "registry", "downloads", "lock", "execute.machine"},
    {"errors", "lazy", "lines", "work.execution"},
]
ONLY_HOMES = {
    "mlflow": {"tracking"},
    "click": {"cli"},
    "pydantic": {"plan", "work", "registry", "report.page"},
    "annotated_types": {"registry"},
    "pydantic_core": {"plan"},
    "ruamel": {"plan.grid_file"},
    "seaborn": {"report"},
    "matplotlib": {"report", "api"},  # which gives its figures away
    "jinja2": {"report"},
    "markdown_it": {"report"},
    "torch_fidelity": {"metrics"},
    "torchvision": {"data"},
    "timm": {"metrics"},
    "diffusers": {"models"},
    "pooch": {"downloads"},
    "rich": {"execute.screen", "execute.notebook", "cli", "bench"},
    "filelock": {"lock"},
    "uvicorn": {"tracking"},
    "ray": {"execute.ray", "execute.ray_node"},
}
WITHOUT_TORCH = ("report", "tracking", "plan", "data", "cli", "run", "jobs", "parts",
                 "work", "analysis", "stored", "store")  # fmt: skip
NEVER_TORCH = ("report", "tracking", "plan", "parts", "work", "analysis")
PURE = {"__future__", "abc", "bisect", "collections", "dataclasses", "fractions", "functools",
        "harness", "inspect", "itertools", "math", "torch", "typing"}  # fmt: skip
PACKAGE = Path(__file__).parent.parent / "harness"
MODULES = sorted(
    path for path in PACKAGE.rglob("*.py")
    if path != PACKAGE / "__init__.py" and path.stem != "__main__"  # one line that calls cli
)  # fmt: skip


def name_of(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def imports(path, top_level_only=False):
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def floor_of(module):
    """The number of a module's floor, from the top; of its own name, else of its folder's."""
    for part in (module, module.split(".")[0]):
        for number, floor in enumerate(FLOORS):
            if part in floor:
                return number
    raise AssertionError(f"harness/{module.replace('.', '/')} stands on no floor: give it one")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down(path):
    module = name_of(path)
    for imported in imports(path):
        if not imported.startswith("harness."):
            continue
        target = imported.removeprefix("harness.")
        same_folder = target.split(".")[0] == module.split(".")[0]
        assert same_folder or floor_of(target) > floor_of(module), (
            f"harness/{module.replace('.', '/')} may not import {imported}"
        )


def edges_in(folder):
    """Which module of a folder imports which other one of it when it is loaded."""
    inside = {name_of(path): path for path in MODULES if name_of(path).startswith(f"{folder}.")}
    return {
        name: {
            target
            for imported in imports(path, top_level_only=True)
            if (target := str(imported).removeprefix("harness.")) in inside
        }
        for name, path in inside.items()
    }


@pytest.mark.parametrize("folder", sorted({name_of(path).split(".")[0] for path in MODULES
                                           if "." in name_of(path)}))  # fmt: skip
def test_no_folder_has_a_circle_of_imports(folder):
    left = edges_in(folder)
    while free := [name for name, targets in left.items() if not targets & left.keys()]:
        for name in free:
            del left[name]
    assert not left, f"these import each other: {sorted(left)}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_each_library_has_its_home(path):
    module = name_of(path)
    for imported in imports(path):
        homes = ONLY_HOMES.get(imported.split(".")[0])
        if homes:
            assert {module, module.split(".")[0]} & homes, (
                f"{imported} belongs in {' and '.join(sorted(homes))} only"
            )


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_what_must_answer_at_once_does_not_import_torch(path):
    if name_of(path).split(".")[0] in (*WITHOUT_TORCH, "diffusion"):
        top = {str(imported).split(".")[0] for imported in imports(path, top_level_only=True)}
        assert "torch" not in top


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_what_reads_and_tells_never_imports_torch(path):
    if name_of(path).split(".")[0] in NEVER_TORCH:
        found = {str(imported) for imported in imports(path)}
        assert not {"torch", "harness.lazy"} & (found | {name.split(".")[0] for name in found})


def test_the_story_and_the_report_load_without_torch():
    script = (
        "import sys, harness.run, harness.stored, harness.parts;"
        "import harness.report.page, harness.report.findings.catalogue;"
        "print(sorted({'torch', 'torchvision', 'torch_fidelity', 'sklearn'} & {*sys.modules}))"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "[]"


@pytest.mark.parametrize("path", sorted((PACKAGE / "diffusion").rglob("*.py")), ids=name_of)
def test_the_method_needs_nothing_but_mathematics(path):
    assert {imported.split(".")[0] for imported in imports(path)} <= PURE


@pytest.mark.parametrize("path", sorted((PACKAGE / "diffusion").rglob("*.py")), ids=name_of)
def test_the_method_knows_nothing_of_how_it_is_run(path):
    code = re.sub(r'""".*?"""|#[^\n]*', "", path.read_text(), flags=re.DOTALL)
    for word in ("open(", "Path", "cuda", "no_grad", "manual_seed", "randn", "print(", "tqdm"):
        assert word not in code, f"{word} in {path.name}"
    if path.name in ("samplers.py", "times.py") or path.parent.name == "schedules":
        assert not re.search(r"\b(model|network|clip|velocity|seed)\b", code)


def test_nothing_is_pickled():
    for path in MODULES:
        assert not re.search(r"\btorch\.(save|load)\(|import pickle", path.read_text()) or (
            name_of(path)
            in (
                "metrics.inception",
                "metrics.pretrained",
            )  # torch-fidelity's loader wants one, in memory
        )
