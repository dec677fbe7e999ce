"""A stand-in for text-generation-inference: its routes, forms, limits and refusals, over a model of the test's own.

It computes what the real one computes (the probabilities are those of the model it is given), reads texts as the real
one does, and checks every request and every answer of its own against the table in `tgi_api`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.servers.language import Language
from tests.servers.running import running
from tests.servers.tgi_api import ROUTES, VERSION, problems

Fault = Callable[[], Response]
"""Makes the answer that comes instead of the right one."""

_ERRORS = {422: "validation", 424: "generation", 429: "overloaded", 500: "incomplete_generation"}


@dataclass(eq=False)
class TgiStandIn:
    """One server. What a test sets takes effect with the next request."""

    language: Language
    model_id: str = "/models/ouro-0000000000000000"
    prefill_log_probabilities: bool = True
    """Whether it was started with --enable-prefill-logprobs."""
    max_top_n_tokens: int = 5
    max_total_tokens: int = 96
    directory: Path | None = None
    """What the server sees as /models; whoever reloads it posts the path of a model there to /serve."""
    faults: deque[Fault] = field(default_factory=deque)
    """Answers that come instead of the next ones of /generate."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of what /generate was asked."""
    before: Callable[[int], None] = lambda number: None
    """Called with the number of the request, from 0, before /generate answers it."""
    wrong: list[str] = field(default_factory=list)
    """Where a request or an answer was not of the published form."""
    authorizations: set[str | None] = field(default_factory=set)

    @property
    def app(self) -> Starlette:
        """Return it as an application to serve."""
        return Starlette(
            routes=[
                Route("/generate", self._generate, methods=["POST"]),
                Route("/tokenize", self._tokenize, methods=["POST"]),
                Route("/info", self._info),
                Route("/serve", self._serve, methods=["POST"]),
                Route("/health", self._health),
            ]
        )

    async def _generate(self, request: Request) -> Response:
        self.authorizations.add(request.headers.get("authorization"))
        body = await self._body(request)
        self.requests.append(body)
        self.before(len(self.requests) - 1)
        if self.faults:
            return self.faults.popleft()()
        parameters = body.get("parameters", {})
        read = self.language.encode(body["inputs"])
        if refusal := self._refusal(body["inputs"], read, parameters):
            return error(422, refusal)
        return self._answer(request, 200, await run_in_threadpool(self._written, read, parameters))

    async def _tokenize(self, request: Request) -> Response:
        body = await self._body(request)
        found = self.language.tokenizer(body["inputs"], return_offsets_mapping=True)
        entries = [
            {"id": token, "text": self.language.name(token), "start": start, "stop": stop}
            for token, (start, stop) in zip(found["input_ids"], found["offset_mapping"], strict=True)
        ]
        return self._answer(request, 200, entries)

    async def _info(self, request: Request) -> Response:
        limits = {"max_concurrent_requests": 128, "max_best_of": 2, "max_stop_sequences": 4}
        sizes = {"max_input_tokens": self.max_total_tokens - 1, "max_total_tokens": self.max_total_tokens}
        rest = {"validation_workers": 2, "max_client_batch_size": 4, "router": "text-generation-router"}
        return self._answer(request, 200, {"model_id": self.model_id, **limits, **sizes, **rest, "version": VERSION})

    async def _serve(self, request: Request) -> Response:
        """Start anew with another model: not a route of TGI, but what an operator may have in front of it."""
        path = (await request.json())["model"]
        assert self.directory is not None
        self.language = await run_in_threadpool(Language, self.directory / path.removeprefix("/models/"))
        self.model_id = path
        return Response()

    async def _health(self, request: Request) -> Response:
        return Response()

    async def _body(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = await request.json()
        kind = ROUTES[request.method, request.url.path].request
        assert kind is not None
        self.wrong += problems(body, kind, request.url.path)
        return body

    def _answer(self, request: Request, status: int, content: Any) -> Response:
        kind = ROUTES[request.method, request.url.path].answers[status]
        assert kind is not None
        self.wrong += problems(content, kind, f"answer of {request.url.path}")
        return JSONResponse(content, status)

    def _refusal(self, text: str, read: Sequence[int], parameters: dict[str, Any]) -> str:
        """Return why the request is not valid, in words that nobody else may see."""
        if not text:
            return "`inputs` cannot be empty"
        if parameters.get("top_n_tokens", 0) > self.max_top_n_tokens:
            return f"`top_n_tokens` must be >= 0 and <= {self.max_top_n_tokens}"
        if parameters.get("top_p", 0.5) >= 1:
            return "`top_p` must be > 0.0 and < 1.0"
        if len(read) + parameters["max_new_tokens"] > self.max_total_tokens:
            return f"`inputs` tokens + `max_new_tokens` must be <= {self.max_total_tokens}: {text}"
        return ""

    def _written(self, read: list[int], parameters: dict[str, Any]) -> dict[str, Any]:
        drawn = self.language.draw(read, _settings(parameters))
        ended = drawn[-1] == self.language.tokenizer.eos_token_id
        log_TV = self.language.log_probabilities([*read, *drawn]).tolist()
        details = {
            "finish_reason": "eos_token" if ended else "length",
            "generated_tokens": len(drawn),
            "prefill": self._prefill(read, log_TV) if parameters.get("decoder_input_details") else [],
            "seed": parameters.get("seed"),
            "tokens": [self._token(token, log_TV[len(read) - 1 + place]) for place, token in enumerate(drawn)],
        }
        if top := parameters.get("top_n_tokens"):
            last = log_TV[len(read) - 1]
            first = sorted(range(len(last)), key=lambda token: -last[token])[:top]
            details["top_tokens"] = [[self._token(token, last) for token in first]]
        text = self.language.decode(drawn)
        # As the real one, which gives no text at all where the last character is incomplete.
        return {"generated_text": "" if text.endswith("\ufffd") else text, "details": details}

    def _prefill(self, read: Sequence[int], log_TV: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
        if not self.prefill_log_probabilities:
            return []
        told = [None, *(log_TV[place][token] for place, token in enumerate(read[1:]))]
        return [
            {"id": token, "text": self.language.name(token), "logprob": value}
            for token, value in zip(read, told, strict=True)
        ]

    def _token(self, token: int, log_V: Sequence[float]) -> dict[str, Any]:
        special = token in self.language.tokenizer.all_special_ids
        return {"id": token, "text": self.language.name(token), "logprob": log_V[token], "special": special}


@contextmanager
def serving_tgi(stand_in: TgiStandIn) -> Iterator[str]:
    """Run the server; yields its address."""
    with running(stand_in.app) as url:
        yield url


def error(status: int, text: str = "a secret of the server") -> Response:
    """Return a refusal as TGI words it."""
    content = {"error": text, "error_type": _ERRORS[status]}
    assert not list(problems(content, "ErrorResponse"))
    return JSONResponse(content, status)


def _settings(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return how the library is to draw; TGI draws when any of these is given."""
    given = {key: parameters[key] for key in ("temperature", "top_k", "top_p") if parameters.get(key) is not None}
    temperature = given.get("temperature", 1.0) if parameters.get("do_sample") or given else 0
    return {
        **given,
        "temperature": temperature,
        "max_tokens": parameters["max_new_tokens"],
        "seed": parameters.get("seed"),
    }
