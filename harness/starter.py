"""A grid to begin with: `harness new`. What can be found out is not asked.

The images are looked at, the weights that are here are taken, and the speed of this machine says
how long networks may be trained; every line that costs something says what.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from harness.data.datasets import ANALYTIC, DATASETS, load
from harness.data.images import ImageSet
from harness.downloads import no_downloads
from harness.errors import BadOption, DataError, HarnessError, legible
from harness.execute import machine
from harness.metrics.enough import check_enough
from harness.metrics.features import EXTRACTORS
from harness.models.presets import MODELS
from harness.plan.grid import Grid, expand, load_grid
from harness.plan.grid_file import as_yaml
from harness.plan.pending import Plan, pending
from harness.plan.preflight import forecast, identified, preflight
from harness.store import Store, write_bytes
from harness.work.cells import Part
from harness.work.options import Options, Paths, command_of, user_data
from harness.work.reading import counted
from harness.work.speeds import duration

if TYPE_CHECKING:
    from harness.work.outputs import NewOutput

PresetName = Literal["laptop", "gpu", "cluster"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
DIGITS = Part("digits")
LOSS = "\n  target: velocity\n  loss: mae"  # what learned photographs best: runs/flowers-cpu.yaml
METRICS = ("kid", "fid", "precision", "recall", "memorisation")
NO_GPU = "on this machine, without a GPU"
DOWNLOADED = "downloads 95 MB at first; offline: pixels"
FEWEST_STEPS, FEWEST_IMAGES = 300, 200  # of a training, of a cell
FEW_IMAGES = 500  # from which on a network learns more than the images by heart
LARGEST_TINY = 16  # pixels a side, up to which the smallest network is large enough


@dataclass(frozen=True)
class Preset:
    """What a kind of machine affords."""

    place: str
    side: int  # pixels
    model: str
    batch_size: int
    learning_rate: str
    seconds: float  # that a run may take
    steps: int  # of a training, where this machine is of another kind
    most_steps: int
    seeds: int
    images: int
    is_for_gpu: bool = True
    how: str = ""  # a run is started, beyond the grid


PRESETS: Mapping[PresetName, Preset] = {
    "laptop": Preset("a laptop", 32, "small", 16, "1e-3", 3600, 2000, 4000, 3, 500, False),
    "gpu": Preset("one GPU", 64, "base", 128, "4e-4", 3600, 3000, 20_000, 3, 1024),
    "cluster": Preset(
        "a Ray cluster", 64, "base", 128, "4e-4", 4 * 3600, 10_000, 50_000, 5, 2048,
        how=" --ray auto",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Started:
    """A grid that was written, and what it will do."""

    path: Path
    preset: PresetName
    plan: Plan
    run: str  # the command
    notes: tuple[str, ...] = ()
    is_for_elsewhere: bool = False  # for a GPU, where none is here

    def as_text(self) -> str:
        cost = self.plan.predicted
        told = f"about {duration(cost)} here" if cost and self.plan.forecast else "see its plan"
        if self.is_for_elsewhere:
            told = f"{NO_GPU}, {told.removesuffix(' here')}" if cost else NO_GPU
            told += "; run `harness plan` there"
        lines = [f"{self.path}: {len(self.plan.trainings)} trainings and {len(self.plan.cells)} "
                 f"cells, for {PRESETS[self.preset].place}; {told}."]  # fmt: skip
        lines += [f"Note: {note}" for note in self.notes]
        return "\n".join([*lines, f"Next: {planning(self.run)}",
                          f"Then: {self.run}"])  # fmt: skip

    def as_json(self) -> NewOutput:
        return {
            "grid": str(self.path), "preset": self.preset, "run": self.run,
            "trainings": len(self.plan.trainings), "cells": len(self.plan.cells),
            "seconds": self.plan.predicted, "notes": [*self.notes],
        }  # fmt: skip


def start(
    wanted: str, data: str | None, side: int | None, preset: PresetName | None, paths: Paths
) -> Started:
    """Write a grid of this name, a path with or without .yaml, for the images of `data`: a folder
    or zip, or the name of a data set. Raises HarnessError, and writes nothing, where there is such
    a file, or where the images cannot be had or do not suit."""
    file = path_of(wanted)
    device = machine.find_device(paths.device)
    preset = preset or ("gpu" if device.type == "cuda" else "laptop")
    chosen = PRESETS[preset]
    part = part_of(data, side, chosen)
    lenient = {"on_bad": "skip"} if part.name == "folder" else {}
    images = load(part.name, paths.data_dir, part.keywords | lenient)
    if images.as_read.unreadable.count:
        part = Part.of(part.name, part.keywords | lenient)
    if part.name == "folder" and is_grey(images):
        part = Part.of("folder", {**part.keywords, "grey": True})
        images = load(part.name, paths.data_dir, part.keywords)
    data_dir = None if paths.data_dir == user_data() else paths.data_dir
    command = command_of(file.as_posix(), (), paths.store, data_dir=data_dir) + chosen.how
    draft = Draft(file.stem, command, part, images, chosen, *extractor_for(part, images, paths))
    plan = planned(draft, paths)
    if plan.predicted and chosen.is_for_gpu == (device.type == "cuda"):
        draft = affordable(draft, plan)
        plan = planned(draft, paths)
    is_for_elsewhere = chosen.is_for_gpu and device.type == "cpu"
    write_bytes(file, draft.text(plan, is_for_elsewhere).encode())
    notes = *images.notes, *draft.doubts()
    return Started(file, preset, plan, draft.command, notes, is_for_elsewhere)


def path_of(wanted: str) -> Path:
    """The file of a new grid. Raises BadOption where there is one, or where it can be none."""
    given = Path(wanted)
    file = given if given.suffix in (".yaml", ".yml") else given.with_name(f"{given.name}.yaml")
    if not NAME.fullmatch(file.stem):
        raise BadOption(
            f"a grid cannot be called '{file.stem}'. Use letters, digits, '.', '_' or '-', "
            "beginning with a letter or digit."
        )
    if file.exists():
        raise BadOption(f"{file} is there already, and stays. Use another name, or move it away.")
    if not file.parent.is_dir():
        raise BadOption(f"there is no folder {file.parent}. Use one that is there.")
    return file


def part_of(data: str | None, side: int | None, preset: Preset) -> Part:
    """The data set that a person means. Raises BadOption."""
    if data is None or (data in DATASETS and not Path(data).exists()):
        name = data or DIGITS.name
        options = {option.name: option for option in DATASETS.options(name)}
        if any(option.required for option in options.values()) or name in ANALYTIC:
            raise BadOption(f"'{name}' needs more than a name. Use a folder of images as --data.")
        if "image_size" in options:
            return Part.of(name, {"image_size": side or preset.side})
        if side:
            raise BadOption(f"the images of '{name}' have one size. Use it without --size.")
        return Part.of(name)
    return Part.of("folder", {"path": data, "image_size": side or preset.side})


def is_grey(images: ImageSet) -> bool:
    """Whether the channels of all images are the same."""
    return images.channels > 1 and all(
        (part == part[:, :1]).all() for part in (images.train, images.held_out)
    )


def extractor_for(part: Part, images: ImageSet, paths: Paths) -> tuple[Part, str]:
    """The extractor to compare images by, and what there is to know of it: that of the digits, or
    the best Inception whose weights are here, or that which is downloaded."""
    if part == DIGITS:
        return Part("digits"), "made for these digits, and comes with the program"
    for layer, told in ((2048, "the usual features of FID and KID"),
                        (768, "the weights here end there")):  # fmt: skip
        with suppress(HarnessError), no_downloads():
            EXTRACTORS.make("inception", {"layer": layer}, paths.data_dir, "cpu")
            return Part.of("inception", {"layer": layer}), told
    return Part.of("inception", {"layer": 2048}), DOWNLOADED


def planned(draft: Draft, paths: Paths) -> Plan:
    """What a run of this grid would do here, with its forecast where all that it needs is here; of
    an extractor that is still to be downloaded, without the time for its features."""
    plan = Plan(draft.name, *(tuple(expand(draft.grid())),) * 2)
    for each in (draft, replace(draft, extractor=Part("pixels"))):
        with suppress(HarnessError), no_downloads():
            return forecast_of(each.grid(), paths)
    return plan


def forecast_of(grid: Grid, paths: Paths) -> Plan:
    with suppress(OSError):  # what a probe measures is kept there, for the first plan and run
        paths.store.mkdir(parents=True, exist_ok=True)
    cells = identified(expand(grid), paths.workplace)
    plan = pending(grid, cells, Store(paths.store), {}, Options())
    return forecast(grid, plan, preflight(grid, plan, paths)) if plan.is_work else plan


def affordable(draft: Draft, plan: Plan) -> Draft:
    """The grid with so many images a cell, and so many training steps, that a run takes what the
    preset allows, half of it at most for sampling."""
    if draft.data == DIGITS or plan.forecast is None or plan.predicted is None:
        return draft
    allowed, preset = draft.preset.seconds, draft.preset
    training = plan.forecast.training_seconds(plan.to_train)
    sampling = plan.forecast.sampling_seconds(plan.to_sample)
    images = two_digits(preset.images * min(1.0, allowed / 2 / max(sampling, 1.0)))
    images = max(images, FEWEST_IMAGES)
    rest = plan.predicted - training - sampling * (1 - images / preset.images)
    steps = two_digits(draft.steps * max(allowed - rest, allowed / 10) / max(training, 1.0))
    steps = min(max(steps, FEWEST_STEPS), preset.most_steps)
    return replace(draft, training_steps=steps, images_of_cell=images)


def two_digits(number: float) -> int:
    return round(float(f"{number:.1e}"))


@dataclass(frozen=True)
class Draft:
    """What goes into the file."""

    name: str
    command: str  # that runs it
    data: Part
    images: ImageSet
    preset: Preset
    extractor: Part
    about_extractor: str
    training_steps: int = 0  # 0 for those of the preset
    images_of_cell: int = 0  # likewise

    @property
    def steps(self) -> int:
        return self.training_steps or (1500 if self.data == DIGITS else self.preset.steps)

    @property
    def model(self) -> Part:
        """The network of the preset, with as many levels as the images can be halved for. Raises
        BadOption where that is none."""
        side = self.images.size
        name = "tiny" if side <= LARGEST_TINY else self.preset.model
        widths = {option.name: option.default for option in MODELS.options(name)}["widths"]
        least = 1 if side <= LARGEST_TINY else 2
        for halvings in range(len(widths) - 1, least - 1, -1):
            if side % 2**halvings == 0:
                shorter = {"widths": widths[: halvings + 1]}
                return Part.of(name, shorter if halvings + 1 < len(widths) else {})
        raise BadOption(
            f"networks halve images, and {side} pixels a side cannot be. Use --size "
            f"{max(8, round(side / 8) * 8)}."
        )

    @property
    def metrics(self) -> list[str]:
        """Those that have a value for so few images."""
        found = []
        for name in METRICS:
            with suppress(DataError):
                check_enough([name], len(self.images.train), len(self.images.held_out))
                found.append(name)
        return found or ["kid"]

    def doubts(self) -> Iterator[str]:
        count = len(self.images.train)
        if count < FEW_IMAGES and self.data != DIGITS:
            few = counted(count, "image")
            yield f"only {few} to train on: networks may learn them by heart"
        if self.about_extractor == DOWNLOADED:
            yield (
                f"the weights of '{self.extractor.name}' are not here yet, so the time that its "
                "features take is not counted"
            )

    def grid(self) -> Grid:
        """The grid, as it will be read from the file."""
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"{self.name}.yaml"
            path.write_text(self.text(), encoding="utf-8")
            return load_grid(path)

    def left_out(self) -> str:
        """A comment on the files that the grid leaves out; empty where it leaves out none."""
        files = self.images.as_read.unreadable
        if not files.count:
            return ""
        name = files.example if len(files.example) < 50 else f"...{files.example[-46:]}"
        told = f"{counted(files.count, 'file')} that cannot be read"
        such = "" if files.count == 1 else "such as "
        return legible(f"# on_bad: skip leaves out {told}: {such}{name}", kept="") + "\n"

    def text(self, plan: Plan | None = None, is_for_elsewhere: bool = False) -> str:
        """The grid file."""
        seeds = list(range(self.preset.seeds))
        rate, batch, ema, more = self.preset.learning_rate, self.preset.batch_size, "0.999", LOSS
        if self.steps < 2000:
            ema = "0.995"
        if self.data == DIGITS:  # as in runs/digits.yaml
            rate, batch, more = "2e-3", 64, ""
        images, preset = self.images, self.preset
        kind = "grey" if images.channels == 1 else "colour"
        count = f"{len(images.train) + len(images.held_out):,} {kind} images"
        multiplied = ""
        if plan:
            multiplied = (f"\n# {len(plan.trainings)} trainings and {len(plan.cells)} cells: every "
                          f"list multiplies.{_cost(plan, is_for_elsewhere)}")  # fmt: skip
        size = "# image_size: twice the side takes about four times as long\n"
        size *= "image_size" in self.data.keywords
        return f"""\
# Which schedule, which sampler, how many steps: for {count} of {images.size}x{images.size} pixels.
#
#   {planning(self.command)}      what it does, and what it costs on this machine
#   {self.command}
#
# Begun for {preset.place}. `harness parts` lists what can stand in each place.{multiplied}
name: {self.name}
{size}{self.left_out()}data: {written(self.data)}
model: {written(self.model)}  # tiny, small or base: a larger one learns more, and slower
training:
  steps: {self.steps}  # most of the cost, in proportion; more steps make better images
  batch_size: {batch}
  learning_rate: {rate}
  ema: {ema}{more}
schedules: [linear, cosine]  # a training for each and each seed; others: cosine_discrete, flow
samplers: [ddpm, ddim]  # no training more; others: dpmpp_2m, heun, unipc
steps: [5, 10, 20, 50]  # evaluations of the network for an image: what sampling costs
seeds: {seeds}  # a training each: 3 decide a clear difference, 1 decides none
images: {self.images_of_cell or preset.images}  # of a cell; four times as many halve its error
extractor: {written(self.extractor)}  # {self.about_extractor}
metrics: [{", ".join(self.metrics)}]
"""


def _cost(plan: Plan, is_for_elsewhere: bool) -> str:
    """What the work costs, for the head of a grid; empty where it is not known."""
    if not plan.predicted:
        return ""
    about = f"about {duration(plan.predicted)}"
    if is_for_elsewhere:
        return f"\n# {NO_GPU[0].upper()}{NO_GPU[1:]}, {about}: its plan there tells what it takes."
    return f" A{about[1:]} here, by a probe of this machine."


def planning(run: str) -> str:
    """The command that plans what this one runs."""
    return run.replace(" run ", " plan ", 1).removesuffix(PRESETS["cluster"].how)


def written(part: Part) -> str:
    """A part as a grid file has it."""
    if not part.options:
        return part.name
    return as_yaml({"name": part.name, **dict(_options(part))}, in_one_line=True)


def _options(part: Part) -> Iterator[tuple[str, Any]]:
    """The options of a part, the path first."""
    options: Mapping[str, Any] = part.keywords
    for name in sorted(options, key=lambda name: (name != "path", name)):
        yield name, options[name]
