"""Every model on every domain: what is asked of whom, what is kept, and what a kill costs."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ouroscope.canonical import digest_of
from ouroscope.corpora.stored import read_corpus, write_corpus
from ouroscope.errors import InvalidRequest, PreconditionFailed
from ouroscope.records.analysis import AnalyzeCorpus
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document, View
from ouroscope.records.generation import Generate, Generated, ModelInfo, PreparePrompts, Score
from ouroscope.records.runs import ArmSpec, DatasetSpec, DomainSpec, Generation, RunSpec, RunState
from ouroscope.store import ArtifactStore
from services.coordinator import plan
from services.coordinator.across import Beginnings
from services.coordinator.board import Board
from services.coordinator.database import History
from services.coordinator.dataset.texts import Dataset, Dealt, Texts
from services.coordinator.loop import run_arm
from services.coordinator.patience import Patiently
from services.coordinator.setup import RunSetup, check_context
from services.coordinator.stages import LaneStages, Setup
from services.coordinator.workers import OnProgress

from .conftest import a_run, not_durable
from .domains import texts_of, write_domain
from .fakes import Team, made, small_spec

NAMES = ("news", "science", "wiki")
ALL = ArmSpec(name="all", protocol="human")
ON_NEWS = ArmSpec(name="on-news", protocol="replace", domains=("news",))
ON_WIKI = ArmSpec(name="on-wiki", protocol="replace", domains=("wiki",), real_share=0.5)
FIELDS = ("prompts", "heldout", "questions")


def texts(*domains: str) -> Texts:
    """Return the corpora of some domains."""
    return Texts(domains=domains, **{name: made(ArtifactKind.CORPUS, name, *domains) for name in FIELDS})


DATASET = Dataset(
    **{name: made(ArtifactKind.CORPUS, name) for name in (*FIELDS, "unigram")},
    narrower=tuple(texts(name) for name in NAMES),
    dealt=tuple(Dealt(domain=name, source="embedded", prompts=100, heldout=20) for name in NAMES),
)
SETUP = Setup(
    model=made(ArtifactKind.MODEL, "base"),
    dataset=DATASET,
    across=tuple(Beginnings(prefix_tokens=n, windows=made(ArtifactKind.CORPUS, "across", n)) for n in (4, 8)),
)


def spec_of(*arms: ArmSpec, documents: int = 20, **changes: Any) -> RunSpec:
    """Return a run over three domains whose models continue held-out text of each."""
    evaluation = replace(small_spec().evaluation, across_documents=documents)
    domains = tuple(DomainSpec(name=name, source=f"/{name}") for name in ("wiki", "news", "science"))
    given = {"arms": arms, "dataset": DatasetSpec(domains=domains), "evaluation": evaluation, "generations": 2}
    return small_spec(**{**given, **changes})


async def run_all(
    spec: RunSpec, team: Team, history: History, steps: Any = not_durable, setup: Setup = SETUP
) -> dict[tuple[str, int], Generation]:
    """Run all lanes one after another and return what is kept."""
    board = Board()
    board.open(await history.run("r"))
    for lane in plan.lanes_of("r", spec):
        patiently = Patiently(limit=5, first_pause=0.001)
        stages = LaneStages(lane, spec, setup, team.workers, history, board, steps, patiently, history)
        await run_arm(plan.arm_named(spec, lane.arm), lane.seed, spec, stages)
    return {(one.lane.arm, one.generation.number): one.generation for one in await history.generations("r")}


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path / "workers")


async def ran(spec: RunSpec, team: Team, history: History) -> dict[tuple[str, int], Generation]:
    """Run a specification from its beginning."""
    await history.create_run("r", a_run(spec, state=RunState.RUNNING), None)
    return await run_all(spec, team, history)


def of_kind(team: Team, kind: type[Any]) -> list[Any]:
    """Return what was asked, each once, in order."""
    return list(dict.fromkeys(request for request in team.asked if isinstance(request, kind)))


async def test_every_generation_has_one_report_for_each_domain(history: History, team: Team) -> None:
    kept = await ran(spec_of(ALL, ON_NEWS), team, history)
    for generation in kept.values():
        assert [one.domain for one in generation.across] == ["wiki", "news", "science"]
        assert len({one.report for one in generation.across}) == len({one.human_report for one in generation.across})
        assert len({one.report for one in generation.across}) == 3
        assert generation.across_corpus is not None


async def test_only_the_generations_that_were_named_are_examined_across(history: History, team: Team) -> None:
    spec = spec_of(ON_NEWS)
    some = replace(spec, evaluation=replace(spec.evaluation, across_generations=(0, 2)))
    kept = await ran(some, team, history)
    assert [bool(kept["on-news", number].across) for number in range(3)] == [True, False, True]


async def test_an_arm_is_prompted_trained_and_examined_on_its_own_domains_and_across_on_all(
    history: History, team: Team
) -> None:
    await ran(spec_of(ON_NEWS), team, history)
    news = DATASET.of(("news",))
    assert {request.corpus for request in of_kind(team, PreparePrompts)} == {news.prompts, news.heldout}
    asked = [request for request in of_kind(team, Score) if request.heldout is not None]
    own = [request for request in asked if request.documents is not None]
    others = [request for request in asked if request.documents is None]
    assert {(request.heldout, request.prompts) for request in own} == {(news.heldout, news.questions)}
    assert {(request.heldout, request.prompts) for request in others} == {(DATASET.heldout, DATASET.questions)}
    assert [request.model for request in own] == [request.model for request in others]


async def test_an_arm_that_reads_all_domains_is_asked_once(history: History, team: Team) -> None:
    kept = await ran(spec_of(ALL), team, history)
    assert all(generation.across_predictions == generation.predictions for generation in kept.values())
    assert all(request.documents is not None for request in of_kind(team, Score))


async def test_each_domain_is_measured_on_what_was_expected_and_written_of_it(history: History, team: Team) -> None:
    kept = await ran(spec_of(ON_NEWS), team, history)
    asked = [request for request in of_kind(team, AnalyzeCorpus) if request.domain]
    assert {request.view for request in asked} == {View.CONTINUATION}
    for generation in kept.values():
        for one in generation.across:
            of_model = AnalyzeCorpus(
                corpus=generation.across_corpus,
                predictions=generation.across_predictions,
                view=View.CONTINUATION,
                domain=one.domain,
            )
            assert of_model in asked
            assert one.report == made(ArtifactKind.REPORT, of_model)


async def test_beginnings_and_noise_are_the_same_in_all_generations_and_so_is_the_human_side(
    history: History, team: Team
) -> None:
    kept = await ran(spec_of(ALL, ON_NEWS, ON_WIKI), team, history)
    windows = {one.prefix_tokens: one.windows for one in SETUP.across}
    continued = [request for request in of_kind(team, Generate) if request.prompts in windows.values()]
    assert {request.prompts: request.sampling for request in continued}.keys() == set(windows.values())
    assert len({(request.prompts, request.sampling) for request in continued}) == 2, "one for each length of the prefix"
    human = {(one.domain, one.human_report) for generation in kept.values() for one in generation.across}
    assert len(human) == 3 * 2, "three domains, two lengths"


async def test_where_nothing_is_to_be_written_only_probabilities_are_measured(history: History, team: Team) -> None:
    spec = spec_of(ON_NEWS, documents=0)
    await history.create_run("r", a_run(spec, state=RunState.RUNNING), None)
    kept = await run_all(spec, team, history, setup=replace(SETUP, across=()))
    for generation in kept.values():
        assert generation.across_corpus is None
        assert generation.across_predictions is not None
        assert {one.human_report for one in generation.across} == {None}
    assert {request.corpus for request in of_kind(team, AnalyzeCorpus) if request.domain} == {None}


class Killed(BaseException):
    """The process is gone."""


class Dying(Team):
    """Workers whose coordinator is killed when so many pieces of work are done."""

    left = 10**6

    async def _really_work(self, name: str, mark: Path, on_progress: OnProgress | None) -> None:
        if self.left == 0:
            raise Killed
        self.left -= 1
        await super()._really_work(name, mark, on_progress)


class Remembered:
    """Steps as DBOS keeps them: by their place, in the order in which they were begun."""

    def __init__(self) -> None:
        self.answers: list[str] = []
        self.next = 0

    async def __call__(self, name: str, work: Callable[[], Awaitable[Any]]) -> Any:
        self.next += 1
        if self.next > len(self.answers):
            self.answers.append(json.dumps(await work()))
        return json.loads(self.answers[self.next - 1])

    def restart(self) -> None:
        self.next = 0


async def test_a_run_that_is_killed_while_it_examines_across_goes_on_and_does_nothing_twice(
    history: History, tmp_path: Path
) -> None:
    spec = spec_of(ON_NEWS, generations=1)
    whole = Team(tmp_path / "whole")
    expected = await ran(spec, whole, history)
    domains = {f"analyse-{digest_of('analyse', one)[:16]}" for one in of_kind(whole, AnalyzeCorpus) if one.domain}
    places = [place for place, mark in enumerate(whole.journal) if mark in domains]
    assert len(places) == 9, "three domains at two generations, and three human sides"
    for done in places:
        run_id = f"killed-{done}"
        team, steps = Dying(tmp_path / run_id), Remembered()
        await history.delete_run("r")
        await history.create_run("r", a_run(spec, state=RunState.RUNNING), None)
        team.left = done
        with pytest.raises(Killed):
            await run_all(spec, team, history, steps)
        team.left = 10**6
        steps.restart()
        kept = await run_all(spec, team, history, steps)
        assert team.journal == whole.journal
        assert {key: value.across for key, value in kept.items()} == {k: v.across for k, v in expected.items()}


class Storing(Team):
    """Workers that really cut windows: one of each document, as far as there are enough."""

    store: ArtifactStore

    async def import_model(self, source: str, *, on_progress: OnProgress | None = None) -> ModelInfo:
        found = await super().import_model(source, on_progress=on_progress)
        return replace(found, context_tokens=16)

    async def prepare_prompts(self, request: PreparePrompts, on_progress: OnProgress | None = None) -> Generated:
        made_before = await super().prepare_prompts(request, on_progress)
        cut = list(read_corpus(self.store, request.corpus))[: request.window.count]
        if len(cut) < request.window.count:
            raise PreconditionFailed(f"the corpus has {len(cut)} windows and {request.window.count} are needed")
        return replace(made_before, corpus=write_corpus(self.store, [_window(d, request) for d in cut]))


def _window(document: Document, request: PreparePrompts) -> Document:
    return replace(document, prefix_length=request.window.prefix_tokens)


@pytest.fixture
def storing(tmp_path: Path) -> Storing:
    team = Storing(tmp_path / "workers")
    team.store = ArtifactStore(str(tmp_path / "store"))
    return team


def written_spec(folder: Path, *arms: ArmSpec, **changes: Any) -> RunSpec:
    """Return a run over domains that are there."""
    domains = tuple(write_domain(folder, name, texts_of(seed, 600)) for seed, name in enumerate(NAMES))
    return replace(spec_of(*arms), dataset=DatasetSpec(domains=domains), **changes)


async def prepared(spec: RunSpec, team: Storing, history: History) -> Setup:
    """Set a run up."""
    await history.create_run("r", a_run(spec, state=RunState.RUNNING), None)
    board, patiently = Board(), Patiently(limit=5, first_pause=0.001)
    board.open(await history.run("r"))
    return await RunSetup("r", spec, team.store, team.workers, history, board, not_durable, patiently).prepare()


async def test_the_beginnings_are_equally_many_held_out_windows_of_every_domain_for_each_length_of_the_prefix(
    history: History, storing: Storing, tmp_path: Path
) -> None:
    spec = written_spec(tmp_path, ALL, ON_NEWS, ON_WIKI)
    setup = await prepared(spec, storing, history)
    assert [one.prefix_tokens for one in setup.across] == [4, 8]
    taught = {document.id for document in read_corpus(storing.store, setup.dataset.prompts)}
    for one in setup.across:
        documents = list(read_corpus(storing.store, one.windows))
        assert [document.domain for document in documents] == [name for name in NAMES for _ in range(20)]
        assert not {document.id for document in documents} & taught
        assert {document.prefix_length for document in documents} == {one.prefix_tokens}
    assert set(await history.artifacts("r")) == {"dataset", "model", "across", "baseline"}


async def test_the_furthest_slice_of_every_pool_is_cut_before_anything_is_written(
    history: History, storing: Storing, tmp_path: Path
) -> None:
    spec = written_spec(tmp_path, ALL, ON_NEWS, ON_WIKI, documents=20)
    setup = await prepared(spec, storing, history)
    pools = [setup.dataset.of(names).prompts for names in ((), ("news",), ("wiki",))]
    cut = [request for request in of_kind(storing, PreparePrompts) if request.corpus in pools]
    assert [request.corpus for request in cut] == pools
    assert {(request.window.offset, request.window.count) for request in cut} == {(40, 20)}


async def test_a_domain_with_too_few_held_out_windows_is_named_before_anything_is_scored(
    history: History, storing: Storing, tmp_path: Path
) -> None:
    spec = written_spec(tmp_path, ALL)
    greedy = replace(spec, evaluation=replace(spec.evaluation, across_documents=400))
    with pytest.raises(PreconditionFailed, match="20 windows and 400 are needed") as caught:
        await prepared(greedy, storing, history)
    assert caught.value.__notes__ == ["domain news", "across"]
    assert not of_kind(storing, Score)


async def test_nothing_is_cut_across_where_nobody_asked_for_it(
    history: History, storing: Storing, tmp_path: Path
) -> None:
    spec = written_spec(tmp_path, ALL)
    setup = await prepared(replace(spec, evaluation=replace(spec.evaluation, across_documents=0)), storing, history)
    assert setup.across == ()
    assert "across" not in await history.artifacts("r")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"document_tokens": 17}, "document_tokens: 17 are too many: the model sees 16 tokens at once"),
        ({"evaluation": {"prompt_length": 17, "max_tokens": 40}}, "evaluation.prompt_length: 17 are too many"),
    ],
)
async def test_what_does_not_fit_into_the_context_of_the_model_is_refused_before_anything_is_cut_or_scored(
    changes: dict[str, Any], field: str, history: History, storing: Storing, tmp_path: Path
) -> None:
    spec = written_spec(tmp_path, ALL)
    given = {k: replace(spec.evaluation, **v) if k == "evaluation" else v for k, v in changes.items()}
    long = tuple(write_domain(tmp_path, name, texts_of(seed, 600, 30)) for seed, name in enumerate(NAMES))
    with pytest.raises(InvalidRequest, match=field):
        await prepared(replace(spec, dataset=DatasetSpec(domains=long), **given), storing, history)
    assert not of_kind(storing, PreparePrompts)
    assert not of_kind(storing, Score)


def test_all_that_does_not_fit_is_told_at_once_and_a_text_may_be_longer_than_the_context() -> None:
    model = ModelInfo(
        model=ArtifactRef(ArtifactKind.MODEL, "0" * 64), source="m", parameters=1, context_tokens=16, vocabulary=9
    )
    spec = small_spec()
    check_context(replace(spec, evaluation=replace(spec.evaluation, max_tokens=4000)), model)
    wrong = replace(spec, document_tokens=64, evaluation=replace(spec.evaluation, prompt_length=32, max_tokens=64))
    with pytest.raises(InvalidRequest) as caught:
        check_context(wrong, model)
    assert [problem.field for problem in caught.value.problems] == ["document_tokens", "evaluation.prompt_length"]
