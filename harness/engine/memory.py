"""What to do where memory runs out: the same work in smaller parts, down to one image; then say
what would fit.

A process that the operating system kills for its memory, as it does under the limit of a container
(cgroup), learns nothing of it: that is for the executor, which tells of it and tries again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call
from torch.multiprocessing.reductions import StorageWeakRef

from harness.engine.network import Predictor
from harness.errors import MachineError, is_out_of_memory
from harness.execute import machine

Done = TypeVar("Done")
REMEDY = (
    "Use a smaller model, smaller or fewer images, another --device, or end other programs that "
    "hold its memory."
)


def tried(work: Callable[..., Done], *given: object) -> Done | None:
    """What the work returns; None where memory ran out, which is free again then."""
    try:
        return work(*given)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    machine.free_spare_memory()  # now that no traceback holds on to tensors
    return None


def in_halves(
    batches: list[range], work: Callable[[range], Done], device: torch.device | str
) -> Iterator[Done]:
    """What comes of the work on each batch, in order; one that does not fit into memory is halved,
    and so are those that follow. Raises MachineError where not even one image fits."""
    left, most = list(batches), max(map(len, batches))
    while left:
        batch = left.pop(0)
        if len(batch) > most:
            left[:0] = [batch[i : i + most] for i in range(0, len(batch), most)]
        elif (done := tried(work, batch)) is not None:
            yield done
        elif len(batch) > 1:
            most = half_of(len(batch))
            left.insert(0, batch)
        else:
            raise MachineError(
                f"the memory of the device does not hold the network at work on one image: "
                f"{free_on(device)}. {REMEDY}"
            )


def half_of(images: int) -> int:
    """How many images to try together where so many do not fit."""
    return -(-images // 2)


def needed_by_a_step(network: nn.Module, precision: str, images: tuple[int, ...]) -> int:
    """Bytes that a forward and a backward pass on images [N, C, H, W] take beside the weights: the
    gradients, and what the one pass keeps for the other. Worked out on tensors without content."""
    held: list[tuple[str, torch.Tensor]] = [*network.named_parameters(), *network.named_buffers()]
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[storage_of(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with FakeTensorMode() as mode, saved_tensors_hooks(note, lambda tensor: tensor):
        empty: dict[str, torch.Tensor] = {name: mode.from_tensor(one) for name, one in held}
        predict = Predictor(lambda *given: functional_call(network, empty, given), precision)
        device = next(iter(empty.values())).device
        note(predict(torch.empty(images, device=device), torch.empty(images[0], device=device)))
    for one in empty.values():
        kept.pop(storage_of(one), None)
    return sum(kept.values()) + sum(one.nbytes for one in network.parameters())


def storage_of(tensor: torch.Tensor) -> int:
    """What views of one tensor have in common, whatever its shape."""
    reference = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
    return int(reference.cdata)


@contextmanager
def said_in_one_line(doing: str, device: torch.device | str) -> Iterator[None]:
    """Raises MachineError in the place of an error that says that memory ran out, or threads, each
    of which takes memory too."""
    try:
        yield
    except Exception as error:
        is_of_threads = "can't start new thread" in str(error)
        if not is_of_threads and not is_out_of_memory(error):
            raise
        asked = re.search(r"allocate ([\d.]+ ?\w+)", str(error))
        what = f"{asked[1]} more were asked for" if asked else str(error)[:100] or "it is full"
        place = "cpu" if isinstance(error, MemoryError) or "CPU" in str(error) else device
        lacking = "threads" if is_of_threads else "memory"
        raise MachineError(
            f"{lacking} ran out while {doing}: {what}, and {free_on(place)}. {REMEDY}"
        ) from None


def free_on(device: torch.device | str) -> str:
    """`3.2 GB are free on cuda`: for a message."""
    found = machine.find_device(str(device))
    return f"{machine.size(machine.free_memory(found))} are free on {found}"
