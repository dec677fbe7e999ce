"""One stream of a pipeline on its way to the analyzer, whole and by domain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ouroscope.client.batches import Fields
from ouroscope.errors import InvalidRequest, LimitExceeded
from ouroscope.records.documents import Document, Origin
from ouroscope.records.monitors import MOST_DOMAINS
from ouroscope.records.predictions import NextToken
from ouroscope.wire import to_proto
from services.coordinator.monitors.relay import WAITING, Findings, Relay
from services.coordinator.monitors.survey import Survey

from .fakes import Team


def a_document(number: int, domain: str | None = None, **facts: Any) -> Document:
    return Document(id=str(number), text="ten words " * 5, domain=domain, **facts)


def a_prompt(number: int, domain: str | None = None) -> NextToken:
    return NextToken(prompt_id=str(number), cluster="c", top_probabilities=(1.0,), entropy=0.0, domain=domain)


def message(documents: Sequence[Document] = (), next_tokens: Sequence[NextToken] = ()) -> Fields:
    found = {"documents": documents, "next_tokens": next_tokens}
    return {name: [to_proto(item) for item in items] for name, items in found.items() if items}


async def stream(*messages: Fields) -> AsyncIterator[Fields]:
    for one in messages:
        yield one


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path)


async def relayed(team: Team, domains: Sequence[str] | None, *messages: Fields) -> Findings:
    return await Relay(team, domains).measure(stream(*messages))


async def test_the_whole_and_each_wanted_domain_are_measured_and_no_other(team):
    both = message([a_document(1, "news"), a_document(2, "wiki"), a_document(3)], [a_prompt(1, "news")])
    found = await relayed(team, ["news", "absent"], both)
    alone = message([a_document(1, "news")], [a_prompt(1, "news")])
    assert list(found.domains) == ["news"]
    assert found.domains["news"] == (await relayed(team, [], alone)).whole
    assert found.whole == (await relayed(team, [], both)).whole


async def test_without_domains_messages_go_on_untouched(team):
    sent = [message([a_document(n, "news")]) for n in range(3)]
    await relayed(team, [], *sent)
    assert team.passed_on == sent
    assert all(ours is theirs for ours, theirs in zip(sent, team.passed_on, strict=True))


async def test_domains_that_appear_are_measured_up_to_a_limit(team):
    sent = [message([a_document(n, f"domain {n}") for n in range(k, k + 10)]) for k in range(0, 40, 10)]
    found = await relayed(team, None, *sent)
    assert list(found.domains) == [f"domain {n}" for n in range(MOST_DOMAINS)]


async def test_a_domain_whose_name_is_a_text_is_not_told_apart(team):
    assert (await relayed(team, None, message([a_document(1, "x" * 101)]))).domains == {}


@given(st.lists(st.lists(st.sampled_from([None, "news", "wiki"]), max_size=4), min_size=1, max_size=6))
def test_every_item_of_a_domain_reaches_its_stream_in_order_and_once(tmp_path_factory, batches):
    team = Team(tmp_path_factory.mktemp("team"))
    items = iter(range(100))
    sent = [[a_document(next(items), domain) for domain in domains] for domains in batches]
    everything = [document for batch in sent for document in batch]
    if not everything:
        return
    found = asyncio.run(relayed(team, None, *(message(batch) for batch in sent if batch)))
    for domain, report in found.domains.items():
        alone = message([document for document in everything if document.domain == domain])
        assert report == asyncio.run(relayed(team, [], alone)).whole
    assert set(found.domains) == {document.domain for document in everything} - {None}


async def test_a_stream_of_nothing_is_refused(team):
    with pytest.raises(InvalidRequest, match="nothing to measure"):
        await relayed(team, None)


class Slow(Team):
    """An analyzer that takes nothing in before it is let go."""

    go: asyncio.Event

    async def analyze_batches(self, found: AsyncIterator[Fields], **options: Any) -> Any:
        await self.go.wait()
        return await super().analyze_batches(found, **options)


async def test_a_caller_cannot_send_faster_than_the_analyzer_takes_in(tmp_path):
    team, taken = Slow(tmp_path), 0
    team.go = asyncio.Event()

    async def eager() -> AsyncIterator[Fields]:
        nonlocal taken
        for number in range(50):
            taken += 1
            yield message([a_document(number)])

    measuring = asyncio.create_task(Relay(team, []).measure(eager()))
    for _ in range(200):
        await asyncio.sleep(0)
    assert taken == WAITING + 1
    team.go.set()
    await measuring
    assert taken == 50


async def test_the_first_failure_is_raised_and_the_other_streams_are_ended(team):
    team.trouble["analyse"] = LimitExceeded("too much")

    async def endless() -> AsyncIterator[Fields]:
        while True:
            yield message([a_document(0, "news"), a_document(1, "wiki")])
            await asyncio.sleep(0)

    with pytest.raises(LimitExceeded, match="too much"):
        await Relay(team, None).measure(endless())
    assert team.cancelled, "the other streams were ended"


async def test_a_caller_that_goes_ends_everything(team):
    never = asyncio.Event()

    async def stuck() -> AsyncIterator[Fields]:
        yield message([a_document(0, "news")])
        await never.wait()

    measuring = asyncio.create_task(Relay(team, None).measure(stuck()))
    while len(team.passed_on) < 2:
        await asyncio.sleep(0)
    measuring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await measuring
    assert team.cancelled == ["analyse", "analyse"]


def test_what_a_model_wrote_is_counted_by_characters_where_every_document_says_so():
    written = [
        a_document(1, origin=Origin.HUMAN),
        a_document(2, origin=Origin.SYNTHETIC),
        a_document(3, origin=Origin.SYNTHETIC, prefix_length=25),
    ]
    stored, streamed = Survey(), Survey()
    for document in written:
        stored.add(document)
    streamed.add_encoded([to_proto(document) for document in written])
    assert stored.synthetic_share == streamed.synthetic_share == 75 / 150
    stored.add(a_document(4))
    streamed.add_encoded([to_proto(a_document(4))])
    assert stored.synthetic_share is streamed.synthetic_share is None


def test_nothing_and_empty_texts_have_no_share():
    survey = Survey()
    assert survey.synthetic_share is None
    survey.add(Document(id="1", text="", origin=Origin.HUMAN))
    assert survey.synthetic_share is None
