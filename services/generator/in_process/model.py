"""A loaded model, alone or with an adapter, as the generator asks it: texts and tokens in batches of similar length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
import structlog
import torch
from numpy.typing import NDArray

from ouroscope.errors import InvalidRequest, LimitExceeded
from ouroscope.memory import is_lack_of_memory
from ouroscope.records.generation import SamplingSpec, Served
from services.generator.backend import Continuation, Examined, Expectation, Prompt, Pulse, TokenScores, Written
from services.generator.in_process.decoding import continue_prompts
from services.generator.in_process.lanes import side_by_side
from services.generator.in_process.loaded import Adapter, LoadedModel
from services.generator.in_process.redrawing import redraw_texts
from services.generator.in_process.scoring import examine_texts, expect_next
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
        befores, ends = self._around(prompts, sampling)
        encoded = self.tokens.encode_many([prompt.text for prompt in prompts])
        inputs = [[*before, *ids] for before, ids in zip(befores, encoded, strict=True)]
        self._check_room(prompts, inputs, sampling.max_new_tokens)
        noise_DN = np.stack([noise(sampling.seed, prompt.id, sampling.max_new_tokens) for prompt in prompts])

        def work(batch: list[int]) -> list[list[int]]:
            asked = [inputs[i] for i in batch]
            return continue_prompts(self.loaded.model, asked, noise_DN[batch], sampling, ends, pulse)

        added, smallest = self._batched(list(map(len, inputs)), batch_size, work, lambda _: batch_size)
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
            return expect_next(head, [inputs[i] for i in batch], [following[i] for i in batch], top_n)

        return self._looked_at(inputs, batch_size, work, pulse)

    def judge(
        self, texts: Sequence[Sequence[int]], scored_from: Sequence[int], batch_size: int, pulse: Pulse
    ) -> list[TokenScores]:
        """Score each text; see `LanguageModel.judge`."""
        found = self.examine(texts, scored_from, [None] * len(texts), 1, batch_size, pulse)
        return [each.scores for each in found]

    def examine(
        self,
        texts: Sequence[Sequence[int]],
        scored_from: Sequence[int],
        asked: Sequence[int | None],
        top_n: int,
        batch_size: int,
        pulse: Pulse,
    ) -> list[Examined]:
        """Score each text and tell what is expected at a position of it; see `LanguageModel.examine`."""
        before = len(self.tokens.start)
        head, inputs = self.loaded.head, self._inputs(texts)
        places = [None if place is None else before + place for place in asked]

        def work(batch: list[int]) -> list[Examined]:
            firsts = [before + scored_from[i] for i in batch]
            return examine_texts(head, [inputs[i] for i in batch], firsts, [places[i] for i in batch], top_n)

        return self._looked_at(inputs, batch_size, work, pulse)

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
            return redraw_texts(head, asked, places, [noises[i] for i in batch], threshold, top_k, never)

        return self._looked_at(inputs, batch_size, work, pulse)

    def _around(self, prompts: Sequence[Prompt], sampling: SamplingSpec) -> tuple[list[tuple[int, ...]], list[int]]:
        """Return the tokens before each prompt, and those that end a document."""
        if sampling.chat is None:
            return [self.tokens.start] * len(prompts), sorted(self.tokens.ends)
        frame = self.loaded.frame(sampling.chat)
        return [frame.before(prompt.summary) for prompt in prompts], sorted(self.tokens.ends | frame.ends)

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
                    f"{prompt.spoken(len(ids))}; with {new_tokens} new ones it does not fit into the model's context "
                    f"of {self.context_tokens}; lower sampling.max_new_tokens or shorten what the model is told"
                )

    def _looked_at(
        self, inputs: Sequence[Sequence[int]], size: int, work: Callable[[list[int]], list[Result]], pulse: Pulse
    ) -> list[Result]:
        """Return what `work` says of given texts, in their order; batches stand side by side where that is faster."""
        lengths, lanes, most = list(map(len, inputs)), self.loaded.lanes, self.loaded.head.texts_at_once
        # Few texts are shared out, so that no lane stays empty.
        share = -(-sum(lengths) // lanes)

        def done(batch: list[int]) -> None:
            pulse(sum(lengths[i] for i in batch))

        bound = most if lanes == 1 else lambda longest: min(most(longest), max(1, share // longest))
        return self._batched(lengths, size, work, bound, lanes, done)[0]

    def _batched(
        self,
        lengths: Sequence[int],
        size: int,
        work: Callable[[list[int]], list[Result]],
        bound: Callable[[int], int],
        lanes: int = 1,
        done: Callable[[list[int]], None] = lambda _: None,
    ) -> tuple[list[Result], int]:
        """Return the result of every item in its order, and the smallest batch size that was needed.

        Items of similar length share a batch; `bound` says how many of one length may. When memory runs out, the batch
        size is halved for what is left. `done` hears of every batch, in the thread of the caller.
        """
        order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
        results: dict[int, Result] = {}
        with self.loaded.weights(self._adapter):
            while left := [i for i in order if i not in results]:
                batches = list(_cut(left, lengths, size, bound))
                for batch, found in side_by_side(batches, partial(_unless_out_of_memory, work), lanes):
                    if found is None:
                        size = _halved(batch)
                        break
                    results.update(zip(batch, found, strict=True))
                    done(batch)
        return [results[i] for i in range(len(order))], size


def _cut(order: Sequence[int], lengths: Sequence[int], size: int, bound: Callable[[int], int]) -> Iterator[list[int]]:
    """Yield the batches of items that stand in falling order of their lengths."""
    begin = 0
    while begin < len(order):
        batch = list(order[begin : begin + min(size, bound(lengths[order[begin]]))])
        yield batch
        begin += len(batch)


def _halved(batch: list[int]) -> int:
    if len(batch) == 1:
        raise LimitExceeded("the memory does not hold a single document of this length; use shorter ones")
    log.warning("model.batch_halved", batch_size=len(batch) // 2, reason="out of memory")
    return len(batch) // 2


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
