"""Servers that are vLLM: OpenAI's routes with settings of their own. Prompts go as tokens.

Log-probabilities of a prompt come by `prompt_logprobs`, of which as few are asked for as will do: many are known to
take the server down.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ouroscope.errors import CapabilityMissing, InvalidRequest, PreconditionFailed
from ouroscope.records.generation import Capability, Served
from ouroscope.tokens import Tokens
from services.generator.backend import Continuation
from services.generator.servers import answers, faults
from services.generator.servers.answers import Broken
from services.generator.servers.base import Asked, Judged, no_scores
from services.generator.servers.openai import COMPLETIONS, OpenAiDialect
from services.generator.servers.replicas import Replica

_NEUTRAL: dict[str, Any] = {"min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
"""Said in full: what is left out, the server takes from the model's generation_config.json."""
_GREEDY: dict[str, Any] = {"max_tokens": 1, "temperature": 0.0, **_NEUTRAL}
_SETTING = (
    "the server answers without prompt_logprobs; check that it is vLLM and not a proxy that drops them, and that no "
    "option of it (speculative decoding, a plug-in) switches them off"
)


class VllmDialect(OpenAiDialect):
    """How vLLM is asked."""

    honours = frozenset({*OpenAiDialect.honours, Capability.LEAST_LENGTH, Capability.TOP_K})

    async def judge(
        self, replica: Replica, served: Served, tokens: Tokens, ids: Sequence[int], scored_from: int
    ) -> Judged:
        """Return what is thought of a text, by its prompt log-probabilities; see `Dialect.judge`."""
        found = await self._prompt_logprobs(replica, served.model, ids)
        try:
            pairs = [_of_token(found[place], ids[place]) for place in range(scored_from, len(ids))]
        except Broken as error:
            raise faults.broken(self.transport.server, COMPLETIONS) from error
        values, ranks = np.array([value for value, _ in pairs]), [rank for _, rank in pairs]
        if any(rank is None for rank in ranks):
            return Judged(values)
        return Judged(values, np.array(ranks), np.array([rank == 1 for rank in ranks]))

    async def scoring_problem(self, replica: Replica, model: str) -> str:
        """Return why the server gives no log-probabilities; see `Dialect.scoring_problem`."""
        try:
            await self._prompt_logprobs(replica, model or await self._some_model(replica), (1, 2, 3))
        except (InvalidRequest, CapabilityMissing):
            return _SETTING
        return ""

    async def _prompt_logprobs(self, replica: Replica, model: str, ids: Sequence[int]) -> Sequence[Any]:
        """Return the entry of each token; the first has none.

        Raises:
            CapabilityMissing: the server leaves them out, or the list is empty.
        """
        body = {"model": model, "prompt": list(ids), **_GREEDY, "prompt_logprobs": 0}
        answer = await self.transport.post(replica, COMPLETIONS, body)
        try:
            found = answers.only_choice(answer).get("prompt_logprobs")
            if found is None or found == []:
                raise no_scores(self.transport.server, _SETTING)
            entries = answers.listed(found)
            if len(entries) != len(ids):
                raise Broken
        except Broken as error:
            raise faults.broken(self.transport.server, COMPLETIONS) from error
        return entries

    def _said(self, asked: Asked, tokens: Tokens) -> dict[str, Any]:
        return {"prompt": [*asked.before, *asked.tokens], "stop_token_ids": sorted(asked.ends)}

    def _sampling(self, asked: Asked) -> dict[str, Any]:
        return {
            **super()._sampling(asked),
            **_NEUTRAL,
            # -1 switches it off in every version; 0 does so in later ones only.
            "top_k": asked.sampling.top_k or -1,
            "min_tokens": asked.sampling.min_new_tokens,
            "return_token_ids": True,
        }

    def _extras(self) -> dict[str, Any]:
        return {**_NEUTRAL, "return_tokens_as_token_ids": True}

    def _written(self, answer: Any, served: Served, tokens: Tokens, asked: Asked) -> Continuation:
        self._check_model(answer, served)
        drawn = answers.only_choice(answer).get("token_ids")
        if drawn is None:
            return super()._written(answer, served, tokens, asked)
        ids = _until_end(answers.token_ids(drawn), asked.ends)
        if len(ids) > asked.sampling.max_new_tokens:
            raise Broken
        (text,) = tokens.continued([asked.tokens], [ids])
        return Continuation(text, len(ids))

    def _check_model(self, answer: Any, served: Served) -> None:
        told = answers.mapping(answer).get("model")
        if told != served.model:
            raise PreconditionFailed(
                f"the server of backend {served.backend!r} answered with another model than {served.model!r}; what it "
                "wrote is thrown away"
            )

    def _more_choices(self) -> str:
        return "start vLLM with --max-logprobs of at least as many, or lower top_n"


def _of_token(entry: Any, token: int) -> tuple[float, int | None]:
    """Return log-probability and rank of the token itself; the entry may name first choices beside it."""
    told = answers.mapping(answers.mapping(entry).get(str(token)))
    rank = told.get("rank")
    return answers.log_probability(told.get("logprob")), rank if answers.count(rank, answers.MOST_TOKENS) else None


def _until_end(ids: Sequence[int], ends: frozenset[int]) -> list[int]:
    """Return the tokens before the one that ended the document."""
    end = next((place for place, token in enumerate(ids) if token in ends), len(ids))
    return list(ids[:end])
