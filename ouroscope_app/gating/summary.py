"""The answer of a gate in the terminal: short enough to be read in the log of a job."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape

from ouroscope_app.family_table import family_table, what_moved
from ouroscope_app.gating.question import Answered, next_step
from ouroscope_app.printable import printable

LONGEST_SENTENCE = 2000


def show_answer(console: Console, answered: Answered) -> None:
    """Print the decision, why, the families, what moved, and what to do next."""
    style = "green" if answered.decision.passed else "bold red"
    console.print(f"[{style}]{answered.title}[/]")
    console.print(escape(printable(answered.decision.sentence, LONGEST_SENTENCE)) + "\n", soft_wrap=True)
    if answered.basis:
        console.print(escape("\n".join(answered.basis)) + "\n", soft_wrap=True)
    console.print(family_table(answered.decision.comparison))
    for line in (*what_moved(answered.decision.comparison), *_next(answered)):
        console.print(escape(line), soft_wrap=True)


def _next(answered: Answered) -> Iterator[str]:
    step = next_step(answered)
    if step.said:
        yield f"\nnext: {step.said} {step.command}".rstrip()
