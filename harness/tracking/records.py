"""What has been recorded: runs read once, and the result of each from the file kept with it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from mlflow.entities import Run as MlflowRun

from harness.analysis.sources import of_one_source
from harness.errors import TrackingError
from harness.store import Folder, Store
from harness.tracking.client import (
    Client,
    database_of,
    files_of,
    home_of,
    is_database,
    without_password,
)
from harness.tracking.tags import (
    CELLS,
    COMMAND,
    COMMIT,
    FORECAST,
    GRID,
    KEY,
    KIND,
    REASON,
    REUSED,
    SUPERSEDED,
    is_of_this_version,
    sources_in,
    versions_in,
)
from harness.work.cells import Asked
from harness.work.projection import rows_of
from harness.work.results import (
    RESULT,
    CellResult,
    Experiment,
    FailedWork,
    R,
    Read,
    Run,
    TrainingResult,
    from_json,
)

OLD_VERSION = "they were made by another result version of the program, and may differ"
NOT_ASKED = "the grid no longer asks for them"
LOST = f"their {RESULT} is gone; harness run records them again from the store, or makes them again"


class Records:
    """What has been recorded of one experiment. Raises TrackingError where the server or database
    cannot be used."""

    def __init__(self, uri: str, experiment: str):
        """Nothing is made, and no database that is not there."""
        self._uri, self._name = uri, experiment
        self._home = home_of(uri)
        self._experiment: str | None = None
        self._runs_read: list[MlflowRun] | None = None
        self._folders: dict[str, Path | None] = {}
        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        if (database := database_of(uri)) is None or is_database(uri, database):
            self._client = Client(uri)
            self._experiment = self._find_experiment()

    def _find_experiment(self) -> str | None:
        found = self._client.get_experiment_by_name(self._name)
        if found and found.lifecycle_stage == "deleted":
            raise TrackingError(
                f"the experiment '{self._name}' was deleted in MLflow. Restore it there, or use "
                "another name in the grid."
            )
        return str(found.experiment_id) if found else None

    def finished(self) -> dict[str, frozenset[str]]:
        """Keys of the work that is recorded as complete, and the names of its metrics and of the
        sources of those of other packages."""
        lost = self.lost()
        return {
            key: frozenset([*run.data.metrics, *sources_in(run.data.tags)])
            for run in self._complete()
            if (key := run.data.tags[KEY]) not in lost
        }

    def lost(self) -> dict[str, str]:
        """The runs, by key, whose result was deleted from among the files on this machine: they
        are recorded again from the store, or done again."""
        return {
            run.data.tags[KEY]: run.info.run_id
            for run in self._complete()
            if (folder := self._folder(run.info.run_id)) and not (folder / RESULT).exists()
            if is_of_this_version(run)
        }

    def has_grid(self, text: str, asked: Asked) -> bool:
        """Whether the run of the grid is there and says this of it."""
        parent = self._find_parent()
        has_cells = parent and self.artifact(parent.info.run_id, CELLS) == asked.as_json()
        return bool(has_cells) and self.grid_text() == text

    def run_ids(self) -> dict[str, str]:
        """The run of each piece of work that is recorded as complete, by key."""
        return {run.data.tags[KEY]: run.info.run_id for run in self._complete()}

    def cell_results(self) -> dict[str, CellResult]:
        """What came of each recorded cell, by key; checkpoint cells are among them."""
        return self._results(CellResult, "cell", "checkpoint")

    def training_results(self) -> dict[str, TrainingResult]:
        return self._results(TrainingResult, "training")

    def table(self) -> pd.DataFrame:
        """One row per finished cell: params, metrics, `key`, `run_id`, `machine`."""
        return self._table(self.cell_results())

    def trainings(self) -> pd.DataFrame:
        """One row per finished training, in the same manner."""
        return self._table(self.training_results())

    def failures(self) -> tuple[FailedWork, ...]:
        """What failed and has not succeeded since."""
        done = {*self.finished(), ""}
        failed = {
            tags[KEY]: FailedWork(tags[KIND], tags[KEY], run.info.run_name, tags.get(REASON, ""))
            for run in reversed(self._runs())
            if run.info.status == "FAILED" and (tags := run.data.tags).get(KEY, "") not in done
        }
        return tuple(failed.values())

    def asked(self) -> Asked:
        """What the grid stood for when it was last run; all that is recorded where that run has
        been deleted or cannot be read."""
        parent = self._find_parent()
        with suppress(ValueError, TypeError, KeyError):
            if text := self.artifact(parent.info.run_id, CELLS) if parent else None:
                return Asked.from_json(text)
        final = (one.cell for one in self.cell_results().values() if one.cell.weights == "final")
        return Asked.of(final)

    def read(self, asked: Asked | None = None) -> Experiment:
        """What is recorded of what is asked for (of the grid as it was last run, where nothing is
        given), checkpoints included. No grid file is needed. Raises TrackingError where nothing is
        recorded."""
        asked = self.asked() if asked is None else asked
        recorded = self.cell_results()
        if not (recorded or self.failures()):
            raise self._nothing_to_read()
        cells = [
            replace(one, cell=replace(one.cell, budget=asked.cells[key]))
            for one in recorded.values()
            if (key := replace(one.cell, weights="final").key) in asked.cells
        ]
        needed = {key for one in cells for key in (one.cell.key, one.cell.training.key)}
        relevant = {*asked.cells, *asked.trainings, *needed}
        parent = self._find_parent()
        tags = parent.data.tags if parent else {}
        return Experiment(
            name=self._name,
            cells=tuple(of_one_source(cells)),
            trainings=tuple(one for key, one in self.training_results().items() if key in needed),
            runs=self._recorded(),
            failures=tuple(one for one in self.failures() if one.key in relevant),
            expected_cells=len(asked.cells),
            looks=asked.looks,
            looked=asked.looked,
            command=tags.get(COMMAND, ""),
            left_out=self._left_out(asked.cells, recorded),
            grid_text=self.grid_text(),
            versions=versions_in(tags) or (cells[0].provenance.versions if cells else {}),
            commit=tags.get(COMMIT, ""),
            id=self._experiment or "",
        )

    def artifact(self, run_id: str, name: str) -> bytes | None:
        """A file of a run, or None where it has none of that name."""
        if (folder := self._folder(run_id)) is not None:
            return Folder(folder).read(name)
        with TemporaryDirectory() as folder_for_it, suppress(TrackingError, OSError):
            return Path(self._client.download_artifacts(run_id, name, folder_for_it)).read_bytes()
        return None

    def grid_text(self) -> str:
        """The grid file as it was last run."""
        parent = self._find_parent()
        text = self.artifact(parent.info.run_id, GRID) if parent else None
        return text.decode() if text else ""

    # Details.

    def _folder(self, run_id: str) -> Path | None:
        """Where the files of a run are, if that is on this machine: to ask MLflow for each takes
        longer than all else in a report of many cells."""
        if run_id not in self._folders:  # to read all runs for each new one would take ever longer
            self._runs()
        return self._folders.get(run_id)

    def _find_parent(self) -> MlflowRun | None:
        found = [run for run in self._runs() if run.data.tags.get(KIND) == "grid"]
        return found[-1] if found else None

    def _complete(self, *kinds: str) -> Iterator[MlflowRun]:
        """The newest complete run of each piece of work."""
        newest: dict[str, MlflowRun] = {}
        wanted = kinds or ("training", "cell", "checkpoint")
        for run in self._runs():  # newest first
            tags = run.data.tags
            is_done = run.info.status == "FINISHED" and SUPERSEDED not in tags
            if tags.get(KIND) in wanted and is_done:
                newest.setdefault(tags[KEY], run)
        yield from newest.values()

    def _results(self, kind: type[R], *kinds: str) -> dict[str, R]:
        """The results of complete runs of this version, by key, but for those that are lost."""
        found: dict[str, R] = {}
        for run in sorted(self._complete(*kinds), key=lambda run: str(run.data.tags[KEY])):
            if is_of_this_version(run):
                read = self._reader(run)
                if (text := read(RESULT)) is not None:
                    where = f"{RESULT} of the run {run.info.run_id}"
                    found[run.data.tags[KEY]] = from_json(kind, text, read, where)
        return found

    def _reader(self, run: MlflowRun) -> Read:
        """How the files of a run are read: from among its own, else from the store where that is
        at hand."""
        key, kept = run.data.tags[KEY], None
        if self._home:
            store = Store(self._home.parent)
            is_training = run.data.tags[KIND] == "training"
            kept = Folder((store.model if is_training else store.cell)(key, RESULT).parent)

        def read(name: str) -> bytes | None:
            content = self.artifact(run.info.run_id, name)
            return content if content is not None or kept is None else kept.read(name)

        return read

    def _nothing_to_read(self) -> TrackingError:
        """Why there is nothing to report."""
        where = f"in {without_password(self._uri)}"
        runs = list(self._complete("cell"))
        if not runs:
            return TrackingError(
                f"nothing of '{self._name}' is recorded {where}. Use `harness run` with its grid "
                "first."
            )
        if any(is_of_this_version(run) for run in runs):
            return TrackingError(
                f"the files of all cells of '{self._name}' {where} are gone. Use `harness run` "
                "with its grid, which records them again from the store, or makes them again."
            )
        return TrackingError(
            f"all cells of '{self._name}' {where} were made by another result version of "
            "harness, which this one does not read. Use that one for its report, or `harness run` "
            "with another --store."
        )

    def _recorded(self) -> dict[str, Run]:
        """Where each complete piece of work is recorded, by key."""
        return {
            tags[KEY]: Run(
                run.info.run_id,
                REUSED in tags,
                float(tags[FORECAST]) if FORECAST in tags else None,
            )
            for run in self._complete()
            if (tags := run.data.tags)
        }

    def _left_out(
        self, asked: Mapping[str, object], recorded: Mapping[str, object]
    ) -> dict[str, int]:
        """Why recorded cells are not in the report, and of how many that is true."""
        counts: Counter[str] = Counter()
        for run in self._complete("cell"):
            key = run.data.tags[KEY]
            if key not in asked:
                counts[NOT_ASKED if is_of_this_version(run) else OLD_VERSION] += 1
            elif key not in recorded:
                counts[LOST] += 1
        return dict(counts)

    def _table(self, results: Mapping[str, Any]) -> pd.DataFrame:
        rows = rows_of(results.values(), self._recorded())
        if not rows:
            return pd.DataFrame(columns=["key", "run_id", "machine", "reused"])
        return pd.DataFrame(rows).sort_values("key", ignore_index=True)

    def _runs(self) -> list[MlflowRun]:
        """All runs of the experiment, newest first; read once and again after a change."""
        if self._experiment is None:
            return []
        if self._runs_read is None:
            read: list[MlflowRun] = []
            token = None
            while token != "":
                page = self._client.search_runs(
                    [self._experiment],
                    order_by=["attributes.start_time DESC"],
                    max_results=1000,
                    page_token=token,
                )
                read += page
                token = page.token or ""
            self._runs_read = read
            self._folders = {
                run.info.run_id: files_of(run.info.artifact_uri or "", run.info.run_id, self._uri)
                for run in read
            }
        return self._runs_read
