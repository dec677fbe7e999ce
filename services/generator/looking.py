"""What a model says of one part of the texts that are scored, left in a draft; runs wherever the model is.

A part is some batches of documents. What is said of it depends on the part, the request and the model alone, so parts
may be looked at side by side and in any order, and a finished one is not looked at again.

What is scored. Held-out text whole: its first token too where the model has a start token (else that token has no
context, and `tokens` and `text_bytes` leave it out). A document from the end of its real prefix, given that prefix. A
text longer than `max_tokens` is cut at its end, and only the bytes of the scored part count; one longer than the
context is looked at through windows that overlap (`services.generator.sliding`). Prompts that held-out texts begin with
are answered by the same look (`services.generator.questions`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from ouroscope.errors import NotFound, Unavailable
from ouroscope.records.documents import Document
from ouroscope.records.generation import Score
from ouroscope.records.predictions import NextToken, ScoredText, TextRole
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.store.tables import decode_table, encode_table
from ouroscope.tokens import Tokens
from services.generator.backend import Examined, Expectation, LanguageModel, TokenScores
from services.generator.meter import Meter
from services.generator.questions import Question, questions_of
from services.generator.sliding import examine_sliding, room_of, stride_of


@dataclass(frozen=True, slots=True)
class Part:
    """Documents that are looked at together."""

    name: str
    """In the draft."""
    role: TextRole
    texts: Sequence[Document]
    """Are scored."""
    asked: Sequence[Document]
    """Their beginnings are prompts."""

    @property
    def documents(self) -> int:
        """Return how many are looked at."""
        return len(self.texts) or len(self.asked)


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the texts of a part."""

    prompts: int
    texts: int
    tokens: int
    left_out: int
    """Documents too short to give a prompt or a scored token."""


@dataclass(frozen=True, slots=True)
class _Text:
    """A text cut to what the model may see."""

    document: Document
    tokens: list[int]
    scored_from: int
    """First token that counts."""
    scored_bytes: int


class Ledger:
    """What was said of the parts that are done."""

    def __init__(self, store: ArtifactStore, key: str) -> None:
        self._draft = store.draft(key)

    def has(self, name: str) -> bool:
        """Return whether a part is done."""
        return self._draft.has(f"{name}.json")

    def write(self, name: str, counts: Counts, tokens: Sequence[NextToken], texts: Sequence[ScoredText]) -> None:
        """Keep what was said of a part."""
        if tokens:
            self._draft.write(f"{name}-next.parquet", encode_table(NextToken, tokens))
        if texts:
            self._draft.write(f"{name}-texts.parquet", encode_table(ScoredText, texts))
        # Last: a part that is there is whole.
        self._draft.write(f"{name}.json", json.dumps(asdict(counts)).encode())

    def counts(self, name: str) -> Counts:
        """Return what became of the texts of a part."""
        return Counts(**json.loads(self._read(f"{name}.json")))

    def records(self, name: str) -> Iterator[NextToken | ScoredText]:
        """Yield what was said of a part."""
        counts = self.counts(name)
        if counts.prompts:
            yield from decode_table(NextToken, self._read(f"{name}-next.parquet"))
        if counts.texts:
            yield from decode_table(ScoredText, self._read(f"{name}-texts.parquet"))

    def discard(self) -> None:
        """Forget everything."""
        self._draft.discard()

    def _read(self, file: str) -> bytes:
        try:
            return self._draft.read(file)
        except NotFound as error:
            raise Unavailable("another worker has finished and discarded this draft; repeat the request") from error


def look_at(request: Score, key: str, store: ArtifactStore, model: LanguageModel, meter: Meter, part: Part) -> int:
    """Ask the model about one part, keep what it says in the ledger `key`, and return the documents of the part.

    Raises:
        InvalidRequest: a prompt does not fit into the context.
    """
    stride, start = stride_of(model, request.stride), len(model.tokens.start)
    texts = list(cut_texts(model.tokens, part.texts, part.role, request.max_tokens))
    questions = questions_of(model, part.asked, request)
    looks = [text.tokens for text in texts] if part.texts else [each.prompt for each in questions]
    meter.begin(part.documents, sum(len(ids) + start for ids in looks))
    found = _examined(model, texts, _places(model, texts, questions), stride, request, meter) if texts else []
    told = {text.document.id: each.expectation for text, each in zip(texts, found, strict=True)}
    answers = list(_answers(model, questions, [told.get(each.document.id) for each in questions], request, meter))
    records = list(_records(texts, found, part.role, request))
    left_out = len(part.texts) - len(texts) + len(part.asked) - len(questions)
    tokens = sum(record.tokens for record in records)
    Ledger(store, key).write(part.name, Counts(len(answers), len(texts), tokens, left_out), answers, records)
    return part.documents


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


def _records(texts: Sequence[_Text], found: Sequence[Examined], role: TextRole, request: Score) -> Iterator[ScoredText]:
    for text, each in zip(texts, found, strict=True):
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
