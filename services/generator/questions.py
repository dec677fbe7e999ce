"""Prompts for next-token records, many of them beginnings of texts that are scored anyway. Knows no torch, no store.

A causal model that sees a whole text says at the end of the prompt what it would say of the prompt alone. So where the
documents that give prompts stand among the held-out ones, in the same order, one look at a text answers both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ouroscope.corpora.openings import end_of_words
from ouroscope.errors import InvalidRequest
from ouroscope.records.documents import Document
from ouroscope.records.generation import PromptUnit, Score
from ouroscope.records.predictions import NextToken
from ouroscope.tokens import Tokens
from services.generator.backend import Expectation, LanguageModel


@dataclass(frozen=True, slots=True)
class Question:
    """What is expected after the beginning of a document."""

    document: Document
    prompt: list[int]
    following: int | None
    """The token that really follows; None where the document ends."""

    def place_in(self, tokens: Sequence[int], scored_from: int, room: int) -> int | None:
        """Return the position of a scored text that asks the same, None if there is none.

        Args:
            tokens: Of the text, as far as it is looked at.
            scored_from: First position that is scored.
            room: Tokens that are seen at once, from the beginning.
        """
        place = len(self.prompt)
        seen = scored_from <= place < min(len(tokens), room)
        same = seen and list(tokens[: place + 1]) == [*self.prompt, self.following]
        return place if same else None

    def answered(self, expectation: Expectation) -> NextToken:
        """Return the record of what a model expects."""
        return NextToken(
            prompt_id=self.document.id,
            cluster=self.document.cluster,
            top_probabilities=expectation.top_probabilities,
            entropy=expectation.entropy,
            true_rank=expectation.true_rank,
            true_probability=expectation.true_probability,
            domain=self.document.domain,
        )


class Asking:
    """The documents whose beginnings are prompts, one after the other."""

    def __init__(self, documents: Iterator[Document]) -> None:
        self._documents = documents
        self._next = next(documents, None)

    def among(self, texts: Mapping[str, str]) -> Iterator[Document]:
        """Take the next documents as long as they are among these texts, which are given by their ids."""
        while (document := self._next) is not None and texts.get(document.id) == document.text:
            self._next = next(self._documents, None)
            yield document

    def rest(self) -> Iterator[Document]:
        """Take all that are left."""
        while (document := self._next) is not None:
            self._next = next(self._documents, None)
            yield document


def questions_of(model: LanguageModel, documents: Sequence[Document], request: Score) -> list[Question]:
    """Return the question of each document that is long enough for one.

    Raises:
        InvalidRequest: a prompt does not fit into the context.
    """
    cut = zip(documents, _prompts(model.tokens, documents, request), strict=True)
    found = [Question(document, *prompt) for document, prompt in cut if prompt is not None]
    for question in found:
        _check_room(model, question)
    return found


def _prompts(
    tokens: Tokens, documents: Sequence[Document], request: Score
) -> Iterator[tuple[list[int], int | None] | None]:
    """Yield the tokens of each prompt and the one that really follows; None if the text is too short."""
    length = request.prompt_length
    if request.prompt_unit is PromptUnit.TOKENS:
        for ids in tokens.encode_many([document.text for document in documents]):
            yield (ids[:length], next(iter(ids[length:]), None)) if len(ids) >= length else None
        return
    for document in documents:
        end = end_of_words(document.text, length)
        before, rest = tokens.split(document.text, end or 0)
        yield None if end is None else (before, next(iter(rest), None))


def _check_room(model: LanguageModel, question: Question) -> None:
    size, start = len(question.prompt), len(model.tokens.start)
    if size + start == 0 or size + start > model.context_tokens:
        raise InvalidRequest(
            f"the prompt of document {question.document.id[:80]!r} has {size} tokens and the model sees "
            f"{model.context_tokens} at once; lower prompt_length"
        )
