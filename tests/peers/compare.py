"""Other programs at the same work, as they come, next to ours: the same network, images and batch.

    pip install -e '.[peers]'
    python tests/peers/compare.py
    python tests/peers/compare.py --grid runs/flowers.yaml --device cuda --json
    python tests/peers/compare.py model=small data=flowers --markdown > peers.md

Prints a table of ratios of medians: theirs over ours, so that above 1 ours is faster. Programs that
are not installed are named at its end, and the others are measured all the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click
import programs
import torch

from harness.bench import STEPS, Subject, evaluated, sampled_from, subject_of
from harness.bench.timing import BenchReport, Part, Timed, number, threads
from harness.cli.arguments import screen
from harness.cli.group import explained
from harness.engine.denoisers import compiled_once
from harness.engine.inputs import extractor_of
from harness.engine.network import Trained, make_schedule
from harness.engine.noise import starting_noise
from harness.engine.steps import step_of
from harness.errors import reason_of
from harness.execute.others import Watch
from harness.execute.screen import Screen
from harness.plan.grid import load_grid
from harness.plan.shipped import MAIN, grids_at_hand
from harness.work.options import Workplace, user_data

THREADS = torch.get_num_threads()  # that torch uses where nobody says how many
PACKAGES = ("diffusers", "accelerate", "denoising-diffusion-pytorch", "torch-fidelity")
COLUMNS = ("work", "program", "theirs / ours", "wanted", "seconds: theirs", "ours")
ARE_FIGURES = (False, False, True, False, True, True)


@dataclass(frozen=True)
class Row:
    """One program at one piece of work, next to ours; seconds are medians."""

    work: str
    program: str
    wanted: str = ""
    theirs: float = 0.0
    ours: float = 0.0
    reason: str = ""  # why it was not measured

    @property
    def ratio(self) -> float:
        return self.theirs / self.ours

    def words(self) -> tuple[str, ...]:
        """As the table has it."""
        figures = (number(self.ratio), self.wanted, number(self.theirs), number(self.ours))
        return (self.work, self.program, *figures)


@dataclass
class Comparison(BenchReport):
    """What was measured of other programs, as a table."""

    rows: list[Row] = field(default_factory=list)

    def measure(
        self,
        subject: Subject,
        work: str,
        ours: Timed,
        others: Mapping[str, Callable[[], Timed]],
        wanted: str = "",
    ) -> None:
        """Measure a piece of work by each of the others that can do it here, next to ours."""
        pieces, reasons = {"ours": ours}, dict[str, str]()
        for program, make in others.items():
            try:
                piece = make()
                piece()  # some of what may lack is looked for only now
                pieces[program] = piece
            except Exception as error:  # not installed, or not in a version that does this work
                reasons[program] = reason_of(error)
        part = Part(work)
        seconds = part.in_turns(pieces, subject.setting.device) if len(pieces) > 1 else {}
        self.parts.append(part)
        self.rows += [
            Row(work, program, reason=reasons[program])
            if program in reasons
            else Row(work, program, wanted, seconds[program], seconds["ours"])
            for program in others
        ]

    def table(self, is_markdown: bool = False) -> str:
        """The rows that were measured, with their columns under each other, and why the others
        were not."""
        rows = [COLUMNS, *(row.words() for row in self.rows if not row.reason)]
        wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
        aligned = [str.rjust if is_figure else str.ljust for is_figure in ARE_FIGURES]
        cells = [[put(*one) for put, *one in zip(aligned, row, wide, strict=True)] for row in rows]
        if is_markdown:
            rule = ["-" * (width - 1) + "-:"[put is str.rjust]
                    for put, width in zip(aligned, wide, strict=True)]  # fmt: skip
            lines = [f"| {' | '.join(row)} |" for row in (cells[0], rule, *cells[1:])]
        else:
            lines = ["   ".join(row).rstrip() for row in cells]
        lines += [""] * any(row.reason for row in self.rows)
        lines += [
            f"- {row.program} was not measured at {row.work}: {row.reason}"
            for row in self.rows
            if row.reason
        ]
        return "\n".join(lines)

    def page(self, is_markdown: bool) -> str:
        title = ["# Other programs at the same work"] * is_markdown
        return "\n\n".join([*title, self.heading(), self.table(is_markdown), self.closing()])


def compare(subject: Subject, shown: Screen) -> Comparison:
    """Training, sampling and scoring by each program that is installed."""
    theirs = {"threads of others": THREADS}
    report, watch = Comparison(subject.names() | theirs | versions()), Watch()
    for part in (training, sampling, scoring):
        shown.doing(f"measuring {part.__name__}")
        part(subject, report)
    report.others = watch.others()
    return report


def versions() -> dict[str, str]:
    """Of the packages that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def as_it_comes(piece: Timed) -> Timed:
    """Another program's piece of work, with as many threads as torch gives it."""

    def run() -> None:
        with threads(THREADS):
            piece()

    return run


def training(subject: Subject, report: Comparison) -> None:
    """On as many threads as one of our trainings has, of which there is one a core on small
    images."""
    setting, images = subject.setting, subject.setting.images
    state, made = subject.state_and_network()
    step = step_of(setting, made.network)
    theirs = (state.network, images.train, subject.batch, images.flip)
    others = {
        "diffusers": lambda: programs.diffusers_training_step(*theirs),
        "lucidrains": lambda: programs.lucidrains_training_step(*theirs),
    }
    report.measure(subject, "a training step", lambda: step(state), others, "at least 1.5")


def sampling(subject: Subject, report: Comparison) -> None:
    """As they come, and diffusers' loop also around the network that ours uses, compiled."""
    device, images = subject.setting.device, subject.sampled_batch
    trained = subject.trained()
    schedule = make_schedule(subject.cell.training.schedule)

    def ours(trained: Trained) -> Timed:
        task = ("ddim", trained.denoiser(schedule), schedule, images)

        @torch.inference_mode()
        def sample() -> object:  # its starting noise is drawn inside, as the others draw it
            noise = starting_noise(0, images, subject.shape).to(device)
            return trained.scale.to_bytes(sampled_from(*task, noise))

        return sample

    sizes, work = (trained.network, subject.shape, len(images), STEPS), f"ddim in {STEPS} steps"
    others = {
        "diffusers": lambda: as_it_comes(programs.diffusers_sampling(*sizes)),
        "lucidrains": lambda: as_it_comes(programs.lucidrains_sampling(*sizes)),
    }
    report.measure(subject, work, ours(subject.as_run(trained)), others, "at least 1.5")
    compiled = compiled_once(trained, (len(images),))
    same = {"diffusers": lambda: programs.diffusers_sampling(*sizes, predict=compiled.predictor())}
    if compiled.compiled is not None:
        report.measure(subject, f"{work}, both compiled", ours(compiled), same, "at least 1")


def scoring(subject: Subject, report: Comparison) -> None:
    """Features of both sets by torch-fidelity's own pass; ours with intervals."""
    images = subject.setting.images
    some = images.train[: min(subject.cell.images, len(images.train) // 2)]
    reference = images.held_out[: len(some)]
    kept, metrics = subject.features(reference), ["kid", "fid", "precision", "recall"]
    extract = extractor_of(subject.cell, subject.at)
    others = {
        "torch-fidelity": lambda: as_it_comes(programs.fidelity_metrics(some, reference, extract))
    }
    report.measure(
        subject, "FID, KID, precision and recall",
        lambda: evaluated(metrics, subject.features(some), kept), others, "at least 1",
    )  # fmt: skip


@click.command()
@click.argument("overrides", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--grid", type=click.Path(path_type=Path), help="A file or a name. [default: digits]")
@click.option("--data-dir", type=click.Path(path_type=Path), default=None)
@click.option("--device", default="auto")
@click.option("--markdown", is_flag=True, help="As it is kept in reports/.")
@click.option("--json", "as_json", is_flag=True)
def main(
    overrides: Sequence[str],
    grid: Path | None,
    data_dir: Path | None,
    device: str,
    markdown: bool,
    as_json: bool,
) -> None:
    """Measure other programs at the work of a grid's first trained cell, next to ours."""
    with explained(as_json):
        chosen = load_grid(grid or grids_at_hand()[MAIN], overrides)
        subject = subject_of(chosen, Workplace(Path("unused"), data_dir or user_data(), device))
        with screen(aside=True) as shown:
            report = compare(subject, shown)
    if as_json:
        rows = [asdict(row) for row in report.rows]
        told = {"machine": report.machine, "rows": rows, "others": report.as_json()["others"]}
        click.echo(json.dumps(told, indent=1))
    else:
        click.echo(report.page(markdown))


if __name__ == "__main__":
    main()
