"""What README and the pages say is so: commands are understood, grids load, links lead somewhere,
tables name what there is, and the tutorial can be followed."""

import json
import re
import shlex
import shutil
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.cli.arguments import options_of
from harness.diffusion.objective import LOSSES, TARGETS, WEIGHTINGS
from harness.diffusion.training_times import TIME_DENSITIES
from harness.parts import REGISTRIES, every_part, registries
from harness.plan.grid import Grid, load_grid
from harness.plan.grid_fields import TrainingFields
from harness.plan.grid_file import parsed
from harness.registry import BUILT_IN, plural

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs" / "pages").glob("*.md"))
OTHERS = ("README.md", "CONTRIBUTING.md", "runs/README.md", "reports/README.md",
          "docs/example-package/README.md")  # fmt: skip
TEXTS = [ROOT / name for name in OTHERS] + PAGES
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
CITED = re.compile(r"([A-Z][^\W\d_]+)(?: et al\.| & [A-Z]\w+)? (\d{4}[a-z]?)")
EXAMPLE = {"name": "example", "data": "digits", "schedules": ["linear"],
           "samplers": ["ddim", "ddpm"], "steps": [5], "extractor": "digits"}  # fmt: skip
# Quick, whatever a page asks for; seeds stay, so that there are verdicts.
IN_SMALL = {"model": {"name": "tiny", "widths": [8], "attention": []}, "images": 40, "include": [],
            "training": {"steps": 8, "batch_size": 16, "precision": "float32"}}  # fmt: skip

pytestmark = pytest.mark.skipif(
    not (ROOT / "reports" / "examples").exists(), reason="the pages are read in a checkout"
)
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
every_text = pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))


def blocks(path, *languages):
    """The blocks of code in these languages."""
    return [found[3] for found in BLOCK.finditer(path.read_text()) if found[2] in languages]


def commands(path):
    """The arguments of each `harness ...` in the blocks of shell commands."""
    return [each for block in blocks(path, "sh", "bash") for each in commands_in(block)]


def commands_in(text):
    for line in text.replace("\\\n", " ").splitlines():
        words = " ".join(shlex.quote(word) for word in shlex.split(line, comments=True))
        for command in re.split(r" '(?:&&|[|>]+)' ", words):
            name, *arguments = shlex.split(command) or [""]
            if name.rsplit("/", 1)[-1] == "harness":
                yield arguments


def understood(arguments):
    """Parses a command as click does, and checks what its options and overrides say."""
    if not arguments or arguments[0].startswith("-"):
        return
    context = click.Context(main, **main.context_settings)
    name, command, rest = main.resolve_command(context, list(arguments))
    if {"--help", "-h"} & {*rest}:
        return
    given = command.make_context(name, rest, parent=context).params
    if {"only", "redo", "retime"} <= given.keys():
        options_of(**given)  # its filters and lengths of time can be read
    grid = ROOT / str(given.get("grid", ""))
    if grid.is_file():
        load_grid(grid, given.get("overrides", ()))


@every_text
def test_commands_are_understood(path):
    for arguments in commands(path):
        try:
            understood(arguments)
        except click.ClickException as error:
            pytest.fail(f"harness {shlex.join(arguments)}: {error.format_message()}")


@pytest.mark.parametrize(
    "path", [*TEXTS, *sorted((ROOT / "runs").glob("*.yaml"))], ids=lambda path: path.name
)
def test_brackets_are_quoted_in_commands(path):
    """Unquoted they are a pattern of files, of which zsh says that nothing matches it."""
    if path.suffix == ".yaml":
        told = [line for line in path.read_text().splitlines() if line.startswith("#   ")]
    else:
        told = [line for block in blocks(path, "sh", "bash") for line in block.splitlines()]
    assert [line for line in told if re.search(r"=\S*[\[{]", re.sub("'[^']*'", "", line))] == []


def test_examples_of_the_help_are_understood():
    for command in main.commands.values():
        for arguments in commands_in(command.help.partition("Example:")[2]):
            understood(arguments)


@every_text
def test_grids_load(path):
    for block in blocks(path, "yaml"):
        fields = parsed(block, path.name)
        Grid.model_validate(fields if "name" in fields else EXAMPLE | fields)


@every_text
def test_python_compiles(path):
    for block in blocks(path, "python"):
        compile(block, str(path), "exec")


def slugs(path):
    """The anchors of a page's headings, as sites make them."""
    text = BLOCK.sub("", path.read_text())
    plain = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in HEADING.findall(text))
    return {re.sub(r"[\s-]+", "-", heading) for heading in plain}


@every_text
def test_links_lead_somewhere(path):
    for target in LINK.findall(BLOCK.sub("", path.read_text())):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        assert there.exists(), target
        assert there.is_relative_to(ROOT), target
        if anchor and there.suffix == ".md":
            assert anchor in slugs(there), target


def rows(path, heading):
    """The cells of the table that begins with this column."""
    _, _, table = path.read_text().partition(f"| {heading} |")
    for line in table.splitlines()[2:]:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split("|")]


def test_the_grids_are_all_listed():
    listed = {re.search(r"\(([^)]+)\)", row[0])[1] for row in rows(ROOT / "runs/README.md", "file")}
    assert listed == {path.name for path in (ROOT / "runs").glob("*.yaml")}


def test_the_fields_of_a_grid_are_all_listed():
    listed = {row[0].strip("`"): row[1] for row in rows(ROOT / "runs/README.md", "field")}
    assert listed.keys() == Grid.model_fields.keys()
    named = {*re.findall(r"`(\w+)`", listed["training"])}
    assert {*TrainingFields.model_fields} <= named
    for registry in (TARGETS, WEIGHTINGS, TIME_DENSITIES, LOSSES):
        built_in = {name for name in registry if registry.origin(name) == BUILT_IN}
        assert built_in <= named, registry.kind


def test_the_house_has_the_rooms_of_the_map():
    [_, house, *_] = blocks(ROOT / "docs/pages/architecture.md", "text")
    inside = house.partition("harness/\n")[2].partition("\nruns/")[0]
    rooms = re.findall(r"(?:^|;)  ?([a-z]+(?:/|\.py)) ", inside, re.MULTILINE)
    package = ROOT / "harness"
    folders = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    assert {room for room in rooms if room.endswith("/")} == folders
    assert [room for room in rooms if not (package / room).exists()] == []


def test_kinds_of_parts_are_where_the_table_says():
    names = {registry.kind for registry in registries()}
    told = [*rows(ROOT / "docs/pages/extending.md", "to add")]
    points = {point.strip("`") for *_, point, _ in told}
    assert points == {f"harness.{plural(kind)}" for kind in names}
    for _, _, place, *_ in told:
        registry, file = re.findall(r"`([^`]+)`", place)
        found = ROOT / "harness" / file
        found = found / "__init__.py" if found.is_dir() else found
        assert re.search(rf"^{registry}\b.* = ", found.read_text(), re.MULTILINE), place


def known_words():
    """Everything that a grid or a command line may hold by name."""
    words = {name for registry in REGISTRIES for name in registry}
    words |= {each.name for each in every_part()}
    words |= {option.name for each in every_part() for option in each.options}
    words |= {*Grid.model_fields, *TrainingFields.model_fields, *main.commands}
    schema = json.dumps(Grid.model_json_schema())
    return words | {*re.findall(r'"([\w]+)"', schema)} | {"seed", "sampler", "schedule"}


@pytest.mark.parametrize("name", ["choosing", "grid", "lab", "reading", "tutorial"])
def test_tables_name_what_there_is(name):
    words = known_words()
    path = ROOT / "docs" / "pages" / f"{name}.md"
    for line in path.read_text().splitlines():
        for token in re.findall(r"`([a-z][a-z0-9_]+)`", line) if line.startswith("|") else ():
            assert token in words or (path.parent / token).exists(), f"{token} in {line}"


def test_every_paper_that_a_part_names_is_listed():
    sources = (ROOT / "docs/pages/method.md").read_text().partition("## Sources")[2].splitlines()
    for part in every_part():
        for author, year in CITED.findall(f"{part.description} {part.formula}"):
            listed = any(author in line and f" {year}. " in line for line in sources)
            assert listed or part.origin != "built in", f"{author} {year}"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site. MkDocs may warn of nothing."""
    pytest.importorskip("material")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    build(load_config(str(ROOT / "docs/mkdocs.yml"), strict=True, site_dir=str(folder)))
    return folder


@pytest.mark.slow
def test_no_page_of_the_site_loads_anything_from_elsewhere(site):
    pages = [*site.glob("*.html")]
    assert len(pages) > len(PAGES)
    for page in pages:
        loaded = re.findall(
            r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[^>]+>", page.read_text()
        )
        assert [tag for tag in loaded if re.search(r'="?(?:https?:)?//', tag)] == [], page.name


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome is installed")
def test_the_site_can_be_searched_without_a_server(site):
    playwright = pytest.importorskip("playwright.sync_api")
    asked = []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "index.html").as_uri())
        page.locator(".md-search__input").click()
        page.keyboard.type("rectified flow", delay=20)  # it listens to keys
        page.locator(".md-search-result__item").first.wait_for(timeout=30_000)
        browser.close()
    assert [url for url in asked if not url.startswith("file:")] == []


def in_small(fields):
    return json.dumps(fields | IN_SMALL)  # YAML that needs no writer


@pytest.mark.slow
def test_the_tutorial_can_be_followed(tmp_path, monkeypatch):
    """Its commands, in its order, on its own grids in small; what it shows is among what they
    make."""
    page = ROOT / "docs/pages/tutorial.md"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for block in blocks(page, "yaml"):
        fields = parsed(block, "tutorial")
        name = "mine.yaml" if fields["name"] == "mine" else f"runs/{fields['name']}.yaml"
        (tmp_path / name).write_text(in_small(fields))
    for arguments in commands(page):
        if arguments[0] == "ui":  # which goes on until Ctrl-C
            continue
        if "--at-most" in arguments:
            arguments[arguments.index("--at-most") + 1] = "1s"
        told = CliRunner().invoke(main, arguments)
        assert told.exit_code == 0, f"harness {shlex.join(arguments)}: {told.output}"
    shown = re.findall(r"examples/digits/(figures/\w+\.png)", page.read_text())
    assert shown
    for each in ("report.html", "handout.html", *shown):
        assert (tmp_path / "reports/digits" / each).exists(), each
