"""The parts of a Kubernetes cluster that a Job needs: its API, its controller, and a node whose pods are processes.

The forms are those of batch/v1 and v1 (`JobStatus`, `PodStatus`, the log subresource). Nothing happens by itself: who
asks sees what came of the processes until then.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Object = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
TOKEN = "a-token-of-the-trainer"
JOBS, PODS = "/apis/batch/v1/namespaces/{namespace}/jobs", "/api/v1/namespaces/{namespace}/pods"
VERBS = {"POST": "create", "GET": "get", "DELETE": "delete"}


@dataclass(eq=False)
class Pod:
    """A process that is a pod."""

    name: str
    job: Object
    folder: Path
    number: int
    process: subprocess.Popen[bytes] | None = None
    """None while it has no node, or no image."""
    leaving: bool = False
    killed_for: str = ""

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def begin(self) -> None:
        """Start the program of the container with the variables of the container, and no others of ours."""
        (container,) = self.job["spec"]["template"]["spec"]["containers"]
        told = {one["name"]: one["value"] for one in container["env"] if "value" in one}
        here = {name: value for name, value in os.environ.items() if not name.startswith("OURO_")}
        program = [sys.executable if word == "python" else word for word in container["command"]]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                program,
                env={**here, "PYTHONPATH": str(ROOT), **told},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def end(self, number: int = signal.SIGTERM) -> None:
        """Send a signal, if there is a process that could get it."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)

    @property
    def status(self) -> int | None:
        return self.process.poll() if self.process else None

    @property
    def over(self) -> bool:
        """Whether it has ended; one that never began ends when it is told to."""
        return self.status is not None if self.process else self.leaving


@dataclass(eq=False)
class Cluster:
    """What a test may change while it runs."""

    folder: Path
    allowed: set[tuple[str, str]] | None = None
    """Verbs and resources that the account may; None is all."""
    quota: bool = True
    """Whether a queue lets Jobs begin; otherwise they are suspended as they are made, as Kueue does."""
    unschedulable: str = ""
    """What the scheduler says, where there is no node."""
    waits: str = ""
    """Why a container cannot begin."""
    refuses: deque[int] = field(default_factory=deque)
    """Statuses that come instead of the next answers."""
    lost_answers: int = 0
    """Jobs that are made although the answer says that something failed."""
    cut_logs: int = 0
    """Logs whose connection breaks in the middle."""
    jobs: dict[str, Object] = field(default_factory=dict)
    pods: list[Pod] = field(default_factory=list)
    used: set[tuple[str, str]] = field(default_factory=set)
    """Verbs and resources that were asked for."""
    made: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.RLock()

    @property
    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route(JOBS, self._route("jobs", self._create), methods=["POST"]),
                Route(f"{JOBS}/{{name}}", self._route("jobs", self._job), methods=["GET", "DELETE"]),
                Route(PODS, self._route("pods", self._pods), methods=["GET"]),
                Route(f"{PODS}/{{name}}/log", self._route("pods/log", self._log), methods=["GET"]),
            ]
        )

    def at_work(self) -> list[Pod]:
        """Return the pods whose process runs."""
        with self._lock:
            self.reconcile()
            return [pod for pod in self.pods if pod.process and not pod.over]

    def kill(self, word: str = "") -> None:
        """Kill the pods that run; `word` is what the node says of it."""
        for pod in self.at_work():
            pod.killed_for = word
            pod.end(signal.SIGKILL)

    def preempt(self) -> None:
        """Suspend all Jobs, as a queue does that takes its quota back: their pods are told to end."""
        with self._lock:
            self.quota = False
            for job in self.jobs.values():
                job["spec"]["suspend"] = True
                self._leave(job)

    def admit(self) -> None:
        """Let all Jobs begin."""
        with self._lock:
            self.quota = True
            for job in self.jobs.values():
                job["spec"]["suspend"] = False

    def lose_logs(self) -> None:
        """Forget the pods of Jobs that have ended."""
        with self._lock:
            self.pods = [pod for pod in self.pods if not pod.over]

    def close(self) -> None:
        """Let no process outlive the test."""
        for pod in self.pods:
            pod.end(signal.SIGKILL)
            if pod.process:
                pod.process.wait()

    def reconcile(self) -> None:
        """Do what the Job controller does when it sees what has become of the pods."""
        with self._lock:
            self.pods = [pod for pod in self.pods if not (pod.leaving and pod.over)]
            for job in self.jobs.values():
                self._step(job)

    def _step(self, job: Object) -> None:
        status, spec = job["status"], job["spec"]
        mine = [pod for pod in self.pods if pod.job is job and not pod.leaving]
        failed = [pod for pod in mine if pod.status]
        status["failed"] = len(failed)
        if status.get("conditions") or spec.get("suspend"):
            return
        if any(pod.status == 0 for pod in mine):
            status["conditions"] = [{"type": "Complete", "status": "True"}]
        elif len(failed) > spec["backoffLimit"]:
            status["conditions"] = [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]
        elif not [pod for pod in self.pods if pod.job is job and not pod.over]:
            self._begin(job)
        for pod in mine:
            if pod.process is None and not (self.unschedulable or self.waits):
                pod.begin()

    def _begin(self, job: Object) -> None:
        self.made += 1
        pod = Pod(f"{job['metadata']['name']}-{self.made:05d}", job, self.folder, self.made)
        self.pods.append(pod)
        if not (self.unschedulable or self.waits):
            pod.begin()

    def _leave(self, job: Object) -> None:
        for pod in self.pods:
            if pod.job is job and not pod.over:
                pod.leaving = True
                pod.end()

    def _route(self, resource: str, answer: Any) -> Any:
        async def endpoint(request: Request) -> Response:
            verb = "list" if resource == "pods" else VERBS[request.method]
            body = await request.body()
            if request.headers.get("authorization") != f"Bearer {TOKEN}":
                return _status(401, "Unauthorized")
            self.used.add((verb, resource))
            if self.allowed is not None and (verb, resource) not in self.allowed:
                return _status(403, "Forbidden")
            if self.refuses:
                return _status(self.refuses.popleft(), "InternalError")
            return await run_in_threadpool(self._answered, answer, request, json.loads(body) if body else {})

        return endpoint

    def _answered(self, answer: Any, request: Request, body: Object) -> Response:
        with self._lock:
            self.reconcile()
            response: Response = answer(request, body)
            return response

    def _create(self, request: Request, body: Object) -> Response:
        name = body["metadata"]["name"]
        if name in self.jobs:
            return _status(409, "AlreadyExists")
        self.made += 1
        body["metadata"] |= {"uid": f"uid-{self.made}", "creationTimestamp": _now()}
        body["spec"]["suspend"] = not self.quota
        body["status"] = {}
        self.jobs[name] = body
        if self.lost_answers:
            self.lost_answers -= 1
            return _status(500, "InternalError")
        return JSONResponse(body, 201)

    def _job(self, request: Request, body: Object) -> Response:
        name = request.path_params["name"]
        job = self.jobs.get(name)
        if job is None:
            return _status(404, "NotFound")
        if request.method == "DELETE":
            if body["preconditions"]["uid"] != job["metadata"]["uid"]:
                return _status(409, "Conflict")
            assert body["propagationPolicy"] == "Background"
            del self.jobs[name]
            self._leave(job)
        return JSONResponse(job)

    def _pods(self, request: Request, body: Object) -> Response:
        label, _, name = request.query_params["labelSelector"].partition("=")
        assert label == "batch.kubernetes.io/job-name"
        found = [self._pod(pod) for pod in self.pods if pod.job["metadata"]["name"] == name]
        return JSONResponse({"kind": "PodList", "items": found})

    def _pod(self, pod: Pod) -> Object:
        owner = {"kind": "Job", "uid": pod.job["metadata"]["uid"]}
        metadata = {"name": pod.name, "creationTimestamp": f"{pod.number:010d}", "ownerReferences": [owner]}
        if pod.process is None:
            return {"metadata": metadata, "status": self._pending()}
        phase = "Running" if pod.status is None else ("Failed" if pod.status else "Succeeded")
        state: Object = {"running": {}}
        if pod.status is not None:
            word = pod.killed_for or ("Error" if pod.status else "Completed")
            state = {"terminated": {"exitCode": pod.status if pod.status >= 0 else 128 - pod.status, "reason": word}}
        return {
            "metadata": metadata,
            "status": {"phase": phase, "containerStatuses": [{"name": "training", "state": state}]},
        }

    def _pending(self) -> Object:
        if self.unschedulable:
            placed = {"type": "PodScheduled", "status": "False", "message": self.unschedulable}
            return {"phase": "Pending", "conditions": [placed]}
        state = {"waiting": {"reason": self.waits}}
        return {"phase": "Pending", "containerStatuses": [{"name": "training", "state": state}]}

    def _log(self, request: Request, body: Object) -> Response:
        pod = next((pod for pod in self.pods if pod.name == request.path_params["name"]), None)
        if pod is None or not pod.log.exists():
            return _status(404, "NotFound")
        lines = pod.log.read_bytes().splitlines(keepends=True)
        text = b"".join(lines[-int(request.query_params["tailLines"]) :])
        if self.cut_logs and text:
            self.cut_logs -= 1
            return _Cut(text)
        return Response(text, media_type="text/plain")


class _Cut(Response):
    """Sends half of the body and lets the connection break."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", str(len(self.body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": bytes(self.body[: len(self.body) // 2]), "more_body": True})
        raise ConnectionAbortedError


def _status(code: int, reason: str) -> Response:
    return JSONResponse({"kind": "Status", "code": code, "reason": reason, "message": "a secret"}, code)


def _now() -> str:
    return datetime.now(UTC).isoformat()
