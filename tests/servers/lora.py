"""A stand-in for vLLM with --enable-lora that runs what it loads: the base and adapters, by transformers and peft."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import PeftModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tests.servers.language import Language
from tests.servers.stand_in import StandIn


class LoraStandIn(StandIn):
    """One replica. It sees the exported adapters where the generator puts them."""

    def __init__(self, base: Path, name: str) -> None:
        super().__init__({name: Language(base)}, roots={name: "/weights/base"})
        self._base = base
        self.loads: list[str] = []
        """Names of the adapters, in the order in which they were loaded."""
        self.resets = 0

    @property
    def application(self) -> Starlette:
        changing = [
            Route("/v1/load_lora_adapter", self._load, methods=["POST"]),
            Route("/reset_prefix_cache", self._reset, methods=["POST"]),
        ]
        return Starlette(routes=[*super().application.routes, *changing])

    async def _load(self, request: Request) -> Response:
        body: dict[str, Any] = await request.json()
        name, path = body["lora_name"], body["lora_path"]
        adapted = Language(self._base)
        adapted._model = PeftModel.from_pretrained(adapted._model, path).double().eval()
        self.models[name], self.roots[name] = adapted, path
        self.loads.append(name)
        return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")

    async def _reset(self, request: Request) -> Response:
        self.resets += 1
        return JSONResponse({"success": True})
