"""Where a report is written."""

import pytest

from harness.work.options import report_folder


@pytest.mark.parametrize(
    ("overrides", "folder"),
    [
        ([], "digits"),
        (["steps=[5, 10]"], "digits--steps=5,10"),
        (["training.steps=9", "schedules=[cosine]"], "digits--schedules=cosine--training.steps=9"),
        (["data={name: folder, path: ../my/images}"], "digits--data=name,folder,path,..,my,images"),
        (["name=digits", "steps=[5]"], "digits"),
    ],
)  # fmt: skip
def test_what_the_command_line_changes_has_a_folder_of_its_own(overrides, folder):
    assert report_folder("digits", overrides).parts == ("reports", folder)


def test_the_order_of_changes_does_not_matter_and_long_ones_are_told_apart():
    one, other = "steps=[5]", "seeds=[0,1]"
    assert report_folder("a", [one, other]) == report_folder("a", [other, one])
    long = [report_folder("a", [f"data={{path: {'x' * 90}{n}}}"]) for n in (1, 2)]
    assert long[0] != long[1]
    assert all(len(folder.name) < 80 for folder in long)
