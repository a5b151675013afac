"""Compare diffusion noise schedules and samplers: read `harness/run.py` first.

    from harness import load_grid, plan, run, study

are the command line's objects for Python; what they take and give stands in `harness/api.py`. They
are loaded at first use, so that `harness --help` answers at once.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inspect import Signature

    from harness.api import plan as plan
    from harness.api import run as run
    from harness.api import study as study
    from harness.plan.grid import load_grid as load_grid

__version__ = "0.2.0"
__all__ = ["load_grid", "plan", "run", "study"]

HOMES = {"load_grid": "harness.plan.grid", "study": "harness.api"}
BOTH = ("plan", "run")  # modules that are called, too


class CalledModule(ModuleType):
    # A module that is also the function of its name: `harness.run` holds the story of a run, and
    # `harness.run(grid)` is one. What `help` and notebooks tell of it is that of the function.

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        doc: str | None = self._function.__doc__
        return doc

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._function(*arguments, **keywords)

    @property
    def __signature__(self) -> "Signature":
        from inspect import signature

        return signature(self._function)

    @property
    def _function(self) -> Any:
        return getattr(import_module("harness.api"), self.__name__.rpartition(".")[2])


class Package(ModuleType):
    """This package. Python binds a submodule to it when that is first imported, by whomever."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in BOTH and isinstance(value, ModuleType):
            value.__class__ = CalledModule
        super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
    if name in BOTH:
        return import_module(f"harness.{name}")
    if name in HOMES:
        return getattr(import_module(HOMES[name]), name)
    raise AttributeError(f"module 'harness' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


sys.modules[__name__].__class__ = Package
