"""A monitor service that notes what it is told and answers what a test says, on a real port, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import grpc.aio
from google.protobuf import empty_pb2

from ouroscope.errors import AlreadyExists, NotFound, OuroscopeError
from ouroscope.records.analysis import Verdict, VerdictReason
from ouroscope.records.documents import Document
from ouroscope.records.monitors import Monitor, MonitorGeneration
from ouroscope.records.predictions import NextToken, ScoredText
from ouroscope.rpc.errors import rpc_errors
from ouroscope.rpc.server import serve
from ouroscope.v1 import monitor_pb2, monitor_pb2_grpc
from ouroscope.wire import many_from_proto, to_proto

SERVICE = monitor_pb2.DESCRIPTOR.services_by_name["MonitorService"].full_name


@dataclass(kw_only=True)
class Told:
    """One generation as it arrived."""

    parent: str
    number: int
    description: str
    synthetic_share: float | None
    documents: tuple[Document, ...]
    next_tokens: tuple[NextToken, ...]
    texts: tuple[ScoredText, ...]


@dataclass
class ToyMonitors(monitor_pb2_grpc.MonitorServiceServicer):
    """Monitors by name; what is recorded gets the next of `verdicts`, None for a baseline."""

    verdicts: list[Verdict | None] = field(default_factory=list)
    failure: OuroscopeError | None = None
    monitors: dict[str, Monitor] = field(default_factory=dict)
    told: list[Told] = field(default_factory=list)
    address: str = ""

    async def CreateMonitor(self, request: Any, context: Any) -> Any:
        async with rpc_errors(context):
            name = f"monitors/{request.monitor_id}"
            if name in self.monitors:
                raise AlreadyExists(f"{name} exists")
            self.monitors[name] = Monitor(name=name)
            return to_proto(self.monitors[name])

    async def GetMonitor(self, request: Any, context: Any) -> Any:
        async with rpc_errors(context):
            return to_proto(self._found(request.name))

    async def DeleteMonitor(self, request: Any, context: Any) -> Any:
        async with rpc_errors(context):
            del self.monitors[self._found(request.name).name]
            return empty_pb2.Empty()

    async def RecordGeneration(self, requests: Any, context: Any) -> Any:
        async with rpc_errors(context):
            messages = [message async for message in requests]
            if self.failure:
                raise self.failure
            monitor, head = self._found(messages[0].parent), messages[0]
            self.told.append(_told(messages))
            generation = self._judged(f"{head.parent}/generations/{head.number}", head.number)
            self.monitors[monitor.name] = replace(monitor, newest=generation)
            return to_proto(generation)

    def _judged(self, name: str, number: int) -> MonitorGeneration:
        verdict = self.verdicts.pop(0) if self.verdicts else None
        reason = VerdictReason.WITHIN_MARGIN if verdict else None
        sentence = f"It is {verdict.value}." if verdict else "It is the baseline."
        return MonitorGeneration(name=name, number=number, verdict=verdict, reason=reason, sentence=sentence)

    def _found(self, name: str) -> Monitor:
        if name not in self.monitors:
            raise NotFound(f"there is no {name}")
        return self.monitors[name]


def _told(messages: list[Any]) -> Told:
    head = messages[0]
    return Told(
        parent=head.parent,
        number=head.number,
        description=head.description,
        synthetic_share=head.synthetic_share if head.HasField("synthetic_share") else None,
        documents=tuple(one for m in messages for one in many_from_proto(Document, m.documents)),
        next_tokens=tuple(one for m in messages for one in many_from_proto(NextToken, m.next_tokens)),
        texts=tuple(one for m in messages for one in many_from_proto(ScoredText, m.texts)),
    )


@contextmanager
def toy_monitors() -> Iterator[ToyMonitors]:
    """Serve until the block ends; clients that block can be used in the meantime."""
    toy, loop = ToyMonitors(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def add(server: grpc.aio.Server) -> tuple[str]:
        monitor_pb2_grpc.add_MonitorServiceServicer_to_server(toy, server)
        return (SERVICE,)

    async def start() -> Any:
        return await serve(add, "127.0.0.1:0")

    server = asyncio.run_coroutine_threadsafe(start(), loop).result()
    toy.address = server.address
    yield toy
    asyncio.run_coroutine_threadsafe(server.stop(grace=0.0), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
