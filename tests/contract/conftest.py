"""A small real service on a real port: a trainer whose training is whatever the test says."""

from __future__ import annotations

import asyncio
import functools
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from ouroscope.client import open_channel
from ouroscope.operations.servicer import Operations, OperationsServicer, TableSource, add_operations
from ouroscope.operations.tasks import TaskContext, TaskTable
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.progress import Progress
from ouroscope.records.training import FineTune, FineTuned, Recipe
from ouroscope.rpc.errors import rpc_errors
from ouroscope.rpc.server import RunningServer, serve
from ouroscope.store import ArtifactStore
from ouroscope.v1 import trainer_pb2_grpc
from ouroscope.wire import from_proto

TRAINER = "ouroscope.v1.TrainerService"
Train = Callable[[ArtifactStore, FineTune, TaskContext], FineTuned]


class ToyServicer(trainer_pb2_grpc.TrainerServiceServicer):
    """What every servicer of long work looks like."""

    def __init__(self, operations: Operations, train: Callable[[FineTune, TaskContext], FineTuned]) -> None:
        self._operations = operations
        self._train = train

    async def FineTune(self, request: Any, context: Any) -> Any:
        async with rpc_errors(context):
            asked = from_proto(FineTune, request)
            work = functools.partial(self._train, asked)
            return await self._operations.start("FineTune", asked, FineTuned, work, request_id=request.request_id)


@dataclass
class ToyService:
    """A running toy trainer."""

    server: RunningServer
    table: TaskTable
    store: ArtifactStore

    @property
    def address(self) -> str:
        return self.server.address


class Training:
    """Training that goes on until it is let go, telling its progress; publishes a model named by the request's seed."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go = threading.Event()
        self.calls = 0

    def __call__(self, store: ArtifactStore, asked: FineTune, context: TaskContext) -> FineTuned:
        self.calls += 1
        context.report(Progress(stage="train", done=1, total=asked.recipe.steps, unit="steps", loss=2.0))
        self.entered.set()
        while not self.go.wait(0.01):
            context.check()
        content = f"weights {asked.recipe.seed}".encode()
        model = store.publish(ArtifactKind.MODEL, f"{asked.recipe.seed:064x}", {"weights": content}, {})
        context.report(
            Progress(stage="train", done=asked.recipe.steps, total=asked.recipe.steps, unit="steps", loss=1.0)
        )
        return FineTuned(model=model, steps=asked.recipe.steps, tokens=100)

    async def has_begun(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, 40.0), "the training did not begin"


@pytest.fixture
def store(tmp_path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"))


@pytest.fixture
def training() -> Training:
    return Training()


@pytest.fixture
def ask() -> Callable[..., FineTune]:
    """Make a request; different seeds are different requests."""

    def make(seed: int = 0) -> FineTune:
        return FineTune(
            model=ArtifactRef(ArtifactKind.MODEL, "0" * 64),
            corpora=(ArtifactRef(ArtifactKind.CORPUS, "1" * 64),),
            recipe=Recipe(seed=seed),
        )

    return make


StartToy = Callable[..., Awaitable[ToyService]]


@pytest.fixture
async def start_toy(store) -> AsyncIterator[StartToy]:
    """Start toy trainers; all are stopped at the end."""
    running: list[ToyService] = []

    async def start(train: Train, *, address: str = "127.0.0.1:0", **options: Any) -> ToyService:
        table = TaskTable(store)
        servicer = ToyServicer(Operations(table, {"toy": "1"}), functools.partial(train, store))

        def add(server: grpc.aio.Server) -> Sequence[str]:
            trainer_pb2_grpc.add_TrainerServiceServicer_to_server(servicer, server)
            return TRAINER, add_operations(OperationsServicer(TableSource(table)), server)

        server = await serve(add, address, on_drain=(functools.partial(table.close, 1.0),), **options)
        running.append(ToyService(server, table, store))
        return running[-1]

    yield start
    for each in running:
        await each.server.stop(grace=0.0)


@pytest.fixture
async def connect() -> AsyncIterator[Callable[[str], grpc.aio.Channel]]:
    """Open channels; all are closed at the end."""
    opened: list[grpc.aio.Channel] = []

    def open_(address: str) -> grpc.aio.Channel:
        opened.append(open_channel(address))
        return opened[-1]

    yield open_
    for channel in opened:
        await channel.close()


@pytest.fixture
def process(tmp_path: Path, root: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start analyzers as processes; all are ended at the end."""
    started: list[subprocess.Popen[str]] = []

    def begin(**settings: str) -> subprocess.Popen[str]:
        told = {f"OURO_ANALYZER_{name.upper()}": value for name, value in settings.items()}
        base = {"OURO_ANALYZER_STORE": str(tmp_path / "store"), "OURO_ANALYZER_METRICS_PORT": "0"}
        environment = {**os.environ, **base, "OURO_ANALYZER_ADDRESS": "127.0.0.1:0", **told}
        command = [sys.executable, "-m", "services.analyzer"]
        started.append(subprocess.Popen(command, cwd=root, env=environment, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield begin
    for each in started:
        each.kill()
        each.communicate()
