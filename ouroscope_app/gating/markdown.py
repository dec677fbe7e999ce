"""The answer of a gate as Markdown for the comment on a pull request or the summary of a job.

Names of files and words of the candidate are the text of strangers: each stands in a code element, every character of
it that is neither letter, digit nor space as an entity, so it can be neither markup nor a link nor the mention of a
person.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from ouroscope.records.analysis import Comparison
from ouroscope_app import columns
from ouroscope_app.explaining import moved
from ouroscope_app.gating.question import Answered, next_step
from ouroscope_app.printable import printable
from ouroscope_app.standing import FamilyStanding, standings

LONGEST = 2000


def markdown(answered: Answered) -> str:
    """Return the whole comment."""
    return "\n".join(_lines(answered)) + "\n"


def literal(text: str) -> str:
    """Return text of a stranger as code in which nothing is markup.

    >>> literal("a|b @you")
    '<code>a&#124;b &#64;you</code>'
    """
    entities = "".join(sign if sign.isalnum() or sign == " " else f"&#{ord(sign)};" for sign in printable(text))
    return f"<code>{entities}</code>"


def _lines(answered: Answered) -> Iterator[str]:
    comparison = answered.decision.comparison
    yield f"### Collapse gate: {answered.title.lower()}"
    yield ""
    yield _prose(answered.decision.sentence)
    yield ""
    yield f"Candidate {literal(answered.question.candidate)} beside baseline {literal(answered.question.baseline)}."
    yield ""
    yield from _families(comparison)
    step = next_step(answered)
    if step.said:
        yield ""
        yield f"{_prose(step.said)} {literal(step.command) if step.command else ''}".rstrip()
    yield from _details(answered)


def _prose(text: str) -> str:
    """Return a sentence of ours, which may hold the name of a stranger, readable and without any markup.

    A character of no width keeps names and addresses in it from becoming mentions and links.

    >>> _prose("*ask* @you")
    '&#42;ask&#42; &#64;&#8203;you'
    """
    line = printable(text, LONGEST).replace("://", ":\u200b//").replace("www.", "www\u200b.")
    return "".join(_prose_sign(sign) for sign in line)


def _prose_sign(sign: str) -> str:
    if sign in "@#\u200b":
        return f"&#{ord(sign)};" if sign == "\u200b" else f"&#{ord(sign)};&#8203;"
    return f"&#{ord(sign)};" if sign in "&<>|`*_[]\\~!" else sign


def _families(comparison: Comparison) -> Iterator[str]:
    yield f"| family | effect | {100 * comparison.policy.confidence:g} % interval | |"
    yield "|---|---:|---:|---|"
    for one in standings(comparison):
        yield _row(one)


def _row(one: FamilyStanding) -> str:
    effect = one.effect
    if effect is None:
        return f"| {one.name} | | | {one.words} |"
    return f"| {one.name} | {effect.effect:+.2f} | {effect.lower:+.2f} to {effect.upper:+.2f} | {one.words} |"


def _details(answered: Answered) -> Iterator[str]:
    comparison = answered.decision.comparison
    yield from ("", "<details><summary>What it rests on</summary>", "")
    yield "Effects are in human spreads and above 0 is worse: 1 is the standard deviation between human sources."
    for line in answered.basis:
        yield f"- {_prose(line)}"
    for heading, found in groupby(moved(comparison.explanation), key=lambda one: one.heading):
        yield from ("", f"{heading[0].upper()}{heading[1:]}:", "")
        yield from (f"- {literal(one.quoted)}: {_prose(one.said)}" for one in found)
    yield from _metrics(comparison)
    yield from ("", "</details>")


def _metrics(comparison: Comparison) -> Iterator[str]:
    """Yield the metrics that vote, the strongest evidence first."""
    voters = {id for family in comparison.families for id in family.metrics}
    shown = [effect for effect in comparison.metrics if effect.id in voters and effect.effect is not None]
    if not shown:
        return
    yield from ("", "| metric that votes | effect | baseline | candidate |", "|---|---:|---:|---:|")
    for effect in shown:
        values = (effect.baseline, effect.candidate)
        told = " | ".join("" if value is None else columns.number(value) for value in values)
        yield f"| `{effect.id}` | {effect.effect:+.2f} | {told} |"
