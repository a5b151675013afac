"""The written report: report.md, report.html, results.csv and .parquet, and figures, from results
alone.

The same results give the same bytes, and a report whose results have not changed is not written
again: a fingerprint of everything it was made from stands in report.md.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from harness.errors import BadOption, HarnessError
from harness.report.table import Results

if TYPE_CHECKING:
    import pandas as pd
    from markupsafe import Markup


OF_ONE_TYPE = {"string", "boolean", "integer", "floating", "empty"}  # as pandas infers them


def write(results: Results, folder: Path) -> list[Path]:
    """Write the report into a folder, made if need be; returns the files, report.md last.

    Raises HarnessError with the reason where the folder cannot be written, and BadOption where
    the address of the tracker's pages is none.
    """
    # Figures and scipy take seconds to load, which finding a report current must not.
    from harness.report.contents import contents
    from harness.report.places import without_places

    fingerprint = results.fingerprint()
    link = _link(results.ui_url, results.experiment)
    results = without_places(results).ordered()
    content = contents(results)
    content["anchors"] = _anchors(finding.question for finding in content["findings"])
    content["link"] = link
    files = {f"figures/{picture.name}.png": picture.png for picture in content["pictures"]}
    files["results.csv"] = results.cells.to_csv(index=False, lineterminator="\n").encode()
    files["results.parquet"] = _parquet(results.cells)
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
    tables = {"results.csv", "results.parquet"}
    needed = {"report.html", *tables, *re.findall(r"\]\((figures/\w+\.png)\)", page)}
    return all((folder / name).is_file() for name in needed)


def _parquet(cells: pd.DataFrame) -> bytes:
    """The cells with the types they have. A column that mixes types has none, and becomes text."""
    from pandas.api.types import infer_dtype

    mixed: dict[str, Any] = {
        str(column): cells[column].map(str, na_action="ignore")
        for column in cells
        if cells[column].dtype == object
        and infer_dtype(cells[column], skipna=True) not in OF_ONE_TYPE
    }
    data: bytes = cells.assign(**mixed).to_parquet(None, index=False)
    return data


def check_address(ui_url: str) -> None:
    """Raises BadOption where this is not empty and no address of pages."""
    if not ui_url:
        return
    try:
        parts = urlsplit(ui_url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_address = False
    if not is_address or not ui_url.isprintable() or set(ui_url) & set(" \"'<>\\"):
        raise BadOption(
            f"--ui-url is '{ui_url}'. Give the address at which MLflow's pages are open, as in "
            "http://127.0.0.1:5000"
        )


def _link(ui_url: str, experiment: str) -> Callable[[str], str]:
    """What gives the address of a run in the tracker's pages; nothing where they are nowhere."""
    check_address(ui_url)
    if not ui_url:
        return lambda run_id: ""
    runs = f"{ui_url.rstrip('/')}/#/experiments/{quote(experiment, safe='')}/runs/"
    return lambda run_id: runs + quote(run_id, safe="") if experiment and run_id else ""


def _anchors(texts: Iterable[str]) -> list[str]:
    """An anchor for each finding, made from its question, no two alike."""
    anchors: list[str] = []
    for text in texts:
        first = _anchor(f"finding {text}")
        named, n = first, 1
        while named in anchors:
            n += 1
            named = f"{first}-{n}"
        anchors.append(named)
    return anchors


def _rendered(template: str, content: dict[str, Any]) -> str:
    import jinja2
    from markupsafe import Markup

    loader = jinja2.PackageLoader("harness.report")
    environment = jinja2.Environment(
        loader=loader,
        autoescape=jinja2.select_autoescape(["html.j2"]),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "md": _markdown, "fence": _fenced, "anchor": _anchor, "inline": _inline,
        "breakable": _breakable,
    }  # fmt: skip
    script, _, _ = loader.get_source(environment, "report.js")
    own = {"script": Markup(script), "script_hash": _script_hash(script)}
    return environment.get_template(template).render(content | own)


def _script_hash(script: str) -> str:
    """By which a browser tells the page's own script from any that got into it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


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


def _breakable(text: str) -> Markup:
    """A name that may go on in the next line before its options and between them."""
    from markupsafe import Markup

    escaped = str(Markup.escape(text))
    return Markup(escaped.replace("(", "<wbr>(").replace(",", ",<wbr>"))


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
