"""A drawing of a network as an SVG file that stands by itself: no scripts, no links, words for screen readers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from ouroscope.records.analysis import Concept, NetworkDrawing
from services.analyzer.network.layout import Place, force_layout

WIDTH, HEIGHT = 960, 720
_MARGIN_X, _MARGIN_Y = 90, 56
_LONGEST_LABEL = 24
_SPOKEN = 8
# Concepts that the description names.
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_STYLE = """
svg { background: #fff; font-family: system-ui, "Segoe UI", Roboto, "Noto Sans", Arial, sans-serif; }
.relation { stroke: #5b7690; stroke-linecap: round; }
.concept { fill: #2f6f9f; stroke: #fff; stroke-width: 1.5; }
.name { fill: #16202b; stroke: #fff; stroke-width: 3.5; stroke-linejoin: round; paint-order: stroke; }
"""


@dataclass(frozen=True, slots=True)
class _Box:
    """A part of the picture that a name takes."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: _Box) -> bool:
        return not (
            self.right <= other.left or other.right <= self.left or self.bottom <= other.top or other.bottom <= self.top
        )


def svg(drawing: NetworkDrawing) -> bytes:
    """Write the concepts and relations of `drawing` as SVG in UTF-8; equal drawings give equal bytes."""
    root = Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {WIDTH} {HEIGHT}",
            "width": str(WIDTH),
            "height": str(HEIGHT),
            "role": "img",
            "aria-labelledby": "title description",
        },
    )
    _add(root, "title", {"id": "title"}, f"Semantic network ({drawing.construction})")
    _add(root, "desc", {"id": "description"}, _described(drawing))
    _add(root, "style", {}, _STYLE)
    places = _places(drawing)
    _draw_relations(root, drawing, places)
    _draw_concepts(root, drawing, places)
    _draw_names(root, drawing, places)
    content: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return content


def _add(parent: Element, name: str, attributes: Mapping[str, str], text: str = "") -> Element:
    # ElementTree escapes what is markup; what no XML file may hold it would write as it is.
    element = ElementTree.SubElement(parent, name, dict(attributes))
    element.text = _NOT_IN_XML.sub("\ufffd", text)
    return element


def _described(drawing: NetworkDrawing) -> str:
    if not drawing.concepts:
        return "No concepts."
    names = ", ".join(concept.label for concept in drawing.concepts[:_SPOKEN])
    return (
        f"{len(drawing.concepts)} concepts and {len(drawing.relations)} relations among them; the strongest: {names}."
    )


def _places(drawing: NetworkDrawing) -> Sequence[Place]:
    """Return where each concept stands, in units of the picture."""
    labels = [concept.label for concept in drawing.concepts]
    weights = {tuple(sorted((labels[r.source], labels[r.target]))): r.weight for r in drawing.relations}
    laid_out = force_layout(labels, weights)  # type: ignore[arg-type]  # sorted pairs are pairs
    half_width, half_height = WIDTH / 2 - _MARGIN_X, HEIGHT / 2 - _MARGIN_Y
    return [(WIDTH / 2 + x * half_width, HEIGHT / 2 + y * half_height) for x, y in map(laid_out.__getitem__, labels)]


def _draw_relations(root: Element, drawing: NetworkDrawing, places: Sequence[Place]) -> None:
    heaviest = max((relation.weight for relation in drawing.relations), default=1.0)
    # The heaviest last, on top.
    for relation in reversed(drawing.relations):
        share = math.sqrt(relation.weight / heaviest)
        (x1, y1), (x2, y2) = places[relation.source], places[relation.target]
        ends = {"x1": _number(x1), "y1": _number(y1), "x2": _number(x2), "y2": _number(y2)}
        width, opacity = _number(0.6 + 3.4 * share), f"{0.18 + 0.42 * share:.2f}"
        _add(root, "line", {"class": "relation", **ends, "stroke-width": width, "stroke-opacity": opacity})


def _draw_concepts(root: Element, drawing: NetworkDrawing, places: Sequence[Place]) -> None:
    for concept, (x, y) in zip(drawing.concepts, places, strict=True):
        radius = _number(_radius(concept, drawing))
        circle = _add(root, "circle", {"class": "concept", "cx": _number(x), "cy": _number(y), "r": radius})
        _add(circle, "title", {}, f"{concept.label}: strength {concept.strength:g}, {concept.degree} relations")


def _draw_names(root: Element, drawing: NetworkDrawing, places: Sequence[Place]) -> None:
    """Name the concepts, strongest first; one whose name would lie on another is told where the mouse rests on it."""
    taken = [_round(place, _radius(concept, drawing)) for concept, place in zip(drawing.concepts, places, strict=True)]
    for concept, place in zip(drawing.concepts, places, strict=True):
        label = concept.label if len(concept.label) <= _LONGEST_LABEL else concept.label[: _LONGEST_LABEL - 1] + "…"
        radius = _radius(concept, drawing)
        size = 11 + 0.45 * radius
        for box in _boxes(label, size, place, radius):
            if not any(box.overlaps(other) for other in taken):
                taken.append(box)
                at = {"x": _number((box.left + box.right) / 2), "y": _number(box.bottom - 0.25 * size)}
                _add(root, "text", {"class": "name", **at, "text-anchor": "middle", "font-size": _number(size)}, label)
                break


def _round(place: Place, radius: float) -> _Box:
    return _Box(place[0] - radius, place[1] - radius, place[0] + radius, place[1] + radius)


def _boxes(label: str, size: float, place: Place, radius: float) -> Iterator[_Box]:
    """Yield where a name may stand: above its concept, below it, to the right, to the left."""
    width, height = 0.58 * size * len(label) + 4, 1.25 * size
    x, y = place
    aside = radius + 3 + width / 2
    for dx, top in ((0.0, y - radius - height), (0.0, y + radius), (aside, y - height / 2), (-aside, y - height / 2)):
        box = _Box(x + dx - width / 2, top, x + dx + width / 2, top + height)
        if box.left >= 0 and box.right <= WIDTH and box.top >= 0 and box.bottom <= HEIGHT:
            yield box


def _radius(concept: Concept, drawing: NetworkDrawing) -> float:
    strongest = max((other.strength for other in drawing.concepts), default=1.0) or 1.0
    return 5 + 15 * math.sqrt(concept.strength / strongest)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
