"""Models on the workers of a cluster, with workers that are this process: what is handed out, found again and told."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ouroscope.errors import Cancelled, InvalidRequest, PreconditionFailed, Unavailable
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.generation import Generate, SamplingSpec, Score
from ouroscope.store.artifacts import ArtifactStore
from services.generator import cluster as clusters
from services.generator.backends import Backends
from services.generator.cluster import Cluster, Equipment, check_alike, open_cluster
from services.generator.generation import generate
from services.generator.in_process.backend import HfBackend
from services.generator.in_process.model import HfModel
from services.generator.jobs import Jobs
from services.generator.plan import Plan
from services.generator.scoring import score

SAMPLING = SamplingSpec(max_new_tokens=3, seed=3, batch_size=4)
PLAN = Plan(batch_size=4, shard_documents=4)
"""20 prompts are five shards."""
NOWHERE: dict[str, Any] = {
    "processes": 1,
    "ray_address": "",
    "device": "cpu",
    "dtype": "auto",
    "threads": 1,
    "kept_models": 1,
}


class Workers:
    """Workers that are this process, as a `RayExecutor` would have them; they may be lost."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.shards: list[int] = []
        self.lost = False
        self.last = 0

    def map(self, work: Any, items: Any, look: Callable[[], None] | None = None) -> Iterator[Any]:
        for item in items:
            if self.lost:
                raise Unavailable("the test has ended the cluster")
            if look:
                look()
            self.asked.append(getattr(work, "func", work).__name__)
            if self.asked[-1] == "carry_out" and isinstance(item, tuple):
                self.shards.append(item[0])
            # As bytes, both ways.
            travelled, carried = pickle.loads(pickle.dumps((work, item)))
            yield pickle.loads(pickle.dumps(travelled(carried)))

    def close(self) -> None:
        self.lost = True


@pytest.fixture
def workers() -> Workers:
    return Workers()


@pytest.fixture
def cluster(store: ArtifactStore, workers: Workers) -> Cluster:
    return Cluster(workers, Equipment(store=store.url, device="cpu", threads=1))  # type: ignore[arg-type]  # no Ray


@pytest.fixture
def request_(model_ref: ArtifactRef, prompts: ArtifactRef) -> Generate:
    return Generate(model=model_ref, prompts=prompts, sampling=SAMPLING)


@pytest.fixture
def scoring(model_ref: ArtifactRef, prompts: ArtifactRef) -> Score:
    # Parts of sixteen documents: two of each kind.
    return Score(
        model=model_ref, prompts=prompts, heldout=prompts, documents=prompts, prompt_length=4, batch_size=1, top_n=20
    )


def test_a_corpus_and_its_scores_are_those_of_this_process(
    store: ArtifactStore,
    backend: HfBackend,
    cluster: Cluster,
    request_: Generate,
    scoring: Score,
    noting_task: Callable[..., Any],
) -> None:
    task, tokens = noting_task(), list[int]()
    theirs = generate(store, backend, request_, PLAN, "theirs", task, on_tokens=tokens.append, place=cluster)
    assert theirs == generate(store, backend, request_, PLAN, "ours", noting_task())
    assert [each.done for each in task.told][-1] == task.told[-1].total == 20
    assert sum(tokens) >= theirs.tokens
    assert score(store, backend, scoring, noting_task(), "theirs", cluster) == score(
        store, backend, scoring, noting_task(), "ours"
    )


def test_a_generator_hands_writing_and_scoring_to_its_cluster_under_the_same_digest(
    store: ArtifactStore,
    backend: HfBackend,
    cluster: Cluster,
    workers: Workers,
    request_: Generate,
    scoring: Score,
    noting_task: Callable[..., Any],
) -> None:
    alone = Jobs(store=store, backends=Backends(backend), max_model_bytes=1)
    for_many = replace(alone, cluster=cluster)
    (ours, _), (theirs, write) = alone.generate(request_), for_many.generate(request_)
    assert theirs == ours
    assert write(noting_task()).documents == 20
    assert workers.shards == [0]
    (ours, _), (theirs, _) = alone.score(scoring), for_many.score(scoring)
    assert theirs == ours


def test_shards_that_were_finished_before_a_cluster_was_lost_are_not_written_again(
    store: ArtifactStore, backend: HfBackend, cluster: Cluster, workers: Workers, request_: Generate, noting_task: Any
) -> None:
    class Losing(noting_task):  # type: ignore[misc]
        def report(self, progress: Any) -> None:
            workers.lost = progress.done >= 8

    with pytest.raises(Unavailable):
        generate(store, backend, request_, PLAN, "lost", Losing(), place=cluster)
    workers.lost = False
    workers.shards.clear()
    whole = generate(store, backend, request_, PLAN, "lost", noting_task(), place=cluster)
    assert workers.shards == [2, 3, 4]
    assert whole == generate(store, backend, request_, PLAN, "whole", noting_task())


def test_texts_that_were_scored_before_a_stop_are_not_looked_at_again(
    store: ArtifactStore,
    backend: HfBackend,
    scoring: Score,
    noting_task: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[int] = []
    examine = HfModel.examine

    def counted(self: HfModel, texts: Any, *others: Any) -> Any:
        looked.append(len(texts))
        return examine(self, texts, *others)

    monkeypatch.setattr(HfModel, "examine", counted)
    only = replace(scoring, prompts=None, documents=None)
    with pytest.raises(Cancelled):
        # One check for each text: it stops at the second text of the second part.
        score(store, backend, only, noting_task(checks=17), "stopped")
    assert looked == [16, 4]
    found = score(store, backend, only, noting_task(), "stopped")
    assert looked == [16, 4, 4]
    assert found == score(store, backend, only, noting_task())


def test_who_stops_tells_the_workers(
    store: ArtifactStore, backend: HfBackend, cluster: Cluster, request_: Generate, noting_task: Any
) -> None:
    with pytest.raises(Cancelled):
        generate(store, backend, request_, PLAN, "told", noting_task(checks=2), place=cluster)
    draft = store.draft("told")
    (mark,) = (name for name in draft.names() if name.startswith("stop-"))
    clock = itertools.count()
    listening = clusters._Elsewhere(draft, mark, clock=lambda: float(next(clock)))
    with pytest.raises(Cancelled):
        listening.check()
    # Another attempt has another mark.
    clusters._Elsewhere(draft, "stop-0", clock=lambda: float(next(clock))).check()


def test_a_worker_says_what_it_is_once_and_again_after_a_loss(
    cluster: Cluster, workers: Workers, backend: HfBackend, model_ref: ArtifactRef
) -> None:
    for _ in range(2):
        assert cluster.fingerprint() == backend.fingerprint()
        assert cluster.batch_size(model_ref, 8) == backend.batch_size(model_ref, 8)
        assert cluster.open(model_ref, "draft", lambda: None).vocabulary == backend.open(model_ref).vocabulary
    assert len(workers.asked) == 3
    workers.lost = True
    with pytest.raises(Unavailable):
        list(cluster.map(len, ["item"]))
    workers.lost = False
    cluster.fingerprint()
    assert len(workers.asked) == 4


def test_a_worker_that_computes_otherwise_is_refused_before_it_does_anything(
    cluster: Cluster,
    store: ArtifactStore,
    backend: HfBackend,
    request_: Generate,
    noting_task: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = {**backend.fingerprint(), "torch": "1.0"}
    monkeypatch.setattr(cluster, "fingerprint", lambda: other)
    with pytest.raises(PreconditionFailed, match=r"torch is .* on one and '1\.0' on another"):
        generate(store, backend, request_, PLAN, "unlike", noting_task(), place=cluster)
    assert not [name for name in store.draft("unlike").names() if not name.startswith("stop-")]
    check_alike(other, other)
    with pytest.raises(PreconditionFailed, match="threads"):
        check_alike({}, {"threads": "2"})


def test_a_store_that_the_workers_do_not_share_is_told(
    store: ArtifactStore, workers: Workers, model_ref: ArtifactRef, tmp_path: Path
) -> None:
    elsewhere = Cluster(workers, Equipment(store=str(tmp_path), device="cpu"))  # type: ignore[arg-type]  # no Ray
    with pytest.raises(PreconditionFailed, match="the same store"):
        elsewhere.batch_size(model_ref, 8)
    with pytest.raises(PreconditionFailed, match="the same store"):
        elsewhere.open(model_ref, "draft", lambda: None)
    with pytest.raises(PreconditionFailed, match="memory"):
        open_cluster(ArtifactStore("memory://"), "ray", **{**NOWHERE, "ray_address": "127.0.0.1:6379"})


def test_a_cluster_is_asked_for_in_one_way_only(store: ArtifactStore) -> None:
    assert open_cluster(store, "local", **NOWHERE) is None
    for executor, changed in (
        ("local", {"processes": 2}),
        ("local", {"ray_address": "127.0.0.1:6379"}),
        ("ray", {}),
        ("spark", {}),
    ):
        with pytest.raises(InvalidRequest):
            open_cluster(store, executor, **{**NOWHERE, **changed})
    found = open_cluster(store, "ray", **{**NOWHERE, "processes": 3, "ray_address": "127.0.0.1:6379"})
    assert found is not None
    # Nobody is asked before there is work.
    with closing(found):
        pass
