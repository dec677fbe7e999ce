"""Stored corpora into token lists. Knows a tokenizer and documents; nothing of blocks, models or gradients."""

from __future__ import annotations

import errno
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
from transformers import AutoTokenizer

from ouroscope.errors import InvalidRequest, StorageFull, UntrustedArtifact
from ouroscope.models import BUILDING
from services.trainer.packing import Tokens

_TEXTS_AT_ONCE = 256


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
            file.write(np.asarray(tokens, dtype=np.int32).tobytes())
            end += len(tokens)
            self._ends.append(end)

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

    def _begin(self, position: int) -> int:
        return self._ends[position - 1] if position else 0


class Tokenizer:
    """The tokenizer of a model directory that has been checked."""

    def __init__(self, directory: Path, vocabulary: int) -> None:
        """Open it.

        Args:
            directory: A directory that `check_model_directory` accepted.
            vocabulary: Rows of the model's embedding; no token may lie beyond.
        """
        with BUILDING:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                directory, local_files_only=True, trust_remote_code=False
            )
        self._vocabulary = vocabulary

    @property
    def end(self) -> int:
        """Return the token that closes a document.

        Raises:
            InvalidRequest: the tokenizer has none.
        """
        if self._tokenizer.eos_token_id is None:
            raise InvalidRequest(
                "the tokenizer of the model has no end-of-sequence token; set eos_token and save it again"
            )
        return int(self._tokenizer.eos_token_id)

    def tokens(self, texts: Iterable[str], check: Callable[[], None]) -> Iterator[Tokens]:
        """Yield the tokens of each text, without special tokens; `check` is called between portions and may raise.

        A text that spells a special token is read as the text it is: a document cannot end itself.
        """
        remaining = iter(texts)
        while portion := list(islice(remaining, _TEXTS_AT_ONCE)):
            check()
            encoded = self._tokenizer(portion, add_special_tokens=False, split_special_tokens=True, verbose=False)
            for tokens in encoded["input_ids"]:
                self._check_range(tokens)
                yield tokens

    def _check_range(self, tokens: Tokens) -> None:
        if tokens and max(tokens) >= self._vocabulary:
            raise UntrustedArtifact("the model is refused: its tokenizer knows more tokens than its weights")
