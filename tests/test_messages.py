"""What is said to a person: every error ends in what to do, and no word has to be learnt first."""

import ast
import re

import made
import pytest
from test_layers import MODULES, name_of

from harness.errors import GridError
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


def test_a_metric_without_a_value_is_told_as_not_defined():
    found = made.result(kid=0.25, mine=float("nan"), undefined={"fid": "too few"})
    assert in_short(found, ["kid", "fid", "mine"]) == "kid 0.25  fid not defined  mine not defined"
