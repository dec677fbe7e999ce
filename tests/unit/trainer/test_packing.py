"""Laws of packing: nothing is lost, nothing is doubled, every block is full."""

from __future__ import annotations

from collections import Counter
from itertools import chain, islice

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ouroscope.errors import InvalidRequest
from services.trainer.data import TokenFile
from services.trainer.packing import (
    CORPUS_BIT,
    DocumentList,
    Joined,
    context,
    epoch_order,
    epoch_tokens,
    packed_blocks,
)

END = 0
documents_with_text = st.lists(st.lists(st.integers(1, 50), max_size=9), min_size=1, max_size=12).filter(any)


def stream(documents, *, block_tokens, blocks, seed=3, first=0):
    supply = packed_blocks(DocumentList(documents), block_tokens=block_tokens, end=END, seed=seed, first=first)
    return [list(block) for block in islice(supply, blocks)]


def first_epoch(documents, block_tokens, seed):
    length = epoch_tokens(DocumentList(documents))
    blocks = stream(documents, block_tokens=block_tokens, blocks=-(-length // block_tokens), seed=seed)
    return list(chain.from_iterable(blocks))[:length]


@settings(deadline=None)
@given(documents_with_text, st.integers(1, 20), st.integers(0, 5))
def test_each_document_stands_once_in_an_epoch_and_ends_with_the_end_token(documents, block_tokens, seed):
    text = first_epoch(documents, block_tokens, seed)
    found, current = [], []
    for token in text:
        if token == END:
            found.append(tuple(current))
            current = []
        else:
            current.append(token)
    assert current == []
    assert Counter(found) == Counter(tuple(d) for d in documents if d)


@settings(deadline=None)
@given(documents_with_text, st.integers(1, 20))
def test_every_block_is_full(documents, block_tokens):
    assert {len(block) for block in stream(documents, block_tokens=block_tokens, blocks=10)} == {block_tokens}


@settings(deadline=None)
@given(documents_with_text, st.integers(1, 20), st.integers(0, 15))
def test_starting_later_gives_what_starting_at_zero_would_have_given(documents, block_tokens, first):
    whole = stream(documents, block_tokens=block_tokens, blocks=first + 4)
    assert stream(documents, block_tokens=block_tokens, blocks=4, first=first) == whole[first:]


@settings(deadline=None)
@given(documents_with_text)
def test_the_size_of_blocks_does_not_change_the_stream(documents):
    small, large = (stream(documents, block_tokens=size, blocks=60 // size) for size in (3, 20))
    assert list(chain.from_iterable(small)) == list(chain.from_iterable(large))


@settings(deadline=None)
@given(st.integers(2, 200), st.integers(0, 9), st.integers(0, 9))
def test_an_epoch_is_a_permutation_that_depends_on_seed_and_epoch_alone(count, seed, epoch):
    order = epoch_order(count, seed, epoch)
    assert sorted(order) == list(range(count))
    assert order == epoch_order(count, seed, epoch)


def test_two_epochs_and_two_seeds_have_different_orders():
    orders = {tuple(epoch_order(50, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_a_corpus_smaller_than_a_block_is_repeated_until_the_block_is_full():
    assert stream([[5, 6]], block_tokens=7, blocks=1) == [[5, 6, END, 5, 6, END, 5]]


def test_documents_without_a_token_are_refused_when_there_is_nothing_else():
    with pytest.raises(InvalidRequest, match="no token to train on"):
        next(packed_blocks(DocumentList([[], []]), block_tokens=8, end=END, seed=0))


@settings(deadline=None)
@given(documents_with_text, st.integers(1, 20))
def test_documents_in_a_file_are_packed_like_documents_in_memory(documents, block_tokens):
    in_file = packed_blocks(TokenFile(iter(documents)), block_tokens=block_tokens, end=END, seed=3)
    assert [list(block) for block in islice(in_file, 5)] == stream(documents, block_tokens=block_tokens, blocks=5)


@settings(deadline=None)
@given(
    st.lists(st.lists(st.lists(st.integers(1, 50), max_size=9), max_size=5), min_size=1, max_size=4), st.integers(1, 20)
)
def test_joined_corpora_are_packed_as_one_and_every_token_that_counts_names_its_own(corpora, block_tokens):
    documents = [[c * 100 + token for token in document] for c, corpus in enumerate(corpora) for document in corpus]
    whole = Joined([TokenFile(iter([[c * 100 + t for t in d] for d in corpus])) for c, corpus in enumerate(corpora)])
    assume(any(documents))
    blocks = packed_blocks(whole, block_tokens=block_tokens, end=END, seed=3)
    found = [list(block) for block in islice(blocks, 8)]
    plain = [[token % 2**32 for token in block] for block in found]
    assert plain == stream(documents, block_tokens=block_tokens, blocks=8)
    current = None
    for token in chain.from_iterable(found):
        text, corpus = token % 2**32, token >> CORPUS_BIT
        # The end of a document belongs to its corpus, as what stands before it.
        assert corpus == (current if text == END else text // 100)
        current = corpus


def test_context_stays_context_in_whatever_corpus():
    whole = Joined([DocumentList([[1]]), DocumentList([[*context([7, 8]), 9]])])
    assert [whole.corpus(position) for position in range(2)] == [0, 1]
    (block,) = islice(packed_blocks(whole, block_tokens=6, end=END, seed=0), 1)
    assert sorted(block) == sorted([1, END, ~7, ~8, 9 + 2**32, END + 2**32])


def test_a_file_counts_the_tokens_that_count_with_their_ends():
    documents = TokenFile(iter([[1, ~2, 3], [], [~4]]))
    assert documents.counting(END) == 2 + 2
    # In a chat the template ends documents, and what stands between them is context.
    assert documents.counting(~END) == 2


def test_a_file_of_documents_knows_their_number_and_lengths():
    documents = TokenFile(iter([[1, 2, 3], [], [4]]))
    assert len(documents) == 3
    assert [documents.length(position) for position in range(3)] == [3, 0, 1]
    assert [list(documents[position]) for position in range(3)] == [[1, 2, 3], [], [4]]
    assert len(TokenFile(iter([]))) == 0
