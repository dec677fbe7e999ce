"""Documents as answers of a chat: what a model's own template puts before and behind an answer.

The template is rendered once, by transformers in its sandbox, with marks where people's words go; a document never
passes through it. So a document keeps every byte, and what an instruction or a summary spells out stays text: only the
control tokens of the template itself count. Generator and trainer use the same frame, so a model is asked as it was
taught. Knows neither torch nor the model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from ouroscope.errors import InvalidRequest, UntrustedArtifact
from ouroscope.model_files import MAX_CONFIG_BYTES, read_settings
from ouroscope.records.generation import ChatFormat
from ouroscope.tokens import Tokens

TEMPLATE = "chat_template.jinja"
_SETTINGS = "tokenizer_config.json"
_SYSTEM, _USER, _ANSWER = "OuroscopeMarkOfSystem", "OuroscopeMarkOfUser", "OuroscopeMarkOfAnswer"
"""Stand for what each role says while the template is rendered; a template that trims or escapes leaves them as is."""
_ROLES = {_SYSTEM: "system", _USER: "user", _ANSWER: "assistant"}
_DAY = "26 Jul 2024"
"""The day that templates fall back on: a template that told today's would make equal requests differ."""


@dataclass(frozen=True, slots=True)
class ChatFrame:
    """What stands around an answer."""

    after: tuple[int, ...]
    """Tokens behind the answer: the end of its turn, and what the template puts there."""
    ends: frozenset[int]
    """Tokens that end an answer, beside `Tokens.ends`."""
    _asking: Callable[[str | None], tuple[int, ...]]

    def before(self, summary: str | None = None) -> tuple[int, ...]:
        """Return the tokens up to the first of an answer; they take the place of `Tokens.start`.

        Args:
            summary: What the answer is to be about, where the instruction tells it.

        Raises:
            InvalidRequest: the instruction tells the summary, and there is none.
        """
        return self._asking(summary)


def chat_frame(directory: Path, chat: ChatFormat) -> ChatFrame:
    """Return what the template of a model puts around an answer.

    Args:
        directory: Checked files of a whole model; an adapter has the template of its base.
        chat: What the system and the user say.

    Raises:
        InvalidRequest: the model has no template, or its template does not take these turns.
        UntrustedArtifact: the template is no template.
    """
    settings = read_settings(directory / _SETTINGS) if (directory / _SETTINGS).is_file() else {}
    marks = [_USER] if chat.system is None else [_SYSTEM, _USER]
    before, after = _halves(_rendered(_template(directory, settings), [*marks, _ANSWER], settings), marks)
    plain, control = Tokens.open(directory), Tokens.open(directory, control=True)

    def asking(summary: str | None) -> tuple[int, ...]:
        words = (chat.asked(summary),) if chat.system is None else (chat.system, chat.asked(summary))
        return tuple(_encoded(before, dict(zip(marks, words, strict=True)), plain, control))

    behind = control.encode(after)
    ends = frozenset(behind[:1]) & control.special
    # Without summaries all documents are asked for alike: tokens are cut once.
    always = None if chat.tells_summaries else asking(None)
    return ChatFrame(tuple(behind), ends, asking if always is None else lambda _: always)


def _template(directory: Path, settings: dict[str, Any]) -> str:
    """Return the template that transformers would take."""
    path = directory / TEMPLATE
    if path.is_file():
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise UntrustedArtifact(f"the model is refused: {TEMPLATE} is larger than {MAX_CONFIG_BYTES} bytes")
        return path.read_text(encoding="utf-8", errors="replace")
    told = settings.get("chat_template")
    named = told if isinstance(told, list) else [{"name": "default", "template": told}]
    found = [each.get("template") for each in named if isinstance(each, dict) and each.get("name") == "default"]
    if not found or not isinstance(found[0], str):
        raise InvalidRequest("the model has no chat template; ask without sampling.chat, or take a model for chats")
    return found[0]


def _rendered(template: str, marks: Sequence[str], settings: dict[str, Any]) -> str:
    turns = [{"role": _ROLES[mark], "content": mark} for mark in marks]
    names = {key: _text(value) for key, value in settings.items() if key.endswith("_token")}
    try:
        (rendered,), _ = render_jinja_template([turns], chat_template=template, date_string=_DAY, **names)
    except TemplateError as error:
        raise InvalidRequest(
            "the model's chat template does not take these turns; leave out sampling.chat.system, or sampling.chat"
        ) from error
    except Exception as error:  # a template is a program: it fails in any way
        raise UntrustedArtifact("the model is refused: its chat template cannot be rendered") from error
    return str(rendered)


def _halves(rendered: str, marks: Sequence[str]) -> tuple[str, str]:
    """Return what stands before the answer and behind it."""
    if rendered.count(_ANSWER) != 1 or any(rendered.partition(_ANSWER)[0].count(mark) != 1 for mark in marks):
        raise InvalidRequest("the model's chat template leaves out or repeats a turn; ask without sampling.chat")
    before, _, after = rendered.partition(_ANSWER)
    return before, after


def _text(token: object) -> str | None:
    """Return the text of a special token, which is written as a string or as an object."""
    told = token.get("content") if isinstance(token, dict) else token
    return told if isinstance(told, str) else None


def _encoded(before: str, said: dict[str, str], plain: Tokens, control: Tokens) -> list[int]:
    """Return the tokens of what stands before the answer, with people's words in place of their marks."""
    pieces = re.split("|".join(f"({mark})" for mark in said), before)
    pieces = [piece for piece in pieces if piece]
    if all(plain.encode(words) == control.encode(words) for words in said.values()):
        # At once, as the library does: tokens may reach across the seams.
        return control.encode("".join(said.get(piece, piece) for piece in pieces))
    # Somebody spells a control token: people's words are encoded apart, as text.
    parts = (plain.encode(said[piece]) if piece in said else control.encode(piece) for piece in pieces)
    return [token for part in parts for token in part]
