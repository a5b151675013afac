"""Train one network: Algorithm 1 of Ho et al. 2020, with an average of the weights.

What step k does is a function of (training seed, k), so a training that was stopped, by whatever,
goes on from its last saved state and ends in the same weights, bit for bit on a CPU (by as many
processes as it began with, where they are several).

Trainings that differ in the decay of their averages alone are done by the same steps, and each has
what it would have alone: its weights, checkpoint and result.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from harness.engine.compiled import Compiled
from harness.engine.curves import schedule_csv
from harness.engine.denoising import denoising, denoising_csv
from harness.engine.memory import said_in_one_line, tried
from harness.engine.network import Trained, with_weights
from harness.engine.pictures import forward, png, sheet, with_look
from harness.engine.sample import NotFinite, preview
from harness.engine.share import Share, in_processes
from harness.engine.state import LacksAverage, State, write_tensors
from harness.engine.steps import Setting, Steps
from harness.errors import HarnessError, MachineError, is_out_of_memory, say_once
from harness.execute import machine
from harness.execute.progress import Progress, Report, Stopped
from harness.store import CHECKPOINT, WEIGHTS, Store, checksum_of, set_aside
from harness.work.cells import Training
from harness.work.execution import Format
from harness.work.options import Workplace
from harness.work.results import (
    DENOISING_CURVE,
    FORWARD,
    LOOKS,
    SCHEDULE_CURVE,
    Artifacts,
    Denoising,
    Provenance,
    TrainingResult,
)

SAVE_SECONDS = 30.0  # between two saved states: what a killed process loses at most
LOOK_SECONDS = 1.0  # between two looks at the loss, each of which waits for the device
SHEETS = 10  # sample sheets over a training
LEAST_SCALE = 2.0**-24  # of the loss: 40 halvings, after as many steps that were left out
DRAWING, MEASURING = "drawing samples", "measuring its error"  # phases of a training
AT_CHECKPOINT = 0.9  # of the training, after which its average is kept: did the rest still help?


class Diverged(HarnessError):
    """The loss is no longer a number."""


@dataclass(frozen=True)
class TrainJob:
    """A training, and with what it is done."""

    training: Training
    threads: int
    compile: bool = False
    devices: int = 1  # that share each batch, a process each
    siblings: tuple[Training, ...] = ()  # equal but for `ema`: the same steps make their averages
    format: Format | None = None  # in which its network computes; None: by rule

    @property
    def work(self) -> Training:
        return self.training

    @property
    def works(self) -> tuple[Training, ...]:
        return self.training, *self.siblings


def train(job: TrainJob, at: Workplace, report: Report) -> TrainingResult:
    """Train, saving as it goes, and keep what came of it and of its siblings; returns its own.

    Raises Stopped, its state saved, when `report` does; Diverged when the loss is not finite; and
    MachineError where there are more devices than images in a batch, or than there are.
    """
    batch = job.training.batch_size
    if batch < job.devices:
        raise MachineError(
            f"{job.devices} processes cannot share batches of training.batch_size={batch}. Use at "
            f"most {batch}, or a larger batch."
        )
    if job.devices == 1:
        result = run_steps(job, at, report)
    else:
        result = in_processes(job.devices, at.device, report, run_steps, job, at)
    assert result
    return result


def run_steps(job: TrainJob, at: Workplace, report: Report) -> TrainingResult | None:
    """Do all steps, alone or together with others; None where another process keeps the result."""
    training, share = job.training, Share.here()
    with said_in_one_line(f"training {training.key} was trained", at.device):
        format = format_of(job, at)
        setting = Setting.of(training, at, job.siblings, format)
        state = begun(job, setting, Store(at.store), share)
        setting = with_others(setting, state, Store(at.store))
        torch.set_num_threads(state.threads)
        one_step = Steps(state, setting, share)
        between_steps = BetweenSteps(setting, state, Store(at.store), report)
        while state.step < training.training_steps:
            state.keep_losses(*one_step())
            state.step += 1
            share.decide(between_steps)
        if not share.is_first:
            return None
        return finish(setting, state, Store(at.store), one_step.network, report)


def format_of(job: TrainJob, at: Workplace) -> Format | None:
    """In what a training is computed: as it was begun on this machine, for it to end in the same
    bits, and on another, which may be slow in that, as the job says; None for the rule, by which
    earlier versions went."""
    match Store(at.store).saved_format(job.training):
        case ("", _, _):
            return None
        case (where, precision, last) if where == machine.name(machine.find_device(at.device)):
            return Format(precision, last)
    return job.format


def begun(job: TrainJob, setting: Setting, store: Store, share: Share) -> State:
    """The saved state of the training, or its first."""
    state = first_state(job, setting, share)
    if saved := next((path for path in store.states(job.works) if path.exists()), None):
        try:
            state.restore(saved, {one.key: one.ema for one in job.works}.get(saved.parent.name))
        except LacksAverage:
            # To go on for those it has, and to train again for the others, would take longer.
            if share.is_first:
                say_once(
                    f"training {job.training.key} begins anew: it was saved before the grid asked "
                    "for the averages of other decays, too"
                )
            state = first_state(job, setting, share)
        except (SafetensorError, FileNotFoundError, KeyError, TypeError, ValueError) as error:
            if is_out_of_memory(error):
                raise
            # Half a file, after a power cut, or that of another version: begin again, with
            # nothing of what was read until then.
            if share.is_first and saved.exists():
                set_aside(saved)
            state = first_state(job, setting, share)
    if state.processes != share.size:  # it was begun by more or fewer, with other threads
        state.processes, state.threads = share.size, job.threads
    return state


def with_others(setting: Setting, state: State, store: Store) -> Setting:
    """The setting with trainings of decays that are not asked for, whose averages the state has
    and the store has not: they are finished with the others, for else all their steps would have
    to be made again. Of other averages the state keeps none."""
    asked = {one.ema for one in setting.trainings}
    others = (replace(setting.training, ema=one) for one in sorted(state.averages.keys() - asked))
    lacking = [one for one in others if not store.has_model(one.key)]
    setting = replace(setting, siblings=(*setting.siblings, *lacking))
    state.averages = {one.ema: state.averages[one.ema] for one in setting.trainings}
    return setting


def first_state(job: TrainJob, setting: Setting, share: Share) -> State:
    """The state before the first step of a job that so many processes share."""
    state = setting.first_state(job.threads, job.compile)
    state.processes = share.size
    return state


class BetweenSteps:
    """What the process that writes does after each step: look at the loss, keep what is kept of
    the training, report, and save."""

    def __init__(self, setting: Setting, state: State, store: Store, report: Report):
        self.setting, self.state, self.store, self.report = setting, state, store, report
        self.saved = store.state(setting.training)
        self.clock = self.last_look = self.last_save = time.monotonic()
        self.looked_at = state.step

    def __call__(self) -> None:
        state, steps = self.state, self.setting.training.training_steps
        is_due = state.step == steps or time.monotonic() - self.last_look > LOOK_SECONDS
        loss = None
        if is_due:  # waits for the device
            loss = float(state.losses[self.looked_at : state.step].mean())
        now = time.monotonic()
        state.seconds += now - self.clock
        self.clock = now
        values = {} if loss is None else self._looked(loss, now)
        keep_checkpoints(self.setting, state, self.store)
        try:
            if are_due(state.step, steps):
                with suppress(Stopped):  # they are made first; the next report raises it again
                    self.report(Progress(state.step, steps, phase=DRAWING))
            self.report(Progress(state.step, steps, values, *self._drawn()))
        except Stopped:
            self._save()
            raise
        # At the end, too: to measure what came of it takes minutes, and may be stopped.
        if state.step == steps or now - self.last_save > SAVE_SECONDS:
            self._save()
            self.last_save = now
        self.clock += time.monotonic() - now  # sheets, saving and reporting are not training

    def _drawn(self) -> tuple[dict[str, bytes], dict[str, dict[str, bytes]]]:
        """The pictures that are due, as files: those of the training, and of the others by key."""
        files = {key: {f"sheets/step_{self.state.step:07d}.png": picture}
                 for key, picture in pictures(self.setting, self.state)}  # fmt: skip
        own = files.pop(self.setting.training.key, {})
        return own, files

    def _save(self) -> None:
        keys = [one.key for one in self.setting.trainings]
        self.state.save(self.saved, keys, self.setting.format)

    def _looked(self, loss: float, now: float) -> dict[str, float]:
        """The loss since the last look, the speed and, in float16, by what the loss is multiplied.
        Raises Diverged."""
        training, step = self.setting.training, self.state.step
        scale = self.state.scaler.get_scale()
        if not math.isfinite(loss) or scale < LEAST_SCALE:
            what = "loss" if scale >= LEAST_SCALE else "gradient of the loss"
            is_half = self.setting.precision == "float16"  # which ends at 65,504
            remedy = "training.precision: float32, or " if is_half else ""
            raise Diverged(
                f"the {what} of training {training.key} ({training.schedule}, seed "
                f"{training.seed}) is no longer a number at step {step}. Use {remedy}a smaller "
                f"training.learning_rate than {training.learning_rate:g}."
            )
        speed = (step - self.looked_at) * training.batch_size / (now - self.last_look)
        self.last_look, self.looked_at = now, step
        values = {"loss": loss, "images_per_second": speed}
        return values | {"loss_scale": scale} if self.state.scaler.is_enabled() else values


def keep_checkpoints(setting: Setting, state: State, store: Store) -> None:
    """Write the checkpoints where the step just made is theirs."""
    if state.step == max(1, round(AT_CHECKPOINT * setting.training.training_steps)):
        for one in setting.trainings:
            write_tensors(store.model(one.key, CHECKPOINT), state.averages[one.ema], {})


def are_due(step: int, steps: int) -> bool:
    """Whether pictures are made after this step."""
    return step * SHEETS // steps != (step - 1) * SHEETS // steps


def pictures(setting: Setting, state: State) -> Iterator[tuple[str, bytes]]:
    """Where they are due, a picture of a few samples from each averaged weights as they are now,
    with the key of its training; the first of them are kept beside those of earlier steps."""
    step = state.step
    if not are_due(step, setting.training.training_steps):
        return
    for one in setting.trainings:
        trained = partial(with_weights, one, state.averages[one.ema], setting.images)
        drawn = tried(lambda trained=trained: preview(trained(setting.device, setting.format)))
        if drawn is None:
            say_once(
                f"training {one.key}: there is no memory for samples beside it, and some are not "
                "shown"
            )
        else:
            state.looks[one.ema] = with_look(state.looks.get(one.ema, b""), step, drawn)
            yield one.key, png(sheet(drawn))


def finish(
    setting: Setting, state: State, store: Store, network: Compiled, report: Report
) -> TrainingResult:
    """Keep the weights and, once they are there, each result as it is made; the state goes last, so
    that what is stopped before is finished without a step. Raises Stopped when `report` does."""
    # So that they can be used where the images are not: signal = factor (pixel - shift).
    units = {"scale": json.dumps(asdict(setting.scale))}
    for one in setting.trainings:
        write_tensors(store.model(one.key, WEIGHTS), state.averages[one.ema], units)
    for one in reversed(setting.trainings):
        result = result_of(one, setting, state, store, network, report)
        store.keep(result)
    store.remove_states(setting.trainings)
    return result


def result_of(
    training: Training, setting: Setting, state: State, store: Store, network: Compiled,
    report: Report,
) -> TrainingResult:  # fmt: skip
    """What came of one of the trainings that were done by the same steps."""
    files = {
        SCHEDULE_CURVE: schedule_csv(setting.schedule),
        FORWARD: forward(setting.images, setting.schedule, setting.scale),
    }
    if measured := measured_denoising(training, setting, state, store, report):
        files[DENOISING_CURVE] = denoising_csv(measured)
    if looks := state.looks.get(training.ema):
        files[LOOKS] = looks
    paths = {name: store.model(training.key, name) for name in (CHECKPOINT, WEIGHTS)}
    checksums = {name: checksum_of(path) for name, path in paths.items() if path.exists()}
    losses = state.losses.numpy(force=True)
    return TrainingResult(
        training=training,
        loss=float(losses[-max(1, len(losses) // 10) :].mean()),
        loss_curve=state.loss_curve(),
        loss_by_time=state.loss_by_time(),
        seconds=state.seconds,
        parameters=sum(parameter.numel() for parameter in state.network.parameters()),
        provenance=Provenance(
            machine=machine.name(setting.device),
            precision=setting.precision,
            data=setting.images.fingerprint,
            versions=machine.versions(),
            threads=state.threads,
            processes=state.processes,
            micro_batches=-(-training.batch_size // (state.processes * state.at_once)),
            is_compiled=state.is_compiled and not network.trouble,
            compile_trouble=network.trouble,
            channels_last=setting.format.channels_last,
        ),
        compile_seconds=network.seconds,
        shared_with="" if training is setting.training else setting.training.key,
        denoising=measured,
        reading=setting.images.as_read.without_names(),
        artifacts=Artifacts({**checksums, **Artifacts.of(files).checksums}, files.get),
    )


def measured_denoising(
    training: Training, setting: Setting, state: State, store: Store, report: Report
) -> Denoising | None:
    """The denoising error of an average, and what the training did to it since its checkpoint; None
    where there is no memory for it, or it is no number, which is said."""
    kept, device = store.model(training.key, CHECKPOINT), setting.device

    def with_these(weights: dict[str, torch.Tensor]) -> Trained:
        return with_weights(training, weights, setting.images, device, setting.format)

    def watch() -> None:
        report(Progress(state.step, training.training_steps, phase=MEASURING))

    try:
        with said_in_one_line(f"the error of training {training.key} was measured", device):
            before = with_these(load_file(kept)) if kept.exists() else None
            after = with_these(state.averages[training.ema])
            return denoising(after, setting.images, before, watch)
    except (MachineError, NotFinite) as error:
        say_once(str(error))
        return None
