"""The page of the coordinator: what it shows, that it shows it safely, and that showing it costs little."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import http.client
import runpy
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ouroscope.errors import NotFound, PreconditionFailed
from ouroscope.records.analysis import Verdict
from ouroscope.records.monitors import Monitor
from ouroscope.records.runs import ArmSpec, ArmVerdict, RunSpec, RunState, StageTime
from ouroscope.store import ArtifactStore
from services.coordinator.board import Board
from services.coordinator.database import History
from services.coordinator.monitors.history import MonitorHistory, Recorded
from services.coordinator.page.app import Site
from services.coordinator.page.bounds import MOST_MONITORS, MOST_POINTS, left_out, shown_of
from services.coordinator.page.cache import Cache
from services.coordinator.page.pages import Pages
from services.coordinator.page.reading import Reading
from services.coordinator.page.server import start_page_server
from services.coordinator.page.watched import Watched
from services.coordinator.plan import Lane
from tests.html_reader import Reader

from .conftest import a_run
from .fakes import CATALOGUE, small_spec

FOLDER = Path(__file__).parent.parent.parent
RUNS = runpy.run_path(str(FOLDER / "report_example.py"))
MONITORS = runpy.run_path(str(FOLDER / "monitor_example.py"))
HOSTILE = MONITORS["HOSTILE"]


@dataclass
class Shown:
    """A page that is served, and what lies behind it."""

    url: str
    history: History
    board: Board
    watched: Watched
    pages: Pages

    async def call(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
        """Return status, headers and body of an answer."""
        return await asyncio.to_thread(self._call, path, method, {k.replace("_", "-"): v for k, v in headers.items()})

    def _call(self, path: str, method: str, headers: dict[str, str]) -> tuple[int, dict[str, str], str]:
        connection = http.client.HTTPConnection(self.url.removeprefix("http://").rstrip("/"), timeout=30)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body

    async def read(self, path: str) -> Reader:
        """Return a page that must be there."""
        status, _, body = await self.call(path)
        assert status == 200, body
        return Reader(body)

    async def watch(self, monitor: Monitor, generations: list[Any]) -> None:
        """Keep a monitor and tell the page of it."""
        kept = MonitorHistory(self.history.database)
        await kept.create(replace(monitor, generations=0, newest=None), None, "request")
        if generations:
            await kept.keep(monitor, [Recorded(generation=one, baselines={}) for one in generations], None)
        self.watched.monitor_changed(monitor)


@pytest.fixture
async def shown(history: History, tmp_path: Path) -> AsyncIterator[Shown]:
    board, watched = Board(), Watched()
    reading = Reading(history, ArtifactStore(str(tmp_path / "store")))
    reading.know_metrics(CATALOGUE)
    pages = Pages(reading, board, watched)
    server = start_page_server(Site(pages, only_here=True).app(), "127.0.0.1:0")
    yield Shown(server.url, history, board, watched, pages)
    await server.close()


async def begin(shown: Shown, **changes: Any) -> None:
    """Keep a run of two arms with its first generations."""
    run = a_run(small_spec(), **{"state": RunState.RUNNING, **changes})
    await shown.history.create_run("r", run, None)
    shown.board.open(run)
    for arm in ("human", "replace"):
        await examined(shown, arm, 0)


async def examined(shown: Shown, arm: str, number: int) -> None:
    comparison = MONITORS["example_comparison"](number, 2.0 * number)
    await shown.history.change_generation(Lane("r", arm, 0), number, state=RunState.SUCCEEDED, comparison=comparison)


def accessible(page: Reader) -> None:
    """Hold a page to what a screen reader and a keyboard need."""
    assert len(page.all("h1")) == len(page.all("main")) == len(page.all("nav")) == 1
    assert page.all("html") == [{"lang": "en"}]
    assert page.all("a")[0] == {"class": "skip", "href": "#content"}
    names = Counter(a["id"] for _, a in page.elements if "id" in a)
    assert set(names.values()) == {1}
    for drawing in page.all("svg"):
        assert drawing.get("aria-hidden") == "true" or all(n in names for n in drawing["aria-labelledby"].split())
    assert all(bar["aria-label"] for bar in page.all("progress"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(section["aria-labelledby"] in names for section in page.all("section"))
    levels = [int(tag[1]) for tag, _ in page.elements if tag in {"h1", "h2", "h3", "h4"}]
    assert all(below <= above + 1 for above, below in pairwise(levels))
    assert [a["role"] for _, a in page.elements if a.get("id") == "told"] == ["status"]


async def test_the_first_page_lists_what_is_there(shown):
    empty = await shown.read("/")
    assert "No run was started yet." in empty.text
    assert "No pipeline is being watched." in empty.text
    accessible(empty)
    await begin(shown)
    await shown.watch(MONITORS["example_monitor"](), MONITORS["example_generations"]())
    shown.pages._parts._entries.clear()
    full = await shown.read("/")
    accessible(full)
    assert {"/runs/r", "/monitors/nightly"} <= {a.get("href") for a in full.all("a")}
    assert "1 run is going on. 1 monitor: 1 collapse." in full.text


async def test_the_gravest_monitors_come_first_and_a_deleted_one_is_gone(shown):
    for name, verdict in (("a", None), ("b", Verdict.STABLE), ("c", Verdict.COLLAPSE), ("d", Verdict.WARNING)):
        newest = replace(MONITORS["example_generations"](1)[0], verdict=verdict)
        shown.watched.monitor_changed(Monitor(name=f"monitors/{name}", newest=newest))
    assert [line.name[-1] for line in shown.watched.gravest()] == ["c", "d", "b", "a"]
    shown.watched.monitor_deleted("monitors/c")
    assert [line.name[-1] for line in shown.watched.gravest()] == ["d", "b", "a"]


async def test_a_thousand_monitors_are_counted_and_the_list_stays_short(shown):
    for number in range(1000):
        shown.watched.monitor_changed(Monitor(name=f"monitors/m{number:04}"))
    page = await shown.read("/")
    assert len([a for a in page.all("a") if (a.get("href") or "").startswith("/monitors/")]) == MOST_MONITORS
    assert f"{1000 - MOST_MONITORS} more are not shown" in page.text


async def test_a_run_shows_its_charts_its_progress_and_its_words(shown):
    await begin(shown, verdicts=(ArmVerdict(arm="replace", verdict=Verdict.WARNING, sentence="WARNING: it drifts"),))
    await examined(shown, "replace", 1)
    shown.board.begin("runs/r", Lane("r", "replace", 0), 2, "fine_tune")
    page = await shown.read("/runs/r")
    accessible(page)
    assert "“replace” is drifting." in page.text
    assert "replace 2 fine-tune" in page.text
    assert "family-TEXT-t" in {a.get("id") for a in page.all("title")}
    assert "Effects of the families: all figures as a table" in page.text


async def test_a_part_changes_its_tag_when_what_it_shows_changes_and_only_then(shown):
    await begin(shown)
    _, headers, _ = await shown.call("/parts/runs/r/results")
    status, again, body = await shown.call("/parts/runs/r/results", if_none_match=headers["etag"])
    assert (status, again["etag"], body) == (304, headers["etag"], "")
    await examined(shown, "replace", 1)
    shown.pages._looks._entries.clear()
    status, later, body = await shown.call("/parts/runs/r/results", if_none_match=headers["etag"])
    assert status == 200
    assert later["etag"] != headers["etag"]


async def test_what_has_not_changed_is_not_drawn_again(shown, monkeypatch):
    await begin(shown)
    drawn = []
    view = shown.pages._reading.view

    async def counted(*arguments: Any) -> Any:
        drawn.append(arguments)
        return await view(*arguments)

    monkeypatch.setattr(shown.pages._reading, "view", counted)
    await asyncio.gather(*(shown.call("/runs/r") for _ in range(5)))
    shown.pages._looks._entries.clear()
    await shown.call("/runs/r")
    assert len(drawn) == 1


async def test_a_run_that_has_ended_says_how(shown):
    await begin(shown, state=RunState.FAILED, error="the disk is full; make room")
    page = await shown.read("/runs/r")
    assert "The run failed. Reason: the disk is full; make room" in page.text
    assert any("data-ended" in a for _, a in page.elements)
    assert not page.all("progress")


async def test_a_monitor_shows_verdicts_domains_effects_and_what_to_look_at(shown):
    await shown.watch(MONITORS["example_monitor"](), MONITORS["example_generations"]())
    page = await shown.read("/monitors/nightly")
    accessible(page)
    assert "“nightly” collapsed." in page.text
    for told in ("code", "news", "Concepts whose share of the semantic network grew most", "3.10 → 1.20", "model v7"):
        assert told in page.text
    titles = {a.get("id") for a in page.all("title")}
    assert {"family-TEXT-t", "family-NETWORK-t", "movers-t", "metric-types-t"} <= titles


@pytest.mark.parametrize("count", [0, 1])
async def test_a_monitor_without_a_comparison_says_what_it_waits_for(shown, count):
    recorded = MONITORS["example_generations"](count, domains=())
    generations = [replace(one, comparison=None, verdict=None) for one in recorded]
    newest = generations[-1] if generations else None
    monitor = replace(MONITORS["example_monitor"](0), generations=count, newest=newest, baseline=None)
    await shown.watch(monitor, generations)
    page = await shown.read("/monitors/nightly")
    accessible(page)
    assert ("waits for its first generation" if count == 0 else "nothing was compared with it yet") in page.text


async def test_hostile_texts_are_shown_as_texts(shown):
    await begin(shown, error=HOSTILE, state=RunState.FAILED)
    recorded = MONITORS["example_generations"](domains=(HOSTILE,))
    generations = [replace(one, sentence=HOSTILE, description=HOSTILE) for one in recorded]
    await shown.watch(replace(MONITORS["example_monitor"](domains=(HOSTILE,)), description=HOSTILE), generations)
    for path, least in (("/", 1), ("/runs/r", 1), ("/monitors/nightly", 6)):
        page = await shown.read(path)
        assert page.text.count(HOSTILE) >= least
        assert len(page.all("script")) == 1
        assert not page.all("img")


@pytest.mark.parametrize("path", ["/runs/%3Cscript%3Ealert", "/runs/..%2f..%2fetc", "/monitors/nobody", "/nothing"])
async def test_what_is_not_there_is_not_found_and_not_repeated(shown, path):
    status, headers, body = await shown.call(path)
    assert status == 404
    assert "alert" not in body
    assert headers["content-security-policy"].startswith("default-src 'none'")
    accessible(Reader(body))


async def test_it_can_only_be_read(shown):
    await begin(shown)
    assert [(await shown.call("/runs/r", method))[0] for method in ("POST", "PUT", "DELETE", "PATCH")] == [405] * 4
    status, headers, body = await shown.call("/runs/r", "HEAD")
    assert (status, body) == (200, "")
    assert int(headers["content-length"]) > 10_000


async def test_a_page_of_another_site_cannot_read_it_by_pointing_its_name_here(shown):
    assert (await shown.call("/", Host="evil.example"))[0] == 403
    assert (await shown.call("/", Host="evil.example:80"))[0] == 403
    for host in ("localhost", "localhost:1234", "127.0.0.1", "[::1]:9463"):
        assert (await shown.call("/", Host=host))[0] == 200


async def test_the_policy_lets_nothing_in_but_its_own_style_and_script(shown):
    await begin(shown)
    _, headers, body = await shown.call("/runs/r")
    policy = headers["content-security-policy"]
    for tag in ("style", "script"):
        inside = body.split(f"<{tag}>")[1].split(f"</{tag}>")[0]
        assert f"{tag}-src 'sha256-{base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()}'" in policy
    page = Reader(body)
    assert "unsafe" not in policy
    assert not [a for _, a in page.elements for key in a if key.startswith("on") or key == "style"]
    addresses = [a.get("href") or a.get("src") or "" for _, a in page.elements]
    assert all(address == "" or address[0] in "/#" for address in addresses)


async def test_a_fault_is_said_without_its_text(shown, monkeypatch):
    async def broken() -> Any:
        raise ValueError("a secret")

    monkeypatch.setattr(shown.pages._reading, "runs", broken)
    status, _, body = await shown.call("/")
    assert status == 500
    assert "secret" not in body


async def test_other_machines_are_kept_out_unless_they_are_let_in(shown):
    with pytest.raises(PreconditionFailed, match="PAGE_ADDRESS"):
        start_page_server(Site(shown.pages, only_here=True).app(), "0.0.0.0:0")
    server = start_page_server(Site(shown.pages, only_here=False).app(), "0.0.0.0:0", allow_public=True)
    await server.close()


async def test_a_port_that_is_taken_is_said_at_once(shown):
    with pytest.raises(PreconditionFailed, match="in use"):
        start_page_server(Site(shown.pages, only_here=True).app(), shown.url.removeprefix("http://").rstrip("/"))


async def test_closing_twice_is_harmless_and_frees_the_port(shown):
    server = start_page_server(Site(shown.pages, only_here=True).app(), "127.0.0.1:0")
    await server.close()
    await server.close()
    again = start_page_server(Site(shown.pages, only_here=True).app(), server.url.removeprefix("http://").rstrip("/"))
    await again.close()


@given(st.integers(1, 30), st.integers(1, 100), st.integers(1, 3000))
def test_no_page_draws_more_than_its_bound_and_always_the_first_and_the_last(arms, seeds, generations):
    named = tuple(ArmSpec(name=f"a{number}", protocol="replace") for number in range(arms))
    spec = RunSpec(name="r", arms=named, seeds=seeds, generations=generations)
    shown = shown_of(spec)
    assert 1 <= len(shown.arms) * shown.seeds * len(shown.numbers) <= MOST_POINTS
    assert shown.numbers[0] == 0
    assert shown.numbers[-1] == generations
    everything = (len(shown.arms), shown.seeds, len(shown.numbers)) == (arms, seeds, generations + 1)
    assert (left_out(spec, shown) is None) == everything


async def test_what_is_asked_for_at_once_is_made_once_and_a_failure_is_not_kept():
    made: list[int] = []
    kept: Cache[int] = Cache(most=2, seconds=10.0, clock=lambda: 0.0)

    async def make() -> int:
        await asyncio.sleep(0)
        made.append(len(made))
        if len(made) == 1:
            raise NotFound("not yet")
        return made[-1]

    with pytest.raises(NotFound):
        await kept.get("a", make)
    assert await asyncio.gather(*(kept.get("a", make) for _ in range(5))) == [1] * 5
    assert await kept.get("a", make, version="new") == 2
    for key in "bcd":
        await kept.get(key, make)
    assert await kept.get("a", make, version="new") == 6


def test_the_page_needs_neither_numpy_nor_a_model(root: Path):
    # pyarrow takes numpy where it is installed, and goes without it where it is not.
    hide = "import sys; sys.modules.update(dict.fromkeys(('numpy', 'networkx', 'scipy', 'torch', 'spacy')))"
    program = f"{hide}; import services.coordinator.page.opening"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=False)
    assert (done.returncode, done.stderr) == (0, "")


async def test_times_of_stages_do_not_draw_a_run_anew(shown):
    await begin(shown)
    _, headers, _ = await shown.call("/parts/runs/r/results")
    await shown.history.change_generation(Lane("r", "human", 0), 0, times=(StageTime(stage="score", seconds=1.0),))
    shown.pages._looks._entries.clear()
    assert (await shown.call("/parts/runs/r/results", if_none_match=headers["etag"]))[0] == 304
