"""Documents into full blocks of tokens. Knows token numbers; nothing of tokenizers, tensors or files.

Padding would spend compute on nothing, so documents are written one after another, each closed by the end token, and
the stream is cut into blocks of equal length. The stream never ends: when every document has been read, the next epoch
begins in another order, so the number of optimiser steps is the recipe's alone, whatever the size of the corpus.

A token that is context and nothing else, which nobody is to learn, is written as its complement, `~token`; in blocks,
any other carries the number of its corpus in its upper half. So one array says what a model sees, what it learns and
where that is from, through files, blocks and tensors.
"""

from __future__ import annotations

import random
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Protocol

from ouroscope.errors import InvalidRequest
from ouroscope.seeds import derive_seed

Tokens = Sequence[int]

CORPUS_BIT = 32
"""From this bit on, a token that counts says which corpus it is from."""


class Documents(Protocol):
    """Token lists by position. What holds them decides whether they lie in memory or in a file."""

    def __len__(self) -> int:
        """Return the number of documents."""

    def __getitem__(self, position: int, /) -> Tokens:
        """Return the tokens of one document."""

    def length(self, position: int, /) -> int:
        """Return the number of its tokens, without reading them."""

    def corpus(self, position: int, /) -> int:
        """Return the number of the corpus that it is from."""


class DocumentList:
    """Documents in memory."""

    def __init__(self, documents: Sequence[Tokens]) -> None:
        self._documents = documents

    def __len__(self) -> int:
        return len(self._documents)

    def __getitem__(self, position: int, /) -> Tokens:
        return self._documents[position]

    def length(self, position: int, /) -> int:
        """Return the number of tokens of one document."""
        return len(self._documents[position])

    def corpus(self, position: int, /) -> int:
        """Return 0: they are one corpus."""
        return 0


class Joined:
    """Documents of several corpora, which are numbered in their order, from 0."""

    def __init__(self, corpora: Sequence[Documents]) -> None:
        self._corpora = corpora
        self._ends = list(accumulate(map(len, corpora)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, position: int, /) -> Tokens:
        corpus, own = self._place(position)
        return corpus[own]

    def length(self, position: int, /) -> int:
        """Return the number of tokens of one document."""
        corpus, own = self._place(position)
        return corpus.length(own)

    def corpus(self, position: int, /) -> int:
        """Return the number of the corpus that a document is from."""
        return bisect_right(self._ends, position)

    def _place(self, position: int) -> tuple[Documents, int]:
        number = self.corpus(position)
        return self._corpora[number], position - (self._ends[number - 1] if number else 0)


def context(tokens: Tokens) -> list[int]:
    """Return `tokens` written as context.

    >>> context([0, 7])
    [-1, -8]
    """
    return [~token for token in tokens]


def marked(tokens: Tokens, corpus: int) -> Tokens:
    """Return `tokens` with the number of their corpus in each that counts.

    >>> marked([7, ~8], corpus=1)
    [4294967303, -9]
    """
    mark = corpus << CORPUS_BIT
    return [token | mark if token >= 0 else token for token in tokens] if mark else tokens


def epoch_order(documents: int, seed: int, epoch: int) -> Sequence[int]:
    """Return the positions of all documents in the order of one epoch; depends on the arguments alone."""
    order = array("q", range(documents))
    random.Random(derive_seed(seed, "epoch", epoch)).shuffle(order)
    return order


def epoch_tokens(documents: Documents) -> int:
    """Return the length of one epoch of the stream: all tokens, and an end token per document that has any."""
    lengths = (documents.length(position) for position in range(len(documents)))
    return sum(length + 1 for length in lengths if length)


def packed_blocks(
    documents: Documents, *, block_tokens: int, end: int, seed: int, first: int = 0
) -> Iterator[array[int]]:
    """Yield blocks without end, starting with block number `first`; each holds exactly `block_tokens` tokens.

    The blocks joined are the epochs joined: in every epoch each document appears once, followed by `end`. Starting at
    `first` gives what is left after taking `first` blocks, without reading the documents before. A document without
    tokens is passed over. Memory: one order of the documents and one block.

    Raises:
        InvalidRequest: no document has a token.

    >>> [list(b) for _, b in zip(range(2), packed_blocks(DocumentList([[5, 6]]), block_tokens=4, end=0, seed=1))]
    [[5, 6, 0, 5], [6, 0, 5, 6]]
    """
    per_epoch = epoch_tokens(documents)
    if not per_epoch:
        raise InvalidRequest("the corpora hold no token to train on; give documents that are not empty")
    epoch, skip = divmod(first * block_tokens, per_epoch)
    block = array("q")
    for piece in _pieces(documents, end, seed, epoch, skip):
        start = 0
        while start < len(piece):
            taken = piece[start : start + block_tokens - len(block)]
            block.extend(taken)
            start += len(taken)
            if len(block) == block_tokens:
                yield block
                block = array("q")


def _pieces(documents: Documents, end: int, seed: int, epoch: int, skip: int) -> Iterator[Tokens]:
    """Yield each document with its end token, epoch after epoch, leaving out the first `skip` tokens."""
    while True:
        for position in epoch_order(len(documents), seed, epoch):
            length = documents.length(position)
            if not length:
                continue
            if skip > length:
                skip -= length + 1
                continue
            yield marked([*documents[position], end], documents.corpus(position))[skip:]
            skip = 0
        epoch += 1
