"""MLflow's UI on a tracking store."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

from harness.errors import HarnessError, TrackingError
from harness.tracking.client import database_of, is_database, move_artifacts, without_password


def serve(uri: str, host: str, port: int, announce: Callable[[], None]) -> int:
    """MLflow's UI on a tracking store, until Ctrl-C; returns its exit status.

    One worker and no job runner: as it comes it is fifteen processes and 1.8 GB for one reader.
    """
    database = database_of(uri)
    if database is not None and not is_database(uri, database):
        raise TrackingError(
            f"there is nothing at {without_password(uri)} yet. Use `harness run` with a grid first."
        )
    with suppress(HarnessError):  # of a read-only store: its pictures may be missing
        move_artifacts(uri)
    try:
        [(family, _, _, _, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise TrackingError(
            f"cannot listen at {host}:{port} ({error.strerror}). Use another --port."
        ) from None
    announce()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri,
               "--host", host, "--port", str(port), "--workers", "1"]  # fmt: skip
    quiet = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    # In a session of its own, so that a Ctrl-C ends it through us, without its traceback.
    server = subprocess.Popen(command, env=quiet, start_new_session=True)
    try:
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        server.terminate()
        server.wait(10)
