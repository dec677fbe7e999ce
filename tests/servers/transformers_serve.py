"""A real server of OpenAI's kind: `transformers serve`, on the processor, without a network, a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx

from tests.servers.waiting import wait_until

MODEL = "ouro/tiny"
_COMMIT = "0" * 40


@contextmanager
def transformers_serve(model: Path, folder: Path) -> Iterator[str]:
    """Serve the model under the name MODEL; yields the address.

    The server lists and loads what lies in the cache of the Hub, so the model is put into a cache in `folder`. There it
    says that text is drawn: else this server would take the likeliest token whatever temperature is asked for.
    """
    _cache(model, folder)
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", "--host", "127.0.0.1"]
    settings = {"HF_HUB_CACHE": str(folder), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--device", "cpu", "--dtype", "float32"],
            env={**os.environ, **settings},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: _writes(f"http://127.0.0.1:{port}", process, folder / "log.txt"), seconds=900)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _cache(model: Path, folder: Path) -> None:
    repository = folder / f"models--{MODEL.replace('/', '--')}"
    snapshot = repository / "snapshots" / _COMMIT
    shutil.copytree(model, snapshot)
    for name in ("refs", "blobs"):
        (repository / name).mkdir()
    (repository / "refs/main").write_text(_COMMIT)
    told = json.loads((snapshot / "generation_config.json").read_text())
    (snapshot / "generation_config.json").write_text(json.dumps({**told, "do_sample": True, "top_k": 0}))


def _writes(url: str, process: subprocess.Popen[bytes], log: Path) -> bool:
    """Return whether it has written a token. It is healthy long before: the model is loaded when it is asked for."""
    assert process.poll() is None, log.read_text()[-2000:]
    try:
        asked = {"model": MODEL, "prompt": "The", "max_tokens": 1}
        return httpx.post(f"{url}/v1/completions", json=asked, timeout=600).is_success
    except httpx.TransportError:
        return False
