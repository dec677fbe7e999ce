"""What a word is, in friendly and hostile text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.analyzer import tokens


def words(text):
    return tokens.words(tokens.compose(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The cat's 'mat'.", ["the", "cat's", "mat"]),
        ("state-of-the-art, 3.14", ["state", "of", "the", "art", "3", "14"]),
        ("It\u2019s \u201cquoted\u201d", ["it's", "quoted"]),
        ("snake_case \U0001f600 \u00e9t\u00e9", ["snake", "case", "\u00e9t\u00e9"]),
        ("cafe\u0301", ["caf\u00e9"]),
        (
            "\u0939\u093f\u0928\u094d\u0926\u0940 \u092d\u093e\u0937\u093e",
            ["\u0939\u093f\u0928\u094d\u0926\u0940", "\u092d\u093e\u0937\u093e"],
        ),
        ("\u0645\u0631\u062d\u0628\u0627 \u0628\u0643", ["\u0645\u0631\u062d\u0628\u0627", "\u0628\u0643"]),
        ("\u6771\u4eac\u30bf", ["\u6771", "\u4eac", "\u30bf"]),
        ("a\x00b\x00", ["a", "b"]),
        ("\ud800 lone", ["lone"]),
        ("", []),
        ("\U0001f600\U0001f600 ... _ '", []),
    ],
)
def test_words_of(text, expected):
    assert words(text) == expected


def test_a_megabyte_without_spaces_is_cut_into_bounded_words():
    found = words("x" * 1_000_000)
    assert len(found) == 1_000_000 // 64
    assert set(map(len, found)) == {64}


def test_no_word_is_longer_than_the_bound_even_with_apostrophes():
    assert max(map(len, words("'".join(["x" * 64] * 1_000)))) <= tokens.LONGEST_TOKEN


@given(st.text())
def test_words_are_lower_case_and_hold_no_space(text):
    for word in words(text):
        assert word == word.lower() or not text.isascii()
        assert not any(character.isspace() for character in word)


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_the_narrow_pattern_finds_the_same_words_in_ascii(text):
    normal = tokens.compose(text)
    assert tokens._WORDS.findall(normal.lower()) == tokens.words(normal)


@given(st.text(), st.integers(1, 5))
def test_first_words_are_the_first_words(text, count):
    normal = tokens.compose(text)
    assert tokens.words(tokens.first_words(normal, count)) == tokens.words(normal)[:count]


@given(st.text(alphabet="ab .!?\n"))
def test_sentences_hold_all_words(text):
    normal = tokens.compose(text)
    assert [word for sentence in tokens.sentences(normal) for word in tokens.words(sentence)] == tokens.words(normal)


def test_a_million_full_stops_in_a_row_end_no_sentence_and_are_read_once():
    assert len(tokens.sentences("One. Two " + "." * 1_000_000 + "x. Three")) == 3
