"""What tests of situations share: two grids, folders of images, and the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from click.testing import CliRunner
from PIL import Image

from harness.cli import main

EXACT = """
name: exactcase
data: {name: mixture, size: 4, images: 200}
schedules: [linear]
samplers: [ddim]
steps: [2]
images: 40
extractor: pixels
metrics: [kid]
"""
NETWORK = """
name: case
data: {name: folder, path: imgs, image_size: 8, grey: true}
model: {name: tiny, widths: [8], attention: []}
training: {steps: 6, batch_size: 8, precision: float32}
schedules: [linear]
samplers: [ddim]
steps: [2]
images: 16
extractor: pixels
metrics: [kid]
"""


def images(folder, seed=1, count=24):
    """Write as many random images into a folder, over those that are there."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    for number in range(count):
        pixels = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")


def harness(*arguments, status=0):
    """What a command printed; its status must be this, and a traceback is never right."""
    given = [str(each) for each in arguments]
    if given[0] in ("run", "plan", "report", "compare", "sample") and "--store" not in given:
        # Whole: of a relative one MLflow would take the database of another test.
        given += ["--store", str(Path("runs/store").absolute())]
    result = CliRunner().invoke(main, given)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result.output


def last_report(place, name="exactcase"):
    """The folder of the report that was written last: of the grid, or of it with changes."""
    pages = [
        *place.glob(f"reports/{name}/report.html"),
        *place.glob(f"reports/{name}--*/report.html"),
    ]
    return max(pages, key=lambda page: page.stat().st_mtime_ns).parent
