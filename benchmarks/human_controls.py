"""What the verdicts say of human text, which has not collapsed: the measured ground of the margin and the far bound.

    python -m benchmarks.human_controls wiki=wiki.jsonl news=news.jsonl abstracts=sciabs.jsonl [--parser en_ouro_sm]

Four controls: halves of one corpus (cut at random between its sources, all of it and random parts of it), one domain
against another, a corpus against itself with 30 % of its documents replaced by repetitions of others, and the libraries
of the embedded corpus against each other. Prints what docs/log.md records, and whether each demand of the design holds;
exits with 1 if one does not. Each document is parsed once, however often it is measured.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.parsed_once import ParsedOnce
from ouroscope.corpora.docstrings import gather
from ouroscope.corpora.readers import read_documents
from ouroscope.records.analysis import Comparison, Family, Policy, Verdict
from ouroscope.records.documents import Document
from services.analyzer.analysis import analyze
from services.analyzer.catalogue import METRICS
from services.analyzer.comparison import compare
from services.analyzer.parsing.parser import NONE, load_parser
from services.analyzer.side import Side, side_of
from services.analyzer.spread import HumanSpread, read_spread, shipped_spread
from services.analyzer.tools import Tools

SIZES = (50_000, 100_000, 10**9)
"""Words of the parts of a corpus that are cut into halves; the last is all of it."""
MANY_CLUSTERS = 200
"""Clusters of each side from which halves must be called stable."""
DEFAULT = Policy()
WITHOUT_GUARD = Policy(max_novel_token_share=1.0)
SMALLEST = 60_000
"""Characters below which a library cannot reach the ladder."""
ALARMS = (Verdict.WARNING, Verdict.COLLAPSE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What measures and judges, and which demands failed."""

    tools: Tools
    spread: HumanSpread
    failed: list[str] = field(default_factory=list)

    def measure(self, documents: Iterable[Document]) -> Side:
        """Measure the headline metrics that the table can judge."""
        lacking = self.tools.lacking.keys()
        voting = (one for one in METRICS if one.headline and one.family is not Family.MODEL)
        ids = [one.id for one in voting if not one.needs & lacking]
        return side_of(*analyze(documents, metrics=ids, tools=self.tools))

    def judge(self, baseline: Side, candidate: Side, policy: Policy = DEFAULT) -> Comparison:
        """Compare by the table."""
        return compare(baseline, candidate, spread=self.spread, policy=policy)

    def demand(self, holds: bool, what: str) -> None:
        """Say whether a demand holds."""
        print(f"   {'holds' if holds else 'FAILS'}: {what}", flush=True)
        if not holds:
            self.failed.append(what)


def main() -> int:
    """Run all controls on the files given as name=path."""
    options = _options()
    parser = load_parser(options.parser)
    tools = Tools(parser=ParsedOnce(parser) if parser else None)  # type: ignore[arg-type]  # looks like a Parser
    bench = Bench(tools=tools, spread=read_spread(options.table) if options.table else shipped_spread())
    domains = {name: list(read_documents(path)) for name, _, path in (one.partition("=") for one in options.domains)}
    for name, documents in domains.items():
        for words in options.words:
            show_halves(bench, f"halves of {words:,} words of {name}", halves(bench, documents, options.splits, words))
    show_domains(bench, domains)
    if not options.without_libraries:
        show_libraries(bench)
    return 1 if bench.failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("domains", nargs="+", metavar="name=path")
    parser.add_argument("--splits", type=int, default=100)
    parser.add_argument("--words", type=int, nargs="*", default=SIZES, help="sizes of the parts that are cut")
    parser.add_argument("--parser", default=NONE)
    parser.add_argument("--table", type=Path, help="calibration table instead of the one that ships")
    parser.add_argument("--without-libraries", action="store_true")
    return parser.parse_args()


def halves(
    bench: Bench, documents: Sequence[Document], splits: int, words: int
) -> Iterator[tuple[Side, Side, Comparison]]:
    """Yield the comparisons of the halves of random parts; a source stands on one side only."""
    sources: dict[str, list[Document]] = defaultdict(list)
    for document in documents:
        sources[document.group or document.id].append(document)
    for seed in range(splits):
        shuffled = random.Random(seed).sample(list(sources.values()), len(sources))
        sizes = itertools.accumulate(sum(len(one.text.split()) for one in source) for source in shuffled)
        taken = [source for source, size in zip(shuffled, sizes, strict=True) if size <= words]
        first, second = (bench.measure(itertools.chain.from_iterable(taken[side::2])) for side in (0, 1))
        yield first, second, bench.judge(first, second)


def show_halves(bench: Bench, name: str, compared: Iterable[tuple[Side, Side, Comparison]]) -> None:
    """Print what was said of halves, and what must be."""
    found = list(compared)
    show(name, [told for _, _, told in found])
    alarms = sum(told.verdict in ALARMS for _, _, told in found)
    bench.demand(alarms <= len(found) / 100, f"{name}: {alarms} of {len(found)} WARNING or COLLAPSE, at most 1 %")
    large = [told for *sides, told in found if min(side.report.clusters for side in sides) >= MANY_CLUSTERS]
    stable = sum(told.verdict is Verdict.STABLE for told in large)
    if large:
        bench.demand(stable >= 0.95 * len(large), f"{name}: {stable} of {len(large)} STABLE, at least 95 %")


def show_domains(bench: Bench, domains: dict[str, list[Document]]) -> None:
    """Print what is said of other domains, and of corpora that repeat themselves."""
    sides = {name: bench.measure(documents) for name, documents in domains.items()}
    for ours, theirs in itertools.permutations(sides, 2):
        told = bench.judge(sides[ours], sides[theirs])
        show(f"baseline {ours}, candidate {theirs}", [told])
        bench.demand(told.verdict is not Verdict.COLLAPSE, f"{theirs} beside {ours} is not COLLAPSE")
    for name, documents in domains.items():
        told = bench.judge(sides[name], bench.measure(repeating(documents)))
        show(f"{name} with 30 % replaced by repetitions", [told])
        bench.demand(told.verdict is not Verdict.STABLE, f"{name} that repeats itself is not STABLE")


def show_libraries(bench: Bench) -> None:
    """Print what is said of one library beside another."""
    pairs = list(itertools.permutations(measured_libraries(bench), 2))
    for name, policy in (("library against library", DEFAULT), ("the same, guard off", WITHOUT_GUARD)):
        told = [bench.judge(*pair, policy) for pair in pairs]
        show(name, told)
        bench.demand(all(one.verdict is not Verdict.COLLAPSE for one in told), f"{name}: none is COLLAPSE")


def repeating(documents: Sequence[Document]) -> list[Document]:
    """Return the corpus with 30 % of its documents replaced by repetitions of others."""
    rng = random.Random(0)
    shuffled = rng.sample(documents, len(documents))
    lost = len(documents) * 3 // 10
    kept = shuffled[lost:]
    return [*kept, *(replace(rng.choice(kept), id=f"again/{number}") for number in range(lost))]


def measured_libraries(bench: Bench) -> Iterator[Side]:
    """Yield the libraries of the embedded corpus that reach the ladder."""
    by_library: dict[str, list[Document]] = defaultdict(list)
    for document in gather().documents:
        by_library[document.domain or ""].append(document)
    for documents in by_library.values():
        side = bench.measure(documents) if sum(len(one.text) for one in documents) > SMALLEST else None
        if side and side.budgets:
            yield side


def show(name: str, told: Sequence[Comparison]) -> None:
    """Print verdicts, and the extremes of the family effects and of novelty."""
    verdicts = Counter(f"{one.verdict.value}/{one.reason.value}" for one in told)
    print(f"{name}: {dict(verdicts)}", flush=True)
    for family in (Family.TEXT, Family.NETWORK):
        effects = [effect for one in told for effect in one.families if effect.family is family]
        if effects:
            largest = max(abs(effect.effect) for effect in effects)
            lower, upper = max(effect.lower for effect in effects), max(effect.upper for effect in effects)
            print(f"   {family.value.lower()}: |E| <= {largest:.2f}, lower ends <= {lower:.2f}, upper <= {upper:.2f}")
    novel = [(one.novel_token_share or 0) - (one.expected_novel_token_share or 0) for one in told if one.budget]
    if novel:
        rungs = sorted({one.budget for one in told if one.budget})
        print(f"   rungs {rungs}, excess novelty {min(novel):.3f} to {max(novel):.3f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
