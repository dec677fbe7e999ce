"""A node of a real cluster whose pods are processes of this machine: as much of a kubelet as Jobs need."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ouroscope.security.certificates import TlsFiles
from tests.servers.waiting import wait_until

Object = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
NAME = "this-machine"
MERGE = {"Content-Type": "application/merge-patch+json"}
_STEP = 0.1


@dataclass(eq=False)
class Node:
    """Runs the pods of one namespace that are bound to it. Their programs are `python`; nothing is isolated."""

    client: httpx.Client
    """Of whoever may do everything."""
    namespace: str
    folder: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    """By the name of the pod."""
    _told: dict[str, str] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)

    @property
    def app(self) -> Starlette:
        """What the API server asks for logs."""
        return Starlette(routes=[Route("/containerLogs/{namespace}/{pod}/{container}", self._log)])

    def join(self, port: int) -> None:
        """Tell the cluster of this node."""
        self.client.post("/api/v1/nodes", json={"metadata": {"name": NAME}}).raise_for_status()
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        }
        answer = self.client.patch(f"/api/v1/nodes/{NAME}/status", json={"status": status}, headers=MERGE)
        answer.raise_for_status()

    def work(self) -> None:
        """Do what the cluster wants, until it is closed."""
        while not self._over.wait(_STEP):
            params = {"fieldSelector": f"spec.nodeName={NAME}"}
            for pod in self.client.get(self._pods, params=params).json()["items"]:
                self._attend(pod)

    def kill(self) -> None:
        """Kill every program that runs."""
        for process in list(self.processes.values()):
            process.kill()

    def close(self) -> None:
        """Leave no process behind."""
        self._over.set()
        self.kill()

    @property
    def _pods(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods"

    def _attend(self, pod: Object) -> None:
        name = pod["metadata"]["name"]
        if name not in self.processes:
            self.processes[name] = self._begun(pod)
        process, leaving = self.processes[name], "deletionTimestamp" in pod["metadata"]
        if leaving and process.poll() is None:
            process.send_signal(signal.SIGTERM)
        if process.poll() is None:
            self._tell(name, "Running", {"running": {}})
        else:
            self._tell(name, "Failed" if process.returncode else "Succeeded", {"terminated": _ending(process)})
        if leaving and process.poll() is not None:
            self.client.request("DELETE", f"{self._pods}/{name}", json={"gracePeriodSeconds": 0})

    def _begun(self, pod: Object) -> subprocess.Popen[bytes]:
        (container,) = pod["spec"]["containers"]
        told = {one["name"]: one["value"] for one in container["env"]}
        here = {name: value for name, value in os.environ.items() if not name.startswith("OURO_")}
        program = [sys.executable if word == "python" else word for word in container["command"]]
        with (self.folder / pod["metadata"]["name"]).open("wb") as log:
            return subprocess.Popen(
                program,
                env={**here, "PYTHONPATH": str(ROOT), **told},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _tell(self, name: str, phase: str, state: Object) -> None:
        if self._told.get(name) == phase:
            return
        self._told[name] = phase
        container = {"name": "training", "image": "x", "imageID": "x", "restartCount": 0, "state": state}
        container["ready"] = phase == "Running"
        told = {"status": {"phase": phase, "containerStatuses": [container]}}
        self.client.patch(f"{self._pods}/{name}/status", json=told, headers=MERGE)

    def _log(self, request: Request) -> Response:
        lines = (self.folder / request.path_params["pod"]).read_text().splitlines(keepends=True)
        return PlainTextResponse("".join(lines[-int(request.query_params["tailLines"]) :]))


def _ending(process: subprocess.Popen[bytes]) -> Object:
    code = process.returncode
    return {"exitCode": code if code >= 0 else 128 - code, "reason": "Error" if code else "Completed"}


@contextmanager
def joined(node: Node, tls: TlsFiles) -> Iterator[Node]:
    """Let a node work in a cluster, its logs behind TLS as of every kubelet."""
    config = uvicorn.Config(
        node.app,
        host="127.0.0.1",
        port=0,
        log_config=None,
        ws="none",
        lifespan="off",
        ssl_certfile=str(tls.certificate),
        ssl_keyfile=str(tls.key),
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    threads = [threading.Thread(target=work, daemon=True) for work in (server.run, node.work)]
    threads[0].start()
    wait_until(lambda: server.started)
    node.join(server.servers[0].sockets[0].getsockname()[1])
    threads[1].start()
    try:
        yield node
    finally:
        node.close()
        server.should_exit = True
        for thread in threads:
            thread.join()
        for process in node.processes.values():
            process.wait()
        with suppress(httpx.HTTPError):
            node.client.delete(f"/api/v1/nodes/{NAME}")
