"""Reaches the coordinator that keeps the monitors: one that was named, the one at work on this home, or a new one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ouroscope.addresses import split_address
from ouroscope.client import MonitorClient
from ouroscope.corpora.readers import read_documents
from ouroscope.corpora.stored import write_corpus
from ouroscope.errors import InvalidRequest
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.security.connection import PLAIN
from ouroscope_app.home import Home, is_reference
from ouroscope_app.kept import find
from ouroscope_app.live import find_live
from ouroscope_app.output import notes

Answer = TypeVar("Answer")

NAMED = ("monitors/", "baselines/", "runs/")
"""What a coordinator knows by name."""


def ask(home: Home, coordinator: str, question: Callable[[MonitorClient], Awaitable[Answer]]) -> Answer:
    """Put a question to the coordinator at `coordinator`, or to that of `home`.

    Raises:
        InvalidRequest: `coordinator` is not an address.
        Unavailable: nobody answers there.
    """

    async def asking() -> Answer:
        async with _client_of(home, coordinator) as client:
            return await question(client)

    with notes.status("waiting for the coordinator"):
        return asyncio.run(asking())


@asynccontextmanager
async def _client_of(home: Home, coordinator: str) -> AsyncIterator[MonitorClient]:
    connection = None
    if coordinator:
        split_address(coordinator)
    elif live := find_live(home):
        # On this machine; what the environment says of connections is meant for others.
        coordinator, connection = live.coordinator, PLAIN
    if coordinator:
        async with MonitorClient.connect(coordinator, connection=connection) as client:
            yield client
        return
    # The services, and torch with them, are imported only when they have to be started.
    from ouroscope_app.drive import served

    async with served(home.prepare()) as live, MonitorClient.connect(live.coordinator, connection=PLAIN) as client:
        yield client


@dataclass(frozen=True, slots=True)
class NamedBaseline:
    """What a person named as a baseline: a reference, something that the coordinator knows by name, or nothing."""

    baseline: ArtifactRef | None = None
    name: str = ""


def kept_baseline(home: Home, name: str) -> ArtifactRef:
    """Return the numbers that `name` means: `baselines/NAME` of this home, or a report or baseline by its digest.

    Raises:
        NotFound: there is no such baseline.
        InvalidRequest: it is something else; a text has to be measured first.
    """
    if name.startswith("baselines/"):
        return find(home.store(), name).baseline
    if not is_reference(name):
        raise InvalidRequest(
            f"{name[:200]!r} is no baseline; `ouroscope analyze FILE --save NAME` makes one of a text, then give "
            "baselines/NAME"
        )
    return ArtifactRef.parse(name)


def baseline_named(home: Home, coordinator: str, name: str, text_field: str) -> NamedBaseline:
    """Return what `name` means as the baseline of a new monitor; a file becomes a corpus in the store of this home.

    Raises:
        NotFound: there is no such file.
        InvalidRequest: it is a file and a coordinator was named, whose store need not be this one.
    """
    if not name:
        return NamedBaseline()
    if name.startswith(NAMED) and not Path(name).exists():
        return NamedBaseline(name=name)
    if is_reference(name):
        return NamedBaseline(ArtifactRef.parse(name))
    if coordinator:
        raise InvalidRequest(
            f"the store of {coordinator} does not have {name[:200]}; make the monitor without --baseline and record "
            "the file as its first generation, which becomes the baseline"
        )
    documents = read_documents(name, text_field=text_field)
    return NamedBaseline(write_corpus(home.prepare().store(), documents))
