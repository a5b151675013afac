"""What every part of a kind must satisfy: for the tests, for authors, and for `harness verify`."""

from harness.contracts.foreign import failures, refuse_broken

__all__ = ["failures", "refuse_broken"]
