"""The commands in Python: the same objects as on the command line, for scripts and notebooks."""

import inspect
import io
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from IPython.core.displaypub import CapturingDisplayPublisher
from matplotlib.figure import Figure
from PIL import Image
from running import in_turn

import harness
from harness import api, load_grid, plan, run, study
from harness.analysis.groups import GroupComparison
from harness.errors import BadOption, HarnessError, Interrupted, NotDefined, UnknownName
from harness.execute import notebook
from harness.execute.notebook import NotebookScreen
from harness.execute.progress import Progress
from harness.run import run_grid
from harness.stored import compare_cells


@pytest.fixture(scope="module")
def done(tmp_path_factory, small_grid, database):
    folder = tmp_path_factory.mktemp("api")
    (folder / "store").mkdir()
    shutil.copy(database, folder / "store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "run_grid", partial(run_grid, execute=in_turn))
        return run(small_grid, store=folder / "store", report_dir=folder / "report", device="cpu",
                   quiet=True)  # fmt: skip


def test_loading_the_package_loads_nothing_else():
    script = (
        "import sys, harness; heavy = {'torch', 'mlflow', 'pandas', 'numpy', 'pydantic', 'click'};"
        "sys.exit(bool(heavy & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_run_and_plan_are_modules_that_are_called():
    assert harness.run is sys.modules["harness.run"]
    assert harness.plan is sys.modules["harness.plan"]
    assert harness.load_grid is harness.plan.grid.load_grid
    assert {*harness.__all__} <= {*dir(harness)}
    for name in ("run", "plan"):
        assert inspect.signature(getattr(harness, name)) == inspect.signature(getattr(api, name))


def test_a_run_tells_how_it_ended(done):
    assert done.is_complete
    assert not done.failed
    assert done.report.read_text().startswith("<!doctype html>")
    assert "8 of 8 cells" in repr(done)
    assert str(done.report) in done._repr_html_()
    again = plan(done.grid, store=done.paths.store)
    assert not again
    assert repr(again) == again.text()


def test_the_frame_has_a_row_for_each_cell_and_its_own_types(done):
    frame = done.study.frame()
    assert list(frame.columns[:4]) == ["schedule", "sampler", "eta", "steps"]
    assert len(frame) == 8
    assert frame["steps"].dtype == int
    for one in done.study.study.cells:
        [row] = frame[frame["key"] == one.cell.key].to_dict("records")
        measured = one.measurements["fid"]
        assert row["fid"] == measured.value
        assert row["fid_corrected"] == measured.corrected
        assert row["kid_se"] == one.measurements["kid"].standard_error
        assert (row["steps"], row["nfe"]) == (one.cell.steps, one.cost.nfe)
    whole = done.study.frame(whole=True)
    assert {"data", "training_steps", "extractor"} <= {*whole.columns} - {*frame.columns}
    assert whole["training_steps"].eq(12).all()
    assert not whole.isna().all().any()


def test_a_comparison_is_that_of_the_command(done):
    only = {"schedule": "cosine", "steps": [2, 3]}
    found = done.study.compare("sampler=ddim", {"sampler": "ddpm"}, only=only)
    wanted = ("sampler=ddim", "sampler=ddpm", "kid", "schedule=cosine,steps=[2,3]")
    same = compare_cells(done.paths.store, *wanted)
    assert isinstance(found, GroupComparison)
    assert found.verdict in ("better", "worse", "inconclusive")
    assert found.effect == same.effect
    assert repr(found) == found.as_text()
    assert found._repr_html_().startswith("<p><b>")


def test_figures_show_themselves_in_a_notebook(done):
    for name in ("quality_by_steps", "samples"):
        assert name in done.study.plots()
        figure = done.study.plot(name)
        assert isinstance(figure, Figure)
        png, size = figure._repr_png_()
        assert 400 < size["width"] < Image.open(io.BytesIO(png)).width


def test_a_study_is_known_by_its_name_and_by_its_grid(done):
    at = {"store": done.paths.store}
    by_name = study("small", **at)
    assert [*map(repr, by_name.answers())] == [*map(repr, done.study.answers())]
    assert repr(by_name.answers()[0]) in repr(by_name)
    fewer = study(load_grid(done.grid, steps=[3]), **at)
    assert {*fewer.frame()["steps"]} == {3}
    assert by_name.sample({"schedule": "cosine", "sampler": "ddim", "steps": 3}, 4).shape == (
        4, 1, 8, 8,
    )  # fmt: skip


def test_a_report_of_a_changed_grid_is_of_its_cells_and_beside_the_other(
    done, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    page = study(load_grid(done.grid, steps=[3]), store=done.paths.store).report()
    assert page == Path("reports/small--steps=3/report.html")
    assert {*pd.read_csv(page.with_name("results.csv"))["steps"]} == {3}
    assert "steps=[3]" in page.with_name("report.md").read_text()


def test_what_is_changed_in_python_is_reported_as_on_the_command_line(done, monkeypatch):
    """Beside what is not changed, with the command that does the same."""
    places = {"store": done.paths.store, "tracking_uri": done.paths.tracking_uri}
    grid = load_grid(done.grid, steps=[3])
    changed = study(grid, **places)
    assert changed.paths.report_dir == Path("reports/small--steps=3")
    command = changed.experiment.command
    assert shlex.split(command)[:4] == ["harness", "run", done.grid.file, "steps=[3]"]
    assert str(done.paths.store) in command
    asked = []
    monkeypatch.setattr(api, "report_grid", lambda *given, **named: asked.append((given, named)))
    changed.report()
    [((_, _, _, cells), named)] = asked
    assert {cell.steps for cell in cells} == {3}
    assert named == {"grid_text": grid.text, "command": command}
    assert shlex.split(done.study.experiment.command)[:3] == ["harness", "run", done.grid.file]


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (lambda done: done.study.plot("qualty_by_steps"), UnknownName),
        (lambda done: done.study.plot("train_by_sample"), NotDefined),
        (lambda done: done.study.compare("sampler=ddim", 3), BadOption),
        (lambda done: done.study.sample("steps=2", images=0), BadOption),
        (lambda done: study("nothing", store=done.paths.store), HarnessError),
        (lambda done: plan(done.grid, store=done.paths.store, only="steps=9"), BadOption),
        (lambda done: run(done.grid, until="forever"), BadOption),
        (lambda done: run(done.grid, max_seeds=3), BadOption),
        (lambda done: run(done.grid, until="decided", only="steps=2"), BadOption),
        (lambda done: run(done.grid, compile="yes"), BadOption),
        (lambda done: run(done.grid, time_limit="soon"), BadOption),
    ],
)
def test_what_is_wrong_is_told_without_a_traceback(done, act, error):
    with pytest.raises(error) as told:
        act(done)
    [shown] = told.value._render_traceback_()
    assert str(told.value) in shown


def test_an_interrupted_run_is_saved_and_goes_on(store_folder, small_grid, monkeypatch):
    """As where the kernel of a notebook is interrupted."""

    def interrupted(*arguments, **how):
        for number, outcome in enumerate(in_turn(*arguments, **how)):
            yield outcome
            if number == 0:
                signal.raise_signal(signal.SIGINT)

    grid = load_grid(small_grid, steps=[2], samplers=["ddim"])
    at = {"store": store_folder, "device": "cpu", "report": False}
    monkeypatch.setattr(api, "run_grid", partial(run_grid, execute=interrupted))
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted):
        run(grid, **at)
    assert signal.getsignal(signal.SIGINT) is before
    assert len(plan(grid, store=at["store"]).to_train) == 1

    ended = []
    monkeypatch.setattr(api, "run_grid", partial(run_grid, execute=in_turn))
    thread = threading.Thread(target=lambda: ended.append(run(grid, **at)))
    thread.start()  # where signals cannot be handled
    thread.join()
    assert ended[0].is_complete
    assert ended[0].report is None
    assert len(ended[0].study.frame()) == 2


def test_progress_in_a_notebook_stays_in_its_place(capsys, monkeypatch):
    shown = CapturingDisplayPublisher()
    monkeypatch.setattr(notebook, "import_module", lambda name: DisplayTo(shown))
    with NotebookScreen() as screen:
        screen.update("reading images", Progress(1, 10))  # minutes, of a large folder
        assert "1/10" in shown.outputs[-1]["data"]["text/plain"]
        screen.begin()
        screen.stage("training", {"training": 2})
        screen.update("<linear>", Progress(5, 10, {"loss": 0.5}))
        screen.finish("<linear>", "loss 0.5", "training")
        screen.finish("cosine", "FAILED: no\x1b[1m memory", "training")
        screen.say("Report: here")
    said = capsys.readouterr().out
    assert said.splitlines() == ["cosine  FAILED: no\\x1b[1m memory", "Report: here"]
    assert "<linear>" not in shown.outputs[-1]["data"]["text/html"]
    assert "2/2" in shown.outputs[-1]["data"]["text/plain"]
    assert [one["update"] for one in shown.outputs] == [False] + [True] * (len(shown.outputs) - 1)


class DisplayTo:
    """IPython's `display`, whose outputs go to a publisher."""

    def __init__(self, publisher):
        self.publisher = publisher

    def display(self, data, raw, display_id):
        self.publisher.publish(data, update=False)
        return self

    def update(self, data, raw):
        self.publisher.publish(data, update=True)
