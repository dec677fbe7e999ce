"""A run whose trainer comes back with a certificate that has expired: it says so, waits, and goes on after the renewal.

What a service and single calls do at the end of a certificate is in `tests/contract/test_security.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio
import pytest

from benchmarks.kills import SMALLER, World, differences, left, reference_world, undisturbed
from ouroscope.client import CoordinatorClient, open_channel
from ouroscope.records.runs import RunEvent, RunState
from ouroscope.rpc.server import RunningServer
from ouroscope.security.connection import PLAIN, Connection
from ouroscope.security.settings import Security, SecuritySettings, secured
from ouroscope.store import ArtifactStore
from ouroscope_app.embedded import threads_each
from ouroscope_app.specs import load_spec
from services.analyzer import service as analyzer
from services.analyzer.tools import open_tools
from services.coordinator import service as coordinator
from services.generator import service as generator
from services.trainer import service as trainer
from tests.certificates import Authority
from tests.e2e.specs import write_small_spec

pytestmark = [pytest.mark.e2e, pytest.mark.proof, pytest.mark.timeout(900)]

EXPIRED = "certificate of the service has expired"


@dataclass
class Services:
    """The four services; the lines to the workers are encrypted."""

    folder: Path
    authority: Authority = field(default_factory=lambda: Authority("ca"))
    trainer: RunningServer | None = None

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore(str(self.folder / "home" / "store"))

    @property
    def security(self) -> Security:
        files = self.authority.issue("server").write(self.folder / "server")
        return secured(SecuritySettings(certificate=files.certificate, key=files.key))

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[World]:
        (self.folder / "ca.crt").write_bytes(self.authority.pem)
        threads = threads_each()
        writing = await generator.start(self.store, threads=threads, security=self.security)
        measuring = await analyzer.start(self.store, tools=open_tools(), security=self.security)
        self.trainer = await trainer.start(self.store, threads=threads, security=self.security)
        driver = await coordinator.start(
            self.folder / "home",
            self.store,
            generator=writing.address,
            analyzer=measuring.address,
            trainer=self.trainer.address,
            connection=Connection(ca=self.folder / "ca.crt"),
        )
        try:
            yield World(driver.address, self.store)
        finally:
            for running in (driver, self.trainer, measuring, writing):
                await running.stop(1.0)

    async def expire(self) -> grpc.aio.Server:
        """Let a server of another make stand where the trainer was, which does not look at its own certificate."""
        assert self.trainer is not None
        await self.trainer.stop(0.0)
        expired = self.authority.issue("server", ends=-1)
        server = grpc.aio.server()
        credentials = grpc.ssl_server_credentials([(expired.key, expired.certificate)])
        assert server.add_secure_port(self.trainer.address, credentials) == self.trainer.port
        await server.start()
        return server

    async def renew(self, instead: grpc.aio.Server) -> None:
        assert self.trainer is not None
        await instead.stop(None)
        address = self.trainer.address
        self.trainer = await trainer.start(self.store, address, threads=threads_each(), security=self.security)


async def test_a_run_whose_trainer_has_an_expired_certificate_says_so_and_ends_as_others_once_it_is_renewed(
    tmp_path: Path,
) -> None:
    spec = load_spec(str(write_small_spec(tmp_path)), SMALLER)
    async with reference_world(tmp_path) as reference:
        expected = await undisturbed(reference, spec, "small")
    services = Services(tmp_path)
    async with services.at_work() as world, open_channel(world.address, PLAIN) as channel:
        name = await world.create(spec, "small")
        events = CoordinatorClient(channel).watch_run(name)
        await first(events, lambda event: event.stage is not None)
        instead = await services.expire()
        told = await first(events, lambda event: EXPIRED in (event.message or ""))
        await services.renew(instead)
        run = await world.ended(name)
        found = left(await world.generations(name), world.artifacts(), set(), 0.0)
    assert told.state is RunState.RUNNING
    assert (run.state, run.error) == (RunState.SUCCEEDED, None)
    assert differences(expected, found) == []


async def first(events: AsyncIterator[RunEvent], wanted: Callable[[RunEvent], bool]) -> RunEvent:
    return await anext(event async for event in events if wanted(event))
