"""The written report: report.md, report.html, results.csv, .parquet and .tex, and figures, from an
experiment alone.

Equal experiments give equal bytes, and a report of the same experiment is not written again: a
fingerprint of everything it was made from stands in report.md.
"""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import harness
from harness.errors import BadOption, HarnessError, legible
from harness.registry import Registry
from harness.store import write_bytes
from harness.work.results import Experiment, Result, to_json

if TYPE_CHECKING:
    import pandas as pd

    from harness.report.contents import Contents

TABLES = ("results.csv", "results.parquet")
TEX, ANSWERS = "results.tex", "answers.txt"
FIRST_COLUMNS = [
    "data", "extractor", "reference", "images", "precision", "schedule", "schedule_options",
    "sample_schedule", "sample_schedule_options", "model", "target",
    "scale", "weighting", "loss_function", "training_steps", "batch_size", "optimizer",
    "learning_rate", "ema", "sampler", "sampler_options", "spacing", "spacing_options", "clip",
    "steps", "seed", "sampling_seed", "machine", "key",
]  # fmt: skip
FORMULAS = tuple("=+-@＝＋－＠")  # how they begin
NUMBER = re.compile(r"[+-]?[\d.]+(e[+-]?\d+)?", re.IGNORECASE)
OF_ONE_TYPE = {"string", "boolean", "integer", "floating", "empty"}  # as pandas infers them


def contents_of(experiment: Experiment) -> Contents:
    """What the pages say of an experiment, without the paths of a disk. Raises BadOption where the
    address of the tracker's pages is none."""
    # Figures and scipy take seconds to load, which finding a report current must not.
    from harness.report.contents import contents
    from harness.report.redaction import shown

    check_address(experiment.ui_url)
    return contents(shown(experiment))


def write(experiment: Experiment, folder: Path, content: Contents | None = None) -> list[Path]:
    """Write the report into a folder, made if need be; returns the files, report.md last. Its
    contents are made unless they are given.

    Raises StoreError with the reason where the folder cannot be written, and BadOption where the
    address of the tracker's pages is none.
    """
    from harness.report.latex import as_latex
    from harness.report.render import as_html, as_markdown

    content = content or contents_of(experiment)
    pictures = [*filter(None, [content.lead]), *chain.from_iterable(content.pictures.values())]
    table = _table(content.experiment)
    csv, parquet = _csv(table), _parquet(table)
    files = {f"figures/{picture.name}.png": picture.png for picture in pictures}
    files |= {f"figures/{one.name}.webp": one.moving for one in pictures if one.moving}
    files |= dict(zip(TABLES, (csv, parquet), strict=True))
    files[TEX] = as_latex(content).encode()
    files[ANSWERS] = f"{content.first.as_text()}\n".encode()
    files["report.html"] = as_html(content).encode()
    # Last, and with the fingerprint: where it stands, the rest is complete.
    mark = _mark(fingerprint(experiment), content.is_whole)
    files["report.md"] = f"{as_markdown(content)}\n{mark}\n".encode()
    for name, data in files.items():
        write_bytes(folder / name, data)
    return [folder / name for name in files]


def is_current(experiment: Experiment, folder: Path) -> bool:
    """Whether the folder holds, complete, the report that this experiment would give."""
    try:
        page = (folder / "report.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    if not page.endswith(f"{_mark(fingerprint(experiment))}\n"):
        return False
    needed = {
        "report.html",
        TEX,
        ANSWERS,
        *TABLES,
        *re.findall(r"\]\((figures/\w+\.(?:png|webp))\)", page),
    }
    return all((folder / name).is_file() for name in needed)


def check_address(ui_url: str) -> None:
    """Raises BadOption where this is not empty and no address of pages."""
    try:
        parts = urlsplit(ui_url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_address = False
    if ui_url and (not is_address or not ui_url.isprintable() or set(ui_url) & set(" \"'<>\\")):
        raise BadOption(
            f"--ui-url is '{ui_url}'. Use the address at which MLflow's pages are open, as in "
            "http://127.0.0.1:5000"
        )


def verdicts(experiment: Experiment) -> list[str]:
    """Every verdict of the report in a line, as the tracker keeps them."""
    from harness.analysis.study import studies
    from harness.report import decision_table
    from harness.report.limitations import with_what_is_there

    main = next((one for one in studies(with_what_is_there(experiment)[0]) if one.metrics), None)
    return decision_table.verdicts(main) if main else []


def description(folder: Path) -> str:
    """The report in this folder in a few lines of Markdown, for the tracker, which folds all but
    the first three: the answers, then what the report has before its first picture."""
    from harness.report.render import escaped

    lines = map(escaped, answers_in(folder, "").splitlines())
    bold = (re.sub(r"^([^:]+: .*?)( \(|\.$)", r"**\1**\2", line) for line in lines)
    start, _, _ = (folder / "report.md").read_text(encoding="utf-8").partition("![")
    return "  \n".join(bold) + "\n\n" + start


def answers_in(folder: Path, command: str) -> str:
    """What the report in this folder answers, for the terminal of who gave this command, which a
    page has without its paths; empty where there is no report."""
    from harness.report.redaction import without_paths

    with suppress(OSError, UnicodeDecodeError):
        text = (folder / ANSWERS).read_text(encoding="utf-8").rstrip()
        shown = without_paths(Experiment("", (), command=command)).command
        return text.replace(shown, command) if command else text
    return ""


def fingerprint(experiment: Experiment) -> str:
    """One number for all that the report depends on: the experiment, its files by their checksums,
    and the code that words it. Equal fingerprints mean equal pages, byte for byte."""
    failures = tuple(sorted(experiment.failures, key=lambda one: (one.kind, one.key)))
    rest = json.dumps(
        asdict(replace(experiment, cells=(), trainings=(), failures=failures)), sort_keys=True
    )
    found: list[Result] = [*experiment.cells, *experiment.trainings]
    results = (to_json(one) for one in sorted(found, key=lambda one: one.work.key))
    code = f"{harness.__version__} {_digest_of_the_code()} {_of_other_packages()}"
    text = "\n".join([code, rest, *results])
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _digest_of_the_code() -> str:
    """Changes with the wording: a report is stale when code that it may come from has changed."""
    home = Path(harness.__file__).parent
    sources = sorted([*home.rglob("*.py"), *home.glob("report/templates/*")])
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()


def _of_other_packages() -> list[str]:
    """The sources of the findings and figures that other packages add."""
    found = []
    for kind in ("finding", "plot"):
        offered: Registry[object] = Registry(kind, {})
        for name in offered:
            try:
                found.append(f"{name} {offered.source(name)}")
            except HarnessError as error:
                found.append(str(error))
    return found


def _mark(made_from: str, is_whole: bool = True) -> str:
    """Where files could not be read, a report is never current: they may come back."""
    return f"<!-- made from {made_from}{'' if is_whole else ', some files were missing'} -->"


def _table(experiment: Experiment) -> pd.DataFrame:
    """One row for each cell, in an order that does not depend on who finished first."""
    import pandas as pd

    from harness.work.projection import rows_of

    frame = pd.DataFrame(rows_of(experiment.cells, experiment.runs))
    first = [column for column in FIRST_COLUMNS if column in frame]
    frame = frame[[*first, *sorted({*frame.columns} - {*first})]]
    return frame.sort_values(first, kind="stable", ignore_index=True) if first else frame


def _csv(table: pd.DataFrame) -> bytes:
    """The cells as text in which a spreadsheet finds no formula."""
    harmless = table.rename(columns=_no_formula).map(_no_formula)
    text: str = harmless.to_csv(index=False, lineterminator="\n")
    return text.encode()


def _no_formula(value: object) -> object:
    """The value; a text in one line, quoted by an apostrophe if a spreadsheet would compute it."""
    if not isinstance(value, str):
        return value
    line = legible(value, kept="")
    return f"'{line}" if line.startswith(FORMULAS) and not NUMBER.fullmatch(line) else line


def _parquet(table: pd.DataFrame) -> bytes:
    """The cells with the types they have. A column that mixes types has none, and becomes text."""
    from pandas.api.types import infer_dtype

    mixed = {
        str(column): table[column].map(str, na_action="ignore")
        for column in table
        if table[column].dtype == object
        and infer_dtype(table[column], skipna=True) not in OF_ONE_TYPE
    }
    data: bytes = table.assign(**mixed).to_parquet(None, index=False)
    return data
