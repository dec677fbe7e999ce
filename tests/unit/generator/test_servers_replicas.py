"""Several replicas behind one backend: one may be lost in the middle, and none may serve other weights."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ouroscope.corpora.stored import read_corpus, write_corpus
from ouroscope.errors import PreconditionFailed, Unavailable
from ouroscope.records.artifacts import ArtifactKind
from ouroscope.records.documents import Document, Origin
from ouroscope.records.generation import Generate, SamplingSpec
from ouroscope.store.artifacts import ArtifactStore
from services.generator.generation import generate
from services.generator.plan import Plan
from tests.servers.language import Language
from tests.servers.running import running
from tests.servers.stand_in import Fault, StandIn
from tests.unit.generator.conftest import TEXTS
from tests.unit.generator.servers_setup import NAME, backend_of

SAMPLING = SamplingSpec(temperature=0.9, top_k=0, max_new_tokens=3, seed=3, batch_size=4)
PLAN = Plan(batch_size=4, shard_documents=4)
"""12 prompts are three shards."""


class Mortal:
    """A server that can be ended and started again where it was."""

    def __init__(self, stand_in: StandIn) -> None:
        self.stand_in = stand_in
        self._life = ExitStack()
        self.url = self._life.enter_context(running(stand_in.application))

    def end(self) -> None:
        self._life.close()

    def begin_again(self) -> None:
        self._life.enter_context(running(self.stand_in.application, port=int(self.url.rpartition(":")[2])))


@pytest.fixture
def apart(tmp_path: Path, model_directory: Path) -> tuple[ArtifactStore, Generate]:
    store = ArtifactStore(tmp_path)
    model = store.publish(ArtifactKind.MODEL, None, {path.name: path for path in model_directory.iterdir()}, {})
    documents = (
        Document(id=f"p{number}", text=text, origin=Origin.HUMAN, prefix_length=9 + number)
        for number, text in enumerate(TEXTS[:12])
    )
    return store, Generate(model=model, prompts=write_corpus(store, documents), sampling=SAMPLING)


@contextmanager
def pair(language: Language) -> Iterator[tuple[Mortal, Mortal]]:
    """Two replicas of one model."""
    both = Mortal(StandIn({NAME: language})), Mortal(StandIn({NAME: language}))
    try:
        yield both
    finally:
        for one in both:
            one.end()


def test_a_replica_that_is_lost_in_the_middle_costs_no_document_and_no_finished_shard(
    apart: tuple[ArtifactStore, Generate], language: Language, noting_task: Callable[..., Any]
) -> None:
    store, request = apart
    with (
        pair(language) as (mortal, steady),
        backend_of(store, request.model, mortal.url, steady.url, attempts=2, concurrency=4, timeout=30.0) as pool,
    ):
        whole = generate(store, pool, request, PLAN, "whole", noting_task())
        first_shard: list[tuple[int, ...]] = []
        dying = threading.Event()

        def asked() -> list[tuple[int, ...]]:
            return [tuple(each["prompt"]) for each in (*mortal.stand_in.asked, *steady.stand_in.asked)]

        class Watching(noting_task):  # type: ignore[misc]
            """Holds what the one replica is asked in the second shard, and ends it then."""

            def check(self) -> None:
                if not first_shard and max((each.done for each in self.told), default=0) >= 4:
                    first_shard.extend(asked())
                    mortal.stand_in.always = Fault.HANG
                if mortal.stand_in.always is Fault.HANG and mortal.stand_in.in_flight and not dying.is_set():
                    dying.set()
                    mortal.end()

        for server in (mortal, steady):
            server.stand_in.asked.clear()
        found = generate(store, pool, request, PLAN, "again", Watching())
        assert dying.is_set()
        assert found == whole
        assert [document.prompt_id for document in read_corpus(store, found.corpus)] == [f"p{n}" for n in range(12)]
        assert len(first_shard) == 4
        assert all(asked().count(prompt) == 1 for prompt in first_shard)
        # What comes later is done without it, until it is back.
        assert generate(store, pool, request, PLAN, "later", noting_task()) == whole
        mortal.stand_in.always = Fault.NONE
        mortal.stand_in.asked.clear()
        mortal.begin_again()
        assert generate(store, pool, request, PLAN, "back", noting_task()) == whole
        assert mortal.stand_in.asked


def test_a_replica_that_comes_back_with_other_weights_ends_the_work(
    apart: tuple[ArtifactStore, Generate], language: Language, noting_task: Callable[..., Any]
) -> None:
    store, request = apart
    with (
        pair(language) as (mortal, steady),
        backend_of(store, request.model, mortal.url, steady.url, attempts=2) as pool,
    ):
        mortal.end()
        generate(store, pool, request, PLAN, "without", noting_task())
        mortal.stand_in.models = {"other": language}
        mortal.begin_again()
        corpora = len(list(store.list(ArtifactKind.CORPUS)))
        with pytest.raises(PreconditionFailed, match="'other'"):
            generate(store, pool, request, PLAN, "with", noting_task())
        assert not mortal.stand_in.asked
        assert len(list(store.list(ArtifactKind.CORPUS))) == corpora


def test_without_any_replica_the_work_ends(
    apart: tuple[ArtifactStore, Generate], language: Language, noting_task: Callable[..., Any]
) -> None:
    store, request = apart
    with pair(language) as both, backend_of(store, request.model, *(one.url for one in both), attempts=2) as pool:
        for one in both:
            one.end()
        with pytest.raises(Unavailable):
            generate(store, pool, request, PLAN, "none", noting_task())
        for one in both:
            one.begin_again()
        assert generate(store, pool, request, PLAN, "none", noting_task()).documents == 12
