"""The tables of quality as LaTeX, to be \\input into a document that uses booktabs.

An interval stands below its value, so that a page is wide enough. A long table is a longtable.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from harness.report.contents import Contents
from harness.report.tables import Row, Table, Value

MOST_ROWS = 24  # of a table on one page
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
    blocks = [r"% \usepackage{booktabs,longtable}"]
    for n, group in enumerate(content.groups, 1):
        tables = [(group.by_steps, group.caption), *((one, one.title) for one in group.quality)]
        for m, (table, caption) in enumerate(tables, 1):
            name = re.sub(r"[^a-z0-9]+", "-", content.experiment.name.lower()).strip("-")
            text = caption or group.caption
            blocks.append("\n".join(_table(table, text, f"tab:{name}-{n}-{m}")))
    return "\n\n".join(blocks) + "\n"


def escaped(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(SPECIAL.get(letter, letter) for letter in " ".join(text.split()))


def _table(table: Table, caption: str, label: str) -> Iterator[str]:
    columns = "".join("r" if column.is_number else "l" for column in table.columns)
    titles = _line(escaped(column.title) for column in table.columns)
    head = rf"\caption{{{escaped(caption)}}}\label{{{label}}}"
    rows = [line for row in table.rows for line in _row(row)]
    if len(table.rows) > MOST_ROWS:
        yield rf"\begin{{longtable}}{{{columns}}}"
        yield rf"{head}\\"
        yield from (r"\toprule", titles, r"\midrule", r"\endhead", r"\bottomrule", r"\endfoot")
        yield from (*rows, r"\end{longtable}")
        return
    yield from (r"\begin{table}", r"\centering\small", head, rf"\begin{{tabular}}{{{columns}}}")
    yield from (r"\toprule", titles, r"\midrule", *rows, r"\bottomrule")
    yield from (r"\end{tabular}", r"\end{table}")


def _row(row: Row) -> Iterator[str]:
    yield _line(_value(value, row.is_best or value.is_best) for value in row.values)
    if any(value.interval for value in row.values):
        small = (rf"\scriptsize {escaped(v.interval)}" if v.interval else "" for v in row.values)
        yield rf"{_line(small)} \addlinespace"


def _value(value: Value, is_best: bool) -> str:
    return rf"\textbf{{{escaped(value.text)}}}" if is_best else escaped(value.text)


def _line(values: Iterable[str]) -> str:
    return " & ".join(values) + r" \\"
