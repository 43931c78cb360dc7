"""The built book: no page needs another host, and every page opens in a browser without an error."""

import json
import re
from html.parser import HTMLParser

import build
import chapters
import myst
import pytest

pytestmark = pytest.mark.usefixtures("book")

HTML = build.folder("smoke") / "html"
NAMES = [str(page.relative_to(chapters.BOOK).with_suffix(".html")) for page in chapters.pages()]


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
    assert any(cell.get("outputs") for cell in json.loads(notebook)["cells"]), "no figure, no number"


def test_a_reference_in_a_notebook_says_what_the_page_says():
    labels, compared = myst.targets(), 0
    for chapter in chapters.chapters():
        page = (HTML / f"{chapter.stem}.html").read_text(encoding="utf-8")
        found = re.findall(r'href="[^"]*#equation-([^"]+)">(\([\d.]+\))</a>', page)
        found += re.findall(r'href="[^"]*#([^"]+)"><span class="std std-numref">(.*?)</span>', page)
        for label, text in found:
            assert labels[label].text == text, (chapter.stem, label)
        compared += len(found)
    assert compared > 100


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
