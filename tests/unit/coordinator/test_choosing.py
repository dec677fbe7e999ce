"""Which calls a choice makes of which service, and what comes back; services are stand-ins that note what is asked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ouroscope.canonical import from_plain, to_plain
from ouroscope.records.analysis import Share
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.generation import Classify, Edit, Score
from ouroscope.records.progress import Progress
from ouroscope.records.runs import ArmSpec, EditSpec
from ouroscope.records.selection import (
    Composition,
    SelectDocuments,
    Selected,
    SelectionRule,
    SelectionSource,
    SelectionSpec,
)
from services.coordinator import plan
from services.coordinator.choices import Choice, Chosen, is_work, whole
from services.coordinator.choosing import choose
from services.coordinator.durable import LARGEST_ANSWER
from services.coordinator.protocols import Pools, Portion

from .fakes import Team, made, small_spec

MODEL = made(ArtifactKind.MODEL, "now")
HUMAN, OTHER, WRITTEN, LATER = (made(ArtifactKind.CORPUS, name) for name in ("human", "other", "written", "later"))
POOL = Portion(pool=(HUMAN, WRITTEN), documents=20)
WANTED = Choice(
    model=MODEL,
    generation=3,
    portions=(POOL,),
    documents=20,
    written=((WRITTEN, HUMAN), (LATER, OTHER)),
    backend="big",
    max_tokens=64,
    seed=11,
)
SCORES = [Score(model=MODEL, documents=corpus, max_tokens=64, backend="big") for corpus in POOL.pool]


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path / "workers")


async def chosen(team: Team, wanted: Choice) -> Chosen:
    return await choose(wanted, team.workers, lambda _: None)


def selections(team: Team) -> list[SelectDocuments]:
    return [request for request in team.asked if isinstance(request, SelectDocuments)]


def by(rule: SelectionRule, **changes: Any) -> Choice:
    return replace(WANTED, selection=SelectionSpec(rule=rule, **changes))


async def test_whole_portions_are_passed_on_without_a_call(team: Team) -> None:
    portions = (Portion(pool=(HUMAN, WRITTEN)), Portion(pool=(LATER,)))
    found = await chosen(team, replace(WANTED, portions=portions))
    assert found == whole(portions) == Chosen(corpora=(HUMAN, WRITTEN, LATER))
    assert team.asked == []


async def test_a_draw_is_one_selection_at_random(team: Team) -> None:
    found = await chosen(team, WANTED)
    (asked,) = team.asked
    assert isinstance(asked, SelectDocuments)
    assert asked.sources == (SelectionSource(corpus=HUMAN), SelectionSource(corpus=WRITTEN))
    assert (asked.selection, asked.documents) == (SelectionSpec(), 20)
    assert found.corpora == (found.selections[0].corpus,)


@pytest.mark.parametrize("rule", SelectionRule)
async def test_where_an_arm_selects_the_current_model_scores_every_document_of_the_pool(
    team: Team, rule: SelectionRule
) -> None:
    await chosen(team, by(rule))
    *scores, asked = team.asked
    assert scores == SCORES
    assert all(score.max_documents == 0 for score in SCORES), "all of them"
    assert [(source.corpus, source.predictions) for source in asked.sources] == [
        (score.documents, made(ArtifactKind.PREDICTIONS, score)) for score in SCORES
    ]


async def test_growth_asks_for_a_multiple_of_the_documents(team: Team) -> None:
    await chosen(team, by(SelectionRule.DETECTOR, growth=1.5))
    assert [asked.documents for asked in selections(team)] == [30]


async def test_a_classifier_is_asked_about_every_corpus_of_the_pool(team: Team) -> None:
    await chosen(team, by(SelectionRule.DETECTOR, scorer="owner/detector"))
    *others, selection = team.asked
    asked = [one for one in others if isinstance(one, Classify)]
    assert asked == [Classify(classifier="owner/detector", corpus=corpus) for corpus in POOL.pool]
    assert [source.detections for source in selection.sources] == [
        made(ArtifactKind.PREDICTIONS, each) for each in asked
    ]


async def test_a_verifier_is_given_the_real_continuations_of_what_was_written(team: Team) -> None:
    wanted = replace(by(SelectionRule.VERIFIER), portions=(Portion(pool=(OTHER, WRITTEN, LATER), documents=5),))
    await chosen(team, wanted)
    assert [source.reference for source in selections(team)[0].sources] == [None, HUMAN, OTHER]


async def test_a_selection_from_a_whole_portion_keeps_as_many_documents_as_a_generation_has(team: Team) -> None:
    await chosen(team, replace(by(SelectionRule.TEXT_ENTROPY), portions=(Portion(pool=(HUMAN, WRITTEN)),)))
    assert [asked.documents for asked in selections(team)] == [20]


async def test_weights_stay_with_their_portions(team: Team) -> None:
    portions = (
        Portion(pool=(HUMAN, OTHER), weight=1.5),
        Portion(pool=(WRITTEN, LATER), documents=7, weight=0.5),
        Portion(pool=(LATER,)),
    )
    found = await chosen(team, replace(WANTED, portions=portions))
    (drawn,) = found.selections
    assert found.corpora == (HUMAN, OTHER, drawn.corpus, LATER)
    assert found.weights == (1.5, 1.5, 0.5, 1.0)


async def test_equal_weights_are_left_out(team: Team) -> None:
    portions = (POOL, Portion(pool=(LATER,)))
    assert (await chosen(team, replace(WANTED, portions=portions))).weights == ()


async def test_human_text_is_edited_by_the_current_model_and_what_was_written_stays(team: Team) -> None:
    portions = (Portion(pool=(HUMAN, WRITTEN)),)
    found = await chosen(team, replace(WANTED, portions=portions, edit=EditSpec(threshold=0.9, top_k=4)))
    (asked,) = team.asked
    assert isinstance(asked, Edit)
    assert (asked.model, asked.corpus, asked.generation) == (MODEL, HUMAN, 3)
    assert (asked.threshold, asked.top_k) == (0.9, 4)
    assert found.corpora == (made(ArtifactKind.CORPUS, asked), WRITTEN)


async def test_text_is_edited_before_it_is_scored_and_selected(team: Team) -> None:
    await chosen(team, replace(by(SelectionRule.SURPLEXITY), edit=EditSpec()))
    edit, *scores, selection = team.asked
    pool = [made(ArtifactKind.CORPUS, edit), WRITTEN]
    assert [score.documents for score in scores] == pool
    assert [source.corpus for source in selection.sources] == pool


async def test_a_choice_that_is_made_again_works_on_nothing_twice(team: Team) -> None:
    wanted = replace(by(SelectionRule.SURPLEXITY), edit=EditSpec())
    first = await chosen(team, wanted)
    done = list(team.journal)
    assert await chosen(team, wanted) == first
    assert team.journal == done


async def test_a_pool_that_grows_is_scored_anew_only_where_it_grew(team: Team) -> None:
    await chosen(team, by(SelectionRule.SURPLEXITY))
    grown = Portion(pool=(*POOL.pool, LATER), documents=20)
    await chosen(team, replace(by(SelectionRule.SURPLEXITY), portions=(grown,)))
    assert sum(line.startswith("score") for line in team.journal) == 3


async def test_portions_of_one_choice_and_other_generations_draw_apart(team: Team) -> None:
    await chosen(team, replace(WANTED, portions=(POOL, POOL)))
    await chosen(team, replace(WANTED, seed=12))
    assert len({asked.seed for asked in selections(team)}) == 3


async def test_progress_of_every_service_is_passed_on(team: Team) -> None:
    told: list[Progress] = []
    await choose(replace(by(SelectionRule.SURPLEXITY), edit=EditSpec()), team.workers, told.append)
    assert {progress.stage for progress in told} >= {"edit", "select"}


def test_work_is_to_be_done_for_a_draw_a_selection_or_an_edit_and_for_nothing_else() -> None:
    arm = ArmSpec(name="a", protocol="accumulate")
    assert not is_work(arm, (Portion(pool=(HUMAN, WRITTEN)), Portion(pool=(LATER,), weight=2.0)))
    assert is_work(arm, (Portion(pool=(HUMAN,)), POOL))
    for changes in ({"selection": SelectionSpec()}, {"edit": EditSpec()}):
        assert is_work(replace(arm, **changes), (Portion(pool=(HUMAN,)),))


def test_the_plan_says_who_scores_how_far_and_what_was_written_after_which_prompts() -> None:
    spec = small_spec(backend="big", document_tokens=100)
    pools = Pools().with_round(HUMAN, WRITTEN, (LATER,), OTHER)
    wanted = plan.choice(spec, spec.arms[0], 0, 3, MODEL, (POOL,), pools)
    assert (wanted.backend, wanted.max_tokens, wanted.documents) == ("big", 100, 20)
    assert wanted.written == ((WRITTEN, OTHER), (LATER, OTHER))
    assert wanted.seed != plan.choice(spec, spec.arms[0], 1, 3, MODEL, (POOL,), pools).seed


def test_what_was_chosen_fits_into_a_durable_step_after_many_generations() -> None:
    rounds, domains = 50, 20
    shares = tuple(Share(label=f"domain-{'x' * 40}-{i}", value=1 / domains) for i in range(domains))
    told = Composition(documents=10**9, human_share=1 / 3, domains=shares, mean_words=100 / 3, surplexity=(1 / 3,) * 5)
    refs = tuple(ArtifactRef(ArtifactKind.CORPUS, f"{i:064x}") for i in range(3 * rounds))
    found = Chosen(
        corpora=refs, weights=(1 / 3,) * len(refs), selections=(Selected(corpus=HUMAN, pool=told, chosen=told),) * 3
    )
    plain = to_plain(found)
    assert len(json.dumps(plain)) < LARGEST_ANSWER
    assert from_plain(Chosen, plain) == found
