"""Human documents cut into windows: prompts, human training text and human reference in one corpus.

Windows of a document follow each other without overlap from its beginning; what is left at its end is dropped. They are
taken in an order keyed by (seed, document, position), so disjoint slices of one order are disjoint sets of windows.
A document with a summary has only its first window: a summary says little of what stands in the middle.

A window counts only if its text means its tokens: decoded and tokenised again, whole and prefix alone, it gives the
same tokens. Otherwise the real prefix would not be the `prefix_tokens` tokens that the caller asked for. With
byte-level BPE that drops few windows: those cut inside a character, or where the tokenizer would have merged.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ouroscope.corpora.stored import read_corpus, write_corpus
from ouroscope.errors import PreconditionFailed
from ouroscope.records.documents import Document, Origin
from ouroscope.records.generation import Generated, PreparePrompts, WindowSpec
from ouroscope.records.progress import Progress
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.tokens import Tokens
from services.generator.meter import Task
from services.generator.plan import parts

ALGORITHM = "windows/1"
"""Part of the digest of every request for windows: raise it when the same request would give other windows."""
_DOCUMENTS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of a document's tokens that may become a window."""

    document: Document
    position: int
    """Number of the window in its document, from 0."""
    tokens: list[int]


@dataclass(slots=True)
class Pool:
    """Counts what a corpus had to offer."""

    windows: int = 0
    dropped: int = 0
    """Windows whose text does not mean their tokens."""


def prepare_prompts(store: ArtifactStore, request: PreparePrompts, tokens: Tokens, task: Task) -> Generated:
    """Cut the corpus, take the slice that is asked for and publish it.

    Raises:
        PreconditionFailed: the corpus has too few windows; the message says how many there are.
    """
    pool = Pool()
    total = int(store.manifest(request.corpus).summary.get("documents") or 0)

    def look_on(done: int) -> None:
        task.check()
        task.report(Progress(stage="cut", done=done, total=total, unit="documents"))

    taken = take(
        windows(read_corpus(store, request.corpus), tokens, request.window, pool, look_on), request.window, pool
    )
    facts = {"tokens": request.window.count * request.window.document_tokens, "windows": pool.windows}
    ref = write_corpus(store, taken, summary={**facts, "windows_dropped": pool.dropped})
    return Generated(corpus=ref, documents=len(taken), tokens=request.window.count * request.window.document_tokens)


def windows(
    documents: Iterable[Document], tokens: Tokens, window: WindowSpec, pool: Pool, look_on: Callable[[int], None]
) -> Iterator[tuple[bytes, Document]]:
    """Yield every window with its place in the keyed order; `look_on` hears how many documents are done."""
    done = 0
    for portion in parts(documents, _DOCUMENTS_AT_ONCE):
        pieces = list(_pieces(portion, tokens.encode_many([document.text for document in portion]), window))
        for piece, text, prefix in _faithful(pieces, tokens, window, pool):
            yield _place(window.seed, piece), _window(piece, text, prefix)
        done += len(portion)
        look_on(done)


def take(candidates: Iterable[tuple[bytes, Document]], window: WindowSpec, pool: Pool) -> list[Document]:
    """Return the slice [offset, offset + count) of the candidates in their keyed order.

    Holds offset + count windows in memory, however large the corpus is.
    """
    needed = window.offset + window.count
    first = heapq.nsmallest(needed, candidates, key=lambda candidate: candidate[0])
    if len(first) < needed:
        raise PreconditionFailed(
            f"the corpus has {pool.windows} windows of {window.document_tokens} tokens and {needed} are needed; lower "
            "the number of documents or generations, shorten the documents (document_tokens), or bring more text",
            windows=str(pool.windows),
            needed=str(needed),
        )
    return [document for _, document in first[window.offset :]]


def _pieces(documents: Sequence[Document], encoded: Sequence[list[int]], window: WindowSpec) -> Iterator[_Piece]:
    size = window.document_tokens
    for document, tokens in zip(documents, encoded, strict=True):
        count = len(tokens) // size
        for position in range(count if document.summary is None else min(count, 1)):
            yield _Piece(document, position, tokens[position * size : (position + 1) * size])


def _faithful(
    pieces: Sequence[_Piece], tokens: Tokens, window: WindowSpec, pool: Pool
) -> Iterator[tuple[_Piece, str, str]]:
    """Yield (piece, text, text of the prefix) of those whose text means their tokens."""
    wholes = [piece.tokens for piece in pieces]
    prefixes = [whole[: window.prefix_tokens] for whole in wholes]
    texts, starts = tokens.decode_many(wholes), tokens.decode_many(prefixes)
    again, starts_again = tokens.encode_many(texts), tokens.encode_many(starts)
    for number, piece in enumerate(pieces):
        same = again[number] == wholes[number] and starts_again[number] == prefixes[number]
        if same and texts[number].startswith(starts[number]):
            pool.windows += 1
            yield piece, texts[number], starts[number]
        else:
            pool.dropped += 1


def _place(seed: int, piece: _Piece) -> bytes:
    return hashlib.sha256(f"{ALGORITHM}\n{seed}\n{piece.position}\n{piece.document.id}".encode()).digest()


def _window(piece: _Piece, text: str, prefix: str) -> Document:
    name = f"{piece.document.id}#{piece.position}"
    # Whoever asks for windows says that the corpus is human; only a text that claims otherwise keeps its origin.
    synthetic = piece.document.origin is Origin.SYNTHETIC
    return Document(
        id=name,
        text=text,
        origin=Origin.SYNTHETIC if synthetic else Origin.HUMAN,
        generation=piece.document.generation,
        model_digest=piece.document.model_digest,
        prompt_id=name,
        prefix_length=len(prefix),
        group=piece.document.cluster,
        domain=piece.document.domain,
        summary=piece.document.summary,
    )
