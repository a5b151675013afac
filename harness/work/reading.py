"""What was read from files: one typed value, and what it tells a person.

Whoever reads image files counts in it what became of each; the sentences of a plan, the table of
`harness data` and the report's description of its data are made from it alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from harness.work.outputs import ImagesOutput

Alteration = Literal[
    "faulty", "first_frame", "transparent", "deep", "cmyk", "palette", "rotated", "cropped",
    "enlarged",
]  # fmt: skip
Background = Literal["white", "black", "grey"]  # what transparent pixels become
OnBad = Literal["refuse", "skip"]  # what happens where a file cannot be used
ALTERATIONS: tuple[Alteration, ...] = get_args(Alteration)

MOST_SUFFIXES = 8  # that are told apart
OTHERS = "others"  # the suffixes beyond these
NO_SUFFIX = "no suffix"
HEIF = frozenset({".heic", ".heif", ".hif"})
AVIF = frozenset({".avif", ".avifs"})
# Of files that somebody may have meant to be read: why they are not, and what would change it.
SKIPPED: Sequence[tuple[Collection[str], str, str]] = (
    (HEIF, "HEIC is read by pillow-heif, which is not installed",
     "Use pip install pillow-heif: the data are then others, so install it on each machine or on "
     "none"),
    (AVIF, "AVIF is read by Pillow 11.3 or later", "Use pip install --upgrade pillow"),
    ({".ai", ".arw", ".cr2", ".cr3", ".dng", ".eps", ".exr", ".hdr", ".ico", ".jp2", ".jxl",
      ".nef", ".orf", ".pbm", ".pcx", ".psd", ".raf", ".raw", ".rw2", ".svg", ".tga"},
     "Images of this format are not read", "Use PNG or JPEG copies of them"),
    ({".h5", ".hdf5", ".mat", ".npy", ".npz", ".parquet", ".pkl", ".pt"},
     "Nothing says how an array is to be read as images", "Use PNG files of them"),
    ({".7z", ".gz", ".rar", ".tar", ".tgz", ".zip"},
     "Archives in a folder are not opened", "Unpack them, or give one zip as the path"),
    ({".avi", ".mkv", ".mov", ".mp4", ".webm"},
     "Films are not read", "Use PNG or JPEG files of their frames"),
    ({NO_SUFFIX}, "Only a suffix tells an image",
     "Give images the suffix of their format, such as .png"),
)  # fmt: skip


@dataclass(frozen=True)
class Files:
    """Some of the files: how many, one of them by name, and why that one is here."""

    count: int = 0
    example: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Measures:
    """How large an image is, in pixels, upright and before anything was cut; and which it is."""

    width: int
    height: int
    example: str = ""

    @property
    def side(self) -> int:
        """The shorter side: that of the square in its centre."""
        return min(self.width, self.height)

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True)
class Remark:
    """What a person should know of some files: what was done with them and why, and what would
    change it; empty where nothing has to."""

    what: str
    why: str
    use: str = ""
    example: str = ""
    limits: bool = False  # whether it bears on what the results mean

    @property
    def sentence(self) -> str:
        return f"{self.what}. {self.use}" if self.use else self.what

    @property
    def such_as(self) -> str:
        """How a line goes on that names the example; empty where there is none."""
        if not self.example:
            return ""
        return f"{':' if self.what.startswith('1 ') else ', such as'} {self.example}"


@dataclass(frozen=True)
class Reading:
    """What became of the files of a data set; of one that is no files, how many images it has."""

    used: int = 0  # images, of both parts
    side: int = 0  # pixels along a side, after preparation
    found: int = 0  # files, hidden ones not counted; 0 where the images come from no folder or zip
    skipped: Mapping[str, Files] = field(default_factory=dict)  # by suffix
    stray: Files = field(default_factory=Files)  # names that lead to no file
    unreadable: Files = field(default_factory=Files)
    altered: Mapping[Alteration, Files] = field(default_factory=dict)
    duplicates: Files = field(default_factory=Files)  # equal to another image once prepared
    grey: int = 0  # images whose files have no colour
    is_grey: bool = False  # whether all are read as grey
    background: Background = "white"
    smallest: Measures | None = None  # by its shorter side
    largest: Measures | None = None
    classes: Mapping[str, int] = field(default_factory=dict)  # images of each

    @property
    def is_of_files(self) -> bool:
        return self.found > 0

    def without_names(self) -> Reading:
        """The same without the names of files, which are nobody's but their owner's."""

        def nameless(files: Files) -> Files:
            return Files(files.count)

        return replace(
            self,
            skipped={suffix: nameless(files) for suffix, files in self.skipped.items()},
            stray=nameless(self.stray),
            unreadable=nameless(self.unreadable),
            altered={kind: nameless(files) for kind, files in self.altered.items()},
            duplicates=nameless(self.duplicates),
            smallest=self.smallest and replace(self.smallest, example=""),
            largest=self.largest and replace(self.largest, example=""),
        )

    def remarks(self) -> list[Remark]:
        """What is to be said of files that were left out or changed, the gravest first."""
        return [
            *self._of_unreadable(), *self._of_skipped(), *self._of_stray(), *self._of_altered(),
            *self._of_duplicates(), *self._of_grey(),
        ]  # fmt: skip

    def sentences(self) -> tuple[str, ...]:
        return tuple(remark.sentence for remark in self.remarks())

    def classes_in_words(self) -> str:
        """`17 classes, 80 to 258 images each`; empty where there are none."""
        if not self.classes:
            return ""
        fewest, most = min(self.classes.values()), max(self.classes.values())
        each = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
        return f"{len(self.classes):,} classes, {each} {_plural('image', most)} each"

    def sizes_in_words(self) -> str:
        """`files of 300x200 to 4000x3000 pixels`; empty where no files were read."""
        if not self.smallest or not self.largest:
            return ""
        sizes = dict.fromkeys(map(str, (self.smallest, self.largest)))
        return f"files of {' to '.join(sizes)} pixels"

    def in_words(self) -> str:
        """`1,203 images of 64x64 pixels, out of 1,240 files; 17 classes, 80 to 258 images each`."""
        text = f"{counted(self.used, 'image')} of {self.side}x{self.side} pixels"
        if self.is_of_files:
            text += f", out of {counted(self.found, 'file')}"
        return "; ".join(filter(None, [text, self.classes_in_words()]))

    def as_json(self) -> ImagesOutput:
        found: ImagesOutput = _adapter().dump_python(self, mode="json")
        return found

    def to_json(self) -> str:
        return str(_adapter().dump_json(self), "utf-8")

    @classmethod
    def from_json(cls, text: str) -> Reading:
        found: Reading = _adapter().validate_json(text)
        return found

    def _of_unreadable(self) -> Iterator[Remark]:
        reason = self.unreadable.reason
        if self.unreadable.count:
            yield Remark(
                f"{counted(self.unreadable.count, 'file')} could not be read and left out",
                f"Its reader says: {reason}" if reason else "No image, or a damaged one",
                "Replace what is broken, or use on_bad: refuse to be stopped by it",
                self.unreadable.example,
                limits=True,
            )

    def _of_skipped(self) -> Iterator[Remark]:
        rest = self.skipped.keys() - set().union(*(group for group, _, _ in SKIPPED))
        for group, why, use in [*SKIPPED, (rest, "No image by its suffix", "")]:
            files = {suffix: self.skipped[suffix] for suffix in self.skipped if suffix in group}
            if files:
                number = counted(sum(each.count for each in files.values()), "file")
                yield Remark(
                    f"{number} skipped ({', '.join(files)})", why, use,
                    next(iter(files.values())).example, limits=group in (HEIF, AVIF),
                )  # fmt: skip

    def _of_stray(self) -> Iterator[Remark]:
        if self.stray.count:
            yield Remark(
                f"{counted(self.stray.count, 'name')} skipped (no file: a broken link, a pipe)",
                "The name leads to nothing that can be read",
                "Copy what is meant into the folder",
                self.stray.example,
            )

    def _of_altered(self) -> Iterator[Remark]:
        smallest = self.smallest.side if self.smallest else self.side
        for kind in ALTERATIONS:
            if files := self.altered.get(kind):
                words, why, use = (
                    text.format(side=self.side, background=self.background, smallest=smallest)
                    for text in ALTERED[kind]
                )
                what = f"{counted(files.count, 'image')} {words}"
                yield Remark(what, why, use, files.example, limits=kind == "enlarged")

    def _of_duplicates(self) -> Iterator[Remark]:
        if self.duplicates.count:
            are = "is a copy" if self.duplicates.count == 1 else "are copies"
            yield Remark(
                f"{counted(self.duplicates.count, 'image')} {are} of another, pixel by pixel",
                "Copies count twice in training, and lie on the same side of the split",
                "Take copies out, unless they are meant to count more",
                self.duplicates.example,
                limits=True,
            )

    def _of_grey(self) -> Iterator[Remark]:
        if 0 < self.used == self.grey and not self.is_grey:
            yield Remark(
                "All images are grey, and are read as colour",
                "A network of one channel learns the same from a third of the numbers",
                "Use grey: true",
            )


# Of each alteration: what was done, why, and what would change it.
ALTERED: Mapping[Alteration, tuple[str, str, str]] = {
    "faulty": (
        "with a fault in the file that was passed over",
        "Its reader warned and went on",
        "Replace them where they look wrong",
    ),
    "first_frame": (
        "of several frames, of which the first is taken",
        "Networks here learn single images",
        "Save other frames as files of their own to use them",
    ),
    "transparent": (
        "with transparent parts, composed on {background}",
        "Networks here see red, green and blue, and no transparency",
        "Use background: white, black or grey to choose the colour",
    ),
    "deep": (
        "of 16 bits a channel, reduced to 8",
        "Networks here learn values of 0 to 255: 65,535 becomes 255",
        "Use 8-bit copies where they come out too dark",
    ),
    "cmyk": (
        "in CMYK, converted to RGB",
        "Without a colour profile the colours are only near",
        "Use RGB copies where the colours matter",
    ),
    "palette": (
        "with a palette, converted to the colours that it names",
        "A palette holds at most 256 colours",
        "",
    ),
    "rotated": (
        "turned upright by EXIF data",
        "Cameras store an image as it was held, and beside it which side is up",
        "",
    ),
    "cropped": (
        "cropped to the square in their centre",
        "Networks here learn square images",
        "Use square copies to choose another part of them",
    ),
    "enlarged": (
        "smaller than {side} pixels, enlarged",
        "Enlarged images are blurred, and a network learns the blur",
        "Use a smaller image_size ({smallest} enlarges none), or leave them out",
    ),
}


def counted(number: int, noun: str) -> str:
    return f"{number:,} {_plural(noun, number)}"


def _plural(noun: str, number: int) -> str:
    return noun if number == 1 else f"{noun}s"


@cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Reading)
