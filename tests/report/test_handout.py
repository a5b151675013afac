"""The handout: complete, on two pages, with the numbers of the study and the recipe of the code."""

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from inspect import signature
from itertools import product

import made
import pytest
import torch
from studies import study
from test_browser import BROWSER
from test_page import Tags, bytes_of

from harness.analysis.study import studies
from harness.data.datasets import DATASETS
from harness.data.images import MIRRORED
from harness.engine import hyperparameters as fixed
from harness.engine.steps import Setting
from harness.report import handout, page
from harness.report.contents import contents
from harness.report.latex import SPECIAL, as_latex, escaped
from harness.report.recipe import recipe
from harness.report.study_tables import by_steps
from harness.report.wording import estimate
from harness.work.cells import Part
from harness.work.options import Workplace
from harness.work.results import FailedWork

EVIL = '"><script>alert(1)</script><img src=x>\n\n![x](http://x)<!--0-->\\input{x}$&%#_^~'
HEADINGS = ["Answer", "Results", "Schedules", "Recipe", "Limitations", "How to rebuild"]


@pytest.fixture(scope="module")
def folder(results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("handout")
    handout.write(page.contents_of(results), folder)
    return folder


@pytest.fixture(scope="module")
def text(folder):
    return (folder / "handout.md").read_text()


@pytest.fixture
def without_pictures(monkeypatch):
    monkeypatch.setattr("harness.report.contents._pictures", lambda study: ([], []))


def test_all_parts_are_there_in_their_order(text, folder):
    assert re.findall("^## (.+)", text, flags=re.M) == HEADINGS
    assert text.startswith("# Which schedule, which sampler, how many steps?")
    opening = text.split("## Answer")[0]
    assert "1,797 handwritten digits, 8x8 grey" in opening
    assert "2 schedules (cosine and linear) with 3 training seeds each, 6 trainings" in opening
    assert "2 samplers (ddim and ddpm) in 5, 10, 20 and 50 steps" in opening
    assert re.findall(r"\]\((\S+)\)", text) == [
        "figures/quality_by_steps.png", "figures/samples.png", "results.tex"
    ]  # fmt: skip
    assert all((folder / name).is_file() for name in re.findall(r"\]\((\S+)\)", text))
    assert "`harness run digits.yaml`" in text
    assert "schedules: [linear, cosine]" in text


def test_the_page_is_whole_and_needs_nothing_else(folder):
    html = (folder / "handout.html").read_text()
    tags = Tags(html)
    assert (tags.open, tags.broken, tags.scripts) == ([], [], [])
    assert sum(tag == "img" for tag, _ in tags.tags) == 2
    assert all(a["src"].startswith("data:image/") for tag, a in tags.tags if tag == "img")
    assert not re.search(r"url\(|@import|<script", html)
    links = {a["href"] for tag, a in tags.tags if tag == "a"}
    assert {link for link in links if not link.startswith("#")} == {"results.tex"}


def test_the_numbers_of_the_table_are_those_of_the_study(results, text):
    (main,) = studies(results)
    rows = {}
    for line in re.findall(r"^\| (?:cosine|linear) .*", text, flags=re.M):
        schedule, sampler, *values = (part.strip() for part in line.strip("|").split("|"))
        rows |= {(schedule, sampler, n): value
                 for n, value in zip((5, 10, 20, 50), values, strict=True)}  # fmt: skip
    found = {(one.schedule, one.sampler, one.steps): one for one in main.configurations()}
    assert rows.keys() == found.keys()
    for key, one in found.items():
        assert rows[key].strip("*") == estimate(one.mean, one.interval.low, one.interval.high)
    best = min(found, key=lambda key: found[key].mean)
    assert [key for key, value in rows.items() if value.startswith("**")] == [best]


def test_each_schedule_has_its_formula_its_best_and_its_rank(text):
    cosine, linear = re.findall(r"^- \*\*(?:cosine|linear):\*\* .*", text, flags=re.M)
    assert "θ(t) = (1 − t) arccos(max_signal)" in cosine
    assert "cosine with ddpm at 50 steps. Rank 1 of 2, and ahead in 8 of 8 pairs" in cosine
    assert "β grows evenly over T steps, 1,000 unless said otherwise" in linear
    assert "Rank 2 of 2, and ahead in 0 of 8 pairs" in linear


def test_equal_experiments_give_the_same_bytes_and_the_report_stays(results, folder, tmp_path):
    handout.write(page.contents_of(replace(results, cells=results.cells[::-1])), tmp_path)
    assert bytes_of(tmp_path) == bytes_of(folder)
    page.write(results, tmp_path)
    before = bytes_of(tmp_path)
    assert {*bytes_of(folder).items()} <= {*before.items()}  # the figures and the tables, too
    handout.write(page.contents_of(results), tmp_path)
    assert bytes_of(tmp_path) == before
    assert page.is_current(results, tmp_path)
    (tmp_path / "results.tex").unlink()
    assert not page.is_current(results, tmp_path)


def test_what_a_wide_grid_has_is_cut_to_what_fits():
    steps = (5, 8, 10, 20, 50, 100, 200, 500)
    wide = study({(f"laplace(mu={n})", sampler, count): 0.1 + n / 10 + 1 / count
                  for n, sampler, count in product(range(7), ("ddim", "ddpm"), steps)})  # fmt: skip
    table = by_steps(wide, handout.MOST_ROWS, handout.MOST_STEPS)
    titles = [column.title for column in table.columns[2:]]
    assert len(table.rows) == handout.MOST_ROWS
    assert len(titles) <= 6
    assert (titles[0], titles[-1]) == ("5 steps", "500 steps")
    assert {row.values[0].text for row in table.rows} == {f"laplace(mu={n}.0)" for n in range(4)}
    assert sum(value.is_best for row in table.rows for value in row.values) == 1
    assert len(by_steps(wide).rows) == 14


def test_the_recipe_tells_what_a_training_does(results, tmp_path):
    told = recipe(studies(results)[0])
    training = results.cells[0].cell.training
    state = Setting.of(training, Workplace(tmp_path, tmp_path, "cpu")).first_state(threads=1)
    group = state.optimizer.param_groups[0]
    assert told["Optimisation"]["optimiser"] == (
        f"AdamW, β = {group['betas']}, ε = {group['eps']:g}, weight decay {group['weight_decay']:g}"
    )
    assert isinstance(state.optimizer, torch.optim.AdamW)
    assert told["Optimisation"]["learning rate"].startswith(f"{training.learning_rate:g}, reached")
    assert told["Optimisation"]["batch size"] == "128"
    assert told["Optimisation"]["precision"] == "bfloat16"
    assert (
        "decay 0.1, at step k at most (1 + k)/(10 + k)" in (told["Optimisation"]["weights sampled"])
    )
    assert told["Network"]["widths"] == "32, 96"
    assert "(cosine); uniform over i/1,000" in told["Objective"]["training times t"]
    assert told["Sampling"]["images a cell"] == "2,000"
    assert not any(value in ("", "None") for facts in told.values() for value in facts.values())


def test_the_recipe_is_on_the_page_and_knows_what_is_mirrored(results, written):
    assert (
        "### Recipe\n\n- **Data:** *images:* digits: 1,797" in (written / "report.md").read_text()
    )
    flips = {name for name in DATASETS if "flip" in signature(DATASETS[name]).parameters}
    assert flips == {"folder"}
    assert {*DATASETS} >= MIRRORED
    for data, told in (
        (Part("flowers102"), "50 % of the images"), (Part("digits"), "none"),
        (Part.of("folder", {"path": "x", "flip": True}), "50 % of the images"),
        (Part("theirs", source="theirs 1.0"), "as the data set says"),
    ):  # fmt: skip
        shown = recipe(study({("cosine", "ddim", 5): 0.1}, data=data))
        assert shown["Data"]["augmentation"].startswith(told)


def test_the_recipe_tells_of_another_density_of_training_times():
    times = Part.of("logit_normal", {"mean": 0.5})
    two = study({("linear", "ddim", 5): 0.1, ("flow", "ddim", 5): 0.1}, times=times)
    one, other = recipe(two)["Objective"]["training times t"].split("; ")
    assert one.startswith("logit_normal(mean=0.5): The logit of t")
    assert one.endswith("(flow)") != other.endswith("(flow)")
    assert "rounded up to i/1,000 (linear)" in one + other


def test_the_recipe_says_how_large_a_preset_is_only_where_nothing_else_is_asked_for():
    default, narrow = Part("tiny"), Part.of("tiny", {"widths": (16, 32)})
    assert ":" in recipe(study({("cosine", "ddim", 5): 0.1}, model=default))["Network"]["model"]
    assert recipe(study({("cosine", "ddim", 5): 0.1}, model=narrow))["Network"]["model"] == str(
        narrow
    )


def test_an_exact_denoiser_has_no_training_in_its_recipe():
    exact = study({("cosine", "ddim", 5): 0.1}, model=Part("exact"))
    assert [*recipe(exact)] == ["Data", "Sampling", "Evaluation"]
    assert recipe(replace(exact, results=())) == {}


def test_the_decay_of_the_average_begins_low():
    training = replace(made.TRAINING, ema=0.99)
    assert [fixed.ema_decay(training, step) for step in (0, 10, 10**6)] == [0.1, 0.55, 0.99]


def test_what_the_command_line_changed_is_on_the_line_that_rebuilds(results, without_pictures):
    changed = "# changed on the command line: seeds=[0, 1]\n# a comment\n"
    made_of = handout.handout(
        contents(replace(results, grid_text=changed + results.grid_text, name="my grid"))
    )
    assert made_of.command == "harness run 'my grid.yaml' 'seeds=[0, 1]'"
    assert made_of.grid == results.grid_text.rstrip()


@pytest.mark.parametrize("cells", [0, 1])
def test_a_handout_comes_out_of_next_to_nothing(results, tmp_path, cells):
    handout.write(
        page.contents_of(replace(results, cells=results.cells[:cells], trainings=())), tmp_path
    )
    text = (tmp_path / "handout.md").read_text()
    assert ("none yet" in text) != bool(cells)
    assert "nan" not in text


def test_names_from_users_are_escaped(build, tmp_path):
    results = build(name=EVIL, schedules=(EVIL, "a|b](http://x)"), samplers=("ddim", "ddpm"))
    results = replace(results, commit=EVIL, versions={EVIL: EVIL}, grid_text=f"```\n{EVIL}",
                      failures=(FailedWork("cell", "k", EVIL, EVIL),))  # fmt: skip
    handout.write(page.contents_of(results), tmp_path)
    tags = Tags((tmp_path / "handout.html").read_text())
    assert (tags.open, tags.broken, tags.scripts) == ([], [], [])
    assert sum(tag == "img" for tag, _ in tags.tags) == 2
    prose = re.sub(r"^(`{3,})\w*\n.*?^\1$", "", (tmp_path / "handout.md").read_text(),
                   flags=re.M | re.S)  # fmt: skip
    prose = re.sub(r"`[^`]*`", "", prose.replace("\\`", ""))
    assert not re.search(r"<script|<img|(?<!\\)\]\(http", prose)
    is_balanced((tmp_path / "results.tex").read_text())


def is_balanced(tex):
    """What is opened is closed, each line of a table has its columns, and nothing is special that
    a user wrote."""
    plain = re.sub(r"\\[\\{}&%$#_]", "", "\n".join(tex.splitlines()[1:]))
    assert plain.count("{") == plain.count("}")
    assert plain.count("$") % 2 == 0
    assert not re.search(r"[%#~^<>|\"]|\\input", plain)
    opened = re.findall(r"\\(begin|end)\{(\w+)\}", tex)
    stack = []
    for which, name in opened:
        assert which == "begin" or stack.pop() == name
        stack += [name] * (which == "begin")
    assert not stack
    for columns, body in re.findall(r"\\begin\{(?:tabular|longtable)\}\{(\w+)\}(.*?)\\end", tex,
                                    flags=re.S):  # fmt: skip
        lines = [line for line in body.splitlines() if "&" in line.replace(r"\&", "")]
        assert lines
        assert {line.replace(r"\&", "").count("&") for line in lines} == {len(columns) - 1}


def test_tables_for_a_paper_have_all_rows_and_one_in_bold(results, written):
    tex = (written / "results.tex").read_text()
    is_balanced(tex)
    first, second = tex.split("\\begin{table}")[1:]
    assert first.count(r"\textbf") == 1
    assert len(re.findall(r"^(?:\\textbf\{)?cosine", second, flags=re.M)) == 8
    assert "2,000 images a cell" in first
    assert r"{[}95 \% interval over 3 training seeds{]}" in first
    assert re.findall(r"\\label\{(.*?)\}", tex) == ["tab:digits-1-1", "tab:digits-1-2"]


def test_what_is_special_to_latex_is_printed():
    assert escaped("50 % of a_b & {c}") == r"50 \% of a\_b \& \{c\}"
    assert escaped("−0.1\n[x]") == "$-$0.1 {[}x{]}"
    assert all(escaped(letter) != letter for letter in SPECIAL)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex is installed")
def test_latex_takes_the_tables(build, tmp_path, without_pictures):
    names = ("linear", "cosine", 'a_b & 50 % [x] #1 ~^\\{}|<>"')
    results = build(schedules=names, samplers=("ddim", "ddpm"), steps=(5, 10, 20, 50, 100))
    head = r"\documentclass{article}\usepackage{booktabs,longtable}\begin{document}"
    (tmp_path / "t.tex").write_text(f"{head}\n{as_latex(contents(results))}\\end{{document}}\n")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"],
        cwd=tmp_path, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]


@pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome is installed")
@pytest.mark.parametrize("paper", ["A4", "Letter"])
@pytest.mark.parametrize("which", ["results", "everything"])
def test_it_prints_on_two_pages(request, tmp_path, which, paper):
    handout.write(page.contents_of(request.getfixturevalue(which)), tmp_path)
    html = (tmp_path / "handout.html").read_text().replace("@page {", f"@page {{ size: {paper};")
    (tmp_path / "page.html").write_text(html)
    subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/p",
         "--no-pdf-header-footer", "--print-to-pdf=page.pdf", f"file://{tmp_path}/page.html"],
        cwd=tmp_path, capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    pages = re.findall(rb"/Type /Page\b", (tmp_path / "page.pdf").read_bytes())
    assert 1 <= len(pages) <= 2


def test_it_needs_no_torch():
    script = (
        "import sys; from experiments import build; from pathlib import Path;"
        "from harness.report import contents, handout;"
        "handout.handout(contents.contents(build(schedules=('cosine',), steps=(5,))));"
        "print({'torch', 'torchvision', 'sklearn'} & {*sys.modules})"
    )
    found = subprocess.run([sys.executable, "-c", script], cwd="tests", capture_output=True,
                           text=True, check=True)  # fmt: skip
    assert found.stdout.strip() == "set()"
