"""What a person sees while work goes on: within the screen, and nothing but lines in a file."""

import io
import re

import pytest
from rich.console import Console

from harness.execute.progress import Progress, throttled
from harness.execute.screen import Screen
from harness.lines import fitted

TITLE = "linear, ddim (eta=0.5), 5 steps, seed 0, weights at 0.9 of the training, learning rate 0.1"
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def shown(work, **options):
    """What a console of these options gets to print."""
    stream = io.StringIO()
    with Screen(Console(file=stream, **options)) as screen:
        work(screen)
    return stream.getvalue()


def at_work(screen):
    screen.stage("training", {"training": 2})
    screen.update(TITLE, Progress(12_000, 20_000, {"loss": 0.01234}))
    screen.say(f"What is said in {'many ' * 20}words draws the bars anew.")
    screen.finish(TITLE, "loss 0.01234", "training")
    for part in ("ddim", "ddpm"):
        screen.follow("sampler", part, 2)
    screen.say("So does this.")


@pytest.mark.parametrize("width", [60, 80, 200])
def test_bars_and_lines_fit_the_screen(width):
    told = shown(at_work, width=width, force_terminal=True)
    lines = re.split(r"[\r\n]+", CONTROL.sub("", told))
    assert max(map(len, lines)) <= width
    assert any("/20000" in line and "loss 0.01234" in line for line in lines)
    assert any(line.startswith("sampler") and "ddpm" in line for line in lines)


@pytest.mark.parametrize("options", [{"force_terminal": False}, {"_environ": {"TERM": "dumb"}}])
def test_where_nothing_can_be_drawn_there_are_whole_lines(options, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    told = shown(at_work, **options)
    assert told.isprintable() or set(told) - {"\n"} == {c for c in told if c.isprintable()}
    assert f"training 1/2  {TITLE}  loss 0.01234" in told.splitlines()
    assert "sampler: 2" in told.splitlines()


def test_what_is_done_beside_a_stage_is_counted_apart():
    def work(screen):
        screen.stage("cell", {"cell": 2, "checkpoint cell": 1})
        screen.finish("one", "", "cell")
        screen.finish("one, at 0.9", "", "checkpoint cell")
        screen.finish("two", "", "cell")

    told = shown(work, force_terminal=False).splitlines()
    assert told == ["cell 1/2  one", "checkpoint cell 1/1  one, at 0.9", "cell 2/2  two"]


def test_a_phase_is_named_until_numbers_come_again():
    notes = []

    def work(screen):
        screen.stage("training", {"training": 1})
        for progress in (
            Progress(40, 40, {"loss": 0.5}),
            Progress(40, 40, phase="drawing samples"),
            Progress(40, 40),
        ):
            screen.update(TITLE, progress)
            notes.append(screen._bars.tasks[-1].fields["note"])

    shown(work, width=80, force_terminal=True)
    assert notes == ["loss 0.5", "drawing samples", "loss 0.5"]


def test_a_new_phase_is_reported_at_once():
    sent = []
    report = throttled(sent.append, lambda: False)
    for phase in ("", "drawing", "drawing", ""):
        report(Progress(40, 40, phase=phase))
    assert [progress.phase for progress in sent] == ["", "drawing", ""]


def test_a_quiet_screen_stays_empty():
    assert shown(at_work, quiet=True) == ""


def test_lines_are_broken_between_words_and_go_on_under_their_column():
    row = "  8f3a  to do    linear, ddim, 5 steps, seed 0, weights at 0.9 of the training"
    assert fitted(row, 60).splitlines() == [
        "  8f3a  to do    linear, ddim, 5 steps, seed 0, weights at",
        "                 0.9 of the training",
    ]
    assert fitted(row, None) == row


def test_commands_and_paths_stay_whole_to_be_copied():
    command = "  harness run runs/digits.yaml steps=[5,10,20,50,100] seeds=[0,1,2] --redo steps=5"
    path = f"{'/a-folder' * 9}/report.html"
    assert fitted(command, 60) == command
    assert path in fitted(f"Report: {path}", 60).splitlines()
