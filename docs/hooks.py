"""What MkDocs does beyond rendering: reports and grids are brought in from where they lie, parts of
pages are written from the program itself, and links that hold in the repository hold on the site.

A page says where a generated part stands with a comment: `<!-- generated: grid -->`. The lines
right below it, which the part replaces too, say to readers of the repository where else to look.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path

import method
import reference
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
FILES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}
FOLDERS = {
    "docs/pages/": "",
    "docs/": "",
    "reports/examples/": "examples/",
    "runs/": "grids/",
}
TAKEN_ALONG = (".py", ".toml", ".yaml", ".ipynb")  # of the folders beside the pages
GENERATED = re.compile(r"<!-- generated: (\w+)(?: ([^>]+))? -->(?:\n.+)*")
LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#]*)(#[^)\s]*)?(\))")
BARRED = re.compile(r"`([^`]*\\\|[^`]*)`")  # code with a bar, in a row of a table
FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
WRITERS: dict[str, Callable[..., str]] = {
    "grid": reference.grid_fields,
    "commands": reference.commands,
    "parts": method.parts,
    "contracts": method.contracts,
    "file": lambda path: fenced(ROOT / path),
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what lies elsewhere in the repository: reports, grids, the example package."""
    for path in outside():
        address = address_of(path.relative_to(ROOT).as_posix())
        if address not in files.src_uris:
            files.append(File.generated(config, address, abs_src_path=str(path)))
    return files


def outside() -> Iterator[Path]:
    yield ROOT / "CONTRIBUTING.md"
    yield from sorted((ROOT / "runs").glob("*.yaml"))
    yield from sorted(
        path for path in (ROOT / "docs/example-package").glob("*.*") if path.suffix != ".md"
    )
    for folder in sorted((ROOT / "reports/examples").iterdir()):
        page = folder / "report.html"
        yield page if page.exists() else folder / "report.md"
        yield from sorted((folder / "figures").iterdir())
        yield from sorted(folder.glob("results.*"))


def address_of(path: str) -> str:
    """Where a file of the repository is on the site, as MkDocs names sources; empty where it is
    not there. A report that is one page is taken as that."""
    if path.endswith("/report.md") and (ROOT / path).with_suffix(".html").exists():
        path = path.replace("report.md", "report.html")
    if path in FILES:
        return FILES[path]
    for folder, place in FOLDERS.items():
        if path.startswith(folder):
            return place + path.removeprefix(folder)
    return ""


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    source = Path(str(page.file.abs_src_path)).relative_to(ROOT).as_posix()
    written = GENERATED.sub(lambda found: generated(found, source), markdown)
    pieces = FENCED.split(written)  # code at the odd places: what is between is text
    pieces[::2] = [LINK.sub(lambda found: moved(found, source), text) for text in pieces[::2]]
    return "\n".join(map(with_bars, "".join(pieces).split("\n")))


def with_bars(line: str) -> str:
    """A row of a table whose code has bars as elsewhere: here the backslash before them stays."""

    def as_html(code: re.Match[str]) -> str:
        text = escape(code[1], quote=False).replace("\\|", "&#124;")
        return f"<code>{text}</code>"

    return BARRED.sub(as_html, line) if line.startswith("|") else line


def generated(found: re.Match[str], source: str) -> str:
    name, of = found.groups()
    if name not in WRITERS:
        known = ", ".join(WRITERS)
        raise PluginError(f"{source}: nothing writes '{name}'. Use one of {known}.")
    return WRITERS[name](*(of or "").split())


def fenced(path: Path) -> str:
    """A file as a block of code."""
    language = {".py": "python"}.get(path.suffix, path.suffix.removeprefix("."))
    return f"```{language}\n{path.read_text().strip()}\n```"


def moved(found: re.Match[str], source: str) -> str:
    """A link between files of the repository as one between files of the site."""
    opening, target, anchor, closing = found.groups()
    if not target or re.match(r"\w+:", target):
        return found.group()
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if source.startswith("reports/") and not (ROOT / path).exists():
        return opening[1:-2]  # a table that was not kept of this report
    address = address_of(path)
    if not address:
        raise PluginError(f"{source}: {target} is not on the site. Use its name, without a link.")
    here = posixpath.dirname(address_of(source))
    return f"{opening}{posixpath.relpath(address, here or '.')}{anchor or ''}{closing}"
