"""What a person does in OHIF to read a report, done in a headless Chromium: send, open, dismiss the tour, double-click the series."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from scripts.viewer.browser import Browser, chromium

SUMMARY, MEASUREMENTS = 9001, 9002  # series numbers of the two documents
SEND_SECONDS = 120.0
OPEN_SECONDS = 60.0
WIDTH, HEIGHT = 1400, 900  # of the window

# The middle of the first element that says exactly this and nothing else, once a mouse would hit it.
_MIDDLE = """(() => {
    const said = [...document.querySelectorAll('*')].find(e => !e.childElementCount && e.textContent.trim() === %r);
    const box = said?.getBoundingClientRect();
    const at = box && [box.x + box.width / 2, box.y + box.height / 2];
    return at && document.elementFromPoint(...at) === said ? at : null;
})()"""
_SEEN = """(() => {
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), range = document.createRange();
    while (texts.nextNode()) {
        if (!texts.currentNode.data.includes(%r)) continue;
        range.selectNodeContents(texts.currentNode);
        const box = range.getBoundingClientRect();
        if (box.width && box.left >= 0 && box.top >= 0 && box.right <= innerWidth && box.bottom <= innerHeight) return true;
    }
    return false;
})()"""
# The annotation as it is drawn on the canvas, taken back into patient coordinates by the viewport that drew it.
_OUTLINE = """(() => {
    const numbers = document.querySelector('svg.svg-layer polyline')?.getAttribute('points').match(/[-\\d.]+/g).map(Number);
    const [element] = cornerstone.getEnabledElements();
    if (!numbers || !element) return null;
    const pairs = numbers.filter((_, i) => i % 2 === 0).map((x, i) => [x, numbers[2 * i + 1]]);
    return {image: element.viewport.getCurrentImageId(), points: pairs.map(pair => [...element.viewport.canvasToWorld(pair)])};
})()"""


@contextmanager
def opened(address: str) -> Iterator[Browser]:
    """The demo study, sent from the start page and opened in OHIF, its tour dismissed. Raises Missing, DemoFailed."""
    with chromium(WIDTH, HEIGHT) as browser:
        browser.open(f"{address}/start")
        click(browser, "Send the demo study")
        browser.wait(_MIDDLE % "Open the study in OHIF", SEND_SECONDS, "the report")
        click(browser, "Open the study in OHIF")
        browser.wait("document.querySelectorAll('canvas').length", OPEN_SECONDS, "the first image")
        while browser.evaluate(_MIDDLE % f"S:{SUMMARY}") is None:  # the tour lies over all of it, once it has come
            click(browser, "Skip all")
        yield browser


def click(browser: Browser, said: str, times: int = 1) -> None:
    """Clicks on what says exactly this. Raises DemoFailed."""
    x, y = browser.wait(_MIDDLE % said, OPEN_SECONDS, f"{said!r}")
    browser.click(x, y, times)


def read_summary(browser: Browser) -> str:
    """The text that OHIF shows of the Summary. Raises DemoFailed."""
    click(browser, f"S:{SUMMARY}", 2)
    browser.wait(_SEEN % "AI Result, Not Verified", OPEN_SECONDS, "the Summary")
    return str(browser.evaluate("document.body.innerText"))


def is_seen(browser: Browser, said: str) -> bool:
    """Some text holds this and lies within the window, no end of it cut off."""
    return bool(browser.evaluate(_SEEN % said))


def read_outline(browser: Browser) -> Any:
    """`image`, the id of the image that OHIF shows of the Measurements, and `points` of the outline on it, in mm. Raises DemoFailed."""
    click(browser, f"S:{MEASUREMENTS}", 2)
    return browser.wait(_OUTLINE, OPEN_SECONDS, "the outline")
