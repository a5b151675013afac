"""An MLflow server of its own, and a proxy before it that can be away, slow, broken or choosy."""

from __future__ import annotations

import http.client
import os
import re
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import urlopen


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """`mlflow server` on a database, its artifacts beside it."""

    def __init__(self, folder, database=None):
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.database = database or f"sqlite:///{folder / 'server.db'}"
        self.process = None
        self.start()

    def start(self):
        command = [
            sys.executable, "-m", "mlflow", "server", "--backend-store-uri", self.database,
            "--artifacts-destination", str(self.folder / "artifacts"), "--serve-artifacts",
            "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
        ]  # fmt: skip
        quiet = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                command, env=quiet, start_new_session=True, stdout=log, stderr=log
            )
        until = time.monotonic() + 120
        while True:
            try:
                with urlopen(f"{self.uri}/health", timeout=2):
                    return
            except OSError:
                assert time.monotonic() < until, (self.folder / "server.log").read_text()
                time.sleep(0.2)

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


class Proxy:
    """Passes requests on to a server, and counts them.

    `fault(number, method, path)` may return a status to answer with instead, "drop" to close the
    connection without an answer, "lose" to do the request and lose the answer, or None."""

    def __init__(self, target):
        self.target, self.seen = target, []
        self.fault = lambda number, method, path: None
        self.delay = 0.0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                if "chunked" in self.headers.get("Transfer-Encoding", ""):
                    body = b"".join(iter(self.chunk, b""))
                outer.seen.append((self.command, self.path))
                time.sleep(outer.delay)
                wrong = outer.fault(len(outer.seen), self.command, self.path)
                if wrong == "drop":
                    self.close_connection = True
                    return
                if isinstance(wrong, int):
                    self.reply(wrong, b"it broke", "text/plain")
                    return
                host, port = outer.target.removeprefix("http://").split(":")
                behind = http.client.HTTPConnection(host, int(port), timeout=60)
                hop = ("host", "transfer-encoding", "content-length")
                kept = {n: v for n, v in self.headers.items() if n.lower() not in hop}
                behind.request(self.command, self.path, body, kept)
                answer = behind.getresponse()
                content = answer.read()
                if wrong == "lose":
                    self.close_connection = True
                    return
                self.reply(answer.status, content, answer.getheader("Content-Type", "text/plain"))

            def chunk(self):
                size = int(self.rfile.readline(), 16)
                content = self.rfile.read(size)
                self.rfile.readline()
                return content

            def reply(self, status, content, kind):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def of(self, pattern):
        """The requests whose path matches."""
        return [each for each in self.seen if re.search(pattern, each[1])]

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
