"""What Ray costs over a process pool, and what the process that asks holds in memory.

    python -m benchmarks.ray_overhead --words 1000000 2000000 5000000 --workers 2 --rounds 3

A corpus of synthetic documents (words drawn by Zipf's law from 20,000, 200 a document) is stored once for each size and
measured from the store as AnalyzeCorpus does: by a pool of `--workers` processes that parse while this process reads,
and by a Ray cluster of one node with so many processors, which reads and parses. Each measurement is a fresh process;
pool and Ray take turns, and both have parsed a word before the clock starts. Reports are compared bit by bit. `memory`
is the peak of the process that asks, `driver` that of its child that talks to the cluster.

`--merges` measures instead what merging full parts takes: seconds for eight that become one, and bytes of each. A
corpus of S shards has about S / 7 such merges, all on the workers.

Asked for: at most 15 % more time at 5 million words on 2 cores, and memory that does not grow from 1 to 5 million.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ouroscope.canonical import canonical_json
from ouroscope.corpora.stored import read_corpus, write_corpus
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import Document, View
from ouroscope.store.artifacts import ArtifactStore
from services.analyzer.analysis import Options, analyze_side
from services.analyzer.folded import Folded
from services.analyzer.sample import Accumulator
from services.analyzer.spreading.corpus import MERGED_AT_ONCE, Place, SpreadCorpus, merge_parts
from services.analyzer.spreading.parts import Part, encode
from services.analyzer.spreading.shards import stored_shards
from services.analyzer.tools import open_tools

DOCUMENT_WORDS = 200
VOCABULARY = 20_000
WAYS = ("pool", "ray")


@dataclass(frozen=True, slots=True)
class Measured:
    """One measurement."""

    seconds: float
    memory: float
    """MiB."""
    driver: float
    report: str


def main() -> None:
    """Measure and print the table."""
    options = _options()
    if options.one:
        return _one(options)
    if options.merges:
        return _merges(options.merges)
    with tempfile.TemporaryDirectory() as folder:
        store = ArtifactStore(folder)
        with _cluster(options.workers) as address:
            print("| words | pool, s | ray, s | ratio | pool, MiB | ray, MiB | driver, MiB |")
            print("|---:|---:|---:|---:|---:|---:|---:|")
            for words in options.words:
                ref = write_corpus(store, _documents(words // DOCUMENT_WORDS))
                _compare(options, folder, ref, address, words)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=int, nargs="+", default=[1_000_000, 2_000_000, 5_000_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--metric", action="append", default=[], help="only these; default all")
    parser.add_argument("--merges", type=int, default=0, metavar="N", help="measure N merges of full parts instead")
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--store", help=argparse.SUPPRESS)
    parser.add_argument("--corpus", help=argparse.SUPPRESS)
    parser.add_argument("--address", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def _compare(options: argparse.Namespace, store: str, ref: ArtifactRef, address: str, words: int) -> None:
    found: dict[str, list[Measured]] = {way: [] for way in WAYS}
    for _, way in itertools.product(range(options.rounds), WAYS):
        found[way].append(_child(options, way, store, ref, address))
    if len({each.report for way in WAYS for each in found[way]}) != 1:
        sys.exit("the reports differ")
    pool, ray = found["pool"], found["ray"]
    ratio = statistics.median(b.seconds / a.seconds for a, b in zip(pool, ray, strict=True))
    seconds = [statistics.median(each.seconds for each in way) for way in (pool, ray)]
    memory = [max(each.memory for each in way) for way in (pool, ray)]
    driver = max(each.driver for each in ray)
    print(
        f"| {words:,} | {seconds[0]:.1f} | {seconds[1]:.1f} | {ratio:.3f} "
        f"| {memory[0]:.0f} | {memory[1]:.0f} | {driver:.0f} |",
        flush=True,
    )


def _child(options: argparse.Namespace, way: str, store: str, ref: ArtifactRef, address: str) -> Measured:
    command = [sys.executable, "-m", "benchmarks.ray_overhead", "--one", way, "--store", store, "--corpus", str(ref)]
    command += ["--workers", str(options.workers), "--address", address]
    command += [part for metric in options.metric for part in ("--metric", metric)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def _one(options: argparse.Namespace) -> None:
    """Measure once and print one line of JSON."""
    store, ref = ArtifactStore(options.store), ArtifactRef.parse(options.corpus)
    place = {"executor": "ray", "ray_address": options.address} if options.one == "ray" else {}
    with closing(open_tools(processes=options.workers, **place)) as tools:
        assert tools.parser is not None
        tools.parser.try_out()
        documents: Any = read_corpus(store, ref)
        if tools.readers is not None:
            documents = SpreadCorpus(store, stored_shards(store, ref), tools.readers, "benchmark")
        begin = time.perf_counter()
        side = analyze_side(documents, options=Options(metrics=tuple(options.metric)), tools=tools)
        seconds = time.perf_counter() - begin
    peaks = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    report = hashlib.sha256(canonical_json(side.report).encode()).hexdigest()
    print(json.dumps({"seconds": seconds, "memory": peaks[0], "driver": peaks[1], "report": report}))


def _documents(count: int) -> Iterator[Document]:
    rng = random.Random(0)
    weights = list(itertools.accumulate(1 / rank for rank in range(1, VOCABULARY + 1)))
    names = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(VOCABULARY)]
    for number in range(count):
        words = rng.choices(names, cum_weights=weights, k=DOCUMENT_WORDS)
        sentences = [" ".join(words[first : first + 20]).capitalize() + "." for first in range(0, DOCUMENT_WORDS, 20)]
        yield Document(id=f"d{number}", text=" ".join(sentences))


class _cluster:
    """A head without work and one node with so many processors, on this machine."""

    def __init__(self, workers: int) -> None:
        # Workers of the pool do not stand back behind other processes, so those of Ray shall not either.
        os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_worker_niceness="0")
        from ray.cluster_utils import Cluster

        small: dict[str, Any] = {"include_dashboard": False, "object_store_memory": 200_000_000}
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
        self._cluster.add_node(num_cpus=workers, **small)

    def __enter__(self) -> str:
        return str(self._cluster.address)

    def __exit__(self, *_: object) -> None:
        self._cluster.shutdown()


def _merges(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        draft = ArtifactStore(folder).draft("merges")
        sizes = []
        # More words than any part keeps, so that each is as large as a part can be.
        for number in range(MERGED_AT_ONCE):
            text = Accumulator().fold_all(
                Document(id=document.id, text=f"{number} {document.text}", group=f"{number}-{document.id}")
                for document in _documents(1_200_000 // DOCUMENT_WORDS)
            )
            data = encode(Part(Folded(text), found=True, others=()))
            draft.write(f"{number}.parquet", data)
            sizes.append(len(data))
        seconds = []
        for _ in range(rounds):
            place = Place(store=folder, draft="merges", view=View.WHOLE, domain="")
            begin = time.process_time()
            merged = merge_parts(place, [f"{each}.parquet" for each in range(MERGED_AT_ONCE)])
            seconds.append(time.process_time() - begin)
            Path(folder, "drafts", "merges", merged).unlink()
        once = statistics.median(seconds)
        print(f"part: {max(sizes) / 2**20:.1f} MiB; {MERGED_AT_ONCE} become one in {once:.2f} s of CPU")
        for tokens in (10**6, 10**9, 10**12):
            shards = -(-tokens // 200_000)
            merges = max(0, -(-(shards - 1) // (MERGED_AT_ONCE - 1)))
            print(f"{tokens:.0e} words, {shards:,} shards: at most {merges * once:,.0f} s of CPU")


if __name__ == "__main__":
    main()
