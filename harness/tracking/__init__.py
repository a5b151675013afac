"""MLflow, and nothing but MLflow: the only folder that imports it.

One experiment per grid name. In it one parent run, found by its tag and reopened, and under it,
flat, one child per training and one per cell. Only the process that a person started writes here;
workers return their results, so SQLite is enough and nobody waits for a lock.

Params, metrics and tags are for people and plain clients. We read back one file of each run, the
result itself, and find it where the store is now, not where it was when it was written.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.errors import StoreError, TrackerAway, TrackingError, say_once
from harness.store import CELLS, GRID, WEIGHTS, is_whole, replacing, write_bytes
from harness.tracking.bundles import PARENT_FILES, chunks, packed
from harness.tracking.database import forget_metrics, move_artifacts, path_of, without_password
from harness.tracking.records import Records
from harness.tracking.tags import (
    BUNDLES,
    CURVES,
    DIGEST,
    FORECAST,
    KEY,
    KIND,
    LACKS,
    MACHINE,
    NOTE,
    PARENT,
    REASON,
    REPORT,
    RESOLVED,
    RESULT_DIGEST,
    RETRIES,
    REUSED,
    STORE,
    SUPERSEDED,
    VERDICT,
    VERSION,
    is_of_this_version,
)
from harness.tracking.views import CURVES as TITLE
from harness.tracking.views import SHARED, Shared, means_view, tag_of
from harness.work.addresses import CURVES_VIEW
from harness.work.cells import Asked, Cell, Training
from harness.work.projection import facts_of, metrics_of
from harness.work.results import (
    DENOISING_CURVE,
    RESULT,
    SHOWN_FILES,
    Failure,
    Result,
    TrainingResult,
    checksum,
    to_json,
)

EXPERIMENT_KIND = "mlflow.experimentKind"  # so that the UI shows trainings, not conversations
PAGE = "report.html"
BATCH = 500  # entities in one request; MLflow takes 1,000

__all__ = ["Tracker", "without_password"]


class Tracker(Records):
    """What has been recorded of one experiment, and how more is."""

    def __init__(
        self,
        uri: str,
        experiment: str,
        artifacts: Path | None = None,
        store: str = "",
        kept: Path | None = None,
    ):
        """`artifacts` is the folder for the files of a new experiment where the tracking store is
        a database (beside it, if none is given); `store` names whose runs these are, so that what
        a dead process of ours left can be told from what another machine is doing; `kept` is the
        folder of that store. Nothing is asked or made before it is needed."""
        super().__init__(uri, experiment, kept)
        self._artifacts, self._store = artifacts or self._home, store
        self._parent: str | None = None
        self._asked = Asked({})
        self._views: Mapping[str, Shared] = {}
        self._begun: dict[str, int] = {}  # when runs began, in milliseconds

    @property
    def is_open(self) -> bool:
        return self._parent is not None

    def open(
        self,
        grid_text: str,
        asked: Asked,
        tags: Mapping[str, str],
        views: Mapping[str, Shared] = {},
    ) -> None:
        """Begin to write: mark what a dead process left, then find or make the parent run. `views`
        are how MLflow's pages show the cells."""
        from harness.tracking.client import make_database

        make_database(self._uri)
        if self._experiment is None:
            self._experiment = self._new_experiment()
        move_artifacts(self._uri)
        for run_id in self.under_way().values():
            self._client.set_terminated(run_id, "KILLED")
        if found := self._find_parent():
            parent = found.id
            self._begun[parent] = found.began
            self._client.update_run(parent, "RUNNING")
        else:
            parent = self._create(self._name, {KIND: "grid", STORE: self._store})
        contents = {GRID: grid_text.encode(), CELLS: asked.as_json()}
        self._write(parent, contents)
        # Told once they are there: what has the same checksum need not be fetched.
        self._tag(parent, {**tags, **{f"{DIGEST}{n}": checksum(c) for n, c in contents.items()}})
        self._runs_read = None
        self._parent, self._asked = parent, asked
        self._views = views
        self.share(views)

    def under_way(self) -> dict[str, str]:
        """The RUNNING runs of this store, by the key of their work; its grid's is not among
        them. Asked anew: of one that was made without an answer we know nothing."""
        self._runs_read = None
        return {
            key: run.id
            for run in self._runs()
            if run.status == "RUNNING" and run.tags.get(STORE) == self._store
            if (key := run.tags.get(KEY))
        }

    def close(self, status: str) -> None:
        """The parent is no longer being written to: FINISHED, FAILED or KILLED."""
        if self._parent:
            self._bundle(self._parent)
            if status == "FINISHED":
                self._draw_curves(self._parent)
            self._end(self._parent, status)
            self._parent = None

    def started(
        self,
        work: Training | Cell,
        forecast: float | None = None,
        is_reused: bool = False,
        seconds: float = 0.0,
    ) -> str:
        """Make a RUNNING child for this work, which is predicted to take `forecast` seconds and
        began so many `seconds` ago; returns its run id."""
        assert self._parent, "open() comes first"
        tags = {KIND: kind_of(work), KEY: work.key, STORE: self._store, PARENT: self._parent}
        if forecast:
            tags[FORECAST] = f"{forecast:.4g}"
        if is_reused:
            tags[REUSED] = "true"
        run_id = self._create(work.title, tags, seconds)
        if isinstance(work, Training):  # a cell tells its own when it ends, with its numbers
            self._log(run_id, {}, 0, given=work.params())
        self._runs_read = None
        return run_id

    def progress(self, run_id: str, step: int, values: Mapping[str, float]) -> None:
        """Record live numbers of a run under way."""
        self._log(run_id, values, step)

    def sheet(self, run_id: str, name: str, picture: bytes) -> None:
        """Keep a picture of how a training is coming along."""
        self._write(run_id, {name: picture})

    def completed(self, run_id: str, result: Result, folder: Path) -> None:
        """The work is complete: its files, the result, its numbers, and only then FINISHED.
        `folder` is where the store keeps the files."""
        self.amended(run_id, result, folder)
        self._end(run_id, "FINISHED")

    def amended(self, run_id: str, result: Result, folder: Path) -> None:
        """Record what is new (a metric, other timings). The numbers come last: once they are
        there, the work counts as done."""
        text = to_json(result).encode()
        known = result.artifacts.checksums
        shown = [name for name in (*SHOWN_FILES, DENOISING_CURVE, WEIGHTS) if name in known]
        there = [name for name in shown if is_whole(folder / name, known[name])]
        refused = [name for name in there if not self._link(run_id, folder / name, name)]
        refused += self._write(run_id, {RESULT: text})
        tags = {f"{RESOLVED}{name}": value for name, value in facts_of(result).items()}
        tags |= {MACHINE: result.provenance.machine, RESULT_DIGEST: checksum(text)}
        tags |= {f"{VERSION}{name}": value for name, value in result.provenance.versions.items()}
        if refused:
            tags[LACKS] = " ".join(refused)
        elif run_id in self._lacking:
            self._client.delete_tag(run_id, LACKS)
        # Of a metric MLflow shows the value at the highest step; cells become curves by theirs.
        step = (
            result.training.training_steps
            if isinstance(result, TrainingResult)
            else result.cost.nfe
        )
        self._log(run_id, metrics_of(result), step, tags, result.work.params())
        self._results_read.pop(run_id, None)
        self._runs_read = None

    def share(self, views: Mapping[str, Shared]) -> None:
        """Keep views with the experiment, where they are new; a tracker that refuses them, or has
        no such experiment, goes without."""
        if not (views and self._experiment):
            return
        with refused_quietly():
            known, now = self._tags_of_experiment(), int(time.time() * 1000)
            for key, (title, view) in views.items():
                for name, value in tag_of(key, title, view, known.get(SHARED + key), now).items():
                    self._client.set_experiment_tag(self._experiment, name, value)

    def retried(self, run_id: str, count: int) -> None:
        """The work was tried again so often, for its process was killed."""
        self._tag(run_id, {RETRIES: str(count)})

    def failed(self, run_id: str, work: Training | Cell, failure: Failure) -> None:
        self._log(run_id, {}, 0, {REASON: failure.reason[:4000]}, work.params())
        if failure.details:
            self._write(run_id, {"traceback.txt": failure.details.encode()})
        self._end(run_id, "FAILED")

    def abandoned(self, run_id: str) -> None:
        """The work was asked to stop and will go on another time."""
        self._end(run_id, "KILLED")

    def superseded(self, keys: Iterable[str], but: str = "") -> None:
        """Set aside the finished runs of this work, `but` for one: it is being done again."""
        wanted = set(keys)
        for run in self._complete():
            if run.tags[KEY] in wanted and run.id != but:
                self._tag(run.id, {SUPERSEDED: "true"})
        self._runs_read = None

    def publish(
        self,
        folder: Path,
        files: Iterable[Path],
        description: str,
        verdicts: Iterable[str] = (),
        made_from: str = "",
    ) -> None:
        """Keep a report's files with the parent run, its beginning as its description, its
        comparisons as tags, and the fingerprint of what it was `made_from`."""
        if not (parent := self._find_parent()):
            return
        run_id = parent.id
        if self.has_report(made_from) and self._folder(run_id) is None:
            return  # the same is there, and sending it takes long
        contents = {one.relative_to(folder).as_posix(): one.read_bytes() for one in files}
        if self._folder(run_id) is None:  # the page, which holds its figures, and one file of all
            page = {name: content for name, content in contents.items() if name == PAGE}
            contents = {**page, "report.zip": packed({"report": contents})}
        contents = {f"report/{name}": content for name, content in contents.items()}
        told = {f"{VERDICT}{n:02}": text[:5000] for n, text in enumerate(verdicts, start=1)}
        self._write(run_id, contents)
        told |= {NOTE: description[:5000], REPORT: made_from}
        for name in parent.tags:
            if name.startswith(VERDICT) and name not in told:
                self._client.delete_tag(run_id, name)
        if new := {name: text for name, text in told.items() if parent.tags.get(name) != text}:
            self._tag(run_id, new)
        self._runs_read = None

    def _create(self, name: str, tags: Mapping[str, str], seconds: float = 0.0) -> str:
        assert self._experiment, "open() comes first"
        run = self._client.create_run(
            self._experiment, int((time.time() - seconds) * 1000), dict(tags), name
        )
        run_id, self._uris[run_id] = str(run.info.run_id), run.info.artifact_uri or ""
        self._folders[run_id] = path_of(self._uris[run_id])
        self._begun[run_id] = run.info.start_time
        return run_id

    def _new_experiment(self) -> str:
        folder = self._artifacts.resolve().as_uri() if self._artifacts and self._home else None
        tags = {EXPERIMENT_KIND: "custom_model_development"}
        try:
            found = self._client.create_experiment(self._name, folder, tags)
        except TrackerAway:
            raise
        except TrackingError:  # another store has just made it
            del self._experiment
            if not (found := self._experiment):
                raise
        return str(found)

    def _bundle(self, parent: str) -> None:
        """Keep many results in one file with the run of the grid, where each would have to be
        asked for from a server."""
        if self._folder(parent) is not None:
            return
        runs = {run.tags[KEY]: run for run in self._complete() if is_of_this_version(run)}
        # In the order of recording, so that what comes later changes the last bundle alone.
        ordered = sorted(runs.items(), key=lambda item: (item[1].ended or 0, item[0]))
        digests = [(key, run.tags.get(RESULT_DIGEST, "")) for key, run in ordered]
        found = self._find_parent()
        tags = found.tags if found else {}
        own = " ".join(tags.get(f"{DIGEST}{name}", "") for name in (CELLS, GRID))
        digests.append((PARENT_FILES, own))
        wanted, known = chunks(digests), tags.get(BUNDLES, "").split()
        if list(wanted) == known:
            return
        results: dict[str, Result] = {**self.training_results(), **self.cell_results()}
        for name in wanted.keys() - set(known):
            some = {key: contents_of(results[key]) for key in wanted[name] if key in results}
            if PARENT_FILES in wanted[name]:
                some[PARENT_FILES] = {one: self._of_grid(one) or b"" for one in (CELLS, GRID)}
            if self._write(parent, {name: packed(some)}):
                return  # refused: each is asked for alone
        self._tag(parent, {BUNDLES: " ".join(wanted)})

    def _draw_curves(self, parent: str) -> None:
        """Log the means over seeds with the run of the grid, where they have changed. A tracker
        that refuses loses a picture, no result."""
        from mlflow.entities import Metric

        from harness.tracking.curves import curves  # it loads what a report does

        with refused_quietly():
            points = curves(self.read(self._asked))
            digest = checksum(repr(points).encode())
            found = self._find_parent()
            if not points or (found and found.tags.get(CURVES) == digest):
                return
            forget_metrics(self._uri, parent, {f"{point.metric}/" for point in points})
            now = int(time.time() * 1000)
            metrics = [Metric(one.name, one.value, now, one.evaluations) for one in points]
            for start in range(0, len(metrics), BATCH):
                self._client.log_batch(parent, metrics=metrics[start : start + BATCH])
            named: dict[str, list[str]] = {}
            for one in points:
                names = named.setdefault(one.metric, [])
                names += [one.name] * (one.name not in names)
            if self._views and CURVES_VIEW not in self._views:
                self.share({CURVES_VIEW: (TITLE, means_view(named))})
            self._tag(parent, {CURVES: digest})

    def _end(self, run_id: str, status: str) -> None:
        # No run ends before it began, though the clock be set back in between.
        ended = max(int(time.time() * 1000), self._begun.get(run_id, 0))
        self._client.set_terminated(run_id, status, ended)
        self._runs_read = None

    def _log(
        self,
        run_id: str,
        values: Mapping[str, float],
        step: int,
        told: Mapping[str, str] = {},
        given: Mapping[str, object] = {},
    ) -> None:
        """Numbers, and tags and params with them: a request costs the same however much it
        holds."""
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        metrics = [
            Metric(name, float(value) if math.isfinite(value) else math.nan, now, step)
            for name, value in values.items()
        ]
        tags = [
            RunTag(f"harness.infinite.{name}", str(value))
            for name, value in values.items()
            if math.isinf(value)
        ]
        tags += [RunTag(name, value) for name, value in told.items()]
        params = [Param(name, str(value)) for name, value in given.items()]
        for start in range(0, max(1, len(metrics)), BATCH):
            some = metrics[start : start + BATCH]
            self._client.log_batch(run_id, metrics=some, tags=tags, params=params)
            tags, params = [], []

    def _tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        self._client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])

    def _write(self, run_id: str, contents: Mapping[str, bytes]) -> list[str]:
        """Keep these files with a run; returns the names of those that the server refuses."""
        if (home := self._folder(run_id)) is not None:
            for name, content in contents.items():
                write_bytes(home / name, content)
            return []
        with TemporaryDirectory() as folder:
            for name, content in contents.items():
                write_bytes(Path(folder) / name, content)
            return [name for name in contents if not self._send(run_id, Path(folder) / name, name)]

    def _link(self, run_id: str, path: Path, name: str) -> bool:
        """Keep a file of the store with a run, without a second copy where that is possible;
        returns whether it was taken."""
        if (home := self._folder(run_id)) is None:
            return self._send(run_id, path, name)
        with replacing(home / name) as temporary:
            try:
                os.link(path, temporary)
            except OSError:  # another disk, or one that knows no links
                shutil.copyfile(path, temporary)
        return True

    def _send(self, run_id: str, path: Path, name: str) -> bool:
        """Send a file to the server; returns whether it was taken."""
        try:
            self._remote(run_id).write(path, name)
        except TrackerAway:
            raise
        except TrackingError as error:
            why, _, _ = str(error).partition(" for url")
            say_once(f"{why}. {Path(name).name} stays in the store, and is offered again later.")
            return False
        return True


@contextmanager
def refused_quietly() -> Iterator[None]:
    """What only makes MLflow's pages easier to read may be refused; a tracker that is away is
    asked again."""
    try:
        yield
    except TrackerAway:
        raise
    except TrackingError:
        pass


def contents_of(result: Result) -> dict[str, bytes]:
    """What a report needs of a result, by name: its text, and its files that are whole."""
    contents = {RESULT: to_json(result).encode()}
    for name in SHOWN_FILES:
        with suppress(StoreError):
            if (content := result.artifacts.read(name)) is not None:
                contents[name] = content
    return contents


def kind_of(work: Training | Cell) -> str:
    """What a run is of: training, cell or checkpoint."""
    if isinstance(work, Training):
        return "training"
    return "cell" if work.weights == "final" else "checkpoint"
