"""Several domains in one run: who sees which text, and what is refused before anything is computed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ouroscope.canonical import canonical_json, from_plain, to_plain
from ouroscope.corpora.docstrings import SOURCES, Part, part_of
from ouroscope.corpora.parts import normalised
from ouroscope.corpora.stored import read_corpus, write_corpus
from ouroscope.errors import InvalidRequest, NotFound, PreconditionFailed
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import Document, Origin
from ouroscope.records.generation import WindowSpec
from ouroscope.records.runs import ArmSpec, DatasetSpec, DomainSpec, RunSpec
from ouroscope.store import ArtifactStore
from services.coordinator.dataset import dealing as dealing_module
from services.coordinator.dataset.dealing import parts_of
from services.coordinator.dataset.preparing import prepare
from services.coordinator.dataset.sources import check_source
from services.coordinator.dataset.texts import Dataset, Texts
from services.generator.windows import Pool, take, windows

from .domains import quiet, texts_of, write_domain
from .fakes import small_spec, write_dataset

HUMAN = ArmSpec(name="human", protocol="human")
ON_NEWS = ArmSpec(name="on-news", protocol="replace", domains=("news",))
ON_TWO = ArmSpec(name="on-two", protocol="replace", domains=("wiki", "news"))


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"))


@pytest.fixture
def domains(tmp_path: Path) -> tuple[DomainSpec, ...]:
    """Return three domains of different sizes."""
    return tuple(
        write_domain(tmp_path, name, texts_of(seed, count))
        for seed, (name, count) in enumerate({"wiki": 700, "news": 500, "science": 600}.items())
    )


@pytest.fixture
def spec(domains: tuple[DomainSpec, ...]) -> RunSpec:
    return small_spec(dataset=DatasetSpec(domains=domains), arms=(HUMAN, ON_NEWS, ON_TWO))


def read(store: ArtifactStore, texts: Texts) -> dict[str, list[Document]]:
    """Return the documents of every corpus."""
    return {name: list(read_corpus(store, getattr(texts, name))) for name in ("prompts", "heldout", "questions")}


def in_domains(store: ArtifactStore, ref: ArtifactRef) -> set[str | None]:
    """Return the domains of the documents of a corpus."""
    return {document.domain for document in read_corpus(store, ref)}


def test_one_source_without_a_name_gives_the_corpora_that_it_always_gave(store: ArtifactStore, tmp_path: Path) -> None:
    """Digests as they were before there were domains: what old runs published is found again."""
    found = prepare(store, small_spec(dataset=write_dataset(tmp_path)), quiet)
    old = {
        "prompts": "a30d8097e17dc92f016246b1a04146c5f899e402dca97b7877e76b4895876392",
        "heldout": "705bf2fdc30b1f24032dcaee173ff405161d99823235f81a974d9ffa7f96a779",
        "questions": "705bf2fdc30b1f24032dcaee173ff405161d99823235f81a974d9ffa7f96a779",
        "unigram": "d50dbc75a842e9e756896bb6afbc3fc7155da848c173b2b3aaa42537132d1a30",
    }
    assert {name: getattr(found, name).digest for name in old} == old
    assert found.of(()) is found
    assert found.narrower == ()


def test_what_a_run_kept_before_there_were_domains_is_still_read(store: ArtifactStore, tmp_path: Path) -> None:
    found = prepare(store, small_spec(dataset=write_dataset(tmp_path)), quiet)
    plain = to_plain(found)
    before = {name: plain[name] for name in ("prompts", "heldout", "questions", "unigram")}
    kept = from_plain(Dataset, before)
    assert (kept.of(()).prompts, kept.unigram, kept.dealt) == (found.prompts, found.unigram, ())


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**16), shared=st.integers(0, 150))
def test_no_text_is_prompted_with_in_one_domain_and_held_out_in_another(
    seed: int, shared: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The same words, whatever their layout and markup, are in the same part in every domain."""
    folder = tmp_path_factory.mktemp("law")
    common = texts_of(seed, shared)
    copies = [f"  {text.upper()}. " if n % 2 else f"*{text}*" for n, text in enumerate(common)]
    two = (
        write_domain(folder, "a", texts_of(seed + 1, 200) + common),
        write_domain(folder, "b", copies + texts_of(seed + 2, 200)),
    )
    store, taught, examined = ArtifactStore(str(folder / "store")), set[str](), set[str]()
    for domain in two:
        parts = parts_of(store, domain, quiet)
        taught |= {normalised(document.text) for document in read_corpus(store, parts.prompts)}
        examined |= {normalised(document.text) for document in read_corpus(store, parts.heldout)}
    assert not taught & examined
    assert all(part_of(text) is Part.HELD_OUT for text in examined)


def test_the_parts_of_every_set_of_domains_are_disjoint(store: ArtifactStore, spec: RunSpec) -> None:
    dataset = prepare(store, spec, quiet)
    for texts in (dataset, *dataset.narrower):
        found = {name: {document.text for document in documents} for name, documents in read(store, texts).items()}
        assert not found["prompts"] & (found["heldout"] | found["questions"])
    assert {texts.domains for texts in dataset.narrower} == {("news",), ("science",), ("wiki",), ("news", "wiki")}


def test_the_order_in_which_domains_are_named_changes_nothing(store: ArtifactStore, spec: RunSpec) -> None:
    turned = replace(spec, dataset=DatasetSpec(domains=spec.dataset.domains[::-1]))
    assert prepare(store, turned, quiet) == prepare(store, spec, quiet)


def test_an_arm_that_keeps_to_domains_sees_no_document_of_another(store: ArtifactStore, spec: RunSpec) -> None:
    dataset = prepare(store, spec, quiet)
    for arm in (ON_NEWS, ON_TWO):
        texts = dataset.of(arm.domains)
        for ref in (texts.prompts, texts.heldout, texts.questions):
            assert in_domains(store, ref) == set(arm.domains)
    assert in_domains(store, dataset.of(HUMAN.domains).prompts) == {"wiki", "news", "science"}


def test_an_arm_that_names_all_domains_reads_what_an_arm_that_names_none_does(
    store: ArtifactStore, spec: RunSpec
) -> None:
    dataset = prepare(store, spec, quiet)
    assert dataset.of(("science", "wiki", "news")) is dataset.of(()) is dataset


def test_domains_that_nothing_was_prepared_for_are_told(store: ArtifactStore, spec: RunSpec) -> None:
    with pytest.raises(NotFound, match="no text was prepared for the domains novels"):
        prepare(store, spec, quiet).of(("novels",))


def test_every_domain_is_examined_on_as_much_text_and_what_it_is_asked_is_part_of_what_all_are_asked(
    store: ArtifactStore, spec: RunSpec
) -> None:
    dataset = prepare(store, spec, quiet)
    every = read(store, dataset)
    asked = {"heldout": spec.evaluation.heldout_documents, "questions": spec.evaluation.prompts}
    for domain in ("wiki", "news", "science"):
        own = read(store, dataset.of((domain,)))
        for name, count in asked.items():
            assert len(own[name]) == count
            assert own[name] == [document for document in every[name] if document.domain == domain]


def test_documents_of_two_domains_are_told_apart_though_their_files_have_the_same_name(
    store: ArtifactStore, spec: RunSpec
) -> None:
    documents = read(store, prepare(store, spec, quiet))["prompts"]
    assert len({document.id for document in documents}) == len(documents)
    assert all(document.id.startswith(f"{document.domain}/texts.jsonl:") for document in documents)
    assert all(document.cluster.startswith(f"{document.domain}/g") for document in documents)
    assert {document.origin for document in documents} == {Origin.HUMAN}


def test_windows_of_the_pool_are_mixed_as_the_domains_are(store: ArtifactStore, spec: RunSpec) -> None:
    """Every slice holds of each domain about what the pool does: 5 standard deviations of a draw."""
    documents = read(store, prepare(store, spec, quiet))["prompts"]
    shares = {name: sum(d.domain == name for d in documents) / len(documents) for name in ("wiki", "news", "science")}
    for generation in range(4):
        window = WindowSpec(document_tokens=8, prefix_tokens=2, count=200, offset=200 * generation, seed=5)
        pool = Pool()
        cut = take(windows(documents, WordTokens(), window, pool, lambda _: None), window, pool)
        for name, share in shares.items():
            found = sum(one.domain == name for one in cut) / len(cut)
            assert abs(found - share) < 5 * (share * (1 - share) / len(cut)) ** 0.5


class WordTokens:
    """A word is a token."""

    start: tuple[int, ...] = ()

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def encode_many(self, texts: list[str]) -> list[list[int]]:
        return [[self.known.setdefault(word, len(self.known)) for word in text.split()] for text in texts]

    def decode_many(self, tokens: list[list[int]]) -> list[str]:
        words = list(self.known)
        return [" ".join(words[token] for token in some) for some in tokens]


def test_what_was_dealt_is_told_with_the_texts_that_domains_share(store: ArtifactStore, tmp_path: Path) -> None:
    common = texts_of(9, 50)
    domains = (
        write_domain(tmp_path, "a", texts_of(1, 500) + common),
        write_domain(tmp_path, "b", [*texts_of(2, 500), *common, "alone and short"]),
    )
    told = prepare(store, small_spec(dataset=DatasetSpec(domains=domains)), quiet).dealt
    assert [(one.domain, one.source, one.shared) for one in told] == [(d.name, d.source, 50) for d in domains]
    assert [one.prompts + one.heldout for one in told] == [550, 551]
    assert all(0.04 < one.heldout / 550 < 0.12 for one in told), "8 % are held out"


def test_only_so_many_documents_are_read_as_a_domain_asks_for(store: ArtifactStore, tmp_path: Path) -> None:
    written = texts_of(1, 900)
    domain = write_domain(tmp_path, "a", written, documents=400)
    parts = parts_of(store, domain, quiet)
    found = {document.text for ref in (parts.prompts, parts.heldout) for document in read_corpus(store, ref)}
    assert found == set(written[:400])


def test_too_little_text_is_told_of_all_domains_at_once_with_the_numbers(store: ArtifactStore, tmp_path: Path) -> None:
    domains = tuple(write_domain(tmp_path, name, texts_of(n, 60)) for n, name in enumerate("ab"))
    with pytest.raises(PreconditionFailed) as caught:
        prepare(store, small_spec(dataset=DatasetSpec(domains=domains)), quiet)
    for name in "ab":
        for field in ("evaluation.heldout_documents", "evaluation.prompts"):
            assert f"{field} asks for 20 held-out documents of more than 4 words, the domain '{name}' has " in str(
                caught.value
            )


def test_all_that_is_wrong_with_domains_is_told_at_once(store: ArtifactStore, tmp_path: Path) -> None:
    good = write_domain(tmp_path, "good", texts_of(0, 500))
    short = write_domain(tmp_path, "short", texts_of(2, 60))
    single = write_domain(tmp_path, "single", ["one text only, of more words than it takes"])
    wrong = write_domain(tmp_path, "wrong", texts_of(1, 500), text_field="body")
    with pytest.raises(PreconditionFailed) as caught:
        prepare(store, small_spec(dataset=DatasetSpec(domains=(good, short, single, wrong))), quiet)
    assert "domain single: of the 1 documents" in caught.value.message
    assert "domain wrong: " in caught.value.message
    assert "has no field 'body'; its fields are group, text" in caught.value.message
    assert "the domain 'short' has" in caught.value.message
    assert "good'" not in caught.value.message


def test_a_single_thing_that_is_wrong_keeps_its_kind_and_names_its_domain(store: ArtifactStore, tmp_path: Path) -> None:
    good = write_domain(tmp_path, "good", texts_of(0, 500))
    wrong = write_domain(tmp_path, "wrong", texts_of(1, 500), text_field="body")
    with pytest.raises(InvalidRequest, match="no field 'body'") as caught:
        prepare(store, small_spec(dataset=DatasetSpec(domains=(good, wrong))), quiet)
    assert caught.value.__notes__ == ["domain wrong"]


def test_everything_wrong_with_the_sources_is_told_before_anything_is_read(tmp_path: Path) -> None:
    dataset = DatasetSpec(
        domains=(
            DomainSpec(name="gone", source=str(tmp_path / "gone.jsonl")),
            DomainSpec(name="deep", libraries=("torch", "no-such-library")),
            DomainSpec(name="moving", source="hf://owner/name", revision="main"),
            write_domain(tmp_path, "odd", ["a"], libraries=("torch",)),
        )
    )
    with pytest.raises(InvalidRequest) as caught:
        check_source(dataset)
    assert [problem.field for problem in caught.value.problems] == [f"dataset.domains[{n}]" for n in range(4)]
    told = [problem.description for problem in caught.value.problems]
    assert "no file or folder" in told[0]
    assert "no library 'no-such-library'; it has " in told[1]
    assert "torch, " in told[1]
    assert "40 hexadecimal digits" in told[2]
    assert "libraries are parts of the source 'embedded'" in told[3]


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        ({}, {"libraries": ("torch",)}, "libraries torch"),
        ({"libraries": ("torch", "peft")}, {"libraries": ("peft", "numpy")}, "libraries peft"),
        ({"source": "{}"}, {"source": "{}"}, "the same source"),
    ],
)
def test_domains_that_share_their_text_are_refused(
    one: dict[str, Any], other: dict[str, Any], told: str, tmp_path: Path
) -> None:
    place = write_domain(tmp_path, "file", ["a"]).source
    given = [{key: place if value == "{}" else value for key, value in each.items()} for each in (one, other)]
    dataset = DatasetSpec(domains=tuple(DomainSpec(name=name, **each) for name, each in zip("ab", given, strict=True)))
    with pytest.raises(InvalidRequest, match=f"domains 'a' and 'b' both take {told}"):
        check_source(dataset)


def test_domains_of_the_embedded_corpus_take_their_libraries_and_only_what_the_small_model_never_saw(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [source.name for source in SOURCES[:3]]
    documents = [
        Document(id=f"{n:04d}", text=text, origin=Origin.HUMAN, group=f"{names[n % 3]}/file", domain=names[n % 3])
        for n, text in enumerate(texts_of(3, 900))
    ]
    monkeypatch.setattr(dealing_module, "gather", lambda: Gathered(documents))
    first = DomainSpec(name="first", libraries=(names[0],))
    rest = DomainSpec(name="rest", libraries=tuple(names[1:]))
    small = replace(first, name="small", documents=100)
    for domain in (first, rest, small):
        parts = parts_of(store, domain, quiet)
        prompts, heldout = (list(read_corpus(store, ref)) for ref in (parts.prompts, parts.heldout))
        assert {document.domain for document in prompts + heldout} == {domain.name}
        assert {document.cluster.split("/")[1] for document in prompts + heldout} == set(domain.libraries)
        assert {part_of(document.text) for document in prompts} == {Part.PROMPT}
        assert {part_of(document.text) for document in heldout} == {Part.HELD_OUT}
        assert domain.documents in (0, len(prompts) + len(heldout))


class Gathered:
    """What gathering gives."""

    def __init__(self, documents: list[Document]) -> None:
        self.documents = documents


def test_what_is_kept_of_a_data_set_is_small_enough_for_a_durable_step(store: ArtifactStore, tmp_path: Path) -> None:
    texts = write_corpus(store, [Document(id="a", text="a")])
    one = Texts(domains=("domain-of-some-length",), prompts=texts, heldout=texts, questions=texts)
    many = Dataset(prompts=texts, heldout=texts, questions=texts, unigram=texts, narrower=(one,) * 40)
    assert len(canonical_json(many)) < 32 * 1024
