"""Downloads from a server of our own: whole and checked, or not there at all."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from harness.downloads import NotHereYet, download, fetch, no_downloads
from harness.errors import DataError

CONTENT = b"weights" * 10_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:100] if self.path == "/cut" else CONTENT)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def url():
    server = HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("sha256", ["", SHA256])
def test_a_file_is_fetched_whole_and_without_a_word(url, tmp_path, sha256, capfd):
    file = tmp_path / "data" / "weights.pth"
    assert fetch("The weights", f"{url}/file", file, "Use these.", sha256) == file
    assert file.read_bytes() == CONTENT
    assert list(file.parent.iterdir()) == [file]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("path", "sha256", "reason"),
    [("missing", "", "404"), ("cut", "", "IncompleteRead|bytes read"), ("file", "0" * 64, "hash")],
)
def test_of_a_download_that_fails_nothing_is_left_but_one_error(
    url, tmp_path, path, sha256, reason
):
    file = tmp_path / "data" / "weights.pth"
    with pytest.raises(DataError, match=rf"The weights could not be .*({reason}).*Use these\.$"):
        fetch("The weights", f"{url}/{path}", file, "Use these.", sha256)
    assert not file.parent.exists()


def fail_after_making_folders(into):
    with download("The flowers", into, "Use these."):
        for number in range(20):  # else their order is right by chance
            (into / f"{number}" / "jpg").mkdir(parents=True)
        raise OSError("no network")


def test_a_library_that_makes_folders_before_it_fails_leaves_none(tmp_path):
    with pytest.raises(DataError, match=r"could not be downloaded \(no network\)\. Use these\.$"):
        fail_after_making_folders(tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_where_none_is_wanted_nothing_is_asked_of_the_network(tmp_path):
    with no_downloads(), pytest.raises(NotHereYet, match="The weights would be downloaded into"):
        fetch("The weights", "http://127.0.0.1:1/file", tmp_path / "x" / "file", "Use these.")
    assert not list(tmp_path.iterdir())
