"""What moved most, in lines that may stand in a terminal or a file: names of strangers are made printable here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ouroscope.records.analysis import ConceptMove, Explanation, PromptMove, RepeatedText
from ouroscope_app.output import counted
from ouroscope_app.printable import printable

MOST = 3
"""Of each kind: enough to see what happened, few enough to be read."""


@dataclass(frozen=True, slots=True)
class Moved:
    """One thing that moved: whose words it is in, and what is said of it."""

    heading: str
    quoted: str
    said: str


def moved(explanation: Explanation | None, most: int = MOST) -> Iterator[Moved]:
    """Yield up to `most` concepts, repeated texts and prompts, those that moved most first; none if unexplained."""
    if explanation is None:
        return
    for concept in explanation.concepts[:most]:
        yield Moved("concepts that take more of the network", printable(concept.label), _growth(concept))
    for text in explanation.repeated_texts[:most]:
        yield Moved("repeated texts", printable(text.text), _spread(text))
    for prompt in explanation.prompts[:most]:
        yield Moved("prompts with a surer answer", printable(prompt.prompt_id), _narrowing(prompt))


def _growth(concept: ConceptMove) -> str:
    """Write how the share of a concept changed.

    >>> _growth(ConceptMove(label="a", candidate_share=0.031)), _growth(
    ...     ConceptMove(label="a", baseline_share=0.004, candidate_share=0.031)
    ... )
    ('3.1 % of its strength', '3.1 % of its strength, before 0.4 %')
    """
    before = "" if concept.baseline_share is None else f", before {100 * concept.baseline_share:.2g} %"
    return f"{100 * concept.candidate_share:.2g} % of its strength{before}"


def _spread(text: RepeatedText) -> str:
    return f"in {counted(text.documents, 'document')} from {counted(text.clusters, 'independent source')}"


def _narrowing(prompt: PromptMove) -> str:
    return (
        f"entropy {prompt.candidate_entropy:.2f} nats, before {prompt.baseline_entropy:.2f}; "
        f"first choice {prompt.candidate_top1:.0%}, before {prompt.baseline_top1:.0%}"
    )
