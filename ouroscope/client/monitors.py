"""Client of the monitors and of the gate, which the coordinator serves.

>>> from ouroscope.client import MonitorClient
>>> async def watched(documents, number):
...     async with MonitorClient.connect("127.0.0.1:50054") as monitors:
...         return await monitors.record_generation("monitors/news", number, documents)
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

import grpc.aio
from google.protobuf.field_mask_pb2 import FieldMask

from ouroscope.client.arguments import encoded, names, reference, refusal, request_of
from ouroscope.client.batches import Many, kinds_in_batches
from ouroscope.client.blocking import Blocking
from ouroscope.client.calls import call, pages, send_all
from ouroscope.client.long_work import Patience
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.records.monitors import GateDecision, GatePolicy, Monitor, MonitorGeneration
from ouroscope.records.predictions import NextToken, ScoredText
from ouroscope.rpc.channel import open_channel
from ouroscope.security.connection import Connection
from ouroscope.v1 import monitor_pb2, monitor_pb2_grpc
from ouroscope.wire import from_proto


class MonitorClient:
    """Asks a coordinator about monitors; all methods raise `ouroscope.errors` classes. Names are full: `monitors/x`."""

    def __init__(self, channel: grpc.aio.Channel, patience: Patience | None = None) -> None:
        self._patience = patience or Patience()
        self._stub = monitor_pb2_grpc.MonitorServiceStub(channel)

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, address: str, patience: Patience | None = None, connection: Connection | None = None
    ) -> AsyncIterator[Self]:
        """Open a channel to `host:port`, use it in `async with`, and close it at the end.

        `connection` says whom to trust and which token to show; by default the variables `OURO_CLIENT_*` say it.
        """
        async with open_channel(address, connection) as channel:
            yield cls(channel, patience)

    async def create_monitor(
        self,
        monitor_id: str,
        monitor: Monitor = Monitor(),  # noqa: B008  # frozen
        *,
        baseline_name: str = "",
    ) -> Monitor:
        """Make `monitors/{monitor_id}`; returns when its baseline is measured, where that is a stored corpus.

        Args:
            monitor_id: lower-case letters, digits and hyphens, at most 63.
            monitor: its baseline, policy and description; its name is ignored. Without a baseline the first
                generation that is recorded becomes it.
            baseline_name: instead of `monitor.baseline`: `baselines/b`, `monitors/m/generations/n`, or
                `runs/r/arms/a/seeds/s/generations/n`.
        """
        request = request_of(
            monitor_pb2.CreateMonitorRequest,
            monitor_id=monitor_id,
            monitor=encoded(monitor, Monitor, "monitor"),
            request_id=str(uuid.uuid4()),
            baseline_name=baseline_name,
        )
        return from_proto(Monitor, await call(self._stub.CreateMonitor, request, self._patience.stream))

    async def get_monitor(self, name: str) -> Monitor:
        """Return one monitor with its newest generation."""
        request = request_of(monitor_pb2.GetMonitorRequest, name=name)
        return from_proto(Monitor, await call(self._stub.GetMonitor, request, self._patience.call))

    def list_monitors(self) -> AsyncIterator[Monitor]:
        """Yield all monitors in order of name."""
        request = monitor_pb2.ListMonitorsRequest()
        return pages(self._stub.ListMonitors, request, "monitors", Monitor, self._patience.call)

    async def update_monitor(self, monitor: Monitor, fields: Sequence[str]) -> Monitor:
        """Set `fields` of a monitor: description, baseline, domain_baselines, policy, paused.

        A monitor that was read before carries its etag: the call is refused if somebody has changed it meanwhile.
        """
        message = encoded(monitor, Monitor, "monitor")
        mask = FieldMask(paths=names(fields, "fields"))
        request = request_of(monitor_pb2.UpdateMonitorRequest, monitor=message, update_mask=mask)
        return from_proto(Monitor, await call(self._stub.UpdateMonitor, request, self._patience.stream))

    async def delete_monitor(self, name: str) -> None:
        """Remove a monitor and its history; reports stay in the store."""
        request = request_of(monitor_pb2.DeleteMonitorRequest, name=name)
        await call(self._stub.DeleteMonitor, request, self._patience.call)

    async def record_generation(
        self,
        parent: str,
        number: int,
        documents: Iterable[Document] | AsyncIterable[Document] = (),
        next_tokens: Iterable[NextToken] | AsyncIterable[NextToken] = (),
        texts: Iterable[ScoredText] | AsyncIterable[ScoredText] = (),
        *,
        artifacts: Sequence[ArtifactRef | str] = (),
        description: str = "",
        synthetic_share: float | None = None,
        request_id: str = "",
    ) -> MonitorGeneration:
        """Report a generation and return its comparison and verdict; nothing is kept but the numbers.

        Args:
            parent: the monitor, `monitors/x`.
            number: the generation, 0 or more; the same content under the same number is recorded once.
            documents: what the model of this generation wrote.
            next_tokens: what it expects after prompts.
            texts: how it scores texts.
            artifacts: instead of the three: a stored corpus, stored predictions, or one finished report.
            description: for example the version of the model, at most 256 characters.
            synthetic_share: of the tokens, in [0, 1]; None takes it from the provenance of the documents.
            request_id: a UUID; a call that broke may be made again with the same one. Empty takes a fresh one.
        """
        head = request_of(
            monitor_pb2.RecordGenerationRequest,
            parent=parent,
            number=number,
            request_id=request_id or str(uuid.uuid4()),
            artifacts=_references(artifacts),
            description=description,
            synthetic_share=synthetic_share,
        )
        messages = _messages(head, documents, next_tokens, texts)
        return from_proto(
            MonitorGeneration, await send_all(self._stub.RecordGeneration, messages, self._patience.stream)
        )

    async def get_generation(self, name: str) -> MonitorGeneration:
        """Return one recorded generation: `monitors/x/generations/n`."""
        request = request_of(monitor_pb2.GetMonitorGenerationRequest, name=name)
        answer = await call(self._stub.GetMonitorGeneration, request, self._patience.call)
        return from_proto(MonitorGeneration, answer)

    def list_generations(self, parent: str) -> AsyncIterator[MonitorGeneration]:
        """Yield the history of a monitor in rising order of number."""
        request = request_of(monitor_pb2.ListMonitorGenerationsRequest, parent=parent)
        method = self._stub.ListMonitorGenerations
        return pages(method, request, "generations", MonitorGeneration, self._patience.call)

    async def gate(
        self,
        documents: Iterable[Document] | AsyncIterable[Document] = (),
        next_tokens: Iterable[NextToken] | AsyncIterable[NextToken] = (),
        texts: Iterable[ScoredText] | AsyncIterable[ScoredText] = (),
        *,
        baseline: ArtifactRef | str | None = None,
        baseline_name: str = "",
        policy: GatePolicy | None = None,
        artifacts: Sequence[ArtifactRef | str] = (),
    ) -> GateDecision:
        """Say whether a candidate may be trained on; nothing is recorded.

        Args:
            documents: the candidate, and `next_tokens` and `texts` as in `record_generation`.
            next_tokens: what its model expects after prompts.
            texts: how it scores texts.
            baseline: a report or frozen baseline to compare with.
            baseline_name: instead of it: `baselines/b`, a recorded generation, or `monitors/m`, whose baseline, policy
                and history are then used as if the candidate were its next generation.
            policy: what is let through; None means the defaults, or the policy of the monitor.
            artifacts: instead of the documents and records: a stored corpus, stored predictions, or one report.
        """
        head = request_of(
            monitor_pb2.GateRequest,
            baseline=None if baseline is None else reference(baseline, "baseline"),
            baseline_name=baseline_name,
            policy=None if policy is None else encoded(policy, GatePolicy, "policy"),
            artifacts=_references(artifacts),
        )
        messages = _messages(head, documents, next_tokens, texts)
        return from_proto(GateDecision, await send_all(self._stub.Gate, messages, self._patience.stream))


class SyncMonitors(Blocking[MonitorClient]):
    """`MonitorClient` whose methods block. Its event loop runs in a thread of its own; close it, or use `with`."""

    def __init__(self, address: str, patience: Patience | None = None, connection: Connection | None = None) -> None:
        super().__init__(MonitorClient, address, patience, connection)

    def create_monitor(
        self,
        monitor_id: str,
        monitor: Monitor = Monitor(),  # noqa: B008  # frozen
        *,
        baseline_name: str = "",
    ) -> Monitor:
        """Make a monitor; see `MonitorClient.create_monitor`."""
        return self._run(self._client.create_monitor(monitor_id, monitor, baseline_name=baseline_name))

    def get_monitor(self, name: str) -> Monitor:
        """Return one monitor with its newest generation."""
        return self._run(self._client.get_monitor(name))

    def list_monitors(self) -> tuple[Monitor, ...]:
        """Return all monitors in order of name."""
        return self._all(self._client.list_monitors())

    def update_monitor(self, monitor: Monitor, fields: Sequence[str]) -> Monitor:
        """Set `fields` of a monitor; see `MonitorClient.update_monitor`."""
        return self._run(self._client.update_monitor(monitor, fields))

    def delete_monitor(self, name: str) -> None:
        """Remove a monitor and its history; reports stay in the store."""
        self._run(self._client.delete_monitor(name))

    def record_generation(
        self,
        parent: str,
        number: int,
        documents: Iterable[Document] = (),
        next_tokens: Iterable[NextToken] = (),
        texts: Iterable[ScoredText] = (),
        *,
        artifacts: Sequence[ArtifactRef | str] = (),
        description: str = "",
        synthetic_share: float | None = None,
        request_id: str = "",
    ) -> MonitorGeneration:
        """Report a generation and return its comparison and verdict; see `MonitorClient.record_generation`."""
        return self._run(
            self._client.record_generation(
                parent,
                number,
                documents,
                next_tokens,
                texts,
                artifacts=artifacts,
                description=description,
                synthetic_share=synthetic_share,
                request_id=request_id,
            )
        )

    def get_generation(self, name: str) -> MonitorGeneration:
        """Return one recorded generation: `monitors/x/generations/n`."""
        return self._run(self._client.get_generation(name))

    def list_generations(self, parent: str) -> tuple[MonitorGeneration, ...]:
        """Return the history of a monitor in rising order of number."""
        return self._all(self._client.list_generations(parent))

    def gate(
        self,
        documents: Iterable[Document] = (),
        next_tokens: Iterable[NextToken] = (),
        texts: Iterable[ScoredText] = (),
        *,
        baseline: ArtifactRef | str | None = None,
        baseline_name: str = "",
        policy: GatePolicy | None = None,
        artifacts: Sequence[ArtifactRef | str] = (),
    ) -> GateDecision:
        """Say whether a candidate may be trained on; see `MonitorClient.gate`."""
        return self._run(
            self._client.gate(
                documents,
                next_tokens,
                texts,
                baseline=baseline,
                baseline_name=baseline_name,
                policy=policy,
                artifacts=artifacts,
            )
        )


async def _messages(head: Any, documents: Many, next_tokens: Many, texts: Many) -> AsyncGenerator[Any]:
    """Yield the head, then what is measured, a batch at a time."""
    kind = type(head)
    yield head
    async for batch in kinds_in_batches(documents, next_tokens, texts):
        yield kind(**batch)


def _references(artifacts: Sequence[ArtifactRef | str]) -> tuple[ArtifactRef, ...]:
    if isinstance(artifacts, str | ArtifactRef):
        raise refusal("artifacts", f"expected a list of references, got {type(artifacts).__name__}")
    return tuple(reference(one, f"artifacts[{position}]") for position, one in enumerate(artifacts))
