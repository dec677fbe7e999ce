"""The servers that an operator declares, as one YAML file. Where a server is, is never a request's word.

A request names a backend and nothing else: no address, no command and no directory comes from outside, so nobody can
make a generator talk to a machine or start a program that its operator did not write down.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ouroscope.errors import FieldProblem, InvalidRequest, NotFound
from ouroscope.mappings import read_record
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.checks import Problems
from ouroscope.records.runs import is_name
from ouroscope.settings import Secret

IN_PROCESS = "transformers"
"""Name and kind of the backend that needs no server; no declared one may have it."""

_EXAMPLE = "`backends: [...]`, see docs/backends.md"


class ServerKind(Enum):
    """What a server speaks."""

    OPENAI = "openai"
    """Legacy completions of OpenAI: most servers have them."""
    VLLM = "vllm"
    TGI = "tgi"


class Weights(Enum):
    """How the weights of a generation reach a server."""

    ADAPTERS = "adapters"
    """The server runs the base; each generation is a LoRA adapter on top of it."""
    RELOAD = "reload"
    """The server is made to serve another directory."""
    FIXED = "fixed"
    """They do not: the server serves one model, always."""


class Load(Enum):
    """How vLLM hears of an adapter."""

    RESOLVER = "resolver"
    """It looks into a directory when a request names an adapter that it does not know."""
    REQUEST = "request"
    """Every replica is told by POST /v1/load_lora_adapter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpReload:
    """A call that makes a server serve another directory."""

    url: str
    """`{directory}` and `{name}` are replaced, here and in the texts of `json`."""
    method: str = "POST"
    json: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        problems = Problems("reload.http")
        _check_url(problems, self.url, "url")
        allowed = ("GET", "PATCH", "POST", "PUT")
        problems.check(self.method in allowed, "method", f"must be one of {', '.join(allowed)}")
        problems.raise_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesReload:
    """An annotation on the pods of a deployment: changing it rolls them out anew."""

    namespace: str
    deployment: str
    annotation: str = "ouroscope.dev/model"

    def __post_init__(self) -> None:
        problems = Problems("reload.kubernetes")
        problems.check(is_name(self.namespace), "namespace", "use lower-case letters, digits and hyphens, at most 63")
        problems.check(bool(self.deployment.strip()), "deployment", "name the deployment")
        problems.check(bool(self.annotation.strip()), "annotation", "name an annotation, as ouroscope.dev/model")
        problems.raise_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadHook:
    """What makes a server serve another directory: exactly one of the three."""

    command: tuple[str, ...] = ()
    """Program and arguments, never a shell; `{directory}` and `{name}` are replaced."""
    http: HttpReload | None = None
    kubernetes: KubernetesReload | None = None
    ready_seconds: float = 900.0
    """Longest wait until the server answers with the new weights, above 0."""

    def __post_init__(self) -> None:
        problems = Problems("reload")
        hooks = sum((bool(self.command), self.http is not None, self.kubernetes is not None))
        problems.check(hooks == 1, "", f"give exactly one of command, http and kubernetes, got {hooks}")
        problems.check(self.ready_seconds > 0, "ready_seconds", "must be above 0")
        problems.raise_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredBackend:
    """One server, or several replicas of one, as the operator describes it."""

    name: str
    """How requests and run specifications call it."""
    kind: ServerKind
    urls: tuple[str, ...]
    """Roots of the replicas, without `/v1`."""
    weights: Weights
    token_variable: str = ""
    """Environment variable that holds the bearer token; empty sends none."""
    concurrency: int = 16
    """Requests in flight, all replicas together."""
    scoring_concurrency: int = 2
    """The same for requests of prompt log-probabilities, which are known to take servers down."""
    max_scored_tokens: int = 2048
    """Longest text that is sent for prompt log-probabilities."""
    timeout: float = 120.0
    """Seconds that one request may take."""
    attempts: int = 6
    """Times that one request is tried."""
    base: ArtifactRef | None = None
    """The whole model that the server runs (`adapters`), or the one model that it serves (`fixed`)."""
    served_name: str = ""
    """What the server calls `base`."""
    directory: str = ""
    """Where weights are put for the server."""
    server_directory: str = ""
    """Where the server sees that directory; empty means under the same path."""
    load: Load = Load.RESOLVER
    reload: ReloadHook | None = None

    def __post_init__(self) -> None:
        problems = Problems(f"backend {self.name!r}")
        problems.check(is_name(self.name), "name", "use lower-case letters, digits and hyphens, at most 63")
        problems.check(self.name != IN_PROCESS, "name", f"{IN_PROCESS} is the backend in the generator's own process")
        problems.check(bool(self.urls), "urls", "give the root of at least one server, as http://vllm:8000")
        for position, url in enumerate(self.urls):
            _check_url(problems, url, f"urls[{position}]")
            bare = not url.rstrip("/").endswith("/v1") and "?" not in url and "#" not in url
            problems.check(bare, f"urls[{position}]", "give the root of the server, without /v1, ? and #")
        problems.check(len(set(self.urls)) == len(self.urls), "urls", "two replicas have the same address")
        self._check_numbers(problems)
        self._check_weights(problems)
        problems.raise_any()

    def _check_numbers(self, problems: Problems) -> None:
        problems.check(1 <= self.concurrency <= 1024, "concurrency", "must be in [1, 1024]")
        problems.check(1 <= self.scoring_concurrency <= 1024, "scoring_concurrency", "must be in [1, 1024]")
        problems.check(self.max_scored_tokens >= 2, "max_scored_tokens", "must be at least 2")
        problems.check(0 < self.timeout <= 86_400, "timeout", "must be seconds, above 0 and at most a day")
        problems.check(1 <= self.attempts <= 100, "attempts", "must be in [1, 100]")

    def _check_weights(self, problems: Problems) -> None:
        """Each way of `weights` needs some fields; one that means nothing there is a misunderstanding, not a spare."""
        weights, why = self.weights, f"has no meaning with weights: {self.weights.value}"
        adapters, reload, fixed = (weights is way for way in Weights)
        problems.check(not adapters or self.kind is ServerKind.VLLM, "weights", "only kind: vllm takes adapters")
        model = self.base is None or self.base.kind is ArtifactKind.MODEL
        problems.check(model, "base", "must be model/<digest>")
        problems.check(reload or self.base is not None, "base", f"weights: {weights.value} needs it, as model/<digest>")
        problems.check(reload or bool(self.served_name), "served_name", f"weights: {weights.value} needs it")
        problems.check(not reload or self.base is None, "base", why)
        problems.check(not reload or not self.served_name, "served_name", why)
        problems.check(fixed or bool(self.directory), "directory", f"weights: {weights.value} needs it")
        problems.check(not fixed or not (self.directory or self.server_directory), "directory", why)
        problems.check(not reload or self.reload is not None, "reload", "weights: reload needs it")
        problems.check(reload or self.reload is None, "reload", why)
        problems.check(adapters or self.load is Load.RESOLVER, "load", why)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendsFile:
    """The content of the file."""

    backends: tuple[DeclaredBackend, ...]


def read_backends(path: Path | None) -> tuple[DeclaredBackend, ...]:
    """Read the file of backends; no file declares none.

    Raises:
        NotFound: there is no such file.
        InvalidRequest: it is not YAML, or a backend is wrong; all problems are told, each with its line.
    """
    if path is None:
        return ()
    if not path.is_file():
        raise NotFound(f"there is no file of backends {str(path)!r}; write one as docs/backends.md shows")
    return read_record(BackendsFile, path, "a file of backends", _EXAMPLE, _named_again).backends


def token_of(declared: DeclaredBackend, environ: Mapping[str, str]) -> Secret | None:
    """Return the bearer token of a backend, or None if it needs none.

    Raises:
        InvalidRequest: the variable that should hold it is not set.
    """
    if not declared.token_variable:
        return None
    token = environ.get(declared.token_variable, "").strip()
    if not token:
        raise InvalidRequest(
            f"backend {declared.name!r} takes its token from the variable {declared.token_variable}, which is not set"
        )
    return Secret(token)


def _named_again(plain: Mapping[str, Any]) -> Iterator[FieldProblem]:
    """Yield a problem for each name that a backend before it has; the values may be wrong in every other way."""
    backends = plain.get("backends")
    seen: dict[str, int] = {}
    for position, backend in enumerate(backends if isinstance(backends, list) else ()):
        name = backend.get("name") if isinstance(backend, dict) else None
        if isinstance(name, str) and seen.setdefault(name, position) != position:
            yield FieldProblem(f"backends[{position}].name", f"backends[{seen[name]}] has the same name")


def _check_url(problems: Problems, url: str, field: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    problems.check(good, field, "must be http://host:port or https://host")
    if good:
        open_ = parts.username is None and parts.password is None
        problems.check(open_, field, "must hold no user or password; name a token_variable")
