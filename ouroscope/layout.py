"""Where the concepts of a network stand in a drawing: the same network always stands the same way. Draws nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

_ROUNDS = 160
_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))

Place = tuple[float, float]


def force_layout(labels: Sequence[str], weights: Mapping[tuple[str, str], float]) -> dict[str, Place]:
    """Return places in which related concepts are near and no two are on top of each other.

    Fruchterman and Reingold's forces from a fixed beginning (a sunflower, the first label in the middle), so the same
    network is always drawn the same way.
    """
    count = len(labels)
    if not count:
        return {}
    index = {label: place for place, label in enumerate(labels)}
    spots = [_sunflower(place, count) for place in range(count)]
    largest = max(weights.values(), default=1.0)
    edges = [(index[a], index[b], math.sqrt(weight / largest)) for (a, b), weight in sorted(weights.items()) if a != b]
    ideal = 1.6 / math.sqrt(count)
    for turn in range(_ROUNDS):
        moves = _forces(spots, edges, ideal)
        reach = 0.12 * (1 - turn / _ROUNDS)
        spots = [_moved(spot, move, reach) for spot, move in zip(spots, moves, strict=True)]
    return dict(zip(labels, _fitted(spots), strict=True))


def _sunflower(place: int, count: int) -> Place:
    radius, angle = math.sqrt((place + 0.5) / count), place * _GOLDEN_ANGLE
    return radius * math.cos(angle), radius * math.sin(angle)


def _forces(spots: Sequence[Place], edges: Sequence[tuple[int, int, float]], ideal: float) -> list[list[float]]:
    moves = [[-0.6 * x * ideal, -0.6 * y * ideal] for x, y in spots]  # a little pull to the middle
    square = ideal * ideal
    for i, (xi, yi) in enumerate(spots):
        move = moves[i]
        for j in range(i + 1, len(spots)):
            dx, dy = xi - spots[j][0], yi - spots[j][1]
            push = square / (dx * dx + dy * dy + 1e-4)
            move[0] += dx * push
            move[1] += dy * push
            moves[j][0] -= dx * push
            moves[j][1] -= dy * push
    for i, j, weight in edges:
        dx, dy = spots[i][0] - spots[j][0], spots[i][1] - spots[j][1]
        pull = weight * math.hypot(dx, dy) / ideal
        for end, sign in ((i, -1), (j, 1)):
            moves[end][0] += sign * dx * pull
            moves[end][1] += sign * dy * pull
    return moves


def _moved(spot: Place, move: Sequence[float], reach: float) -> Place:
    length = math.hypot(*move)
    share = min(1.0, reach / length) if length else 0.0
    return spot[0] + move[0] * share, spot[1] + move[1] * share


def _fitted(spots: Sequence[Place]) -> list[Place]:
    """Stretch places over [-1, 1] in both directions, mostly by rank, so that no part of it is crowded."""
    axes = [_evened([spot[axis] for spot in spots]) for axis in (0, 1)]
    return list(zip(*axes, strict=True))


def _evened(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    order = sorted(range(len(values)), key=lambda place: values[place])
    rank = {place: position for position, place in enumerate(order)}
    last = max(1, len(values) - 1)
    return [
        0.3 * (2 * (value - low) / (high - low or 1.0) - 1) + 0.7 * (2 * rank[place] / last - 1)
        for place, value in enumerate(values)
    ]
