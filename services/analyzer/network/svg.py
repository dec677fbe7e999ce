"""A drawing of a network as an SVG file that stands by itself: no scripts, no links, words for screen readers."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from ouroscope.layout import Place, force_layout
from ouroscope.records.analysis import Concept, NetworkDrawing

WIDTH, HEIGHT = 960, 720
_MARGIN_X, _MARGIN_Y = 90, 48
_CAPTION = 34
# Height of the strip at the bottom with words about the picture.
_LONGEST_LABEL = 24
_SPOKEN = 8
# Concepts that the description names.
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_KEY = "Size of a circle: strength of the concept. Width of a line: weight of the relation."
_STYLE = """
svg { background: #fff; font-family: system-ui, "Segoe UI", Roboto, "Noto Sans", Arial, sans-serif; }
.relation { stroke: #5b7690; stroke-linecap: round; }
.caption { fill: #46586b; font-size: 13px; }
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


@dataclass(frozen=True, slots=True)
class Drawn:
    """What there is to be drawn, of which a drawing has the strongest."""

    concepts: int
    """Of the network."""
    relations: int
    """Among the concepts of the drawing."""


def svg(drawing: NetworkDrawing, whole: Drawn | None = None) -> bytes:
    """Write the concepts and relations of `drawing` as SVG in UTF-8; equal drawings give equal bytes.

    Args:
        drawing: what is shown.
        whole: how much there is; None where that is all.
    """
    counted = _counted(drawing, whole or Drawn(len(drawing.concepts), len(drawing.relations)))
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
    _add(root, "desc", {"id": "description"}, _described(drawing, counted))
    _add(root, "style", {}, _STYLE)
    places = _places(drawing)
    _draw_relations(root, drawing, places)
    _draw_concepts(root, drawing, places)
    _draw_names(root, drawing, places)
    _draw_caption(root, drawing, counted)
    content: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return content


def _add(parent: Element, name: str, attributes: Mapping[str, str], text: str = "") -> Element:
    # ElementTree escapes what is markup; what no XML file may hold it would write as it is.
    element = ElementTree.SubElement(parent, name, dict(attributes))
    element.text = _NOT_IN_XML.sub("\ufffd", text)
    return element


def _counted(drawing: NetworkDrawing, whole: Drawn) -> str:
    return (
        f"{_of(len(drawing.concepts), whole.concepts, 'concept')} and "
        f"{_of(len(drawing.relations), whole.relations, 'relation')} among them"
    )


def _of(shown: int, there_are: int, name: str) -> str:
    names = name if there_are == 1 else f"{name}s"
    return f"{shown:,} {names}" if shown == there_are else f"the {shown:,} strongest of {there_are:,} {names}"


def _described(drawing: NetworkDrawing, counted: str) -> str:
    if not drawing.concepts:
        return "No concepts."
    names = ", ".join(concept.label for concept in drawing.concepts[:_SPOKEN])
    return f"{counted[0].upper()}{counted[1:]}; the strongest concepts: {names}. {_KEY}"


def _draw_caption(root: Element, drawing: NetworkDrawing, counted: str) -> None:
    first, second = HEIGHT - _CAPTION + 10, HEIGHT - _CAPTION + 27
    at = {"class": "caption", "x": "12"}
    _add(root, "text", {**at, "y": str(first)}, f"Semantic network ({drawing.construction}): {counted}")
    _add(root, "text", {**at, "y": str(second)}, _KEY)


def _places(drawing: NetworkDrawing) -> Sequence[Place]:
    """Return where each concept stands, in units of the picture."""
    labels = [concept.label for concept in drawing.concepts]
    weights = {tuple(sorted((labels[r.source], labels[r.target]))): r.weight for r in drawing.relations}
    laid_out = force_layout(labels, weights)  # type: ignore[arg-type]  # sorted pairs are pairs
    middle = (HEIGHT - _CAPTION) / 2
    half_width, half_height = WIDTH / 2 - _MARGIN_X, middle - _MARGIN_Y
    return [(WIDTH / 2 + x * half_width, middle + y * half_height) for x, y in map(laid_out.__getitem__, labels)]


def _draw_relations(root: Element, drawing: NetworkDrawing, places: Sequence[Place]) -> None:
    heaviest = max((relation.weight for relation in drawing.relations), default=1.0)
    # The heaviest last, on top.
    for relation in reversed(drawing.relations):
        share = math.sqrt(relation.weight / heaviest)
        (x1, y1), (x2, y2) = places[relation.source], places[relation.target]
        ends = {"x1": _number(x1), "y1": _number(y1), "x2": _number(x2), "y2": _number(y2)}
        width, opacity = _number(0.6 + 3.4 * share), f"{0.18 + 0.42 * share:.2f}"
        line = _add(root, "line", {"class": "relation", **ends, "stroke-width": width, "stroke-opacity": opacity})
        names = " and ".join(_short(drawing.concepts[end].label) for end in (relation.source, relation.target))
        _add(line, "title", {}, f"{names}: weight {relation.weight:g}")


def _draw_concepts(root: Element, drawing: NetworkDrawing, places: Sequence[Place]) -> None:
    for concept, (x, y) in zip(drawing.concepts, places, strict=True):
        radius = _number(_radius(concept, drawing))
        circle = _add(root, "circle", {"class": "concept", "cx": _number(x), "cy": _number(y), "r": radius})
        _add(circle, "title", {}, _told(concept))


def _draw_names(root: Element, drawing: NetworkDrawing, places: Sequence[Place]) -> None:
    """Name the concepts, strongest first; one whose name would lie on another is told where the mouse rests on it."""
    taken = [_round(place, _radius(concept, drawing)) for concept, place in zip(drawing.concepts, places, strict=True)]
    for concept, place in zip(drawing.concepts, places, strict=True):
        label = _short(concept.label)
        boxes = _boxes(label, place, _radius(concept, drawing))
        found = next((pair for pair in boxes if not any(pair[0].overlaps(other) for other in taken)), None)
        if found:
            box, size = found
            taken.append(box)
            at = {"x": _number((box.left + box.right) / 2), "y": _number(box.bottom - 0.25 * size)}
            name = {"class": "name", **at, "text-anchor": "middle", "font-size": _number(size)}
            # It may lie where the mouse looks for a circle, whose words it would hide.
            _add(_add(root, "text", name, label), "title", {}, _told(concept))


def _short(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1] + "…"


def _told(concept: Concept) -> str:
    return f"{concept.label}: strength {concept.strength:g}, degree {concept.degree}"


def _round(place: Place, radius: float) -> _Box:
    return _Box(place[0] - radius, place[1] - radius, place[0] + radius, place[1] + radius)


def _boxes(label: str, place: Place, radius: float) -> Iterator[tuple[_Box, float]]:
    """Yield where a name may stand, and in which size: around its concept, at last in small letters."""
    x, y = place
    for size in (11 + 0.45 * radius, 10.0):
        width, height = 0.58 * size * len(label) + 4, 1.25 * size
        aside, slant = radius + 3 + width / 2, 0.7 * radius + width / 2
        above, beside, below = y - radius - height, y - height / 2, y + radius
        straight = ((0.0, above), (0.0, below), (aside, beside), (-aside, beside))
        corners = itertools.product((slant, -slant), (y - 0.7 * radius - height, y + 0.7 * radius))
        for dx, top in (*straight, *corners):
            box = _Box(x + dx - width / 2, top, x + dx + width / 2, top + height)
            if box.left >= 0 and box.right <= WIDTH and box.top >= 0 and box.bottom <= HEIGHT - _CAPTION:
                yield box, size


def _radius(concept: Concept, drawing: NetworkDrawing) -> float:
    strongest = max((other.strength for other in drawing.concepts), default=1.0) or 1.0
    # Many are drawn smaller, so that their names find room.
    return (5 + 15 * math.sqrt(concept.strength / strongest)) * min(1.0, math.sqrt(40 / len(drawing.concepts)))


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
