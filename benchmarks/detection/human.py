"""Human-only sequences as a monitor sees them: how often the default policy raises a false alarm.

    python -m benchmarks.detection.human OUT wiki=wiki.jsonl news=news.jsonl abstracts=sciabs.jsonl

A sequence is a baseline and ten generations of human text of one domain, resampled by source. The domains are the
files given, and the embedded corpus. Sources are cut into two halves by a hash of their names; a sequence is of one
half, and within it the baselines share no source with the generations. Generations share none with each other until
the half has no more: then its deck is shuffled again. Sequences of one half share its sources, of course: that many
random sequences raise no alarm is a statement about these corpora, drawn again and again, not about others.

Sequences are of several kinds: plain ones, and ones in which something changes that is not collapse. The same ten
generations are judged beside a small and a large baseline. Only text and networks are judged: people have no next-token
probabilities.

Every sequence is a file in OUT and is not made again. Each document is parsed once, however often it is drawn.
"""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.detection.judge import HumanSequence, replay, step_of
from benchmarks.detection.kinds import GENERATIONS, Plan, plans
from benchmarks.detection.record import Value
from benchmarks.detection.topics import split_by_topic
from benchmarks.detection.worlds import Deck, Half, Source, blended, half_of, sources_of, thirds
from benchmarks.parsed_once import ParsedOnce
from ouroscope.canonical import canonical_json
from ouroscope.corpora.docstrings import gather
from ouroscope.corpora.readers import read_documents
from ouroscope.records.analysis import Family
from ouroscope.records.documents import View
from services.analyzer.analysis import Options, measure
from services.analyzer.catalogue import METRICS
from services.analyzer.doubts import LENGTH
from services.analyzer.jackknife import GROUPS
from services.analyzer.keys import cluster_key
from services.analyzer.modelled import ModelSample
from services.analyzer.parsing.parser import load_parser
from services.analyzer.sample import LADDER, Accumulator, words_per_group
from services.analyzer.side import Side, side_of
from services.analyzer.spread import shipped_spread
from services.analyzer.tools import Tools

MORE = 1.1
"""Each time the groups do not fill, so many times the words are drawn."""
RIVALS = ("distinct_1", "types", "type_token_ratio", "self_bleu_4")
"""What single thresholds on text look at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What there is to draw from, and what measures."""

    worlds: Mapping[tuple[str, Half], tuple[Source, ...]]
    tools: Tools
    metrics: tuple[str, ...]

    def side(self, accumulator: Accumulator) -> Side:
        """Measure what was drawn."""
        report, prints = measure(accumulator.finalise(), ModelSample(), Options(metrics=self.metrics), self.tools)
        # Networks in fingerprints serve overlaps with the baseline, which have no vote and cost a sixth of the time.
        return side_of(report, [replace(one, networks={}) for one in prints])


def main() -> None:
    """Make the sequences that are not there yet."""
    options = _options()
    bench = _bench(options)
    domains = list(dict.fromkeys(domain for domain, _ in bench.worlds))
    for plan in plans(domains, bench.worlds):
        file = options.out / f"{plan.name}.json"
        if not file.exists():
            _write(file, canonical_json(list(sequences(bench, plan))))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("domains", nargs="*", metavar="name=path")
    parser.add_argument("--parser", default="en_ouro_sm")
    return parser.parse_args()


def _bench(options: argparse.Namespace) -> Bench:
    corpora = {name: list(read_documents(path)) for name, _, path in (one.partition("=") for one in options.domains)}
    worlds = {
        (name, half): tuple(source for source in sources_of(documents) if half_of(source) is half)
        for name, documents in (corpora | {"docstrings": list(gather().documents)}).items()
        for half in Half
    }
    parser = load_parser(options.parser)
    tools = Tools(parser=ParsedOnce(parser) if parser else None)  # type: ignore[arg-type]  # looks like a Parser
    return Bench(worlds=worlds, tools=tools, metrics=tuple(_metrics(tools)))


def _metrics(tools: Tools) -> Iterator[str]:
    for metric in METRICS:
        votes = metric.headline and metric.family is not Family.MODEL
        if (votes or metric.id in (*RIVALS, LENGTH)) and not metric.needs & tools.lacking.keys():
            yield metric.id


def sequences(bench: Bench, plan: Plan) -> Iterator[HumanSequence]:
    """Draw ten generations, measure them once, and judge them beside each baseline."""
    rng = random.Random(plan.name)
    ours, theirs = _sides(bench, plan, rng)
    baselines, rest = _baselines(plan, ours, rng)
    decks = (Deck(rest, rng), Deck(theirs, rng) if theirs else None)
    generations = [_generation(plan, decks, number) for number in range(1, GENERATIONS + 1)]
    sides = [(number, bench.side(one)) for number, one in enumerate(generations, 1)]
    for size, drawn in baselines.items():
        baseline = bench.side(drawn)
        told = replay(baseline, sides, shipped_spread())
        yield HumanSequence(
            kind=plan.kind.name,
            baseline=size,
            half=plan.half.value,
            domain=plan.domain,
            number=plan.number,
            baseline_words=drawn.tokens,
            words=tuple(one.tokens for one in generations),
            values=values_of(baseline),
            steps=tuple(step_of(at, one, values_of(side)) for one, (at, side) in zip(told, sides, strict=True)),
        )


def values_of(side: Side) -> tuple[Value, ...]:
    """Return what single thresholds look at, at the one rung that was measured."""
    found = {value.id: value.value for rung in side.report.rungs for value in rung.metrics}
    return tuple(Value(id=id, value=found.get(id)) for id in RIVALS)


def _sides(bench: Bench, plan: Plan, rng: random.Random) -> tuple[list[Source], list[Source]]:
    """Return the sources that the baseline stands for, and those that come in."""
    sources = bench.worlds[plan.domain, plan.half]
    if plan.kind.changes == "topic":
        return split_by_topic(sources, rng)
    if plan.kind.changes == "domain":
        others = sorted({domain for domain, _ in bench.worlds} - {plan.domain})
        return list(sources), list(bench.worlds[rng.choice(others), plan.half])
    return list(sources), []


def _baselines(
    plan: Plan, sources: Sequence[Source], rng: random.Random
) -> tuple[dict[int, Accumulator], list[Source]]:
    """Return the baselines by size, the small one of the first sources of the large one, and the sources they leave.

    They leave at least half of the sources, so the large one is smaller than asked for where a corpus has too little.
    """
    shuffled, drawn, taken = rng.sample(sources, len(sources)), {}, 0
    for size in plan.kind.baselines:
        share = max(words_per_group(rung) for rung in LADDER if rung <= size)
        offered = (source.some(rng, share) for source in shuffled[: len(shuffled) // 2])
        drawn[size], count = _drawn(plan, offered, size)
        taken = max(taken, count)
    return drawn, shuffled[taken:]


def _generation(plan: Plan, decks: tuple[Deck, Deck | None], number: int) -> Accumulator:
    kind, (ours, theirs) = plan.kind, decks
    share = words_per_group(kind.rung)
    dealt = ours.deal(share)
    if theirs and number >= kind.since:
        dealt = blended(dealt, theirs.deal(share), kind.share)
    return _drawn(plan, map(thirds, dealt) if kind.shorter else dealt, kind.words)[0]


def _drawn(plan: Plan, offered: Iterator[Source], words: int) -> tuple[Accumulator, int]:
    """Fold in sources until there are enough words and the rung is full; return how many were taken as well."""
    # The second rung is never reached: it makes the accumulator keep all that it is given.
    drawn, sizes, wanted = Accumulator(View.WHOLE, (plan.kind.rung, LADDER[-1])), dict[int, int](), float(words)
    for source in offered:
        before = drawn.tokens
        documents = source.documents(plan.name)
        drawn.fold_all(documents)
        sizes[cluster_key(documents[0].cluster)] = drawn.tokens - before
        if drawn.tokens >= wanted:
            if not plan.kind.filled or fills(sizes, plan.kind.rung):
                break
            wanted *= MORE
    return drawn, len(sizes)


def fills(sizes: Mapping[int, int], rung: int) -> bool:
    """Return whether clusters of these sizes, by key, fill each group of the rung; cluster r is in group r % 20."""
    ordered = [sizes[key] for key in sorted(sizes)]
    return all(sum(ordered[group::GROUPS]) >= words_per_group(rung) for group in range(GROUPS))


def _write(file: Path, content: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(f".{os.getpid()}.draft")
    draft.write_text(content, encoding="ascii")
    draft.rename(file)


if __name__ == "__main__":
    main()
