"""Puts the pages together from parts. A part can be asked for alone, which is how a page stays live.

Drawing is done in threads, one at a time, and only when what is drawn has changed; the rest is kept for a second, so
that many viewers cost as much as one.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup

import ouroscope
from ouroscope.errors import NotFound
from ouroscope.records.monitors import Monitor
from ouroscope.records.runs import Run
from services.coordinator.board import Board
from services.coordinator.page import monitor_sections, overview, run_sections
from services.coordinator.page.cache import Cache
from services.coordinator.page.monitor_view import MonitorView
from services.coordinator.page.reading import Reading
from services.coordinator.page.watched import Watched
from services.coordinator.report.page import environment, readable, results, style
from services.coordinator.rows import Outline

FRESH = 1.0
"""Seconds that an answer is given again without looking."""
DRAWN, PARTS = 16, 256
"""Drawn pages, and small parts, that are kept."""
RUN_PARTS = ("head", "progress", "results")
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Answer:
    """Something to show, with a tag that changes with it."""

    html: str
    tag: str


class Pages:
    """The pages and their parts, as HTML."""

    def __init__(self, reading: Reading, board: Board, watched: Watched) -> None:
        self._reading = reading
        self._board = board
        self._watched = watched
        self._templates = environment(TEMPLATES)
        self._drawing = asyncio.Lock()
        self._drawn: Cache[Answer] = Cache(DRAWN, math.inf)
        self._parts: Cache[Answer] = Cache(PARTS, FRESH)
        self._looks: Cache[tuple[Run, tuple[Outline, ...]]] = Cache(PARTS, FRESH)
        self.style = style() + (TEMPLATES / "page.css").read_text("utf-8")
        self.script = (TEMPLATES / "live.js").read_text("utf-8")

    async def overview(self) -> Answer:
        """Return the first page."""
        parts = [("/parts/overview", await self.overview_part())]
        return self._page("Runs and monitors", "", parts)

    async def run(self, run_id: str) -> Answer:
        """Return the page of a run."""
        parts = [(f"/parts/runs/{run_id}/{part}", await self.run_part(run_id, part)) for part in RUN_PARTS]
        return self._page(run_id, "run", parts)

    async def monitor(self, monitor_id: str) -> Answer:
        """Return the page of a monitor."""
        parts = [(f"/parts/monitors/{monitor_id}", await self.monitor_part(monitor_id))]
        return self._page(monitor_id, "monitor", parts)

    def failed(self, title: str, told: str) -> Answer:
        """Return the page of something that cannot be shown."""
        return self._page(title, "", [("", self._render("failed.html", title=title, told=told))])

    async def overview_part(self) -> Answer:
        """Return the lists."""
        return await self._parts.get("overview", self._make_overview)

    async def run_part(self, run_id: str, part: str) -> Answer:
        """Return a part of the page of a run.

        Raises:
            NotFound: there is no such run, or no such part.
        """
        if part not in RUN_PARTS:
            raise NotFound(f"a page of a run has no part {part[:80]!r}")
        run, outline = await self._looks.get(run_id, partial(self._look, run_id))
        if part == "results":
            version = (run.create_time, run.state, run.verdicts, run.base_perplexity, outline, self._reading.metrics)
            return await self._drawn.get(run.name, partial(self._draw_run, run, outline), version)
        make = {"head": self._make_head, "progress": self._make_progress}[part]
        return await self._parts.get((part, run_id), partial(make, run))

    async def monitor_part(self, monitor_id: str) -> Answer:
        """Return what is said of a monitor.

        Raises:
            NotFound: there is none of that name.
        """
        monitor = await self._reading.monitor(monitor_id)
        return await self._drawn.get(monitor.name, partial(self._draw_monitor, monitor), _version(monitor))

    async def _look(self, run_id: str) -> tuple[Run, tuple[Outline, ...]]:
        run = await self._reading.run(run_id)
        return run, await self._reading.outline(run)

    async def _make_overview(self) -> Answer:
        shown = overview.context(await self._reading.runs(), self._board.newest, self._watched)
        return self._render("overview.html", **shown)

    async def _make_head(self, run: Run) -> Answer:
        return self._render("head.html", head=run_sections.head(run))

    async def _make_progress(self, run: Run) -> Answer:
        return self._render("progress.html", progress=run_sections.progress(run, self._board.newest(run.name)))

    async def _draw_run(self, run: Run, outline: tuple[Outline, ...]) -> Answer:
        async with self._drawing:
            view = await self._reading.view(run, outline)
            # While a run goes on it needs the processor more than its page does.
            return await asyncio.to_thread(
                lambda: self._render("results.html", **results(view, networks=run.state.ended))
            )

    async def _draw_monitor(self, monitor: Monitor) -> Answer:
        async with self._drawing:
            view = MonitorView(monitor=monitor, generations=tuple(await self._reading.generations(monitor)))
            return await asyncio.to_thread(lambda: self._render("monitor.html", **monitor_sections.context(view)))

    def _page(self, title: str, kind: str, parts: list[tuple[str, Answer]]) -> Answer:
        # Rendered here, so every text in it is escaped.
        shown = [(path, answer.tag, Markup(answer.html)) for path, answer in parts]
        return self._render(
            "layout.html",
            title=title,
            kind=kind,
            parts=shown,
            style=Markup(self.style),  # our own files
            script=Markup(self.script),
            ouroscope_version=ouroscope.__version__,
        )

    def _render(self, template: str, **shown: Any) -> Answer:
        html = readable(self._templates.get_template(template).render(**shown))
        return Answer(html, hashlib.sha256(html.encode()).hexdigest()[:24])


def _version(monitor: Monitor) -> Hashable:
    newest = monitor.newest
    judged = (newest.number, newest.report, newest.judge_time) if newest else None
    return monitor.create_time, monitor.etag, monitor.paused, monitor.generations, judged
