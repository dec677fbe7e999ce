"""How documents begin: prompts are cut from texts that people wrote, so that what really follows is known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from ouroscope.canonical import digest_of
from ouroscope.records.documents import Document, Origin


def end_of_words(text: str, words: int) -> int | None:
    """Return where the `words`-th word between white space ends, or None if there are fewer.

    >>> end_of_words("two words here", 2)
    9
    """
    end = 0
    for word in text.split()[:words]:
        end = text.index(word, end) + len(word)
    return end if len(text.split()) >= words else None


def openings(texts: Iterable[str | Document], words: int = 30) -> Iterator[Document]:
    """Yield each text with its first `words` words marked as the prompt; one that is not longer is left out.

    >>> [document.prefix_length for document in openings(["two words here", "two words"], 2)]
    [9]
    """
    for text in texts:
        document = text if isinstance(text, Document) else _human(text)
        end = end_of_words(document.text, words)
        if end is not None and document.text[end:].strip():
            yield replace(document, prefix_length=end)


def text_id(text: str) -> str:
    """Return an id that depends on the text alone, so that the same prompt has the same id in every generation."""
    return digest_of("ouroscope.text/1", text)[:32]


def _human(text: str) -> Document:
    return Document(id=text_id(text), text=text, origin=Origin.HUMAN)
