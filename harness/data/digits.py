"""The embedded data set: real digits, small enough to train on in minutes without a download."""

from pathlib import Path

import numpy as np

from harness.data.images import ImageSet, data_set, no_files, split_by_content


@data_set(sources=no_files)
def digits(data_dir: Path) -> ImageSet:
    """1,797 handwritten digits, 8x8 grey, 500 held out; comes with scikit-learn."""
    from sklearn.datasets import load_digits

    found = load_digits()  # images [1797, 8, 8], 0 to 16
    images = np.rint(found.images * (255 / 16)).astype(np.uint8)[:, None]
    return split_by_content("digits", images, held_out=500, classes=[*map(str, found.target)])
