"""Small pictures on disk, as a person or a library would have put them there."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image


def picture(seed=0, width=6, height=6, mode="RGB"):
    """A picture of random pixels."""
    channels = () if mode == "L" else (3,)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, *channels))
    return Image.fromarray(pixels.astype(np.uint8))


def png(image):
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


@pytest.fixture
def pictures():
    """Makes the bytes of so many PNG files, all different."""
    return lambda count, **shape: [png(picture(seed, **shape)) for seed in range(count)]


@pytest.fixture
def write_zip(tmp_path):
    """Writes a zip of these files into an empty folder, and returns its path."""

    def write(name, files):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for file, content in files.items():
                archive.writestr(file, content)
        return tmp_path / name

    return write
