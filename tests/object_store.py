"""An S3 that answers over real HTTP: moto's server as a process, and a proxy in front of it that makes trouble."""

from __future__ import annotations

import asyncio
import io
import re
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
_RUNNING = re.compile(r"Running on (http://127\.0\.0\.1:\d+)")
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "te", "upgrade", "expect"}


class ObjectStore:
    """moto's server, on a free port, with buckets in its memory."""

    def __init__(self) -> None:
        command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.endpoint = self._address()
        # Its log of requests is read and dropped: a full pipe would stop it.
        self._reader = threading.Thread(target=self._drain)
        self._reader.start()

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def bucket(self) -> str:
        """Make an empty bucket and return its name."""
        name = f"test-{uuid.uuid4().hex}"
        asyncio.run(_request("PUT", f"{self.endpoint}/{name}"))
        return name

    def _address(self) -> str:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if found := _RUNNING.search(line):
                return found.group(1)
        raise AssertionError("moto's server ended before it answered")

    def _drain(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as log:
            for _ in log:
                pass


@dataclass
class Fault:
    """What happens to the next requests of a method: `times` of them, those of a path that contains `where`."""

    kind: str
    """A status such as `503`; `slow`; `cut`, the connection ends before the request is passed on; `lost`, after that;
    `torn`, in the middle of the answer."""
    times: int = 1
    method: str = ""
    where: str = ""
    code: str = "SlowDown"


@dataclass
class FaultProxy:
    """Passes requests on to `target`, except where a fault is due. Runs in a thread of its own."""

    target: str
    faults: list[Fault] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    """Requests, by method."""
    headers: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Their methods and headers."""
    parts: int = 0
    """Parts of uploads that came."""
    slow: float = 1.5
    """Seconds that a slow answer takes."""

    def __enter__(self) -> FaultProxy:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.endpoint = self._do(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._runner.cleanup())
        self._do(self._session.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Awaitable[str | None]) -> str:
        async def done() -> str:
            return await work or ""

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result(30)

    async def _start(self) -> str:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._session = aiohttp.ClientSession(auto_decompress=False)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.seen[request.method] += 1
        self.headers.append((request.method, dict(request.headers)))
        self.parts += "partNumber=" in request.raw_path
        body = await request.read()
        fault = self._due(request)
        if fault and fault.kind == "slow":
            await asyncio.sleep(self.slow)
        elif fault and fault.kind == "cut":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        elif fault and fault.kind.isdigit():
            told = f"<Error><Code>{fault.code}</Code><Message>trouble</Message></Error>"
            return web.Response(status=int(fault.kind), text=told, content_type="application/xml")
        return await self._passed_on(request, body, fault.kind if fault else "")

    async def _passed_on(self, request: web.Request, body: bytes, fault: str) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        url = self.target + request.raw_path
        async with self._session.request(
            request.method, _exactly(url), headers=headers, data=io.BytesIO(body)
        ) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
            data = await answer.read()
            if request.method == "HEAD":
                kept["Content-Length"] = answer.headers.get("Content-Length", "0")
                return web.Response(status=answer.status, headers=kept)
            if fault == "lost":
                assert request.transport is not None
                request.transport.abort()
            if fault == "torn":
                return await _torn(request, answer.status, kept, data)
            return web.Response(status=answer.status, headers=kept, body=data)

    def _due(self, request: web.Request) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and fault.method in ("", request.method) and fault.where in request.raw_path:
                fault.times -= 1
                return fault
        return None


def _exactly(url: str) -> object:
    import yarl

    return yarl.URL(url, encoded=True)


async def _torn(request: web.Request, status: int, headers: dict[str, str], data: bytes) -> web.StreamResponse:
    """Promise everything, send half, and go."""
    response = web.StreamResponse(status=status, headers={**headers, "Content-Length": str(len(data))})
    await response.prepare(request)
    await response.write(data[: len(data) // 2])
    assert request.transport is not None
    request.transport.abort()
    return response


async def _request(method: str, url: str) -> None:
    async with aiohttp.ClientSession() as session, session.request(method, url) as answer:
        assert answer.status < 300, await answer.text()
