"""A package of another author changes, or breaks: its old results are other work, and what it
breaks is named and costs nothing else."""

from pathlib import Path

import pytest
from situations import harness, last_report
from test_other_inputs import state

SCHEDULE = """
from dataclasses import dataclass
from harness.diffusion.schedules import Schedule
from casehelp import log_snr

@dataclass(frozen=True)
class Straight(Schedule):
    "log SNR falls in a straight line."
    def log_snr(self, t):
        return log_snr(t)
"""
HELP = "def log_snr(t):\n    return {} * (1 - 2 * t)\n"
METRIC = """
import numpy as np
from harness.metrics.distances import Metric

def shift(features, reference):
    features, reference = np.asarray(features), np.asarray(reference)
    if len(features) < 2 or len(reference) < 2 or features.shape[1] != reference.shape[1]:
        raise ValueError("no two sets of features")
    if not (np.isfinite(features).all() and np.isfinite(reference).all()):
        raise ValueError("not finite")
    return {} * float(np.linalg.norm(features.mean(axis=0) - reference.mean(axis=0)))

SHIFT = Metric(name="Shift", lower_is_better=True, description="Of the means", function=shift)
"""
FINDING = """
from harness.report.findings.finding import finding
from matplotlib.figure import Figure

def said(study):
    "What is said?"
    {}
    return finding("What is said?", "{}", study.cells[0].cell.key and [study.cells[0].cell.key])

def drawn(study):
    "A drawing."
    {}
    return Figure()
"""
SCHEDULES = {("schedules", "straight"): "caseplug:Straight"}
METRICS = {("metrics", "shift"): "caseplug:SHIFT"}
FINDINGS = {("findings", "said"): "caseplug:said", ("plots", "drawn"): "caseplug:drawn"}


def values(of="shift"):
    """The values of a metric in the report's table, by steps."""
    import pandas as pd

    table = pd.read_csv(last_report(Path()) / "results.csv")
    return dict(zip(table["steps"], table[of], strict=True))


def test_another_formula_or_version_is_other_work_also_in_a_module_beside_it(place, package):
    grid = ("exact.yaml", "schedules=[straight]")
    package(SCHEDULES, caseplug=SCHEDULE, casehelp=HELP.format("10.0"))
    harness("run", *grid)
    assert state(*grid) == ["finished"]
    package(SCHEDULES, caseplug=SCHEDULE, casehelp=HELP.format("8.0"))
    assert state(*grid) == ["to do"]
    assert "of caseplug 1.0 #" in harness("sample", "steps=2", "--out", "s.png", status=1)
    harness("run", *grid)
    told = harness("compare", "schedule=straight", "schedule=straight", status=1)
    assert "schedule source caseplug 1.0 #" in told
    package(SCHEDULES, "1.1", caseplug=SCHEDULE, casehelp=HELP.format("8.0"))
    assert state(*grid) == ["to do"]


def test_a_metric_with_another_formula_is_evaluated_again_from_kept_features(place, package):
    grid = ("exact.yaml", "metrics=[kid,shift]", "steps=[2,3]")
    package(METRICS, caseplug=METRIC.format("1.0"))
    harness("run", *grid)
    assert state(*grid) == ["finished", "finished"]
    before = values()
    package(METRICS, caseplug=METRIC.format("2.0"))
    assert state(*grid) == ["to do", "to do"]
    harness("run", *grid, "--only", "steps=2")
    assert values() == pytest.approx({2: 2 * before[2], 3: float("nan")}, nan_ok=True)
    assert "evaluated by other code" in (last_report(place) / "report.md").read_text()
    told = harness("compare", "steps=2", "steps=3", "--metric", "shift", status=1)
    assert "evaluated by other code" in told
    harness("run", *grid)
    assert values() == pytest.approx({steps: 2 * value for steps, value in before.items()})


def test_another_finding_or_figure_makes_another_report_of_the_same_results(place, package):
    package(FINDINGS, caseplug=FINDING.format("", "One thing", ""))
    harness("run", "exact.yaml")
    page = last_report(place) / "report.md"
    assert "One thing" in page.read_text()
    assert "up to date" in harness("run", "exact.yaml")
    package(FINDINGS, caseplug=FINDING.format("", "Another thing", ""))
    harness("run", "exact.yaml")
    assert "Another thing" in page.read_text()


def test_a_finding_or_figure_that_raises_is_named_and_the_report_goes_on(place, package):
    broken = FINDING.format("raise KeyError('kid')", "", "raise KeyError('kid')")
    package(FINDINGS, caseplug=broken)
    harness("run", "exact.yaml")
    page = (last_report(place) / "report.md").read_text()
    assert "The finding 'said' (caseplug) fails: KeyError: 'kid'" in page
    assert "The plot 'drawn' (caseplug) could not be drawn" in page


@pytest.mark.parametrize(
    "points", [SCHEDULES, METRICS, FINDINGS], ids=["schedule", "metric", "finding"]
)
def test_a_package_that_cannot_be_imported_matters_only_where_it_is_used(place, package, points):
    package(points, caseplug="import nothere\n")
    harness("run", "exact.yaml")
    assert (last_report(place) / "report.md").exists()
    told = harness("parts")
    if points is not FINDINGS:
        assert "nothere" in told
    if points is SCHEDULES:
        assert "caseplug" in harness("run", "exact.yaml", "schedules=[straight]", status=1)
    if points is METRICS:
        assert "caseplug" in harness("run", "exact.yaml", "metrics=[shift]", status=1)


def test_results_of_a_package_that_is_gone_or_broken_can_still_be_read(place, package):
    both = {**SCHEDULES, **METRICS}
    code = SCHEDULE + METRIC.format("1.0")
    package(both, caseplug=code, casehelp=HELP.format("10.0"))
    harness("run", "exact.yaml", "schedules=[straight]", "metrics=[kid,shift]", "steps=[2,3]")
    for text in ("import nothere\n", None):
        package(both if text else {}, **({"caseplug": text} if text else {}))
        harness("report", "exactcase", "--report-dir", "again")
        assert "straight" in (place / "again/report.md").read_text()
        harness("compare", "steps=2", "steps=3", "--metric", "shift")
    assert "straight" in harness("sample", "steps=2", "--out", "s.png", status=1)


SAMPLER = """
from harness.diffusion.samplers import ddim, sampler
@sampler(order=1)
def broken(denoise, schedule, x, times, draw_noise):
    "Raises in the middle."
    raise KeyError("in the middle")
"""


def test_a_sampler_that_raises_is_refused_by_name_before_the_work(place, package):
    package({("samplers", "broken"): "caseplug:broken"}, caseplug=SAMPLER)
    told = harness("run", "exact.yaml", "samplers=[ddim,broken]", status=1)
    assert "sampler 'broken' of caseplug" in told
    assert not (place / "runs/store/cells").exists()


# The contract of a metric is checked with other numbers of images, where this one does well.
LATE = """
import numpy as np
from dataclasses import replace
from caseplug import SHIFT, shift

def wrong(features, reference):
    value = shift(features, reference)
    if len(features) != 40:
        return value
    {}

def influence(features, reference):
    gap = features.mean(axis=0) - reference.mean(axis=0)
    found = (features - features.mean(axis=0)) @ gap / np.linalg.norm(gap)
    return found if len(features) != 40 else found[:, None]

WRONG = replace(SHIFT, function=wrong)
LOOSE = replace(SHIFT, influence=influence)
"""


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("return 'far'", "gives no number, but 'far'"),
        ("return np.ones(1)", "gives no number, but array("),
        ("raise SystemExit(3)", "fails: SystemExit: 3"),
    ],
    ids=["text", "array", "exit"],
)
def test_a_metric_that_fails_at_work_loses_its_own_values_alone(place, package, value, told):
    points = {("metrics", "wrong"): "caselate:WRONG", ("metrics", "loose"): "caselate:LOOSE"}
    package(points, caseplug=METRIC.format("1.0"), caselate=LATE.format(value))
    grid = ("exact.yaml", "metrics=[kid,wrong,loose]")
    harness("run", *grid)
    assert state(*grid) == ["finished"]
    assert values("kid")[2] > 0
    page = (last_report(place) / "report.md").read_text()
    assert f"No wrong is given for some cells: metric 'wrong' (caseplug) {told}" in page
    assert "metric 'loose' (caseplug) gives no array of 40 numbers" in page


SHOWN = """
from harness.report.findings.finding import Finding
from matplotlib.figure import Figure
f1 = lambda study: "words"
f2 = lambda study: Finding("Q?", "Red \x1b[31m.", [], rows=(("a", "b"),), columns=("one",))
f3 = lambda study: Finding("Q?", "Well \x1b[31mred.", [])
def f4(study): raise SystemExit(3)
p1 = lambda study: [Figure()]
p2 = lambda study: Figure(figsize=(1e6, 1e6))
def p3(study): raise SystemExit(3)
def p4(study):
    "Drawn. {}"
    import os
    os.chdir("/")
    return Figure()
"""


def test_findings_and_figures_of_nonsense_lose_themselves_alone(place, package):
    names = [f"{kind}{number}" for kind in "fp" for number in range(1, 5)]
    package(
        {("findings" if name < "p" else "plots", name): f"caseplug:{name}" for name in names},
        caseplug=SHOWN,
    )
    harness("run", "exact.yaml")
    page = (last_report(place) / "report.md").read_text()
    for name in ("f1", "f2", "f4"):
        assert f"The finding '{name}' (caseplug) " in page
    for name in ("p1", "p2", "p3"):
        assert f"The plot '{name}' (caseplug) " in page
    assert "figures/p4.png" in page
    assert "Well " in page
    assert "\x1b" not in page


OPTIONS = """
from harness.diffusion.samplers import ddim, sampler

@sampler(order=1)
def mine(denoise, schedule, x, times, draw_noise, *, k: int = 0):
    "Ddim, but for its option."
    return ddim(denoise, schedule, x, times, draw_noise) if not k else None

@sampler(order=1)
def code(denoise, schedule, x, times, draw_noise, *, k: "exit(3)" = 0):
    "Annotated by code."
"""


def test_a_part_is_checked_with_the_options_that_a_grid_gives(place, package):
    package({("samplers", name): f"caseplug:{name}" for name in ("mine", "code")}, caseplug=OPTIONS)
    told = harness("run", "exact.yaml", "samplers=[{name: mine, k: 1}]", status=1)
    assert "sampler 'mine(k=1)' of caseplug does not keep its contract" in told
    assert not (place / "runs/store/cells").exists()
    assert "exit(3), which is code" in harness("parts")
    harness("plan", "exact.yaml", "samplers=[mine]")
    harness("schema")


FORWARD = """
from torch import nn
from harness.models.presets import tiny

class Late(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network
    def forward(self, x, log_snr):
        if x.shape[0] == 8:  # as in training
            raise KeyError("late")
        return self.network(x, log_snr)

class Shape:
    def check(self, size): pass
    def build(self, channels, size):
        return Late(tiny(widths=(8,), attention=()).build(channels, size))
mine = Shape
"""


def test_what_fails_at_the_first_try_names_the_parts_that_it_uses(place, package):
    package({("models", "mine"): "caseplug:mine"}, caseplug=FORWARD)
    told = harness("run", "network.yaml", "model=mine", status=1)
    assert "KeyError: 'late'" in told
    assert "model 'mine' of caseplug" in told
    assert not (place / "runs/store/models").exists()


def test_another_data_set_within_a_built_in_one_is_named_itself(place, package):
    code = "def mine(data_dir): return []\ndef asks(data_dir, *, path): pass\n"
    package({("datasets", name): f"caseplug:{name}" for name in ("mine", "asks")}, caseplug=code)
    told = harness("plan", "exact.yaml", "data={name: finite, of: mine}", status=1)
    assert "dataset 'mine' (caseplug) gives no ImageSet" in told
    for needy in ("asks", "folder"):
        told = harness("plan", "exact.yaml", f"data={{name: finite, of: {needy}}}", status=1)
        assert f"'{needy}' needs options" in told
