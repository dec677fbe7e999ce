"""A corpus written by a server that fails: each fault ends in the whole corpus, or in an error and one lost shard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ouroscope.corpora.stored import read_corpus, write_corpus
from ouroscope.errors import Cancelled, LimitExceeded, OuroscopeError, PreconditionFailed, Unavailable
from ouroscope.predictions import read_scored_texts
from ouroscope.records.artifacts import ArtifactKind
from ouroscope.records.documents import Document, Origin
from ouroscope.records.generation import Generate, Generated, SamplingSpec, Score
from ouroscope.store.artifacts import ArtifactStore
from services.generator.generation import generate
from services.generator.in_process.backend import HfBackend
from services.generator.plan import Plan
from services.generator.scoring import score
from services.generator.servers.backend import ServerBackend
from tests.servers.language import Language
from tests.servers.stand_in import Fault, StandIn
from tests.unit.generator.conftest import TEXTS
from tests.unit.generator.servers_setup import NAME, backend_of

SAMPLING = SamplingSpec(temperature=0.9, top_k=0, max_new_tokens=3, seed=3, batch_size=4)
PLAN = Plan(batch_size=4, shard_documents=4)
"""12 prompts are three shards."""
DOCUMENTS = 12


@pytest.fixture
def apart(tmp_path: Path, model_directory: Path) -> tuple[ArtifactStore, Generate]:
    """A store of this test alone, so that drafts and corpora can be counted."""
    store = ArtifactStore(tmp_path)
    model = store.publish(ArtifactKind.MODEL, None, {path.name: path for path in model_directory.iterdir()}, {})
    return store, Generate(model=model, prompts=write_corpus(store, _documents()), sampling=SAMPLING)


def _documents() -> Iterator[Document]:
    for number, text in enumerate(TEXTS[:DOCUMENTS]):
        yield Document(id=f"p{number}", text=text, origin=Origin.HUMAN, prefix_length=9 + number, group=f"g{number}")


@pytest.fixture
def opened(url: str, apart: tuple[ArtifactStore, Generate]) -> Iterator[ServerBackend]:
    store, request = apart
    with backend_of(store, request.model, url, attempts=2, timeout=4.0, max_answer_bytes=1 << 20) as backend:
        assert backend.capabilities
        yield backend


@pytest.fixture
def write(
    apart: tuple[ArtifactStore, Generate], opened: ServerBackend, stand_in: StandIn, noting_task: Callable[..., Any]
) -> Callable[..., Generated]:
    """Write the corpus, from the finished shards on; forgets earlier requests."""
    store, request = apart

    def once(task: Any = None, key: str = "k") -> Generated:
        stand_in.asked.clear()
        return generate(store, opened, request, PLAN, key, task or noting_task())

    return once


def _corpora(store: ArtifactStore) -> int:
    return len(list(store.list(ArtifactKind.CORPUS)))


def _asked(stand_in: StandIn) -> int:
    """Return how many prompts were asked for.

    Prompts, not requests: what a failed attempt had sent when it gave up may be read by the server only after it.
    """
    return len({tuple(request["prompt"]) for request in stand_in.asked})


@pytest.mark.parametrize(
    "fault", [Fault.BUSY, Fault.STARTING, Fault.FAILED, Fault.DROPPED, Fault.TRUNCATED], ids=lambda fault: fault.name
)
def test_a_fault_that_passes_changes_nothing(write: Callable[..., Generated], stand_in: StandIn, fault: Fault) -> None:
    whole = write(key="whole")
    # Never twice in a row for one request: each of them is tried twice here.
    stand_in.faults.extend([fault, *[Fault.NONE] * 9])
    again = write(key="again")
    assert again.corpus == whole.corpus
    assert (again.documents, again.tokens) == (whole.documents, whole.tokens)
    assert len(stand_in.asked) == DOCUMENTS + 1


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.BUSY, Unavailable),
        (Fault.FAILED, Unavailable),
        (Fault.DROPPED, Unavailable),
        (Fault.TRUNCATED, Unavailable),
        (Fault.HANG, Unavailable),
        (Fault.OVERSIZED, LimitExceeded),
        (Fault.FORBIDDEN, PreconditionFailed),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else "",
)
def test_a_fault_that_stays_costs_one_shard_and_publishes_nothing(
    write: Callable[..., Generated],
    apart: tuple[ArtifactStore, Generate],
    stand_in: StandIn,
    fault: Fault,
    error: type[OuroscopeError],
) -> None:
    whole, before = write(key="whole"), _corpora(apart[0])
    stand_in.faults.extend([Fault.NONE] * 9)
    stand_in.always = fault
    with pytest.raises(error):
        write(key="again")
    assert _corpora(apart[0]) == before
    stand_in.faults.clear()
    stand_in.always = Fault.NONE
    assert write(key="again").corpus == whole.corpus
    # Two shards were whole before it failed in the third.
    assert _asked(stand_in) == DOCUMENTS - 8


def test_a_server_that_is_restarted_with_other_weights_spoils_one_shard(
    write: Callable[..., Generated], apart: tuple[ArtifactStore, Generate], stand_in: StandIn, language: Language
) -> None:
    whole, before = write(key="whole"), _corpora(apart[0])

    def restart(number: int) -> None:
        if number == 7:
            # It answers to the old name, as `latest` would; only its list of models tells.
            stand_in.hidden = {NAME: language}
            stand_in.models = {"other": language}

    stand_in.before = restart
    with pytest.raises(PreconditionFailed, match="'other'"):
        write(key="again")
    assert _corpora(apart[0]) == before
    stand_in.before = lambda number: None
    stand_in.models, stand_in.hidden = {NAME: language}, {}
    assert write(key="again").corpus == whole.corpus
    assert _asked(stand_in) == DOCUMENTS - 4


def test_cancelling_keeps_the_finished_shards(
    write: Callable[..., Generated], stand_in: StandIn, noting_task: Callable[..., Any]
) -> None:
    class Stopping(noting_task):  # type: ignore[misc]
        def check(self) -> None:
            if len(stand_in.asked) > 9:
                raise Cancelled("the test asked for it")

    whole = write(key="whole")
    with pytest.raises(Cancelled):
        write(Stopping(), key="again")
    assert write(key="again").corpus == whole.corpus
    assert _asked(stand_in) <= DOCUMENTS - 8


def test_what_answered_is_kept_with_the_corpus(
    write: Callable[..., Generated], apart: tuple[ArtifactStore, Generate]
) -> None:
    written = write()
    assert written.served is not None
    summary = apart[0].manifest(written.corpus).summary
    assert (summary["backend"], summary["served_model"], summary["reproducible"]) == ("pool", NAME, False)
    assert [document.prompt_id for document in read_corpus(apart[0], written.corpus)] == [
        f"p{number}" for number in range(DOCUMENTS)
    ]


def test_a_corpus_is_scored_by_a_server_as_in_this_process(
    apart: tuple[ArtifactStore, Generate], opened: ServerBackend, noting_task: Callable[..., Any]
) -> None:
    store, asked = apart
    request = Score(
        model=asked.model, prompts=asked.prompts, heldout=asked.prompts, prompt_length=9, top_n=20, batch_size=4
    )
    theirs = score(store, opened, request, noting_task())
    ours = score(store, HfBackend(store, device="cpu", threads=1), request, noting_task())
    assert (theirs.prompts, theirs.texts, theirs.tokens) == (ours.prompts, ours.texts, ours.tokens)
    for their, our in zip(
        read_scored_texts(store, theirs.predictions), read_scored_texts(store, ours.predictions), strict=True
    ):
        assert their.log_probability == pytest.approx(our.log_probability, abs=1e-3)
        assert their.greedy_tokens == our.greedy_tokens
