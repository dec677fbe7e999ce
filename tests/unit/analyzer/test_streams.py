"""Streams that are measured side by side: so many and no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from ouroscope.errors import Busy, InvalidRequest
from ouroscope.records.analysis import Report
from ouroscope.records.documents import Document
from ouroscope.store import ArtifactStore
from services.analyzer.analysis import Options
from services.analyzer.jobs import Jobs
from services.analyzer.session import Limits, Session
from services.analyzer.spread import shipped_spread
from services.analyzer.streams import Streams
from services.analyzer.tools import Tools

TEXT = Document(id="0", text="the cat sat on the mat " * 5)


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    store = ArtifactStore(str(tmp_path))
    return Jobs(store=store, spread=shipped_spread(), limits=Limits(), tools=Tools(), on_documents=lambda _: None)


@pytest.fixture
def streams(jobs: Jobs) -> Iterator[Streams]:
    made = Streams(jobs, workers=1, limit=1)
    yield made
    asyncio.run(made.close())


class Sent:
    """One stream: a document at once, and its end when it is told to."""

    def __init__(self, streams: Streams, jobs: Jobs) -> None:
        self.begun, self.end = asyncio.Event(), asyncio.Event()
        self._streams, self._jobs = streams, jobs

    async def report(self) -> Report:
        return await self._streams.measure(self._messages(), self._begin, self._fold)

    async def _messages(self) -> AsyncIterator[Document]:
        yield TEXT
        self.begun.set()
        await self.end.wait()

    def _begin(self, first: Any) -> Session:
        return self._jobs.session(Options(metrics=("types",)))

    def _fold(self, session: Session, document: Document) -> None:
        session.fold_documents([document], 100)


async def test_who_comes_when_too_many_are_measured_is_told_when_to_come_back(streams: Streams, jobs: Jobs) -> None:
    first, second = Sent(streams, jobs), Sent(streams, jobs)
    measuring = asyncio.create_task(first.report())
    await first.begun.wait()
    with pytest.raises(Busy, match="try again later") as caught:
        await second.report()
    assert caught.value.retry_after > 0
    assert not second.begun.is_set(), "nothing of it was read"
    first.end.set()
    second.end.set()
    assert (await measuring).documents == 1
    assert (await second.report()).documents == 1


async def test_a_caller_that_goes_away_leaves_its_place_to_others(streams: Streams, jobs: Jobs) -> None:
    first, second = Sent(streams, jobs), Sent(streams, jobs)
    measuring = asyncio.create_task(first.report())
    await first.begun.wait()
    measuring.cancel()
    await asyncio.gather(measuring, return_exceptions=True)
    second.end.set()
    assert (await second.report()).documents == 1


async def test_a_stream_that_fails_leaves_its_place_to_others(streams: Streams, jobs: Jobs) -> None:
    async def nothing() -> AsyncIterator[Document]:
        return
        yield TEXT

    def refuse(first: object) -> Session:
        raise InvalidRequest("nothing to measure")

    for _ in range(2):
        with pytest.raises(InvalidRequest):
            await streams.measure(nothing(), refuse, lambda session, document: None)
