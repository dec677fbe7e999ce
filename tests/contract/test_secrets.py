"""A marked secret in every place that may hold one, through errors of every kind: it is in no log, answer or argument.

The tokens of callers and the keys of certificates are in `test_security.py`, wrong settings in `test_doctor.py` and
`test_coordinator_settings.py`, answers of inference servers in the tests of the generator.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from ouroscope.client import CoordinatorClient, GeneratorClient, open_channel
from ouroscope.errors import OuroscopeError
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.store import ArtifactStore
from ouroscope.telemetry.logs import configure_logs
from services.generator import service as generator
from services.generator.backends import Unusable
from services.generator.declared import DeclaredBackend, ServerKind, Weights
from tests.postgres import PostgresServer

SECRET = "xyzzy-marked-secret"
Begin = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def coordinator(tmp_path: Path, root: Path) -> Iterator[Begin]:
    """Start coordinators on a database, as processes that log everything."""
    started = []

    def begin(database: str) -> subprocess.Popen[str]:
        free = {"ADDRESS": "127.0.0.1:0", "METRICS_ADDRESS": "127.0.0.1:0", "PAGE_ADDRESS": "127.0.0.1:0"}
        told = {**free, "HOME": str(tmp_path), "DATABASE": database, "LOG_LEVEL": "debug", "GRACE": "0"}
        environ = {**os.environ, **{f"OURO_COORDINATOR_{name}": value for name, value in told.items()}}
        command = [sys.executable, "-m", "services.coordinator"]
        started.append(subprocess.Popen(command, cwd=root, env=environ, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def read_until(running: subprocess.Popen[str], name: str) -> str:
    """Return what a process has logged up to an event."""
    assert running.stderr is not None
    read = []
    for line in running.stderr:
        read.append(line)
        if json.loads(line)["event"] == name:
            return "".join(read)
    raise AssertionError(f"the process ended without {name}")


def test_a_coordinator_that_cannot_have_its_database_does_not_tell_its_address(coordinator: Begin) -> None:
    _, logs = coordinator(f"postgresql://me:{SECRET}@127.0.0.1:1/runs").communicate(timeout=280)
    assert "process.not_started" in logs
    assert SECRET not in logs
    assert "Traceback" not in logs


async def test_a_coordinator_does_not_tell_the_address_of_a_database_that_comes_and_goes(
    coordinator: Begin, postgresql: PostgresServer
) -> None:
    url = postgresql.database()
    running = coordinator(url.replace("ouroscope@", f"ouroscope:{SECRET}@"))
    logs = await asyncio.to_thread(read_until, running, "rpc.serving")
    address = json.loads(logs.splitlines()[-1])["address"]
    arguments = Path(f"/proc/{running.pid}/cmdline").read_text()
    with psycopg.connect(url, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid()"
        )
    logs += await asyncio.to_thread(read_until, running, "lock.unreachable")
    async with open_channel(address) as channel:
        with pytest.raises(OuroscopeError) as caught:
            await CoordinatorClient(channel).get_run("runs/none")
    running.terminate()
    assert running.stderr is not None
    logs += await asyncio.to_thread(running.stderr.read)
    assert SECRET not in f"{logs}{arguments}{caught.value!r}{caught.value.metadata}"


async def test_a_generator_does_not_tell_the_tokens_of_servers_and_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("POOL_TOKEN", "HF_TOKEN"):
        monkeypatch.setenv(name, SECRET)
    logs, store = io.StringIO(), ArtifactStore(tmp_path)
    configure_logs(json=True, level="debug", stream=logs)
    model = store.publish(ArtifactKind.MODEL, None, {"config.json": b"{}"})
    pool = DeclaredBackend(
        name="pool",
        kind=ServerKind.VLLM,
        urls=("http://127.0.0.1:1",),
        token_variable="POOL_TOKEN",
        weights=Weights.FIXED,
        base=model,
        served_name="one",
        attempts=1,
    )
    told = []
    running = await generator.start(store, backend=Unusable("none", "openai", "not here"), declared=[pool])
    try:
        async with open_channel(running.address) as channel:
            client = GeneratorClient(channel)
            told.append(repr(await client.list_backends()))
            prompts = ArtifactRef(ArtifactKind.CORPUS, "0" * 64)
            for failing in (client.import_model("owner/name"), client.get_model(prompts)):
                with pytest.raises(OuroscopeError) as caught:
                    await failing
                told.append(f"{caught.value!r} {caught.value.metadata}")
    finally:
        await running.stop(0)
    assert "cannot be reached" in told[0]
    assert SECRET not in logs.getvalue() + "".join(told)
