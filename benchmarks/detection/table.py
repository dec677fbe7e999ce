"""The tables of docs/detection.md, from the figures that are committed.

python -m benchmarks.detection.table
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from benchmarks.coverage import clopper_pearson
from benchmarks.detection.arms import GENERATIONS
from benchmarks.detection.figures import PLAIN, Human, HumanGroup, LoopResult, Loops, load_results
from benchmarks.detection.leads import Interval, lead, mean_lead, over_loops
from benchmarks.detection.rivals import PERPLEXITY
from benchmarks.detection.worlds import Half

ANY, COLLAPSE = "verdict: any alarm", "verdict: COLLAPSE"
FLAGGED = ("replace-50", "replace-75", "low-temperature", "narrow-prompts")
"""Arms with 50 % synthetic text or more, which must be found."""
CONTROLS = ("human-fresh", "accumulate-fresh")

BEGIN, END = "<!-- tables: python -m benchmarks.detection.table -->", "<!-- end of tables -->"

T = TypeVar("T")
Key = TypeVar("Key", bound=Hashable)


def main() -> None:
    """Print the tables, or put them into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, metavar="PAGE")
    into = parser.parse_args().into
    found = tables(*load_results())
    if into:
        into.write_text(with_tables(into.read_text(encoding="utf-8"), found), encoding="utf-8")
    else:
        print(found)


def tables(human: Human, loops: Loops) -> str:
    """Return all tables as Markdown."""
    parts = (
        ("False alarms per human sequence of ten generations", false_alarms(human)),
        ("Plain sequences by domain, reporting half", by_domain(human)),
        ("What was said of the generations of human sequences, reporting half", verdicts(human)),
        ("Detection by trained loops", detection(loops)),
        ("The verdict beside single thresholds", beside(human, loops)),
        ("Bounds that the calibration half gave", bounds(human)),
    )
    return "\n".join("\n".join((f"### {title}", "", *lines, "")) for title, lines in parts)


def with_tables(page: str, found: str) -> str:
    """Return the page with these tables between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{found}\n{END}{after}"


def false_alarms(human: Human) -> Iterator[str]:
    """Yield a row for each kind, baseline and half, all domains together."""
    yield from _head("sequences", "baseline", "half", "n", "any alarm", "COLLAPSE", "largest lower end")
    for (kind, baseline, half), found in _together(human.groups, lambda one: (one.kind, one.baseline, one.half)):
        words = _range(one.baseline_words for one in found)
        yield _row(kind, f"{baseline:,} ({words})", half, *_told(found))


def by_domain(human: Human) -> Iterator[str]:
    """Yield a row for each domain of the plain sequences."""
    yield from _head("domain", "baseline", "n", "any alarm", "COLLAPSE", "largest lower end")
    for one in _reporting(human):
        if one.kind == PLAIN:
            yield _row(one.domain, f"{one.baseline_words:,}", *_told([one]))


def verdicts(human: Human) -> Iterator[str]:
    """Yield which part of the generations of each kind had which verdict."""
    names = sorted({verdict.name for one in _reporting(human) for verdict in one.verdicts})
    yield from _head("sequences", *names)
    for kind, found in _together(_reporting(human), lambda one: one.kind):
        counts = Counter[str]()
        for verdict in (verdict for one in found for verdict in one.verdicts):
            counts[verdict.name] += verdict.count
        yield _row(kind, *(f"{100 * counts[name] / counts.total():.1f} %" for name in names))


def detection(loops: Loops) -> Iterator[str]:
    """Yield a row for each recipe and arm: detection rate, first alarm, lead over the perplexity rule."""
    columns = [f"{name}, {what}" for name in (ANY, COLLAPSE) for what in ("found", "first generation", "lead")]
    yield from _head("recipe", "arm", "loops", "perplexity +10 % at generation", *columns)
    for (recipe, arm), found in _together(loops.loops, lambda one: (one.recipe, one.arm)):
        others = [alarm_of(one, PERPLEXITY.name) for one in found]
        cells = [cell for name in (ANY, COLLAPSE) for cell in _detected([alarm_of(one, name) for one in found], others)]
        yield _row(recipe, arm, str(len(found)), _when(others), *cells)


def beside(human: Human, loops: Loops) -> Iterator[str]:
    """Yield a row for the verdict and each rival: false alarms beside detection and lead in both recipes."""
    recipes = sorted({one.recipe for one in loops.loops})
    found = [f"{recipe}: {what}" for recipe in recipes for what in ("found", "lead over perplexity")]
    yield from _head("alarm", "plain human", "changed human", "control loops", *found)
    controls = [one for one in loops.loops if one.arm in CONTROLS]
    for name in (ANY, COLLAPSE, *(rival.name for rival in human.groups[0].rivals)):
        cells = [_human(human, name, plain) for plain in (True, False)]
        cells.append(_share(sum(alarm_of(one, name) is not None for one in controls), len(controls)))
        for recipe in recipes:
            cells += _of_recipe([one for one in loops.loops if one.recipe == recipe and one.arm in FLAGGED], name)
        yield _row(name, *cells)


def bounds(human: Human) -> Iterator[str]:
    """Yield the bounds that the calibration half gave."""
    yield from _head("rival", "bound")
    for one in human.bounds:
        yield _row(one.name, f"{100 * one.bound:.1f} %")


def alarm_of(loop: LoopResult, name: str) -> int | None:
    """Return the generation of the first alarm of the verdict or of a rival."""
    if name in (ANY, COLLAPSE):
        return loop.alarm if name == ANY else loop.collapse
    return next((one.generation for one in loop.rivals if one.name == name), None)


def alarms_of(group: HumanGroup, name: str) -> int:
    """Return how many sequences raised an alarm of the verdict or of a rival."""
    if name in (ANY, COLLAPSE):
        return group.alarms if name == ANY else group.collapses
    return next((one.count for one in group.rivals if one.name == name), 0)


def over_seeds(loops: Sequence[LoopResult], name: str) -> Interval:
    """Return the lead over the perplexity rule, with an interval over seeds: each gives the mean of its arms.

    Loops of one seed begin with the same text, so they are not independent of each other.
    """
    of_seeds = [
        mean_lead([alarm_of(one, name) for one in seed], [alarm_of(one, PERPLEXITY.name) for one in seed], GENERATIONS)
        for _, seed in _together(loops, lambda one: one.seed)
    ]
    return over_loops(of_seeds)


def _human(human: Human, name: str, plain: bool) -> str:
    if name == PERPLEXITY.name:
        return "-"
    groups = [one for one in _reporting(human) if (one.kind == PLAIN) is plain]
    return _share(sum(alarms_of(one, name) for one in groups), sum(one.sequences for one in groups))


def _of_recipe(loops: Sequence[LoopResult], name: str) -> tuple[str, str]:
    """Return detection and lead over all arms that must be found."""
    if not loops:
        return "-", "-"
    return _share(sum(alarm_of(one, name) is not None for one in loops), len(loops)), _interval(over_seeds(loops, name))


def _told(found: Sequence[HumanGroup]) -> tuple[str, str, str, str]:
    count = sum(one.sequences for one in found)
    lowers = [one.largest_lower for one in found if one.largest_lower is not None]
    alarms, collapses = (_share(sum(alarms_of(one, name) for one in found), count) for name in (ANY, COLLAPSE))
    return str(count), alarms, collapses, f"{max(lowers):.2f}" if lowers else "-"


def _detected(alarms: Sequence[int | None], others: Sequence[int | None]) -> tuple[str, str, str]:
    found = lead(alarms, others, GENERATIONS)
    censored = [f"{found.never} without alarm"] * bool(found.never)
    censored += [f"{found.other_never} where perplexity never crossed"] * bool(found.other_never)
    told = "; ".join([_interval(found.of), *censored])
    return _share(found.loops - found.never, found.loops), _when(alarms), told


def _when(alarms: Sequence[int | None]) -> str:
    known = sorted(one for one in alarms if one is not None)
    if not known:
        return "never"
    median = known[(len(alarms) - 1) // 2] if (len(alarms) - 1) // 2 < len(known) else None
    return f"{median if median is not None else 'later'} ({known[0]} to {'never' if None in alarms else known[-1]})"


def _share(count: int, of: int) -> str:
    if not of:
        return "-"
    lower, upper = clopper_pearson(count, of)
    return f"{count} of {of}, {100 * count / of:.1f} % ({100 * lower:.1f} to {100 * upper:.1f})"


def _interval(found: Interval) -> str:
    return f"{found.mean:.1f} ({found.lower:.1f} to {found.upper:.1f})"


def _range(values: Iterable[int]) -> str:
    found = sorted(set(values))
    return f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,} to {found[-1]:,}"


def _reporting(human: Human) -> list[HumanGroup]:
    return [one for one in human.groups if one.half == Half.REPORTING.value]


def _together(items: Iterable[T], key: Callable[[T], Key]) -> list[tuple[Key, list[T]]]:
    groups: dict[Key, list[T]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return list(groups.items())


def _head(*cells: str) -> Iterator[str]:
    yield _row(*cells)
    yield f"|{'---|' * len(cells)}"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
