"""Texts as pipelines have them, as documents: plain strings, rows, prompts with what a model wrote after them.

Knows nothing of where they come from or go to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ouroscope.canonical import from_plain
from ouroscope.corpora.openings import text_id
from ouroscope.errors import InvalidRequest
from ouroscope.records.documents import Document, Origin
from ouroscope.shapes import shapes_of

Text = str | Mapping[str, Any] | Document
"""A string, a row with `text` or with `prompt` and `completion`, or a document."""

_MISSING = object()


def answer(prompt: str, completion: str, **fields: Any) -> Document:
    """Return what a model wrote after a prompt as one document, whose prefix is the prompt.

    `fields` are those of Document; `id` is needed. The prompt names itself unless `prompt_id` is given: answers to
    equal prompts depend on one another, and are compared pair by pair with those of another generation.
    """
    named = {"prompt_id": text_id(prompt), "origin": Origin.SYNTHETIC, **fields}
    return Document(text=prompt + completion, prefix_length=len(prompt), **named)


def documents_of(
    texts: Iterable[Text], prompts: Iterable[str] | None = None, groups: Iterable[str] | None = None
) -> Iterator[Document]:
    """Yield a document per text. One without an id is named by its place, so the same input gives the same ids.

    Args:
        texts: What was written; a row may carry the fields of Document, and others, which are left alone.
        prompts: What each text, then a string, was written after.
        groups: What each text shares with those that depend on it: its source, its user, its conversation.

    Raises:
        InvalidRequest: an item is none of these, or there are more or fewer prompts or groups than texts.
    """
    if isinstance(texts, str | Mapping | Document):
        raise InvalidRequest("texts: expected many of them, got one")
    beside = [_beside(prompts, "prompts"), _beside(groups, "groups")]
    for number, text in enumerate(texts):
        prompt, group = (_next_of(values, name) for values, name in beside)
        yield _document(number, text, prompt, group)
    for values, name in beside:
        if values is not None and next(values, _MISSING) is not _MISSING:
            raise InvalidRequest(f"{name}: there are more of them than texts; give one for each text")


def _beside(values: Iterable[str] | None, name: str) -> tuple[Iterator[Any] | None, str]:
    if isinstance(values, str):
        raise InvalidRequest(f"{name}: expected a list of str, got one str")
    return (None if values is None else iter(values)), name


def _next_of(values: Iterator[Any] | None, name: str) -> Any:
    if values is None:
        return None
    found = next(values, _MISSING)
    if found is _MISSING:
        raise InvalidRequest(f"{name}: there are fewer of them than texts; give one for each text")
    return found


def _document(number: int, text: Text, prompt: str | None, group: str | None) -> Document:
    if isinstance(text, Document):
        if prompt is not None:
            raise InvalidRequest(f"texts[{number}] is a document; it says its own prompt, by prefix_length")
        return text if group is None else replace(text, group=group)
    row = dict(text) if isinstance(text, Mapping) else {"text": text} if prompt is None else {"completion": text}
    told = {"prompt": prompt, "group": group}
    row.update({name: value for name, value in told.items() if value is not None})
    try:
        return _of_row(number, row)
    except InvalidRequest as error:
        raise InvalidRequest(f"texts[{number}]: {error.message}", error.problems) from error


def _of_row(number: int, row: dict[str, Any]) -> Document:
    fields = {name: value for name, value in row.items() if name in shapes_of(Document) and value is not None}
    fields.setdefault("id", f"text-{number}")
    if "completion" not in row:
        return from_plain(Document, fields)
    prompt, completion = row.get("prompt"), row["completion"]
    if not (isinstance(prompt, str) and isinstance(completion, str)):
        raise InvalidRequest("a row with a completion needs its prompt, both as text")
    plain = from_plain(Document, {**fields, "text": ""})
    kept = {name: getattr(plain, name) for name in fields if name not in ("text", "prefix_length")}
    return answer(prompt, completion, **kept)
