"""A small training and a cell of it, for tests to change by `dataclasses.replace`."""

from harness.plan.work import Cell, Part, Training

TRAINING = Training(
    data=Part("digits"),
    model=Part.of("tiny", {"widths": (8,), "attention": ()}),
    schedule=Part("cosine"),
    target="noise",
    weighting=Part("simple"),
    seed=0,
    training_steps=100,
    batch_size=10,
    learning_rate=1e-3,
    ema=0.9,
    precision="float32",
)
CELL = Cell(
    training=TRAINING,
    sample_schedule=Part("cosine"),
    sampler=Part("ddim"),
    spacing=Part("trailing"),
    steps=10,
    images=50,
    sampling_seed=0,
    clip=False,
    extractor=Part("digits"),
    reference="train",
)
