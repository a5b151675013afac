"""What all trainings share and no grid file changes. The steps take it from here, and so does what
a report says of them, which needs no torch."""

from __future__ import annotations

import math

from harness.work.cells import Training

BETAS = (0.9, 0.999)  # of AdamW
EPSILON = 1e-8
WEIGHT_DECAY = 0.01
MUON_MOMENTUM = 0.95
MUON_SCALE = 0.2  # of an update, so that it is as large as AdamW's (Liu et al. 2025)
WARM_UP = 0.05  # share of the steps over which the learning rate rises
GRADIENT_NORM = 1.0  # what longer gradients are scaled down to
FLIPPED = 0.5  # share of the images, where a data set allows it
EMA_LAG = 10  # steps: the average's decay is at most (1 + step) / (EMA_LAG + step)


def learning_rate(training: Training, step: int) -> float:
    """A short rise, then half a cosine down to 0."""
    rise = max(1, round(WARM_UP * training.training_steps))
    if step < rise:
        return training.learning_rate * (step + 1) / rise
    fall = (step - rise) / max(1, training.training_steps - rise)
    return training.learning_rate * (1 + math.cos(math.pi * fall)) / 2


def ema_decay(training: Training, step: int) -> float:
    """Lower at first, when the average would remember the untrained weights for too long."""
    return min(training.ema, (1 + step) / (EMA_LAG + step))
