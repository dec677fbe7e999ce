"""What TLS, tokens and limits cost one small call: the same calls, one arm after the other in every round.

`python -m benchmarks.security [ROUNDS]`; needs the extras `security` and `dev`.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from ouroscope.client import AnalyzerClient, Connection
from ouroscope.records.documents import Document
from ouroscope.security.connection import PLAIN
from ouroscope.security.roles import Role
from ouroscope.security.settings import Security, SecuritySettings, secured
from ouroscope.security.tokens import new_token
from ouroscope.settings import Secret
from ouroscope.store import ArtifactStore
from services.analyzer import service
from tests.certificates import Authority

DOCUMENTS = [Document(id=str(n), text="the cat sat on the mat and looked at the moon " * 3) for n in range(20)]
WARM_UP = 10
"""Rounds that do not count."""

Arm = tuple[Security, Connection]


def arms(folder: Path) -> dict[str, Arm]:
    """Return how servers are protected, and how they are reached."""
    authority, token = Authority("ca"), new_token("benchmark", Role.ADMIN)
    (folder / "ca.crt").write_bytes(authority.pem)
    (folder / "tokens.yaml").write_text(f"tokens:\n{token.line}\n")
    files = authority.issue("server").write(folder)
    tls = SecuritySettings(certificate=files.certificate, key=files.key)
    tokens = SecuritySettings(certificate=files.certificate, key=files.key, tokens=folder / "tokens.yaml")
    limits = SecuritySettings(
        certificate=files.certificate,
        key=files.key,
        tokens=folder / "tokens.yaml",
        calls_per_second=1e6,
        concurrent_calls=1000,
        bytes_per_second=1e12,
    )
    shown = Connection(ca=folder / "ca.crt", token=Secret(token.token))
    return {
        "plain": (Security(), PLAIN),
        "tls": (secured(tls), Connection(ca=folder / "ca.crt")),
        "tls, token": (secured(tokens), shown),
        "tls, token, limits": (secured(limits), shown),
    }


async def analyze(client: AnalyzerClient) -> None:
    """Measure twenty documents of thirty words."""
    await client.analyze(DOCUMENTS, metrics=["types"])


async def smallest(client: AnalyzerClient) -> None:
    """List the baselines, of which there are none."""
    async for _ in client.list_baselines():
        pass


async def timed(ask: Callable[[AnalyzerClient], Awaitable[None]], client: AnalyzerClient) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    await ask(client)
    return time.perf_counter() - start


async def measure(folder: Path, rounds: int) -> None:
    """Print the medians of all arms."""
    async with AsyncExitStack() as closing:
        clients, seconds = {}, {}
        for name, (security, connection) in arms(folder).items():
            running = await service.start(ArtifactStore(str(folder / "store" / name)), security=security)
            closing.push_async_callback(running.stop, 0.0)
            opened = AnalyzerClient.connect(running.address, connection=connection)
            clients[name] = await closing.enter_async_context(opened)
        for _ in range(rounds + WARM_UP):
            for name, client in clients.items():
                for ask in (analyze, smallest):
                    seconds.setdefault((name, ask.__name__), []).append(await timed(ask, client))
    for (name, ask_name), taken in seconds.items():
        print(f"{name:20} {ask_name:10} {1000 * statistics.median(taken[WARM_UP:]):7.2f} ms")


def main() -> None:
    """Run the benchmark."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(Path(folder), int(sys.argv[1]) if len(sys.argv) > 1 else 200))


if __name__ == "__main__":
    main()
