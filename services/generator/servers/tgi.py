"""text-generation-inference, asked through huggingface_hub's InferenceClient. Texts go as text, never as tokens.

The library knows the protocol; the bytes go over `Transport`: the library's own session follows redirects, reads
answers of any size, sends the token of the Hub to whoever is asked, and refuses to work offline.

TGI cuts every text itself. Generation is what it says all the same, but a text that was cut elsewhere than at the end
of a word may be read as other tokens; whoever needs log-probabilities of given tokens is told so.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import structlog
from huggingface_hub import AsyncInferenceClient, TextGenerationOutputDetails

from ouroscope.errors import CapabilityMissing, InvalidRequest, PreconditionFailed
from ouroscope.records.generation import Capability, SamplingSpec, Served
from ouroscope.tokens import Tokens
from services.generator.backend import Continuation
from services.generator.servers import answers, faults
from services.generator.servers.answers import Broken
from services.generator.servers.base import Asked, Choices, Dialect, Judged, no_scores
from services.generator.servers.replicas import Replica
from services.generator.servers.transport import Transport

log = structlog.get_logger(__name__)

GENERATE = "/generate"
TOKENIZE = "/tokenize"
INFO = "/info"
_GREEDY: dict[str, Any] = {"max_new_tokens": 1, "do_sample": False}
"""One new token, which is thrown away. Without temperature, top-k and top-p, which would change what is told of it."""
_PROBE = "The tail of the serpent"
_PREFILL = "start TGI with --enable-prefill-logprobs (it is off by default since 3.0 and takes memory of the device)"
_PART_OF_CHARACTER = "\ufffd"
_NOT_USED = "not-used"


class TgiDialect(Dialect):
    """How text-generation-inference is asked."""

    choices_score_prompts = True
    honours = frozenset({Capability.TOP_K})
    """Not chats: for those the same server is declared as `openai`."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport)
        self._read_alike: set[tuple[int, str]] = set()
        """Replicas, and the models for which they were found to begin a text as it is begun here."""
        self._read_differently = 0

    async def room(self, replica: Replica, served: Served) -> int | None:
        """Return what the server allows for a text and its continuation; see `Dialect.room`."""
        told = await self.transport.get(replica, INFO)
        most = told.get("max_total_tokens") if isinstance(told, dict) else None
        return most if type(most) is int and most > 0 else None

    async def write(self, replica: Replica, served: Served, tokens: Tokens, asked: Asked) -> Continuation:
        """Continue one prompt; see `Dialect.write`."""
        await self._check_reading(replica, served, tokens)
        details = await self._generate(
            replica,
            tokens.start_in_text + asked.prompt.text,
            max_new_tokens=asked.sampling.max_new_tokens,
            # 0 is no seed for TGI.
            seed=max(1, asked.seed),
            **_sampled(asked.sampling),
        )
        try:
            ids = _drawn(details, tokens, asked.sampling.max_new_tokens)
        except Broken as error:
            raise faults.broken(self.transport.server, GENERATE) from error
        # Not the server's own text: it is empty where the last character is incomplete.
        (text,) = tokens.continued([asked.tokens], [ids])
        return Continuation(text, len(ids))

    async def judge(
        self, replica: Replica, served: Served, tokens: Tokens, ids: Sequence[int], scored_from: int
    ) -> Judged:
        """Return what is thought of a text, by its prefill; see `Dialect.judge`.

        Where the server cuts it anew, the first of its tokens that reaches beyond the unscored part is scored too, as
        in `Tokens.split`.

        Raises:
            InvalidRequest: the text ends or begins inside a character, which cannot be sent as text.
        """
        text = _text(tokens, ids)
        read, values = self._prefill(await self._generate(replica, text, decoder_input_details=True, **_GREEDY))
        if read == list(ids):
            return Judged(np.array(self._numbers(values[scored_from:])))
        if _PART_OF_CHARACTER in text or tokens.decode_many([read]) != tokens.decode_many([ids]):
            raise InvalidRequest(
                f"the backend {self.transport.server!r} takes texts only, and a text that is cut inside a character is "
                "none; raise max_tokens, or score with a backend that takes tokens (transformers, vllm)"
            )
        first = _first_beyond(tokens, read, ids[:scored_from])
        self._tell_difference()
        return Judged(np.array(self._numbers(values[first:])), exact=False)

    async def choices(
        self, replica: Replica, served: Served, tokens: Tokens, ids: Sequence[int], top_n: int
    ) -> Choices:
        """Return the first choices after a text; see `Dialect.choices`.

        Raises:
            CapabilityMissing: the server tells fewer.
            InvalidRequest: the server reads the text as other tokens.
        """
        asked = {"decoder_input_details": True, "top_n_tokens": top_n, **_GREEDY}
        try:
            details = await self._generate(replica, _text(tokens, ids), **asked)
        except InvalidRequest as error:
            raise self._too_few(top_n) from error
        if self._prefill(details)[0] != list(ids):
            raise InvalidRequest(
                f"the backend {self.transport.server!r} takes texts only, and reads a prompt that is cut inside a word "
                "as other tokens; use prompt_unit: WORDS, or a backend that takes tokens (transformers, vllm)"
            )
        return self._first(details, top_n)

    async def scoring_problem(self, replica: Replica, model: str) -> str:
        """Return why the server gives no log-probabilities; see `Dialect.scoring_problem`."""
        try:
            self._prefill(await self._generate(replica, _PROBE, decoder_input_details=True, **_GREEDY))
        except CapabilityMissing:
            return f"the server gives no log-probabilities of a prompt; {_PREFILL}"
        return ""

    async def _generate(self, replica: Replica, text: str, **parameters: Any) -> TextGenerationOutputDetails:
        client = _Client(self.transport, replica)
        try:
            output = await client.text_generation(text, details=True, return_full_text=False, **parameters)
            if not isinstance(output.details, TextGenerationOutputDetails):
                raise Broken
        except (Broken, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            # Whatever the library finds in an answer that it does not understand.
            raise faults.broken(self.transport.server, GENERATE) from error
        return output.details

    def _prefill(self, details: TextGenerationOutputDetails) -> tuple[list[int], list[Any]]:
        """Return the tokens of the prompt as the server reads them, and what it says of each.

        Raises:
            CapabilityMissing: the list is empty.
        """
        try:
            if not answers.listed(details.prefill):
                raise no_scores(self.transport.server, f"the list of prompt tokens comes back empty; {_PREFILL}")
            return answers.token_ids(_each(details.prefill, "id")), _each(details.prefill, "logprob")
        except Broken as error:
            raise faults.broken(self.transport.server, GENERATE) from error

    def _numbers(self, values: Sequence[Any]) -> list[float]:
        try:
            # JSON has no NaN: TGI writes null.
            return [answers.log_probability(math.nan if value is None else value) for value in values]
        except Broken as error:
            raise faults.broken(self.transport.server, GENERATE) from error

    def _first(self, details: TextGenerationOutputDetails, top_n: int) -> Choices:
        try:
            (first,) = answers.listed(details.top_tokens)
            values = [answers.log_probability(value) for value in _each(first, "logprob")]
            tokens = answers.token_ids(_each(first, "id"))
        except ValueError as error:
            raise faults.broken(self.transport.server, GENERATE) from error
        if len(tokens) < top_n:
            raise self._too_few(top_n, len(tokens))
        # Those that are equally probable may be more than was asked for.
        kept = sorted(range(len(tokens)), key=lambda place: -values[place])[:top_n]
        return Choices(tuple(values[place] for place in kept), tuple(tokens[place] for place in kept))

    def _too_few(self, top_n: int, told: int | None = None) -> CapabilityMissing:
        tells = "refuses to tell" if told is None else f"tells {told} and not"
        return no_scores(
            self.transport.server,
            f"the server {tells} the {top_n} first choices of a token; start TGI with --max-top-n-tokens {top_n} "
            "(its own limit is 5), lower top_n, or shorten prompts that are too long for it",
        )

    def _tell_difference(self) -> None:
        """Say how many texts were read as other tokens, at the first, second, fourth, eighth and so on."""
        self._read_differently += 1
        if self._read_differently.bit_count() == 1:
            log.warning("server.read_differently", backend=self.transport.server, texts=self._read_differently)

    async def _check_reading(self, replica: Replica, served: Served, tokens: Tokens) -> None:
        """Find out, once, whether the server begins a text with the tokens that it is begun with here.

        Raises:
            PreconditionFailed: it does not, so what it writes would follow another beginning.
        """
        key = (replica.number, served.model)
        if key in self._read_alike:
            return
        try:
            told = await self.transport.post(replica, TOKENIZE, {"inputs": tokens.start_in_text + _PROBE})
            read = answers.token_ids(_each(told, "id"))
        except CapabilityMissing:
            log.warning("server.reading_unknown", backend=self.transport.server)
            read = [*tokens.start, *tokens.encode(_PROBE)]
        except Broken as error:
            raise faults.broken(self.transport.server, TOKENIZE) from error
        if read != [*tokens.start, *tokens.encode(_PROBE)]:
            raise PreconditionFailed(
                f"the server of backend {self.transport.server!r} cuts texts otherwise than the model's tokenizer: it "
                "serves another one, or adds other tokens at the beginning; check what it was started with"
            )
        self._read_alike.add(key)


class _Client(AsyncInferenceClient):
    """The library's client for one replica, over our transport: bounded, tried again, with our token only."""

    def __init__(self, transport: Transport, replica: Replica) -> None:
        # The token is never sent; without one the library would look for that of the Hub.
        super().__init__(base_url=f"{replica.url}{GENERATE}", token=_NOT_USED)
        self._transport, self._replica = transport, replica

    async def _inner_post(self, request_parameters: Any, *, stream: bool = False) -> Any:
        return await self._transport.send(self._replica, "POST", GENERATE, plain=True, json=request_parameters.json)


def _sampled(sampling: SamplingSpec) -> Mapping[str, Any]:
    """Return how to draw; TGI refuses the values that mean `keep everything`, and draws when any of these is given."""
    if sampling.temperature == 0:
        return {"do_sample": False}
    kept: dict[str, Any] = {"top_k": sampling.top_k} if sampling.top_k else {}
    kept |= {"top_p": sampling.top_p} if sampling.top_p < 1 else {}
    return {"do_sample": True, "temperature": sampling.temperature, **kept}


def _drawn(details: TextGenerationOutputDetails, tokens: Tokens, most: int) -> list[int]:
    """Return the tokens that were drawn, without the one that ended the document."""
    ids = answers.token_ids(_each(details.tokens, "id"), tokens.largest + 1)
    if len(ids) != details.generated_tokens or len(ids) > most:
        raise Broken
    whole = ids[:-1] if details.finish_reason == "eos_token" else ids
    end = next((place for place, token in enumerate(whole) if token in tokens.ends), len(whole))
    return whole[:end]


def _each(entries: Any, key: str) -> list[Any]:
    """Return what each JSON object of a list has under `key`."""
    # Not `entry.get`: the library lets an answer replace the methods of what it makes of it.
    return [dict.get(entry, key) if isinstance(entry, dict) else None for entry in answers.listed(entries)]


def _text(tokens: Tokens, ids: Sequence[int]) -> str:
    """Return the text that stands for tokens, start included."""
    (text,) = tokens.decode_many([ids[len(tokens.start) :]])
    return tokens.start_in_text + text


def _first_beyond(tokens: Tokens, read: Sequence[int], before: Sequence[int]) -> int:
    """Return the position of the first token of `read` that reaches beyond the text of `before`."""
    (prefix,) = tokens.decode_many([before])

    def length(count: int) -> int:
        (text,) = tokens.decode_many([read[:count]])
        return len(text)

    return bisect_right(range(len(read)), len(prefix), key=lambda place: length(place + 1))
