"""Sends requests that nobody would send to every method of every service, and looks at what comes back.

    python -m benchmarks.fuzzing [--requests 1000000] [--result benchmarks/fuzzing.json] [--seed 0] [--folder FOLDER]

The four services run as processes. Which methods there are, they tell themselves (reflection), so none is forgotten.
Requests are drawn from the description of their message, changed as bytes, or are bytes that never were one; some
bytes go past gRPC straight to the port. Nothing may crash, hang, answer INTERNAL or UNKNOWN, or tell the text of an
exception; work that was accepted must not fail so either. Request number N depends on the seed and on N only, and the
same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import logging
import os
import pkgutil
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import structlog
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import status_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from rich.progress import Progress

import ouroscope.v1
from benchmarks.fuzz_messages import Words, drawn, mutated
from benchmarks.supervised import ROOT, Supervisor, add_all, end_cleanly, supervised
from ouroscope.client import GeneratorClient, open_channel
from ouroscope.client.calls import sent
from ouroscope.errors import OuroscopeError
from ouroscope.rpc.errors import DETAILS_KEY
from ouroscope.rpc.probe import is_serving
from ouroscope.security.connection import PLAIN

LONGEST = 120.0
"""Seconds after which a call that should have ended hangs."""
A_LOOK = 1.0
"""Seconds that a call is listened to which goes on as long as what it tells of."""
TOGETHER = 16
BATCH = 256
ENDLESS = {"WatchRun", "Watch", "StreamIsActive", "WaitOperation", "ServerReflectionInfo"}
WIRE = "bytes past gRPC"
NEVER = {"INTERNAL", "UNKNOWN"}
_LEAKS = re.compile(
    r"Traceback|site-packages|\.py\b|object at 0x|<class '|<module '|\b[A-Z][A-Za-z]+(Error|Exception|Warning)\b|"
    r"\bsqlalchemy\b|\bpsycopg\b|\bsqlite3\b|google\.protobuf|\bNoneType\b"
)
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a running service."""

    address: str
    descriptor: MethodDescriptor

    @property
    def path(self) -> str:
        """Return its name on the wire."""
        return f"/{self.descriptor.containing_service.full_name}/{self.descriptor.name}"

    @property
    def endless(self) -> bool:
        """Return whether a call may last as long as the caller wants."""
        return self.descriptor.name in ENDLESS

    @property
    def starts_work(self) -> bool:
        """Return whether it answers with an operation that goes on."""
        return bool(self.descriptor.output_type.full_name == "google.longrunning.Operation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is sent."""

    method: Method
    messages: tuple[bytes, ...]
    metadata: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: a status, everything that was said with it, and the last message."""

    code: str
    told: str
    message: bytes = b""


@dataclass(slots=True)
class Findings:
    """What was sent and what came of it, as the file of results has it."""

    seed: int
    done: int = 0
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, file: Path, seed: int) -> Findings:
        """Go on with a file, or begin one."""
        told = json.loads(file.read_text()) if file.exists() else {"seed": seed, "done": 0, "counts": {}, "faults": []}
        if told["seed"] != seed:
            raise SystemExit(f"{file} is of seed {told['seed']}; use another file")
        counts = {name: Counter(codes) for name, codes in told["counts"].items()}
        return cls(seed, told["done"], counts, told["faults"])

    def note(self, name: str, code: str, fault: str | None, number: int) -> None:
        """Count one request."""
        self.counts.setdefault(name, Counter())[code] += 1
        if fault:
            self.faults.append(f"request {number}, {name}: {fault}")

    def write(self, file: Path) -> None:
        """Keep it."""
        part = file.with_suffix(".part")
        told = {
            "seed": self.seed,
            "done": self.done,
            "counts": dict(sorted(self.counts.items())),
            "faults": self.faults,
        }
        part.write_text(json.dumps(told, indent=1) + "\n")
        part.replace(file)


async def methods_of(address: str) -> list[Method]:
    """Return every method that the server there says it has."""
    async with open_channel(address, PLAIN) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        async for answer in stub.ServerReflectionInfo(iter([asked])):
            names = sorted(one.name for one in answer.list_services_response.service)
    # A description is known once its module was imported.
    for module in pkgutil.iter_modules(ouroscope.v1.__path__, "ouroscope.v1."):
        importlib.import_module(module.name)
    # The new reflection service has the messages of the old one under another name, which no description tells.
    known = [descriptor_pool.Default().FindServiceByName(name) for name in names if not name.startswith("grpc.ref")]
    return [Method(address, method) for service in known for method in service.methods]


def request_for(seed: int, number: int, methods: list[Method], words: Words) -> Request:
    """Return request `number`; it depends on nothing else."""
    draw = random.Random(f"{seed}/{number}")
    method = methods[draw.randrange(len(methods))]
    count = draw.choice((0, 1, 1, 2, 4)) if method.descriptor.client_streaming else 1
    messages = tuple(_message(method, draw, words) for _ in range(count))
    return Request(method=method, messages=messages, metadata=_metadata(draw))


def _message(method: Method, draw: random.Random, words: Words) -> bytes:
    raw: bytes = drawn(method.descriptor.input_type, draw, words).SerializeToString()
    return raw if draw.random() < 0.6 else mutated(raw, draw)


def _metadata(draw: random.Random) -> tuple[tuple[str, str], ...]:
    if draw.random() < 0.9:
        return ()
    name = draw.choice(("authorization", "ouro-work", "traceparent", "baggage", "grpc-accept-encoding", "x-any"))
    return ((name, draw.choice(("", "Bearer x", "Basic ====", "00-0-0-0", "a" * 4000, "identity,gzip", "%00,;="))),)


async def send(request: Request, channel: grpc.aio.Channel) -> Answer:
    """Send bytes as one call, and return what came back."""
    descriptor, path = request.method.descriptor, request.method.path
    limit = A_LOOK if request.method.endless else LONGEST
    options: dict[str, Any] = {"timeout": limit, "metadata": request.metadata}
    last = b""
    try:
        if descriptor.client_streaming and descriptor.server_streaming:
            call: Any = channel.stream_stream(path)(iter(request.messages), **options)
        elif descriptor.client_streaming:
            return Answer("OK", "", await sent(channel.stream_unary(path)(**options), _each(request.messages)))
        elif descriptor.server_streaming:
            call = channel.unary_stream(path)(request.messages[0], **options)
        else:
            return Answer("OK", "", await channel.unary_unary(path)(request.messages[0], **options))
        async for message in call:
            last = message
        return Answer("OK", "", last)
    except grpc.aio.AioRpcError as error:
        return Answer(error.code().name, _told(error), last)


async def _each(messages: Iterable[bytes]) -> AsyncGenerator[bytes]:
    for message in messages:
        yield message


def _told(error: grpc.aio.AioRpcError) -> str:
    """Return everything that an error tells: its text, and what lies in its details."""
    told = [error.details() or ""]
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            with suppress(DecodeError):
                told.append(str(status_pb2.Status.FromString(value)))
        else:
            told.append(f"{key}: {value!r}")
    return "\n".join(told)


def fault_of(code: str, told: str, secrets: Iterable[str], *, endless: bool = False) -> str | None:
    """Return what is wrong with an answer, in words; None if nothing is.

    Args:
        code: name of the status.
        told: all text that came with it.
        secrets: texts that must not come back, for example folders of this machine.
        endless: whether the caller alone ends such a call.
    """
    if code in NEVER:
        return f"{code}: {told[:300]}"
    if code == "DEADLINE_EXCEEDED" and not endless:
        return f"no answer within {LONGEST:g} seconds"
    found = _LEAKS.search(told)
    leaked = found.group() if found else next((one for one in secrets if one and one in told), None)
    return None if leaked is None else f"tells {leaked!r}: {told[:300]}"


async def follow(request: Request, answer: Answer, channel: grpc.aio.Channel, secrets: Iterable[str]) -> str | None:
    """Look at work that was accepted, and stop it; return what was wrong with its end."""
    if not request.method.starts_work or answer.code != "OK":
        return None
    operation = operations_pb2.Operation.FromString(answer.message)
    stub = operations_pb2_grpc.OperationsStub(channel)
    wait = operations_pb2.WaitOperationRequest(name=operation.name, timeout=Duration(seconds=round(A_LOOK)))
    with suppress(grpc.aio.AioRpcError):
        operation = await stub.WaitOperation(wait, timeout=LONGEST)
    if not operation.done:
        with suppress(grpc.aio.AioRpcError):
            await stub.CancelOperation(operations_pb2.CancelOperationRequest(name=operation.name), timeout=LONGEST)
        return None
    code = next(one.name for one in grpc.StatusCode if one.value[0] == operation.error.code)
    fault = fault_of(code, str(operation.error), secrets)
    return fault and f"its work ended with {fault}"


async def past_grpc(address: str, draw: random.Random) -> str:
    """Send bytes straight to a port, and return how it took them."""
    host, port = address.rsplit(":", 1)
    junk = draw.randbytes(draw.choice((1, 9, 100, 5000)))
    sent = draw.choice((junk, _PREFACE + junk, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + junk, b"\x16\x03\x01" + junk))
    try:
        async with asyncio.timeout(LONGEST):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(sent)
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(0.05):
                    await reader.read(100)
            writer.close()
    except OSError:
        return "REFUSED"
    return "TAKEN"


class Fuzzer:
    """Sends requests to servers and judges their answers."""

    def __init__(self, seed: int, addresses: Iterable[str], words: Words, secrets: Iterable[str]) -> None:
        self._seed = seed
        self._addresses = tuple(addresses)
        self._words = words
        self._secrets = tuple(secrets)
        self.methods: list[Method] = []
        """What is called, once it is entered."""

    async def __aenter__(self) -> Fuzzer:
        for address in self._addresses:
            self.methods += await methods_of(address)
        self._channels = {address: open_channel(address, PLAIN) for address in self._addresses}
        return self

    async def __aexit__(self, *_: object) -> None:
        for channel in self._channels.values():
            await channel.close()

    async def batch(self, numbers: range, findings: Findings) -> None:
        """Send requests side by side; afterwards all servers must say that they serve."""
        gate = asyncio.Semaphore(TOGETHER)

        async def one(number: int) -> None:
            async with gate:
                await self._one(number, findings)

        await asyncio.gather(*(one(number) for number in numbers))
        for address in self._addresses:
            if not await asyncio.to_thread(is_serving, address, LONGEST):
                findings.faults.append(f"after request {numbers[-1]} the service at {address} does not serve")
        findings.done = numbers.stop

    async def _one(self, number: int, findings: Findings) -> None:
        draw = random.Random(f"{self._seed}/{number}/where")
        if draw.random() < 0.01:
            findings.note(WIRE, await past_grpc(draw.choice(self._addresses), draw), None, number)
            return
        request = request_for(self._seed, number, self.methods, self._words)
        channel = self._channels[request.method.address]
        answer = await send(request, channel)
        fault = fault_of(answer.code, answer.told, self._secrets, endless=request.method.endless)
        fault = fault or await follow(request, answer, channel, self._secrets)
        findings.note(request.method.path, answer.code, fault, number)


async def run_campaign(findings: Findings, file: Path, requests: int, folder: Path) -> None:
    """Send what is still to be sent."""
    async with supervised(folder / "logs") as supervisor:
        add_all(supervisor, folder / "home", threads=1)
        await supervisor.serving()
        addresses = {name: service.address for name, service in supervisor.services.items()}
        words = Words(await known_words(addresses["generator"]))
        async with Fuzzer(findings.seed, addresses.values(), words, (str(folder), str(ROOT))) as fuzzer:
            with Progress(disable=not sys.stderr.isatty()) as bar:
                task = bar.add_task("requests", total=requests, completed=findings.done)
                while findings.done < requests:
                    numbers = range(findings.done, min(requests, findings.done + BATCH))
                    await fuzzer.batch(numbers, findings)
                    findings.faults += _crashes(supervisor)
                    findings.write(file)
                    bar.update(task, completed=findings.done)


async def known_words(generator: str) -> tuple[str, ...]:
    """Return names of what there is: one real model, so that requests are not all refused at once."""
    with suppress(OuroscopeError):
        async with open_channel(generator, PLAIN) as channel:
            model = (await GeneratorClient(channel).import_model("ouro-tiny")).model
            return (str(model), model.digest)
    return ()


def _crashes(supervisor: Supervisor) -> list[str]:
    fallen = [name for name, service in supervisor.services.items() if service.starts > 1]
    for name in fallen:
        supervisor.services[name].starts = 1
    return [f"the {name} crashed; its log is {supervisor.services[name].log.name}" for name in fallen]


def main() -> None:
    """Run the campaign and print its sum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--result", type=Path, default=Path("benchmarks/fuzzing.json"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", default="", help="where homes and logs of the services lie; otherwise they go")
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    end_cleanly()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    findings = Findings.read(options.result, options.seed)
    with nullcontext(options.folder) if options.folder else tempfile.TemporaryDirectory() as folder:
        asyncio.run(run_campaign(findings, options.result, options.requests, Path(folder)))
    report(findings)


def report(findings: Findings) -> None:
    """Print what came of it."""
    total: Counter[str] = Counter()
    for codes in findings.counts.values():
        total += codes
    print(f"{findings.done} requests to {len(findings.counts)} methods: {_words(total)}")
    for name, codes in sorted(findings.counts.items()):
        print(f"  {name}: {_words(codes)}")
    print(f"{len(findings.faults)} faults")
    for fault in findings.faults[:100]:
        print(f"  {fault}")
    if findings.faults:
        raise SystemExit(1)


def _words(codes: Mapping[str, int]) -> str:
    return ", ".join(f"{code} {count}" for code, count in sorted(codes.items(), key=lambda one: -one[1]))


if __name__ == "__main__":
    main()
