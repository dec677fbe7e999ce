"""Laws of the embedded corpus, and what exactly is read from a hand-made library."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ouroscope.corpora.docstrings import SOURCES, EmbeddedCorpus, Part, gather, part_of, tallies
from ouroscope.corpora.parts import Fingerprint, distinct, fingerprint, identity, normalised
from ouroscope.corpora.prose import passages, plain
from ouroscope.corpora.sources import Source, docstrings_of, topics_of
from ouroscope.records.documents import Origin

STRIPES = (
    "The stripes of a zebra confuse the flies that would bite it. No two animals have the same pattern, and a foal "
    "knows its mother by hers. This is why the keeper should never wash them with anything but water."
)
HOOVES = (
    "A hoof grows for the whole life of the animal and is worn down by walking. Where the ground is too soft, the "
    "keeper must trim it, or the animal will begin to limp within a few weeks of its arrival."
)
MANES = (
    "Of all the animals in the house, only the lions have a mane, and it takes them about four years to grow it. An "
    "old lion that has lost its mane was most likely ill, and should be seen by the doctor on the same day."
)
MODULE = f'''\
"""{STRIPES}"""

TEMPLATE = """
{HOOVES} This sentence is in a template that is assigned to a name, so it is not documentation.
"""  # a comment with a quote: "


def trim(hoof, length):
    r"""Trim a ``hoof`` to the right length, see :func:`zoo.feet.wash` for what should be done before.

    {HOOVES}

    Parameters
    ----------
    length : float
        The length that the hoof should have when it is done, in the unit that was chosen for the whole zoo before.

    Examples
    --------
    >>> trim(hoof, 3.5)
    3.5

    .. code-block:: python

        this is code and it is not prose although it has a lot of words that are in the list of the common words
    """
'''
REAL = (Source(name="networkx"), Source(name="click"))
WORDS = st.lists(st.sampled_from(["the", "of", "hoof", "zebra", "keeper", "water", "walks", "slowly", "when", "is"]))


@pytest.fixture(scope="module")
def real() -> EmbeddedCorpus:
    """Real libraries, small enough to be read in a second."""
    return gather(REAL)


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed library called zoo, with its metadata."""
    library = tmp_path / "zoo"
    (library / "tests").mkdir(parents=True)
    (library / "__init__.py").write_text("raise RuntimeError('the library was imported')\n")
    (library / "feet.py").write_text(MODULE)
    (library / "tests" / "test_feet.py").write_text(f'"""{HOOVES} Tests are not read."""\n')
    metadata = tmp_path / "zoo-1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: zoo\nVersion: 1.2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return library


def test_a_hand_made_library_gives_exactly_its_prose(zoo: Path) -> None:
    corpus = gather([Source(name="zoo"), Source(name="no_such_library")])
    first_line = "Trim a hoof to the right length, see wash for what should be done before."
    assert [document.text for document in corpus.documents] == [STRIPES, f"{first_line} {HOOVES}"]
    assert {(document.group, document.domain, document.origin) for document in corpus.documents} == {
        ("zoo/feet", "zoo", Origin.HUMAN)
    }
    assert dict(corpus.versions) == {"zoo": "1.2"}
    assert corpus.skipped == ("no_such_library",)
    assert [(tally.name, tally.paragraphs) for tally in tallies(corpus.documents)] == [("zoo", 2)]


def test_a_copy_and_a_near_copy_are_dropped(zoo: Path) -> None:
    (zoo / "legs.py").write_text(f'"""{STRIPES}"""\n')
    (zoo / "tail.py").write_text(f'"""{STRIPES.replace("water", "warm water")}"""\n')
    assert len(gather([Source(name="zoo")]).documents) == 2


def test_adding_paragraphs_moves_no_other_paragraph(zoo: Path) -> None:
    before = {document.id: part_of(document.text) for document in gather([Source(name="zoo")]).documents}
    (zoo / "a_new_module.py").write_text(f'"""{MANES}"""\n')
    after = {document.id: part_of(document.text) for document in gather([Source(name="zoo")]).documents}
    assert len(after) == len(before) + 1
    assert before.items() <= after.items()


def test_the_parts_are_a_partition_and_the_corpus_is_deterministic(real: EmbeddedCorpus) -> None:
    parts = [{document.id for document in real.part(part)} for part in Part]
    assert set().union(*parts) == {document.id for document in real.documents}
    assert sum(map(len, parts)) == len(real.documents)
    assert gather(REAL) == real
    shares = [len(part) / len(real.documents) for part in parts]
    # Dealt by hash: 44, 48 and 8 %, with a standard error of 1.6 % at this size.
    assert shares == pytest.approx([0.44, 0.48, 0.08], abs=0.06)


def test_dropping_copies_again_drops_nothing(real: EmbeddedCorpus) -> None:
    assert all(distinct(fingerprint(document.text) for document in real.documents))


def test_nothing_outside_the_training_part_mostly_repeats_it(real: EmbeddedCorpus) -> None:
    trained = set().union(*(fingerprint(document.text).runs for document in real.part(Part.TRAIN)))
    others = real.part(Part.PROMPT) + real.part(Part.HELD_OUT)
    assert not any(fingerprint(document.text).repeats(trained) for document in others)


def test_a_short_text_inside_a_later_training_text_is_dropped() -> None:
    short, long = frozenset(range(3)), frozenset(range(20))
    for part, stays in ((Part.PROMPT, False), (Part.HELD_OUT, False), (Part.TRAIN, True)):
        assert distinct([Fingerprint(short, part), Fingerprint(long, Part.TRAIN)]) == [stays, True]
    assert distinct([Fingerprint(short, Part.PROMPT), Fingerprint(long, Part.PROMPT)]) == [True, True]
    assert distinct([Fingerprint(long, Part.TRAIN), Fingerprint(short, Part.TRAIN)]) == [True, False]


@given(words=WORDS, rng=st.randoms(use_true_random=False))
def test_layout_case_and_numbers_change_neither_name_nor_part(words: list[str], rng: random.Random) -> None:
    text = " ".join(words)
    disguised = " 42 ".join(rng.choice((word.upper(), f"`{word}`", f"{word},\n")) for word in words)
    assert normalised(disguised) == normalised(text)
    assert (identity(disguised), part_of(disguised)) == (identity(text), part_of(text))


def test_a_lightly_edited_paragraph_mostly_stays_in_its_part(real: EmbeddedCorpus) -> None:
    texts = [document.text for document in real.documents[:300]]
    stays = [part_of(text) is part_of(f"{text} Changed in the next release.") for text in texts]
    # Two texts that share 90 % of their shingles have the same least shingle nine times in ten.
    assert sum(stays) / len(stays) > 0.85


def test_no_library_is_imported() -> None:
    program = (
        "import sys\n"
        "from ouroscope.corpora.docstrings import SOURCES, gather\n"
        "from ouroscope.corpora.sources import Source, files_of, version_of\n"
        "assert all(next(files_of(source), None) for source in SOURCES if version_of(source))\n"
        "assert gather([Source(name='functorch', distribution='torch'), Source(name='spacy')]).documents\n"
        "print([name for name in ('torch', 'transformers', 'numpy', 'spacy', 'networkx') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_source_is_named_once() -> None:
    names = [source.name for source in SOURCES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "docstring",
    [
        "word " * 30,  # no sentence
        ">>> " + STRIPES,
        "Args:\n    stripes: " + STRIPES,
        "References\n----------\n" + STRIPES,
        "```\n" + STRIPES + "\n```",
        "Like so::\n\n    " + STRIPES + "\n\nAnd so on.",
        ".. code-block:: python\n\n    " + STRIPES + "\n\nAnd so on.",
        "| " + STRIPES,
        STRIPES + " Copyright by the zoo.",
        "Die Streifen einer Zebrastute verwirren Fliegen, welche stechen wollen. Kein Tier hat dasselbe Muster, "
        "und jedes Fohlen erkennt seine Mutter daran, weshalb niemand sie mit Seife waschen sollte.",
    ],
)
def test_what_is_no_english_prose_is_dropped(docstring: str) -> None:
    assert list(passages(docstring)) == []


@pytest.mark.parametrize(
    "docstring", [".. note:: " + STRIPES, "Note:\n    " + STRIPES, "Notes\n-----\n" + STRIPES, "* " + STRIPES]
)
def test_prose_under_a_note_or_in_a_list_is_kept(docstring: str) -> None:
    assert list(passages(docstring)) == [STRIPES]


def test_a_sentence_that_announces_dropped_code_goes_with_it() -> None:
    assert list(passages(f"{STRIPES} It is used like this::\n\n    wash(zebra)\n")) == [STRIPES]


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        (":class:`~zoo.Zebra` is *very* **striped**", "Zebra is very striped"),
        ("a `link <https://zoo.example>`_ and [another](https://zoo.example)", "a link and another"),
        ("as was shown [1]_.", "as was shown."),
        ("of order :math:`n`", "of order n"),
        (r"is :math:`\frac{1}{2}`", None),
        ("for details see [1]_", None),
    ],
)
def test_markup_is_removed(marked: str, expected: str | None) -> None:
    assert plain(marked) == expected


def test_quotes_in_comments_and_strings_open_no_docstring() -> None:
    source = f"# it's\nx = 'a \"\"\" b'\ny = \"c ''' d\"\nz = 'e\\'f'\n'''{STRIPES}'''\nb'''{HOOVES}'''\n"
    assert list(docstrings_of(source)) == [STRIPES]


def test_topics_are_the_values_of_the_dictionary() -> None:
    assert list(topics_of("topics = {'zebra': 'striped ' 'animal', 'hoof': 'foot'}")) == ["striped animal", "foot"]
