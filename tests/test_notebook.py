"""What the pages on Python say is so: their code runs, as does the notebook in its kernel."""

import re
import shutil
from functools import partial
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from running import in_turn

from harness import api
from harness.run import run_grid

PAGES = Path(__file__).parent.parent / "docs" / "pages"
NOTEBOOK = PAGES / "notebook.ipynb"


@pytest.fixture
def folder(tmp_path, small_grid, database):
    """A folder in which runs/smoke.yaml is done in seconds."""
    (tmp_path / "runs" / "store").mkdir(parents=True)
    (tmp_path / "runs" / "smoke.yaml").write_text(small_grid)
    shutil.copy(database, tmp_path / "runs" / "store")
    return tmp_path


@pytest.mark.slow
def test_the_code_of_the_page_runs(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(api, "run_grid", partial(run_grid, execute=in_turn))
    known = {}
    for block in re.findall(r"```python\n(.*?)```", (PAGES / "python.md").read_text(), re.DOTALL):
        exec(block, known)
    assert known["done"].is_complete
    assert known["table"].columns[0] == "schedule"
    assert known["verdict"].verdict in ("better", "worse", "inconclusive")
    assert known["images"].shape == (16, 1, 8, 8)
    assert (folder / "quality.png").is_file()


@pytest.mark.slow
def test_the_notebook_runs_in_its_kernel(folder):
    """With workers, bars, and figures, as for a reader."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}})
    client.execute()
    assert (folder / "reports" / "small" / "report.html").is_file()
    [ran] = [cell for cell in notebook.cells if "done = run(" in cell.source]
    bars = [one for one in ran.outputs if "<progress" in one.get("data", {}).get("text/html", "")]
    assert len(bars) == 1
    assert not any("\x1b" in str(one) for one in ran.outputs)
    pictures = [one for cell in notebook.cells for one in cell.get("outputs", ())
                if "image/png" in one.get("data", {})]  # fmt: skip
    assert len(pictures) == 3


def test_the_notebook_is_kept_without_what_it_gave():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
