"""From one docstring to the paragraphs of English prose in it.

Pure text work: knows nothing of files, libraries or corpora. Docstrings come in several dialects (reStructuredText,
NumPy sections, Google sections, Markdown) and mix prose with code, tables and field lists. A block is kept only when
it looks like a paragraph a person wrote to be read; when in doubt it is dropped, for a lost paragraph costs little
and a table in the corpus spoils every statistic of language.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence

MIN_WORDS = 8
"""Shorter paragraphs are mostly labels and formulae in words."""
MAX_WORDS = 400
"""Longer ones are mostly lists whose markers were lost."""
PASSAGE_WORDS = 90
"""Paragraphs of one docstring are joined until a passage has so many words: more than a prompt and its continuation."""
MIN_PASSAGE_WORDS = 20
"""A passage that stays shorter is dropped."""

_SKIPPED_SECTIONS = frozenset(
    {"parameters", "other parameters", "params", "params dict", "args", "arguments", "keyword arguments"}
    | {"keyword args", "kwargs", "attributes", "methods", "fields", "members", "default values", "shape", "shapes"}
    | {"returns", "return", "yields", "receives", "raises", "warns", "input", "inputs", "output", "outputs"}
    | {"see also", "references", "bibliography", "citation", "author", "authors", "license", "copyright"}
    | {"usage", "example"}
)
_PROSE_DIRECTIVES = frozenset(
    {"note", "warning", "tip", "important", "caution", "hint", "attention", "admonition", "topic"}
)
_PROSE_LABELS = frozenset(
    {"note", "notes", "warning", "warnings", "tip", "remark", "remarks", "caution", "important", "description"}
)

_FENCE = re.compile(r"^\s*(```|~~~).*?^\s*\1\s*$", re.MULTILINE | re.DOTALL)
_UNDERLINE = re.compile(r"^([-=~^\"'`*#+.])\1{2,}$")
_DIRECTIVE = re.compile(r"^\.\.\s+([\w:-]+?)::\s*(.*)$")
_LABEL = re.compile(r"^([A-Z][\w ]{0,30}):\s*$")
_BULLET = re.compile(r"^(?:[-*+•]|\(?\d{1,2}[.)]|\(?[a-z]\))\s+")
_FIELD = re.compile(r"^(?::\w[^:]*:|@\w+|\\\w+|\||\+[-=]|<|%|\$|#|>>>)")
_NOT_PROSE = re.compile(
    r"https?://|www\.|@\w+\.\w+|_AT_|copyright|\blicen[cs]e|warrant(?:y|ies)|all rights reserved|\bet al\b|\barXiv\b"
    r"|\bdoi\b|\bpp\. ?\d|\bTODO\b|\bFIXME\b|\bself\.|>>>|^\s*\.\. |\.\.\.\s*\.\.\.|-{3,}|={2,}|->|=>"
    r"|\\[a-zA-Z]+|[{}$\\|~^]",
    re.IGNORECASE | re.MULTILINE,
)

_MARKUP = (
    (re.compile(r":(?:\w+:)?\w+:`!?~?(?:[\w.]+\.)?([^`<>]+?)(?:\(\))?`"), r"\1"),  # :class:`~a.b.C` -> C
    (re.compile(r":(?:\w+:)?\w+:`([^`<]+?)\s*<[^`>]*>`"), r"\1"),  # :ref:`text <target>` -> text
    (re.compile(r"`([^`<]+?)\s*<[^`>]*>`__?"), r"\1"),  # `text <url>`_ -> text
    (re.compile(r"\[([^\]]+)\]\([^)\s]*\)"), r"\1"),  # [text](url) -> text
    (re.compile(r"\[`([^`]+)`\]"), r"\1"),  # [`Name`] -> Name
    (re.compile(r"\s*\[(?:\d+|#\w*|[A-Z]\w+\d+)\]_?(?=[\s.,;:)]|$)"), ""),  # [1]_ -> nothing
    (re.compile(r"``([^`]*)``"), r"\1"),
    (re.compile(r"`([^`]*)`(?:__?(?!\w))?"), r"\1"),
    (re.compile(r"\*\*([^*]+)\*\*"), r"\1"),
    (re.compile(r"(?<![\w*])\*([^*\s][^*]*)\*(?![\w*])"), r"\1"),
    (re.compile(r"(?<![\w_])_([^_\s]+)_(?![\w_])"), r"\1"),
    (re.compile(r"\s+"), " "),
    (re.compile(r"::$"), ":"),
)
_MARKED = re.compile(r"[`*_\[]|::$")
"""Most paragraphs have no markup at all, and a dozen substitutions in vain take most of the time."""
_FOOTNOTE_AS_NOUN = re.compile(r"\b(?:see|in|from|by|of|to|and|with|also|on)\s+\[[#\w]+\]_", re.IGNORECASE)
_MATH = re.compile(r":math:`([^`]*)`")
_SIMPLE_MATH = re.compile(r"^[\w ,.+-]{1,12}$")

_COMMON = frozenset(
    """
    the of to and a in is that for it as be with by this on are not an or from if which can will at have when was but
    you we one all there has been its more also used use may must such other than into they their only no any these
    should would does each using where some then so same two between how what your
    """.split()  # noqa: SIM905 (ninety quoted words would hide the list)
)
_TOKEN = re.compile(r"\S+")
_PLAIN_WORD = re.compile(r"^[(\"'\u201c\u2018]*[A-Za-z]+(?:['\u2019-][A-Za-z]+)*[)\"'\u201d\u2019.,;:!?]*$")


def passages(docstring: str) -> Iterator[str]:
    """Yield the prose of a docstring in passages of about a hundred words, each one or more whole paragraphs.

    A docstring opens with one line and goes on in short paragraphs, so that a single paragraph is often too short to
    be cut into a prompt and a continuation; its neighbours belong to the same thought.
    """
    passage = ""
    for paragraph in paragraphs(docstring):
        passage = f"{passage} {paragraph}".lstrip()
        if len(passage.split()) >= PASSAGE_WORDS:
            yield passage
            passage = ""
    if len(passage.split()) >= MIN_PASSAGE_WORDS:
        yield passage


def paragraphs(docstring: str) -> Iterator[str]:
    """Yield the prose paragraphs of a docstring, markup removed and white space made single.

    >>> list(paragraphs(">>> sort([2, 1])"))
    []
    """
    for chunk in _prose_chunks(docstring):
        text = plain(" ".join(line.strip() for line in chunk))
        if text is not None and is_prose(text := _whole_sentences(text)):
            yield text


def plain(text: str) -> str | None:
    """Strip reStructuredText and Markdown from one paragraph; None where it holds formulae or names a footnote.

    >>> plain("See :func:`~os.path.join` and ``str``  [1]_.")
    'See join and str.'
    """
    if any(not _SIMPLE_MATH.match(formula) for formula in _MATH.findall(text)):
        return None
    if _FOOTNOTE_AS_NOUN.search(text):
        return None
    if not _MARKED.search(text):
        return " ".join(text.split())
    text = _MATH.sub(r"\1", text)
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    return text.strip()


def _whole_sentences(text: str) -> str:
    """Cut off a last sentence that ends in a colon: what it announces was code or a list, and is gone."""
    if not text.endswith(":"):
        return text
    return text[: max(text.rfind(mark) for mark in (". ", "! ", "? ")) + 1]


def is_prose(text: str) -> bool:
    """Say whether a paragraph reads as English sentences: length, shape, plain words, common words."""
    tokens = _TOKEN.findall(text)
    if not MIN_WORDS <= len(tokens) <= MAX_WORDS:
        return False
    if not text[0].isupper() and text[0] not in "\"'(":
        return False
    if text[-1] not in ".!?)\"'":
        return False
    return _mostly_words(tokens) and _enough_common_words(tokens) and not _NOT_PROSE.search(text)


def _mostly_words(tokens: Sequence[str]) -> bool:
    """Say whether at least four tokens in five are plain words (not names_like_this, numbers or operators)."""
    return sum(1 for token in tokens if _PLAIN_WORD.match(token)) >= 0.8 * len(tokens)


def _enough_common_words(tokens: Sequence[str]) -> bool:
    """Say whether the share of function words is that of English prose (about 0.4 to 0.5; lists have 0.1)."""
    common = sum(1 for token in tokens if token.strip("(\"'.,;:!?)").lower() in _COMMON)
    return common >= 0.28 * len(tokens)


def _prose_chunks(docstring: str) -> Iterator[list[str]]:
    """Yield the lines of each block that is neither code nor table nor field list."""
    text = _FENCE.sub("\n\n", inspect.cleandoc(docstring))
    skipping_section = False
    deeper_than: int | None = None  # blocks indented further belong to skipped code or fields
    for block in _blocks(text):
        indent = _indent(block[0])
        if deeper_than is not None and indent > deeper_than:
            continue
        deeper_than = None
        if len(block) > 1 and _UNDERLINE.match(block[1].strip()):
            skipping_section = block[0].strip().lower().rstrip(":") in _SKIPPED_SECTIONS
            block = block[2:]
        if skipping_section or not block:
            continue
        body = _opened(block)
        if body is None or block[-1].rstrip().endswith("::"):
            deeper_than = indent
        if body:
            yield from _items(body)


def _blocks(text: str) -> Iterator[list[str]]:
    """Yield runs of lines between blank lines."""
    block: list[str] = []
    for line in text.splitlines():
        if line.strip():
            block.append(line)
        elif block:
            yield block
            block = []
    if block:
        yield block


def _opened(block: list[str]) -> list[str] | None:
    """Return the prose under a directive or label; the block itself if it has none; None if all below is to skip."""
    first = block[0].strip()
    if directive := _DIRECTIVE.match(first):
        head = [directive[2]] if directive[2] else []
        return head + block[1:] if directive[1] in _PROSE_DIRECTIVES else None
    if first.startswith(".. "):
        return None
    if label := _LABEL.match(first):
        return block[1:] if label[1].lower() in _PROSE_LABELS else None
    return block


def _items(lines: list[str]) -> Iterator[list[str]]:
    """Split a block at its list markers, and yield the pieces whose lines are aligned."""
    item: list[str] = []
    for line in lines:
        if _BULLET.match(line.strip()):
            yield from _aligned(item)
            item = [_BULLET.sub("", line.strip())]
        else:
            item.append(line)
    yield from _aligned(item)


def _aligned(item: list[str]) -> Iterator[list[str]]:
    """Yield the item unless its indentation varies, as it does in definition lists and code."""
    if not item or any(_FIELD.match(line.strip()) for line in item):
        return
    if len({_indent(line) for line in item[1:]}) <= 1 and (len(item) < 2 or _hangs_well(item)):
        yield item


def _hangs_well(item: list[str]) -> bool:
    """Say whether line two continues line one: same indent, or line one lost its list marker."""
    return _indent(item[0]) in (0, _indent(item[1]))


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
