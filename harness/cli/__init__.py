"""The command line: reads arguments, calls one function, prints. No logic lives here, and click
nowhere else.

Commands import what they need when they run, so that `harness --help` answers at once. Their order
here is that of the help.
"""

try:
    from harness.cli import grids, images, stores, machines  # noqa: F401, I001
    from harness.cli.group import main
except KeyboardInterrupt:  # before anything began
    raise SystemExit(130) from None

__all__ = ["main"]
