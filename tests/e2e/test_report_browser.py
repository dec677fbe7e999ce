"""The report page in a real browser: it opens from disk, complains of nothing, asks for nothing, and fits."""

from __future__ import annotations

import base64
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.coordinator.report.page import render_report
from tests.e2e.browser import Browser

pytestmark = pytest.mark.e2e

EXAMPLE = runpy.run_path(str(Path(__file__).parent.parent / "report_example.py"))


@pytest.fixture(scope="module")
def browser(program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(program("chromium"), tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module", params=["example_view", "one_seed", "unfinished"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render_report(EXAMPLE[request.param]()), encoding="utf-8")
    return path


def test_the_page_opens_from_disk_without_a_complaint_or_a_request(browser, page):
    browser.open(page, 1280, 900)
    assert browser.ask("document.title") == "three-arms-1 · Ouroscope"
    assert browser.seen("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded") == []
    requested = {event["request"]["url"] for event in browser.seen("Network.requestWillBeSent")}
    assert requested == {page.as_uri()}


def test_every_drawing_is_there_and_has_a_size(browser, page):
    browser.open(page, 1280, 900)
    browser.ask("document.querySelectorAll('details').forEach(one => one.open = true)")
    sizes = browser.ask(
        "[...document.querySelectorAll('svg.chart')].map(one => one.getBoundingClientRect())"
        ".map(box => [box.width, box.height])"
    )
    assert len(sizes) > 15
    assert all(width > 100 and height > 40 for width, height in sizes)


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_the_page_is_never_wider_than_the_screen(browser, page, width):
    browser.open(page, width, 800)
    browser.ask("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert browser.ask("document.documentElement.scrollWidth") <= width


def test_the_page_fits_on_paper(browser, page):
    # A4 without its margins, in CSS pixels.
    browser.open(page, 718, 1000, media="print")
    assert browser.ask("document.documentElement.scrollWidth") <= 718


def test_no_text_of_a_chart_leaves_its_column(browser, page):
    browser.open(page, 390, 800)
    browser.ask("document.querySelectorAll('details').forEach(one => one.open = true)")
    outside = browser.ask(
        "[...document.querySelectorAll('svg.chart text')].filter(one => {const box = one.getBoundingClientRect();"
        "return box.left < -1 || box.right > innerWidth + 1}).map(one => one.textContent)"
    )
    assert outside == []


def test_writing_on_a_phone_is_large_enough_to_read(browser, page):
    browser.open(page, 390, 800)
    smallest = browser.ask(
        "Math.min(...[...document.querySelectorAll('main svg.chart')].map(one => {"
        "const text = one.querySelector('text'); return text ? parseFloat(getComputedStyle(text).fontSize)"
        " * one.getBoundingClientRect().width / one.viewBox.baseVal.width : 99}).filter(size => size > 0))"
    )
    assert smallest >= 8.5


def test_it_follows_the_colours_of_the_system_and_prints_on_white(browser, page, tmp_path):
    pictures, grounds = [], []
    for scheme, media in (("light", ""), ("dark", ""), ("dark", "print")):
        browser.open(page, 1280, 900, scheme=scheme, media=media)
        grounds.append(browser.ask("getComputedStyle(document.body).backgroundColor"))
        pictures.append(browser.screenshot(tmp_path / f"{scheme}{media}.png"))
    assert grounds == ["rgb(251, 250, 247)", "rgb(21, 23, 26)", "rgb(255, 255, 255)"]
    assert len(set(pictures)) == 3
    assert all(picture.startswith(b"\x89PNG") and len(picture) > 20_000 for picture in pictures)


def test_it_is_a_printable_document(browser, page):
    browser.open(page, 1280, 900)
    document = base64.b64decode(browser.call("Page.printToPDF", printBackground=True)["data"])
    assert document.startswith(b"%PDF")
    assert len(document) > 50_000


def test_regions_that_scroll_can_be_reached_with_the_keyboard(browser, page):
    browser.open(page, 390, 800)
    unreachable = browser.ask(
        "[...document.querySelectorAll('main *')].filter(one => one.scrollWidth > one.clientWidth + 1"
        " && ['auto', 'scroll'].includes(getComputedStyle(one).overflowX) && one.tabIndex < 0).length"
    )
    assert unreachable == 0
