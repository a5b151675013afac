"""Muon, against torch's own where that has one and against the singular values it is about; and
the skip that makes a network predict noise."""

import pytest
import torch
from torch import nn

from harness.engine.hyperparameters import MUON_MOMENTUM, WEIGHT_DECAY
from harness.engine.optimizers import Muon, muon, orthogonal
from harness.models.presets import tiny
from harness.models.unet import noise_from


@pytest.mark.parametrize("shape", [(3, 8, 20), (2, 20, 8), (1, 12, 12)], ids=str)
def test_orthogonal_matrices_keep_singular_vectors_and_even_out_singular_values(shape):
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    inside = left.mT @ orthogonal(matrices) @ right.mT
    large = (values / torch.linalg.matrix_norm(matrices)[:, None]) > 0.05
    found = inside.diagonal(dim1=1, dim2=2)
    assert (inside - torch.diag_embed(found)).abs().max() < 1e-3
    assert found[large].min() > 0.65
    assert found.max() < 1.25


def test_matrices_are_moved_as_by_the_optimiser_of_torch():
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(shape)) for shape in ((8, 20), (20, 8), (8, 20))]
    theirs = [nn.Parameter(one.detach().clone()) for one in ours]
    first = [one.detach().clone() for one in ours]
    our = Muon(ours, [], 0.02)
    their = torch.optim.Muon(
        theirs, 0.02, WEIGHT_DECAY, MUON_MOMENTUM, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(4):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn_like(mine)
            other.grad = mine.grad.clone()
        our.step()
        their.step()
    for mine, other, start in zip(ours, theirs, first, strict=True):
        assert (mine - other).norm() < 0.03 * (mine - start).norm()  # theirs is in bfloat16


def test_what_reads_or_writes_images_and_what_is_no_matrix_is_left_to_adamw():
    network = tiny().build(3, 8)
    optimizer = muon(network, 3, 1e-3)
    matrices, others = (group["params"] for group in optimizer.param_groups)
    assert {id(network.first.weight), id(network.last.weight)} <= {*map(id, others)}
    assert all(one.ndim < 2 for one in others if one.shape[0] != 3 and 3 not in one.shape[:2])
    assert {*map(id, matrices)} | {*map(id, others)} == {*map(id, network.parameters())}
    assert all(min(one.shape[:2]) > 3 for one in matrices)
    before = [one.detach().clone() for one in network.parameters()]
    for one in network.parameters():
        one.grad = torch.ones_like(one)
    optimizer.step()
    moved = zip(before, network.parameters(), strict=True)
    assert all(not torch.equal(then, now) for then, now in moved)


def test_a_skip_makes_noise_of_velocity_and_of_no_answer_the_share_of_noise():
    torch.manual_seed(0)
    images, noise, log_snr = torch.randn(3, 1, 8, 8), torch.randn(3, 1, 8, 8), torch.randn(3)
    alpha, sigma = (torch.sigmoid(sign * log_snr).sqrt()[:, None, None, None] for sign in (1, -1))
    x, velocity = alpha * images + sigma * noise, alpha * noise - sigma * images
    torch.testing.assert_close(noise_from(velocity, x, log_snr), noise)
    torch.testing.assert_close(tiny(skip=True).build(1, 8)(x, log_snr), sigma * x)
