"""How good the base model is: its held-out perplexity between a perfect model and one that guesses blindly."""

from __future__ import annotations

import math

from markupsafe import Markup

from ouroscope.records.runs import Run
from services.coordinator.report.svg import Scale, element, figure, mark, picture

WIDTH, HEIGHT = 430, 104
_LEFT, _RIGHT, _LINE = 30, 400, 52


def quality_chart(run: Run, key: str) -> Markup | None:
    """Draw the three perplexities on a logarithmic line, or return None where the model was not examined."""
    if run.base_perplexity is None or run.base_perplexity <= 0:
        return None
    known = [("base model", run.base_perplexity, "arm0"), ("unigram", run.unigram_perplexity, "people")]
    known.append(("blind guess", run.uniform_perplexity, "people"))
    marks = [(name, value, style) for name, value, style in known if value is not None and value > 0]
    worst = max(value for _, value, _ in marks)
    x = Scale(0.0, math.log(max(worst, 2.0)), _LEFT, _RIGHT)
    drawn = [element("line", x1=_LEFT, x2=_RIGHT, y1=_LINE, y2=_LINE, class_="zero")]
    drawn += _named("certain", "1", _LEFT, above=True)
    for place, (name, value, style) in enumerate(marks):
        at = x(math.log(max(value, 1.0)))
        drawn.append(mark("circle", at, _LINE, 5 if place == 0 else 4, class_=f"mark {style}"))
        # Neighbours are named on different sides of the line, so that names have room.
        drawn += _named(name, figure(value), at, above=place % 2 == 0)
    told = "; ".join(f"{name}: perplexity {figure(value)}" for name, value, _ in marks)
    return picture(WIDTH, HEIGHT, "Perplexity on held-out human text", told + ".", *drawn, key=key)


def _named(name: str, value: str, at: float, *, above: bool) -> list[Markup]:
    first, second = (_LINE - 27, _LINE - 13) if above else (_LINE + 21, _LINE + 35)
    inside = min(max(at, 32.0), WIDTH - 34.0)
    name_at = element("text", name, x=inside, y=first, class_="label middle")
    return [name_at, element("text", value, x=inside, y=second, class_="tick middle")]


def quality_sentence(run: Run) -> str | None:
    """Say what the base model is worth, without making it sound better than it is."""
    if run.base_perplexity is None:
        return None
    told = f"The base model is as unsure of the next token as a choice among {figure(run.base_perplexity)} equal ones"
    if run.unigram_perplexity is not None:
        told += f"; a model that knows only how frequent tokens are, {figure(run.unigram_perplexity)}"
    if run.uniform_perplexity is not None:
        told += f"; a blind guess, {figure(run.uniform_perplexity)}"
    weak = run.unigram_perplexity is not None and run.base_perplexity >= 0.8 * run.unigram_perplexity
    return told + (". It has hardly learnt the order of words: read the rest with that in mind." if weak else ".")
