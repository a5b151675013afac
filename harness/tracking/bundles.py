"""Many results in one file: a server is asked for that, and not once or more for each run."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

SIZE = 200  # results in one bundle
PARENT_FILES = "grid"  # in the place of a key: what else a report needs of the parent run
FOLDER = "results"  # of the parent run's files


@dataclass(frozen=True)
class Bundle:
    """The files of some results, by key and name."""

    files: zipfile.ZipFile

    def read(self, key: str, name: str) -> bytes | None:
        with suppress(KeyError, zipfile.BadZipFile, EOFError):
            return self.files.read(f"{key}/{name}")
        return None


def opened(content: bytes | None) -> Bundle | None:
    """A bundle that was read; None where it is none."""
    with suppress(zipfile.BadZipFile):
        return Bundle(zipfile.ZipFile(io.BytesIO(content))) if content else None
    return None


def packed(results: Mapping[str, Mapping[str, bytes]]) -> bytes:
    """The files of results, by key and name, as one: the same files are the same bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle:
        for key, contents in sorted(results.items()):
            for name, content in sorted(contents.items()):
                bundle.writestr(zipfile.ZipInfo(f"{key}/{name}"), content)
    return file.getvalue()


def chunks(digests: Iterable[tuple[str, str]]) -> dict[str, Sequence[str]]:
    """By the name of a bundle, which keys it holds; `digests` are keys and the checksums of what
    they stand for, in an order to which is added at the end alone, so that full bundles keep their
    names."""
    listed = list(digests)
    found: dict[str, Sequence[str]] = {}
    for start in range(0, len(listed), SIZE):
        some = listed[start : start + SIZE]
        text = hashlib.sha256(repr(some).encode()).hexdigest()[:12]
        found[f"{FOLDER}/{text}.zip"] = [key for key, _ in some]
    return found
