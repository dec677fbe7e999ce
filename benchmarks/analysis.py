"""Speed of a whole analysis: beside the bare parser, beside EmoAtlas, with two processes, over gRPC; and its memory.

    python -m benchmarks.analysis FILE [--parser NAME] [--emoatlas FOLDER]      speed
    python -m benchmarks.analysis FILE --memory                                 peak memory, 0.2 to 5 million words

FILE is JSON lines with `id` and `text`. FOLDER is a checkout of EmoAtlas with its dependencies on the path; its network
construction is run with the same spaCy pipeline, the last step (edge list to graph) left out. Times are CPU seconds
where one process works, wall seconds where several do; medians of interleaved rounds. The bare
parser reads every text of the file, or only those that the analysis parses: the texts of the largest rung.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.machinery
import itertools
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import spacy

from ouroscope.client.analyzer import AnalyzerClient
from ouroscope.corpora.readers import read_documents
from ouroscope.executor import Processes
from ouroscope.records.documents import Document
from ouroscope.rpc.channel import open_channel
from ouroscope.store import ArtifactStore
from services.analyzer.analysis import analyze
from services.analyzer.catalogue import METRICS
from services.analyzer.parsing.parsed import PARSED
from services.analyzer.parsing.parser import load_parser
from services.analyzer.rungs import RungSample, ladder
from services.analyzer.sample import Accumulator
from services.analyzer.service import start
from services.analyzer.tools import Tools

ROUNDS = 3
APART = ("_path_length", "_small_world", "_modularity", "_communities", "self_bleu_4")
"""Metrics with a row of their own."""
EMOATLAS_WORDS = 3_000
SIZES = (0.2, 0.6, 2.0, 5.0)
"""Millions of words of the memory table."""


def main() -> None:
    """Measure and print."""
    options = _arguments()
    documents = list(read_documents(options.file))
    if options.memory:
        _memory(documents, options.parser)
        return
    _speed(documents, options)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--parser", default="en_ouro_sm")
    parser.add_argument("--emoatlas", help="folder of a checkout")
    parser.add_argument("--memory", action="store_true")
    return parser.parse_args()


def _speed(documents: Sequence[Document], options: argparse.Namespace) -> None:
    tools = Tools(parser=load_parser(options.parser))
    assert tools.parser is not None
    rung = ladder(Accumulator().fold_all(documents).finalise())[-1]
    nlp = spacy.load(tools.parser.source.path)
    works: Mapping[str, Callable[[], Any]] = {
        "bare pipe": partial(_pipe, nlp, [document.text for document in documents]),
        "bare pipe, parsed texts": partial(_pipe, nlp, rung.texts),
        "full analysis": lambda: analyze(documents, metrics=_ordinary(), tools=tools),
        "with the metrics of their own row": lambda: analyze(documents, tools=tools),
        "parser-free": lambda: analyze(documents, metrics=_parser_free()),
    }
    seconds = _interleaved(works, time.process_time)
    words, all_words = len(rung.words_N), _words(documents)
    print(f"{all_words:,} words, {words:,} at the largest rung ({rung.budget:,}); medians of {ROUNDS}\n")
    print("| what | CPU seconds | words/s of all | of the bare pipe | of the bare pipe, parsed texts only |")
    print("|---|---:|---:|---:|---:|")
    for name, taken in seconds.items():
        ratios = taken / seconds["bare pipe"], taken / seconds["bare pipe, parsed texts"]
        print(f"| {name} | {taken:.2f} | {all_words / taken:,.0f} | {ratios[0]:.3f} | {ratios[1]:.3f} |")
    if options.emoatlas:
        _emoatlas(options.emoatlas, nlp, rung, all_words / seconds["full analysis"])
    _two_processes(documents, rung, options.parser)
    asyncio.run(_over_grpc(documents, Tools(), ROUNDS))
    asyncio.run(_over_grpc(documents, tools, 1))


def _ordinary() -> tuple[str, ...]:
    # Paths and communities have their own row, as has what compares all texts with all others.
    return tuple(metric.id for metric in METRICS if not metric.id.endswith(APART))


def _parser_free() -> tuple[str, ...]:
    return tuple(id for id in _ordinary() if not _metric(id).needs)


def _metric(id: str) -> Any:
    return next(metric for metric in METRICS if metric.id == id)


def _pipe(nlp: Any, texts: Iterable[str]) -> None:
    for _ in nlp.pipe(texts, batch_size=64):
        pass


def _words(documents: Iterable[Document]) -> int:
    return Accumulator().fold_all(documents).finalise().tokens


def _interleaved(works: Mapping[str, Callable[[], Any]], clock: Callable[[], float]) -> dict[str, float]:
    """Return the median seconds of each, rounds one after the other so that a busy moment hits all."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for name, work in itertools.chain.from_iterable(itertools.repeat(tuple(works.items()), ROUNDS)):
        begin = clock()
        work()
        taken[name].append(clock() - begin)
    return {name: statistics.median(found) for name, found in taken.items()}


def _emoatlas(folder: str, nlp: Any, rung: RungSample, our_rate: float) -> None:
    theirs = _module_of(folder)
    texts, words = [], 0
    for text, used in zip(rung.texts, rung.used_D.tolist(), strict=True):
        texts.append(text)
        words += used
        if words >= EMOATLAS_WORDS:
            break
    begin = time.process_time()
    for text in texts:
        theirs._get_edges_vertex(text, nlp)
    rate = words / (time.process_time() - begin)
    print(
        f"\nEmoAtlas, network only, {words:,} words: {rate:,.0f} words/s; the full analysis {our_rate / rate:.0f} times"
    )


def _module_of(folder: str) -> Any:
    """Import the one module without the rest of the package, which needs plotting libraries and downloads."""
    package = types.ModuleType("emoatlas")
    package.__path__ = [f"{folder}/emoatlas"]
    sys.modules["emoatlas"] = package
    for name in ("emoatlas.textloader",):
        stub = types.ModuleType(name)
        stub._clean_text = lambda text: text  # type: ignore[attr-defined]
        sys.modules[name] = stub
    return importlib.import_module("emoatlas.formamentis_edgelist")


def _two_processes(documents: Sequence[Document], rung: RungSample, name: str) -> None:
    """Compare an analysis with two parsing processes with two processes of the bare pipe, each with half the texts."""
    executor = Processes(2)
    parser = load_parser(name, executor)
    assert parser is not None
    nlp = spacy.load(parser.source.path)
    context = multiprocessing.get_context("spawn")
    try:
        with context.Pool(2, initializer=_load_bare, initargs=(str(parser.source.path),)) as pool:
            texts = [document.text for document in documents]
            halves, parsed = [texts[::2], texts[1::2]], [list(rung.texts[::2]), list(rung.texts[1::2])]
            warm = replace(rung, texts=rung.texts[:50], used_D=rung.used_D[:50], places_D=rung.places_D[:50])
            parser.parse(warm, PARSED)
            works = {
                "one bare pipe, all texts": partial(_pipe, nlp, texts),
                "two bare pipes, all texts": lambda: pool.map(_bare_half, halves, chunksize=1),
                "two bare pipes, parsed texts": lambda: pool.map(_bare_half, parsed, chunksize=1),
                "full analysis, two processes": lambda: analyze(
                    documents, metrics=_ordinary(), tools=Tools(parser=parser)
                ),
            }
            seconds = _interleaved(works, time.perf_counter)
    finally:
        executor.close()
    print("\n| what | wall seconds | throughput, of two bare pipes with all texts |\n|---|---:|---:|")
    for work, taken in seconds.items():
        print(f"| {work} | {taken:.2f} | {seconds['two bare pipes, all texts'] / taken:.2f} |")


_bare: Any = None


def _load_bare(path: str) -> None:
    global _bare
    _bare = spacy.load(path)


def _bare_half(texts: Sequence[str]) -> None:
    _pipe(_bare, texts)


async def _over_grpc(documents: Sequence[Document], tools: Tools, rounds: int) -> None:
    """Compare `Analyze` over a real connection with the same call in this process, on a million words."""
    many = list(copies(documents, 1e6))
    with tempfile.TemporaryDirectory() as folder:
        server = await start(ArtifactStore(folder), tools=tools)
        try:
            async with open_channel(server.address) as channel:
                pairs = [await _both_ways(AnalyzerClient(channel), many, tools) for _ in range(rounds)]
        finally:
            await server.stop(grace=0)
    here, there = (statistics.median(column) for column in zip(*pairs, strict=True))
    kind = "with the parser" if tools.parser else "parser-free"
    print(f"\n{_words(many):,} words {kind}: in process {here:.2f} CPU seconds, over gRPC {there:.2f}", end="")
    print(f" (client and server): {there / here:.3f} times")


async def _both_ways(client: AnalyzerClient, many: Sequence[Document], tools: Tools) -> tuple[float, float]:
    begin = time.process_time()
    await asyncio.to_thread(analyze, many, tools=tools)
    middle = time.process_time()
    await client.analyze(many)
    return middle - begin, time.process_time() - middle


def _memory(documents: Sequence[Document], name: str) -> None:
    print("| million words | peak MiB |\n|---:|---:|")
    context = multiprocessing.get_context("spawn")
    for size in SIZES:
        with context.Pool(1) as pool:
            words, peak = pool.apply(_peak, (list(documents), size * 1e6, name))
        print(f"| {words / 1e6:.2f} | {peak:.0f} |")


def _peak(documents: Sequence[Document], words: float, name: str) -> tuple[int, float]:
    report, _ = analyze(copies(documents, words), tools=Tools(parser=load_parser(name)))
    return report.tokens, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def copies(documents: Sequence[Document], words: float) -> Iterator[Document]:
    """Yield about so many words: copies of the documents, with a number behind each, since equal texts count once."""
    told = 0
    for copy in itertools.count():
        for document in documents:
            yield replace(document, id=f"{copy}/{document.id}", text=f"{document.text} {copy}", group=None)
            told += len(document.text.split())
            if told >= words:
                return


if __name__ == "__main__":
    main()
