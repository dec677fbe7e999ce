"""MonitorService over a real port, with a real analyzer behind the coordinator and a real store."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ouroscope.client import AnalyzerClient, MonitorClient, SyncMonitors, open_channel
from ouroscope.corpora.stored import write_corpus
from ouroscope.errors import AlreadyExists, InvalidRequest, LimitExceeded, NotFound, PreconditionFailed
from ouroscope.predictions import write_predictions
from ouroscope.records.analysis import Policy, Verdict, VerdictReason
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document, Origin
from ouroscope.records.monitors import DomainBaseline, GatePolicy, Monitor, MonitorGeneration
from ouroscope.records.predictions import NextToken
from ouroscope.store import ArtifactStore
from ouroscope.v1 import monitor_pb2, monitor_pb2_grpc
from services.analyzer import service as analyzer_service
from services.analyzer.session import Limits
from services.coordinator import service
from services.coordinator.monitors.relay import REPEATED_TEXTS, VIEW
from services.coordinator.service import MONITOR_SERVICE_NAME
from services.coordinator.stages import DRAWN_CONCEPTS
from tests.unit.analyzer.corpora import prose

pytestmark = pytest.mark.asyncio(loop_scope="module")

RICH, POOR = 2_000, 1_000
"""Different words of a text that is as the baseline, and of one that is beyond the margin but not far out."""
NOWHERE = "127.0.0.1:1"


def texts(seed: int, *, words: int = RICH, count: int = 240, **facts: Any) -> list[Document]:
    """Return documents of a model; equal arguments give equal documents."""
    written = prose(count, 50, seed, words)
    return [Document(id=f"{facts.get('domain')} {n}", text=text, **facts) for n, text in enumerate(written)]


def answers(seed: int = 0, count: int = 40, **facts: Any) -> list[NextToken]:
    """Return what a model expects after prompts."""
    top = (0.3 + seed / 100, *[0.005] * 100)
    return [
        NextToken(prompt_id=str(n), cluster=str(n), top_probabilities=top, entropy=2.0, **facts) for n in range(count)
    ]


@dataclass
class Place:
    """A running coordinator with its analyzer, and what a test needs of them."""

    home: Path
    store: ArtifactStore
    channel: grpc.aio.Channel
    client: MonitorClient
    analyzer: AnalyzerClient
    address: str
    count: int = 0
    reports: dict[tuple[int, int], ArtifactRef] = field(default_factory=dict)

    @property
    def stub(self) -> Any:
        return monitor_pb2_grpc.MonitorServiceStub(self.channel)

    async def monitor(self, **settings: Any) -> str:
        """Make a monitor of another name than all before, and return it."""
        self.count += 1
        return (await self.client.create_monitor(f"m{self.count}", Monitor(**settings))).name

    async def watched(self, *rich: int) -> str:
        """Make a monitor that has recorded generation 0 and those of `rich`, all as they should be."""
        name = await self.monitor()
        for number in (0, *rich):
            await self.record(name, number)
        return name

    async def record(self, name: str, number: int, words: int = RICH) -> MonitorGeneration:
        """Record `texts(number)`, which are measured once for all tests: the report says the same as the documents."""
        key = number, words
        if key not in self.reports:
            self.reports[key] = await self.report(*texts(number, words=words))
        return await self.client.record_generation(name, number, artifacts=[self.reports[key]])

    async def report(self, *documents: Document) -> ArtifactRef:
        """Measure as a monitor does, and return the report."""
        measured = self.analyzer.analyze(
            documents, view=VIEW, drawn_concepts=DRAWN_CONCEPTS, repeated_texts=REPEATED_TEXTS
        )
        report = (await measured).report
        assert report is not None
        return report


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    home = tmp_path_factory.mktemp("home")
    store = ArtifactStore(str(home / "store"))
    analyzer = await analyzer_service.start(store, limits=Limits(documents=1_000))
    coordinator = await service.start(home, store, analyzer=analyzer.address, generator=NOWHERE, trainer=NOWHERE)
    async with open_channel(coordinator.address) as channel, open_channel(analyzer.address) as other:
        client, measuring = MonitorClient(channel), AnalyzerClient(other)
        yield Place(home, store, channel, client, measuring, coordinator.address)
    await coordinator.stop(grace=1.0)
    await analyzer.stop(grace=0.0)


@pytest.fixture(scope="module")
def small() -> list[Document]:
    """Ten documents: too few to say anything."""
    return texts(9, count=10)


async def test_the_first_generation_becomes_the_baseline_and_the_others_are_compared_with_it(place: Place) -> None:
    name = await place.monitor(description="news")
    first = await place.client.record_generation(name, 0, texts(0), description="v1")
    assert (first.comparison, first.verdict, first.reason) == (None, None, None)
    assert "is the baseline" in first.sentence
    second = await place.client.record_generation(name, 1, texts(1), description="v2")
    assert (second.verdict, second.reason) == (Verdict.STABLE, VerdictReason.WITHIN_MARGIN)
    assert second.comparison is not None
    assert second.sentence == second.comparison.sentence
    monitor = await place.client.get_monitor(name)
    assert (monitor.baseline, monitor.generations, monitor.description) == (first.report, 2, "news")
    assert monitor.newest == second == await place.client.get_generation(second.name)
    assert [one async for one in place.client.list_generations(name)] == [first, second]
    assert [one.description for one in (first, second)] == ["v1", "v2"]


async def test_what_stays_beyond_the_margin_is_a_collapse_and_the_first_such_generation_is_told(place: Place) -> None:
    name = await place.watched(1)
    told = [await place.record(name, n, POOR) for n in (2, 3, 4)]
    assert [one.verdict for one in told] == [Verdict.WARNING, Verdict.WARNING, Verdict.COLLAPSE]
    assert told[-1].reason is VerdictReason.PERSISTENT
    comparison = told[-1].comparison
    assert comparison is not None
    assert comparison.first_beyond == 2
    assert comparison.explanation is not None
    assert 1 <= len(comparison.explanation.concepts) <= 5
    well = await place.record(name, 5)
    assert well.verdict is Verdict.STABLE, "what is well again is not called collapsed"


async def test_a_late_generation_is_judged_after_those_before_it_and_changes_those_after_it(place: Place) -> None:
    name = await place.watched()
    for number in (1, 3):
        await place.record(name, number, POOR)
    before = await place.client.get_generation(f"{name}/generations/3")
    late = await place.record(name, 2, POOR)
    after = await place.client.get_generation(f"{name}/generations/3")
    assert (before.verdict, late.verdict, after.verdict) == (Verdict.WARNING, Verdict.WARNING, Verdict.COLLAPSE)
    assert before.create_time == after.create_time
    assert after.judge_time > late.create_time > after.create_time, "by the clock of the coordinator"
    monitor = await place.client.get_monitor(name)
    assert (monitor.newest, monitor.generations) == (after, 4)
    listed = [one async for one in place.client.list_generations(name)]
    assert [one.number for one in listed] == [0, 1, 2, 3]


async def test_a_late_generation_within_the_margin_ends_a_persistence_that_it_interrupts(place: Place) -> None:
    name = await place.watched()
    for number in (1, 2, 4):
        await place.record(name, number, POOR)
    await place.record(name, 3)
    assert (await place.client.get_generation(f"{name}/generations/4")).verdict is Verdict.WARNING


async def test_the_order_of_arrival_does_not_matter_for_what_is_said_in_the_end(place: Place) -> None:
    baseline = await place.report(*texts(0))
    told = []
    for order in ((1, 2, 3, 4, 5), (5, 4, 3, 2, 1), (3, 1, 5, 2, 4)):
        name = await place.monitor(baseline=baseline)
        for number in order:
            await place.record(name, number, POOR if number in (2, 3, 4) else RICH)
        listed = [one async for one in place.client.list_generations(name)]
        told.append([(one.verdict, one.sentence, one.comparison) for one in listed])
    assert told[0] == told[1] == told[2]
    assert [verdict for verdict, *_ in told[0]].count(Verdict.COLLAPSE) == 1


async def test_a_repeated_number_is_recorded_once_and_other_content_is_refused(place: Place) -> None:
    name = await place.watched(1)
    first = await place.client.get_generation(f"{name}/generations/1")
    assert await place.client.record_generation(name, 1, reversed(texts(1))) == first
    with pytest.raises(AlreadyExists, match="other content"):
        await place.client.record_generation(name, 1, texts(7))
    assert (await place.client.get_monitor(name)).generations == 2


async def test_a_repeated_request_returns_what_it_recorded_whatever_it_carries(place: Place) -> None:
    name, request = await place.watched(), str(uuid.uuid4())
    first = await place.client.record_generation(name, 1, texts(1), request_id=request)
    assert await place.client.record_generation(name, 1, request_id=request.upper()) == first
    with pytest.raises(AlreadyExists, match="request_id"):
        await place.client.record_generation(name, 2, texts(2), request_id=request)
    with pytest.raises(InvalidRequest, match="UUID"):
        await place.client.record_generation(name, 2, texts(2), request_id="again")


@pytest.mark.parametrize("alike", [True, False])
async def test_of_two_that_come_at_once_with_one_number_one_is_recorded(place: Place, alike: bool) -> None:
    name = await place.watched()
    calls = [place.client.record_generation(name, 1, texts(seed)) for seed in (1, 1 if alike else 2)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    recorded = await place.client.get_generation(f"{name}/generations/1")
    assert recorded in outcomes
    assert outcomes[0] == outcomes[1] if alike else any(isinstance(one, AlreadyExists) for one in outcomes)


async def test_two_first_generations_at_once_leave_one_baseline(place: Place) -> None:
    name = await place.monitor()
    both = await asyncio.gather(*(place.client.record_generation(name, n, texts(n)) for n in (0, 1)))
    assert sorted(one.verdict is None for one in both) == [False, True]
    assert (await place.client.get_monitor(name)).baseline in {one.report for one in both}


async def test_a_corpus_that_is_too_small_to_compare_with_makes_no_monitor(place: Place) -> None:
    with pytest.raises(InvalidRequest, match="too few independent texts for an interval"):
        await place.monitor(baseline=write_corpus(place.store, texts(0, count=5)))


async def test_domains_are_compared_one_by_one_and_the_sentence_names_the_one_that_is_worst(place: Place) -> None:
    human = [*texts(0, domain="news"), *texts(1, domain="wiki"), *texts(2, count=4, domain="few")]
    name = await place.monitor(baseline=write_corpus(place.store, human))
    monitor = await place.client.get_monitor(name)
    assert [one.domain for one in monitor.domain_baselines] == ["news", "wiki"], "too few have no interval"
    written = [*texts(3, domain="news"), *texts(4, domain="wiki", words=600)]
    told = await place.client.record_generation(name, 1, written)
    verdicts = {one.domain: one.comparison.verdict for one in told.domains}
    assert verdicts == {"news": Verdict.STABLE, "wiki": Verdict.WARNING}
    assert told.verdict is Verdict.WARNING
    assert "'wiki'" in told.sentence
    missing = await place.client.record_generation(name, 2, texts(5, domain="news"))
    assert [one.comparison.verdict for one in missing.domains] == [Verdict.STABLE, Verdict.INSUFFICIENT_DATA]
    assert missing.domains[1].report is None
    assert missing.verdict is not Verdict.INSUFFICIENT_DATA
    finished = await place.client.record_generation(name, 3, artifacts=[missing.domains[0].report])
    assert "Domains were not compared" in finished.sentence


async def test_domains_of_a_first_generation_become_baselines_of_their_own(place: Place) -> None:
    name = await place.monitor()
    first = await place.client.record_generation(name, 0, [*texts(0, domain="news"), *texts(1, domain="wiki")])
    assert "news, wiki" in first.sentence
    told = await place.client.record_generation(name, 1, [*texts(2, domain="news"), *texts(3, domain="wiki")])
    assert [(one.domain, one.comparison.verdict) for one in told.domains] == [
        ("news", Verdict.STABLE),
        ("wiki", Verdict.STABLE),
    ]


async def test_a_domain_measured_in_the_stream_is_that_of_the_stored_corpus(place: Place) -> None:
    written = [*texts(0, domain="news"), *texts(1, domain="wiki")]
    by_stream, by_store = await place.monitor(), await place.monitor()
    await place.client.record_generation(by_stream, 0, written)
    await place.client.record_generation(by_store, 0, artifacts=[write_corpus(place.store, written)])
    first, second = [await place.client.get_monitor(name) for name in (by_stream, by_store)]
    assert first.baseline == second.baseline
    assert first.domain_baselines == second.domain_baselines
    assert len(first.domain_baselines) == 2


async def test_text_records_and_their_model_are_one_report_however_they_come(place: Place) -> None:
    corpus = write_corpus(place.store, texts(1))
    predictions = write_predictions(place.store, answers(), ())
    name = await place.monitor()
    inline = await place.client.record_generation(name, 0, texts(1), answers())
    stored = await place.client.record_generation(name, 0, artifacts=[predictions, corpus])
    assert stored == inline
    finished = await place.client.record_generation(name, 1, artifacts=[str(stored.report)])
    assert (finished.verdict, finished.report) == (Verdict.STABLE, stored.report)
    alone = await place.client.record_generation(name, 2, next_tokens=answers(1))
    assert alone.comparison is not None
    assert {family.family.value for family in alone.comparison.families} == {"MODEL"}


async def test_other_artifacts_and_mixtures_are_refused(place: Place) -> None:
    name, corpus = await place.watched(), write_corpus(place.store, texts(1))
    report = await place.report(*texts(1))
    for artifacts in ([corpus, corpus], [report, corpus], [ArtifactRef(ArtifactKind.MODEL, "0" * 64)]):
        with pytest.raises(InvalidRequest, match="give one report, or a corpus"):
            await place.client.record_generation(name, 1, artifacts=artifacts)
    with pytest.raises(InvalidRequest, match="not both"):
        await place.client.record_generation(name, 1, texts(1), artifacts=[corpus])
    with pytest.raises(InvalidRequest, match="nothing to measure"):
        await place.client.record_generation(name, 1)
    for kind in (ArtifactKind.CORPUS, ArtifactKind.REPORT):
        with pytest.raises(NotFound, match="not in the artifact store"):
            await place.client.record_generation(name, 1, artifacts=[ArtifactRef(kind, "0" * 64)])
    assert (await place.client.get_monitor(name)).generations == 1


async def test_how_much_a_model_wrote_is_told_by_provenance_or_by_the_caller(place: Place) -> None:
    name = await place.monitor()
    half = [replace(one, prefix_length=len(one.text) // 2) for one in texts(0, origin=Origin.SYNTHETIC)]
    told = await place.client.record_generation(name, 0, half)
    assert told.synthetic_share == pytest.approx(0.5, abs=0.01)
    mixed = [*texts(1, origin=Origin.HUMAN), *texts(2, origin=Origin.SYNTHETIC)]
    assert (await place.client.record_generation(name, 1, mixed)).synthetic_share == pytest.approx(0.5, abs=0.01)
    stored = write_corpus(place.store, texts(3, origin=Origin.HUMAN))
    assert (await place.client.record_generation(name, 2, artifacts=[stored])).synthetic_share == 0.0
    assert (await place.client.record_generation(name, 3, [*half, *texts(3)])).synthetic_share is None
    assert (await place.client.record_generation(name, 4, texts(4), synthetic_share=0.25)).synthetic_share == 0.25


async def test_ten_documents_say_nothing_as_candidate_and_nothing_as_baseline(
    place: Place, small: list[Document]
) -> None:
    name = await place.watched()
    few = await place.client.record_generation(name, 1, small)
    assert (few.verdict, few.reason) == (Verdict.INSUFFICIENT_DATA, VerdictReason.TOO_FEW_CLUSTERS)
    other = await place.monitor()
    first = await place.client.record_generation(other, 0, small)
    assert "too small" in first.sentence
    assert "UpdateMonitor" in first.sentence
    told = await place.client.record_generation(other, 1, texts(1))
    assert told.verdict is Verdict.INSUFFICIENT_DATA


async def test_a_baseline_in_another_language_is_no_collapse(place: Place) -> None:
    foreign = [replace(one, text=one.text.replace("z", "q")) for one in texts(0)]
    name = await place.monitor(baseline=await place.report(*foreign))
    told = await place.client.record_generation(name, 1, texts(1, words=200))
    assert told.verdict is Verdict.INSUFFICIENT_DATA
    assert told.reason is VerdictReason.BASELINE_DOES_NOT_COVER_DOMAIN


async def test_a_baseline_that_is_gone_is_said_and_another_one_helps(place: Place) -> None:
    baseline = await place.report(*texts(0, count=239))
    name = await place.monitor(baseline=baseline)
    place.store.delete(baseline)
    told = await place.record(name, 1, POOR)
    assert (told.verdict, told.reason) == (Verdict.INSUFFICIENT_DATA, VerdictReason.BASELINE_MISSING)
    assert "UpdateMonitor" in told.sentence
    again = await place.report(*texts(0))
    await place.client.update_monitor(Monitor(name=name, baseline=again), ["baseline"])
    after = [await place.record(name, n, POOR) for n in (2, 3, 4)]
    assert [one.verdict for one in after] == [Verdict.WARNING, Verdict.WARNING, Verdict.COLLAPSE]


async def test_a_new_baseline_begins_a_new_sequence_and_leaves_what_was_said(place: Place) -> None:
    name = await place.watched()
    for number in (1, 2):
        await place.record(name, number, POOR)
    other = await place.report(*texts(10))
    await place.client.update_monitor(Monitor(name=name, baseline=other), ["baseline"])
    third = await place.record(name, 3, POOR)
    assert third.verdict is Verdict.WARNING, "two beyond the old baseline and one beyond the new are not persistence"
    assert (await place.client.get_generation(f"{name}/generations/2")).verdict is Verdict.WARNING


async def test_a_paused_monitor_refuses_new_generations_and_keeps_its_history(place: Place) -> None:
    name = await place.watched(1)
    paused = await place.client.update_monitor(Monitor(name=name, paused=True), ["paused"])
    assert paused.paused
    with pytest.raises(PreconditionFailed, match="paused"):
        await place.record(name, 2)
    assert len([one async for one in place.client.list_generations(name)]) == 2
    await place.client.update_monitor(Monitor(name=name), ["paused"])
    assert (await place.record(name, 2)).verdict is Verdict.STABLE


async def test_an_update_changes_what_its_mask_names_and_heeds_the_etag(place: Place) -> None:
    name = await place.watched(1)
    read = await place.client.get_monitor(name)
    strict = Policy(margin=0.5)
    changed = await place.client.update_monitor(replace(read, description="new", policy=strict), ["policy"])
    assert (changed.policy, changed.description, changed.baseline) == (strict, "", read.baseline)
    assert changed.etag != read.etag
    with pytest.raises(PreconditionFailed, match="meanwhile"):
        await place.client.update_monitor(replace(read, description="late"), ["description"])
    assert (await place.record(name, 2)).comparison.policy == strict
    await place.client.update_monitor(replace(changed, description="in time"), ["description"])


@pytest.mark.parametrize("fields", [[], ["name"], ["policy.margin"], ["nothing"], ["generations"]])
async def test_an_update_of_other_fields_is_refused(place: Place, fields: list[str]) -> None:
    name = await place.monitor()
    with pytest.raises(InvalidRequest, match="update_mask"):
        await place.client.update_monitor(Monitor(name=name), fields)


async def test_a_baseline_is_a_report_or_frozen_and_is_there(place: Place) -> None:
    corpus = write_corpus(place.store, texts(0))
    name = await place.monitor()
    with pytest.raises(InvalidRequest, match="frozen baseline"):
        await place.client.update_monitor(Monitor(name=name, baseline=corpus), ["baseline"])
    absent = ArtifactRef(ArtifactKind.REPORT, "0" * 64)
    with pytest.raises(NotFound, match="not in the artifact store"):
        await place.monitor(baseline=absent)
    with pytest.raises(NotFound, match="domain_baselines"):
        await place.monitor(domain_baselines=(DomainBaseline(domain="news", baseline=absent),))
    with pytest.raises(InvalidRequest, match="not both"):
        await place.client.create_monitor("both", Monitor(baseline=absent), baseline_name="baselines/b")


async def test_a_baseline_has_many_names(place: Place) -> None:
    report = await place.report(*texts(0))
    frozen = await place.analyzer.create_baseline("people", report)
    name = await place.watched(1)
    recorded = await place.client.get_generation(f"{name}/generations/1")
    for baseline_name, expected in (("baselines/people", frozen.baseline), (recorded.name, recorded.report)):
        place.count += 1
        made = await place.client.create_monitor(f"m{place.count}", baseline_name=baseline_name)
        assert made.baseline == expected
        assert (await place.client.record_generation(made.name, 7, texts(5))).verdict is Verdict.STABLE
    for absent in ("baselines/none", f"{name}/generations/9", "monitors/none/generations/0"):
        with pytest.raises(NotFound):
            await place.client.create_monitor("absent", baseline_name=absent)
    with pytest.raises(NotFound, match="no run"):
        await place.client.create_monitor("absent", baseline_name="runs/r/arms/a/seeds/0/generations/0")
    with pytest.raises(InvalidRequest, match="write baselines/BASELINE"):
        await place.client.create_monitor("absent", baseline_name="models/m")


async def test_a_repeated_creation_makes_one_monitor_and_a_name_is_given_once(place: Place) -> None:
    request = monitor_pb2.CreateMonitorRequest(monitor_id="once", request_id=str(uuid.uuid4()))
    first, second = await asyncio.gather(place.stub.CreateMonitor(request), place.stub.CreateMonitor(request))
    assert first == second
    request.monitor.description = "another"
    with pytest.raises(grpc.aio.AioRpcError, match="request_id was used"):
        await place.stub.CreateMonitor(request)
    with pytest.raises(AlreadyExists, match="choose another name"):
        await place.client.create_monitor("once")


@pytest.mark.parametrize("monitor_id", ["", "Upper", "a" * 64, "a/b", "ü"])
async def test_what_cannot_name_a_monitor_is_refused(place: Place, monitor_id: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot name a monitor"):
        await place.client.create_monitor(monitor_id)


async def test_what_is_not_there_is_not_found(place: Place) -> None:
    name = await place.monitor()
    calls: list[Any] = [
        place.client.get_monitor("monitors/none"),
        place.client.delete_monitor("monitors/none"),
        place.client.update_monitor(Monitor(name="monitors/none"), ["paused"]),
        place.client.record_generation("monitors/none", 0, texts(0)),
        place.client.get_generation("monitors/none/generations/0"),
        place.client.get_generation(f"{name}/generations/0"),
        place.client.gate(texts(0), baseline_name="monitors/none"),
        anext(place.client.list_generations("monitors/none")),
    ]
    for call in calls:
        with pytest.raises(NotFound):
            await call


@pytest.mark.parametrize("name", ["", "m", "monitors/", "runs/x", "monitors/a/b"])
async def test_what_is_no_name_is_refused(place: Place, name: str) -> None:
    calls: list[Any] = [
        place.client.get_monitor(name),
        place.client.record_generation(name, 0, texts(0, count=1)),
        place.client.get_generation(f"{name}/generations/1" if name != "monitors/a/b" else "monitors/a/generations/-1"),
    ]
    for call in calls:
        with pytest.raises(InvalidRequest, match="not the name of"):
            await call


async def test_impossible_numbers_and_texts_are_told_and_a_million_is_none_of_them(place: Place) -> None:
    name = await place.monitor()
    for wrong, told in (
        ({"number": -1}, "number"),
        ({"number": 0, "description": "x" * 257}, "description"),
        ({"number": 0, "synthetic_share": 1.5}, "synthetic_share"),
        ({"number": 0, "synthetic_share": float("nan")}, "synthetic_share"),
    ):
        with pytest.raises(InvalidRequest) as raised:
            await place.client.record_generation(name, documents=texts(0, count=1), **wrong)
        assert [problem.field for problem in raised.value.problems] == [told]
    assert (await place.client.record_generation(name, 1_000_000, texts(0))).number == 1_000_000
    long = monitor_pb2.CreateMonitorRequest(monitor_id="long", monitor=monitor_pb2.Monitor(description="x" * 257))
    with pytest.raises(grpc.aio.AioRpcError, match="description"):
        await place.stub.CreateMonitor(long)


async def test_what_the_analyzer_refuses_is_told_and_nothing_is_recorded(place: Place) -> None:
    name = await place.watched()
    with pytest.raises(LimitExceeded, match="1,000 documents"):
        await place.client.record_generation(name, 1, texts(1, count=1_001))
    with pytest.raises(NotFound):
        await place.client.get_generation(f"{name}/generations/1")


async def test_a_deleted_monitor_is_gone_with_its_history_and_its_name_is_free(place: Place) -> None:
    name = await place.watched(1)
    await place.client.delete_monitor(name)
    with pytest.raises(NotFound):
        await place.client.get_generation(f"{name}/generations/1")
    again = await place.client.create_monitor(name.removeprefix("monitors/"))
    assert (again.generations, again.baseline) == (0, None)


async def test_lists_come_in_pages_in_order(place: Place) -> None:
    name = await place.watched(1, 2)
    listed, token = list[int](), ""
    while True:
        request = monitor_pb2.ListMonitorGenerationsRequest(parent=name, page_size=2, page_token=token)
        page = await place.stub.ListMonitorGenerations(request)
        listed += [one.number for one in page.generations]
        token = page.next_page_token
        if not token:
            break
    assert listed == [0, 1, 2]
    names = [one.name async for one in place.client.list_monitors()]
    assert names == sorted(names)
    first = await place.stub.ListMonitors(monitor_pb2.ListMonitorsRequest(page_size=1))
    second = await place.stub.ListMonitors(
        monitor_pb2.ListMonitorsRequest(page_size=1, page_token=first.next_page_token)
    )
    assert [one.name for one in (*first.monitors, *second.monitors)] == names[:2]
    with pytest.raises(grpc.aio.AioRpcError, match="another list"):
        await place.stub.ListMonitorGenerations(
            monitor_pb2.ListMonitorGenerationsRequest(parent=name, page_token=first.next_page_token)
        )


async def test_a_gate_lets_through_what_is_as_the_baseline_and_records_nothing(place: Place) -> None:
    name = await place.watched()
    for number in (1, 2):
        await place.record(name, number, POOR)
    before = await place.client.get_monitor(name)
    good = await place.client.gate(texts(8), baseline_name=name)
    assert good.passed
    bad = await place.client.gate(texts(9, words=POOR), baseline_name=name)
    assert not bad.passed
    assert bad.comparison.verdict is Verdict.COLLAPSE, "the third in a row, as if it were the next generation"
    single = await place.client.gate(texts(9, words=POOR), baseline_name=f"{name}/generations/0")
    assert single.comparison.verdict is Verdict.WARNING
    lenient = GatePolicy(refuse_from=Verdict.COLLAPSE)
    other = await place.client.gate(texts(9, words=POOR), baseline=single_baseline(before), policy=lenient)
    assert (other.passed, other.policy) == (True, lenient)
    assert await place.client.get_monitor(name) == before


def single_baseline(monitor: Monitor) -> ArtifactRef:
    """Return the baseline of a monitor that has one."""
    assert monitor.baseline is not None
    return monitor.baseline


async def test_a_gate_stays_closed_for_lack_of_data_unless_it_is_told_otherwise(
    place: Place, small: list[Document]
) -> None:
    baseline = await place.report(*texts(0))
    assert not (await place.client.gate(small, baseline=baseline)).passed
    opened = GatePolicy(allow_insufficient_data=True)
    assert (await place.client.gate(small, baseline=baseline, policy=opened)).passed
    with pytest.raises(NotFound):
        await place.client.gate(texts(1), baseline=ArtifactRef(ArtifactKind.REPORT, "0" * 64), policy=opened)
    with pytest.raises(InvalidRequest, match="give a baseline"):
        await place.client.gate(texts(1))
    with pytest.raises(InvalidRequest, match="not both"):
        await place.client.gate(texts(1), baseline=baseline, baseline_name="baselines/b")
    with pytest.raises(PreconditionFailed, match="no baseline yet"):
        await place.client.gate(texts(1), baseline_name=await place.monitor())


async def test_a_gate_looks_at_the_domains_of_a_monitor(place: Place) -> None:
    human = [*texts(0, domain="news"), *texts(1, domain="wiki")]
    name = await place.monitor(baseline=write_corpus(place.store, human), policy=Policy(margin=2.0))
    written = [*texts(3, domain="news"), *texts(4, domain="wiki", words=600)]
    decision = await place.client.gate(written, baseline_name=name)
    assert not decision.passed
    assert "In the domain 'wiki'" in decision.sentence
    assert decision.policy.policy == Policy(margin=2.0), "the policy of the monitor"
    passed = await place.client.gate(artifacts=[write_corpus(place.store, human)], baseline_name=name)
    assert passed.passed


async def test_an_empty_stream_is_told_what_is_missing(place: Place) -> None:
    for method in (place.stub.RecordGeneration, place.stub.Gate):
        with pytest.raises(grpc.aio.AioRpcError, match="the first message") as raised:
            await method(iter(()))
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_health_reflection_and_metrics_know_the_service(place: Place) -> None:
    health = health_pb2_grpc.HealthStub(place.channel)
    answer = await health.Check(health_pb2.HealthCheckRequest(service=MONITOR_SERVICE_NAME))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_the_blocking_client_has_every_method_of_the_other(place: Place) -> None:
    public = {name for name in vars(MonitorClient) if not name.startswith("_")} - {"connect"}
    assert public <= {name for name in vars(SyncMonitors) if not name.startswith("_")}
    name = await place.monitor()

    def use() -> list[Any]:
        with SyncMonitors(place.address) as monitors:
            told = [monitors.record_generation(name, number, texts(number)) for number in (0, 1)]
            assert monitors.list_generations(name) == tuple(told)
            assert monitors.get_generation(told[1].name) == monitors.get_monitor(name).newest == told[1]
            assert name in [one.name for one in monitors.list_monitors()]
            assert monitors.gate(texts(2), baseline_name=name).passed
            assert monitors.update_monitor(Monitor(name=name, paused=True), ["paused"]).paused
            monitors.delete_monitor(name)
            return told

    assert [one.number for one in await asyncio.to_thread(use)] == [0, 1]


async def test_the_client_refuses_what_is_no_list_before_it_calls(place: Place) -> None:
    with pytest.raises(InvalidRequest, match="artifacts"):
        await place.client.record_generation("monitors/x", 0, artifacts="report/0")  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="fields"):
        await place.client.update_monitor(Monitor(name="monitors/x"), "paused")
    with pytest.raises(InvalidRequest, match="expected Monitor"):
        await place.client.create_monitor("x", {"baseline": 1})  # type: ignore[arg-type]
