"""Other programs at the same work, as they come, next to ours: the same network, images and batch.

    pip install -e '.[peers]'
    python tests/peers/compare.py
    python tests/peers/compare.py --grid runs/flowers.yaml --device cuda --json

Prints ratios of medians: theirs over ours, so that above 1 ours is faster.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import click
import programs
import torch

from harness.bench import STEPS, Subject, evaluated, sampled_from, subject_of
from harness.bench.timing import BenchReport, Ratio, Timed, in_turns, threads
from harness.engine.denoisers import compiled_once
from harness.engine.inputs import extractor_of
from harness.engine.network import Trained, make_schedule
from harness.engine.noise import starting_noise
from harness.engine.steps import step_of
from harness.work.options import Workplace

THREADS = torch.get_num_threads()  # that torch uses where nobody says how many


def compare(subject: Subject, say: Callable[[str], None]) -> BenchReport:
    """Training, sampling and scoring by each program. Raises HarnessError where one is missing."""
    report = BenchReport(subject.names())
    for part in (training, sampling, scoring):
        say(f"measuring: {part.__name__}")
        part(subject, report)
    return report


def as_it_comes(piece: Timed) -> Timed:
    """Another program's piece of work, with as many threads as torch gives it."""

    def run() -> None:
        with threads(THREADS):
            piece()

    return run


def training(subject: Subject, report: BenchReport) -> None:
    """On as many threads as one of our trainings has, of which there is one a core on small
    images."""
    setting, images = subject.setting, subject.setting.images
    state, network = subject.state_and_network()
    step = step_of(setting, network)
    theirs = (state.network, images.train, subject.batch, images.flip)
    others: dict[str, Timed] = {
        "diffusers": programs.diffusers_training_step(*theirs),
        "lucidrains": programs.lucidrains_training_step(*theirs),
    }
    seconds = in_turns({"ours": lambda: step(state)} | others, setting.device)
    for name in others:
        report.ratios[f"training_against_{name}"] = Ratio(
            f"training step: {name} / ours", seconds[name] / seconds["ours"], "at least 1.5"
        )


def sampling(subject: Subject, report: BenchReport) -> None:
    """As they come, and diffusers' loop also around the network that ours uses, compiled."""
    device, images = subject.setting.device, subject.sampled_batch
    trained = subject.trained()
    compiled = compiled_once(trained, (len(images),))
    schedule = make_schedule(subject.cell.training.schedule)

    def ours(trained: Trained) -> Timed:
        task = ("ddim", trained.denoiser(schedule), schedule, images)

        def sample() -> object:  # its starting noise is drawn inside, as the others draw it
            noise = starting_noise(0, images, subject.shape).to(device)
            return trained.scale.to_bytes(sampled_from(*task, noise))

        return sample

    sizes = (trained.network, subject.shape, len(images), STEPS)
    pieces: dict[str, Timed] = {
        "ours": ours(subject.as_run(trained)),
        "diffusers": as_it_comes(programs.diffusers_sampling(*sizes)),
        "lucidrains": as_it_comes(programs.lucidrains_sampling(*sizes)),
        "ours, compiled": ours(compiled),
        "diffusers, compiled": programs.diffusers_sampling(*sizes, predict=compiled.predictor()),
    }
    with torch.inference_mode():
        seconds = in_turns(pieces, device)
    for name in ("diffusers", "lucidrains"):
        report.ratios[f"sampling_against_{name}"] = Ratio(
            f"sampling, ddim: {name} / ours", seconds[name] / seconds["ours"], "at least 1.5"
        )
    if compiled.compiled is not None:
        report.ratios["sampling_same_network"] = Ratio(
            "sampling, ddim, both by the same compiled network: diffusers / ours",
            seconds["diffusers, compiled"] / seconds["ours, compiled"],
            "at least 1",
        )
        report.ratios["compiled_sampling"] = Ratio(
            "sampling, ddim: as it is run / compiled", seconds["ours"] / seconds["ours, compiled"]
        )


def scoring(subject: Subject, report: BenchReport) -> None:
    """Features of both sets by torch-fidelity's own pass; ours with intervals."""
    images = subject.setting.images
    some = images.train[: min(subject.cell.images, len(images.train) // 2)]
    reference = images.held_out[: len(some)]
    kept, metrics = subject.features(reference), ["kid", "fid", "precision", "recall"]
    extract = extractor_of(subject.cell, subject.at)
    pieces: dict[str, Timed] = {
        "ours": lambda: evaluated(metrics, subject.features(some), kept),
        "theirs": as_it_comes(programs.fidelity_metrics(some, reference, extract)),
    }
    seconds = in_turns(pieces, subject.setting.device)
    report.ratios["scoring_against_torch_fidelity"] = Ratio(
        "scoring, FID + KID + PRC: torch-fidelity / ours with intervals",
        seconds["theirs"] / seconds["ours"],
        "at least 1",
    )


@click.command()
@click.option("--grid", type=click.Path(path_type=Path), help="[default: digits]")
@click.option("--data-dir", type=click.Path(path_type=Path), default=Path("data"))
@click.option("--device", default="auto")
@click.option("--json", "as_json", is_flag=True)
def main(grid: Path | None, data_dir: Path, device: str, as_json: bool) -> None:
    subject = subject_of(grid, Workplace(Path("unused"), data_dir, device))
    report = compare(subject, lambda text: print(text, file=sys.stderr))
    print(json.dumps(report.as_json(), indent=1) if as_json else report.as_text())


if __name__ == "__main__":
    main()
