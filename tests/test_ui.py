"""`harness ui` as a person starts it, and in a browser: the views that MLflow's pages know, whose
format is MLflow's own, and the links of a report that lead there."""

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from urllib.request import urlopen

import made
import psutil
import pytest
from faults.servers import free_port

from harness.report import page
from harness.store import Store
from harness.tracking import Tracker
from harness.tracking.recorder import Recorder
from harness.tracking.views import views_of
from harness.work.cells import EXACT, Asked, Part

NAMES = (os.environ.get("CHROMIUM", "chromium"), "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="no chromium here. Use CHROMIUM=PATH to name one"
)
CELLS = {
    made.cell(schedule, sampler, steps, seed): kid / 100
    for (schedule, sampler, steps, seed), kid in zip(
        ((a, b, c, d) for a in ("linear", "cosine") for b in ("ddpm", "ddim")
         for c in (5, 10, 20) for d in (0, 1)),
        count(10),
    )
}  # fmt: skip

EXACT_CELLS = {
    replace(cell, training=replace(cell.training, model=Part(EXACT), training_steps=0)): kid / 100
    for cell, kid in CELLS.items()
    if cell.training.seed == 0
}  # which would be the first of the cells, and are left out there


@pytest.fixture(scope="module")
def experiment(tmp_path_factory, database):
    """A store with 24 cells of networks and 12 of the exact denoiser, and what is recorded."""
    folder = tmp_path_factory.mktemp("ui") / "store"
    folder.mkdir()
    shutil.copy(database, folder / "mlflow.db")
    tracker = Tracker(f"sqlite:///{folder / 'mlflow.db'}", "small", folder / "artifacts")
    recorder = Recorder(tracker, Store(folder), "small", print)
    every = {**CELLS, **EXACT_CELLS}
    recorder.open("name: small", Asked.of(every), {}, views_of([*every], ["kid"]))
    for cell, kid in every.items():
        recorder.store.keep(made.result(cell, kid=kid))
        recorder.ended(cell, made.result(cell, kid=kid))
    recorder.close("FINISHED")
    return folder, tracker.read()


@contextmanager
def serving(folder):
    """The process of `harness ui`, and the address that it says."""
    command = [sys.executable, "-m", "harness", "ui", "--port", str(free_port()),
               "--store", str(folder)]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    told = iter(process.stdout.readline, "")
    try:
        yield process, next(found[0] for line in told if (found := re.search(r"http\S+", line)))
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_one_process_serves_says_when_and_is_gone_after_sigterm(experiment):
    with serving(experiment[0]) as (process, address):
        with urlopen(f"{address.partition('/#')[0]}/health", timeout=5) as answer:
            assert answer.status == 200
        assert psutil.Process(process.pid).children(recursive=True) == []
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
        assert process.stdout.read() == ""  # no log of requests, no traceback


@pytest.fixture(scope="module")
def address(experiment):
    """Of the cells, in MLflow's UI."""
    with serving(experiment[0]) as (_, address):
        yield address


@pytest.fixture(scope="module")
def tab():
    """A page of a browser, as wide as that of a laptop."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1400, "height": 900})
        tab.set_default_timeout(60_000)
        yield tab
        browser.close()


def seen(tab, *texts):
    for text in texts:
        tab.get_by_text(text, exact=True).first.wait_for()


@needs_browser
@pytest.mark.browser
def test_the_first_page_is_the_cells_the_best_first(address, tab):
    tab.goto(address)
    seen(tab, "Parameters", "schedule", "sampler", "steps", "seed", "kid", "24")
    rows = tab.locator('[role="row"] [col-id="metrics.`kid`"][role="gridcell"]')
    rows.first.wait_for()
    values = [float(text) for text in rows.all_inner_texts()]
    assert len(values) > 9
    assert values == sorted(values)
    assert values[0] == 0.1
    headers = tab.locator('[role="columnheader"]').all_inner_texts()
    assert headers.index("schedule") < headers.index("kid")


@needs_browser
@pytest.mark.browser
def test_its_charts_are_quality_against_cost(address, tab):
    tab.goto(f"{address}&compareRunsMode=CHART")
    seen(tab, "Quality and cost", "nfe vs. kid")
    tab.locator(".scatterlayer .point").nth(2 * len(CELLS) - 1).wait_for()  # in both charts


@needs_browser
@pytest.mark.browser
def test_the_other_view_draws_a_curve_for_each_schedule_and_sampler(address, tab):
    tab.goto(f"{address}-curves&compareRunsMode=CHART")
    seen(tab, "Means over seeds, by network evaluations")
    tab.locator(".scatterlayer .js-line").nth(3).wait_for()
    seen(tab, "schedule: cosine, sampler: ddim, model: tiny(attention=(), widths=(8,)) (kid)")


@needs_browser
@pytest.mark.browser
def test_a_report_leads_to_the_cells_and_to_each_run(address, tab, experiment, tmp_path):
    ui_url = address.partition("/#")[0]
    page.write(replace(experiment[1], ui_url=ui_url), tmp_path)
    tab.goto((tmp_path / "report.html").as_uri())
    tab.get_by_text("its cells in MLflow").click()
    seen(tab, "Parameters", "kid", "24")
    tab.go_back()
    tab.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    tab.locator("td a[href*='/runs/']").first.click()
    tab.wait_for_url("**/runs/*workflowType=machine_learning")
    seen(tab, "Model metrics")
