"""Parsing: what is cut is the same text, what is asked for is all that runs, and no text and no pipeline breaks it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import weakref
from contextlib import closing
from dataclasses import fields
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st

from ouroscope.embedded import names
from ouroscope.errors import Cancelled, PreconditionFailed
from ouroscope.executor import InProcess, Processes
from ouroscope.records.documents import Document
from services.analyzer import tokens
from services.analyzer.analysis import analyze
from services.analyzer.catalogue import METRICS
from services.analyzer.parsing import pieces as cutting
from services.analyzer.parsing import pipeline as running
from services.analyzer.parsing.parsed import PARSED, PARTS_OF_SPEECH, Need, join
from services.analyzer.parsing.parser import load_parser, parse_batch
from services.analyzer.parsing.pieces import batches, pieces
from services.analyzer.parsing.sources import SHIPPED, Source, find
from services.analyzer.rungs import ladder
from services.analyzer.sample import Accumulator
from services.analyzer.tools import NO_PARSER, Tools, open_tools
from tests.unit.analyzer.treebank import GERMAN, initialised

NOTHING: frozenset[Need] = frozenset()
TEXT = "The cat sat on the mat. It didn\u2019t purr, and 2 dogs barked loudly at it!"

HOSTILE = {
    "empty": "",
    "white space": " \t\n\u2003\u00a0 \r\n",
    "one word": "word",
    "only punctuation": "... !? -- \u2026 (( ))",
    "emoji": "\U0001f600 ok \U0001f468\u200d\U0001f469\u200d\U0001f467 fine \U0001f1e9\U0001f1ea",
    "right to left": "\u0645\u0631\u062d\u0628\u0627 \u0628\u0643 \u0641\u064a \u05e9\u05dc\u05d5\u05dd",
    "mixed scripts": "tower \u6771\u4eac \u041c\u043e\u0441\u043a\u0432\u0430 \u03b1\u03b2 \u0939\u093f\u0928",
    "NUL bytes": "a\x00b \x00\x00 c",
    "lone surrogate": "a \ud800 b",
    "HTML": "<html><body onload='x()'><p>One &amp; two</p><!-- three --></body></html>",
    "letters": "x" * 100_000,
    "brackets": "(" * 5_000,
    "full stops": "." * 20_000,
    "addresses": "http://" * 5_000,
    "line breaks": "a\n" * 2_000,
    "apostrophes": "'" * 2_000 + "x'" * 1_000,
}


@pytest.fixture(scope="module")
def parser():
    return load_parser(SHIPPED)


def rung(*texts: str):
    """A rung of whole texts: the three fields that a parser looks at."""
    composed = tuple(map(tokens.compose, texts))
    used = np.array([len(tokens.words(text)) for text in composed], dtype=np.int32)
    return SimpleNamespace(texts=composed, used_D=used, places_D=np.arange(len(texts), dtype=np.int32))


def cut(text: str, used: int | None = None) -> list[running.Piece]:
    count = len(tokens.words(text)) if used is None else used
    return list(pieces([text], [count], [0]))


def assert_same(first, second) -> None:
    for field in fields(first):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if isinstance(one, tuple):
            assert one == other
        else:
            assert one.dtype == other.dtype
            assert one.tolist() == other.tolist()


def small_pieces():
    return mock.patch.multiple(cutting, WORDS_OF_PIECE=3, CHARACTERS_OF_PIECE=60)


# What a tree says


def test_a_sentence_is_read_as_a_person_reads_it(parser):
    found = parser.parse(rung(TEXT), PARSED)
    words = [found.lemmas[lemma] for lemma in found.lemma_T]
    assert words[:7] == ["the", "cat", "sit", "on", "the", "mat", "."]
    shown = [PARTS_OF_SPEECH[pos] for pos in found.pos_T[:7]]
    assert shown == ["DET", "NOUN", "VERB", "ADP", "DET", "NOUN", "PUNCT"]
    assert found.head_T[:3].tolist() == [1, 2, 2]
    assert found.sentence_T[[0, -1]].tolist() == [0, 1]
    assert found.word_T.tolist()[:8] == [0, 1, 2, 3, 4, 5, 5, 6]


def test_heads_stay_in_their_sentence_and_sentences_in_their_document(parser):
    found = parser.parse(rung(TEXT, "", "  ", TEXT, "One."), PARSED)
    assert (found.sentence_T[found.head_T] == found.sentence_T).all()
    assert (np.diff(found.document_T) >= 0).all()
    assert set(np.diff(found.sentence_T).tolist()) <= {0, 1}
    assert len(set(zip(found.sentence_T.tolist(), found.document_T.tolist(), strict=True))) == found.sentence_T[-1] + 1
    assert sorted(set(found.document_T.tolist())) == [0, 3, 4]


def test_white_space_is_no_token_and_moves_no_tree(parser):
    plain, wide = (parser.parse(rung(text), PARSED) for text in ("The cat sat.", "\n\n The cat\n\n sat. \n "))
    assert len(plain) == len(wide) == 4
    assert wide.head_T.max() < 4


# Cutting


@given(st.text(st.sampled_from("ab.!? \n'\"\u6771_(\u2026\u00e9"), max_size=400))
def test_pieces_are_the_text_and_its_words(text):
    words = tokens.words(text)
    with small_pieces():
        found = cut(text)
    together = "".join("".join(piece.text.split()) for piece in found)
    assert together == "".join(text.split())
    assert [piece.first_word for piece in found] == [sum(len(p.starts) for p in found[:i]) for i in range(len(found))]
    begun = [piece.text[start].lower() for piece in found for start in piece.starts]
    assert begun == [word[0] for word in words]
    assert all(len(piece.text) <= 60 for piece in found)


@pytest.mark.parametrize("text", ["(" * 1_000_000, "." * 1_000_000, "x. " * 300_000, "\n" * 1_000_000, "x" * 1_000_000])
def test_pieces_and_runs_are_bounded(text):
    for piece in cut(text):
        assert len(piece.starts) <= 2 * cutting.WORDS_OF_PIECE
        assert len(piece.text) <= cutting.CHARACTERS_OF_PIECE * (1 + 1 / cutting.LONGEST_RUN)
        assert max(map(len, piece.text.split()), default=0) <= cutting.LONGEST_RUN


def test_a_long_text_is_cut_behind_a_sentence():
    text = "One two three four. " * 2_000
    assert len(cut(text)) > 2
    assert all(piece.text.endswith(". ") for piece in cut(text))


def test_a_text_is_read_a_little_beyond_its_last_word_that_counts(parser):
    text = "word " * 5_000
    (piece,) = cut(text, used=10)
    assert len(piece.starts) == 10 + cutting.CONTEXT_WORDS


def test_batches_follow_from_the_pieces_alone_and_are_of_even_size():
    found = list(pieces(["word " * 30] * 1_000, [30] * 1_000, range(1_000)))
    sizes = [sum(len(piece.starts) + 1 for piece in batch) for batch in batches(found)]
    assert sum(sizes) == 31_000
    assert all(cutting.BATCH_WORDS <= size < cutting.BATCH_WORDS + 31 for size in sizes[:-1])


@settings(max_examples=20)
@given(
    st.lists(st.sampled_from(["word", "Tree", "house.", "run!", "x" * 300, "(", "\n\n", "\u6771\u4eac"]), max_size=60)
)
def test_every_token_knows_its_word_however_its_text_is_cut(parser, parts):
    text = " ".join(parts)
    whole = parser.parse(rung(text), NOTHING)
    with small_pieces():
        in_pieces = parser.parse(rung(text), NOTHING)
    expected = [tokens.words(token) for part in parts for token in _tokens_of(part)]
    before, numbers = 0, []
    for words in expected:
        numbers.append(max(0, before if words else before - 1))
        before += len(words)
    for found in (whole, in_pieces):
        assert [w for w, lemma in zip(found.word_T, found.lemma_T, strict=True) if _plain(found.lemmas[lemma])] == [
            number
            for number, token in zip(numbers, (t for part in parts for t in _tokens_of(part)), strict=True)
            if _plain(token.lower())
        ]


def _tokens_of(part: str) -> list[str]:
    """How spaCy cuts the parts of the test above; long runs are left out, they are cut by us."""
    if not part.strip():
        return []
    return [part[:-1], part[-1]] if part[-1] in ".!" else [part]


def _plain(token: str) -> bool:
    return not token.startswith("x") and token.isascii()


def test_distinct_words_are_numbered_as_they_stand(parser):
    text = " ".join(f"w{number}x" for number in range(7_000))
    assert parser.parse(rung(text), NOTHING).word_T.tolist() == list(range(7_000))


@given(st.data())
def test_parts_may_be_joined_in_any_grouping(parser, data):
    parts = [parse_batch(parser.source, PARSED, [piece]) for piece in _pieces_of_a_text()]
    border = data.draw(st.integers(0, len(parts)))
    assert_same(join(parts), join([join(parts[:border]), join(parts[border:])]))


def _pieces_of_a_text() -> list[running.Piece]:
    return [piece for number in range(3) for piece in pieces([TEXT, "It sat."], [99, 99], [number, number])]


def test_nothing_joined_is_nothing():
    assert len(join([])) == 0
    assert join([]).pos_T.dtype == np.uint8


# Executors


def test_any_number_of_processes_gives_the_same_bits(parser):
    sample = ladder(Accumulator().fold_all(_prose()).finalise())[-1]
    with mock.patch.object(cutting, "BATCH_WORDS", 100):
        here = parser.parse(sample, PARSED)
        # More than the processors of a small machine, so that batches end in another order than they began in.
        with closing(Processes(3)) as executor:
            there = load_parser(SHIPPED, executor).parse(sample, PARSED)
    assert len(here) > 1_000
    assert_same(here, there)


def _prose() -> list[Document]:
    import services.analyzer.metrics.lexical as source

    text = source.__doc__ + "".join(value.__doc__ or "" for value in vars(source).values() if callable(value))
    return [Document(id=f"d{number}", text=part) for number, part in enumerate(text.split("\n\n")) if part.strip()]


def test_progress_is_told_in_documents_and_a_stop_ends_the_work(parser):
    told = []
    with mock.patch.object(cutting, "BATCH_WORDS", 20):
        parser.parse(rung(*[TEXT] * 9, " "), PARSED, on_progress=told.append)
        assert [progress.done for progress in told] == sorted({progress.done for progress in told})
        assert (told[-1].stage, told[-1].done, told[-1].total) == ("parsing", 9, 10)

        def stop() -> None:
            raise Cancelled("enough")

        with pytest.raises(Cancelled):
            parser.parse(rung(*[TEXT] * 9), PARSED, check=stop)


def test_a_turn_is_handed_on_in_the_order_of_asking():
    turns, order, asked = running._Turns(), [], []

    def ask(number: int) -> None:
        with turns:
            order.append(number)

    with turns:
        for number in range(5):
            asked.append(threading.Thread(target=ask, args=(number,)))
            asked[-1].start()
            while len(turns._waiting) <= number:
                pass
    with turns:
        order.append(5)
    for thread in asked:
        thread.join()
    assert order == [0, 1, 2, 3, 4, 5]


# What runs


def test_only_components_that_a_need_asks_for_run():
    standard = ("tok2vec", "tagger", "parser", "attribute_ruler", "lemmatizer", "ner")
    source = Source(identity="x", path=None, factories=tuple((name, name) for name in standard))
    assert source.components(NOTHING) == ()
    assert source.components(frozenset({Need.EMBEDDING})) == ()
    assert source.components(frozenset({Need.TREE})) == ("tok2vec", "parser")
    assert source.components(frozenset({Need.POS})) == ("tok2vec", "tagger", "attribute_ruler")
    assert source.components(frozenset({Need.LEMMA})) == ("tok2vec", "tagger", "attribute_ruler", "lemmatizer")
    assert source.idle(PARSED) == ("ner",)
    shipped = find(SHIPPED)
    assert shipped.components(frozenset({Need.LEMMA})) == ("tok2vec", "trainable_lemmatizer")
    assert shipped.idle(PARSED) == ()


def test_what_nobody_asked_for_is_not_there(parser):
    def made(*needs: Need):
        found = parser.parse(rung(TEXT), frozenset(needs))
        return {
            Need.POS: set(found.pos_T.tolist()) != {PARTS_OF_SPEECH.index("X")},
            Need.LEMMA: "sit" in found.lemmas,
            Need.TREE: found.head_T.tolist() != list(range(len(found))) and found.sentence_T[-1] > 0,
        }

    for need in PARSED:
        assert made(need) == {other: other is need for other in PARSED}
    assert not any(made().values())


def test_what_is_asked_for_together_is_what_is_asked_for_alone(parser):
    everything = parser.parse(rung(TEXT), PARSED)
    assert parser.parse(rung(TEXT), frozenset({Need.TREE})).head_T.tolist() == everything.head_T.tolist()
    assert parser.parse(rung(TEXT), frozenset({Need.POS})).pos_T.tolist() == everything.pos_T.tolist()


def test_spacy_is_imported_when_a_text_is_parsed_and_torch_never(root):
    code = (
        "import sys, services.analyzer.service, services.analyzer.parsing.parser\n"
        "from services.analyzer.tools import open_tools\n"
        "tools = open_tools('en_ouro_sm', 1)\n"
        "assert tools.identities['parser'].startswith('en_ouro_sm')\n"
        "assert not {'spacy', 'thinc', 'torch'} & set(sys.modules)\n"
        "tools.parser.try_out()\n"
        "assert 'spacy' in sys.modules and 'torch' not in sys.modules\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


# Hostile text


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_gets_an_answer(parser, name):
    text = tokens.compose(HOSTILE[name])
    found = parser.parse(rung(text, TEXT), PARSED)
    last = found.document_T == 1
    assert [found.lemmas[lemma] for lemma in found.lemma_T[last]][:3] == ["the", "cat", "sit"]
    assert found.word_T[~last].max(initial=0) <= max(0, len(tokens.words(text)) - 1)
    assert (found.sentence_T[found.head_T] == found.sentence_T).all()


def test_a_megabyte_without_blanks_reaches_the_parser_as_little(parser):
    monsters = ["x" * 1_000_000, "(" * 1_000_000, "." * 1_000_000, "http://" * 150_000, "a-" * 500_000]
    documents = [Document(id=f"d{number}", text=text) for number, text in enumerate([*monsters[:3], TEXT])]
    sample = ladder(Accumulator().fold_all(documents).finalise())[-1]
    assert len(parser.parse(sample, PARSED)) < 30_000


def test_twenty_thousand_tiny_documents(parser):
    found = parser.parse(rung(*["Hi"] * 20_000), NOTHING)
    assert found.document_T.tolist() == found.sentence_T.tolist() == list(range(20_000))


@settings(max_examples=25)
@given(st.lists(st.text(max_size=200), max_size=3))
def test_any_text_gets_an_answer(parser, texts):
    found = parser.parse(rung(*texts), PARSED)
    assert (found.sentence_T[found.head_T] == found.sentence_T).all()
    assert len(found.lemma_T) == len(found.pos_T) == len(found.head_T) == len(found.word_T)


def test_strings_are_forgotten_when_there_are_many(parser):
    pipeline = running.Pipeline(parser.source)
    first = [pipeline.parse(cut(TEXT), PARSED)[0]]
    loaded = weakref.ref(pipeline._nlp)
    known = len(pipeline._nlp.vocab.strings)
    with mock.patch.object(running, "_NEW_STRINGS", 100):
        for number in range(3):
            pipeline.parse(cut(" ".join(f"q{number}z{word}" for word in range(200))), PARSED)
            assert len(pipeline._nlp.vocab.strings) < known + 100 + 1_000
        assert_same(first[0], pipeline.parse(cut(TEXT), PARSED)[0])
    assert loaded() is None


# Other pipelines


def test_the_pipeline_that_ships_is_whole():
    source = find(SHIPPED)
    assert source.identity.startswith(f"{SHIPPED} 0.1.0 ")
    assert source.able == PARSED
    assert SHIPPED not in names()
    scores = json.loads((source.path / "meta.json").read_text())["performance"]
    assert scores["pos_acc"] >= 0.938
    assert scores["dep_uas"] >= 0.832
    assert scores["dep_las"] >= 0.793
    assert sum(file.stat().st_size for file in source.path.rglob("*") if file.is_file()) < 10_000_000


def test_nothing_in_it_can_run_code(root):
    # A pickle of today begins with 0x80 and the number of its protocol.
    for file in find(SHIPPED).path.rglob("*"):
        assert file.is_dir() or file.suffix not in {".py", ".so", ".pkl", ".pickle", ".pt"}
        assert file.is_dir() or not re.match(rb"\x80[\x02-\x05]", file.read_bytes())


@pytest.mark.parametrize("name", ["", "none"])
def test_no_parser_is_a_choice(name):
    assert load_parser(name) is None
    assert open_tools(name).lacking[Need.TREE] == NO_PARSER
    assert open_tools(name).identities["parser"] == ""


@pytest.mark.parametrize(
    "name", ["xx_not_there_sm", "xx-not-there", "a b", "../nowhere", "x" * 300, "os.path", "__main__"]
)
def test_a_missing_pipeline_says_what_to_do(name):
    with pytest.raises(PreconditionFailed, match="install it") as error:
        load_parser(name)
    assert SHIPPED in error.value.message


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path):
    with pytest.raises(PreconditionFailed, match="is not a spaCy pipeline"):
        load_parser(str(tmp_path))
    (tmp_path / "meta.json").write_text("[]")
    (tmp_path / "config.cfg").write_text("no config")
    with pytest.raises(PreconditionFailed, match="is not a spaCy pipeline"):
        load_parser(str(tmp_path))


def test_a_language_model_is_no_pipeline(root):
    with pytest.raises(PreconditionFailed, match="is not a spaCy pipeline"):
        load_parser(str(root / "models/ouro-tiny"))


def test_a_pipeline_without_a_parser_says_what_it_cannot_make(tmp_path):
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    nlp.to_disk(tmp_path)
    chosen = load_parser(str(tmp_path))
    assert chosen.able == {Need.LEMMA}
    found = chosen.parse(rung(TEXT), PARSED)
    assert set(found.sentence_T.tolist()) == {0}
    assert "sat" in found.lemmas
    wanted = [metric.id for metric in METRICS if Need.TREE in metric.needs]
    report, _ = analyze([Document(id="d", text=TEXT)], metrics=wanted, tools=Tools(parser=chosen))
    assert {left.id for left in report.left_out} >= set(wanted)
    assert any("makes no dependency trees" in left.reason for left in report.left_out)


def test_a_pipeline_of_another_language_parses(tmp_path):
    chosen = load_parser(str(initialised(tmp_path / "de", "de", GERMAN)))
    assert chosen.able == PARSED
    assert chosen.identity.startswith("de_tiny ")
    found = chosen.parse(rung("Die Katze schläft. Die Straße ist naß!"), PARSED)
    assert len(found) == 9
    assert (found.sentence_T[found.head_T] == found.sentence_T).all()


def test_an_installed_package_is_found_by_its_name(tmp_path, monkeypatch):
    package = tmp_path / "de_tiny"
    package.mkdir()
    initialised(package / "de_tiny-0.0.0", "de", GERMAN, ("tok2vec", "morphologizer"))
    (package / "__init__.py").write_text("LOADED = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("de_tiny", "de-tiny"):
        chosen = load_parser(name)
        assert chosen.source.package == "de_tiny"
        assert chosen.able == {Need.POS, Need.LEMMA}
    assert "de_tiny" not in sys.modules
    chosen.try_out()
    assert sys.modules.pop("de_tiny").LOADED


def test_an_installed_package_that_is_no_pipeline_is_refused():
    with pytest.raises(PreconditionFailed, match="there is no spaCy pipeline"):
        load_parser("numpy")


def test_rules_without_their_tables_are_an_error_that_says_so(tmp_path):
    nlp = spacy.blank("en")
    nlp.add_pipe("lemmatizer", config={"mode": "lookup"})
    nlp.to_disk(tmp_path)
    with pytest.raises(PreconditionFailed, match=r"spacy-lookups-data.*E912"):
        load_parser(str(tmp_path)).try_out()


def test_a_pipeline_that_was_never_trained_is_an_error_that_says_so(tmp_path):
    nlp = spacy.blank("en")
    nlp.add_pipe("parser")
    nlp.to_disk(tmp_path)
    with pytest.raises(PreconditionFailed, match="never trained"):
        load_parser(str(tmp_path)).try_out()


def test_an_error_in_another_process_is_the_same_error(tmp_path):
    spacy.blank("en").to_disk(tmp_path)
    (tmp_path / "tokenizer").write_bytes(b"damaged")
    for executor in (InProcess(), Processes(1)):
        with closing(executor), pytest.raises(PreconditionFailed, match="cannot be used") as error:
            load_parser(str(tmp_path), executor).try_out()
        assert "parser" in error.value.metadata


def test_without_spacy_a_parse_says_what_is_missing(parser, monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(PreconditionFailed, match="not installed"):
        running.Pipeline(parser.source).parse(cut(TEXT), PARSED)


def test_the_identity_changes_with_what_decides_answers_and_not_with_the_card(tmp_path):
    folder = initialised(tmp_path / "p", components=("tok2vec", "morphologizer"))
    first = find(str(folder)).identity
    (folder / "README.md").write_text("words")
    assert find(str(folder)).identity == first
    model = folder / "tok2vec/model"
    model.write_bytes(model.read_bytes() + b"\0")
    assert find(str(folder)).identity != first
