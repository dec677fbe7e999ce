"""Whether sketches keep what they promise: memory within the setting, true numbers within the bounds.

    python -m benchmarks.sketches [--vocabularies 20000 200000 2000000] [--trials 100 30 5] [--memory 8]

Documents of 100 words are drawn by Zipf's law from a vocabulary, as many words as it has, so 100 times the vocabulary
is 100 times the types, n-grams and edges. Each trial draws a new corpus, counts it exactly and with sketches of
`--memory` MiB, and looks whether each true number lies within its bounds. `kept` is what the sketches are when written
out; `grown` is by how much a fresh process grew that did nothing but count with them.

Asked for: memory bounded by the setting while the vocabulary grows 100 times, bounds that hold in 95 % of trials.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import psutil

from ouroscope.records.analysis import Count, Counting, CountingSpec, WholeCorpus
from services.analyzer.whole.counts import SHOWN, Counts, open_counts

DOCUMENT_WORDS = 100
UNLIMITED = CountingSpec(counting=Counting.EXACT, memory=2**36)


def main() -> None:
    """Measure and print the tables."""
    options = _options()
    spec = CountingSpec(counting=Counting.SKETCH, memory=options.memory * 2**20)
    if options.grown:
        return print(_grown(options.grown, spec))
    inside: defaultdict[str, list[bool]] = defaultdict(list)
    errors: defaultdict[str, list[float]] = defaultdict(list)
    print("| words drawn | types | edges | kept, MiB | grown, MiB | exact, us a word | sketches, us a word |")
    print("|---:" * 7 + "|")
    for vocabulary, trials in zip(options.vocabularies, options.trials, strict=True):
        rows = [_trial(vocabulary, seed, spec, inside, errors) for seed in range(trials)]
        medians = zip(np.median(np.array(rows), axis=0).tolist(), (",.0f", ",.0f", ".2f", ".1f", ".1f"), strict=True)
        types, edges, kept, exact, sketched = (format(value, form) for value, form in medians)
        grown = _in_a_child(vocabulary, options.memory)
        print(f"| {vocabulary:,} | {types} | {edges} | {kept} | {grown:.1f} | {exact} | {sketched} |", flush=True)
    print(f"\n| value | bounds that held | median error | largest error |\n{'|---|---:|---:|---:|'}")
    for name, held in inside.items():
        errs = errors[name]
        print(f"| {name} | {sum(held):,} of {len(held):,} | {np.median(errs):.4%} | {max(errs):.4%} |")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[20_000, 200_000, 2_000_000])
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 30, 5], help="for each vocabulary")
    parser.add_argument("--memory", type=int, default=8, help="MiB")
    parser.add_argument("--grown", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def _trial(
    vocabulary: int,
    seed: int,
    spec: CountingSpec,
    inside: defaultdict[str, list[bool]],
    errors: defaultdict[str, list[float]],
) -> tuple[float, ...]:
    truth, exact = _counted(vocabulary, seed, UNLIMITED, shown=10**9)
    counts, sketched = _counted(vocabulary, seed, spec, shown=SHOWN)
    true, found = truth.result(), counts.result()
    for name, estimate, value in _pairs(found, true):
        inside[name].append(estimate.lower <= value <= estimate.upper)
        errors[name].append(abs(estimate.value - value) / value)
    kept = sum(map(len, counts.state().values())) / 2**20
    of = {count.id: count.value for count in true.distinct}
    return of["types"], of["cooccurrence_edges"], kept, exact, sketched


def _pairs(found: WholeCorpus, true: WholeCorpus) -> Iterator[tuple[str, Count, float]]:
    """Yield each estimate with the name of its kind and the true number."""
    kinds: list[tuple[str, Sequence[Count], Sequence[Count]]] = [
        ("", found.distinct, true.distinct),
        ("", found.document_lengths, true.document_lengths),
        ("frequent words", found.frequent_words, true.frequent_words),
        ("frequent edges", found.frequent_edges, true.frequent_edges),
    ]
    for kind, estimates, all_of_them in kinds:
        values = {count.id: count.value for count in all_of_them}
        yield from ((kind or each.id, each, values[each.id]) for each in estimates)


def _counted(vocabulary: int, seed: int, spec: CountingSpec, shown: int) -> tuple[Counts, float]:
    """Count a corpus; return the counts and microseconds of CPU for each word."""
    counts, seconds = open_counts(spec, shown), 0.0
    for words in _documents(vocabulary, seed):
        begin = time.process_time()
        counts.fold(words)
        seconds += time.process_time() - begin
    return counts, seconds / vocabulary * 1e6


def _documents(vocabulary: int, seed: int) -> Iterator[list[str]]:
    rng = np.random.default_rng([vocabulary, seed])
    weights = 1 / np.arange(1, vocabulary + 1)
    cumulative = np.cumsum(weights / weights.sum())
    for _ in range(vocabulary // DOCUMENT_WORDS):
        length = int(rng.integers(DOCUMENT_WORDS // 2, DOCUMENT_WORDS * 3 // 2 + 1))
        yield [f"w{rank}" for rank in np.searchsorted(cumulative, rng.random(length)).tolist()]


def _in_a_child(vocabulary: int, memory: int) -> float:
    command = [sys.executable, "-m", "benchmarks.sketches", "--grown", str(vocabulary), "--memory", str(memory)]
    # What drawing frees goes back at once, or counting would grow into it unseen.
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=env).stdout)


def _grown(vocabulary: int, spec: CountingSpec) -> float:
    """Return by how many MiB this process grows while it counts, beyond what drawing the corpus takes."""
    open_counts(spec).fold(next(_documents(1_000, 0)))
    process, documents, most = psutil.Process(os.getpid()), _documents(vocabulary, 0), 0
    counts = open_counts(spec)
    next(documents)
    before = process.memory_info().rss
    for number, words in enumerate(documents):
        counts.fold(words)
        if number % 500 == 0:
            most = max(most, process.memory_info().rss)
    return float((max(most, process.memory_info().rss) - before) / 2**20)


if __name__ == "__main__":
    main()
