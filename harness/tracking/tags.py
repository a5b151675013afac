"""What our runs are marked with in MLflow, and how a run is told from those marks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.tracking.runs import MlflowRun
from harness.work.cells import RESULT_VERSION
from harness.work.projection import SOURCE

KIND, KEY, STORE, REUSED = "harness.kind", "harness.key", "harness.store", "harness.reused"
SUPERSEDED, REASON, MACHINE = "harness.superseded", "harness.reason", "harness.machine"
VERDICT, RESOLVED, VERSION = "harness.verdict.", "harness.resolved.", "harness.version."
COMMAND = "harness.command"
RESULT_DIGEST = "harness.result"  # sha256 of the result, so that any copy of it can be trusted
RETRIES = "harness.retries"  # how often the work began again, for its process was killed
LACKS = "harness.lacks"  # files of the result that the server refused
BUNDLES = "harness.bundles"  # names of files of the parent run that hold many results
CURVES = "harness.curves"  # sha256 of the means that the parent run has as curves
REPORT = "harness.report"  # what the report with the parent run was made from, in one number
DIGEST = "harness.sha256."  # of a file of the parent run, before its name
COMMIT, FORECAST = "harness.commit", f"{RESOLVED}forecast_seconds"
PARENT, NOTE = "mlflow.parentRunId", "mlflow.note.content"


def is_of_this_version(run: MlflowRun) -> bool:
    return str(run.tags.get(f"{RESOLVED}result_version")) == str(RESULT_VERSION)


def sources_in(tags: Mapping[str, str]) -> Iterator[str]:
    """What code evaluated the metrics of other packages, as `names_of` writes it."""
    for name, value in tags.items():
        if name.startswith(f"{RESOLVED}{SOURCE}"):
            yield f"{name.removeprefix(RESOLVED)}={value}"


def versions_in(tags: Mapping[str, str]) -> dict[str, str]:
    """The versions of the packages that a run was made with."""
    return {
        name.removeprefix(VERSION): value
        for name, value in sorted(tags.items())
        if name.startswith(VERSION)
    }
