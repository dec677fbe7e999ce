"""Measures what the cost model of `ouroscope plan` rests on: widths of intervals, CPU seconds, bytes, cost of merging.

    python -m benchmarks.cost_coefficients OUT.json news=news.jsonl wiki=wiki.jsonl [--docstrings] [--only STAGE ...]

Each NAME=FILE is JSON lines with `id` and `text`. OUT.json gets what was found, stage by stage, so a run that is
stopped has what it reached:

- `reading`: CPU seconds to read each corpus from a store and fold it into a sample, and the bytes that it takes there;
- `rungs`: for every corpus, and all of them as one, the CPU seconds of the metrics of each rung, by family;
- `parsing`: CPU seconds of the parser over the largest rung of the first corpus, and of what it is needed for;
- `merging`: CPU seconds to merge 10, 100 and 1,000 parts eight by eight in memory, of samples of 10,000 words; and to
  merge all corpora, dealt into eight parts, from bytes to bytes, as a worker does;
- `widths`: the mean value and half width of every headline metric at each rung, over `--orders` orders of sampling;
  with `--parsed`, those of the syntactic network of the first corpus too. Articles are cut into pieces, as in
  `coverage`, so that clusters are independent by construction, and a width falls with the number of words alone.

CPU seconds of one thread: set OMP_NUM_THREADS=1. `benchmarks.cost_table` makes the data file of the planner of it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.draws import clusters
from benchmarks.parsed_once import ParsedOnce
from ouroscope.corpora.docstrings import gather
from ouroscope.corpora.readers import read_documents
from ouroscope.corpora.stored import read_corpus, write_corpus
from ouroscope.records.analysis import Family, MetricValue
from ouroscope.records.documents import Document
from ouroscope.store.artifacts import ArtifactStore
from services.analyzer.analysis import value_of
from services.analyzer.catalogue import METRICS
from services.analyzer.measured import MeasuredRung
from services.analyzer.metric import Metric
from services.analyzer.network.edges import COOCCURRENCE
from services.analyzer.parsing.parsed import PARSED
from services.analyzer.parsing.parser import load_parser
from services.analyzer.rungs import RungSample, ladder
from services.analyzer.sample import Accumulator, State
from services.analyzer.spreading.corpus import MERGED_AT_ONCE
from services.analyzer.spreading.parts import Part, decode, encode
from services.analyzer.trees import Trees

PARTS = (10, 100, 1000)
PART_WORDS = 10_000
"""Words of the samples of the law of merging; a thousand full ones would take an hour to make."""
T = TypeVar("T")


def main() -> None:
    """Measure and write."""
    options = _options()
    named = [each.partition("=")[::2] for each in options.corpora]
    corpora = {name: list(read_documents(file)) for name, file in named}
    if options.docstrings:
        corpora["docstrings"] = list(gather().documents)
    stages: dict[str, Callable[[], Any]] = {
        "reading": lambda: {name: _reading(documents) for name, documents in corpora.items()},
        "rungs": lambda: {name: _rungs(documents) for name, documents in _with_all(corpora).items()},
        "merging": lambda: _merging(corpora),
        "parsing": lambda: _parsing(next(iter(corpora.values())), options.parser),
        "widths": lambda: _widths(corpora, options.orders, options.parser if options.parsed else ""),
    }
    found: dict[str, Any] = {}
    for name, stage in stages.items():
        if not options.only or name in options.only:
            found[name] = stage()
            Path(options.out).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("corpora", nargs="*", metavar="NAME=FILE")
    parser.add_argument("--parser", default="en_ouro_sm")
    parser.add_argument("--docstrings", action="store_true", help="the embedded corpus as well")
    parser.add_argument("--parsed", action="store_true", help="widths of the syntactic network of the first corpus")
    parser.add_argument("--orders", type=int, default=8)
    parser.add_argument("--only", nargs="+", default=[], help="stages")
    return parser.parse_args()


def _with_all(corpora: dict[str, list[Document]]) -> dict[str, list[Document]]:
    """Return the corpora, and all of them as one, which reaches further."""
    return {**corpora, "all": [document for documents in corpora.values() for document in documents]}


def _reading(documents: Sequence[Document]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        store = ArtifactStore(folder)
        ref = write_corpus(store, documents)
        size = sum(entry.size for entry in store.manifest(ref).files.values())
        seconds, found = timed(lambda: Accumulator().fold_all(read_corpus(store, ref)))
    return {"words": found.tokens, "documents": found.documents, "bytes": size, "seconds": seconds}


def _rungs(documents: Iterable[Document]) -> list[dict[str, Any]]:
    return [_rung(cut) for cut in ladder(Accumulator().fold_all(documents).finalise())]


def _rung(cut: RungSample, trees: Trees | None = None) -> dict[str, Any]:
    rung = MeasuredRung(cut, trees)
    seconds = {}
    for family, metrics in families(parsed=trees is not None).items():
        seconds[family], _ = timed(partial(_values, metrics, rung))
    return {"budget": cut.budget, "words": len(cut.words_N), "clusters": cut.clusters, "seconds": seconds}


def _values(metrics: Iterable[Metric], rung: MeasuredRung) -> list[MetricValue]:
    return [value_of(metric, rung) for metric in metrics]


def families(*, parsed: bool) -> dict[str, list[Metric]]:
    """Return metrics of text by what has to be made for them; those of trees only where texts are `parsed`."""
    text = [metric for metric in METRICS if metric.family in (Family.TEXT, Family.NETWORK)]
    of_trees = [metric for metric in text if metric.needs]
    cooccurrence = [metric for metric in text if metric.id.startswith(COOCCURRENCE)]
    words = [metric for metric in text if metric not in of_trees and metric not in cooccurrence]
    return {"words": words, "cooccurrence": cooccurrence} | ({"syntactic": of_trees} if parsed else {})


def _parsing(documents: Iterable[Document], name: str) -> dict[str, Any]:
    parser = load_parser(name)
    assert parser is not None
    parser.try_out()
    cuts = ladder(Accumulator().fold_all(documents).finalise())
    seconds, parsed = timed(lambda: parser.parse(cuts[-1], PARSED))
    trees = Trees(parsed)
    return {"words": len(cuts[-1].words_N), "seconds": seconds, "rungs": [_rung(cut, trees) for cut in cuts]}


def _widths(corpora: dict[str, list[Document]], orders: int, parser: str) -> dict[str, Any]:
    worlds = {name: clusters(documents) for name, documents in corpora.items()}
    every = {**worlds, "all": [cluster for world in worlds.values() for cluster in world]}
    found = {name: _mean_widths(world, orders, None) for name, world in every.items()}
    if parser and (loaded := load_parser(parser)):
        name, world = next(iter(worlds.items()))
        found[f"{name}, parsed"] = _mean_widths(world, orders, ParsedOnce(loaded))
    return found


def _mean_widths(world: Sequence[Sequence[str]], orders: int, parser: ParsedOnce | None) -> dict[str, Any]:
    """Return for each metric and rung the mean value and the mean half width, as a share of the value."""
    found: defaultdict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    for order in range(orders):
        cuts = ladder(Accumulator().fold_all(_ordered(world, order)).finalise())
        trees = Trees(parser.parse(cuts[-1], PARSED)) if parser else None
        for cut in cuts:
            rung = MeasuredRung(cut, trees)
            for metric in _headlines(parsed=parser is not None):
                value = value_of(metric, rung)
                if value.value and value.upper is not None:
                    found[metric.id, cut.budget].append((value.value, (value.upper - value.value) / value.value))
    means = {key: [statistics.fmean(column) for column in zip(*pairs, strict=True)] for key, pairs in found.items()}
    ids = dict.fromkeys(id for id, _ in means)
    return {id: {str(budget): mean for (name, budget), mean in means.items() if name == id} for id in ids}


def _ordered(world: Sequence[Sequence[str]], order: int) -> Iterator[Document]:
    """Yield the texts under names that put their clusters into another order of sampling, and other groups."""
    for number, texts in enumerate(world):
        name = f"{order}/{number}"
        yield from (Document(id=f"{name}/{place}", text=text, group=name) for place, text in enumerate(texts))


def _headlines(*, parsed: bool) -> list[Metric]:
    """Return the metrics of text that vote; where texts are parsed, only those for which they are."""
    chosen = families(parsed=parsed)
    return [m for metrics in chosen.values() for m in metrics if m.headline and bool(m.needs) == parsed]


def _merging(corpora: dict[str, list[Document]]) -> dict[str, Any]:
    state = _state((PART_WORDS,), 2 * PART_WORDS)
    law = {str(count): merged_seconds(renamed(state, number) for number in range(count)) for count in PARTS}
    documents = _with_all(corpora)["all"]
    parts = [Accumulator().fold_all(documents[first::MERGED_AT_ONCE]) for first in range(MERGED_AT_ONCE)]
    encoded = [encode(Part(text, found=True, others=())) for text in parts]
    seconds, _ = timed(partial(_read_and_merged, encoded))
    eight = {"words": sum(text.tokens for text in parts), "bytes": sum(map(len, encoded)), "seconds": seconds}
    return {"part_words": PART_WORDS, "seconds": law, "eight": eight}


def _read_and_merged(encoded: Sequence[bytes]) -> bytes:
    """Merge parts as a worker does, from bytes to bytes."""
    merged = decode(encoded[0]).text
    for data in encoded[1:]:
        merged.merge(decode(data).text)
    return encode(Part(merged, found=True, others=()))


def _state(budgets: tuple[int, ...], words: int) -> State:
    names = [f"w{number}" for number in range(20_000)]
    weights = list(itertools.accumulate(1 / rank for rank in range(1, len(names) + 1)))
    rng = random.Random(0)
    texts = (" ".join(rng.choices(names, cum_weights=weights, k=200)) for _ in range(words // 200))
    return Accumulator(budgets=budgets).fold_all(Document(id=f"{n}", text=text) for n, text in enumerate(texts)).state()


def renamed(state: State, number: int) -> State:
    """Return a part like `state` of other clusters: as many with the same texts, and as low in the order."""
    # Only low bits change, so the clusters of all parts compete for the same places.
    other = number * 0x9E3779B1 % 2**32
    clusters = tuple(sorted(key ^ other for key in state.clusters))
    kept = sorted((replace(each, cluster=each.cluster ^ other) for each in state.kept), key=lambda k: k.cluster)
    return replace(state, names=tuple(sorted(key ^ other for key in state.names)), clusters=clusters, kept=tuple(kept))


def merged_seconds(states: Iterator[State]) -> float:
    """Return the CPU seconds until one part is left of all, eight by eight; making them does not count."""
    parts = [Accumulator.of_state(state) for state in states]
    seconds = 0.0
    while len(parts) > 1:
        taken, parts = timed(partial(_level, parts))
        seconds += taken
    return seconds


def _level(parts: Sequence[Accumulator]) -> list[Accumulator]:
    begins = range(0, len(parts), MERGED_AT_ONCE)
    return [_one(parts[begin : begin + MERGED_AT_ONCE]) for begin in begins]


def _one(parts: Sequence[Accumulator]) -> Accumulator:
    merged = Accumulator.of_state(parts[0].state())
    for part in parts[1:]:
        merged.merge(part)
    merged.state()
    return merged


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Return the CPU seconds of some work, and what it gives."""
    begin = time.process_time()
    found = work()
    return time.process_time() - begin, found


if __name__ == "__main__":
    main()
