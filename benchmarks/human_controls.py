"""What the verdicts say of human text, which has not collapsed: the measured ground of the margin and the far bound.

    python benchmarks/human_controls.py wiki=wiki.jsonl news=news.jsonl abstracts=sciabs.jsonl

Four controls: halves of one corpus (cut between documents, of all of it and of small random parts), one domain against
another, a corpus against itself with 30 % of its documents repeated, and the libraries of the embedded corpus against
each other. Prints what docs/log.md records.
"""

from __future__ import annotations

import argparse
import itertools
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from ouroscope.corpora.docstrings import gather
from ouroscope.corpora.readers import read_documents
from ouroscope.records.analysis import Comparison, Family, Policy
from ouroscope.records.documents import Document
from services.analyzer.analysis import analyze
from services.analyzer.catalogue import CATALOGUE
from services.analyzer.comparison import compare
from services.analyzer.side import Side, side_of
from services.analyzer.spread import shipped_spread

HEADLINES = tuple(info.id for info in CATALOGUE if info.headline and info.family is not Family.MODEL)
SIZES = (30_000, 60_000, 10**9)
"""Words of the parts of a corpus that are cut into halves; the last is all of it."""
DEFAULT = Policy()
WITHOUT_GUARD = Policy(max_novel_token_share=1.0)
SMALLEST = 60_000
"""Characters below which a library cannot reach the ladder."""


def main() -> None:
    """Run all controls on the files given as name=path."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("domains", nargs="+", metavar="name=path")
    parser.add_argument("--splits", type=int, default=100)
    options = parser.parse_args()
    domains = {name: list(read_documents(path)) for name, _, path in (d.partition("=") for d in options.domains)}
    for name, documents in domains.items():
        for words in SIZES:
            show(f"halves of {words:,} words of {name}", halves(documents, options.splits, words))
    sides = {name: measure(documents) for name, documents in domains.items()}
    for ours, theirs in itertools.permutations(sides, 2):
        show(f"baseline {ours}, candidate {theirs}", [judge(sides[ours], sides[theirs])])
    for name, documents in domains.items():
        show(f"{name} with 30 % repeated", [judge(sides[name], measure(repeated(documents)))])
    pairs = list(itertools.permutations(measured_libraries(), 2))
    show("library against library", [judge(a, b) for a, b in pairs])
    show("library against library, guard off", [judge(a, b, WITHOUT_GUARD) for a, b in pairs])


def halves(documents: Sequence[Document], splits: int, words: int) -> Iterator[Comparison]:
    """Yield the comparisons of the halves of random parts."""
    for seed in range(splits):
        shuffled = random.Random(seed).sample(documents, len(documents))
        sizes = itertools.accumulate(len(document.text.split()) for document in shuffled)
        taken = [document for document, size in zip(shuffled, sizes, strict=True) if size <= words]
        yield judge(measure(taken[::2]), measure(taken[1::2]))


def repeated(documents: Sequence[Document]) -> list[Document]:
    """Return the corpus with 30 % of its documents given twice."""
    again = random.Random(0).sample(documents, len(documents) * 3 // 10)
    copies = [Document(id=f"{one.id}-again", text=one.text, group=one.group) for one in again]
    return [*documents, *copies]


def measured_libraries() -> Iterator[Side]:
    """Yield the libraries of the embedded corpus that reach the ladder."""
    by_library: dict[str, list[Document]] = {}
    for document in gather().documents:
        by_library.setdefault(document.domain or "", []).append(document)
    for documents in by_library.values():
        side = measure(documents) if sum(len(d.text) for d in documents) > SMALLEST else None
        if side and side.budgets:
            yield side


def measure(documents: Iterable[Document]) -> Side:
    """Measure the headline metrics."""
    return side_of(*analyze(documents, metrics=HEADLINES))


def judge(baseline: Side, candidate: Side, policy: Policy = DEFAULT) -> Comparison:
    """Compare by the shipped table."""
    return compare(baseline, candidate, spread=shipped_spread(), policy=policy)


def show(name: str, comparisons: Iterable[Comparison]) -> None:
    """Print verdicts, and the extremes of the family effects and of novelty."""
    told = list(comparisons)
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
    main()
