"""The page in a real browser: it asks for nothing, its tables sort, its sections fold, a telephone
shows it whole."""

import json
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome is installed")

SITE = "http://report.test/"
ELSEWHERE = "http://elsewhere.test/"
QUIET = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-default-apps", "--disable-extensions", "--disable-dev-shm-usage",
    "--disable-features=NetworkTimeServiceQuerying", "--gaia-url=http://127.0.0.1:9",
    "--component-updater=url-source=http://127.0.0.1:9/", "--proxy-bypass-list=<-loopback>",
]  # fmt: skip
# Chromium asks for none of them with these options. Chrome may: it is no work of the page.
OWN_BUSINESS = {
    "accounts.google.com", "android.clients.google.com", "clients2.google.com",
    "content-autofill.googleapis.com", "edgedl.me.gvt1.com", "mtalk.google.com",
    "optimizationguide-pa.googleapis.com", "redirector.gvt1.com", "safebrowsing.googleapis.com",
    "safebrowsingohttpgateway.googleapis.com", "update.googleapis.com",
}  # fmt: skip
# What asks in every way that a page has: were it allowed to, the proxy would know.
LURES = "".join(
    f'<{start}="{ELSEWHERE}{n}">{end}'
    for n, (start, end) in enumerate(
        {
            "img src": "", "script src": "</script>", "iframe src": "</iframe>",
            'link rel="stylesheet" href': "", "video src": "</video>", "embed src": "",
        }.items()
    )
)  # fmt: skip
# It runs in the frame around the page, so that the page is what it always is.
PROBE = """
const frame = document.querySelector("iframe");
frame.addEventListener("load", () => {
  const page = frame.contentDocument, told = {};
  const table = page.querySelector("tr[data-runs]").closest("table");
  const body = () => [...table.tBodies[0].rows].map((row) => row.dataset.runs);
  const column = (n) => [...table.tBodies[0].rows].map((row) => row.cells[n].textContent);
  const header = (n) => table.tHead.rows[0].cells[n];
  const press = (n) => header(n).querySelector("button").click();
  const order = (n) => header(n).getAttribute("aria-sort");
  const shot = (n) => ({ order: order(n), rows: body(), seen: column(n) });
  told.width = page.documentElement.scrollWidth;
  const shown = [...page.querySelectorAll(".first *")];
  told.firstScreen = Math.max(...shown.map((one) => one.getBoundingClientRect().right));
  const folds = [...page.querySelectorAll("details")];
  const target = page.getElementById("trainings"), fold = target.closest("details");
  told.linked = fold.open;
  fold.open = false;
  page.querySelector('h3 a[href="#trainings"]').click();
  told.clicked = fold.open;
  fold.open = false;
  const sections = [...page.querySelectorAll("details.section")];
  const print = (name) => {
    page.defaultView.dispatchEvent(new Event(name));
    return sections.map((one) => one.open);
  };
  told.unprinted = sections.map((one) => one.open);
  told.printing = print("beforeprint");
  told.printed = print("afterprint");
  for (const one of folds) one.open = true;
  told.unfolded = page.documentElement.scrollWidth;
  told.before = shot(2);
  for (const name of ["up", "down", "back"]) { press(2); told[name] = shot(2); }
  press(1); told.words = shot(1);
  press(2); told.other = { first: order(1), ...shot(2) };
  told.foot = table.rows[table.rows.length - 1].textContent;
  told.buttons = page.querySelectorAll("th button").length;
  told.headers = page.querySelectorAll("table.sortable th").length;
  const others = [...page.querySelectorAll("table.sortable")].filter((one) => one !== table);
  told.untouched = others.every((other) => !other.querySelector("[aria-sort]"));
  document.body.textContent = JSON.stringify(told);
});
"""


class Proxy(BaseHTTPRequestHandler):
    """Serves what is in `pages` and remembers every address that it was asked for."""

    def do_GET(self):
        self.server.asked.append(self.path)
        body = self.server.pages.get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(body or b"")

    def do_CONNECT(self):
        self.server.asked.append(self.path)
        self.send_error(403)

    def log_message(self, *_):
        pass


def host(address):
    """Of `http://host/path`, or of `host:port` where a tunnel is asked for."""
    return urlsplit(address if "//" in address else f"//{address}").hostname


@pytest.fixture(scope="module")
def visit(tmp_path_factory):
    """Opens an address of some pages in the browser: what it then held, what was asked for."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    profile = tmp_path_factory.mktemp("profile")

    def visit(pages, *options):
        server.asked = []
        server.pages = {SITE + name: text.encode() for name, text in pages.items()}
        proxy = f"--proxy-server=http://127.0.0.1:{server.server_address[1]}"
        command = [BROWSER, *QUIET, proxy, f"--user-data-dir={profile}", "--dump-dom", *options]
        done = subprocess.run(
            [*command, SITE + next(iter(pages))], capture_output=True, timeout=60, check=True
        )
        asked = [address for address in server.asked if host(address) not in OWN_BUSINESS]
        return done.stdout.decode(), asked

    yield visit
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def html(written):
    return (written / "report.html").read_text()


@pytest.fixture(scope="module")
def told(html, visit):
    """What the probe saw of the page in a frame as wide as a telephone."""
    frame = (
        '<iframe src="report.html#trainings" style="width:390px;height:800px;border:0"></iframe>'
    )
    outer = f"<!doctype html><body>{frame}<script>{PROBE}</script></body>"
    dom, _ = visit({"outer.html": outer, "report.html": html})
    return json.loads(dom[dom.index("{") : dom.rindex("}") + 1])


def test_nothing_is_asked_for_but_the_page(html, visit):
    dom, asked = visit({"report.html": html})
    assert asked == [f"{SITE}report.html"]
    assert "<button" in dom  # its script has run


def test_what_somebody_put_into_the_page_could_not_load_or_run_either(html, visit):
    lured = html.replace("</body>", f"{LURES}<script>document.title = 'run'</script></body>")
    dom, asked = visit({"report.html": lured})
    assert asked == [f"{SITE}report.html"]
    assert "<title>run" not in dom


def test_a_request_would_be_seen(visit):
    _, asked = visit({"open.html": f"<!doctype html><body>{LURES}</body>"})
    assert {f"{ELSEWHERE}{n}" for n in range(4)} <= {*asked}


def test_a_page_on_a_telephone_does_not_scroll_sideways(told):
    assert told["width"] <= 390
    assert told["unfolded"] <= 390


def test_the_first_screen_on_a_telephone_is_seen_whole(told):
    assert 300 < told["firstScreen"] <= 390


def test_a_link_to_something_folded_opens_it(told):
    assert told["linked"]  # by the address
    assert told["clicked"]  # again, by a click


def test_paper_folds_nothing_and_the_screen_stays_as_it_was(told):
    assert not all(told["unprinted"])
    assert all(told["printing"])
    assert told["printed"] == told["unprinted"]


def test_a_click_sorts_by_number_the_next_turns_it_round_the_third_restores(told):
    steps = [int(text) for text in told["before"]["seen"]]
    assert steps == [5, 10, 20, 50] * 4
    assert told["before"]["order"] is None
    assert [int(text) for text in told["up"]["seen"]] == sorted(steps)
    assert told["up"]["order"] == "ascending"
    assert [int(text) for text in told["down"]["seen"]] == sorted(steps, reverse=True)
    assert told["down"]["order"] == "descending"
    assert told["back"] == told["before"]


def test_equal_rows_keep_their_order(told):
    rows = told["before"]["rows"]
    assert told["up"]["rows"] == [row for first in range(4) for row in rows[first::4]]
    assert told["down"]["rows"] == [row for first in (3, 2, 1, 0) for row in rows[first::4]]
    assert told["words"]["seen"] == sorted(told["words"]["seen"])


def test_one_column_of_one_table_is_sorted_and_its_last_line_stays(told):
    assert told["other"]["first"] is None
    assert told["other"]["order"] == "ascending"
    assert told["foot"].strip().startswith("real held-out images")
    assert told["untouched"]
    assert told["buttons"] == told["headers"] > 0
