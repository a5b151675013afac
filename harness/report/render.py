"""The page, written once as Markdown (`page.md.j2`) and rendered twice.

What Markdown cannot say, such as a table whose rows lead to runs, is a block: `blocks.md.j2` and
`blocks.html.j2` write each in their own way. A page of HTML is Markdown in which a comment holds
the place of each block. All text of a user is escaped before it gets there, so none can be one.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.work.addresses import CELLS_VIEW, experiment_page, run_page
from harness.work.results import Experiment

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup

    from harness.report.contents import Contents
    from harness.report.handout import Handout


STANDING = ("decisions", "findings")  # sections that are open when the page is


def as_markdown(content: Contents) -> str:
    return _environment().get_template("report.md.j2").render(_context(content, "blocks.md.j2"))


def as_html(content: Contents) -> str:
    """One file that asks for nothing else."""
    from markupsafe import Markup

    script = (Path(__file__).parent / "templates" / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    context = _context(content, "blocks.html.j2")
    own = {"script": Markup(script), "script_hash": f"sha256-{digest}"}
    return _page("report.html.j2", "page.md.j2", context | own, standing=STANDING)


def handout_as_markdown(content: Contents, handout: Handout) -> str:
    context = _context(content, "blocks.md.j2") | {"handout": handout}
    return _environment().get_template("handout.md.j2").render(context)


def handout_as_html(content: Contents, handout: Handout) -> str:
    """One file, to be printed, that asks for nothing else."""
    context = _context(content, "blocks.html.j2") | {"handout": handout}
    return _page("handout.html.j2", "handout.md.j2", context)


def _page(
    template: str, written: str, context: dict[str, object], standing: Collection[str] | None = None
) -> str:
    """A page of HTML whose body is written as Markdown. Sections fold, but for those that are named
    as standing open."""
    from markdown_it import MarkdownIt
    from markupsafe import Markup

    blocks: list[str] = []

    def block(text: str) -> str:
        blocks.append(text)
        return f"<!--{len(blocks) - 1}-->"

    environment = _environment()
    environment.filters |= {"block": block, "inline": _inline, "formula": _formula}
    body = environment.get_template(written).render(context)
    body = _with_anchors(MarkdownIt("commonmark", {"html": True}).render(body))
    body = re.sub(r"<!--(\d+)-->", lambda match: blocks[int(match[1])], body)
    sections = re.findall(r'<h2 id="(.+?)"><a[^>]*>(.*?)</a></h2>', body)
    if standing is not None:
        body = _folded(body, standing)
    own = {"body": Markup(body), "sections": [(name, Markup(title)) for name, title in sections]}
    return environment.get_template(template).render(context | own)


def _folded(html: str, standing: Collection[str]) -> str:
    """The page with each section within a fold that its heading opens."""
    start, *sections = re.split(r"(?=<h2 )", html)
    folded = []
    for section in sections:
        heading, _, rest = section.partition("</h2>")
        title = re.sub(r"<a [^>]*>(.*?)</a>", r"\1", heading)  # a click there opens and closes
        is_open = any(f'id="{name}"' in heading for name in standing)
        state = " open" if is_open else ""
        folded.append(
            f'<details class="section"{state}><summary>{title}</h2></summary>{rest}</details>\n'
        )
    return start + "".join(folded)


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
    every = [*content.findings, *content.folded]
    questions = (f"finding {finding.question}" for finding in every)
    return {
        "page": content, "experiment": content.experiment, "blocks": blocks,
        "anchors": anchors(questions), "link": _link(content.experiment),
        "home": home(content.experiment),
    }  # fmt: skip


def _link(experiment: Experiment) -> Callable[[str], str]:
    """What gives the address of a run in the tracker's pages; nothing where they are nowhere."""
    is_known = bool(experiment.ui_url and experiment.id)
    return lambda run: run_page(experiment.ui_url, experiment.id, run) if is_known and run else ""


def home(experiment: Experiment) -> str:
    """The address of the experiment in the tracker's pages; empty where they are nowhere."""
    if not (experiment.ui_url and experiment.id):
        return ""
    view = CELLS_VIEW if experiment.has_view else ""  # of another one MLflow shows no runs at all
    return experiment_page(experiment.ui_url, experiment.id, view)


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
        "md": escaped, "inline": escaped, "formula": escaped, "code": _code,
        "together": _together, "fence": _fenced, "breakable": _breakable, "block": str.strip,
    }  # fmt: skip
    return environment


def _with_anchors(html: str) -> str:
    """The page with headings that can be linked to, and that link to themselves."""
    titles = re.findall(r"<h[234]>(.*?)</h[234]>", html)
    names = iter(anchors(re.sub(r"<.*?>|&\w+;", "", title) for title in titles))

    def heading(match: re.Match[str]) -> str:
        level, title, name = match[1], match[2], next(names)
        return f'<h{level} id="{name}"><a href="#{name}">{title}</a></h{level}>'

    return re.sub(r"<h([234])>(.*?)</h\1>", heading, html)


def escaped(text: object) -> str:
    """Text that Markdown shows as it is, also inside a table."""
    plain = " ".join(str(text).split())
    plain = plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    plain = re.sub(r"([\\`*|])", r"\\\1", plain)
    plain = re.sub(r"\](?=[(\[:])", r"\\]", plain)  # only what would make a link of [brackets]
    # Underscores inside a word are harmless there, and names are full of them.
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", plain)


def _inline(text: str) -> str:
    """Text with the subscripts of its formulae (x_t, σ_s²) set as such."""
    return re.sub(r"\\?_([a-z])(?![a-z])", r"<sub>\1</sub>", escaped(text))


def _formula(text: str) -> str:
    return f'<span class="formula">{_inline(text)}</span>'


def _together(text: str) -> str:
    """Text whose [brackets] are not torn apart at the end of a line, and per cent not either."""
    text = re.sub(r"\[[^\]]*\]", lambda match: match[0].replace(" ", "\N{NO-BREAK SPACE}"), text)
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


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
