"""`python -m harness`, also as `torchrun -m harness`."""

from harness.cli import main

main(prog_name="harness")
