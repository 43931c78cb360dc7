"""The built book: no page needs another host, and every page opens in a browser without an error."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import build
import chapters
import pytest

pytestmark = pytest.mark.usefixtures("book")

HTML = build.folder("smoke") / "html"
NAMES = [str(page.relative_to(chapters.BOOK).with_suffix(".html")) for page in chapters.pages()]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Loaded(HTMLParser):
    """Addresses that a page loads by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        attribute = {"link": "href", "object": "data"}.get(tag, "src")
        if tag != "a":
            self.addresses += [value for name, value in attributes if name in {attribute, "srcset"} and value]


def test_the_parser_finds_what_a_page_loads():
    parser = Loaded()
    parser.feed('<script src="https://x/a.js"></script><link href="b.css"><a href="https://x"></a><img src=c.png>')
    assert parser.addresses == ["https://x/a.js", "b.css", "c.png"]


def test_no_page_loads_anything_from_another_host():
    pages = {path for path in HTML.rglob("*.html") if "_static" not in path.parts} - {HTML / "index.html"}
    assert {HTML / name for name in NAMES} < pages
    assert HTML / "_modules" / "indeed" / "bayes" / "elbo.html" in pages  # a source behind the API page
    for page in pages:
        parser = Loaded()
        parser.feed(page.read_text(encoding="utf-8"))
        assert len(parser.addresses) > 5, page
        remote = [address for address in parser.addresses if re.match(r"(?!data:)(\w+:)?//|\w+:(?!image)", address)]
        assert not remote, page


@pytest.mark.parametrize("name", ["equation_index.html", "equation_tests.html", "api.html"])
def test_every_link_of_a_computed_page_leads_somewhere(name):
    page = (HTML / name).read_text(encoding="utf-8")
    links = set(re.findall(r'<a class="reference internal[^>]* href="([^"#]*)#?([^"]*)"', page))
    assert len(links) > 50
    for file in {file for file, _ in links}:
        there = set(re.findall(r'id="([^"]*)"', (HTML / (file or name)).read_text(encoding="utf-8")))
        assert {anchor for other, anchor in links if other == file and anchor} <= there, file


def test_no_style_sheet_loads_from_another_host():
    sheets = list(HTML.rglob("*.css"))
    assert sheets
    remote = re.compile(r"""(?:url\(\s*|@import\s+)["']?(?:https?:)?//""")
    assert not [sheet for sheet in sheets if remote.search(sheet.read_text(encoding="utf-8"))]


def test_the_book_shows_the_published_numbers():
    """At full size the book is built by ``make book``, not by a test."""
    full = build.folder("cpu")
    stamps = full / ".inputs", full / ".pages"
    if not all(stamp.is_file() for stamp in stamps) or stamps[0].read_text() != build.fingerprint(build.inputs()):
        pytest.skip("`make book` has not been run with this library and these results")
    assert not build.differences("cpu")


@pytest.mark.parametrize("chapter", chapters.chapters(), ids=lambda chapter: chapter.stem)
def test_a_chapter_can_be_downloaded_as_a_notebook(chapter):
    page = (HTML / f"{chapter.stem}.html").read_text(encoding="utf-8")
    assert f'href="_sources/{chapter.stem}.ipynb"' in page
    assert "binder" not in page.lower(), "a button that launches the notebook somewhere"
    notebook = (HTML / "_sources" / f"{chapter.stem}.ipynb").read_text(encoding="utf-8")
    assert json.loads(notebook)["cells"]
    assert not re.search(chapters.ROLE, notebook), "a role where a number should be"


class Browser:
    """Chromium without a window and without other hosts, spoken to through its debugging protocol."""

    def __init__(self, profile: Path) -> None:
        import websocket

        flags = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
        --disable-component-update --disable-sync --disable-dev-shm-usage --remote-debugging-port=0""".split()
        rules = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
        self.process = subprocess.Popen(
            [CHROMIUM, *flags, rules, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        port = profile / "DevToolsActivePort"
        until = time.monotonic() + 60
        while not (port.is_file() and port.read_text().count("\n")):
            assert time.monotonic() < until, "the browser did not start"
            time.sleep(0.1)
        number, path = port.read_text().split()
        self.socket = websocket.create_connection(f"ws://127.0.0.1:{number}{path}", timeout=60, suppress_origin=True)
        self.count = 0
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    session: str | None = None

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        self.socket.send(json.dumps(message | ({"sessionId": self.session} if self.session else {})))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("id") == self.count:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def evaluate(self, expression: str) -> Any:
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def open(self, path: Path) -> list[str]:
        """Open a page, wait until it stands, and return what went wrong on it."""
        self.events.clear()
        answer = self.call("Page.navigate", url=path.as_uri())
        assert "errorText" not in answer, answer
        # A promise of the page that is left dies with it: wait for the new one.
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(json.loads(self.socket.recv()))
        self.evaluate("window.MathJax && MathJax.startup && MathJax.startup.promise.then(() => 0)")
        self.evaluate("new Promise(done => setTimeout(done, 300))")
        return [fault for event in self.events if (fault := self.fault(event))]

    @staticmethod
    def fault(event: dict[str, Any]) -> str | None:
        parameters = event["params"]
        match event["method"]:
            case "Runtime.exceptionThrown":
                return json.dumps(parameters["exceptionDetails"])
            case "Runtime.consoleAPICalled" if parameters["type"] in {"error", "assert"}:
                return json.dumps(parameters["args"])
            case "Log.entryAdded" if parameters["entry"]["level"] == "error":
                return json.dumps(parameters["entry"])
            case "Network.requestWillBeSent" if not parameters["request"]["url"].startswith(
                ("file:", "data:", "blob:")
            ):
                return f"asked for {parameters['request']['url']}"
        return None

    def close(self) -> None:
        self.session = None
        self.call("Browser.close")
        self.socket.close()
        self.process.wait(30)


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    if not CHROMIUM:
        pytest.skip("no chromium installed")
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_page_opens_without_an_error_and_without_other_hosts(browser, name):
    assert not browser.open(HTML / name)
    # Formulas are set, widgets shown, pictures loaded.
    assert browser.evaluate("document.querySelectorAll('mjx-merror').length") == 0
    formulas = "[...document.querySelectorAll('.math')].filter(m => !m.querySelector('mjx-container')).length"
    assert browser.evaluate(formulas) == 0
    widgets = "document.querySelectorAll('script[type=\"application/vnd.jupyter.widget-view+json\"]').length"
    assert browser.evaluate("document.querySelectorAll('.widget-subarea').length") == browser.evaluate(widgets)
    assert browser.evaluate("[...document.images].filter(i => !(i.complete && i.naturalWidth)).length") == 0


def test_formulas_are_set_on_the_first_page(browser):
    browser.open(HTML / "intro.html")
    assert browser.evaluate("document.querySelectorAll('mjx-container').length") > 0


@pytest.mark.parametrize(
    "body",
    [
        "<script>console.error('x')</script>",
        "<script>undefined.x</script>",
        "<script src='missing.js'></script>",
        "<img src='https://example.org/x.png'>",
    ],
)
def test_the_browser_reports_what_goes_wrong(browser, tmp_path, body):
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><html><head><title>x</title></head><body>{body}</body></html>")
    assert browser.open(page)


def test_the_slider_changes_the_picture_without_a_kernel(browser):
    browser.open(HTML / "first_decomposition.html")
    shown = """[...document.querySelectorAll('.widget-subarea img')].filter(i => i.offsetParent).map(i => i.src)"""
    before = browser.evaluate(shown)
    assert len(before) == 1
    browser.evaluate(
        """document.querySelector('.widget-subarea .noUi-handle').dispatchEvent(
            new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}))"""
    )
    browser.evaluate("new Promise(done => setTimeout(done, 500))")
    after = browser.evaluate(shown)
    assert len(after) == 1
    assert after != before
