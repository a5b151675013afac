"""MLflow's UI on a tracking store, in this very process."""

from __future__ import annotations

import os
import socket
import warnings
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

from mlflow.entities import Run as MlflowRun

from harness.errors import HarnessError, TrackerAway, TrackingError, suggestion
from harness.tracking.client import Client
from harness.tracking.database import (
    database_of,
    home_of,
    is_database,
    move_artifacts,
    without_password,
)
from harness.tracking.tags import KIND
from harness.tracking.views import SHARED
from harness.work.addresses import CELLS_VIEW, experiment_page

PATIENCE = 3  # seconds that open pages have to end their requests


def serve(
    uri: str,
    host: str,
    port: int,
    grid: str | None,
    say: Callable[[str], None],
    browse: bool = False,
) -> int:
    """MLflow's UI on a tracking store until Ctrl-C or SIGTERM; returns the exit status. Says the
    address of the experiment of this grid, or of the one that ran last, once it can be opened;
    `browse` opens it in the browser. Of a tracking server, which has pages of its own, it says
    where they are. Raises TrackingError where there is nothing to show."""
    is_server = uri.startswith(("http://", "https://"))
    if not is_server:
        check_database(uri)
        check_free(host, port)
    try:
        place = page_of(uri, uri if is_server else f"http://{reached_at(host)}:{port}", grid)
    except TrackerAway as error:
        raise TrackerAway(f"{error}. Start it, or use another --tracking-uri.") from None

    def announce() -> None:
        say(f"Open {place}")
        if browse:
            webbrowser.open(place)

    if is_server:
        announce()
    else:
        say("Starting MLflow's UI, which takes about ten seconds. Ctrl-C ends it.")
        serve_here(uri, host, port, announce)
    return 0


def check_database(uri: str) -> None:
    """Raises TrackingError where there is no database yet; says MLflow where its files are now."""
    database = database_of(uri)
    if database is not None and not is_database(uri, database):
        raise TrackingError(
            f"there is nothing at {without_password(uri)} yet. Use `harness run` with a grid first."
        )
    with suppress(HarnessError):  # of a read-only store: its pictures may be missing
        move_artifacts(uri)


def check_free(host: str, port: int) -> None:
    """Raises TrackingError where this machine cannot listen there."""
    try:
        [(family, _, _, _, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        other = "--host" if isinstance(error, socket.gaierror) else "--port"
        raise TrackingError(
            f"cannot listen at {host}:{port} ({error.strerror}). Use another {other}."
        ) from None


def reached_at(host: str) -> str:
    """Where a browser on this machine finds what listens there."""
    if host in ("0.0.0.0", "::", ""):  # everywhere
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def page_of(uri: str, ui_url: str, grid: str | None = None) -> str:
    """The page of the experiment of this grid, or of the one that ran last."""
    client = Client(uri)
    experiments = {one.experiment_id: one for one in client.search_experiments()}
    runs = client.search_runs([*experiments], f"tags.`{KIND}` = 'grid'") if experiments else []
    by_name = {experiments[run.info.experiment_id].name: run for run in sorted(runs, key=_ended)}
    if grid and grid not in by_name:
        raise TrackingError(
            f"nothing of '{grid}' is recorded in {without_password(uri)}. Use --grid with another "
            f"name, or `harness run` first.{suggestion(grid, sorted(by_name))}"
        )
    if not by_name:
        return ui_url
    chosen = by_name[grid] if grid else [*by_name.values()][-1]
    experiment = experiments[chosen.info.experiment_id]
    view = CELLS_VIEW if SHARED + CELLS_VIEW in experiment.tags else ""
    return experiment_page(ui_url, experiment.experiment_id, view)


def _ended(run: MlflowRun) -> float:
    """When a run of a grid ended: what is under way is the latest."""
    return float(run.info.end_time or "inf")


def serve_here(uri: str, host: str, port: int, announce: Callable[[], None]) -> None:
    """Serve until a signal comes; `announce` is called once pages can be opened.

    MLflow's own command takes three processes and a job runner, and leaves one of them behind when
    it is ended by SIGTERM; it tells its application what to serve by the same variables.
    """
    import uvicorn

    variables: Any = import_module("mlflow.server")
    home = home_of(uri)
    os.environ |= {
        variables.BACKEND_STORE_URI_ENV_VAR: uri,
        variables.REGISTRY_STORE_URI_ENV_VAR: uri,
        variables.SERVE_ARTIFACTS_ENV_VAR: "true",
        variables.ARTIFACT_ROOT_ENV_VAR: home.as_uri() if home else "mlflow-artifacts:/",
        variables.ARTIFACTS_DESTINATION_ENV_VAR: home.as_uri() if home else "./mlartifacts",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }

    class Server(uvicorn.Server):
        async def startup(self, *arguments: Any, **keywords: Any) -> None:
            await super().startup(*arguments, **keywords)
            if self.started:
                announce()

    config = uvicorn.Config(
        "mlflow.server.fastapi_app:app", host, port, log_level="warning", access_log=False,
        timeout_graceful_shutdown=PATIENCE,
    )  # fmt: skip
    warnings.simplefilter("ignore")  # of what its packages will not have one day
    with suppress(KeyboardInterrupt):
        Server(config).run()
