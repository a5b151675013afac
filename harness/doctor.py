"""What runs need on this machine, looked at one by one: `harness doctor`.

A check is a function of the paths that gives its lines; to add one, write it and name it in CHECKS.
Nothing is written, and nothing is downloaded. MLflow, which takes seconds to load, is not: of its
database no more is asked than whether it can be read.
"""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from urllib.error import HTTPError
from urllib.request import urlopen
from uuid import uuid4

import psutil

from harness.data.datasets import ANALYTIC, DATASETS, load
from harness.data.images import no_files
from harness.downloads import NotHereYet, no_downloads
from harness.errors import HarnessError, installing, legible, reason_of
from harness.execute import drives, machine
from harness.lazy import torch
from harness.metrics.features import EXTRACTORS
from harness.parts import registries, shadowing_of
from harness.plan.executions import formats_to_try
from harness.plan.preflight import LEAST_DISK
from harness.registry import BUILT_IN, Registry, unreadable_packages
from harness.store import Store, check_writable, read_json
from harness.work.execution import Execution
from harness.work.options import Paths, database_file

State = Literal["ok", "missing", "broken"]
PATIENCE = 60.0  # seconds that the import of a package may take
SERVER_PATIENCE = 5.0  # seconds until a tracking server must have answered
OPTIONAL = {  # packages that a few parts need, and what for
    "pillow-heif": "images in HEIC and AVIF",
    "diffusers": "networks of diffusers",
    "timm": "the extractor dinov2",
    "ray": "runs on a Ray cluster",
}
UP_TO_768 = ", up to layer 768"  # of Inception: the smaller file of its weights ends there
OR_UP_TO_768 = (
    "Up to layer 768, inception-2015-12-05-to768.safetensors is enough; the usual 2,048 features "
    "need the .pth."
)
MAIN_JOB = 3e9  # bytes of memory
CLEARLY = 1.25  # times as fast, on a GPU that a run gives compiled networks
FIRST = "runs/digits.yaml"  # that most people run first
SIDE = 32  # of the images of a network that is probed
WIDTH, WIDEST = 80, 22  # of a line, and of what it is about


@dataclass(frozen=True)
class Line:
    """How it stands with one thing; where it is not well, what to do."""

    state: State
    what: str
    told: str
    is_extra: bool = False  # missing or not, a first run does without


def examine(paths: Paths) -> list[Line]:
    """Every check, in order; one that fails itself is a line too."""
    return [line for check in CHECKS for line in _lines(check, paths)]


def as_text(lines: Iterable[Line]) -> str:
    """For a person: what a first run does without comes last, under a heading of its own."""
    lines = list(lines)
    wide = min(WIDEST, max(len(line.what) for line in lines))
    extra = [line for line in lines if line.is_extra and line.state == "missing"]
    rows = [_row(line, line.state, wide) for line in lines if line not in extra]
    if extra:
        rows += ["", f"Not here, and not needed for {FIRST}:"]
    return "\n".join([*rows, *(_row(line, "", wide) for line in extra)])


def _row(line: Line, state: str, wide: int) -> str:
    return textwrap.fill(
        legible(line.told), WIDTH, break_on_hyphens=False, break_long_words=False,
        initial_indent=legible(f"{state:8}{line.what:{wide}}  "),
        subsequent_indent=" " * (wide + 10),
    )  # fmt: skip


def as_json(lines: Iterable[Line]) -> dict[str, object]:
    lines = list(lines)
    return {"is_well": is_well(lines), "checks": [asdict(line) for line in lines]}


def is_well(lines: Iterable[Line]) -> bool:
    """Whether nothing is broken; what is missing may not be wanted."""
    return all(line.state != "broken" for line in lines)


def _lines(check: Callable[[Paths], Iterator[Line]], paths: Paths) -> list[Line]:
    name = check.__name__.replace("_", " ")
    try:
        return list(check(paths))
    except HarnessError as error:
        return [Line("broken", name, str(error))]
    except Exception as error:  # the doctor itself must not fall ill
        return [Line("broken", name, f"cannot be looked at: {reason_of(error)}")]


def device(paths: Paths) -> Iterator[Line]:
    """What computes here; and a GPU that torch cannot use."""
    found = machine.find_device(paths.device)
    yield Line("ok", "device", f"{found.type}: {machine.name(found)}")
    if found.type == "cpu" and not torch.cuda.is_available() and (gpu := idle_gpu()):
        told = f"{gpu} is here, and torch {torch.__version__} cannot use it. Install torch for CUDA"
        yield Line("missing", "GPU", f"{told}, or a newer driver.")


def idle_gpu() -> str:
    """The name of the first NVIDIA GPU that its driver knows; empty where there is none."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0)))
    except Exception:  # no driver, or no card
        return ""


def memory(paths: Paths) -> Iterator[Line]:
    found = machine.find_device(paths.device)
    ram = psutil.virtual_memory()
    told = f"{ram.available / 1e9:.1f} of {ram.total / 1e9:.1f} GB are free"
    if found.type != "cpu":
        free, whole = machine.memory(found)
        told += f", and {free / 1e9:.1f} of {whole / 1e9:.1f} GB on the GPU"
    if ram.available >= MAIN_JOB:
        yield Line("ok", "memory", told)
    else:
        told += f"; {FIRST} takes {MAIN_JOB / 1e9:.0f}. Close other programs, or expect"
        yield Line("missing", "memory", f"{told} a slow run.")


def precision(paths: Paths) -> Iterator[Line]:
    """In which precision networks are computed here, and how else: as the store has settled it,
    and by a short probe where it has not or could not tell precisions apart."""
    found = machine.find_device(paths.device)
    where = machine.name(found)
    settled = [one for one in Store(paths.store).executions() if one.machine == where]
    for told in dict.fromkeys(one.said() for one in settled):
        yield Line("ok", "precision", f"{told}, as the store has it")
    if found.type != "cpu":
        yield _precision_of_gpu(found)
    elif not settled:
        yield Line("ok", "precision", _precision_by_probe(found))


def _precision_by_probe(processor: torch.device) -> str:
    """What a run would take for a network of the usual size, one of several side by side."""
    from harness.engine.fastest import Subject, fastest
    from harness.models.presets import small

    format, network = machine.format_for("auto", SIDE, processor), f"small at {SIDE}x{SIDE}"
    rule = Execution(machine.name(processor), "", network, "auto", format, 1, format, 1)
    subject = Subject(small(), (16, 3, SIDE, SIDE), processor)
    found = fastest(subject, rule, formats_to_try(rule, "auto", "cpu"), [])
    return f"{(found or rule).said()}. A run of minutes measures it for its own network"


def _precision_of_gpu(gpu: torch.device) -> Line:
    """Which precision trains faster here, by a short probe."""
    from harness.engine.probe import speeds_by_precision

    chosen, probed = machine.find_precision("auto", gpu), speeds_by_precision(gpu)
    speeds = probed.speeds
    fastest = max(speeds, key=speeds.__getitem__)
    told = ", ".join(f"{name} {speed:.3g}" for name, speed in speeds.items())
    told = (
        f"images a second that the network `{probed.network}` learns at {probed.size}x{probed.size}"
        f" here, uncompiled: {told}; `auto` takes {chosen}"
    )
    if speeds[fastest] <= CLEARLY * speeds.get(chosen, 0.0):
        return Line("ok", "precision", told)
    if chosen in probed.waiting:
        told += ". The GPU waits for Python: it may be faster in a run"
        return Line("ok", "precision", told)
    return Line(
        "missing", "precision", f"{told}. Use training.precision={fastest}, which is faster."
    )


def disk(paths: Paths) -> Iterator[Line]:
    free = machine.free_disk(paths.store)
    told = f"{free / 1e9:.1f} GB are free where the store {paths.store} is"
    if free < LEAST_DISK:
        told += f"; runs need {LEAST_DISK / 1e9:.1f}. Make room, or use another --store."
        yield Line("broken", "disk", told)
    else:
        yield Line("ok", "disk", told)


def store(paths: Paths) -> Iterator[Line]:
    """Whether it can be read and written, and who works in it."""
    Store(paths.store).check()
    if not paths.store.exists():
        yield Line("missing", "store", f"{paths.store} is not there yet: the first run makes it")
        return
    holder = read_json(paths.store / "lock.json")
    process, host = holder.get("process"), holder.get("host", platform.node())
    command = f"({holder.get('command', 'another run')})"
    if host != platform.node():
        told = f"{paths.store} is in use by process {process} on {host} {command}, or it was killed"
    elif isinstance(process, int) and psutil.pid_exists(process):
        told = f"{paths.store} is in use by process {process} {command}"
    elif holder:
        told = f"{paths.store}: a run of it was killed. The same command goes on."
    else:
        told = f"{paths.store} can be read and written"
    yield Line("ok", "store", told)


def tracking(paths: Paths) -> Iterator[Line]:
    """Whether MLflow's database can be read, or its server answers."""
    uri = paths.tracking_uri
    shown = re.sub(r"//[^/@]*@", "//", uri)  # without a password
    if file := database_file(uri):
        yield (
            _database(file)
            if file.exists()
            else Line("missing", "tracking", f"{file} is not there yet: the first run makes it")
        )
    elif uri.startswith(("http://", "https://")):
        yield _server(shown)
    else:
        yield Line("ok", "tracking", f"{shown} is not looked at here")


def _database(file: Path) -> Line:
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as database:
            database.execute("select count(*) from experiments").fetchone()
    except sqlite3.Error as error:
        told = f"{file} cannot be read ({error}). Move it away, or use another --tracking-uri."
        return Line("broken", "tracking", told)
    return Line("ok", "tracking", f"{file} can be read")


def _server(shown: str) -> Line:
    try:
        with urlopen(f"{shown.rstrip('/')}/health", timeout=SERVER_PATIENCE):
            return Line("ok", "tracking", f"{shown} answers")
    except HTTPError as error:  # it is there, and may want to know who asks
        told = f"{shown} answers with status {error.code}"
        return Line("ok" if error.code in (401, 403) else "broken", "tracking", told)
    except (OSError, ValueError) as error:
        told = f"{shown} does not answer ({reason_of(error)}). Start it, or use --tracking-uri."
        return Line("broken", "tracking", told)


def network_drive(paths: Paths) -> Iterator[Line]:
    """Whether MLflow's database is where its locks may not hold."""
    if told := drives.trouble_of_sqlite(paths.tracking_uri):
        yield Line("missing", "local database", told)


def data(paths: Paths) -> Iterator[Line]:
    """Whether the data folder can be used, and which data sets are in it."""
    check_writable(paths.data_dir, "data folder", "--data-dir")
    if paths.data_dir.is_dir():
        yield Line("ok", "data", f"{paths.data_dir} can be read and written")
    else:
        told = f"{paths.data_dir} is not there yet: the first download makes it"
        yield Line("missing", "data", told)
    for name in filter(partial(_is_built_in, DATASETS), DATASETS):
        sources = getattr(DATASETS[name], "sources", no_files)
        is_computed = name in ANALYTIC or sources is no_files
        if is_computed or any(option.required for option in DATASETS.options(name)):
            continue
        files = sources(paths.data_dir)
        if files and all(file.exists() for file in files):
            yield Line("ok", f"data {name}", f"is in {paths.data_dir}", is_extra=True)
        else:
            yield _absent(f"data {name}", partial(load, name, paths.data_dir, {}))


def weights(paths: Paths) -> Iterator[Line]:
    """Of which extractors the weights are here."""
    for name in filter(partial(_is_built_in, EXTRACTORS), EXTRACTORS):
        if not hasattr(make := EXTRACTORS[name], "sources"):
            continue  # it comes with the program
        what = f"weights {name}"
        variants = [{}, {"layer": 768}] if name == "inception" else [{}]  # of which files there are
        for options in variants:
            with suppress(HarnessError), no_downloads():
                [file] = make.sources(paths.data_dir, **options)
                told = f"{file}{UP_TO_768 if options else ''}"
                yield Line("ok", what, told, is_extra=True)
                break
        else:
            absent = _absent(what, partial(make.sources, paths.data_dir))
            if name == "inception" and absent.state == "missing":
                absent = replace(absent, told=f"{absent.told} {OR_UP_TO_768}")
            yield absent


def _is_built_in(registry: Registry[Any], name: str) -> bool:
    """Whether a part is no package's, which may end the process that loads it."""
    return registry.origin(name) == BUILT_IN


def _absent(what: str, take: Callable[[], object]) -> Line:
    """What is to be done for something that is not here, by what it says when it is taken."""
    try:
        with no_downloads():
            take()
    except NotHereYet as error:
        told = f"not here: a run downloads it. {error.remedy}"
        return Line("missing", what, told, is_extra=True)
    except HarnessError as error:
        return Line("missing", what, str(error), is_extra=True)
    return Line("ok", what, "is here", is_extra=True)


def packages(paths: Paths) -> Iterator[Line]:
    """Optional packages, and those whose own description cannot be read."""
    for name, purpose in OPTIONAL.items():
        if find_spec(name.replace("-", "_")):
            yield Line("ok", f"package {name}", f"for {purpose}", is_extra=True)
        else:
            told = f"not installed, for {purpose}. Use {installing(name)}."
            yield Line("missing", f"package {name}", told, is_extra=True)
    for folder, reason in unreadable_packages().items():
        told = f"its description cannot be read ({reason}). Install it again, or remove the folder."
        yield Line("broken", f"package {folder}", told)


def plug_ins(paths: Paths) -> Iterator[Line]:
    """The parts of other packages: each that cannot be used, and each that a built-in one of the
    same name hides."""
    found = 0
    for registry in registries():
        for name in registry:
            if registry.origin(name) == BUILT_IN:
                continue
            found += 1
            deaths = filter(None, map(death_of_import, registry.modules(name)))
            if problem := next(deaths, "") or registry.problem(name):
                yield Line("broken", f"{registry.kind} {name}", problem)
        for name, package in registry.shadowed.items():
            told = f"{shadowing_of(registry.kind, package)} Use another name."
            yield Line("missing", f"{registry.kind} {name}", told)
    yield Line("ok", "plug-ins", f"{found} part{'' if found == 1 else 's'} of other packages")


@cache
def death_of_import(module: str) -> str:
    """How the import of a module ends the process, or holds it up, in one of its own; empty where
    it does neither."""
    code = f"import sys; sys.path[:] = {sys.path!r}; import importlib as i\n"
    code += f"try: i.import_module({module!r})\nexcept BaseException: pass\n"
    end = f"the end of this import: {uuid4().hex}"  # others may write something after it
    code += f"sys.stderr.write({end!r})"
    try:
        ended = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=False, timeout=PATIENCE,
            stdin=subprocess.DEVNULL, env=os.environ | {"MPLBACKEND": "agg"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"the import of {module} takes more than {PATIENCE:.0f} s. Repair or uninstall it."
    if end.encode() in ended.stderr:
        return ""
    return f"the import of {module} ends the process ({ended.returncode}). Repair or uninstall it."


CHECKS = (
    device, memory, precision, disk, store, tracking, network_drive, data, weights,
    packages, plug_ins,
)  # fmt: skip
