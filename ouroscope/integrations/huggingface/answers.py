"""What a model in training says to the questions: its continuations, what it expects next, how it scores held-out text.

Knows torch and transformers; nothing of a monitor. The generator does the same with models of the artifact store; a
test holds the records of both to each other. Here the model is somebody's, in the middle of its training: nothing of
it is changed, no tensor of inference mode stays in it, and its own `generate` decodes, whatever its architecture.

Shapes: B = rows of the batch, T = positions, V = vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import GenerationConfig

from ouroscope.errors import CapabilityMissing, InvalidRequest
from ouroscope.integrations.documents import answer
from ouroscope.integrations.huggingface.questions import Questions
from ouroscope.integrations.huggingface.undisturbed import undisturbed
from ouroscope.probabilities import check_finite, expectations, log_probabilities
from ouroscope.records.documents import Document
from ouroscope.records.generation import SamplingSpec
from ouroscope.records.monitors import Inputs
from ouroscope.records.predictions import NextToken, ScoredText, TextRole
from ouroscope.seeds import derive_seed
from ouroscope.tokens import Tokens, template_start

_LOGIT_BYTES = 64 * 1024 * 1024
"""Of one array of float32 scores of held-out texts; about four exist at once."""

_NEUTRAL = {
    "do_sample": False,
    "num_beams": 1,
    "num_return_sequences": 1,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "typical_p": 1.0,
}
"""Said in words, for the library takes what is not said from the habits of the model."""


class Asked:
    """A model and its tokenizer, ready for questions."""

    def __init__(self, model: Any, tokenizer: Any, questions: Questions) -> None:
        """Check that the model can be asked.

        Raises:
            CapabilityMissing: it cannot write text, or its tokenizer is not a fast one.
            InvalidRequest: a prompt with its continuation does not fit into the context.
        """
        if not hasattr(model, "generate") or getattr(model.config, "is_encoder_decoder", False):
            raise CapabilityMissing("the model in training is no causal language model with `generate`")
        self._model = model
        self._questions = questions
        self._tokens = tokens_of(tokenizer, model)
        self._context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or math.inf
        self._prompts = [self._cut(prompt) for prompt in questions.prompts]
        self._check_room()

    def answers(self, number: int) -> Inputs:
        """Return everything the model says as generation `number`; equal weights say the same.

        Raises:
            PreconditionFailed: its probabilities are not numbers.
        """
        with undisturbed(self._model):
            return Inputs(
                # First, for it says clearly that a training diverged.
                next_tokens=tuple(self._next_tokens()),
                texts=tuple(self._heldout()),
                documents=tuple(self._continuations(number)),
            )

    def _cut(self, prompt: Document) -> tuple[list[int], int | None]:
        """Return the tokens of a prompt and the token that really follows, None where nothing does."""
        ids, rest = self._tokens.split(prompt.text, prompt.prefix_length)
        return self._started(ids), next(iter(rest), None)

    def _started(self, ids: list[int]) -> list[int]:
        start = list(self._tokens.start)
        # The template of a chat may begin with it already.
        return ids if ids[: len(start)] == start else [*start, *ids]

    def _check_room(self) -> None:
        longest = max(len(ids) for ids, _ in self._prompts)
        added = self._questions.sampling.max_new_tokens
        if not min(len(ids) for ids, _ in self._prompts):
            raise InvalidRequest("a prompt has no tokens and the model no start token; give longer prompts")
        if longest + added > self._context:
            raise InvalidRequest(
                f"a prompt of {longest} tokens with {added} new ones does not fit into the model's context of "
                f"{self._context}; lower sampling.max_new_tokens or shorten the prompts"
            )

    def _batches(self) -> Iterator[list[int]]:
        """Yield positions of prompts that are worked on together."""
        size, count = self._questions.batch_size, len(self._prompts)
        return (list(range(begin, min(begin + size, count))) for begin in range(0, count, size))

    def _generated(self, batch: Sequence[int], config: GenerationConfig) -> Any:
        inputs_BT, mask_BT = _left_padded([self._prompts[i][0] for i in batch], self._model.device)
        return self._model.generate(input_ids=inputs_BT, attention_mask=mask_BT, generation_config=config)

    def _next_tokens(self) -> Iterator[NextToken]:
        config = _plain_config(self._tokens, max_new_tokens=1, output_logits=True, return_dict_in_generate=True)
        for batch in self._batches():
            (logits_BV,) = self._generated(batch, config).logits
            check_finite(logits_BV)
            following = [self._prompts[i][1] for i in batch]
            targets_B = torch.tensor([token or 0 for token in following], device=logits_BV.device)
            found = expectations(logits_BV.float(), targets_B, self._questions.top_n)
            for i, token, (top, entropy, rank, probability) in zip(batch, following, found, strict=True):
                prompt = self._questions.prompts[i]
                yield NextToken(
                    prompt_id=prompt.id,
                    cluster=prompt.cluster,
                    top_probabilities=top,
                    entropy=entropy,
                    true_rank=None if token is None else rank,
                    true_probability=None if token is None else probability,
                    domain=prompt.domain,
                )

    def _continuations(self, number: int) -> Iterator[Document]:
        for batch in self._batches():
            torch.manual_seed(derive_seed(self._questions.sampling.seed, "generation", number, batch[0]))
            for i, text in zip(batch, self._written(batch), strict=True):
                prompt = self._questions.prompts[i]
                kept = {"id": prompt.id, "prompt_id": prompt.id, "group": prompt.group, "domain": prompt.domain}
                yield answer(prompt.text[: prompt.prefix_length], text, generation=number, **kept)

    def _written(self, batch: Sequence[int]) -> list[str]:
        before = [self._prompts[i][0] for i in batch]
        rows_BT = self._generated(batch, _plain_config(self._tokens, **_drawing(self._questions.sampling)))
        added_BT = rows_BT[:, max(map(len, before)) :]
        return self._tokens.continued(before, [_until_end(row, self._tokens) for row in added_BT.tolist()])

    def _heldout(self) -> Iterator[ScoredText]:
        for document in self._questions.heldout:
            ids = self._started(self._tokens.encode(document.text))
            limit = min(self._questions.heldout_tokens + len(self._tokens.start), self._context)
            seen = ids[: int(limit)]
            if len(seen) >= 2:
                scored = self._tokens.bytes_of(seen[max(1, len(self._tokens.start)) :])
                yield self._scored(document, seen, len(document.text.encode()) if self._is_whole(seen, ids) else scored)

    def _is_whole(self, seen: Sequence[int], ids: Sequence[int]) -> bool:
        return len(seen) == len(ids) and bool(self._tokens.start)

    def _scored(self, document: Document, ids: list[int], size: int) -> ScoredText:
        log_T, greedy_T = self._judged(ids)
        last = min(self._questions.last_n, len(log_T))
        return ScoredText(
            document_id=document.id,
            cluster=document.cluster,
            role=TextRole.HELDOUT,
            tokens=len(log_T),
            text_bytes=size,
            log_probability=min(0.0, math.fsum(log_T)),
            greedy_tokens=sum(greedy_T),
            last_tokens=last,
            last_greedy_tokens=sum(greedy_T[len(greedy_T) - last :]),
            domain=document.domain,
        )

    def _judged(self, ids: list[int]) -> tuple[list[float], list[bool]]:
        """Return log-probability and greediness of every token that follows the first ones."""
        inputs_1T = torch.tensor([ids[:-1]], device=self._model.device)
        first = max(1, len(self._tokens.start))
        logits_TV = self._model(input_ids=inputs_1T, use_cache=False).logits[0, first - 1 :]
        targets_T = torch.tensor(ids[first:], device=logits_TV.device)
        size = max(1, _LOGIT_BYTES // (4 * logits_TV.shape[-1]))
        found = [_portion(logits_TV[k : k + size], targets_T[k : k + size]) for k in range(0, len(targets_T), size)]
        log_T, greedy_T = (torch.cat(column).cpu() for column in zip(*found, strict=True))
        return log_T.double().tolist(), greedy_T.tolist()


def tokens_of(tokenizer: Any, model: Any) -> Tokens:
    """Return how text is cut, without touching the tokenizer that the training uses.

    Raises:
        CapabilityMissing: there is no tokenizer, or it is not a fast one.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise CapabilityMissing(
            "the trainer has no fast tokenizer; give it as processing_class to the trainer or to the callback"
        )
    own = Tokenizer.from_str(backend.to_str())
    ends = _ids(getattr(model, "generation_config", None), tokenizer)
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    return Tokens(own, start=template_start(own) or begin or ends[:1], ends=ends, control=True)


def _ids(config: Any, tokenizer: Any) -> list[int]:
    """Return the tokens that end a document, as a model or else its tokenizer has them."""
    value = getattr(config, "eos_token_id", None)
    value = tokenizer.eos_token_id if value is None else value
    return [token for token in (value if isinstance(value, list) else [value]) if token is not None]


def _plain_config(tokens: Tokens, **settings: Any) -> GenerationConfig:
    ends = sorted(tokens.ends)
    return GenerationConfig(
        **{**_NEUTRAL, **settings}, eos_token_id=ends or None, pad_token_id=ends[0] if ends else 0, use_cache=True
    )


def _drawing(sampling: SamplingSpec) -> dict[str, Any]:
    bounds = {"max_new_tokens": sampling.max_new_tokens, "min_new_tokens": sampling.min_new_tokens}
    if sampling.temperature == 0:
        return {**bounds, "do_sample": False}
    chosen = {"temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": sampling.top_p}
    return {**bounds, "do_sample": True, **chosen}


def _left_padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    width = max(map(len, prompts))
    inputs_BT = torch.tensor([[0] * (width - len(ids)) + list(ids) for ids in prompts], device=device)
    mask_BT = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts], device=device)
    return inputs_BT, mask_BT


def _until_end(ids: list[int], tokens: Tokens) -> list[int]:
    end = next((place for place, token in enumerate(ids) if token in tokens.ends), len(ids))
    return ids[:end]


def _portion(logits_RV: Tensor, targets_R: Tensor) -> tuple[Tensor, Tensor]:
    check_finite(logits_RV)
    return log_probabilities(logits_RV.float(), targets_R)
