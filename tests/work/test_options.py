"""Where a report is written, and by which command."""

import shlex
from pathlib import Path

import pytest

from harness.work.options import command_of, report_folder


@pytest.mark.parametrize(
    ("overrides", "folder"),
    [
        ([], "digits"),
        (["steps=[5, 10]"], "digits--steps=5,10"),
        (["training.steps=9", "schedules=[cosine]"], "digits--schedules=cosine--training.steps=9"),
        (["data={path: ../my/images}"], "digits--data=path,..,my,images--01d005b1"),
        (["d=[1,2]", "c=4", "b=3", "a=long"], "digits--a=long--b=3--and-2-more--67efaf88"),
        (["name=digits", "steps=[5]"], "digits"),
    ],
)  # fmt: skip
def test_what_the_command_line_changes_has_a_folder_of_its_own(overrides, folder):
    assert report_folder("digits", overrides).parts == ("reports", folder)


def test_the_order_of_changes_does_not_matter():
    one, other = "steps=[5]", "seeds=[0,1]"
    assert report_folder("a", [one, other]) == report_folder("a", [other, one])


@pytest.mark.parametrize(
    "values",
    [
        [f"{{path: {'x' * 90}{n}}}" for n in (1, 2)],
        ["{path: my photos}", "{path: myphotos}", "{path: my/photos}", "{path: my\\photos}"],
        ["5", "5."],
        ["\x1b[31m", "31m"],
        ["\N{MUSICAL SYMBOL G CLEF}" * 90, "文字" * 90],
    ],
)
def test_what_a_name_cannot_say_is_told_apart(values):
    names = [report_folder("a", [f"data={value}"]).name for value in values]
    assert len({*names}) == len(values)
    assert all(len(name.encode()) < 80 and not name.endswith(".") for name in names)


def test_a_command_is_pasted_into_any_shell():
    """Unquoted brackets are a pattern of files, of which zsh says that nothing matches it."""
    told = command_of("a.yaml", ["steps=[5,10]", "seeds=0"], Path("my store"))
    assert told == "harness run a.yaml 'steps=[5,10]' seeds=0 --store 'my store'"
    assert shlex.split(told)[3] == "steps=[5,10]"
