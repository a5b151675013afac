"""The machine: what it is called, what it can do, and what it has left."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
from threadpoolctl import ThreadpoolController

from harness import __version__
from harness.errors import MachineError
from harness.lazy import torch
from harness.work.execution import PRECISIONS as NAMED
from harness.work.execution import Format

GIVES_WAY = 10  # of 19, by which a process is nice
SMALL_MATRIX = 200_000  # numbers
PRECISIONS = ("auto", *NAMED)
DEVICES = ("cpu", "cuda", "mps", "xpu")


def cores() -> int:
    """Processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def find_device(wanted: str) -> torch.device:
    """The device of this name; `auto` is a GPU where there is one. Raises MachineError."""
    kinds = [kind for kind in ("cuda", "mps", "xpu") if _is_there(kind)]
    if wanted == "auto":
        return torch.device(kinds[0] if kinds else "cpu")
    if wanted.split(":", maxsplit=1)[0] in DEVICES:
        with suppress(Exception):  # of many kinds, and long: each back end has its own
            torch.empty(1, device=wanted)
            return torch.device(wanted)
    available = ", ".join(["auto", "cpu", *kinds])
    raise MachineError(f"device '{wanted}' cannot be used here. Use one of {available}.")


def _is_there(kind: str) -> bool:
    found = torch.backends.mps if kind == "mps" else getattr(torch, kind)
    return bool(found.is_available())


def gpus() -> list[str]:
    """The names by which a process can be given one GPU each (CUDA_VISIBLE_DEVICES)."""
    if not torch.cuda.is_available():
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    return [str(number) for number in range(torch.cuda.device_count())]


def find_precision(wanted: str, device: torch.device) -> str:
    """The precision in which a network computes where none was measured to be faster; of `auto`
    what is usual for the hardware: bfloat16 where it computes in that, float16 on GPUs that compute
    in that alone, float32 elsewhere. Raises MachineError where this device cannot compute in the
    one that was asked for."""
    if wanted != "auto":
        _check_precision(wanted, device)
        return wanted
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        if capability >= (8, 0):
            return "bfloat16"  # emulated before, and slower than float32
        # Those below 7 have no tensor cores, and of the GTX 16xx float16 is known to give NaN.
        has_tensor_cores = capability >= (7, 0) and "GTX 16" not in name(device)
        return "float16" if has_tensor_cores else "float32"
    is_native = device.type == "cpu" and (_cpu_can("amx_tile") or _cpu_can("avx512_bf16"))
    return "bfloat16" if is_native else "float32"


@cache
def _check_precision(precision: str, device: torch.device) -> None:
    if precision == "float32":
        return
    with suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where it cannot, it warns and computes in float32
        with torch.autocast(device.type, dtype=getattr(torch, precision)):
            if torch.is_autocast_enabled(device.type):
                return
    raise MachineError(
        f"{name(device)} does not compute in {precision} here. Use training.precision: float32."
    )


def in_float64(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in float64: where it is, or on the processor where its device has none."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


@contextmanager
def numpy_threads_for(numbers: int) -> Iterator[None]:
    """Let numpy use one thread for matrices that hold no more numbers than this: on small ones its
    threads wait for each other longer than they work (half of what a cell of 64 images cost)."""
    if numbers > SMALL_MATRIX:
        yield
        return
    with one_numpy_thread():
        yield


@contextmanager
def one_numpy_thread() -> Iterator[None]:
    """Let numpy and scipy use one thread within this context."""
    with _thread_pools().limit(limits=1, user_api="blas"):
        yield


@cache
def _thread_pools() -> ThreadpoolController:
    importlib.import_module("scipy.linalg")  # it brings its own, found only once it is loaded
    return ThreadpoolController()


def likes_channels_last(size: int, precision: str, device: torch.device) -> bool:
    """Whether convolutions on images of this side are faster with the channels of a pixel side by
    side. Up to twice as fast from 32 pixels on, and slower on tiny images; on a processor without
    matrix tiles a training step in bfloat16 is a fifth slower so (measured, 64 pixels)."""
    if size < 32:
        return False
    return device.type != "cpu" or precision == "float32" or _cpu_can("amx_tile")


def format_for(wanted: str, size: int, device: torch.device) -> Format:
    """In what a network for images of this side computes where nothing was measured, the precision
    as `find_precision` has it. Raises MachineError likewise."""
    precision = find_precision(wanted, device)
    return Format(precision, likes_channels_last(size, precision, device))


def _cpu_can(what: str) -> bool:
    """Whether torch finds an instruction set in this processor; older versions do not say."""
    return bool(getattr(torch.cpu, f"_is_{what}_supported", lambda: False)())


def threads_for(values: int, workers: int = 1) -> int:
    """Threads for work on images of this many values (pixels times channels) on a CPU, where
    `workers` such pieces run side by side.

    Small operations lose more by handing work between threads than they gain: on 8x8 images two
    threads were slower than one on a quiet machine, and ten times slower on a busy one.
    """
    return 1 if values < 1024 else max(1, cores() // workers)


def use_threads(count: int) -> None:
    """Have torch and numpy compute with so many threads in this process from now on."""
    torch.set_num_threads(count)
    _thread_pools().limit(limits=count, user_api="blas")


@cache
def give_way() -> None:
    """Have other processes go first from now on and leave a core to them, on systems that can."""
    if hasattr(os, "nice"):
        os.nice(GIVES_WAY)
    if hasattr(os, "sched_setaffinity") and cores() > 1:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[1:])
        use_threads(cores())


def name(device: torch.device) -> str:
    """What the machine is called in results: its GPU, or its processor and cores."""
    if device.type in ("cuda", "xpu"):
        return str(getattr(torch, device.type).get_device_name(device))
    if device.type == "mps":
        return f"{_processor()} (MPS)"
    plural = "" if cores() == 1 else "s"
    return f"{_processor()}, {cores()} core{plural}"


@cache
def _processor() -> str:
    with suppress(OSError, subprocess.SubprocessError):
        if sys.platform == "darwin":  # where `platform` knows no more than "arm"
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(
                command, capture_output=True, text=True, timeout=10, check=True
            ).stdout.strip()
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def versions() -> Mapping[str, str]:
    """Of this program and what its results depend on."""
    found = {"harness": __version__, "python": platform.python_version()}
    for package in ("torch", "numpy", "scipy", "scikit-learn", "torch-fidelity", "mlflow"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def free_disk(folder: Path) -> int:
    """Bytes free where this folder is or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def memory_in_use(device: torch.device) -> int:
    """Bytes: allocated on a GPU, at most since the last `forget_peak` where it keeps count; else
    held by this process."""
    if device.type in ("cuda", "xpu"):
        return int(getattr(torch, device.type).max_memory_allocated(device))
    if device.type == "mps":
        return int(torch.mps.driver_allocated_memory())
    return int(_process(os.getpid()).memory_info().rss)


@cache
def _process(number: int) -> psutil.Process:
    """Made once: that takes longer than to ask it, and a sampler is watched while it is timed."""
    return psutil.Process(number)


def memory(device: torch.device) -> tuple[int, int]:
    """Bytes that are left and bytes that there are: on a GPU, else for this process within the
    limit set for it. Of Apple's, which shares its memory, as many as Metal recommends."""
    if device.type in ("cuda", "xpu"):
        free, whole = getattr(torch, device.type).mem_get_info(device)
        return int(free), int(whole)
    shared, process = psutil.virtual_memory(), psutil.Process()
    free, whole = int(shared.available), int(shared.total)
    if device.type == "mps":
        most = int(torch.mps.recommended_max_memory())
        left = most - int(torch.mps.driver_allocated_memory())
        return max(0, min(free, left)), min(whole, most)
    if hasattr(process, "rlimit"):  # on Linux
        limit, _ = process.rlimit(psutil.RLIMIT_AS)
        if limit != psutil.RLIM_INFINITY:
            free = min(free, max(0, limit - int(process.memory_info().vms)))
    return free, whole


def free_memory(device: torch.device) -> int:
    """Bytes that are left, as `memory` has them."""
    return memory(device)[0]


def size(amount: float) -> str:
    """Bytes in words: `40 MB`, `1.2 GB`."""
    return f"{amount / 1e9:.1f} GB" if amount >= 1e9 else f"{max(1, amount / 1e6):.0f} MB"


def forget_peak(device: torch.device) -> None:
    if device.type in ("cuda", "xpu"):
        getattr(torch, device.type).reset_peak_memory_stats(device)


def free_spare_memory() -> None:
    """Give back what torch holds in reserve, after it did not suffice."""
    for kind in ("cuda", "mps", "xpu"):
        if _is_there(kind):
            getattr(torch, kind).empty_cache()


def wait_for(device: torch.device) -> None:
    """Return when the device has done what it was given, so that a clock read now is true."""
    if device.type == "mps":  # there is one alone
        torch.mps.synchronize()
    elif device.type != "cpu":
        getattr(torch, device.type).synchronize(device)


def commit() -> str:
    """The commit of this program's checkout, `abc1234` or `abc1234 (modified)`; else empty."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        return found.stdout.strip() if found.returncode == 0 else ""

    try:
        # A checkout of something else around an installed package says nothing about it.
        if not git("ls-files", "machine.py"):
            return ""
        modified = " (modified)" if git("status", "--porcelain", "--", "..") else ""
        return git("rev-parse", "--short", "HEAD") + modified
    except (OSError, subprocess.TimeoutExpired):
        return ""
