"""What a model thinks of given texts: next-token records, log-probabilities, and two trivial models beside it.

Knows neither torch nor a transport; a backend gives the probabilities of tokens, the sums are made here, in float64.

What is scored. Held-out text whole: its first token too where the model has a start token (else that token has no
context, and `tokens` and `text_bytes` leave it out). A document from the end of its real prefix, given that prefix. A
text longer than `max_tokens` is cut at its end, and only the bytes of the scored part count; one longer than the
context is looked at through windows that overlap (`services.generator.sliding`). Prompts that held-out texts begin with
are answered by the same look (`services.generator.questions`).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
import structlog
from numpy.typing import NDArray

from ouroscope.corpora.stored import read_corpus
from ouroscope.predictions import write_records
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.records.generation import Capability, Score, Scored
from ouroscope.records.predictions import NextToken, ScoredText, TextRole
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.tokens import Tokens
from services.generator.backend import (
    Backend,
    Examined,
    Expectation,
    LanguageModel,
    TokenScores,
    facts_of,
    require,
)
from services.generator.meter import Meter, Task
from services.generator.plan import parts
from services.generator.questions import Asking, Question, questions_of
from services.generator.sliding import examine_sliding, room_of, stride_of

log = structlog.get_logger(__name__)

_BATCHES_AT_ONCE = 16
"""Texts are sorted by length within so many batches, and so many are held in memory."""


@dataclass(frozen=True, slots=True)
class _Text:
    """A text cut to what the model may see."""

    document: Document
    tokens: list[int]
    scored_from: int
    """First token that counts."""
    scored_bytes: int


@dataclass(slots=True)
class _Counts:
    """What became of the texts, filled in while they pass."""

    prompts: int = 0
    texts: int = 0
    tokens: int = 0
    left_out: int = 0
    """Documents too short to give a prompt or a scored token."""
    seen: int = 0
    """Documents that were looked at for a prompt."""

    def asked(self, documents: int, questions: int) -> None:
        """Note that of so many documents so many gave a prompt."""
        self.seen += documents
        self.prompts += questions
        self.left_out += documents - questions


def score(store: ArtifactStore, backend: Backend, request: Score, task: Task) -> Scored:
    """Ask the model about every corpus of the request and publish what it says.

    `request.batch_size` is the number of texts that are looked at together; it must not be 0.

    Raises:
        CapabilityMissing: the backend gives no probabilities.
        InvalidRequest: a prompt does not fit into the context, or no text is long enough to be scored.
    """
    require(backend, Capability.SCORE)
    model = backend.open(request.model)
    counts = _Counts()
    asking = Asking(read_corpus(store, request.prompts) if request.prompts else iter(()))
    ref = write_records(
        store,
        chain(
            _heldout(store, model, request, asking, counts, task),
            _next_tokens(store, model, request, asking, counts, task),
            _documents(store, model, request, counts, task),
        ),
        {"model": request.model.digest, **facts_of(model.served)},
    )
    log.info("texts.scored", prompts=counts.prompts, texts=counts.texts, tokens=counts.tokens, left_out=counts.left_out)
    return Scored(
        predictions=ref,
        prompts=counts.prompts,
        texts=counts.texts,
        tokens=counts.tokens,
        unigram_perplexity=_unigram_of(store, model, request, task),
        uniform_perplexity=float(model.vocabulary),
        served=model.served,
    )


def _heldout(
    store: ArtifactStore, model: LanguageModel, request: Score, asking: Asking, counts: _Counts, task: Task
) -> Iterator[NextToken | ScoredText]:
    """Yield what is said of held-out texts, and the records of prompts that they begin with."""
    if request.heldout is None:
        return
    meter, stride = Meter(task, "heldout", _documents_in(store, request.heldout)), stride_of(model, request.stride)
    for part in parts(read_corpus(store, request.heldout), _BATCHES_AT_ONCE * request.batch_size):
        texts = list(cut_texts(model.tokens, part, TextRole.HELDOUT, request.max_tokens))
        meter.begin(len(part), sum(len(text.tokens) + len(model.tokens.start) for text in texts))
        counts.left_out += len(part) - len(texts)
        documents = list(asking.among({document.id: document.text for document in part}))
        questions = questions_of(model, documents, request)
        counts.asked(len(documents), len(questions))
        places = _places(model, texts, questions)
        found = _examined(model, texts, places, stride, request, meter)
        told = {text.document.id: each.expectation for text, each in zip(texts, found, strict=True)}
        known = [told.get(question.document.id) for question in questions]
        yield from _answers(model, questions, known, request, meter)
        yield from _records(texts, found, TextRole.HELDOUT, request, counts)
        meter.finish(len(part))


def _places(model: LanguageModel, texts: Sequence[_Text], questions: Sequence[Question]) -> list[int | None]:
    """Return for each text the position where it is asked what is expected."""
    asked, room = {question.document.id: question for question in questions}, room_of(model)
    known = [asked.get(text.document.id) for text in texts]
    return [
        None if question is None else question.place_in(text.tokens, text.scored_from, room)
        for text, question in zip(texts, known, strict=True)
    ]


def _answers(
    model: LanguageModel,
    questions: Sequence[Question],
    known: Sequence[Expectation | None],
    request: Score,
    meter: Meter,
) -> Iterator[NextToken]:
    """Yield the records of all questions in their order; those whose answer is not known are asked alone."""
    alone = [question for question, answer in zip(questions, known, strict=True) if answer is None]
    prompts, following = [each.prompt for each in alone], [each.following for each in alone]
    found = iter(model.expect(prompts, following, request.top_n, request.batch_size, meter.pulse) if alone else ())
    for question, answer in zip(questions, known, strict=True):
        yield question.answered(answer or next(found))


def _next_tokens(
    store: ArtifactStore, model: LanguageModel, request: Score, asking: Asking, counts: _Counts, task: Task
) -> Iterator[NextToken]:
    """Yield the records of all prompts that are left."""
    if request.prompts is None:
        return
    meter = Meter(task, "next tokens", _documents_in(store, request.prompts))
    meter.finish(counts.seen)
    for part in parts(asking.rest(), _BATCHES_AT_ONCE * request.batch_size):
        questions = questions_of(model, part, request)
        counts.asked(len(part), len(questions))
        meter.begin(len(part), sum(len(each.prompt) + len(model.tokens.start) for each in questions))
        yield from _answers(model, questions, [None] * len(questions), request, meter)
        meter.finish(len(part))


def _documents(
    store: ArtifactStore, model: LanguageModel, request: Score, counts: _Counts, task: Task
) -> Iterator[ScoredText]:
    if request.documents is None:
        return
    most, stride = request.max_documents or sys.maxsize, stride_of(model, request.stride)
    meter = Meter(task, "document", min(_documents_in(store, request.documents), most))
    for part in parts(islice(read_corpus(store, request.documents), most), _BATCHES_AT_ONCE * request.batch_size):
        texts = list(cut_texts(model.tokens, part, TextRole.DOCUMENT, request.max_tokens))
        counts.left_out += len(part) - len(texts)
        meter.begin(len(part), sum(len(text.tokens) + len(model.tokens.start) for text in texts))
        found = _examined(model, texts, [None] * len(texts), stride, request, meter)
        yield from _records(texts, found, TextRole.DOCUMENT, request, counts)
        meter.finish(len(part))


def _examined(
    model: LanguageModel,
    texts: Sequence[_Text],
    places: Sequence[int | None],
    stride: int,
    request: Score,
    meter: Meter,
) -> list[Examined]:
    tokens, firsts = [text.tokens for text in texts], [text.scored_from for text in texts]
    return examine_sliding(model, tokens, firsts, places, request.top_n, stride, request.batch_size, meter.pulse)


def _records(
    texts: Sequence[_Text], found: Sequence[Examined], role: TextRole, request: Score, counts: _Counts
) -> Iterator[ScoredText]:
    counts.texts += len(texts)
    for text, each in zip(texts, found, strict=True):
        counts.tokens += len(each.scores.log_probabilities)
        yield _scored(text, each.scores, role, request.last_n if role is TextRole.HELDOUT else 0)


def cut_texts(tokens: Tokens, documents: Sequence[Document], role: TextRole, limit: int) -> Iterator[_Text]:
    """Yield the part of each document that is looked at; one without a token to score is left out."""
    whole = role is TextRole.HELDOUT
    prefixes = [0 if whole else document.prefix_length for document in documents]
    cut = [tokens.split(document.text, prefix) for document, prefix in zip(documents, prefixes, strict=True)]
    for document, prefix, (before, rest) in zip(documents, prefixes, cut, strict=True):
        # Without a start token nothing tells the model that the first token is the first.
        first = max(len(before), 0 if tokens.start else 1)
        seen = [*before, *rest][:limit]
        if len(seen) > first:
            is_whole = len(seen) == len(before) + len(rest) and first == len(before)
            size = len(document.text[prefix:].encode()) if is_whole else tokens.bytes_of(seen[first:])
            yield _Text(document, seen, first, size)


def _scored(text: _Text, scores: TokenScores, role: TextRole, last_n: int) -> ScoredText:
    greedy, tokens = scores.greedy, len(scores.log_probabilities)
    last = min(last_n, tokens)
    return ScoredText(
        document_id=text.document.id,
        cluster=text.document.cluster,
        role=role,
        tokens=tokens,
        text_bytes=text.scored_bytes,
        log_probability=min(0.0, math.fsum(scores.log_probabilities.tolist())),
        greedy_tokens=None if greedy is None else int(greedy.sum()),
        last_tokens=last,
        last_greedy_tokens=None if greedy is None else int(greedy[tokens - last :].sum()),
        domain=text.document.domain,
    )


def _unigram_of(store: ArtifactStore, model: LanguageModel, request: Score, task: Task) -> float | None:
    """Return the perplexity of the unigram model on the tokens that the model itself was scored on."""
    if request.unigram_corpus is None or request.heldout is None:
        return None
    counts = np.zeros(model.vocabulary, dtype=np.int64)
    for part in parts(read_corpus(store, request.unigram_corpus), 256):
        task.check()
        counts += _histogram(chain.from_iterable(model.tokens.encode_many([d.text for d in part])), model.vocabulary)
    scored = np.zeros(model.vocabulary, dtype=np.int64)
    for part in parts(read_corpus(store, request.heldout), 256):
        task.check()
        for text in cut_texts(model.tokens, part, TextRole.HELDOUT, request.max_tokens):
            scored += _histogram(text.tokens[text.scored_from :], model.vocabulary)
    return unigram_perplexity(counts, scored)


def unigram_perplexity(counts: NDArray[np.int64], scored: NDArray[np.int64]) -> float | None:
    """Return the perplexity per token of the add-one smoothed unigram model on scored tokens; None without any.

        q(t) = (c_t + 1) / (N + V)        perplexity = exp(-sum_t s_t log q(t) / sum_t s_t)

    `counts` c and `scored` s have one entry per token of the vocabulary; N = sum of c, V = their length.

    >>> unigram_perplexity(np.array([1, 0]), np.array([0, 1]))
    3.0
    """
    total = int(scored.sum())
    if total == 0:
        return None
    log_shares = np.log(counts + 1.0) - math.log(int(counts.sum()) + len(counts))
    return math.exp(-math.fsum((scored * log_shares).tolist()) / total)


def _histogram(tokens: Iterable[int], vocabulary: int) -> NDArray[np.int64]:
    return np.bincount(np.fromiter(tokens, dtype=np.int64), minlength=vocabulary)


def _documents_in(store: ArtifactStore, ref: ArtifactRef) -> int:
    return int(store.manifest(ref).summary.get("documents") or 0)
