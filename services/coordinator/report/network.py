"""The semantic network at the first and the last generation of every arm, each concept always in the same place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ouroscope.layout import Place, force_layout
from ouroscope.records.analysis import Concept, NetworkDrawing
from services.coordinator.report.lines import arm_style
from services.coordinator.report.svg import Scale, element, picture
from services.coordinator.report.view import RunView

WIDTH, HEIGHT = 460, 380
_MARGIN_X, _MARGIN_Y = 46, 24
_LABELS = 28

Places = Mapping[str, Place]


@dataclass(frozen=True, slots=True)
class Panel:
    """One drawn network."""

    number: int
    drawing: Markup
    concepts: int
    lost: int
    """Concepts of the first panel of the same arm that are not in this one."""


def drawings(view: RunView, arm: str) -> list[tuple[int, NetworkDrawing]]:
    """Return the networks of the first and the last generation of an arm that have one (of its first seed)."""
    known = [
        (point.number, point.report.drawing)
        for point in view.of(arm)
        if point.seed == min(view.seeds(arm))
        and point.report
        and point.report.drawing
        and point.report.drawing.concepts
    ]
    return known[:1] + known[-1:] if len(known) > 1 else known


def shared_places(view: RunView) -> Places:
    """Return one place for every concept of any drawn network, in [-1, 1] x [-1, 1]."""
    shown = [drawing for arm in view.arms for _, drawing in drawings(view, arm.name)]
    weights: dict[tuple[str, str], float] = {}
    strength: dict[str, float] = {}
    for drawing in shown:
        for concept in drawing.concepts:
            strength[concept.label] = strength.get(concept.label, 0.0) + concept.strength
        for relation in drawing.relations:
            ends = sorted((drawing.concepts[relation.source].label, drawing.concepts[relation.target].label))
            pair = (ends[0], ends[1])
            weights[pair] = weights.get(pair, 0.0) + relation.weight
    order = sorted(strength, key=lambda label: (-strength[label], label))
    return force_layout(order, weights)


def panels(view: RunView, arm: str, places: Places, key: str) -> list[Panel]:
    """Return the drawn networks of an arm."""
    shown = drawings(view, arm)
    style, _ = arm_style(view, arm)
    first = {concept.label for concept in shown[0][1].concepts} if shown else set()
    found = []
    for number, drawing in shown:
        here = {concept.label for concept in drawing.concepts}
        title = f"Semantic network of arm {arm} at generation {number}"
        drawn = _drawn(drawing, places, first, style, title, f"{key}-{number}")
        found.append(Panel(number, drawn, len(here), len(first - here)))
    return found


def _drawn(drawing: NetworkDrawing, places: Places, first: set[str], style: str, title: str, key: str) -> Markup:
    x = Scale(-1.0, 1.0, _MARGIN_X, WIDTH - _MARGIN_X)
    y = Scale(-1.0, 1.0, _MARGIN_Y, HEIGHT - _MARGIN_Y)
    at = {label: (x(place[0]), y(place[1])) for label, place in places.items()}
    here = {concept.label for concept in drawing.concepts}
    strongest = max((concept.strength for concept in drawing.concepts), default=1.0) or 1.0
    lost = [element("circle", cx=at[label][0], cy=at[label][1], r=3, class_="lost") for label in sorted(first - here)]
    nodes = [
        _node(concept, at[concept.label], strongest, concept.label in first, style) for concept in drawing.concepts
    ]
    labels = _labels(sorted(drawing.concepts, key=lambda c: (-c.strength, c.label)), at, strongest)
    return picture(WIDTH, HEIGHT, title, _described(drawing), *_relations(drawing, at), *lost, *nodes, *labels, key=key)


def _relations(drawing: NetworkDrawing, at: Mapping[str, Place]) -> list[Markup]:
    heaviest = max((relation.weight for relation in drawing.relations), default=1.0) or 1.0
    drawn = []
    for relation in drawing.relations:
        ends = [at[drawing.concepts[end].label] for end in (relation.source, relation.target)]
        share = math.sqrt(relation.weight / heaviest)
        style = {"x1": ends[0][0], "y1": ends[0][1], "x2": ends[1][0], "y2": ends[1][1]}
        drawn.append(element("line", **style, class_="relation", stroke_width=f"{0.4 + 2.4 * share:.2f}"))
    return drawn


def _node(concept: Concept, place: Place, strongest: float, familiar: bool, style: str) -> Markup:
    radius = _radius(concept, strongest)
    tip = element("title", f"{concept.label}: {concept.degree} relations")
    kind = "familiar" if familiar else f"new {style}"
    return element("circle", tip, cx=place[0], cy=place[1], r=radius, class_=f"concept {kind} {style}")


def _radius(concept: Concept, strongest: float) -> float:
    return 2.5 + 6.5 * concept.strength / strongest


def _labels(concepts: Sequence[Concept], at: Mapping[str, Place], strongest: float) -> list[Markup]:
    """Name the strongest concepts, leaving out a name that would lie on another."""
    drawn: list[Markup] = []
    taken: list[tuple[float, float, float]] = []
    for concept in concepts:
        x, y = at[concept.label]
        text = concept.label if len(concept.label) <= 16 else concept.label[:15] + "…"
        y -= _radius(concept, strongest) + 3
        half = 3.7 * len(text)
        x = min(max(x, half + 2), WIDTH - half - 2)
        if len(drawn) < _LABELS and not any(abs(x - a) < half + h and abs(y - b) < 13 for a, b, h in taken):
            taken.append((x, y, half))
            drawn.append(element("text", text, x=x, y=max(y, 10.0), class_="name middle"))
    return drawn


def _described(drawing: NetworkDrawing) -> str:
    strongest = sorted(drawing.concepts, key=lambda c: (-c.strength, c.label))[:8]
    names = ", ".join(concept.label for concept in strongest)
    return f"{len(drawing.concepts)} concepts and {len(drawing.relations)} relations; the strongest: {names}."
