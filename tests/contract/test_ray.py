"""Work on a real Ray cluster of several nodes: the same answers as here, whatever is lost, and typed errors."""

from __future__ import annotations

import functools
import itertools
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from ouroscope.client import AnalyzerClient, GeneratorClient
from ouroscope.cluster.executor import RayExecutor, open_executor
from ouroscope.corpora.stored import write_corpus
from ouroscope.embedded import model_directory
from ouroscope.errors import Cancelled, InvalidRequest, PreconditionFailed, Unavailable
from ouroscope.executor import InProcess, Processes
from ouroscope.models import check_model_directory
from ouroscope.records.analysis import AnalyzeCorpus, Counting, CountingSpec
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.records.generation import Generate, SamplingSpec, Score
from services.analyzer.analysis import Options, analyze_side
from services.analyzer.parsing.parser import load_parser
from services.analyzer.service import start
from services.analyzer.spreading.corpus import SpreadCorpus
from services.analyzer.spreading.shards import stored_shards
from services.analyzer.tools import Tools
from services.generator import service as generator
from services.generator.cluster import Cluster, Equipment
from services.generator.generation import generate
from services.generator.in_process.backend import HfBackend
from services.generator.plan import Plan
from tests.ray_cluster import add_node, cut_power, other_version, ray_cluster
from tests.unit import executor_work as work

pytestmark = [
    # A dozen processes are started, and several times a parser is loaded: on a busy machine that takes minutes.
    pytest.mark.timeout(900),
    # Ray's own: files and processes of a cluster that it leaves to the end of the process.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

PATIENT = {"connect_seconds": 600.0, "patience_seconds": 600.0}
"""For a busy machine: nothing here is about how long it takes."""
METRICS = ("types", "mattr", "dependency_depth")
WORDS = ("types", "mattr")
SAMPLING = SamplingSpec(min_new_tokens=4, max_new_tokens=4, seed=2, batch_size=4)
SENTENCES = (
    "The old house on the hill was sold to a young family.",
    "They painted its walls and planted apple trees in the garden.",
    "When the winter came, snow covered the narrow road for weeks.",
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with ray_cluster(nodes=2) as found:
        yield found


@pytest.fixture(scope="module")
def on_ray(cluster) -> Iterator[RayExecutor]:
    with closing(RayExecutor(cluster.address, 2, **PATIENT)) as executor:
        yield executor


@pytest.fixture(scope="module")
def model_files() -> dict[str, Path]:
    folder = model_directory("ouro-tiny")
    return {name: folder / name for name in check_model_directory(folder).files}


@pytest.fixture
def model(store, model_files) -> ArtifactRef:
    return store.publish(ArtifactKind.MODEL, None, model_files, {"source": "ouro-tiny"})


@pytest.fixture
def prompts(store) -> ArtifactRef:
    """Six shards of four documents."""
    return write_corpus(store, [replace(document, prefix_length=20) for document in documents(24)])


@pytest.fixture
def few_records(monkeypatch):
    """Shards of ten documents."""
    monkeypatch.setattr("ouroscope.store.sequences.SHARD_RECORDS", 10)


def documents(count: int = 120) -> list[Document]:
    return [Document(id=str(n), text=f"{SENTENCES[n % 3]} Item {n} {SENTENCES[n // 4 % 3]}") for n in range(count)]


def test_answers_come_in_the_order_of_the_items_and_errors_with_what_they_carry(on_ray):
    assert list(on_ray.map(work.slower_first, range(8))) == list(range(8))
    assert list(on_ray.map(work.squared, ())) == []
    answers = on_ray.map(work.refused, range(8))
    assert list(itertools.islice(answers, 3)) == [0, 1, 2]
    with pytest.raises(InvalidRequest, match="three") as error:
        next(answers)
    assert error.value.reason == InvalidRequest.reason


def test_workers_are_kept_and_have_one_thread_for_arithmetic_each(on_ray):
    about = [*on_ray.map(work.about_me, range(8)), *on_ray.map(work.about_me, range(8))]
    assert len({pid for pid, _, _ in about}) <= 2
    assert os.getpid() not in {pid for pid, _, _ in about}
    assert {threads for _, _, threads in about} == {1}


def test_items_are_taken_as_answers_are_and_none_begins_for_who_has_left(on_ray, tmp_path):
    taken = itertools.count()
    marking = functools.partial(work.marked, str(tmp_path))
    with closing(on_ray.map(marking, (next(taken) for _ in itertools.repeat(None)))) as answers:
        for _ in range(50):
            next(answers)
    assert next(taken) <= 50 + 2 * 2
    assert list(on_ray.map(work.squared, range(2))) == [0, 1]
    assert len(list(tmp_path.iterdir())) <= 50 + 2 * 2


def test_any_number_of_threads_may_ask(on_ray):
    found = {}

    def ask(first: int) -> None:
        found[first] = list(on_ray.map(work.squared, range(first, first + 20)))

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {first: [number * number for number in range(first, first + 20)] for first in range(6)}


def test_a_cluster_without_room_is_told(on_ray, cluster):
    with (
        closing(RayExecutor(cluster.address, 1, connect_seconds=600.0, patience_seconds=1.0)) as other,
        pytest.raises(Unavailable, match="no free processor"),
    ):
        list(other.map(work.squared, range(2)))


async def test_one_corpus_has_one_report_wherever_it_is_read_and_parsed(on_ray, store, connect, few_records):
    @asynccontextmanager
    async def serving(tools: Tools):
        server = await start(store, tools=tools)
        try:
            yield AnalyzerClient(connect(server.address))
        finally:
            await server.stop(grace=0.0)

    counted = CountingSpec(counting=Counting.EXACT)
    asked = AnalyzeCorpus(corpus=write_corpus(store, documents()), metrics=METRICS, whole_corpus=counted)
    found = []
    # The executor of all tests outlives the analyzer.
    shared = _Kept(on_ray)
    for executor, readers in ((InProcess(), None), (Processes(1), None), (shared, shared)):
        # Each has a store of answers of its own, or the second would give what the first one remembered.
        for answer in Path(store.url).glob("results/*/*"):
            answer.unlink()
        async with serving(Tools(parser=load_parser(executor=executor), readers=readers)) as analyzer:
            found.append((await analyzer.analyze_corpus(asked)).report)
    assert len(set(found)) == 1
    assert shared.asked >= {"fold_shard", "merge_parts", "parse_batch"}


async def test_one_request_gives_one_text_and_one_score_wherever_the_model_runs(
    on_ray, store, connect, model, prompts, monkeypatch
):
    asked = Generate(model=model, prompts=prompts, sampling=SAMPLING)
    found = []
    workers = _Lent(on_ray)
    for cluster in (None, Cluster(workers, Equipment(store=store.url, device="cpu"))):
        # Each has a store of answers of its own, or the second would give what the first one remembered.
        for answer in Path(store.url).glob("results/*/*"):
            answer.unlink()
        monkeypatch.setattr(generator, "open_cluster", lambda *_, found=cluster, **__: found)
        server = await generator.start(store, device="cpu", threads=1)
        try:
            client = GeneratorClient(connect(server.address))
            written = await client.generate(asked)
            # Parts of sixteen documents: two of each kind.
            scoring = Score(model=model, prompts=prompts, heldout=prompts, documents=written.corpus, batch_size=1)
            found.append((written, await client.score(scoring)))
        finally:
            await server.stop(grace=0.0)
    assert found[0] == found[1]
    assert workers.done >= {"write_shard", "look_at"}


def test_text_goes_on_where_it_was_stopped(on_ray, store, model, prompts):
    class Stopping:
        done = 0

        def check(self) -> None:
            if self.done >= 8:
                raise Cancelled("the test asked for it")

        def report(self, progress: Any) -> None:
            self.done = progress.done if self is not patient else 0

    patient = Stopping()
    workers = _Lent(on_ray)
    place = Cluster(workers, Equipment(store=store.url, device="cpu"))
    request, plan = Generate(model=model, prompts=prompts, sampling=SAMPLING), Plan(batch_size=4, shard_documents=4)
    backend = HfBackend(store, device="cpu", threads=1)
    with pytest.raises(Cancelled):
        generate(store, backend, request, plan, "stopped", Stopping(), place=place)
    # Two were told of, more may have been under way.
    before = {index for index in range(6) if store.draft("stopped").has(f"documents-{index:05d}.parquet")}
    assert {0, 1} <= before
    workers.shards.clear()
    again = generate(store, backend, request, plan, "stopped", patient, place=place)
    assert workers.shards.isdisjoint(before)
    assert again == generate(store, backend, request, plan, "whole", patient)


def test_a_node_without_the_model_says_so(on_ray, store, model, tmp_path):
    (tmp_path / "other").mkdir()
    with pytest.raises(PreconditionFailed, match="the same store"):
        Cluster(on_ray, Equipment(store=str(tmp_path / "other"), device="cpu")).open(model, "draft", lambda: None)


def test_a_worker_that_is_killed_is_replaced_and_its_work_done_again(on_ray, tmp_path):
    assert list(on_ray.map(functools.partial(work.killed_once, str(tmp_path)), range(12))) == list(range(12))
    assert (tmp_path / "killed").exists()


def test_work_that_a_lost_worker_had_goes_before_what_came_later(cluster, tmp_path):
    noted, third = functools.partial(work.killed_once_and_noted, str(tmp_path)), add_node(cluster)
    with closing(RayExecutor(cluster.address, 1, **PATIENT)) as executor:
        assert list(executor.map(noted, range(6))) == list(range(6))
    cluster.remove_node(third)
    assert (tmp_path / "begun").read_text().split() == list("0012345")


def test_a_node_that_is_lost_in_the_middle_changes_nothing(on_ray, cluster, tmp_path):
    # Whoever an earlier test has killed is missed now, not below.
    assert list(on_ray.map(work.squared, range(12))) == [number * number for number in range(12)]
    with closing(on_ray.map(functools.partial(work.held, str(tmp_path)), range(16))) as answers:
        found = list(itertools.islice(answers, 4))
        _wait(lambda: len({file.name.split("-")[0] for file in tmp_path.iterdir()}) >= 2)
        _wait(lambda: len([file for file in tmp_path.iterdir() if int(file.name.split("-")[1]) >= 4]) >= 2)
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        (tmp_path / "go").touch()
        found += answers
    assert found == list(range(16))
    add_node(cluster)


def test_work_that_ends_every_worker_is_given_up(on_ray):
    with pytest.raises(Unavailable, match="want of memory"):
        list(on_ray.map(work.killed, range(4)))
    assert list(on_ray.map(work.squared, range(4))) == [0, 1, 4, 9]


def test_what_the_workers_lack_is_told(on_ray, tmp_path, monkeypatch):
    parser = load_parser(executor=on_ray)
    missing = replace(parser.source, path=tmp_path / "nowhere", identity="en_nowhere 1.0 0123456789ab")
    with pytest.raises(PreconditionFailed, match="en_nowhere"):
        replace(parser, source=missing).try_out()
    other = replace(parser.source, identity="en_ouro_sm 0.0 0123456789ab")
    with pytest.raises(PreconditionFailed, match="install the same"):
        replace(parser, source=other).try_out()
    (tmp_path / "only_here.py").write_text("def same(item):\n    return item\n")
    monkeypatch.syspath_prepend(tmp_path)
    only_here = __import__("only_here")
    (tmp_path / "only_here.py").unlink()
    with pytest.raises(PreconditionFailed, match="only_here"):
        list(on_ray.map(only_here.same, range(2)))
    del sys.modules["only_here"]


def test_a_cluster_of_another_version_is_refused(cluster):
    with (
        other_version(cluster),
        closing(RayExecutor(cluster.address, **PATIENT)) as executor,
        pytest.raises(PreconditionFailed, match=rf"Ray 2\.9\.3, .*Ray {ray.__version__}"),
    ):
        list(executor.map(work.squared, range(2)))


def test_a_cluster_that_is_lost_costs_time_and_no_result(on_ray, store, few_records, monkeypatch):
    # For the one that loses it: how long it looks for the head, a minute by default.
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "5")
    found = documents()
    shards = stored_shards(store, write_corpus(store, found))

    def corpus(executor: Any) -> SpreadCorpus:
        return SpreadCorpus(store, shards, executor, "request")

    with (
        ray_cluster(nodes=1) as lost,
        closing(_Kept(RayExecutor(lost.address, 1, **PATIENT), end_at=5, ends=lost)) as executor,
        pytest.raises(Unavailable, match="try again"),
    ):
        analyze_side(corpus(executor), options=Options(metrics=WORDS))
    again = corpus(on_ray)
    report = analyze_side(again, options=Options(metrics=WORDS)).report
    assert report == analyze_side(found, options=Options(metrics=WORDS)).report
    assert 5 <= again.done < len(shards)


def test_an_address_where_no_cluster_is_is_told():
    with socket.create_server(("127.0.0.1", 0)) as nothing:
        host, port = nothing.getsockname()
        # Connections wait in the queue of the socket, and nobody answers.
        with (
            closing(RayExecutor(f"{host}:{port}", connect_seconds=3.0)) as executor,
            pytest.raises(Unavailable, match="answered within 3 seconds"),
        ):
            list(executor.map(work.squared, range(2)))
    with (
        closing(RayExecutor(f"{host}:{port}")) as executor,
        pytest.raises(Unavailable, match="no Ray cluster listens"),
    ):
        list(executor.map(work.squared, range(2)))
    with closing(RayExecutor("nonsense")) as executor, pytest.raises(InvalidRequest, match="host:port"):
        list(executor.map(work.squared, range(2)))


def test_an_executor_is_chosen_by_its_name(cluster):
    assert isinstance(open_executor("local", 1), InProcess)
    with closing(open_executor("ray", 2, cluster.address)) as executor:
        assert isinstance(executor, RayExecutor)
    with pytest.raises(Unavailable, match="closed"):
        list(executor.map(work.squared, range(2)))
    for kind, address in (("ray", ""), ("local", "127.0.0.1:6379"), ("spark", "")):
        with pytest.raises(InvalidRequest):
            open_executor(kind, 1, address)


class _Lent:
    """An executor that others use as well, so it is not closed; remembers what was handed out."""

    def __init__(self, executor: RayExecutor) -> None:
        self._executor = executor
        self.done: set[str] = set()
        self.shards: set[int] = set()

    def map(self, work: Any, items: Any, look: Any = None) -> Iterator[Any]:
        # The work of a model is the last argument that is bound.
        names = [getattr(each, "func", each).__name__ for each in getattr(work, "args", ()) if callable(each)]
        self.done.update(names)

        def noted() -> Iterator[Any]:
            for item in items:
                if names == ["write_shard"]:
                    self.shards.add(item[0])
                yield item

        yield from self._executor.map(work, noted(), look)

    def close(self) -> None:
        pass


class _Kept:
    """An executor that others use as well, so it is not closed; it may end its cluster after so many answers."""

    def __init__(self, executor: RayExecutor, end_at: int | None = None, ends: Any = None) -> None:
        self._executor, self._end_at, self._ends = executor, end_at, ends
        self.asked: set[str] = set()

    def map(self, work: Any, items: Any) -> Iterator[Any]:
        self.asked.add(work.func.__name__)
        for number, answer in enumerate(self._executor.map(work, items)):
            yield answer
            if number + 1 == self._end_at:
                cut_power(self._ends)

    def close(self) -> None:
        if self._ends is not None:
            self._executor.close()


def _wait(holds: Any) -> None:
    """Wait until something holds; a test that waits for ever is ended by its timeout."""
    while not holds():
        with suppress(FileNotFoundError):
            time.sleep(0.05)
