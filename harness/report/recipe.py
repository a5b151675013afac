"""The complete recipe of a study: what its numbers depend on, whether a grid names it or the code
fixes it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from harness.analysis.study import Study
from harness.data.datasets import DATASETS
from harness.data.images import MIRRORED
from harness.diffusion.objective import LOG_SNR_LIMIT, LOSSES, TARGETS, WEIGHTINGS
from harness.diffusion.samplers import SAMPLERS
from harness.diffusion.schedules import SCHEDULES
from harness.diffusion.times import SPACINGS
from harness.diffusion.training_times import TIME_DENSITIES
from harness.engine import hyperparameters as fixed
from harness.errors import HarnessError
from harness.metrics.features import EXTRACTORS
from harness.models import presets
from harness.models.presets import MODELS, UNetShape
from harness.registry import Registry
from harness.report.tables import clip_in_words
from harness.report.wording import count, listed, number, percent
from harness.work.cells import (
    ADAMW,
    FINGERPRINT,
    UNIFORM,
    Part,
    Scaling,
    Training,
    distinct_trainings,
)
from harness.work.reading import Reading

LETTERS = {"abar": "α²", "alpha": "α", "beta": "β", "eps": "ε", "eta": "η", "sigma": "σ"}

Facts = dict[str, str]


def recipe(study: Study) -> dict[str, Facts]:
    """The settings by what they are of; what cells differ in is listed."""
    if not study.cells:
        return {}
    trained = distinct_trainings(one.cell for one in study.cells)
    found = {"Data": _data(study)}
    if trained:
        found |= {
            "Network": _network(study, trained), "Objective": _objective(trained),
            "Optimisation": _optimisation(study, trained),
        }  # fmt: skip
    if given := {one.cell.training for one in study.cells if one.cell.training.is_given}:
        found["Network from elsewhere"] = _given(given)
    return found | {"Sampling": _sampling(study), "Evaluation": _evaluation(study)}


def said_of(registry: Registry[Any], name: str) -> str:
    """What a part says of itself in a line, in the letters of its formula; nothing where it is not
    installed here."""
    text = "" if name not in registry or registry.problem(name) else registry.describe(name)
    for word, letter in LETTERS.items():
        text = re.sub(rf"\b{word}\b", letter, text)
    return text.removesuffix(".")


def data_of(study: Study) -> str:
    """`digits: 1,797 handwritten digits, 8x8 grey, 500 held out`, with all of its options."""
    data = study.cells[0].cell.training.data
    options = {}
    if data.name in DATASETS and not DATASETS.problem(data.name):
        options = {one.name: one.default for one in DATASETS.options(data.name)}
    whole = Part.of(data.name, options | data.keywords)
    return _with_words(DATASETS, [whole])


def _data(study: Study) -> Facts:
    trainings = [one.cell.training for one in study.cells]
    data = trainings[0].data
    flips = data.keywords.get("flip", data.name in MIRRORED)
    mirrored = f"{percent(fixed.FLIPPED, 1)} of the images of a batch are mirrored left to right"
    return {
        "images": data_of(study),
        **_read(study),
        "sha256 of the pixels": study.quantity.data_fingerprint[:FINGERPRINT],
        "scale": "; ".join(map(scaled, sorted({t.scale for t in trainings}, key=str))),
        "augmentation": "as the data set says" if data.source else mirrored if flips else "none",
        "order": "passes over the training part, each in a new order",
    }


def _read(study: Study) -> Facts:
    """The classes of the images, and what became of their files, where a training recorded it."""
    reading = next((one.reading for one in study.trainings if one.reading), Reading())
    facts = {
        "read": f"{reading.in_words()}; {reading.sizes_in_words()}" if reading.is_of_files else "",
        "classes": "" if reading.is_of_files else reading.classes_in_words(),
        "left out or altered": "; ".join(remark.what for remark in reading.remarks()),
    }
    return {name: value for name, value in facts.items() if value}


def scaled(scale: Scaling) -> str:
    """What becomes of the pixels before a network sees them."""
    if scale == "unit":
        return "unit: each channel of the training images to mean 0 and variance 1"
    reach = 1.0 if scale == "range" else scale
    return f"{scale}: 0 to 255 becomes −{reach:g} to {reach:g}"


def _given(given: Iterable[Training]) -> Facts:
    """What is known of networks that were trained elsewhere: how they were trained is not."""
    ordered = sorted(given, key=lambda one: (one.origin, str(one.schedule)))
    return {
        one.origin: "a UNet2DModel of diffusers with sha256 "
        f"{one.model_fingerprint[:FINGERPRINT]}, trained under {one.schedule} to predict "
        f"{one.target}; how is not known here"
        for one in ordered
    }


def _network(study: Study, trained: list[Training]) -> Facts:
    models = dict.fromkeys(training.model for training in trained)
    sizes = {str(one.training.model): f"{one.parameters:,}" for one in study.trainings}
    parameters = (
        "; ".join(f"{name}: {size}" for name, size in sorted(sizes.items()))
        if len(sizes) > 1
        else "".join(sizes.values())
    )
    facts = {"model": _models(models), "parameters": parameters}
    shapes = {str(model): shape for model in models
              if isinstance(shape := _shape(model), UNetShape)}  # fmt: skip
    if not shapes:
        return facts
    (longest, shortest), waves = presets.WAVELENGTHS, presets.WAVES
    skips = any(shape.skip for shape in shapes.values())
    return facts | {
        "widths": _of_each(shapes, lambda shape: ", ".join(map(str, shape.widths))),
        "residual blocks a level": _of_each(shapes, lambda shape: f"{shape.blocks}"),
        "self-attention at": _of_each(
            shapes, lambda shape: listed(f"{side}x{side}" for side in shape.attention) or "no level"
        ),
        "heads": f"of {presets.HEAD_CHANNELS} channels",
        "normalisation": f"at most {presets.MOST_GROUPS} groups of at least "
        f"{presets.GROUP_CHANNELS} channels",
        "input beside the image": f"the log SNR within ±{LOG_SNR_LIMIT:g}, as sines and cosines of "
        f"{waves} wavelengths from {longest:g} to {shortest:g}, embedded in "
        f"{presets.CONDITION_WIDTH} times the first width; it scales and shifts the second "
        "normalisation of each block",
        "dropout": "none",
        "first weights": "residual branches, attention and output end in zeros; the rest as torch "
        "draws them",
        **({"skip from input to output": _of_each(shapes, _skip)} if skips else {}),
    }


def _skip(shape: UNetShape) -> str:
    return "noise is α times what the layers say plus σ times the input" if shape.skip else "none"


def _models(models: Collection[Part]) -> str:
    """What each says of itself: of a U-Net, how large it is as it is named, so nothing where its
    widths or its blocks are others."""
    sizes = {"widths", "blocks"}
    changed = {one for one in models if sizes & one.keywords.keys()}
    resized = {one for one in changed if isinstance(_shape(one), UNetShape)}
    told = _with_words(MODELS, {*models} - resized)
    return "; ".join([*([told] if told else []), *sorted(map(str, resized))])


def _objective(trained: list[Training]) -> Facts:
    times: dict[str, dict[str, None]] = {}
    for one in trained:
        times.setdefault(_drawn(one.times, one.schedule), {})[str(one.schedule)] = None
    return {
        "target": _named(TARGETS, (one.target for one in trained)),
        "weighting": _with_words(WEIGHTINGS, (one.weighting for one in trained)),
        "loss": _named(LOSSES, (one.loss for one in trained)),
        "training times t": "; ".join(
            f"{how} ({listed(names)})" if len(times) > 1 else how for how, names in times.items()
        ),
        "noise": "standard normal",
    }


def _optimisation(study: Study, trained: list[Training]) -> Facts:
    optimizers = sorted({one.optimizer for one in trained})
    return {
        "optimiser": "; ".join(_optimizer(name) for name in optimizers)
        + f", weight decay {fixed.WEIGHT_DECAY:g}",
        "learning rate": f"{_distinct(f'{one.learning_rate:g}' for one in trained)}, reached over "
        f"the first {percent(fixed.WARM_UP, 1)} of the steps, then half a cosine down to 0",
        "steps": _counts(one.training_steps for one in trained),
        "batch size": _counts(one.batch_size for one in trained),
        "gradient clipping": f"to norm {fixed.GRADIENT_NORM:g}",
        "weights sampled": "their moving average, decay "
        f"{_distinct(f'{one.ema:g}' for one in trained)}, at step k at most "
        f"(1 + k)/({fixed.EMA_LAG} + k)",
        "precision": study.quantity.precision,
        "training seeds": _counts(one.seed for one in trained),
    }


def _optimizer(name: str) -> str:
    first, second = fixed.BETAS
    adamw = f"AdamW, β = ({first:g}, {second:g}), ε = {fixed.EPSILON:g}"
    if name == ADAMW:
        return adamw
    return (
        f"Muon (Jordan et al. 2024) for weights between hidden channels, momentum "
        f"{fixed.MUON_MOMENTUM:g}, updates of {fixed.MUON_SCALE:g} times the square root of their "
        f"larger side (Liu et al. 2025), for all else {adamw}"
    )


def _sampling(study: Study) -> Facts:
    cells = [one.cell for one in study.cells]
    facts = {
        "samplers": _with_words(SAMPLERS, (cell.sampler for cell in cells)),
        "spacing": _with_words(SPACINGS, (cell.spacing for cell in cells)),
        "steps": _counts(cell.steps for cell in cells),
        "evaluations allowed": _counts(cell.budget for cell in cells if cell.budget),
        "x̂₀ clipped to the range of the data": _distinct(clip_in_words(cell) for cell in cells),
        "initial noise": "standard normal, of the sampling seed and the image's number alone: the "
        "same in every cell",
        "sampling seeds": _counts(cell.sampling_seed for cell in cells),
        "images a cell": f"{study.quantity.images:,}",
    }
    return {name: value for name, value in facts.items() if value}


def _evaluation(study: Study) -> Facts:
    of = study.quantity
    features = {one.cell.extractor for one in study.cells}
    weights = of.extractor_fingerprint[:FINGERPRINT]
    baseline = study.baseline_images
    facts = {
        "metrics": listed(metric.title for metric in study.metrics),
        "features": _with_words(EXTRACTORS, features) + (f" (sha256 {weights})" if weights else ""),
        "reference": f"the images of the part {of.reference}",
        "real-data baseline": count(baseline, "held-out image") if baseline else "",
        "machine": _distinct(one.provenance.machine for one in study.cells),
    }
    return {name: value for name, value in facts.items() if value}


def _of_each(shapes: Mapping[str, UNetShape], of: Callable[[UNetShape], str]) -> str:
    """What the networks have in common; where they differ, of each by its name."""
    told = {name: of(shape) for name, shape in shapes.items()}
    if len({*told.values()}) == 1:
        return next(iter(told.values()))
    return "; ".join(f"{name}: {value}" for name, value in told.items())


def _shape(model: Part) -> object:
    """The network that a part stands for; None where it cannot be made here."""
    try:
        return MODELS.make(model.name, model.keywords)
    except HarnessError:
        return None


def _drawn(times: Part, schedule: Part) -> str:
    """How training times are drawn under a schedule: `uniform over (0, 1]`."""
    steps = _table_steps(schedule)
    if times.name == UNIFORM:
        return f"uniform over i/{steps:,}, i = 1 to {steps:,}" if steps else "uniform over (0, 1]"
    rounded = f", rounded up to i/{steps:,}" if steps else ""
    return _with_words(TIME_DENSITIES, [times]) + rounded


def _table_steps(schedule: Part) -> int | None:
    """T of a table; None of another schedule, and of one that cannot be made here."""
    try:
        made = SCHEDULES.make(schedule.name, schedule.keywords)
    except HarnessError:
        return None
    return getattr(made, "table_steps", None)


def _with_words(registry: Registry[Any], parts: Iterable[Part]) -> str:
    """`ddim(eta=0.5): what it says of itself; ddpm: ...`."""
    texts = sorted((str(part), said_of(registry, part.name)) for part in {*parts})
    return "; ".join(f"{name}: {said}" if said else name for name, said in texts)


def _named(registry: Registry[Any], names: Iterable[str]) -> str:
    return _with_words(registry, map(Part, names))


def _distinct(values: Iterable[object]) -> str:
    return listed(sorted({str(value) for value in values} - {""}))


def _counts(values: Iterable[int]) -> str:
    return listed(number(value, decimals=0) for value in sorted({*values}))
