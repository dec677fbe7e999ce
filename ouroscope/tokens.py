"""How a model cuts text into tokens. Text is text: a control token spelt out in a document stays letters unless asked.

Works on `tokenizer.json` with the tokenizers library alone, so it needs neither torch nor the model.

Every text that a model sees begins with `start`: what the tokenizer itself puts first, else the model's begin token,
else its end token (models whose training joins documents with it), else nothing. With a start token the first token of
a text is scored too, so that bits per byte cover every byte; without one it has no context and is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel

from ouroscope.errors import UntrustedArtifact

_FILE = "tokenizer.json"
_PROBE = ("Ouro", "scope")


class Tokens:
    """Text to tokens and back."""

    def __init__(
        self, tokenizer: Tokenizer, *, start: Sequence[int], ends: Iterable[int], control: bool = False
    ) -> None:
        """Take a tokenizer, which is changed by this, and the tokens that begin and end a document.

        Args:
            tokenizer: of the tokenizers library.
            start: tokens before every text.
            ends: tokens that end a document.
            control: whether control tokens may be spelt out in text, as in the template of a chat.
        """
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = not control
        self._tokenizer = tokenizer
        self.start = tuple(start)
        self.ends = frozenset(ends)
        self._joins = self._joined()
        added = tokenizer.get_added_tokens_decoder()
        plain = [token for token, entry in added.items() if not entry.special]
        self.special = frozenset(token for token, entry in added.items() if entry.special)
        """Control tokens."""
        self._spellings = tuple(entry.content for entry in added.values() if entry.special)
        own = tokenizer.get_vocab(with_added_tokens=False).values()
        self.largest = max((*own, *plain, *self.start, *self.ends), default=-1)
        """Largest token that can be met; the model must know it."""

    @classmethod
    def open(cls, directory: Path, *, control: bool = False) -> Tokens:
        """Read the fast tokenizer of a Hugging Face model directory; see the constructor for `control`.

        The models of a loop have one tokenizer, and share what is read here.

        Raises:
            UntrustedArtifact: tokenizer.json is not a tokenizer.
        """
        settings = (_content(directory / name) for name in ("generation_config.json", "config.json"))
        return _opened(_content(directory / _FILE), *settings, control)

    def is_text(self, token: int) -> bool:
        """Return whether a token stands for text: it ends nothing, controls nothing, and the tokenizer knows it."""
        return token <= self.largest and token not in self.special and token not in self.ends

    def spells_control(self, text: str) -> bool:
        """Return whether a text spells a control token, which a server that cuts texts itself would obey."""
        return any(spelling in text for spelling in self._spellings)

    @property
    def start_in_text(self) -> str:
        """Return what stands for `start` in a text that a server cuts itself; see `in_text`."""
        return self.in_text(self.start)

    def in_text(self, ids: Sequence[int]) -> str:
        """Return what a server that takes texts reads as `ids`, control tokens spelt out.

        What the tokenizer's own template puts first is left out: the server adds it.
        """
        added = template_start(self._tokenizer)
        kept = list(ids[len(added) :] if list(ids[: len(added)]) == added else ids)
        return str(self._tokenizer.decode(kept, skip_special_tokens=False))

    def encode(self, text: str) -> list[int]:
        """Return the tokens of `text`, without start or end."""
        return self.encode_many([text])[0]

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text."""
        return [list(found.ids) for found in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode_many(self, many: Sequence[Sequence[int]]) -> list[str]:
        """Return the text of each list of tokens; control tokens give nothing, broken UTF-8 gives U+FFFD."""
        decoded: list[str] = self._tokenizer.decode_batch([list(ids) for ids in many], skip_special_tokens=True)
        return decoded

    def continued(self, prompts: Sequence[Sequence[int]], added: Sequence[Sequence[int]]) -> list[str]:
        """Return the text that each list of added tokens puts after its prompt."""
        if self._joins:
            return self.decode_many(added)
        # Such a tokenizer treats the beginning of a text in a way of its own, so the seam is found by difference.
        befores = self.decode_many(prompts)
        wholes = self.decode_many([[*prompt, *new] for prompt, new in zip(prompts, added, strict=True)])
        alone = self.decode_many(added)
        seams = zip(befores, wholes, alone, strict=True)
        return [whole[len(before) :] if whole.startswith(before) else new for before, whole, new in seams]

    def split(self, text: str, prefix_length: int) -> tuple[list[int], list[int]]:
        """Return the tokens of the real prefix and of the rest.

        Where the tokenizer allows, no token crosses the seam, as in generation; else the first token that reaches
        beyond the prefix belongs to the rest.
        """
        if self._joins:
            prefix, rest = self.encode_many([text[:prefix_length], text[prefix_length:]])
            return prefix, rest
        found = self._tokenizer.encode(text, add_special_tokens=False)
        seam = next((i for i, (_, end) in enumerate(found.offsets) if end > prefix_length), len(found.ids))
        return list(found.ids[:seam]), list(found.ids[seam:])

    def ends_of(self, text: str, prefix_length: int) -> list[int]:
        """Return where each token of the rest that `split` gives ends, in characters of `text`.

        Tokens that are parts of one character end where it ends.
        """
        begin = prefix_length if self._joins else 0
        found = self._tokenizer.encode(text[begin:], add_special_tokens=False)
        ends = [begin + end for _, end in found.offsets]
        return ends if self._joins else [end for end in ends if end > prefix_length]

    def bytes_of(self, ids: Sequence[int]) -> int:
        """Return the UTF-8 bytes of the text of `ids`.

        Exact for byte-level tokenizers also where a character is cut; others count the replacement of such a part.
        """
        if isinstance(self._tokenizer.decoder, ByteLevel):
            # In a byte-level vocabulary each character of a token stands for one byte.
            return sum(len(self._tokenizer.id_to_token(token) or "") for token in ids)
        (text,) = self.decode_many([ids])
        return len(text.encode())

    def _joined(self) -> bool:
        """Return whether tokens of two texts in a row are tokens of the joined text, as in byte-level BPE."""
        first, second = self.encode_many(_PROBE)
        return self.decode_many([[*first, *second], second]) == ["".join(_PROBE), _PROBE[1]]


def read_tokenizer(directory: Path) -> Tokenizer:
    """Read the fast tokenizer of a Hugging Face model directory as the tokenizers library has it.

    Raises:
        UntrustedArtifact: tokenizer.json is not a tokenizer.
    """
    return _tokenizer(_content(directory / _FILE))


# The library never frees the words that a tokenizer of it has met (0.8 MB each in 0.23.3, docs/log.md), so models that
# cut texts alike share one; content is the key, since every generation has a directory of its own.
@lru_cache(maxsize=4)
def _opened(tokenizer: bytes, generation_config: bytes, config: bytes, control: bool) -> Tokens:
    opened = _tokenizer(tokenizer)
    settings = [dict(json.loads(content or b"{}")) for content in (generation_config, config)]
    ends, begins = (_first_given(settings, key) for key in ("eos_token_id", "bos_token_id"))
    return Tokens(opened, start=template_start(opened) or begins[:1] or ends[:1], ends=ends, control=control)


def _tokenizer(content: bytes) -> Tokenizer:
    try:
        return Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises nothing narrower
        raise UntrustedArtifact("the model is refused: tokenizer.json cannot be read as a fast tokenizer") from error


def template_start(tokenizer: Tokenizer) -> list[int]:
    """Return what the tokenizer's own template puts before a text."""
    plain = tokenizer.encode(_PROBE[0], add_special_tokens=False).ids
    framed = list(tokenizer.encode(_PROBE[0], add_special_tokens=True).ids)
    starts = (i for i in range(len(framed) - len(plain) + 1) if framed[i : i + len(plain)] == plain)
    return framed[: next(starts, 0)]


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _first_given(settings: Iterable[dict[str, Any]], key: str) -> list[int]:
    """Return the token ids of the first configuration that has some; they are written as a number, a list or null."""
    for config in settings:
        value = config.get(key, config.get("text_config", {}).get(key))
        if found := [item for item in (value if isinstance(value, list) else [value]) if type(item) is int]:
            return found
    return []
