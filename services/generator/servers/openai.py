"""Servers that speak OpenAI's legacy completions: most do. Texts go as text; log-probabilities come by `echo`.

The protocol has neither top-k nor a least length, so a request for them is refused rather than answered otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ouroscope.errors import CapabilityMissing, InvalidRequest, OuroscopeError
from ouroscope.records.generation import Capability, Served
from ouroscope.tokens import Tokens
from services.generator.backend import Continuation, Prompt
from services.generator.servers import answers, faults
from services.generator.servers.answers import Broken
from services.generator.servers.base import Asked, Choices, Dialect, Judged, no_scores
from services.generator.servers.replicas import Replica

COMPLETIONS = "/v1/completions"
MODELS = "/v1/models"
_PROBE = "The tail of the serpent"
_PROBE_IDS = (1, 2, 3)
"""Tokens that every vocabulary has."""
_SETTING = (
    "log-probabilities of a given text need `echo` with `logprobs` in /v1/completions, and prompts as tokens; of vLLM "
    "declare kind: vllm, of text-generation-inference kind: tgi"
)
_MOST_STOPS = 4
"""Texts that end an answer: more are refused by OpenAI's protocol."""
_SLACK = 4
"""A text cut anew may have more tokens than were drawn, but not so many times more."""
_GREEDY: dict[str, Any] = {"max_tokens": 1, "temperature": 0}
"""One new token, which is thrown away: some servers understand 0 as `without end`."""
TOKEN_MARK = "token_id:"
_DIGITS = 11
"""More than the number of any token has."""


class OpenAiDialect(Dialect):
    """How any OpenAI-compatible server is asked."""

    honours = frozenset({Capability.CHAT, Capability.EXACT_TOKENS})

    async def room(self, replica: Replica, served: Served) -> int | None:
        """Return what the list of models says of the context, as vLLM's does; see `Dialect.room`."""
        rooms = {entry.get("id"): entry.get("max_model_len") for entry in await self._models(replica)}
        told = [room for room in rooms.values() if type(room) is int and room > 0]
        # Of an adapter nothing is told; it has the room of its base.
        own = rooms.get(served.model)
        return own if own in told else min(told, default=None)

    async def write(self, replica: Replica, served: Served, tokens: Tokens, asked: Asked) -> Continuation:
        """Continue one prompt; see `Dialect.write`."""
        body = {"model": served.model, **self._said(asked, tokens), **self._sampling(asked)}
        answer = await self.transport.post(replica, COMPLETIONS, body)
        try:
            return self._written(answer, served, tokens, asked)
        except Broken as error:
            raise faults.broken(self.transport.server, COMPLETIONS) from error

    async def judge(
        self, replica: Replica, served: Served, tokens: Tokens, ids: Sequence[int], scored_from: int
    ) -> Judged:
        """Return what is thought of a text, by echo; see `Dialect.judge`."""
        body = {"model": served.model, "prompt": list(ids), **_GREEDY, "echo": True, "logprobs": 1}
        try:
            answer = await self.transport.post(replica, COMPLETIONS, body)
            return _echoed(self._logprobs(answer), len(ids), scored_from)
        except Broken as error:
            raise faults.broken(self.transport.server, COMPLETIONS) from error
        except InvalidRequest as error:
            raise no_scores(self.transport.server, f"the server refuses to be asked for them; {_SETTING}") from error

    async def choices(
        self, replica: Replica, served: Served, tokens: Tokens, ids: Sequence[int], top_n: int
    ) -> Choices:
        """Return the first choices after a text; see `Dialect.choices`."""
        body = {"model": served.model, "prompt": list(ids), **_GREEDY, "logprobs": top_n, **self._extras()}
        try:
            answer = await self.transport.post(replica, COMPLETIONS, body)
            return self._first(self._logprobs(answer), top_n)
        except Broken as error:
            raise faults.broken(self.transport.server, COMPLETIONS) from error
        except InvalidRequest as error:
            raise self._too_many(top_n) from error

    async def scoring_problem(self, replica: Replica, model: str) -> str:
        """Return why the server gives no log-probabilities; see `Dialect.scoring_problem`."""
        name = model or await self._some_model(replica)
        asked = {"model": name, **_GREEDY, "echo": True, "logprobs": 1}
        try:
            answer = await self.transport.post(replica, COMPLETIONS, {**asked, "prompt": _PROBE})
            self._logprobs(answer)
            answer = await self.transport.post(replica, COMPLETIONS, {**asked, "prompt": list(_PROBE_IDS)})
            _echoed(self._logprobs(answer), len(_PROBE_IDS), 1)
        except (Broken, InvalidRequest, CapabilityMissing):
            return f"the server ignores or refuses `echo` with `logprobs`; {_SETTING}"
        return ""

    def _said(self, asked: Asked, tokens: Tokens) -> dict[str, Any]:
        """Return the part of the body that is the text, and what ends it beside the model's own end marker.

        A chat too: its turns are written out, since /v1/chat/completions lets nobody begin the answer.
        """
        _check_spelling(asked.prompt, tokens)
        stop = [tokens.in_text([end]) for end in sorted(asked.ends - tokens.ends)][:_MOST_STOPS]
        return {"prompt": tokens.in_text(asked.before) + asked.prompt.text, **({"stop": stop} if stop else {})}

    def _sampling(self, asked: Asked) -> dict[str, Any]:
        sampling = asked.sampling
        return {
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": asked.seed,
        }

    def _extras(self) -> dict[str, Any]:
        """Return what only this kind of server understands, for the names of tokens."""
        return {}

    def _written(self, answer: Any, served: Served, tokens: Tokens, asked: Asked) -> Continuation:
        text, most = self._text(answer), asked.sampling.max_new_tokens
        here = len(tokens.encode(text))
        if here > _SLACK * most:
            raise Broken
        # The server's count, which may hold the end marker too; else that of the text, cut anew.
        told = answers.count(answers.mapping(answer.get("usage") or {}).get("completion_tokens"), most)
        return Continuation(text, min(here, most) if told is None else told)

    def _text(self, answer: Any) -> str:
        return answers.text_of(answers.only_choice(answer).get("text"))

    def _logprobs(self, answer: Any) -> Any:
        """Return the log-probabilities of an answer.

        Raises:
            CapabilityMissing: there are none.
        """
        found = answers.only_choice(answer).get("logprobs")
        if not isinstance(found, dict) or not found.get("token_logprobs"):
            raise no_scores(self.transport.server, f"the server answers without log-probabilities; {_SETTING}")
        return found

    def _first(self, logprobs: Any, top_n: int) -> Choices:
        """Return the choices at the first drawn token."""
        first = answers.mapping(next(iter(answers.listed(logprobs.get("top_logprobs"))), None))
        ordered = sorted(((answers.log_probability(value), name) for name, value in first.items()), reverse=True)
        if len(ordered) < top_n:
            raise self._too_many(top_n, len(ordered))
        return Choices(tuple(value for value, _ in ordered[:top_n]), _named([name for _, name in ordered[:top_n]]))

    def _too_many(self, top_n: int, told: int | None = None) -> OuroscopeError:
        tells = "refuses" if told is None else f"tells {told} and not"
        return no_scores(
            self.transport.server, f"the server {tells} the {top_n} first choices of a token; {self._more_choices()}"
        )

    def _more_choices(self) -> str:
        return (
            "lower top_n to what it allows (often 5); it names tokens by their text, and those that share one count "
            "once"
        )

    async def _some_model(self, replica: Replica) -> str:
        return str(next((entry.get("id") for entry in await self._models(replica)), ""))

    async def _models(self, replica: Replica) -> list[dict[str, Any]]:
        answer = await self.transport.get(replica, MODELS)
        entries = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(entries, list) or not all(
            isinstance(entry, dict) and isinstance(entry.get("id"), str) for entry in entries
        ):
            raise faults.broken(self.transport.server, MODELS)
        return entries


def _check_spelling(prompt: Prompt, tokens: Tokens) -> None:
    """Refuse a summary that would count as the template's own words in a text that a server cuts itself."""
    if tokens.spells_control(prompt.summary or ""):
        raise InvalidRequest(
            f"the summary of prompt {prompt.id[:80]!r} spells a control token of the model, which a backend that takes "
            "texts would obey; leave the document out, or take another backend"
        )


def _echoed(logprobs: Any, length: int, scored_from: int) -> Judged:
    """Return what is said of positions [scored_from, length) of a text that was sent back with log-probabilities."""
    own, top = answers.listed(logprobs.get("token_logprobs")), answers.listed(logprobs.get("top_logprobs") or [])
    # One more for the token that is drawn, unless that ended the text.
    if len(own) not in (length, length + 1):
        raise Broken
    values = np.array([answers.log_probability(value) for value in own[scored_from:length]])
    best = [
        max(map(answers.log_probability, answers.mapping(each).values())) for each in top[scored_from:length] if each
    ]
    return Judged(values, greedy=values >= np.array(best) if len(best) == len(values) else None)


def _named(names: Sequence[str]) -> tuple[int, ...] | None:
    """Return the tokens behind names such as `token_id:17`; None if they are texts, which several tokens may share."""
    ids = [name.removeprefix(TOKEN_MARK) for name in names if name.startswith(TOKEN_MARK)]
    if len(ids) < len(names) or not all(each.isdecimal() and len(each) < _DIGITS for each in ids):
        return None
    return tuple(map(int, ids))
