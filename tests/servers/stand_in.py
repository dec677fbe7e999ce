"""A server that speaks OpenAI's completions and vLLM's additions, with true numbers, and fails when it is told to.

The forms of requests and answers are those of vLLM's published protocol (`CompletionRequest`, `CompletionResponse`).
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.servers.language import Language
from tests.servers.running import running


class Fault(Enum):
    """What goes wrong with one answer."""

    NONE = "none"
    BUSY = "429"
    STARTING = "503"
    FAILED = "500"
    DROPPED = "the connection is lost in the middle of the answer"
    TRUNCATED = "half of the JSON"
    HANG = "no answer"
    OVERSIZED = "an answer without end"
    FORBIDDEN = "401"
    REFUSED = "400"
    NO_ROUTE = "404 of a route"
    REDIRECT = "another address"


class StandIn:
    """What the server serves and does; tests change it while it runs."""

    def __init__(self, models: dict[str, Language], *, roots: dict[str, str] | None = None) -> None:
        self.models = models
        self.hidden: dict[str, Language] = {}
        """Served although the list does not name them."""
        self.roots = roots or {}
        """Path of the weights, as `/v1/models` tells it."""
        self.faults: deque[Fault] = deque()
        """Of the next answers to completions, in their order."""
        self.always = Fault.NONE
        """Of all answers to completions after these."""
        self.retry_after: str | None = None
        self.without_logprobs = False
        self.token: str | None = None
        self.max_logprobs = 1000
        self.takes_tokens = True
        self.before: Callable[[int], None] = lambda number: None
        """Called with the number of the request, from 0, before it is answered."""
        self.forge: Callable[[dict[str, Any]], dict[str, Any]] = lambda answer: answer
        """Changes a completion before it is sent."""
        self.asked: list[dict[str, Any]] = []
        """Every request for a completion."""
        self.in_flight = self.most_in_flight = self.broken_off = 0
        self._changing = threading.Lock()

    @property
    def application(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/models", self._list),
                Route("/v1/completions", self._guarded(self._complete), methods=["POST"]),
            ]
        )

    async def _list(self, request: Request) -> Response:
        cards = [
            {"id": name, "object": "model", "root": self.roots.get(name, name), "max_model_len": language.context}
            for name, language in self.models.items()
        ]
        return JSONResponse({"object": "list", "data": cards})

    def _guarded(self, answer: Callable[[dict[str, Any]], Any]) -> Callable[[Request], Awaitable[Response]]:
        """Return the endpoint that answers, or fails if it is its turn."""

        async def endpoint(request: Request) -> Response:
            body = await request.json()
            with self._changing:
                number = len(self.asked)
                self.asked.append(body)
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                fault = self.faults.popleft() if self.faults else self.always
            try:
                self.before(number)
                return await self._answered(request, fault, answer, body)
            finally:
                self.in_flight -= 1

        return endpoint

    async def _answered(
        self, request: Request, fault: Fault, answer: Callable[[dict[str, Any]], Any], body: dict[str, Any]
    ) -> Response:
        if self.token is not None and request.headers.get("authorization") != f"Bearer {self.token}":
            return _error(401, "Unauthorized")
        if fault is not Fault.NONE and fault in _REFUSALS:
            headers = {"retry-after": self.retry_after} if self.retry_after else None
            return _error(_REFUSALS[fault], "no", headers=headers)
        if fault is Fault.NO_ROUTE:
            return JSONResponse({"detail": "Not Found"}, status_code=404)
        if fault is Fault.REDIRECT:
            return Response(status_code=307, headers={"location": "http://127.0.0.1:9/elsewhere"})
        if fault is Fault.HANG:
            await self._until_gone(request)
        if fault is Fault.OVERSIZED:
            return StreamingResponse(_without_end(), media_type="application/json")
        if body.get("model") not in self.models | self.hidden:
            return _error(404, f"The model `{body.get('model')}` does not exist.")
        try:
            text = json.dumps(self.forge(await run_in_threadpool(answer, body))).encode()
        except Refusal as refusal:
            return _error(400, str(refusal))
        if fault is Fault.TRUNCATED:
            return Response(text[: len(text) // 2], media_type="application/json")
        if fault is Fault.DROPPED:
            return _Dropped(text, media_type="application/json")
        return Response(text, media_type="application/json")

    async def _until_gone(self, request: Request) -> None:
        while not await request.is_disconnected():
            await asyncio.sleep(0.02)
        self.broken_off += 1

    def _complete(self, body: dict[str, Any]) -> dict[str, Any]:
        language = (self.models | self.hidden)[body["model"]]
        if not isinstance(body["prompt"], str) and not self.takes_tokens:
            raise Refusal("prompt must be a string.")
        ids = language.encode(body["prompt"]) if isinstance(body["prompt"], str) else body["prompt"]
        return self._choice(language, body, ids)

    def _choice(self, language: Language, body: dict[str, Any], ids: list[int]) -> dict[str, Any]:
        asked = [body[key] for key in ("logprobs", "prompt_logprobs") if body.get(key) is not None]
        if max(asked, default=0) > self.max_logprobs:
            raise Refusal(f"Requested more than the maximum of {self.max_logprobs} logprobs")
        if len(ids) + body["max_tokens"] > language.context:
            raise Refusal(f"This model's maximum context length is {language.context} tokens.")
        new = language.draw(ids, body)
        ended = bool(new) and new[-1] == language.tokenizer.eos_token_id
        choice: dict[str, Any] = {
            "index": 0,
            "text": (language.decode(ids) if body.get("echo") else "") + language.decode(new),
            "logprobs": None,
            "finish_reason": "stop" if ended else "length",
            "token_ids": new if body.get("return_token_ids") else None,
            "prompt_logprobs": None,
        }
        if not self.without_logprobs:
            choice |= self._numbers(language, body, ids, new)
        usage = {"prompt_tokens": len(ids), "completion_tokens": len(new), "total_tokens": len(ids) + len(new)}
        return {
            "id": "cmpl-0",
            "object": "text_completion",
            "model": body["model"],
            "choices": [choice],
            "usage": usage,
        }

    def _numbers(self, language: Language, body: dict[str, Any], ids: list[int], new: list[int]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        log_TV = language.log_probabilities([*ids, *new])
        if (count := body.get("prompt_logprobs")) is not None:
            found["prompt_logprobs"] = [
                None,
                *(_vllm_entry(language, log_TV[place - 1], ids[place], count) for place in range(1, len(ids))),
            ]
        if (count := body.get("logprobs")) is not None:
            begin = 0 if body.get("echo") else len(ids)
            places, whole = range(begin, len(ids) + len(new)), [*ids, *new]
            plain = not body.get("return_tokens_as_token_ids")
            found["logprobs"] = {
                "tokens": [language.name(whole[place]) for place in places],
                "token_logprobs": [float(log_TV[place - 1][whole[place]]) if place else None for place in places],
                "top_logprobs": [
                    _top(language, log_TV[place - 1], count, plain) if place else None for place in places
                ],
                "text_offset": [0 for _ in places],
            }
        return found


class Refusal(Exception):
    """What the server answers with 400."""


class _Dropped(Response):
    """Sends half of the body and lets the connection break."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(self.body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": bytes(self.body[: len(self.body) // 2]), "more_body": True})
        # An answer that ends before its length: the server closes the connection.
        raise ConnectionAbortedError


@contextmanager
def serving(stand_in: StandIn) -> Iterator[str]:
    """Run the server; yields its address."""
    with running(stand_in.application) as url:
        yield url


_REFUSALS = {
    Fault.BUSY: 429,
    Fault.STARTING: 503,
    Fault.FAILED: 500,
    Fault.FORBIDDEN: 401,
    Fault.REFUSED: 400,
}


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": {"message": message, "code": status}}, status_code=status, headers=headers)


async def _without_end() -> Any:
    yield b'{"choices": ["'
    while True:
        yield b"x" * 65_536
        await asyncio.sleep(0)


def _vllm_entry(language: Language, log_V: Any, token: int, count: int) -> dict[str, Any]:
    """Return what vLLM says of one prompt token: itself with its rank, and the first choices."""
    first = log_V.topk(count).indices.tolist() if count else []
    return {
        str(each): {
            "logprob": float(log_V[each]),
            "rank": int((log_V >= log_V[each]).sum()),
            "decoded_token": language.name(each),
        }
        for each in dict.fromkeys([token, *first])
    }


def _top(language: Language, log_V: Any, count: int, plain: bool) -> dict[str, float]:
    found = log_V.topk(min(count, len(log_V)))
    pairs = zip(found.indices.tolist(), found.values.tolist(), strict=True)
    return {language.name(token) if plain else f"token_id:{token}": value for token, value in pairs}
