"""The tables of quality as LaTeX, to be \\input into a document that uses booktabs.

An interval stands below its value, so that a page is wide enough. A long table is a longtable.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator

from harness.report.contents import Contents
from harness.report.tables import Row, Table, Value

MOST_ROWS = 24  # of a table on one page
TIGHT = r"\footnotesize\setlength{\tabcolsep}{4pt}"
SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$",
    "#": r"\#", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''",
    # After the end of a row, a bracket would be the space to leave there.
    "[": "{[}", "]": "{]}", "\N{MINUS SIGN}": "$-$", "–": "--", "…": r"\ldots{}", "±": r"$\pm$",
    "α": r"$\alpha$", "β": r"$\beta$", "ε": r"$\epsilon$", "η": r"$\eta$", "σ": r"$\sigma$",
}  # fmt: skip


def as_latex(content: Contents) -> str:
    """A table of the metric that decides by number of steps, and all tables of quality, of each
    study of the report."""
    blocks = [r"% \usepackage{booktabs,longtable}; what is too wide is turned by pdflscape"]
    name = re.sub(r"[^a-z0-9]+", "-", content.experiment.name.lower()).strip("-")
    for n, group in enumerate(content.groups, 1):
        for m, table in enumerate([group.by_steps, *group.quality], 1):
            caption = group.caption
            if table.title:
                caption = f"{table.title} of the same cells; the row that is best above is bold."
            blocks.append("\n".join(_table(table, caption, f"tab:{name}-{n}-{m}")))
    return "\n\n".join(blocks) + "\n"


def escaped(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(SPECIAL.get(letter, letter) for letter in " ".join(text.split()))


def _table(table: Table, caption: str, label: str) -> Iterator[str]:
    columns = "".join("r" if column.is_number else "l" for column in table.columns)
    head = rf"\caption{{{escaped(caption)}}}\label{{{label}}}\smallskip"
    titles = _line(_title(column.title) for column in table.columns)
    rows = [line for row in table.rows for line in _row(row)]
    if len(table.rows) > MOST_ROWS:
        yield from (rf"{{{TIGHT}", rf"\begin{{longtable}}{{{columns}}}", rf"{head} \\")
        yield from (r"\toprule", titles, r"\midrule", r"\endhead", r"\bottomrule", r"\endfoot")
        yield from (*rows, r"\end{longtable}}")
        return
    yield from (r"\begin{table}", rf"\centering{TIGHT}", head, rf"\begin{{tabular}}{{{columns}}}")
    yield from (r"\toprule", titles, r"\midrule", *rows, r"\bottomrule")
    yield from (r"\end{tabular}", r"\end{table}")


def _title(text: str) -> str:
    """A title of a column, on several lines where it is long."""
    lines = [escaped(line) for line in textwrap.wrap(text, 10, break_long_words=False)]
    broken = r" \\ ".join(lines)
    return rf"\shortstack[r]{{{broken}}}" if len(lines) > 1 else broken


def _row(row: Row) -> Iterator[str]:
    yield _line(_value(value, row.is_best or value.is_best) for value in row.values)
    if any(value.interval for value in row.values):
        small = (rf"\scriptsize {escaped(v.interval)}" if v.interval else "" for v in row.values)
        yield rf"{_line(small)} \addlinespace"


def _value(value: Value, is_best: bool) -> str:
    return rf"\textbf{{{escaped(value.text)}}}" if is_best else escaped(value.text)


def _line(values: Iterable[str]) -> str:
    return " & ".join(values) + r" \\"
