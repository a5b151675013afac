"""The page, written once as Markdown (`page.md.j2`) and rendered twice.

What Markdown cannot say, such as a table whose rows lead to runs, is a block: `blocks.md.j2` and
`blocks.html.j2` write each in their own way. A page of HTML is Markdown in which a comment holds
the place of each block. All text of a user is escaped before it gets there, so none can be one.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from harness.work.results import Experiment

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup

    from harness.report.contents import Contents


def as_markdown(content: Contents) -> str:
    return _environment().get_template("report.md.j2").render(_context(content, "blocks.md.j2"))


def as_html(content: Contents) -> str:
    """One file that asks for nothing else."""
    from markdown_it import MarkdownIt
    from markupsafe import Markup

    blocks: list[str] = []

    def block(text: str) -> str:
        blocks.append(text)
        return f"<!--{len(blocks) - 1}-->"

    environment = _environment()
    environment.filters |= {"block": block, "inline": _inline, "formula": _formula}
    context = _context(content, "blocks.html.j2")
    body = environment.get_template("page.md.j2").render(context)
    body = _with_anchors(MarkdownIt("commonmark", {"html": True}).render(body))
    body = re.sub(r"<!--(\d+)-->", lambda match: blocks[int(match[1])], body)
    script = (Path(__file__).parent / "templates" / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    own = {"body": Markup(body), "script": Markup(script), "script_hash": f"sha256-{digest}"}
    return environment.get_template("report.html.j2").render(context | own)


def anchors(texts: Iterable[str]) -> list[str]:
    """A name in the page for each of these texts, no two alike."""
    made: list[str] = []
    for text in texts:
        first = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
        named, n = first, 1
        while named in made:
            n += 1
            named = f"{first}-{n}"
        made.append(named)
    return made


def _context(content: Contents, blocks: str) -> dict[str, object]:
    """What the templates may ask for."""
    questions = (f"finding {finding.question}" for finding in content.findings)
    return {
        "page": content, "experiment": content.experiment, "blocks": blocks,
        "anchors": anchors(questions), "link": _link(content.experiment),
    }  # fmt: skip


def _link(experiment: Experiment) -> Callable[[str], str]:
    """What gives the address of a run in the tracker's pages; nothing where they are nowhere."""
    runs = f"{experiment.ui_url.rstrip('/')}/#/experiments/{quote(experiment.id, safe='')}/runs/"
    is_known = bool(experiment.ui_url and experiment.id)
    return lambda run_id: runs + quote(run_id, safe="") if is_known and run_id else ""


def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("harness.report"),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "md": _markdown, "inline": _markdown, "formula": _markdown, "code": _code,
        "fence": _fenced, "breakable": _breakable, "block": str.strip,
    }  # fmt: skip
    return environment


def _with_anchors(html: str) -> str:
    """The page with headings that can be linked to, and that link to themselves."""
    titles = re.findall(r"<h[23]>(.*?)</h[23]>", html)
    names = iter(anchors(re.sub(r"<.*?>|&\w+;", "", title) for title in titles))

    def heading(match: re.Match[str]) -> str:
        level, title, name = match[1], match[2], next(names)
        return f'<h{level} id="{name}"><a href="#{name}">{title}</a></h{level}>'

    return re.sub(r"<h([23])>(.*?)</h\1>", heading, html)


def _markdown(text: object) -> str:
    """Text that Markdown shows as it is, also inside a table."""
    plain = " ".join(str(text).split())
    plain = plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    plain = re.sub(r"([\\`*|])", r"\\\1", plain)
    plain = re.sub(r"\](?=[(\[:])", r"\\]", plain)  # only what would make a link of [brackets]
    # Underscores inside a word are harmless there, and names are full of them.
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", plain)


def _inline(text: str) -> str:
    """Text with the subscripts of its formulae (x_t, σ_s²) set as such."""
    return re.sub(r"\\?_([a-z])(?![a-z])", r"<sub>\1</sub>", _markdown(text))


def _formula(text: str) -> str:
    return f'<span class="formula">{_inline(text)}</span>'


def _code(text: str) -> str:
    """A name in a line of code; nothing in it can end the code."""
    return f"`{' '.join(text.split()).replace('`', chr(39))}`"


def _fenced(text: str, language: str = "") -> str:
    """A code block whose fence is longer than any in the text."""
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _breakable(text: str) -> Markup:
    """A name that may go on in the next line before its options and between them."""
    from markupsafe import Markup

    escaped = str(Markup.escape(text))
    return Markup(escaped.replace("(", "<wbr>(").replace(",", ",<wbr>"))
