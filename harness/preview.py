"""What a folder of images, or a data set, is to a network, before anything is trained on it:
`harness data`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from harness.data.datasets import DATASETS, load
from harness.data.files import telling
from harness.data.folder import existing_path
from harness.data.images import ImageSet
from harness.data.prepare import Preparation
from harness.data.sheet import pairs_of, sheet
from harness.errors import BadOption, DataError, HarnessError, at_most, legible, suggestion
from harness.metrics.enough import Enough, purposes
from harness.models.presets import MODELS
from harness.plan.grid_file import as_yaml
from harness.work.cells import Part
from harness.work.reading import Background, Remark

if TYPE_CHECKING:
    from harness.work.outputs import DataOutput, EnoughOutput, RemarkOutput

SIZE = 64  # pixels a side of a person's own images, where none is asked for
MOST_CLASSES = 24  # that are listed
NETWORKS = ("tiny", "small", "base")
KINDS = frozenset({".jpeg", ".jpg", ".png", ".webp"})  # of sheets

Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Wanted:
    """What is to be looked at, and how."""

    what: str  # a folder or zip, else the name of a data set
    data_dir: Path
    size: int | None = None  # pixels a side
    background: Background = "white"
    grey: bool = False
    out: Path | None = None  # of the sheet


@dataclass(frozen=True, eq=False)
class Preview:
    """A data set, and what is to be known of it."""

    wanted: Wanted
    data: Part  # as a grid names it
    images: ImageSet

    @property
    def remarks(self) -> list[Remark]:
        return self.images.as_read.remarks()

    @property
    def grid_line(self) -> str:
        """The data set in a grid file."""
        if not self.data.options:
            return f"data: {self.data.name}"
        return f"data: {as_yaml({'name': self.data.name, **self._in_order}, in_one_line=True)}"

    @property
    def _in_order(self) -> Mapping[str, Any]:
        """The options, the path first, and the size also where it is the default."""
        first = {key: self.data.keywords[key] for key in ("path",) if key in self.data.keywords}
        sized = {"image_size": self.images.size} if self.data.name == "folder" else {}
        return first | sized | self.data.keywords

    def as_text(self) -> str:
        """For a person."""
        blocks = [
            [*self._overview()], [*self._classes()], [*self._remarks()], [*self._enough()],
            ["For a grid", f"  {self.grid_line}", "", self._sheet()],
        ]  # fmt: skip
        return "\n\n".join("\n".join(block) for block in blocks if block)

    def as_json(self) -> DataOutput:
        images = self.images
        return {
            "data": {"name": self.data.name, **self._in_order},
            "grid": self.grid_line,
            "train": len(images.train),
            "held_out": len(images.held_out),
            "channels": images.channels,
            "fingerprint": images.fingerprint,
            "images": images.as_read.as_json(),
            "remarks": [cast("RemarkOutput", asdict(remark)) for remark in self.remarks],
            "enough": [cast("EnoughOutput", asdict(purpose)) for purpose in self._purposes],
            "networks": self._networks,
            "sheet": str(self.wanted.out) if self.wanted.out else None,
        }

    @property
    def _purposes(self) -> list[Enough]:
        found = purposes(len(self.images.train), len(self.images.held_out))
        is_colour = self.images.channels == 3  # else no features of photographs are compared
        return [each for each in found if is_colour or each.purpose != "FID"]

    @property
    def _networks(self) -> list[str]:
        """The networks that take images of this size."""

        def fits(name: str) -> bool:
            try:
                MODELS.make(name, {}).check(self.images.size)
            except HarnessError:
                return False
            return True

        return [name for name in NETWORKS if fits(name)]

    def _overview(self) -> Iterator[str]:
        images, read = self.images, self.images.as_read
        yield legible(self.wanted.what, kept="")
        if read.is_of_files:
            yield _row("files", f"{read.found:,} found, {read.used:,} used")
        parts = f"{len(images.train):,} to train on, {len(images.held_out):,} held out"
        yield _row("images", parts)
        colour = {1: "grey", 3: "colour"}.get(images.channels, f"{images.channels} channels")
        yield _row("prepared", f"{read.side}x{read.side} pixels, {colour}")
        if read.smallest and read.largest:
            yield _row("smallest", f"{read.smallest}  {read.smallest.example}")
            yield _row("largest", f"{read.largest}  {read.largest.example}")
        if read.classes:
            yield _row("classes", read.classes_in_words())
        networks = ", ".join(self._networks)
        none = "none of tiny, small, base takes this size. Use a multiple of 8"
        yield _row("networks", networks or none)

    def _classes(self) -> Iterator[str]:
        if classes := self.images.as_read.classes:
            told = [f"{name} ({count:,})" for name, count in classes.items()]
            yield "Classes, and how many images each has"
            yield f"  {', '.join(at_most(told, MOST_CLASSES))}"

    def _remarks(self) -> Iterator[str]:
        remarks = self.remarks
        if remarks:
            yield "What was left out or altered"
        for remark in remarks:
            yield f"  {remark.what}{remark.such_as}"
            yield f"      {remark.why}.{f' {remark.use}.' if remark.use else ''}"

    def _enough(self) -> Iterator[str]:
        yield "Is that enough?"
        for each in self._purposes:
            yield _row(each.purpose, each.told)

    def _sheet(self) -> str:
        if self.wanted.out:
            return f"The sheet of what a network will see: {self.wanted.out}"
        return "Use --out sheet.png for a picture of what a network will see."


def preview(wanted: Wanted, tell: Tell) -> Preview:
    """Read the images once, and write the sheet where one is wanted; `tell` is called as reading
    goes on. Raises DataError where the images cannot be had, BadOption for what cannot be asked."""
    data = part_of(wanted)
    if wanted.out:
        check_out(wanted.out, wanted, data)
    with telling(tell):
        # All faults at once: a run is stopped by the first, unless it is told to skip them.
        lenient = {"on_bad": "skip"} if data.name == "folder" else {}
        images = load(data.name, wanted.data_dir, data.keywords | lenient)
    if images.as_read.unreadable.count:
        data = Part.of(data.name, data.keywords | lenient)
    if wanted.out:
        write_sheet(wanted.out, wanted, data, images)
    return Preview(wanted, data, images)


def part_of(wanted: Wanted) -> Part:
    """The data set that is meant. Raises BadOption where it has no such option, and DataError where
    there is neither a data set nor a folder of that name."""
    name, options = wanted.what, dict[str, Any]()
    if name not in DATASETS or name == "folder":
        options = {"path": name, "image_size": SIZE}
        try:
            existing_path(name, wanted.data_dir)
        except DataError:
            if name == "folder":
                raise BadOption("'folder' is any folder of images. Use its path.") from None
            known = [other for other in DATASETS.names() if other != "folder"]
            raise DataError(
                f"'{name}' is neither a folder or zip of images nor a data set."
                f"{suggestion(name, known)}"
            ) from None
        name = "folder"
    given = {
        "image_size": wanted.size, "background": _unless(wanted.background, "white"),
        "grey": _unless(wanted.grey, False),
    }  # fmt: skip
    options |= {key: value for key, value in given.items() if value is not None}
    known = [option.name for option in DATASETS.options(name)]
    if stray := [key for key in options if key not in known]:
        option = stray[0].removeprefix("image_").replace("_", "-")
        raise BadOption(f"the data set '{name}' knows no --{option}. Use it without.")
    return Part.of(name, DATASETS.check_options(name, options), DATASETS.source(name))


def check_out(out: Path, wanted: Wanted, data: Part) -> None:
    """Raises BadOption where a sheet cannot be written there, or would be one of the images."""
    if out.suffix.lower() not in KINDS:
        raise BadOption(
            f"--out {out} is no name of a picture. Use one that ends in {', '.join(sorted(KINDS))}."
        )
    if out.is_dir() or not out.parent.is_dir():
        what = "is a folder" if out.is_dir() else "lies in a folder that does not exist"
        raise BadOption(f"--out {out} {what}. Use a file in a folder that exists.")
    if data.name == "folder":
        path = existing_path(data.keywords["path"], wanted.data_dir).resolve()
        if path in [out.resolve(), *out.resolve().parents]:
            raise BadOption(
                f"--out {out} lies among the images, and would be read as one. Use another folder."
            )


def write_sheet(out: Path, wanted: Wanted, data: Part, images: ImageSet) -> None:
    """Raises BadOption where it cannot be written."""
    pairs = []
    if data.name == "folder" and images.reading:
        how = Preparation(images.size, wanted.grey, wanted.background)
        path = existing_path(data.keywords["path"], wanted.data_dir)
        pairs = pairs_of(path, images.reading, how)
    try:
        sheet(images, pairs).save(out)
    except OSError as error:
        raise BadOption(
            f"--out {out} cannot be written ({error.strerror or error}). Use another file."
        ) from error


def _unless(value: Any, default: Any) -> Any:
    return None if value == default else value


def _row(name: str, told: str) -> str:
    return f"  {name:10}  {told}"
