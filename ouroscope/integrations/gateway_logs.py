"""Logs of prompts and completions, a JSON object per line, as a gateway before vLLM or TGI writes them, also as .gz.

Reads one line at a time, of bounded size. A line that cannot be used is counted under its reason and never shown.

>>> from ouroscope.integrations.gateway_logs import GatewayLog
>>> from ouroscope.integrations.pipeline import record_generation
>>> def yesterday(path, number):
...     answers = GatewayLog(path, model="news-g7")
...     return record_generation("news", number, answers, description=answers.description)
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import structlog

from ouroscope.corpora.openings import text_id
from ouroscope.corpora.streams import Limits, input_errors, unzipped
from ouroscope.errors import InvalidRequest
from ouroscope.integrations.documents import answer
from ouroscope.integrations.gateway_formats import Exchange, Unusable, exchanges
from ouroscope.records.documents import Document

log = structlog.get_logger(__name__)


@dataclass
class Tally:
    """What one reading of a log came upon."""

    lines: int = 0
    """Lines that are not blank."""
    documents: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Lines that gave no document, by reason."""


class GatewayLog:
    """The completions of one log file as documents; iterate over it as often as you like."""

    def __init__(
        self,
        source: str | Path,
        *,
        model: str = "",
        group_field: str = "",
        keep_prompts: bool = True,
        limits: Limits | None = None,
    ) -> None:
        """Say what is read; nothing is opened yet.

        Args:
            source: The file.
            model: Only what this model answered; empty means any.
            group_field: Where each line names what its answers share with others, for example `request.user`: they
                are then one observation, whatever their prompts. Without it equal prompts are.
            keep_prompts: Whether a document begins with its prompt. It is not measured, so leaving it out changes no
                number and sends less.
            limits: How much is believed: bytes of a line, and of a file when it is decompressed.
        """
        self._path = Path(source)
        self._model = model
        self._group_field = group_field
        self._keep_prompts = keep_prompts
        self._limits = limits or Limits()
        self.tally = Tally()
        """Of the last reading."""

    @property
    def description(self) -> str:
        """Return which model wrote this: the one asked for, else that of the first completion. Reads up to it."""
        name = self._model or next((exchange.model for _, exchange, _ in self._exchanges(Tally())), "")
        return f"model {name}"[:256] if name else ""

    def __iter__(self) -> Iterator[Document]:
        """Yield a document per completion; at the end say in the log how many lines gave none, and why.

        Raises:
            NotFound: the file does not exist.
            InvalidRequest: not one completion is in it.
            LimitExceeded: it grows too large when decompressed.
            PreconditionFailed: it may not be read.
        """
        self.tally = tally = Tally()
        for place, exchange, row in self._exchanges(tally):
            tally.documents += 1
            yield self._document(place, exchange, row)
        told = {"lines": tally.lines, "documents": tally.documents, "left_out": dict(tally.left_out)}
        log.info("gateway_log.read", file=self._path.name, **told)
        if not tally.documents:
            reasons = ", ".join(f"{count} {reason}" for reason, count in tally.left_out.most_common())
            raise InvalidRequest(f"{self._path} has no completion; its lines: {reasons or 'none'}")

    def _document(self, place: str, exchange: Exchange, row: Mapping[str, Any]) -> Document:
        prompt_id = text_id(exchange.key)
        group = (_named(row, self._group_field) if self._group_field else None) or prompt_id
        before = exchange.prompt if self._keep_prompts else ""
        return answer(before, exchange.completion, id=place, prompt_id=prompt_id, group=group)

    def _exchanges(self, tally: Tally) -> Iterator[tuple[str, Exchange, Mapping[str, Any]]]:
        """Yield name, content and line of each completion; count the lines that have none."""
        with input_errors(str(self._path)), ExitStack() as stack:
            for number, raw in enumerate(_lines(self._opened(stack), self._limits.document_bytes), 1):
                tally.lines += raw is None or bool(raw.strip())
                try:
                    row = _row(raw)
                    found = [] if row is None else self._wanted(row)
                except Unusable as reason:
                    tally.left_out[str(reason)] += 1
                    continue
                for index, exchange in enumerate(found):
                    yield f"{self._path.name}:{number}/{index}", exchange, row or {}

    def _opened(self, stack: ExitStack) -> BinaryIO:
        return unzipped(stack.enter_context(self._path.open("rb")), str(self._path), self._limits)

    def _wanted(self, row: Mapping[str, Any]) -> list[Exchange]:
        found = list(exchanges(row))
        wanted = [exchange for exchange in found if not self._model or exchange.model == self._model]
        if found and not wanted:
            raise Unusable("answers of other models")
        return wanted


def _lines(stream: BinaryIO, most: int) -> Iterator[bytes | None]:
    """Yield lines; None for one that is too long, of which no more than `most` bytes are ever held."""
    while raw := stream.readline(most + 1):
        if len(raw) <= most:
            yield raw
            continue
        while raw and not raw.endswith(b"\n"):
            raw = stream.readline(most + 1)
        yield None


def _row(raw: bytes | None) -> Mapping[str, Any] | None:
    """Return the object of a line, None for a blank one."""
    if raw is None:
        raise Unusable("too long")
    if not raw.strip():
        return None
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Unusable("not JSON") from error
    if not isinstance(row, Mapping):
        raise Unusable("not an object")
    return row


def _named(row: Mapping[str, Any], path: str) -> str | None:
    found: Any = row
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return str(found) if isinstance(found, str | int) and found != "" else None
