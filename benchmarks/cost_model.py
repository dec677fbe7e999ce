"""What `ouroscope plan` foretells beside what is measured.

    python -m benchmarks.cost_model FILE --words 200000 1000000 [--parser en_ouro_sm]

FILE is JSON lines with `id` and `text`; corpora are copies of its documents with a number behind each, stored once for
each size. Everything that `AnalyzeCorpus` does is timed: reading from the store, parsing, all metrics of all rungs. CPU
seconds of this process; set OMP_NUM_THREADS=1. `--parser none` is the analysis of words and of the co-occurrence
network.
"""

from __future__ import annotations

import argparse
import tempfile

from benchmarks.analysis import copies
from benchmarks.cost_coefficients import timed
from ouroscope.corpora.readers import read_documents
from ouroscope.corpora.stored import read_corpus, write_corpus
from ouroscope.store.artifacts import ArtifactStore
from ouroscope_app.planning.coefficients import shipped
from ouroscope_app.planning.costs import foretold
from services.analyzer.analysis import analyze
from services.analyzer.tools import open_tools


def main() -> None:
    """Measure and print."""
    options = _options()
    print("| words | budget | parser | foretold, CPU s | measured, CPU s | ratio |\n|---:|---:|---|---:|---:|---:|")
    for words in options.words:
        _compare(options.file, words, options.parser)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--words", type=int, nargs="+", default=[200_000, 1_000_000], help="about so many")
    parser.add_argument("--parser", default="en_ouro_sm")
    return parser.parse_args()


def _compare(file: str, words: int, parser: str) -> None:
    tools, documents = open_tools(parser), list(read_documents(file))
    # What is loaded when it is first needed, the pipeline and a library of graphs, is no cost of a size.
    analyze(documents[:50], tools=tools)
    with tempfile.TemporaryDirectory() as folder:
        store = ArtifactStore(folder)
        ref = write_corpus(store, copies(documents, words))
        taken, (report, _) = timed(lambda: analyze(read_corpus(store, ref), tools=tools))
    rung = report.rungs[-1].budget
    thought = foretold(report.tokens, rung, shipped(), parsed=tools.parser is not None)
    cells = f"| {report.tokens:,} | {rung:,} | {parser} | {thought:.1f} | {taken:.1f} | {thought / taken:.2f} |"
    print(cells, flush=True)


if __name__ == "__main__":
    main()
