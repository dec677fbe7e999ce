"""What every way of running models keeps to: in this process, stand-ins for servers, and a real server.

A backend is added by a maker in MAKERS; everything below then runs on it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from ouroscope import embedded
from ouroscope.corpora.stored import read_corpus, write_corpus
from ouroscope.errors import Cancelled, CapabilityMissing, InvalidRequest, NotFound
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document, Origin
from ouroscope.records.generation import CHANGES, Capability, ChatFormat, Generate, SamplingSpec, Verification
from ouroscope.records.progress import Progress
from ouroscope.store.artifacts import ArtifactStore
from services.generator.backend import Backend, LanguageModel, Prompt
from services.generator.backends import Backends
from services.generator.declared import DeclaredBackend, ServerKind, Weights
from services.generator.generation import generate
from services.generator.in_process.backend import HfBackend
from services.generator.opening import open_backend
from services.generator.plan import Plan
from tests.servers.language import Language
from tests.servers.running import running
from tests.servers.stand_in import StandIn, serving
from tests.servers.tgi import TgiStandIn
from tests.servers.transformers_serve import MODEL, transformers_serve

TEXTS = tuple(
    f"The {animal} looked at the {thing}, and for a long while nobody in the {place} said a word about it."
    for animal, thing, place in (
        ("snake", "river", "village"),
        ("old cat", "moon", "garden"),
        ("library", "naïve café", "city"),
        ("child", "machine", "house by the sea"),
        ("wolf", "mirror", "snow"),
    )
)
GREEDY = SamplingSpec(temperature=0, top_k=0, max_new_tokens=10)
DRAWN = SamplingSpec(temperature=1.0, top_k=0, max_new_tokens=10, seed=1)
PROMPTS = [Prompt(f"p{number}", text[: 12 + 7 * number]) for number, text in enumerate(TEXTS)]


@dataclass(frozen=True)
class Place:
    """What makers may use."""

    store: ArtifactStore
    model: ArtifactRef
    directory: Path
    """Files of the model."""
    folder: Path
    """Empty."""


@contextmanager
def _in_process(place: Place) -> Iterator[Backend]:
    yield HfBackend(place.store, device="cpu", threads=1)


@contextmanager
def _stand_in(place: Place, kind: ServerKind) -> Iterator[Backend]:
    with serving(StandIn({"tiny": Language(place.directory)})) as url, _declared(place, kind, url, "tiny") as backend:
        yield backend


@contextmanager
def _tgi(place: Place) -> Iterator[Backend]:
    stand_in = TgiStandIn(Language(place.directory), model_id="tiny", max_total_tokens=512)
    with running(stand_in.app) as url, _declared(place, ServerKind.TGI, url, "tiny") as backend:
        yield backend
    assert stand_in.wrong == [], "a request or an answer is not of TGI's published form"


@contextmanager
def _transformers_serve(place: Place) -> Iterator[Backend]:
    with (
        transformers_serve(place.directory, place.folder) as url,
        _declared(place, ServerKind.OPENAI, url, MODEL) as backend,
    ):
        yield backend


@contextmanager
def _declared(place: Place, kind: ServerKind, url: str, name: str) -> Iterator[Backend]:
    """Open a server as an operator declares it, with one model for ever."""
    declared = DeclaredBackend(
        name="pool", kind=kind, urls=(url,), weights=Weights.FIXED, base=place.model, served_name=name
    )
    backend = open_backend(declared, place.store, {})
    try:
        yield backend
    finally:
        backend.close()


MAKERS: dict[str, Callable[[Place], AbstractContextManager[Backend]]] = {
    "in-process": _in_process,
    "vllm": lambda place: _stand_in(place, ServerKind.VLLM),
    "openai": lambda place: _stand_in(place, ServerKind.OPENAI),
    "tgi": _tgi,
    "transformers-serve": _transformers_serve,
}
SCORING = {"in-process", "vllm", "openai", "tgi"}
"""Those that give log-probabilities; the real server is known to ignore `logprobs`."""
REPRODUCIBLE = {"in-process"}
HONOURED = {
    "in-process": frozenset(Capability),
    "vllm": {Capability.LEAST_LENGTH, Capability.TOP_K, Capability.CHAT, Capability.EXACT_TOKENS},
    "openai": {Capability.CHAT, Capability.EXACT_TOKENS},
    "tgi": {Capability.TOP_K},
    "transformers-serve": {Capability.CHAT, Capability.EXACT_TOKENS},
}
"""What each does as asked beside writing and scoring; the other wishes it refuses."""


class _Task:
    """Notes nothing and never stops."""

    def check(self) -> None: ...

    def report(self, progress: Progress) -> None: ...


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    directory = embedded.model_directory("ouro-tiny")
    store = ArtifactStore(tmp_path_factory.mktemp("store"))
    names = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    model = store.publish(ArtifactKind.MODEL, None, {name: directory / name for name in names}, {"source": "ouro-tiny"})
    return Place(store, model, directory, tmp_path_factory.mktemp("server"))


@pytest.fixture(scope="module", params=list(MAKERS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def backend(kind: str, place: Place) -> Iterator[Backend]:
    with MAKERS[kind](place) as made:
        yield made


@pytest.fixture
def model(backend: Backend, place: Place) -> LanguageModel:
    return backend.open(place.model)


@pytest.fixture(scope="module")
def ours(place: Place) -> LanguageModel:
    """The same model in this process: what others are held against."""
    return HfBackend(place.store, device="cpu", threads=1).open(place.model)


def _quiet(tokens: int) -> None: ...


def _ids(model: LanguageModel) -> list[list[int]]:
    return model.tokens.encode_many(TEXTS)


def test_a_backend_says_what_it_can_do(kind: str, backend: Backend) -> None:
    can = {Capability.GENERATE}
    can |= {Capability.SCORE} if kind in SCORING else set()
    can |= {Capability.REPRODUCIBLE} if kind in REPRODUCIBLE else set()
    assert backend.capabilities == can | HONOURED[kind]
    (info,) = Backends(backend).infos()
    assert bool(info.problem) == (kind not in SCORING)


def test_what_a_backend_cannot_do_fails_at_once_and_names_those_that_can(
    kind: str, backend: Backend, place: Place
) -> None:
    able = HfBackend(place.store, device="cpu", threads=1)
    backends = Backends(able, [backend] if kind != "in-process" else [])
    if kind in SCORING:
        assert backends.require(backend.name, Capability.SCORE).name == backend.name
    else:
        with pytest.raises(CapabilityMissing, match="those that can: 'transformers'"):
            backends.require(backend.name, Capability.SCORE)


@contextmanager
def _refused_unless(backend: Backend, capability: Capability) -> Iterator[bool]:
    """Yield whether the backend declares it; if not, what is done inside must be refused with the field to change."""
    if capability in backend.capabilities:
        yield True
        return
    field = re.escape(CHANGES[capability].field.rpartition(".")[2])
    with pytest.raises((CapabilityMissing, InvalidRequest), match=field):
        yield False


def test_a_least_length_is_kept_or_refused(backend: Backend, model: LanguageModel) -> None:
    exact = SamplingSpec(top_k=0, min_new_tokens=10, max_new_tokens=10, seed=1)
    with _refused_unless(backend, Capability.LEAST_LENGTH):
        assert {each.tokens for each in model.write(PROMPTS, exact, 4, _quiet).continuations} == {10}


def test_the_first_tokens_only_are_drawn_from_or_that_is_refused(backend: Backend, model: LanguageModel) -> None:
    first = SamplingSpec(temperature=1.0, top_k=1, max_new_tokens=10)
    with _refused_unless(backend, Capability.TOP_K):
        drawn = model.write(PROMPTS, first, 4, _quiet).continuations
        assert drawn == model.write(PROMPTS, GREEDY, 4, _quiet).continuations


def test_a_chat_is_refused_for_want_of_a_template_or_by_the_backend(backend: Backend, model: LanguageModel) -> None:
    with _refused_unless(backend, Capability.CHAT) as declared:
        if declared:
            with pytest.raises(InvalidRequest, match="template"):
                model.write(PROMPTS, replace(GREEDY, chat=ChatFormat()), 4, _quiet)
        else:
            model.write(PROMPTS, replace(GREEDY, chat=ChatFormat()), 4, _quiet)


def test_a_prompt_that_ends_inside_a_word_is_read_exactly_or_refused(
    kind: str, backend: Backend, model: LanguageModel, ours: LanguageModel
) -> None:
    if kind not in SCORING:
        pytest.skip("this backend gives no probabilities")
    cut = next(ids[:end] for ids in _ids(ours) for end in range(2, len(ids)) if _read_otherwise(ours, ids[:end]))
    with _refused_unless(backend, Capability.EXACT_TOKENS):
        # The first choice only: a server that names tokens by their text has fewer names than parts of words.
        (theirs,), (expected,) = (each.expect([cut], [None], 1, 1, _quiet) for each in (model, ours))
        np.testing.assert_allclose(theirs.top_probabilities, expected.top_probabilities, atol=1e-4)


def _read_otherwise(model: LanguageModel, ids: list[int]) -> bool:
    return model.tokens.encode(model.tokens.decode_many([ids])[0]) != ids


def test_a_continuation_answers_its_own_prompt(model: LanguageModel) -> None:
    together = model.write(PROMPTS, GREEDY, 4, _quiet).continuations
    alone = [model.write([prompt], GREEDY, 1, _quiet).continuations[0] for prompt in PROMPTS]
    assert list(together) == alone


def test_the_likeliest_text_is_the_same_everywhere(model: LanguageModel, ours: LanguageModel) -> None:
    theirs = model.write(PROMPTS, GREEDY, 4, _quiet).continuations
    expected = ours.write(PROMPTS, GREEDY, 4, _quiet).continuations
    assert [each.text for each in theirs] == [each.text for each in expected]


@pytest.mark.parametrize("most", [1, 7])
def test_no_continuation_is_longer_than_asked(model: LanguageModel, most: int) -> None:
    sampling = SamplingSpec(temperature=1.0, top_k=0, max_new_tokens=most)
    for each in model.write(PROMPTS, sampling, 4, _quiet).continuations:
        assert 0 <= each.tokens <= most
        assert len(model.tokens.encode(each.text)) <= 4 * most


def test_another_seed_gives_another_text(model: LanguageModel) -> None:
    first, second = (
        model.write(PROMPTS, SamplingSpec(top_k=0, max_new_tokens=10, seed=seed), 4, _quiet) for seed in (1, 2)
    )
    assert first.continuations != second.continuations


def test_who_says_so_gives_the_same_text_again(backend: Backend, model: LanguageModel) -> None:
    assert model.served.reproducible == (Capability.REPRODUCIBLE in backend.capabilities)
    if not model.served.reproducible:
        pytest.skip("this backend does not say that its answers can be had again")
    assert model.write(PROMPTS, DRAWN, 4, _quiet) == model.write(PROMPTS, DRAWN, 4, _quiet)


def test_scores_are_the_same_everywhere(kind: str, model: LanguageModel, ours: LanguageModel) -> None:
    scored_from = [0, 3, 1, 0, 6]
    if kind not in SCORING:
        with pytest.raises(CapabilityMissing, match="logprobs"):
            model.judge(_ids(model), scored_from, 4, _quiet)
        return
    theirs, expected = (each.judge(_ids(each), scored_from, 4, _quiet) for each in (model, ours))
    for their, our in zip(theirs, expected, strict=True):
        np.testing.assert_allclose(their.log_probabilities, our.log_probabilities, atol=1e-4)
        assert their.greedy is None or np.array_equal(their.greedy, np.asarray(our.greedy))


def test_what_is_expected_is_the_same_everywhere(kind: str, model: LanguageModel, ours: LanguageModel) -> None:
    ids = _ids(model)
    # Whole words: a server that takes texts would read half of one as other tokens.
    prompts, following = [each[:6] for each in ids], [None, *(each[6] for each in ids[1:])]
    if kind not in SCORING:
        with pytest.raises(CapabilityMissing, match=r"logprobs|first choices"):
            model.expect(prompts, following, 5, 4, _quiet)
        return
    theirs, expected = (each.expect(prompts, following, 5, 4, _quiet) for each in (model, ours))
    for their, our in zip(theirs, expected, strict=True):
        np.testing.assert_allclose(their.top_probabilities, our.top_probabilities, atol=1e-4)
        assert their.true_rank in (our.true_rank, None)
        if their.true_probability is not None:
            assert their.true_probability == pytest.approx(our.true_probability, abs=1e-4)
        assert their.entropy is None or their.entropy == pytest.approx(our.entropy, abs=1e-3)


def test_it_is_known_what_answered(kind: str, backend: Backend, model: LanguageModel) -> None:
    served = model.served
    assert (served.backend, served.kind) == (backend.name, backend.kind)
    assert served.model
    assert served.verification is (Verification.LOADED if kind == "in-process" else Verification.DECLARED)


def test_the_wish_to_stop_is_heard(model: LanguageModel) -> None:
    def stop(tokens: int) -> None:
        raise Cancelled("the test asked for it")

    long = SamplingSpec(temperature=0, top_k=0, max_new_tokens=300)
    with pytest.raises(Cancelled):
        model.write(PROMPTS, long, 4, stop)
    # What was stopped leaves nothing behind that the next request meets.
    assert len(model.write(PROMPTS[:1], GREEDY, 1, _quiet).continuations) == 1


def test_work_is_done_while_the_weights_are_held(backend: Backend, place: Place) -> None:
    with backend.hold(lambda: None):
        assert backend.open(place.model).write(PROMPTS[:1], GREEDY, 1, _quiet).continuations


def test_a_prompt_without_room_is_refused(model: LanguageModel) -> None:
    with pytest.raises(InvalidRequest, match="max_new_tokens"):
        model.write(PROMPTS, SamplingSpec(temperature=0, max_new_tokens=512), 4, _quiet)


def test_a_model_that_is_not_stored_is_not_found(backend: Backend) -> None:
    with pytest.raises(NotFound):
        backend.open(ArtifactRef(ArtifactKind.MODEL, "f" * 64))


def test_what_changes_an_answer_is_told_and_stays(backend: Backend) -> None:
    assert backend.fingerprint() == backend.fingerprint()
    assert backend.fingerprint()["backend"] == backend.name


def test_a_corpus_says_what_wrote_it(kind: str, backend: Backend, model: LanguageModel, place: Place) -> None:
    documents = (
        Document(id=f"d{number}", text=text, origin=Origin.HUMAN, prefix_length=15) for number, text in enumerate(TEXTS)
    )
    prompts = write_corpus(place.store, documents)
    # A corpus is its texts: with another generation it is another one, and not that of the backend before.
    request = Generate(model=place.model, prompts=prompts, sampling=GREEDY, generation=list(MAKERS).index(kind))
    plan = Plan(batch_size=2, shard_documents=2)
    written = generate(place.store, backend, request, plan, f"contract-{kind}", _Task())
    assert written.served == model.served
    assert place.store.manifest(written.corpus).summary["verification"] == model.served.verification.value
    assert [each.prompt_id for each in read_corpus(place.store, written.corpus)] == [f"d{n}" for n in range(len(TEXTS))]
