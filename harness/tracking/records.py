"""What has been recorded: runs read once, and the result of each from the file kept with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from harness.analysis.sources import of_one_source
from harness.errors import StoreError, TrackingError, say_once
from harness.store import CELLS, GRID, Folder, Store
from harness.tracking.bundles import PARENT_FILES, Bundle, opened
from harness.tracking.database import (
    DatabaseRuns,
    database_of,
    files_of,
    home_of,
    is_database,
    without_password,
)
from harness.tracking.runs import MlflowRun, Runs
from harness.tracking.tags import (
    BUNDLES,
    COMMAND,
    COMMIT,
    DIGEST,
    FORECAST,
    KEY,
    KIND,
    LACKS,
    REASON,
    REPORT,
    RESULT_DIGEST,
    REUSED,
    SUPERSEDED,
    is_of_this_version,
    sources_in,
    versions_in,
)
from harness.tracking.views import SHARED
from harness.work.addresses import CELLS_VIEW
from harness.work.cells import Asked
from harness.work.projection import rows_of
from harness.work.results import (
    RESULT,
    CellResult,
    Experiment,
    FailedWork,
    R,
    Read,
    Result,
    Run,
    TrainingResult,
    checksum,
    from_json,
)

if TYPE_CHECKING:
    import pandas as pd

    from harness.tracking.client import Client, RemoteFiles

OLD_VERSION = "they were made by another result version of the program, and may differ"
NOT_ASKED = "the grid no longer asks for them"
LOST = f"their {RESULT} is gone; harness run records them again from the store, or makes them again"


class Records:
    """What has been recorded of one experiment. Raises TrackingError where the server or database
    cannot be used."""

    def __init__(self, uri: str, experiment: str, store: Path | None = None):
        """Nothing is asked or made, and no database that is not there. `store` is the folder that
        has its own copy of the files of runs, where that is not beside the database."""
        self._uri, self._name = uri, experiment
        self._home = home_of(uri)
        folder = self._home.parent if self._home else store
        self._kept = Store(folder) if folder else None
        self._runs_read: list[MlflowRun] | None = None
        self._folders: dict[str, Path | None] = {}
        self._uris: dict[str, str] = {}  # of the files of runs
        self._lacking: set[str] = set()  # runs some of whose files the server refused
        self._own: dict[str, tuple[tuple[int, int, int], Result | None]] = {}  # by run
        self._results_read: dict[str, Result | None] = {}  # by run, of those without files here
        self._bundles: list[Bundle] | None = None

    @cached_property
    def _client(self) -> Client:
        from harness.tracking.client import Client  # it loads MLflow, which takes seconds

        return Client(self._uri)

    @cached_property
    def _source(self) -> Runs:
        """Where runs are read: a database on this machine, or what MLflow's client reaches."""
        if (database := database_of(self._uri)) is not None:
            return DatabaseRuns(self._uri, database)
        from harness.tracking.client import ClientRuns

        return ClientRuns(self._client)

    @cached_property
    def _experiment(self) -> str | None:
        """The id of the experiment; None where there is none yet."""
        database = database_of(self._uri)
        if database is not None and not is_database(self._uri, database):
            return None
        found = self._source.experiment(self._name)
        if found and found.is_deleted:
            raise TrackingError(
                f"the experiment '{self._name}' was deleted in MLflow. Restore it there, or use "
                "another name in the grid."
            )
        return found.id if found else None

    def finished(self) -> dict[str, frozenset[str]]:
        """Keys of the work that is recorded as complete, and the names of its metrics and of the
        sources of those of other packages."""
        lost = self.lost()
        return {
            key: frozenset([*run.metrics, *sources_in(run.tags)])
            for run in self._complete()
            if (key := run.tags[KEY]) not in lost
        }

    def lost(self) -> dict[str, str]:
        """The runs, by key, whose result is gone from among the files on this machine or is not
        what was written there, and those some of whose files a server refused: they are recorded
        again from the store, or done again."""
        return {
            run.tags[KEY]: run.id
            for run in self._complete()
            if is_of_this_version(run) and (run.id in self._lacking or not self._has_own(run))
        }

    def has_grid(self, text: str, asked: Asked) -> bool:
        """Whether the run of the grid is there, has ended, and says this of it."""
        wanted = {CELLS: asked.as_json(), GRID: text.encode()}
        parent = self._find_parent()
        if parent is None or parent.status == "RUNNING":  # it was killed, or MLflow was away
            return False
        if folder := self._folder(parent.id):
            return all(Folder(folder).read(name) == one for name, one in wanted.items())
        return all(parent.tags.get(f"{DIGEST}{n}") == checksum(c) for n, c in wanted.items())

    def has_report(self, made_from: str) -> bool:
        """Whether the report with the run of the grid was made from what has this fingerprint; no
        such run wants none."""
        parent = self._find_parent()
        return parent is None or parent.tags.get(REPORT) == made_from

    def run_ids(self) -> dict[str, str]:
        """The run of each piece of work that is recorded as complete, by key."""
        return {run.tags[KEY]: run.id for run in self._complete()}

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
            tags[KEY]: FailedWork(tags[KIND], tags[KEY], run.name, tags.get(REASON, ""))
            for run in reversed(self._runs())
            if run.status == "FAILED" and (tags := run.tags).get(KEY, "") not in done
        }
        return tuple(failed.values())

    def asked(self) -> Asked:
        """What the grid stood for when it was last run; all that is recorded where that run has
        been deleted or cannot be read."""
        with suppress(ValueError, TypeError, KeyError):
            if text := self._of_grid(CELLS):
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
        cells = asked_of(recorded.values(), asked)
        needed = {key for one in cells for key in (one.cell.key, one.cell.training.key)}
        relevant = {*asked.cells, *asked.trainings, *needed}
        parent = self._find_parent()
        tags = parent.tags if parent else {}
        return Experiment(
            name=self._name,
            cells=tuple(of_one_source(cells)),
            trainings=tuple(one for key, one in self.training_results().items() if key in needed),
            runs=self._recorded(),
            failures=tuple(one for one in self.failures() if one.key in relevant),
            expected_cells=len(asked.cells),
            expected_trainings=len(asked.trainings),
            looks=asked.looks,
            looked=asked.looked,
            command=tags.get(COMMAND, ""),
            left_out=self._left_out(asked.cells, recorded),
            grid_text=self.grid_text(),
            versions=versions_in(tags) or (cells[0].provenance.versions if cells else {}),
            commit=tags.get(COMMIT, ""),
            id=self._experiment or "",
            has_view=SHARED + CELLS_VIEW in self._tags_of_experiment(),
        )

    def artifact(self, run_id: str, name: str) -> bytes | None:
        """A file of a run, or None where it has none of that name."""
        if (folder := self._folder(run_id)) is not None:
            return Folder(folder).read(name)
        return self._remote(run_id).read(name)

    def grid_text(self) -> str:
        """The grid file as it was last run."""
        return (self._of_grid(GRID) or b"").decode(errors="replace")

    @property
    def uri(self) -> str:
        return self._uri

    # Details.

    def _of_grid(self, name: str) -> bytes | None:
        """A file of the run of the grid; from the store where that has the same one."""
        if not (parent := self._find_parent()):
            return None
        run_id, known = parent.id, parent.tags.get(f"{DIGEST}{name}")
        if known is None:  # of an earlier version
            return self.artifact(run_id, name)
        for read in self._copies_for_grid(run_id):
            if (content := read(name)) is not None and checksum(content) == known:
                return content
        return None

    def _copies_for_grid(self, run_id: str) -> Iterator[Read]:
        own = self._folder(run_id)
        if own is not None:
            yield Folder(own).read
        if (kept := self._kept) is not None:
            yield lambda name: kept.grid_file(self._name, name)
        if own is None:
            yield lambda name: self._bundled(PARENT_FILES, name)
            yield self._remote(run_id).read

    def _remote(self, run_id: str) -> RemoteFiles:
        if run_id not in self._uris:
            self._runs()
        from harness.tracking.client import RemoteFiles

        return RemoteFiles(self._uris[run_id], self._uri)

    def _folder(self, run_id: str) -> Path | None:
        """Where the files of a run are, if that is on this machine: to ask MLflow for each takes
        longer than all else in a report of many cells."""
        if run_id not in self._folders:  # to read all runs for each new one would take ever longer
            self._runs()
        return self._folders.get(run_id)

    def _tags_of_experiment(self) -> Mapping[str, str]:
        """Its tags as they are now; shared views are among them."""
        if self._experiment is None:
            return {}
        found = self._source.experiment(self._name)
        return found.tags if found else {}

    def _find_parent(self) -> MlflowRun | None:
        found = [run for run in self._runs() if run.tags.get(KIND) == "grid"]
        return found[-1] if found else None

    def _complete(self, *kinds: str) -> Iterator[MlflowRun]:
        """The newest complete run of each piece of work."""
        newest: dict[str, MlflowRun] = {}
        wanted = kinds or ("training", "cell", "checkpoint")
        for run in self._runs():  # newest first
            tags = run.tags
            is_done = run.status == "FINISHED" and SUPERSEDED not in tags
            if tags.get(KIND) in wanted and is_done:
                newest.setdefault(tags[KEY], run)
        yield from newest.values()

    def _results(self, kind: type[R], *kinds: str) -> dict[str, R]:
        """The results of complete runs of this version, by key, but for those that are lost."""
        found: dict[str, R] = {}
        for run in sorted(self._complete(*kinds), key=lambda run: str(run.tags[KEY])):
            if is_of_this_version(run) and (result := self._result(run)) is not None:
                found[run.tags[KEY]] = cast("R", result)
        return found

    def _result(self, run: MlflowRun) -> Result | None:
        """The result of a run, by the first of its copies that is what was recorded."""
        if (own := self._own_result(run)) is not None:
            return own
        run_id = run.id
        if run_id not in self._results_read:
            self._results_read[run_id] = self._copied_result(run)
        return self._results_read[run_id]

    def _own_result(self, run: MlflowRun) -> Result | None:
        """The result of a run by the file among its own on this machine; read again where that has
        changed."""
        if (folder := self._folder(run.id)) is None:
            return None
        try:
            stat = (folder / RESULT).stat()
        except OSError:
            return None
        stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        before, result = self._own.get(run.id, (None, None))
        if before != stamp:
            result = None
            with suppress(StoreError):
                result = self._result_in(run, Folder(folder).read)
            self._own[run.id] = stamp, result
        return result

    def _copied_result(self, run: MlflowRun) -> Result | None:
        """The result of a run by any copy; None where there is none, which is said of those that
        are damaged."""
        trouble = ""
        for read in self._copies(run):
            try:
                if (result := self._result_in(run, read)) is not None:
                    return result
            except StoreError as error:
                trouble = trouble or str(error)
        if trouble:
            say_once(trouble)
        return None

    def _result_in(self, run: MlflowRun, read: Read) -> Result | None:
        """The result of a run in one of its copies; None where there is none. Raises StoreError
        where it is not what was recorded."""
        if (text := read(RESULT)) is None:
            return None
        kind: Any = TrainingResult if run.tags[KIND] == "training" else CellResult
        return cast("Result", result_in(kind, run, text, list(self._copies(run))))

    def _copies(self, run: MlflowRun) -> Iterator[Read]:
        """Where the files of a run may be read: among its own, in the store, in a bundle, from
        the server."""
        key, own = run.tags[KEY], self._folder(run.id)
        if own is not None:
            yield Folder(own).read
        if self._kept:
            is_training = run.tags[KIND] == "training"
            folder = (self._kept.model if is_training else self._kept.cell)(key, RESULT).parent
            yield Folder(folder).read
        if own is None:
            yield lambda name: self._bundled(key, name)
            yield lambda name: self._remote(run.id).read(name)

    def _has_own(self, run: MlflowRun) -> bool:
        """Whether the result of a run is among its own files, as far as this machine can tell."""
        return self._folder(run.id) is None or self._own_result(run) is not None

    def _bundled(self, key: str, name: str) -> bytes | None:
        """A file of a result from the bundles with the run of the grid, each asked for once."""
        if self._bundles is None:
            parent = self._find_parent()
            names = parent.tags.get(BUNDLES, "").split() if parent else []
            files = self._remote(parent.id) if parent and names else None
            found = [opened(files.read(each)) for each in names] if files else []
            self._bundles = [bundle for bundle in found if bundle]
        contents = (bundle.read(key, name) for bundle in self._bundles)
        return next((content for content in contents if content is not None), None)

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
                run.id,
                REUSED in tags,
                float(tags[FORECAST]) if FORECAST in tags else None,
            )
            for run in self._complete()
            if (tags := run.tags)
        }

    def _left_out(
        self, asked: Mapping[str, object], recorded: Mapping[str, object]
    ) -> dict[str, int]:
        """Why recorded cells are not in the report, and of how many that is true."""
        counts: Counter[str] = Counter()
        for run in self._complete("cell"):
            key = run.tags[KEY]
            if key not in asked:
                counts[NOT_ASKED if is_of_this_version(run) else OLD_VERSION] += 1
            elif key not in recorded:
                counts[LOST] += 1
        return dict(counts)

    def _table(self, results: Mapping[str, Any]) -> pd.DataFrame:
        import pandas as pd

        rows = rows_of(results.values(), self._recorded())
        if not rows:
            return pd.DataFrame(columns=["key", "run_id", "machine", "reused"])
        return pd.DataFrame(rows).sort_values("key", ignore_index=True)

    def _runs(self) -> list[MlflowRun]:
        """All runs of the experiment, newest first; read once and again after a change."""
        if self._experiment is None:
            return []
        if self._runs_read is None:
            self._runs_read = read = self._source.of(self._experiment)
            self._lacking = {run.id for run in read if LACKS in run.tags}
            self._uris = {run.id: run.artifact_uri for run in read}
            self._folders = {run.id: files_of(run.artifact_uri, run.id, self._uri) for run in read}
        return self._runs_read


def asked_of(results: Iterable[CellResult], asked: Asked) -> list[CellResult]:
    """Those of some results that are asked for, checkpoint cells included, with the budgets by
    which they are."""
    return [
        replace(one, cell=replace(one.cell, budget=asked.cells[key]))
        for one in results
        if (key := replace(one.cell, weights="final").key) in asked.cells
    ]


def result_in(kind: type[R], run: MlflowRun, text: bytes, copies: Sequence[Read]) -> R:
    """The result of a run from its text, its files from the first copy that has them whole. Raises
    StoreError where it is not what was recorded."""
    where = f"{RESULT} of the run {run.id}"
    result = from_json(kind, text, None, where)
    tags = run.tags
    if result.work.key != tags[KEY] or tags.get(RESULT_DIGEST, checksum(text)) != checksum(text):
        raise StoreError(
            f"{where} is not what was recorded. Use harness run with its grid, which makes it "
            "again."
        )
    known = result.artifacts.checksums

    def read(name: str) -> bytes | None:
        damaged = None
        for copy in copies:
            if (content := copy(name)) is not None:
                if checksum(content) == known.get(name):
                    return content
                damaged = content
        return damaged

    return replace(result, artifacts=replace(result.artifacts, read_from=read))
