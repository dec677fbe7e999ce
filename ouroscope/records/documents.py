"""Documents and where they come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from ouroscope.errors import InvalidRequest
from ouroscope.shapes import UNLESS_DEFAULT


class Origin(Enum):
    """Who wrote a text."""

    HUMAN = "HUMAN"
    SYNTHETIC = "SYNTHETIC"
    UNKNOWN = "UNKNOWN"


class View(Enum):
    """Which part of each document is looked at."""

    WHOLE = "WHOLE"
    CONTINUATION = "CONTINUATION"
    """Only what follows the real prefix: `text[prefix_length:]`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One text with its provenance."""

    id: str
    """Unique in its corpus, stable across runs; never empty."""
    text: str
    origin: Origin = Origin.UNKNOWN
    generation: int | None = None
    """Generation of the model that wrote it; None for human text."""
    model_digest: str | None = None
    """Digest of the model that wrote it; None for human or unknown text."""
    prompt_id: str | None = None
    """Document whose beginning served as the prompt; equal prompts make two corpora comparable pair by pair."""
    prefix_length: int = 0
    """Characters at the start of `text` that are real (the prompt), in [0, len(text)]."""
    group: str | None = None
    """Source that documents share (an article, a library): they are one cluster for the statistics."""
    domain: str | None = None
    """Domain of the text (wiki, news, docstrings), where known."""
    summary: str | None = field(default=None, metadata=UNLESS_DEFAULT)
    """What the text is about, as whoever writes it is told in a chat; no part of the text, and not measured."""

    def __post_init__(self) -> None:
        if not (isinstance(self.id, str) and isinstance(self.text, str)):
            told = f"{type(self.id).__name__} and {type(self.text).__name__}"
            raise InvalidRequest(f"id and text of a document are expected to be str, got {told}")
        if not self.id:
            raise InvalidRequest("a document needs an id")
        if not 0 <= self.prefix_length <= len(self.text):
            raise InvalidRequest(f"prefix_length must be in [0, {len(self.text)}], got {self.prefix_length}")

    def visible(self, view: View) -> str:
        """Return the part of the text that `view` looks at."""
        return self.text[self.prefix_length :] if view is View.CONTINUATION else self.text

    @property
    def cluster(self) -> str:
        """Return the name of what this document depends on: its group, else its prompt, else itself."""
        return self.group or self.prompt_id or self.id
