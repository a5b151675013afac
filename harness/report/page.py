"""The written report: report.md, report.html, results.csv and figures, from results alone.

The same results give the same bytes, and a report whose results have not changed is not written
again: a fingerprint of everything it was made from stands in report.md.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.report.table import Results

if TYPE_CHECKING:
    from markupsafe import Markup


def write(results: Results, folder: Path) -> list[Path]:
    """Write the report into a folder, made if need be; returns the files, report.md last.

    Raises HarnessError with the reason where the folder cannot be written.
    """
    # Figures and scipy take seconds to load, which finding a report current must not.
    from harness.report.contents import contents

    fingerprint = results.fingerprint()
    results = results.ordered()
    content = contents(results)
    files = {f"figures/{picture.name}.png": picture.png for picture in content["pictures"]}
    files["results.csv"] = results.cells.to_csv(index=False, lineterminator="\n").encode()
    files["report.html"] = _rendered("report.html.j2", content).encode()
    # Last, and with the fingerprint: where it stands, the rest is complete.
    files["report.md"] = f"{_rendered('report.md.j2', content)}\n{_mark(fingerprint)}\n".encode()
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            _write_atomically(folder / name, data)
    except OSError as error:
        reason = error.strerror or str(error)
        raise HarnessError(f"the report cannot be written to '{folder}': {reason}") from error
    return [folder / name for name in files]


def is_current(results: Results, folder: Path) -> bool:
    """Whether the folder holds, complete, the report that these results would give."""
    try:
        page = (folder / "report.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    if not page.endswith(f"{_mark(results.fingerprint())}\n"):
        return False
    needed = {"report.html", "results.csv", *re.findall(r"\]\((figures/\w+\.png)\)", page)}
    return all((folder / name).is_file() for name in needed)


def _rendered(template: str, content: dict[str, Any]) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("harness.report"),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"md": _markdown, "fence": _fenced, "anchor": _anchor, "inline": _inline}
    return environment.get_template(template).render(content)


def _markdown(text: object) -> str:
    """Text that Markdown shows as it is, also inside a table."""
    plain = " ".join(str(text).split())
    plain = plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    plain = re.sub(r"([\\`*|])", r"\\\1", plain)
    plain = re.sub(r"\](?=[(\[:])", r"\\]", plain)  # only what would make a link of [brackets]
    # Underscores inside a word are harmless there, and names are full of them.
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", plain)


def _fenced(text: str, language: str = "") -> str:
    """A code block whose fence is longer than any in the text."""
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _inline(text: str) -> Markup:
    """A formula with its subscripts (x_t, σ_s²) set as such."""
    from markupsafe import Markup

    escaped = str(Markup.escape(text))
    return Markup(re.sub(r"_([a-z])(?![a-z])", r"<sub>\1</sub>", escaped))


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _mark(fingerprint: str) -> str:
    return f"<!-- made from {fingerprint} -->"


def _write_atomically(path: Path, data: bytes) -> None:
    """A reader sees the old file or the new one, never half of one."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
