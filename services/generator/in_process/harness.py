"""A loaded model as lm-evaluation-harness asks it: pairs of context and continuation, whole texts, and free answers.

Everything goes through `HfModel`, so tasks share its memory, its batches and its adapters, and stop when asked to.
Texts are cut and begun as the harness's own `HFLM` does, so values can be laid beside published ones; only what is
longer than the context is cut one token shorter, since `HfModel` reads a text whole.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from ouroscope.canonical import canonical_json
from ouroscope.errors import InvalidRequest
from ouroscope.records.generation import SamplingSpec
from services.generator.backend import Prompt
from services.generator.in_process.model import HfModel
from services.generator.meter import Meter
from services.generator.plan import parts

_BATCHES_AT_ONCE = 16
_ANSWER_TOKENS = 256
"""Longest free answer where a task says nothing, as in the harness."""
_UNDERSTOOD = {"do_sample", "temperature", "top_k", "top_p", "until", "max_gen_toks"}

Measure = Callable[[str, int], Meter]
"""Makes the meter for a kind of request and their number."""


class HarnessModel(TemplateLM):  # type: ignore[misc]  # the library ships no types
    """What `lm_eval.evaluate` takes as a model."""

    def __init__(self, model: HfModel, start: Sequence[int], *, batch_size: int, seed: int, measure: Measure) -> None:
        """Take a model.

        Args:
            model: The model, alone or with an adapter.
            start: Tokens that its tokenizer itself puts before a text.
            batch_size: Texts that are looked at together.
            seed: Of answers that are drawn.
            measure: Makes the meter for each kind of request.
        """
        super().__init__()
        self._start = list(start)
        self._bare, self._begun = _beginning(model, ()), _beginning(model, self._start)
        self._prefix = (model.tokens.start or sorted(model.tokens.ends) or (0,))[0]
        self._room = model.context_tokens
        self._batch_size, self._seed, self._measure = batch_size, seed, measure

    @property
    def eot_token_id(self) -> int:
        """Return what stands before a text that has no context."""
        return self._prefix

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Return the tokens of a text, after those that the tokenizer itself puts first."""
        start = [] if add_special_tokens is False else self._start
        return [*start, *self._bare.tokens.encode(string)]

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """Return the log-probability of each continuation, and whether it is the first choice."""
        found: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return found

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:
        """Return the log-probability of each whole text, in windows where it is longer than the context."""
        windows = [(place, pair) for place, request in enumerate(requests) for pair in self._windows(*request.args)]
        found = self._loglikelihood_tokens([(("", ""), *pair) for _, pair in windows])
        sums: dict[int, float] = defaultdict(float)
        for (place, _), (log_probability, _) in zip(windows, found, strict=True):
            sums[place] += log_probability
        return [sums[place] for place in range(len(requests))]

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        """Return the answer to each request, up to the first of its stop sequences."""
        alike: dict[str, list[int]] = defaultdict(list)
        for place, request in enumerate(requests):
            alike[canonical_json(request.args[1])].append(place)
        answers: dict[int, str] = {}
        for places in alike.values():
            contexts = [requests[place].args[0] for place in places]
            answers.update(zip(places, self._answers(contexts, requests[places[0]].args[1]), strict=True))
        return [answers[place] for place in range(len(requests))]

    def _loglikelihood_tokens(self, requests: list[Any], **_: Any) -> list[tuple[float, bool]]:
        texts = [self._fitting(context, continuation) for _, context, continuation in requests]
        order = sorted(range(len(texts)), key=lambda place: -len(texts[place][0]))
        meter, found = self._measure("log-probabilities", len(texts)), dict[int, tuple[float, bool]]()
        for part in parts(order, _BATCHES_AT_ONCE * self._batch_size):
            ids, firsts = [texts[place][0] for place in part], [texts[place][1] for place in part]
            meter.begin(len(part), sum(map(len, ids)))
            scores = self._bare.judge(ids, firsts, self._batch_size, meter.pulse)
            for place, score in zip(part, scores, strict=True):
                greedy = score.greedy is not None and bool(score.greedy.all())
                found[place] = float(score.log_probabilities.sum()), greedy
            meter.finish(len(part))
        return [found[place] for place in range(len(texts))]

    def _fitting(self, context: Sequence[int], continuation: Sequence[int]) -> tuple[list[int], int]:
        """Return the end of both together that the model can see, and where the continuation begins."""
        if len(continuation) >= self._room:
            raise InvalidRequest(f"an answer of a task has {len(continuation)} tokens, the model sees {self._room}")
        whole = [*context, *continuation][-self._room :]
        return whole, len(whole) - len(continuation)

    def _windows(self, text: str) -> list[tuple[list[int], list[int]]]:
        ids, seen = self.tok_encode(text), self._room - 1
        windows = get_rolling_token_windows(ids, prefix_token=self._prefix, max_seq_len=seen, context_len=1)
        return [make_disjoint_window(window) for window in windows]

    def _answers(self, contexts: Sequence[str], asked: dict[str, Any]) -> list[str]:
        wanted = normalize_gen_kwargs(asked, _ANSWER_TOKENS)
        sampling, stops = self._sampling(wanted), wanted.get("until") or []
        room = self._room - len(self._start) - sampling.max_new_tokens
        if room < 1:
            raise InvalidRequest(
                f"a task wants answers of {sampling.max_new_tokens} tokens, the model sees {self._room} in all"
            )
        meter, texts = self._measure("answers", len(contexts)), list[str]()
        for part in parts(contexts, self._batch_size):
            prompts = [Prompt(f"{len(texts) + i}", self._end_of(text, room)) for i, text in enumerate(part)]
            meter.begin(len(part), len(part) * sampling.max_new_tokens)
            written = self._begun.write(prompts, sampling, self._batch_size, meter.pulse)
            texts += [postprocess_generated_text(each.text, stops, None) for each in written.continuations]
            meter.finish(len(part))
        return texts

    def _sampling(self, wanted: dict[str, Any]) -> SamplingSpec:
        if strange := sorted(set(wanted) - _UNDERSTOOD):
            raise InvalidRequest(f"a task asks for answers by {', '.join(strange)[:200]}, which is not supported")
        return SamplingSpec(
            temperature=float(wanted.get("temperature", 0.0)) if wanted.get("do_sample") else 0.0,
            top_k=int(wanted.get("top_k", 0)),
            top_p=float(wanted.get("top_p", 1.0)),
            min_new_tokens=0,
            max_new_tokens=int(wanted["max_gen_toks"]),
            seed=self._seed,
        )

    def _end_of(self, text: str, tokens: int) -> str:
        ids = self._bare.tokens.encode(text)
        return text if len(ids) <= tokens else self._bare.tokens.decode_many([ids[-tokens:]])[0]


def _beginning(model: HfModel, start: Sequence[int]) -> HfModel:
    """Return the same model, reading texts after other tokens than usual."""
    view = copy.copy(model)
    view.tokens = copy.copy(model.tokens)
    view.tokens.start = tuple(start)
    return view
