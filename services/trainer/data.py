"""Stored corpora into token lists. Knows a tokenizer and documents; nothing of blocks, models or gradients."""

from __future__ import annotations

import errno
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
from transformers import AutoTokenizer

from ouroscope.chat import chat_frame
from ouroscope.errors import FieldProblem, InvalidRequest, StorageFull, UntrustedArtifact
from ouroscope.models import BUILDING
from ouroscope.records.documents import Document
from ouroscope.records.generation import ChatFormat
from ouroscope.records.training import LossScope
from ouroscope.tokens import Tokens as TextTokens
from services.trainer.packing import Tokens, context

_DOCUMENTS_AT_ONCE = 256


class TokenFile:
    """Documents in an unnamed file: memory holds one number per document, whatever the size of the corpus.

    The file has no name, so nobody else can open it and it is gone when the process is.
    """

    def __init__(self, documents: Iterable[Tokens]) -> None:
        """Write `documents` down, in their order.

        Raises:
            StorageFull: the temporary directory has no room for them.
        """
        self._ends = array("q")
        self._counting = self._with_text = 0
        try:
            # Mapped memory outlives the file object, and the disk space is freed with the mapping.
            with tempfile.TemporaryFile() as file:
                self._write(documents, file)
                file.flush()
                self._tokens = self._mapped(file)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            raise StorageFull("no room for the tokens of the corpora in the temporary directory; free some") from None

    def _write(self, documents: Iterable[Tokens], file: IO[bytes]) -> None:
        end = 0
        for tokens in documents:
            written = np.asarray(tokens, dtype=np.int32)
            file.write(written.tobytes())
            end += len(written)
            self._ends.append(end)
            self._counting += int(np.count_nonzero(written >= 0))
            self._with_text += bool(len(written))

    def _mapped(self, file: IO[bytes]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
        size = self._ends[-1] if self._ends else 0
        # An empty file cannot be mapped.
        return np.memmap(file, dtype=np.int32, mode="r", shape=(size,)) if size else np.zeros(0, np.int32)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, position: int, /) -> Tokens:
        tokens: list[int] = self._tokens[self._begin(position) : self._ends[position]].tolist()
        return tokens

    def length(self, position: int, /) -> int:
        """Return the number of tokens of one document."""
        return self._ends[position] - self._begin(position)

    def corpus(self, position: int, /) -> int:
        """Return 0: they are one corpus."""
        return 0

    def counting(self, end: int) -> int:
        """Return how many tokens of one epoch count, with `end` behind each document that has any."""
        return self._counting + (self._with_text if end >= 0 else 0)

    def _begin(self, position: int) -> int:
        return self._ends[position - 1] if position else 0


class Tokenizer:
    """The tokenizer of a model directory that has been checked; it cuts text as generation does."""

    def __init__(
        self, directory: Path, vocabulary: int, scope: LossScope = LossScope.ALL, chat: ChatFormat | None = None
    ) -> None:
        """Open it.

        Args:
            directory: A directory that `check_model_directory` accepted.
            vocabulary: Rows of the model's embedding; no token may lie beyond.
            scope: Which tokens of a document count.
            chat: Documents as answers of a chat: nothing but an answer and its end counts; None as plain text.

        Raises:
            InvalidRequest: the model has no template for a chat.
        """
        with BUILDING:
            opened: Any = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        self._end = opened.eos_token_id
        self._tokens = TextTokens.open(directory)
        self._frame = chat_frame(directory, chat) if chat else None
        self._vocabulary, self._scope = vocabulary, scope

    @property
    def end(self) -> int:
        """Return the token that closes a document; as context where the template of a chat has ended it already.

        Raises:
            InvalidRequest: the tokenizer has none.
        """
        if self._end is None:
            described = "the tokenizer of the model has no end-of-sequence token; set eos_token and save it again"
            raise InvalidRequest(described, [FieldProblem("model", described)])
        return ~int(self._end) if self._frame and self._frame.ends else int(self._end)

    def tokens(self, documents: Iterable[Document], check: Callable[[], None]) -> Iterator[Tokens]:
        """Yield the tokens of each document, those that do not count as context; `check` is called now and then.

        A text that spells a special token is read as the text it is: a document cannot end itself.

        Raises:
            InvalidRequest: the instruction of a chat tells the summary of each document, and one has none.
        """
        cut = self._whole if self._scope is LossScope.ALL else self._continuations
        remaining = iter(documents)
        while portion := list(islice(remaining, _DOCUMENTS_AT_ONCE)):
            check()
            for document, text in zip(portion, cut(portion), strict=True):
                tokens = self._framed(text, document.summary) if text and self._frame else text
                self._check_range(tokens)
                yield tokens

    def _whole(self, documents: Sequence[Document]) -> Iterable[Tokens]:
        return self._tokens.encode_many([document.text for document in documents])

    def _continuations(self, documents: Sequence[Document]) -> Iterable[Tokens]:
        for document in documents:
            prefix, rest = self._tokens.split(document.text, document.prefix_length)
            yield [*context(prefix), *rest]

    def _framed(self, text: Tokens, summary: str | None) -> Tokens:
        assert self._frame
        end = [token for token in self._frame.after[:1] if token in self._frame.ends]
        return [*context(self._frame.before(summary)), *text, *end, *context(self._frame.after[len(end) :])]

    def _check_range(self, tokens: Tokens) -> None:
        if tokens and max(max(tokens), ~min(tokens)) >= self._vocabulary:
            raise UntrustedArtifact("the model is refused: its tokenizer knows more tokens than its weights")
