"""What is said to a person: every error ends in what to do, and no word has to be learnt first."""

import ast
import re

import made
import pytest
from test_layers import MODULES, PACKAGE, name_of

from harness.errors import GridError, installing
from harness.jobs import in_short
from harness.plan.grid import load_grid

VERBS = (
    "Use|Get|Give|Copy|Put|Set|Take|Draw|Hold|Make|Delete|Remove|Replace|Restore|Run|Start|See|Name"
)
ENDS = (
    rf"(^|[.:?}}] )({VERBS})\b[^\n]*$",  # a sentence that begins so
    r"must be .*, not \{[^}]*\}$",
    r"\{.*\}\.?$",  # what is worked out where the message is made
    r"\{remedy\}",
)
WHAT_TO_DO = re.compile("|".join(ENDS), re.DOTALL)
# Not the end of anything: what they are part of says what to do.
PARTS_OF_OTHERS = {
    "downloads": "would be downloaded into",  # in a note of a plan
    "tracking.client": "does not answer",  # in a line that says what happens meanwhile
}
PRIVATE = re.compile(
    r"\b(luck|yardstick|fore(told|seen)|elsewhere sampled|ways? of making images|laws?|recipes? of"
    r"|contrast|too little among|decides nothing)\b"
)


def strings_of(node):
    """The text that an expression gives, what is filled in as {code}."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(strings_of, node.values))
    if isinstance(node, ast.FormattedValue):
        return f"{{{ast.unparse(node.value)}}}"
    if isinstance(node, ast.BinOp):
        return strings_of(node.left) + strings_of(node.right)
    return f"{{{ast.unparse(node)}}}"


def called(node):
    return getattr(node, "id", getattr(node, "attr", ""))


TREES = {path: ast.parse(path.read_text()) for path in MODULES}


def our_errors():
    """The names of HarnessError and of all that are made from it."""
    found = {"HarnessError"}
    classes = [n for t in TREES.values() for n in ast.walk(t) if isinstance(n, ast.ClassDef)]
    for _ in range(5):  # one made from one made from ...
        found |= {one.name for one in classes if {called(base) for base in one.bases} & found}
    return found


ERRORS = our_errors()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_error_says_what_to_do(path):
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Call) and called(node.func) in ERRORS and node.args:
            told = strings_of(node.args[0])
            if (part := PARTS_OF_OTHERS.get(name_of(path))) and part in told:
                continue
            assert WHAT_TO_DO.search(told), f"line {node.lineno}: {told!r} ends without 'Use ...'"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_is_said_in_words_of_our_own(path):
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(TREES[path])
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            is_sentence = " " in node.value and id(node) not in docstrings
            assert not (is_sentence and PRIVATE.search(node.value)), f"line {node.lineno}"


@pytest.mark.parametrize(
    ("value", "told"),
    [(".nan", "nan is not a number"), (".inf", "inf is too high. Use less than 10.")],
)
def test_a_number_out_of_bounds_is_told_with_the_bound(grid_file, value, told):
    with pytest.raises(GridError, match=re.escape(told)):
        load_grid(grid_file, [f"training.learning_rate={value}"])


@pytest.mark.parametrize(
    ("python", "has_pip", "told"),
    [
        ("here/.venv/bin/python", True, ".venv/bin/python -m pip install timm"),
        ("here/.venv/bin/python", False, "uv pip install --python .venv/bin/python timm"),
        ("else where/python", True, '"{}/else where/python" -m pip install timm'),
    ],
)
def test_a_missing_package_goes_where_this_program_is(tmp_path, monkeypatch, python, has_pip, told):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("sys.executable", str(tmp_path / python))
    monkeypatch.setattr("harness.errors.find_spec", lambda name: name if has_pip else None)
    assert installing("timm") == told.format(tmp_path)


def test_nobody_is_sent_to_an_index_for_a_package_of_our_name():
    for path in (*MODULES, *PACKAGE.parent.glob("docs/pages/*.md"), PACKAGE.parent / "README.md"):
        assert not re.search(r"install [^.\n]*\bharness\[", path.read_text()), path


def test_a_metric_without_a_value_is_told_as_not_defined():
    found = made.result(kid=0.25, mine=float("nan"), undefined={"fid": "too few"})
    assert in_short(found, ["kid", "fid", "mine"]) == "kid 0.25  fid not defined  mine not defined"
