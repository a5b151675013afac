"""A network of diffusers that was trained elsewhere, as its folder says: what it takes, what it
predicts, and under which schedule. Nothing here loads torch until the network itself is built.

    FOLDER/config.json, FOLDER/diffusion_pytorch_model.safetensors    a UNet2DModel, or
    FOLDER/unet/...                                                   that of a pipeline
    FOLDER/scheduler/scheduler_config.json                            how it was trained
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import BadOption, DataError, MissingPackage, installing

if TYPE_CHECKING:
    from torch import nn

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
SCHEDULER = "scheduler_config.json"
NETWORK_FILES = CONFIG, WEIGHTS
# Our schedules and targets by diffusers' names for them.
SCHEDULES_OF = {
    "linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine_discrete",
}  # fmt: skip
TARGETS_OF = {"epsilon": "noise", "v_prediction": "velocity", "sample": "image"}
DEFAULT_STEPS = 1000  # of a table, as of diffusers' schedulers
INSTEAD = "Use the folder of a UNet2DModel that is given images and timesteps alone."


@dataclass(frozen=True)
class PretrainedNetwork:
    """A UNet2DModel in a folder, and how it was trained.

    `schedule` and `options` name one of our schedules, `target` one of our targets.
    """

    name: str  # of its folder
    folder: Path  # that holds its two files
    config: Mapping[str, Any]
    schedule: str
    options: Mapping[str, Any]
    target: str

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the configuration and the weights; hexadecimal."""
        plain = {name: value for name, value in self.config.items() if name[:1] != "_"}
        digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
        with (self.folder / WEIGHTS).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    @property
    def channels(self) -> int:
        """Channels of the images that it takes."""
        return int(self.config.get("in_channels", 3))

    @property
    def has_variance(self) -> bool:
        """Whether it predicts a variance, too, in the second half of its channels, which no sampler
        here takes (Nichol & Dhariwal 2021)."""
        return int(self.config.get("out_channels", 3)) == 2 * self.channels

    def check(self, channels: int, size: int) -> None:
        """Raises BadOption where it was not made for square images of this size in pixels."""
        side = self.config.get("sample_size")
        sides = [size, size] if side is None else side if isinstance(side, list) else [side, side]
        if channels != self.channels or sides != [size, size]:
            colours = {1: "grey", 3: "colour"}.get(self.channels, f"{self.channels} channels")
            raise BadOption(
                f"the network '{self.name}' takes images of {'x'.join(map(str, sides))} pixels and "
                f"{self.channels} channel(s), and the data have {size}x{size} and {channels}. "
                f"Use data of image_size: {sides[0]} in {colours}."
            )

    def build(self) -> nn.Module:
        """The network of diffusers with its weights, called as network(x [N, C, H, W],
        timestep [N]).sample. Raises DataError where the weights are not those of its
        configuration."""
        return built(self.folder, self.name)


def built(folder: Path, name: str) -> nn.Module:
    """The UNet2DModel whose two files are in this folder. Raises DataError where they do not fit,
    and MissingPackage."""
    need_diffusers()
    from diffusers import UNet2DModel
    from diffusers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()  # what it would warn of is refused below
    try:
        load: Any = UNet2DModel.from_pretrained
        network, found = load(
            folder, use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False,
            output_loading_info=True,
        )  # fmt: skip
    except Exception as error:  # of diffusers, safetensors, torch or the system: many kinds
        first_line = str(error).strip().partition("\n")[0][:200]
        raise DataError(
            f"the network '{name}' cannot be loaded ({first_line}). Use a folder that diffusers' "
            "save_pretrained wrote, with this version of diffusers or an earlier one."
        ) from error
    finally:
        logging.set_verbosity(before)
    # Else diffusers puts random numbers in the place of weights that are missing.
    if wrong := [key for kind in ("missing_keys", "unexpected_keys") for key in found[kind]]:
        raise DataError(
            f"the weights of the network '{name}' are not those of its {CONFIG}: {wrong[0]} and "
            f"{len(wrong) - 1} others do not match. Use the two files that were saved together."
        )
    made: nn.Module = network.eval()
    return made


def need_diffusers() -> None:
    """Raises MissingPackage where diffusers is not installed."""
    if find_spec("diffusers") is None:
        raise MissingPackage(
            f"model 'diffusers' needs the package diffusers. Use {installing('diffusers')}."
        )


def files_of(folder: Path) -> list[Path]:
    """The files that a network and what is told of it come from."""
    above = folder_of_network(folder)
    named = [*(above / name for name in NETWORK_FILES), *_schedulers(folder)]
    return [path for path in named if path.is_file()]


def folder_of_network(folder: Path) -> Path:
    """The folder itself, or its `unet` where it is that of a pipeline."""
    return folder / "unet" if (folder / "unet" / CONFIG).is_file() else folder


def read_network(
    folder: Path, schedule: str | None = None, target: str | None = None
) -> PretrainedNetwork:
    """What a folder says of its network; `schedule` and `target` say it where nothing tells how the
    network was trained. Raises DataError for a folder, and BadOption for a network, that cannot be
    used."""
    name = folder.resolve().name
    inner = folder_of_network(folder)
    config = read_config(inner / CONFIG)
    if not (inner / WEIGHTS).is_file():
        others = sorted(path.name for path in inner.glob("*") if path.suffix in (".bin", ".pt"))
        why = f", only {others[0]}, a pickle, which may run anything" if others else ""
        raise DataError(
            f"{inner} has no {WEIGHTS}{why}. Use save_pretrained(..., safe_serialization=True) of "
            "diffusers to write one."
        )
    _refuse_other_networks(name, config)
    made_by = next((path for path in _schedulers(folder) if path.is_file()), None)
    if made_by is None:
        if not schedule:
            raise BadOption(
                f"the network '{name}' came without {SCHEDULER}, so nothing tells under which "
                "schedule it was trained. Use {name: diffusers, path: ..., schedule: linear, "
                "target: noise} with what it was trained with, or the folder of the whole pipeline."
            )
        return PretrainedNetwork(name, inner, config, schedule, {}, target or "noise")
    if schedule or target:
        raise BadOption(
            f"model 'diffusers': {made_by.name} of '{name}' says how it was trained. Use no option "
            f"{'schedule' if schedule else 'target'}."
        )
    trained = read_config(made_by)
    return PretrainedNetwork(
        name, inner, config, *_schedule_of(name, trained), _target(name, trained)
    )


def _schedulers(folder: Path) -> list[Path]:
    return [folder / "scheduler" / SCHEDULER, folder / SCHEDULER]


def read_config(path: Path) -> Mapping[str, Any]:
    """A configuration that diffusers wrote. Raises DataError where it cannot be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no JSON"
        raise DataError(
            f"{path} cannot be read ({why}). Use the folder of a UNet2DModel, or of a pipeline "
            "with one, as diffusers' save_pretrained writes it."
        ) from None
    if not isinstance(found, dict):
        raise DataError(f"{path} holds no configuration. {INSTEAD}")
    return found


def _refuse_other_networks(name: str, config: Mapping[str, Any]) -> None:
    """Raises BadOption for a network that is asked for something else than image and timestep."""
    kind = config.get("_class_name")
    if kind != "UNet2DModel":
        raise BadOption(f"the network '{name}' is a {kind}. {INSTEAD}")
    if config.get("num_class_embeds") or config.get("class_embed_type"):
        raise BadOption(f"the network '{name}' is told a class with each image. {INSTEAD}")
    if (embedding := config.get("time_embedding_type", "positional")) != "positional":
        raise BadOption(
            f"the network '{name}' has time_embedding_type {embedding}, which knows no steps "
            "between those of its table. Use a network whose embedding is positional."
        )
    numbers = {field: config.get(field, 3) for field in ("in_channels", "out_channels")}
    side = config.get("sample_size")
    sides = side if isinstance(side, list) else [] if side is None else [side]
    for field, value in [*numbers.items(), *(("sample_size", each) for each in sides)]:
        if type(value) is not int or value < 1:
            raise _no_number(name, CONFIG, field, value)
    inside, out = numbers.values()
    if out not in (inside, 2 * inside):
        raise BadOption(
            f"the network '{name}' answers with {out} channels for {inside}. Use one that answers "
            "with as many, or with twice as many where it predicts a variance, too."
        )


def _no_number(name: str, file: str, field: str, value: object) -> DataError:
    return DataError(
        f"the {file} of the network '{name}' says {field}: {value!r}, which is no number for it. "
        "Use the file that diffusers' save_pretrained wrote."
    )


def _schedule_of(name: str, trained: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name and options of our schedule that a scheduler's configuration means."""
    beta_schedule = trained.get("beta_schedule")
    if beta_schedule not in [*SCHEDULES_OF] or trained.get("trained_betas") is not None:
        own = "a table of its own" if trained.get("trained_betas") is not None else ""
        what = own or beta_schedule or trained.get("_class_name")
        raise BadOption(
            f"the network '{name}' was trained under {what}, which is "
            f"none of our schedules. Use a network of beta_schedule {', '.join(SCHEDULES_OF)}."
        )
    options: dict[str, Any] = {"T": trained.get("num_train_timesteps", DEFAULT_STEPS)}
    if trained.get("rescale_betas_zero_snr"):
        options["zero_terminal_snr"] = True
    if beta_schedule != "squaredcos_cap_v2":
        ends = [end for end in ("beta_start", "beta_end") if end in trained]
        if len(ends) < 2:
            raise BadOption(
                f"the {SCHEDULER} of '{name}' does not say beta_start and beta_end. Use one that "
                "diffusers' save_pretrained wrote."
            )
        for end in ends:
            if type(trained[end]) not in (int, float):
                raise _no_number(name, SCHEDULER, end, trained[end])
            options[end] = float(trained[end])
    return SCHEDULES_OF[beta_schedule], options


def _target(name: str, trained: Mapping[str, Any]) -> str:
    predicted = trained.get("prediction_type", "epsilon")
    if predicted not in [*TARGETS_OF]:
        raise BadOption(
            f"the network '{name}' predicts {predicted}. Use a network whose prediction_type is "
            f"{', '.join(TARGETS_OF)}."
        )
    return TARGETS_OF[predicted]
