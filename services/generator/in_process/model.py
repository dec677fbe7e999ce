"""A loaded model, alone or with an adapter, as the generator asks it: texts and tokens in batches of similar length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import structlog
import torch
from numpy.typing import NDArray

from ouroscope.errors import InvalidRequest, LimitExceeded
from ouroscope.memory import is_lack_of_memory
from ouroscope.records.generation import SamplingSpec, Served
from services.generator.backend import Continuation, Expectation, Prompt, Pulse, TokenScores, Written
from services.generator.in_process.decoding import continue_prompts
from services.generator.in_process.loaded import Adapter, LoadedModel
from services.generator.in_process.redrawing import redraw_texts
from services.generator.in_process.scoring import expect_next, judge_texts
from services.generator.sampling import noise

log = structlog.get_logger(__name__)

Result = TypeVar("Result")


class HfModel:
    """One model of the store. Works off its prompts longest first, so that a lack of memory shows at once."""

    def __init__(self, loaded: LoadedModel, served: Served, adapter: Adapter | None = None) -> None:
        """Take a loaded base, what is recorded of it, and the adapter it is asked with."""
        self.loaded = loaded
        self.served = served
        self.tokens = loaded.tokens
        self.context_tokens = loaded.context_tokens
        self.vocabulary = loaded.head.vocabulary
        self._adapter = adapter

    def write(self, prompts: Sequence[Prompt], sampling: SamplingSpec, batch_size: int, pulse: Pulse) -> Written:
        """Continue every prompt; see `LanguageModel.write`."""
        start, ends = self._around(sampling)
        encoded = self.tokens.encode_many([prompt.text for prompt in prompts])
        inputs = [[*start, *ids] for ids in encoded]
        self._check_room(prompts, inputs, sampling.max_new_tokens)
        noise_DN = np.stack([noise(sampling.seed, prompt.id, sampling.max_new_tokens) for prompt in prompts])

        def work(batch: list[int]) -> list[list[int]]:
            asked = [inputs[i] for i in batch]
            return continue_prompts(self.loaded.model, asked, noise_DN[batch], sampling, ends, pulse)

        added, smallest = self._batched(list(map(len, inputs)), batch_size, work)
        texts = self.tokens.continued(encoded, added)
        return Written(tuple(Continuation(text, len(ids)) for text, ids in zip(texts, added, strict=True)), smallest)

    def expect(
        self,
        prompts: Sequence[Sequence[int]],
        following: Sequence[int | None],
        top_n: int,
        batch_size: int,
        pulse: Pulse,
    ) -> list[Expectation]:
        """Say what is expected after each prompt; see `LanguageModel.expect`."""
        head, inputs = self.loaded.head, self._inputs(prompts)

        def work(batch: list[int]) -> list[Expectation]:
            found = expect_next(head, [inputs[i] for i in batch], [following[i] for i in batch], top_n)
            pulse(sum(len(inputs[i]) for i in batch))
            return found

        return self._batched(list(map(len, inputs)), batch_size, work, head.texts_at_once)[0]

    def judge(
        self, texts: Sequence[Sequence[int]], scored_from: Sequence[int], batch_size: int, pulse: Pulse
    ) -> list[TokenScores]:
        """Score each text; see `LanguageModel.judge`."""
        before = len(self.tokens.start)
        head, inputs = self.loaded.head, self._inputs(texts)

        def work(batch: list[int]) -> list[TokenScores]:
            found = judge_texts(head, [inputs[i] for i in batch], [before + scored_from[i] for i in batch])
            pulse(sum(len(inputs[i]) for i in batch))
            return found

        return self._batched(list(map(len, inputs)), batch_size, work, head.texts_at_once)[0]

    def redraw(
        self,
        texts: Sequence[Sequence[int]],
        first: Sequence[int],
        noises: Sequence[NDArray[np.int64]],
        threshold: float,
        top_k: int,
        batch_size: int,
        pulse: Pulse,
    ) -> list[NDArray[np.int64]]:
        """Draw tokens anew that are too easy; see `editing.Redrawing.redraw`."""
        before = len(self.tokens.start)
        head, inputs = self.loaded.head, self._inputs(texts)
        never = [token for token in range(head.vocabulary) if not self.tokens.is_text(token)]

        def work(batch: list[int]) -> list[NDArray[np.int64]]:
            asked, places = [inputs[i] for i in batch], [before + first[i] for i in batch]
            found = redraw_texts(head, asked, places, [noises[i] for i in batch], threshold, top_k, never)
            pulse(sum(len(inputs[i]) for i in batch))
            return found

        return self._batched(list(map(len, inputs)), batch_size, work, head.texts_at_once)[0]

    def _around(self, sampling: SamplingSpec) -> tuple[tuple[int, ...], list[int]]:
        """Return the tokens before every prompt, and those that end a document."""
        if sampling.chat is None:
            return self.tokens.start, sorted(self.tokens.ends)
        frame = self.loaded.frame(sampling.chat)
        return frame.before, sorted(self.tokens.ends | frame.ends)

    def _inputs(self, texts: Sequence[Sequence[int]]) -> list[list[int]]:
        inputs = [[*self.tokens.start, *ids] for ids in texts]
        longest = max(map(len, inputs), default=0)
        if longest > self.context_tokens:
            raise InvalidRequest(
                f"a text has {longest} tokens and the model sees {self.context_tokens} at once; cut it"
            )
        return inputs

    def _check_room(self, prompts: Sequence[Prompt], inputs: Sequence[Sequence[int]], new_tokens: int) -> None:
        for prompt, ids in zip(prompts, inputs, strict=True):
            if not ids:
                raise InvalidRequest(
                    f"prompt {prompt.id[:80]!r} is empty and the model has no start token; give prefixes"
                )
            if len(ids) + new_tokens > self.context_tokens:
                raise InvalidRequest(
                    f"prompt {prompt.id[:80]!r} has {len(ids)} tokens; with {new_tokens} new ones it does not fit into "
                    f"the model's context of {self.context_tokens}; lower sampling.max_new_tokens or shorten the prefix"
                )

    def _batched(
        self,
        lengths: Sequence[int],
        size: int,
        work: Callable[[list[int]], list[Result]],
        bound: Callable[[int], int] | None = None,
    ) -> tuple[list[Result], int]:
        """Return the result of every item in its order, and the smallest batch size that was needed.

        Items of similar length share a batch; `bound` says how many of one length may. When memory runs out, the batch
        size is halved from there on.
        """
        order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
        results: dict[int, Result] = {}
        with self.loaded.weights(self._adapter):
            while len(results) < len(order):
                longest = lengths[order[len(results)]]
                batch = order[len(results) :][: min(size, bound(longest)) if bound else size]
                found = _unless_out_of_memory(work, batch)
                if found is not None:
                    results.update(zip(batch, found, strict=True))
                elif len(batch) == 1:
                    raise LimitExceeded("the memory does not hold a single document of this length; use shorter ones")
                else:
                    size = len(batch) // 2
                    log.warning("model.batch_halved", batch_size=size, reason="out of memory")
        return [results[i] for i in range(len(order))], size


def _unless_out_of_memory(work: Callable[[list[int]], list[Result]], batch: list[int]) -> list[Result] | None:
    try:
        return work(batch)
    except (RuntimeError, MemoryError) as error:
        if not is_lack_of_memory(error):
            raise
    # Outside of the handler, whose traceback holds what did not fit.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None
