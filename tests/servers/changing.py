"""Servers whose weights can be changed: vLLM's routes for adapters, a server that is reloaded, and an API server.

The forms of vLLM are those of its routers (`load_lora_adapter`, `show_available_models`, `reset_prefix_cache`) and of
its filesystem resolver; those of Kubernetes are of apps/v1.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route


@dataclass(eq=False)
class AdapterServer:
    """One replica of vLLM with --enable-lora."""

    directory: Path
    """What the server sees as /models."""
    base: str = "llama"
    root: str = "/weights/llama"
    """What it was started with."""
    resolves: bool = False
    """Whether the filesystem resolver looks into the directory."""
    updates: bool = True
    """Whether VLLM_ALLOW_RUNTIME_LORA_UPDATING is set."""
    resets: list[int] | None = field(default_factory=list)
    """Number of adapters at each reset of the prefix cache; None where there is no such route."""
    held_blocks: int = 0
    """Resets that fail because requests still hold blocks."""
    loaded: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    """Routes and bodies of every request that changes something."""

    def restart(self) -> None:
        """Lose what was loaded."""
        self.loaded.clear()

    @property
    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/models", self._models),
                Route("/v1/load_lora_adapter", self._load, methods=["POST"]),
                Route("/v1/unload_lora_adapter", self._unload, methods=["POST"]),
                Route("/v1/completions", self._complete, methods=["POST"]),
                Route("/reset_prefix_cache", self._reset, methods=["POST"]),
            ]
        )

    async def _models(self, request: Request) -> Response:
        cards = [{"id": self.base, "object": "model", "root": self.root, "parent": None, "max_model_len": 96}]
        cards += [{"id": name, "root": path, "parent": self.base} for name, path in self.loaded.items()]
        return JSONResponse({"object": "list", "data": cards})

    async def _load(self, request: Request) -> Response:
        body = await self._noted(request)
        if not self.updates:
            return JSONResponse({"detail": "Not Found"}, 404)
        name, path = body["lora_name"], body["lora_path"]
        if name in self.loaded:
            return _refused(400, f"The lora adapter '{name}' has already been loaded.")
        if not self._read(path):
            return _refused(404, f"No adapter found for {path}")
        self.loaded[name] = path
        return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")

    async def _unload(self, request: Request) -> Response:
        body = await self._noted(request)
        if self.loaded.pop(body["lora_name"], None) is None:
            return _refused(404, f"The lora adapter '{body['lora_name']}' cannot be found.")
        return PlainTextResponse("Success")

    async def _complete(self, request: Request) -> Response:
        name = (await self._noted(request))["model"]
        if name not in (self.base, *self.loaded) and not self._resolved(name):
            return _refused(404, f"The model `{name}` does not exist.")
        return JSONResponse({"model": name, "choices": [{"index": 0, "text": "a", "finish_reason": "length"}]})

    async def _reset(self, request: Request) -> Response:
        if self.resets is None:
            return JSONResponse({"detail": "Not Found"}, 404)
        self.resets.append(len(self.loaded))
        if self.held_blocks:
            self.held_blocks -= 1
            return JSONResponse({"success": False})
        return JSONResponse({"success": True})

    async def _noted(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = await request.json()
        self.asked.append((request.url.path, body))
        return body

    def _resolved(self, name: str) -> bool:
        config = self._read(f"/models/{name}") if self.resolves else None
        if not config or config["peft_type"] != "LORA" or config["base_model_name_or_path"] != self.root:
            return False
        self.loaded[name] = f"/models/{name}"
        return True

    def _read(self, path: str) -> dict[str, Any] | None:
        folder = self.directory / path.removeprefix("/models/")
        if not (folder / "adapter_model.safetensors").is_file():
            return None
        config: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text())
        return config


@dataclass(eq=False)
class ReloadedServer:
    """A server that serves one directory at a time: TGI's /info, vLLM's /v1/models, and a route that changes it."""

    serves: str = "gpt2"
    name: str | None = None
    """Name for requests, if it is not the directory: --served-model-name."""
    loading: int = 0
    """Questions that are answered with 503 after a change, while weights are loaded."""
    status: int = 200
    """Of the route that changes it; anything but 200 changes nothing."""
    told: list[Any] = field(default_factory=list)
    """What the route was told."""
    down: int = 0

    @property
    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/info", self._info),
                Route("/v1/models", self._models),
                Route("/serve/{name}", self._serve, methods=["POST"]),
            ]
        )

    async def _info(self, request: Request) -> Response:
        return self._unless_down({"model_id": self.serves})

    async def _models(self, request: Request) -> Response:
        return self._unless_down({"object": "list", "data": [{"id": self.name or self.serves, "root": self.serves}]})

    async def _serve(self, request: Request) -> Response:
        body = await request.json()
        self.told.append((request.path_params["name"], body))
        if self.status == 200:
            self.serves, self.down = body["model"], self.loading
        return JSONResponse({"text": "a secret of the server"}, self.status)

    def _unless_down(self, content: Any) -> Response:
        if self.down:
            self.down -= 1
            return Response(status_code=503)
        return JSONResponse(content)


@dataclass(eq=False)
class ApiServer:
    """The part of a Kubernetes API server that knows one deployment."""

    deployment: dict[str, Any]
    token: str = "of the pod"
    progress: deque[dict[str, Any]] = field(default_factory=deque)
    """Status at each further look; the last one stays."""
    refuses: deque[int] = field(default_factory=deque)
    """Statuses that come instead of the next answers."""
    asked: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    """Method, path, headers and body of every request."""

    @property
    def app(self) -> Starlette:
        path = "/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
        return Starlette(routes=[Route(path, self._deployment, methods=["GET", "PATCH"])])

    async def _deployment(self, request: Request) -> Response:
        body = await request.body()
        told = json.loads(body) if body else None
        self.asked.append((request.method, request.url.path, dict(request.headers), told))
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return JSONResponse({"kind": "Status", "code": 401}, 401)
        if self.refuses:
            return JSONResponse({"kind": "Status", "message": "a secret"}, self.refuses.popleft())
        if request.path_params["name"] != self.deployment["metadata"]["name"]:
            return JSONResponse({"kind": "Status", "code": 404}, 404)
        if request.method == "PATCH":
            self._patch(told)
        elif self.progress:
            self.deployment["status"] = self.progress.popleft()
        return JSONResponse(self.deployment)

    def _patch(self, told: Any) -> None:
        """Merge the annotations of the pods; as in Kubernetes, only a change begins a new generation."""
        annotations = self.deployment["spec"]["template"]["metadata"].setdefault("annotations", {})
        before = dict(annotations)
        annotations.update(told["spec"]["template"]["metadata"]["annotations"])
        if annotations != before:
            self.deployment["metadata"]["generation"] += 1


def _refused(status: int, message: str) -> Response:
    return JSONResponse({"error": {"message": message, "type": "error", "code": status}}, status)
