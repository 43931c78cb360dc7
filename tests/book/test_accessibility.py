"""The built book can be read by everyone: with a screen reader, by its keys, large, and on a small screen."""

import json
from pathlib import Path

import build
import chapters
import pytest

pytestmark = [pytest.mark.usefixtures("book"), pytest.mark.slow]

HTML = build.folder("smoke") / "html"
PAGES = [str(page.relative_to(chapters.BOOK).with_suffix(".html")) for page in chapters.pages()]
PAGES += ["search.html", "genindex.html"]
AXE = Path(__file__).resolve().parents[1] / "vendor" / "axe.min.js"
THEMES = ("light", "dark")
COLOUR_RULES = ["color-contrast", "link-in-text-block"]
# Elements that a rule must not judge, each with its reason.
EXEMPT = {
    # A heading that is a formula: axe does not count the MathML beside it, which a screen reader reads.
    "empty-table-header": "th:has(mjx-assistive-mml math)",
}


def violations(browser, rules=None) -> list[str]:
    """Run axe on the page that is open, every rule or some, and return what it finds: rule, element, and why."""
    options = {"resultTypes": ["violations"]} | ({"runOnly": {"type": "rule", "values": rules}} if rules else {})
    browser.evaluate(AXE.read_text(encoding="utf-8") + "\n0")
    found = browser.evaluate(
        f"""axe.run(document, {json.dumps(options)}).then(({{violations}}) => {{
            const exempt = {json.dumps(EXEMPT)};
            return violations.flatMap(({{id, nodes}}) => nodes
                .filter(node => !(exempt[id] && document.querySelector(node.target.at(-1)).matches(exempt[id])))
                .map(node => `${{id}}: ${{node.html.slice(0, 200)}} ${{node.failureSummary}}`));
        }})"""
    )
    return list(found)


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_on_a_page_in_either_theme(browser, name):
    found = {}
    for theme in THEMES:
        browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        browser.open(HTML / name)
        assert browser.evaluate("document.documentElement.dataset.theme") == theme
        # The pages of the two themes differ in their colours alone.
        found[theme] = violations(browser, COLOUR_RULES if theme == "dark" else None)
    assert found == {theme: [] for theme in THEMES}


# What stands beyond the right edge of the window, and cannot be scrolled to within a box of its own.
LOST = """(() => {
    const edge = document.documentElement.clientWidth + 1;
    const scrolls = box => box && box !== document.body && (
        /auto|scroll/.test(getComputedStyle(box).overflowX) && box.getBoundingClientRect().right <= edge
        || scrolls(box.parentElement));
    // The plot of a live figure, an svg within its svg, cuts its curves off where its axes end.
    const hidden = box => !box.checkVisibility({visibilityProperty: true})
        || box.closest(".visually-hidden, mjx-assistive-mml, svg svg") || box.tagName === "g";
    const beyond = ({right, width}) => right > edge && width > 1;
    return [...document.querySelectorAll("main *, footer *")].filter(box =>
        beyond(box.getBoundingClientRect()) && !hidden(box) && !scrolls(box)
    ).map(box => box.outerHTML.slice(0, 150));
})()"""


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_lost_on_a_small_screen_or_at_twice_the_size(browser, name):
    """A screen of 360 pixels; a window of 1280 pixels at 200 %, which leaves 640."""
    try:
        for width, scale in ((360, 1), (640, 2)):
            size = {"width": width, "height": 740, "deviceScaleFactor": scale, "mobile": False}
            browser.call("Emulation.setDeviceMetricsOverride", **size)
            browser.open(HTML / name)
            assert browser.evaluate("innerWidth") == width
            page = "document.documentElement"
            assert browser.evaluate(f"{page}.scrollWidth - {page}.clientWidth") == 0, "the page scrolls sideways"
            assert browser.evaluate(LOST) == []
    finally:
        browser.call("Emulation.clearDeviceMetricsOverride")


def test_both_tests_find_what_is_wrong(browser, tmp_path):
    page = tmp_path / "page.html"
    body = "<main><img src='data:,'><div style='width: 9000px'>x</div></main>"
    page.write_text(f"<!doctype html><html><head><title>x</title></head><body>{body}</body></html>")
    browser.open(page)
    assert {"image-alt", "html-has-lang"} <= {found.split(":")[0] for found in violations(browser)}
    assert browser.evaluate(LOST)
