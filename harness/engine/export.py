"""A trained network as a folder of diffusers: what `harness export` writes.

    model_index.json                                 for DDIMPipeline.from_pretrained(FOLDER, ...)
    scheduler/scheduler_config.json                  the schedule that it was trained under
    unet/config.json                                 its sizes, and the log SNR of each timestep
    unet/diffusion_pytorch_model.safetensors         the averaged weights
    unet/network.py                                  the network, which needs torch and diffusers
    README.md                                        what it is and how to use it

The U-Net is not a UNet2DModel, so its code goes along. The schedule is told by name where diffusers
has it, else as its table of betas, which can say any schedule.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import load_file, save

from harness.diffusion.schedules import Schedule
from harness.engine.inputs import images_of
from harness.engine.network import Trained, load_trained, make_schedule, table_log_snr, with_weights
from harness.errors import BadOption
from harness.models import presets, unet
from harness.models.presets import MODELS, UNetShape
from harness.models.pretrained import (
    CONFIG,
    DEFAULT_STEPS,
    SCHEDULER,
    SCHEDULES_OF,
    TARGETS_OF,
    WEIGHTS,
    need_diffusers,
)
from harness.store import WEIGHTS as KEPT_WEIGHTS
from harness.store import Store, write_bytes
from harness.work.cells import Cell, Training
from harness.work.options import Workplace

CLASS, MODULE = "HarnessUNet", "network"
CONSTANTS = ("CONDITION_WIDTH", "GROUP_CHANNELS", "HEAD_CHANNELS", "MOST_GROUPS", "WAVELENGTHS",
             "WAVES")  # fmt: skip
PREDICTIONS = {ours: theirs for theirs, ours in TARGETS_OF.items()} | {
    "flow": "v_prediction", "edm": "v_prediction",  # as network.py answers
}  # fmt: skip
SCHEDULERS = {"ddpm": "DDPMScheduler", "ddim": "DDIMScheduler"}  # by our samplers
PIPELINES = {"DDPMScheduler": "DDPMPipeline", "DDIMScheduler": "DDIMPipeline"}
SPACINGS_OF = ("leading", "linspace", "trailing")  # those that diffusers has, too


def check_exportable(training: Training) -> UNetShape:
    """The sizes of a training's network. Raises BadOption where it has none that can be written
    out, or predicts what no scheduler of diffusers takes."""
    if not training.is_trained:
        why = "is no network" if training.is_exact else "is such a folder already"
        raise BadOption(f"model '{training.model}' {why}. Use a cell whose network was trained.")
    shape = MODELS.make(training.model.name, training.model.keywords)
    if training.model.source or not isinstance(shape, UNetShape):
        raise BadOption(
            f"model '{training.model}' is of another package, whose code is not ours to write out. "
            "Use a cell of model tiny, small or base."
        )
    if training.target not in PREDICTIONS:
        raise BadOption(
            f"target '{training.target}' is none that diffusers knows. Use a cell of target "
            f"{', '.join(PREDICTIONS)}."
        )
    return shape


def export_kept(cell: Cell, at: Workplace, out: Path) -> Path:
    """Write the network of a cell of the store. Raises as `export` does, and StoreError where the
    store lacks the training."""
    check_exportable(cell.training)
    images, store, device = images_of(cell.training, at), Store(at.store), torch.device("cpu")
    load_trained(cell.training, store, images, device)  # which refuses what is damaged
    weights = load_file(store.model(cell.training.key, KEPT_WEIGHTS))
    # As they were averaged, not rounded to what they are sampled in.
    whole = with_weights(replace(cell.training, precision="float32"), weights, images, device)
    return export(cell, whole, out)


def export(cell: Cell, trained: Trained, out: Path) -> Path:
    """Write the network of a cell, of float32 weights, with a scheduler that samples as the cell
    does. Raises BadOption where that cannot be, and StoreError where the folder cannot be
    written."""
    need_diffusers()
    shape = check_exportable(cell.training)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadOption(f"{out} is there already. Use another --out, or remove it first.")
    schedule = make_schedule(cell.training.schedule)
    scheduler = scheduler_config(cell, schedule)
    channels, size, _ = trained.shape
    config = {
        "_class_name": CLASS,
        "sample_size": size,
        "in_channels": channels,
        "out_channels": channels,
        "widths": list(shape.widths),
        "blocks": shape.blocks,
        "attention": list(shape.attention),
        "log_snr": table_log_snr(schedule).tolist(),
        "predicts": cell.training.target,
        "shift": list(trained.scale.shift),
        "factor": list(trained.scale.factor),
    }
    weights = {f"unet.{name}": each.float() for name, each in trained.network.state_dict().items()}
    kind = scheduler["_class_name"]
    files = {
        f"unet/{MODULE}.py": network_source().encode(),
        f"unet/{CONFIG}": as_json(config),
        f"unet/{WEIGHTS}": save({name: each.contiguous() for name, each in weights.items()}),
        f"scheduler/{SCHEDULER}": as_json(scheduler),
        "README.md": card(cell, kind).encode(),
    }
    if cell.training.scale == "range":  # a pipeline knows no other: its images would be pale
        files["model_index.json"] = as_json({
            "_class_name": PIPELINES[kind],
            "scheduler": ["diffusers", kind],
            "unet": [MODULE, CLASS],
        })  # fmt: skip
    for name, content in files.items():
        write_bytes(out / name, content)
    return out


def scheduler_config(cell: Cell, schedule: Schedule) -> dict[str, Any]:
    """The configuration of a scheduler of diffusers for the schedule that a network was trained
    under; of DDIM where the sampler of the cell is none of theirs."""
    part, spacing = cell.training.schedule, cell.spacing.name
    config = {
        "_class_name": SCHEDULERS.get(cell.sampler.name, SCHEDULERS["ddim"]),
        "num_train_timesteps": schedule.table_steps or DEFAULT_STEPS,
        "prediction_type": PREDICTIONS[cell.training.target],
        "timestep_spacing": spacing if spacing in SPACINGS_OF else "trailing",
        "clip_sample": cell.clip is True and cell.training.scale == "range",
        "rescale_betas_zero_snr": False,
        "steps_offset": 0,
    }
    if config["_class_name"] == "DDIMScheduler":
        config["set_alpha_to_one"] = True
    names = {ours: theirs for theirs, ours in SCHEDULES_OF.items()}
    own = {"offset", "max_beta"} & part.keywords.keys()  # which diffusers has as constants
    if part.name not in names or own:
        return config | {"trained_betas": betas_of(schedule)}
    ends = {end: getattr(schedule, end) for end in ("beta_start", "beta_end")
            if hasattr(schedule, end)}  # fmt: skip
    return config | ends | {
        "beta_schedule": names[part.name],
        "rescale_betas_zero_snr": schedule.ends_in_pure_noise,
    }  # fmt: skip


def betas_of(schedule: Schedule) -> list[float]:
    """A schedule as a table of noise rates beta [T], whose product of 1 - beta is its alpha^2 at
    t = i / T."""
    steps = schedule.table_steps or DEFAULT_STEPS
    t = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    abar = torch.cat([torch.ones(1, dtype=torch.float64), torch.sigmoid(schedule.log_snr(t))])
    betas: list[float] = (1 - abar[1:] / abar[:-1]).tolist()
    return betas


def network_source() -> str:
    """The code of the network in one file, without this package."""
    from harness.models import exported

    (_, of_unet, network), (told, of_wrapper, wrapper) = map(taken_apart, (unet, exported))
    imports = sorted({*of_unet, *of_wrapper})
    constants = [f"{name} = {getattr(presets, name)!r}" for name in CONSTANTS]
    head = [f'"""{told}', "", "Written by the package harness, under the MIT licence.", '"""', ""]
    return "\n".join([*head, *imports, "", *constants, "", "", network, "", "", wrapper, ""])


def taken_apart(module: ModuleType) -> tuple[str, list[str], str]:
    """The docstring of a module, its imports from other packages, and the code below them."""
    source = inspect.getsource(module)
    tree = ast.parse(source)
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    foreign = [
        ast.unparse(node) for node in imports
        if not str(getattr(node, "module", "")).startswith("harness.")
    ]  # fmt: skip
    code = "\n".join(source.splitlines()[imports[-1].end_lineno :]).strip()
    return ast.get_docstring(tree) or "", foreign, re.sub(r"  # type: ignore\S*", "", code)


def as_json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def card(cell: Cell, scheduler: str) -> str:
    """What the folder is, and how diffusers reads it, for people: Markdown."""
    training, pipeline = cell.training, PIPELINES[scheduler]
    facts = {
        name: value for name, value in training.fields().items()
        if name not in ("schedule_options", "precision")
    } | {"schedule": str(training.schedule)}  # fmt: skip
    rows = "\n".join(f"| {name.replace('_', ' ')} | {value} |" for name, value in facts.items())
    whole = (
        f"""import torch
from diffusers import {pipeline}

pipeline = {pipeline}.from_pretrained("FOLDER", trust_remote_code=True)
images = pipeline(batch_size=16, num_inference_steps={cell.steps}).images
"""
        if training.scale == "range"
        else ""
    )
    return f"""# A network of harness, trained under {training.schedule}

Training {training.key}, of the cell {cell.key} ({cell.title}).

| | |
|---|---|
{rows}

```python
{whole or loop(scheduler, cell.steps)}```

`trust_remote_code` runs `unet/{MODULE}.py`: the network is the U-Net of harness, which is told
the log SNR of a timestep, and no UNet2DModel.
"""


def loop(scheduler: str, steps: int) -> str:
    """How a network is sampled whose images are in other units than a pipeline knows."""
    return f"""import sys

import torch
from diffusers import {scheduler}

sys.path.append("FOLDER/unet")
from {MODULE} import {CLASS}

network = {CLASS}.from_pretrained("FOLDER", subfolder="unet").eval()
scheduler = {scheduler}.from_pretrained("FOLDER", subfolder="scheduler")
scheduler.set_timesteps({steps})
side = network.config.sample_size
x = torch.randn(16, network.config.in_channels, side, side)
with torch.no_grad():
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t).sample, t, x).prev_sample
images = network.to_images(x)  # from 0 to 1, [N, C, H, W]
"""
