"""Results that are legal and odd, and a run that is stopped in the middle."""

import json
import os
import re
import signal

import pytest
from situations import harness, images, last_report
from test_other_inputs import state

STOPS = """
import os, signal
from pathlib import Path
from harness.diffusion.samplers import SAMPLERS, sampler

@sampler(order=1)
def stops(denoise, schedule, x, times, draw_noise):
    "Like DDIM, but a person presses Ctrl-C in the middle of the second cell."
    count = Path({!r})
    if count.exists() and len(x) == 40 and len(times) == 6:
        count.unlink()
        os.kill(os.getpid(), signal.SIGINT)
    return SAMPLERS["ddim"](denoise, schedule, x, times, draw_noise)
"""


def page(place, name="exactcase"):
    return (last_report(place, name) / "report.md").read_text()


def test_cells_with_equal_images_and_a_grid_of_one_cell_are_reported(place, with_figures):
    harness("run", "exact.yaml")
    assert re.search(r"\| Result \|.*linear with ddim at 2 steps", page(place))
    # At one step every sampler gives the estimate of x_0.
    harness("run", "exact.yaml", "samplers=[ddim,ddpm]", "steps=[1]")
    assert "inconclusive" in harness("compare", "sampler=ddim", "sampler=ddpm", "--only", "steps=1")


@pytest.mark.parametrize("count", [2, 13, 15])
def test_few_images_are_refused_before_the_work_or_scored(place, count):
    images(place / "few", count=count)
    grid = ("network.yaml", "data={name: folder, path: few, image_size: 8}", "metrics=[kid,fid]")
    told = json.loads(harness("plan", *grid, "--json")) if count > 2 else None
    if told is None:
        assert "Use" in harness("plan", *grid, status=1)
        return
    harness("run", *grid)
    assert state(*grid) == ["finished", "finished"]


def test_ctrl_c_in_the_middle_of_a_cell_loses_nothing(place, package):
    if not hasattr(signal, "SIGINT") or os.name != "posix":
        pytest.skip("signals of POSIX")
    mark = place / "mark"
    package({("samplers", "stops"): "caseplug:stops"}, caseplug=STOPS.format(str(mark)))
    grid = ("exact.yaml", "samplers=[stops]", "steps=[2,5]")
    state(*grid)
    mark.touch()
    told = harness("run", *grid, status=130)
    assert "The same command goes on from here." in told
    assert "2 of 2" in harness("run", *grid)
