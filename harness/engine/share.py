"""A process's share of each batch, where several processes train one network.

The mathematics of a step do not change: every process draws the times and the noise of the whole
batch and takes its own part, gradients are averaged over all (PyTorch's DistributedDataParallel),
and so each takes the same step of the optimiser.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from harness.errors import MachineError


@dataclass(frozen=True)
class Share:
    """Of process `rank`, one of `size`."""

    rank: int = 0
    size: int = 1

    @classmethod
    def here(cls, batch: int) -> Self:
        """The share of this process; all there is where it trains alone. Raises MachineError where
        a batch has fewer images than there are processes."""
        if not distributed.is_initialized():
            return cls()
        size = distributed.get_world_size()
        if batch < size:
            raise MachineError(
                f"{size} processes cannot share batches of training.batch_size={batch}. At most "
                f"{batch} would do, or a larger batch."
            )
        return cls(distributed.get_rank(), size)

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def of(self, batch: int) -> slice:
        """Which images of a batch are its own: as many as the others', or one more or less."""
        return slice(batch * self.rank // self.size, batch * (self.rank + 1) // self.size)

    def shared(self, network: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
        """The network, whose gradients from now on are averaged over the processes."""
        if self.size == 1:
            return network
        assert isinstance(network, nn.Module)
        return DistributedDataParallel(network, broadcast_buffers=False)

    def mean(self, losses: Tensor, batch: int) -> Tensor:
        """What to take the gradient of, so that the average over the processes is the gradient of
        the mean loss of the whole batch. `losses` [n] are those of this share."""
        return losses.mean() * (len(losses) * self.size / batch)

    def all_of(self, losses: Tensor, batch: int) -> Tensor:
        """The losses [batch] of all shares, in the order of the images."""
        if self.size == 1:
            return losses
        whole = torch.zeros(batch, device=losses.device)
        whole[self.of(batch)] = losses
        distributed.all_reduce(whole)
        return whole


ALONE = Share()
