"""Human text whose easiest tokens a model draws anew. Knows neither torch nor a transport.

ToEdit (Zhu et al., "How to Synthesize Text Data without Model Collapse?", ICML 2025, arXiv 2412.14689): a token x_t
behind the real prefix with p(x_t | x_<t) > threshold is drawn anew from the top_k tokens that the model expects there;
every other token stays. All probabilities are those of the text as it was given, from one forward pass; noise is keyed
by (seed, document, position), so neither neighbours nor order nor threshold change what is drawn at a position. A draw
often gives the token that was there. Control tokens are never drawn.

Tokens are replaced where they stand for whole characters of their own, before and after; parts of characters, and
tokens that the tokenizer does not spell as the text does, stay. What is not replaced keeps its exact characters.

A document in which a token was replaced is semi-synthetic. It counts as SYNTHETIC, with the model and its generation,
since a share of human text is to be what people wrote to the last token; the others pass as they are. Ids stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, cast

import numpy as np
import structlog
from numpy.typing import NDArray

from ouroscope.corpora.stored import CorpusDraft, read_corpus
from ouroscope.errors import CapabilityMissing
from ouroscope.records.documents import Document, Origin
from ouroscope.records.generation import Capability, Edit, Generated
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.tokens import Tokens
from services.generator.backend import STAYS, Backend, LanguageModel, Pulse, facts_of
from services.generator.declared import IN_PROCESS
from services.generator.generation import Notes
from services.generator.meter import Meter, Task
from services.generator.plan import Plan, parts
from services.generator.sampling import noise
from services.generator.sliding import room_of, stride_of, windows

log = structlog.get_logger(__name__)

_NO_TEXT = "\ufffd"
"""Stands for bytes that are no whole character."""


class Redrawing(LanguageModel, Protocol):
    """A model that can be asked for draws within a text: it needs whole distributions, which servers do not give."""

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
        """Return what is drawn at each text's positions from `first` on, `STAYS` where the token is not too easy."""


@dataclass(frozen=True, slots=True)
class _Text:
    """A document as tokens."""

    document: Document
    tokens: list[int]
    prefix: int
    """Tokens of the real prefix."""
    first: int
    """First token that may be drawn anew."""
    ends: list[int]
    """Where each token behind the real prefix ends, in characters of the text."""


def check_edits(backend: Backend) -> None:
    """Raise CapabilityMissing unless text can be edited at all."""
    if Capability.EDIT not in backend.capabilities:
        raise CapabilityMissing(
            f"text is edited in the generator's own process, by {IN_PROCESS!r}: it needs whole distributions, which "
            f"servers do not give; this generator runs models by {backend.name!r}",
            backend=backend.name,
        )


def edit(store: ArtifactStore, backend: Backend, request: Edit, plan: Plan, key: str, task: Task) -> Generated:
    """Edit every document and publish the corpus; `tokens` of the answer are those that were drawn.

    Args:
        store: Where model and corpus are and the result goes.
        backend: The one in this process.
        request: What to edit.
        plan: How many documents are worked on together.
        key: Digest of request, plan and environment: names the draft.
        task: The operation that this is.

    Raises:
        CapabilityMissing: the backend gives no whole distributions.
    """
    check_edits(backend)
    model = cast(Redrawing, backend.open(request.model))
    draft, notes = CorpusDraft(store, key), Notes(store, key)
    meter = Meter(task, "edit", int(store.manifest(request.corpus).summary.get("documents") or 0))
    counts = []
    for index, documents in enumerate(parts(read_corpus(store, request.corpus), plan.shard_documents)):
        if not draft.has(index):
            edited, drawn, replaced = _edited(model, documents, request, plan.batch_size, meter)
            # The note first: a shard that is there always has its note.
            notes.write(index, len(edited), drawn, replaced)
            draft.add(index, edited)
        counts.append(notes.read(index))
        meter.finish(len(documents))
    done, drawn, replaced = map(sum, zip(*counts, strict=True))
    log.info("texts.edited", documents=done, tokens=drawn, replaced=replaced)
    facts = {"tokens": drawn, "replaced": replaced, "batch_size": plan.batch_size, **facts_of(model.served)}
    ref = draft.publish(facts)
    return Generated(corpus=ref, documents=done, tokens=drawn, batch_size=plan.batch_size, served=model.served)


def _edited(
    model: Redrawing, documents: Sequence[Document], request: Edit, batch_size: int, meter: Meter
) -> tuple[list[Document], int, int]:
    """Return the documents edited, how many tokens were drawn, and how many of them replaced another one."""
    texts = [_cut(model.tokens, document) for document in documents]
    meter.begin(len(texts), sum(len(text.tokens) for text in texts))
    found = redraw_sliding(model, texts, request, batch_size, meter.pulse)
    written = [_rewritten(model.tokens, text, drawn) for text, drawn in zip(texts, found, strict=True)]
    edited = [_credited(text.document, new, request) for text, (new, _) in zip(texts, written, strict=True)]
    return edited, sum(int((drawn != STAYS).sum()) for drawn in found), sum(replaced for _, replaced in written)


def _cut(tokens: Tokens, document: Document) -> _Text:
    before, rest = tokens.split(document.text, document.prefix_length)
    # Without a start token the first token has no context, so nobody knows how easy it is.
    first = max(len(before), 0 if tokens.start else 1)
    ends = tokens.ends_of(document.text, document.prefix_length)
    return _Text(document, [*before, *rest], len(before), first, ends)


def redraw_sliding(
    model: Redrawing, texts: Sequence[_Text], request: Edit, batch_size: int, pulse: Pulse
) -> list[NDArray[np.int64]]:
    """Return what is drawn at each text's positions from its first on; one longer than the context through windows."""
    room, stride = room_of(model), stride_of(model, 0)
    cut = [list(windows(len(text.tokens), text.first, room, stride)) for text in texts]
    noises = [noise(request.seed, text.document.id, max(0, len(text.tokens) - text.first)) for text in texts]
    seen = [(text, w, n) for text, found, n in zip(texts, cut, noises, strict=True) for w in found]
    drawn = iter(
        model.redraw(
            [text.tokens[w.begin : w.end] for text, w, _ in seen],
            [w.scored_from - w.begin for _, w, _ in seen],
            [n[w.scored_from - text.first : w.end - text.first] for text, w, n in seen],
            request.threshold,
            request.top_k,
            batch_size,
            pulse,
        )
    )
    return [np.concatenate([np.empty(0, np.int64), *(next(drawn) for _ in found)]) for found in cut]


def _rewritten(tokens: Tokens, text: _Text, drawn: NDArray[np.int64]) -> tuple[str, int]:
    """Return the text with what was drawn in the place of what stood there, and how many tokens were replaced."""
    given, kept, written = text.document.text, text.document.prefix_length, []
    replacements = list(_replacements(tokens, text, drawn))
    for begin, end, new in replacements:
        written += [given[kept:begin], new]
        kept = end
    return "".join([given[: text.document.prefix_length], *written, given[kept:]]), len(replacements)


def _replacements(tokens: Tokens, text: _Text, drawn: NDArray[np.int64]) -> Iterator[tuple[int, int, str]]:
    """Yield (begin, end, new characters) of every token that is replaced, from the beginning of the text on."""
    news = {
        text.first + i: int(token) for i, token in enumerate(drawn) if token not in {STAYS, text.tokens[text.first + i]}
    }
    befores = [text.tokens[place - 1 : place] if place else [] for place in news]
    old_texts = tokens.continued(befores, [[text.tokens[place]] for place in news])
    new_texts = tokens.continued(befores, [[token] for token in news.values()])
    for place, old, new in zip(news, old_texts, new_texts, strict=True):
        begin, end = _span(text, place - text.prefix)
        if old == text.document.text[begin:end] and new and _NO_TEXT not in old + new:
            yield begin, end, new


def _span(text: _Text, place: int) -> tuple[int, int]:
    """Return the characters of a token behind the real prefix, from where the one before it ends: gaps belong to it."""
    return (text.ends[place - 1] if place else text.document.prefix_length), text.ends[place]


def _credited(document: Document, text: str, request: Edit) -> Document:
    if text == document.text:
        return document
    return replace(
        document,
        text=text,
        origin=Origin.SYNTHETIC,
        generation=request.generation,
        model_digest=request.model.digest,
    )
