"""What watches a coordinator, with a real run and real monitors behind it: its page in a browser, and Prometheus.

The rules for alerts are those that ship. One process and one run serve all tests of this file.
"""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ouroscope.client import SyncMonitors
from ouroscope.records.runs import RunState
from tests.e2e.browser import Browser
from tests.e2e.prometheus import Prometheus, prometheus, wait_until
from tests.e2e.watched import ROOT, RUN, Coordinator, watched

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(1500)]

A_RUN = 400.0
"""Seconds that a small run may take on a busy machine."""
COMPLAINTS = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")


@pytest.fixture(scope="module")
def browser(program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(program("chromium"), tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coordinator]:
    with watched(tmp_path_factory.mktemp("watched")) as running:
        yield running


@pytest.fixture(scope="module")
def watching(
    coordinator: Coordinator, program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """A Prometheus that has scraped the coordinator."""
    folder = tmp_path_factory.mktemp("prometheus") / "here"
    with prometheus(program("prometheus"), folder, coordinator.metrics) as running:
        wait_until(lambda: running.query('up{job="ouroscope-coordinator"} == 1'), "a first scrape")
        yield running


@pytest.fixture(scope="module")
def doomed(coordinator: Coordinator, watching: Prometheus) -> RunState:
    """How the run ended that Prometheus watched from its beginning."""
    coordinator.begin()
    return coordinator.state_at_end()


def nothing_is_wrong(browser: Browser, coordinator: Coordinator) -> None:
    """No complaint, nothing asked of anybody else, the page still the one that was opened."""
    assert browser.seen(*COMPLAINTS) == []
    urls = {event["request"]["url"] for event in browser.seen("Network.requestWillBeSent")}
    assert {urlsplit(url).netloc for url in urls} == {urlsplit(coordinator.page).netloc}
    assert browser.ask("window.stayed") is True


def visit(browser: Browser, coordinator: Coordinator, path: str, width: int = 1280, scheme: str = "light") -> None:
    browser.visit(coordinator.page.rstrip("/") + path, width, 900, scheme=scheme)
    browser.ask("window.stayed = true")


# The first one: Prometheus looks from now on, and the run begins in a later test.
@pytest.mark.parametrize("page", sorted(ROOT.glob("deploy/grafana/dashboards/*.json")), ids=lambda page: page.stem)
def test_prometheus_can_evaluate_every_query_of_a_dashboard(page: Path, watching: Prometheus) -> None:
    queries = [
        target["expr"] for panel in json.loads(page.read_text())["panels"] for target in panel.get("targets", ())
    ]
    assert queries
    for query in queries:
        watching.query(re.sub(r"\$\w+", ".*", query))


def test_a_run_is_followed_from_the_list_to_its_end_without_loading_again(
    browser: Browser, coordinator: Coordinator
) -> None:
    visit(browser, coordinator, "/")
    assert "No run was started yet." in browser.ask("document.body.textContent")
    coordinator.begin()
    browser.wait_until("document.querySelector('a[href=\"/runs/live\"]') !== null")
    nothing_is_wrong(browser, coordinator)

    visit(browser, coordinator, "/runs/live")
    assert browser.ask("document.querySelector('h1').textContent") == "No verdict yet."
    browser.wait_until("document.querySelector('.progress .doing')?.textContent.length > 0")
    marks = "document.querySelectorAll('#headline svg.chart .mark').length"
    browser.wait_until(f"{marks} > 0", A_RUN)
    before = browser.ask(marks)
    browser.wait_until(f"{marks} > {before}", A_RUN)

    browser.wait_until("document.querySelector('.meta').textContent.includes('finished')", A_RUN)
    browser.wait_until("document.querySelectorAll('#networks svg.chart').length > 0")
    assert "replace" in browser.ask("document.querySelector('h1').textContent")
    assert browser.ask("document.querySelectorAll('progress').length") == 0
    assert "Run finished, 6 of 6 generations" in browser.ask("document.getElementById('told').textContent")
    nothing_is_wrong(browser, coordinator)


def test_the_collapse_of_one_arm_is_told(doomed: RunState, watching: Prometheus) -> None:
    assert doomed is RunState.SUCCEEDED
    wait_until(lambda: watching.fired("OuroscopeRunCollapse"), "the alert")
    assert [(one["run"], one["arm"]) for one in watching.fired("OuroscopeRunCollapse")] == [(RUN, "replace")]


def test_a_generation_that_cannot_be_judged_is_told_and_a_deleted_monitor_is_gone(
    coordinator: Coordinator, watching: Prometheus
) -> None:
    documents = coordinator.documents()
    with SyncMonitors(coordinator.address) as monitors:
        monitors.create_monitor("pipeline")
        monitors.record_generation("monitors/pipeline", 0, documents)
        wait_until(lambda: watching.query('ouroscope_monitor_generation{monitor="pipeline"} == 0'), "the baseline")
        assert not watching.query('ouroscope_monitor_collapse_verdict{monitor="pipeline"}')
        monitors.record_generation("monitors/pipeline", 1, documents[:10])
        wait_until(lambda: watching.fired("OuroscopeMonitorCannotTell"), "the alert")
        assert not watching.fired("OuroscopeMonitorCollapse")
        monitors.delete_monitor("monitors/pipeline")
        wait_until(lambda: not watching.query('{monitor="pipeline"}'), "the end of the series", timeout=30)


def test_a_monitor_appears_and_what_a_reader_has_unfolded_stays_so_while_it_goes_on(
    browser: Browser, coordinator: Coordinator
) -> None:
    visit(browser, coordinator, "/")
    documents = coordinator.documents()
    with SyncMonitors(coordinator.address) as monitors:
        monitors.create_monitor("nightly")
        browser.wait_until("document.querySelector('a[href=\"/monitors/nightly\"]') !== null")
        nothing_is_wrong(browser, coordinator)
        visit(browser, coordinator, "/monitors/nightly")
        assert "waits for its first generation" in browser.ask("document.querySelector('h1').textContent")
        monitors.record_generation("monitors/nightly", 0, documents)
        browser.wait_until("document.querySelector('h1').textContent.includes('has its baseline')")
        browser.ask("document.querySelector('summary').focus()")
        browser.press("Enter", 13, "\r")
        browser.wait_until("document.querySelector('details').open")
        monitors.record_generation("monitors/nightly", 1, documents[::2])
    browser.wait_until("document.querySelectorAll('.card').length === 1")
    unfolded = "document.querySelector('details[open] summary')"
    assert browser.ask(f"{unfolded}.textContent.trim()") == "Generations as a table"
    assert browser.ask(f"document.activeElement === {unfolded}")
    nothing_is_wrong(browser, coordinator)


PAGES = ("/", "/runs/live", "/monitors/nightly")


@pytest.mark.parametrize("path", PAGES)
def test_everything_has_a_name_and_a_place(browser: Browser, coordinator: Coordinator, path: str) -> None:
    visit(browser, coordinator, path)
    tree = browser.call("Accessibility.getFullAXTree")["nodes"]
    roles = [node["role"]["value"] for node in tree if not node["ignored"]]
    assert roles.count("main") == roles.count("navigation") == roles.count("banner") == roles.count("contentinfo") == 1
    named = ("image", "img", "link", "button", "region", "table", "progressbar", "heading", "DisclosureTriangle")
    nameless = [
        node["role"]["value"]
        for node in tree
        if not node["ignored"] and node["role"]["value"] in named and not node.get("name", {}).get("value", "").strip()
    ]
    assert nameless == []
    assert browser.ask("document.querySelectorAll('h1').length") == 1
    assert browser.ask("document.getElementById('told').getAttribute('role')") == "status"


def test_the_keyboard_goes_first_to_the_content_and_the_focus_is_seen(
    browser: Browser, coordinator: Coordinator
) -> None:
    visit(browser, coordinator, "/")
    browser.press("Tab", 9)
    assert browser.ask("document.activeElement.textContent") == "To the content"
    box = "document.activeElement.getBoundingClientRect()"
    assert browser.ask(f"{box}.left >= 0 && {box}.top >= 0")
    assert browser.ask("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press("Enter", 13, "\r")
    assert browser.ask("document.activeElement.id") == "content"


def test_updates_can_be_paused(browser: Browser, coordinator: Coordinator) -> None:
    visit(browser, coordinator, "/")
    browser.ask("document.getElementById('pause').click()")
    assert browser.ask("document.getElementById('pause').getAttribute('aria-pressed')") == "true"


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("width", [320, 1280])
def test_no_page_is_wider_than_the_screen(browser: Browser, coordinator: Coordinator, path: str, width: int) -> None:
    visit(browser, coordinator, path, width)
    browser.ask("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert browser.ask("document.documentElement.scrollWidth") <= width


def test_it_follows_the_colours_of_the_system(browser: Browser, coordinator: Coordinator) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        visit(browser, coordinator, "/", scheme=scheme)
        grounds.append(browser.ask("getComputedStyle(document.body).backgroundColor"))
    assert grounds == ["rgb(251, 250, 247)", "rgb(21, 23, 26)"]


@pytest.mark.parametrize("path", PAGES[1:])
def test_without_a_script_the_page_is_whole_and_can_be_loaded_again(
    browser: Browser, coordinator: Coordinator, path: str
) -> None:
    url = coordinator.page.rstrip("/") + path
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.visit(url, 1280, 900)
        tree = browser.call("Accessibility.getFullAXTree")["nodes"]
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
    shown = {(node["role"]["value"], node.get("name", {}).get("value")) for node in tree if not node["ignored"]}
    assert ("link", "Load again") in shown
    assert ("button", "Pause updates") not in shown
    # The charts are in what the server sends: no script draws them.
    with urllib.request.urlopen(url, timeout=60) as answer:
        assert 'role="img"' in answer.read().decode() or path.startswith("/monitors")


# The last one: while the others looked, the time has passed for which the series of an ended run stay.
@pytest.mark.usefixtures("doomed")
def test_the_series_end_with_the_run(watching: Prometheus) -> None:
    wait_until(lambda: not watching.query(f'{{run="{RUN}"}}'), "the end of the series")
    assert watching.query('up{job="ouroscope-coordinator"} == 1'), "the coordinator itself is still there"
    assert watching.query(f'max_over_time(ouroscope_run_state{{run="{RUN}", state="RUNNING"}}[1h]) == 1')
