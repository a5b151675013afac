"""Compare diffusion noise schedules and samplers: read `harness/run.py` first."""

__version__ = "0.1.0"
