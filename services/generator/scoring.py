"""What a model thinks of given texts: next-token records, log-probabilities, and two trivial models beside it.

Knows neither torch nor a transport; a backend gives the probabilities of tokens, the sums are made here, in float64.
Texts are cut into parts, which `services.generator.looking` asks about; what is said of a finished part survives a
crash, and parts do not depend on one another.
"""

from __future__ import annotations

import math
import sys
import uuid
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, islice

import numpy as np
import structlog
from numpy.typing import NDArray

from ouroscope.corpora.stored import read_corpus
from ouroscope.predictions import write_records
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.records.generation import Capability, Score, Scored
from ouroscope.records.predictions import TextRole
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.stored_models import base_of
from ouroscope.tokens import Tokens
from services.generator.backend import Backend, facts_of, require
from services.generator.looking import Ledger, Part, cut_texts, look_at
from services.generator.meter import Meter, Task
from services.generator.plan import parts
from services.generator.questions import Asking
from services.generator.workplace import Here, Team, Workplace

log = structlog.get_logger(__name__)

_BATCHES_AT_ONCE = 16
"""Texts are sorted by length within so many batches, and so many are held in memory."""


def score(
    store: ArtifactStore,
    backend: Backend,
    request: Score,
    task: Task,
    key: str = "",
    place: Workplace | None = None,
) -> Scored:
    """Ask the model about every corpus of the request and publish what it says.

    Args:
        store: Where model and corpora are and the answers go.
        backend: What runs the model.
        request: What to ask; `batch_size` is the number of texts that are looked at together and must not be 0.
        task: The operation that this is.
        key: Digest of request and environment: names the draft where parts that are done are found again; none is
            found without it.
        place: Where the model is asked, if not by `backend` here; it computes as the backend does.

    Raises:
        CapabilityMissing: the backend gives no probabilities.
        InvalidRequest: a prompt does not fit into the context, or no text is long enough to be scored.
    """
    require(backend, Capability.SCORE)
    key = key or uuid.uuid4().hex
    team, ledger = (place or Here(store, backend)).open(request.model, key, task.check), Ledger(store, key)
    names = _looked_at(store, team, ledger, request, key, task)
    records = chain.from_iterable(map(ledger.records, names))
    ref = write_records(store, records, {"model": request.model.digest, **facts_of(team.served)})
    counts = [ledger.counts(name) for name in names]
    scored = Scored(
        predictions=ref,
        prompts=sum(each.prompts for each in counts),
        texts=sum(each.texts for each in counts),
        tokens=sum(each.tokens for each in counts),
        unigram_perplexity=_unigram_of(store, team, request, task),
        uniform_perplexity=float(team.vocabulary),
        served=team.served,
    )
    ledger.discard()
    left_out = sum(each.left_out for each in counts)
    log.info("texts.scored", prompts=scored.prompts, texts=scored.texts, tokens=scored.tokens, left_out=left_out)
    return scored


def _looked_at(store: ArtifactStore, team: Team, ledger: Ledger, request: Score, key: str, task: Task) -> list[str]:
    """Let every part be looked at and return their names in their order: held-out texts, prompts, documents."""
    asking = Asking(read_corpus(store, request.prompts) if request.prompts else iter(()))
    names: list[str] = []
    answered = 0

    def noted(found: Iterable[Part]) -> Iterator[Part]:
        nonlocal answered
        for part in found:
            names.append(part.name)
            answered += len(part.asked)
            yield part

    if request.heldout is not None:
        meter = Meter(task, "heldout", _documents_in(store, request.heldout))
        _look(team, ledger, request, key, noted(_heldout(store, request.heldout, asking, request)), meter)
    if request.prompts is not None:
        meter = Meter(task, "next tokens", _documents_in(store, request.prompts))
        meter.finish(answered)
        _look(team, ledger, request, key, noted(_next_tokens(asking, request)), meter)
    if request.documents is not None:
        most = request.max_documents or sys.maxsize
        meter = Meter(task, "document", min(_documents_in(store, request.documents), most))
        found = _documents(islice(read_corpus(store, request.documents), most), request)
        _look(team, ledger, request, key, noted(found), meter)
    return names


def _look(team: Team, ledger: Ledger, request: Score, key: str, found: Iterable[Part], meter: Meter) -> None:
    def left() -> Iterator[Part]:
        for part in found:
            if ledger.has(part.name):
                meter.finish(part.documents)
            else:
                yield part

    for documents in team.map(partial(look_at, request, key), left(), meter):
        meter.finish(documents)


def _heldout(store: ArtifactStore, ref: ArtifactRef, asking: Asking, request: Score) -> Iterator[Part]:
    """Yield the held-out texts, with the prompts that they begin with."""
    for name, texts in _numbered("heldout", read_corpus(store, ref), request):
        asked = list(asking.among({document.id: document.text for document in texts}))
        yield Part(name, TextRole.HELDOUT, texts, asked)


def _next_tokens(asking: Asking, request: Score) -> Iterator[Part]:
    """Yield all prompts that are left."""
    for name, asked in _numbered("prompts", asking.rest(), request):
        yield Part(name, TextRole.HELDOUT, (), asked)


def _documents(documents: Iterable[Document], request: Score) -> Iterator[Part]:
    for name, texts in _numbered("documents", documents, request):
        yield Part(name, TextRole.DOCUMENT, texts, ())


def _numbered(kind: str, documents: Iterable[Document], request: Score) -> Iterator[tuple[str, list[Document]]]:
    for index, part in enumerate(parts(documents, _BATCHES_AT_ONCE * request.batch_size)):
        yield f"{kind}-{index:05d}", part


def _unigram_of(store: ArtifactStore, team: Team, request: Score, task: Task) -> float | None:
    """Return the perplexity of the unigram model on the tokens that the model itself was scored on."""
    if request.unigram_corpus is None or request.heldout is None:
        return None
    tokens = Tokens.open(store.directory(base_of(store, request.model) or request.model))
    counts = np.zeros(team.vocabulary, dtype=np.int64)
    for part in parts(read_corpus(store, request.unigram_corpus), 256):
        task.check()
        counts += _histogram(chain.from_iterable(tokens.encode_many([d.text for d in part])), team.vocabulary)
    scored = np.zeros(team.vocabulary, dtype=np.int64)
    for part in parts(read_corpus(store, request.heldout), 256):
        task.check()
        for text in cut_texts(tokens, part, TextRole.HELDOUT, request.max_tokens):
            scored += _histogram(text.tokens[text.scored_from :], team.vocabulary)
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
