"""Windows of human text: what they are, and which are taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ouroscope.corpora.stored import read_corpus, write_corpus
from ouroscope.errors import Cancelled, PreconditionFailed
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import Document, Origin
from ouroscope.records.generation import PreparePrompts, WindowSpec
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.tokens import Tokens
from services.generator.in_process.model import HfModel
from services.generator.windows import Pool, prepare_prompts, take, windows

WINDOW = WindowSpec(document_tokens=16, prefix_tokens=5, count=6, seed=3)


def silent(_: int) -> None:
    """Let the work go on."""


def all_windows(documents: Iterable[Document], tokens: Tokens, window: WindowSpec) -> list[Document]:
    pool = Pool()
    found = sorted(windows(documents, tokens, window, pool, silent), key=lambda pair: pair[0])
    assert len(found) == pool.windows
    return [document for _, document in found]


@given(texts=st.lists(st.text(max_size=120), max_size=8), size=st.integers(2, 9), prefix=st.integers(1, 8))
def test_the_text_of_a_window_and_of_its_prefix_mean_exactly_their_tokens(
    model: HfModel, texts: list[str], size: int, prefix: int
) -> None:
    window = WindowSpec(document_tokens=size, prefix_tokens=min(prefix, size - 1), count=1)
    documents = [Document(id=str(number), text=text) for number, text in enumerate(texts)]
    for found in all_windows(documents, model.tokens, window):
        before, after = (model.tokens.encode(part) for part in (found.text[: found.prefix_length], found.text))
        assert (len(before), len(after)) == (window.prefix_tokens, window.document_tokens)
        assert after[: len(before)] == before
        assert found.text in texts[int(found.id.split("#")[0])]


def test_windows_of_a_document_follow_each_other_without_overlap(model: HfModel) -> None:
    text = "The serpent swallows its own tail for the first time, and calls the taste of it the whole world."
    found = all_windows([Document(id="a", text=text)], model.tokens, WINDOW)
    assert "".join(window.text for window in sorted(found, key=lambda window: window.id)) in text
    assert len(found) == len(model.tokens.encode(text)) // 16


def test_a_window_knows_where_it_comes_from(store: ArtifactStore, human: ArtifactRef, model: HfModel) -> None:
    sources = {document.id: document for document in read_corpus(store, human)}
    for window in all_windows(sources.values(), model.tokens, WINDOW):
        source = sources[window.id.split("#")[0]]
        assert (window.group, window.domain) == (source.group, source.domain)
        assert window.prompt_id == window.id
        assert window.origin is Origin.HUMAN
        assert window.generation is None


def test_disjoint_slices_are_disjoint_windows_and_together_they_are_the_whole_order(
    store: ArtifactStore, human: ArtifactRef, model: HfModel
) -> None:
    documents = list(read_corpus(store, human))

    def taken(offset: int, count: int) -> list[str]:
        window = replace(WINDOW, offset=offset, count=count)
        pool = Pool()
        return [found.id for found in take(windows(documents, model.tokens, window, pool, silent), window, pool)]

    assert taken(0, 4) + taken(4, 3) + taken(7, 5) == taken(0, 12)
    assert len(set(taken(0, 12))) == 12


def test_the_order_is_that_of_the_seed_and_not_of_the_documents(
    store: ArtifactStore, human: ArtifactRef, model: HfModel
) -> None:
    documents = list(read_corpus(store, human))
    order = [window.id for window in all_windows(documents, model.tokens, WINDOW)]
    assert [window.id for window in all_windows(documents[::-1], model.tokens, WINDOW)] == order
    other = [window.id for window in all_windows(documents, model.tokens, replace(WINDOW, seed=4))]
    assert other != order
    assert sorted(other) == sorted(order)


def test_a_published_slice_is_the_same_twice(
    store: ArtifactStore, human: ArtifactRef, model: HfModel, model_ref: ArtifactRef, noting_task: Callable[..., object]
) -> None:
    request = PreparePrompts(model=model_ref, corpus=human, window=WINDOW)
    task = noting_task()
    first, second = (prepare_prompts(store, request, model.tokens, task) for _ in range(2))
    assert first == second
    assert (first.documents, first.tokens) == (6, 96)
    assert len(list(read_corpus(store, first.corpus))) == 6
    assert task.told[-1].done == task.told[-1].total == 12


def test_a_pool_that_is_too_small_says_how_many_windows_it_has_and_what_to_lower(
    store: ArtifactStore, human: ArtifactRef, model: HfModel, model_ref: ArtifactRef, noting_task: Callable[..., object]
) -> None:
    there = len(all_windows(read_corpus(store, human), model.tokens, WINDOW))
    wanted = replace(WINDOW, offset=there - 2, count=3)
    request = PreparePrompts(model=model_ref, corpus=human, window=wanted)
    with pytest.raises(PreconditionFailed, match=rf"has {there} windows .* {there + 1} are needed; lower") as caught:
        prepare_prompts(store, request, model.tokens, noting_task())
    assert caught.value.metadata == {"windows": str(there), "needed": str(there + 1)}


def test_control_tokens_spelt_in_a_document_are_text(model: HfModel) -> None:
    spelt = Document(id="a", text="<|end|>" * 20)
    for window in all_windows([spelt], model.tokens, WINDOW):
        assert "<|end|>" in window.text


def test_cutting_stops_when_asked(
    store: ArtifactStore, human: ArtifactRef, model: HfModel, model_ref: ArtifactRef, noting_task: Callable[..., object]
) -> None:
    request = PreparePrompts(model=model_ref, corpus=human, window=WINDOW)
    with pytest.raises(Cancelled):
        prepare_prompts(store, request, model.tokens, noting_task(0))


def test_synthetic_documents_stay_synthetic(store: ArtifactStore, model: HfModel) -> None:
    text = "The mirror swallows its own tail for the second time, and calls the taste of it the whole."
    document = Document(id="a", text=text, origin=Origin.SYNTHETIC, generation=2, model_digest="f" * 64)
    ref = write_corpus(store, [document])
    (window, *_) = all_windows(read_corpus(store, ref), model.tokens, WINDOW)
    assert (window.origin, window.generation, window.model_digest) == (Origin.SYNTHETIC, 2, "f" * 64)
