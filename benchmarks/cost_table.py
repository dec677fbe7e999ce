"""Makes the data file of the planner of what was measured: `ouroscope_app/planning/measured.json`.

    python -m benchmarks.cost_table

It takes `cost_coefficients.json` (results of `benchmarks.cost_coefficients`), `coverage.json` (widths of 300 samples of
each of four corpora, `benchmarks.coverage`), and figures that are told in `benchmarks/README.md` and `docs/ray.md`,
each with its source.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from scipy.special import stdtrit

from ouroscope.canonical import to_plain
from ouroscope_app.planning.coefficients import PROMPTS, WORDS, Coefficient, CorpusWidth, Measured, Width
from services.analyzer.catalogue import METRICS
from services.analyzer.jackknife import GROUPS
from services.analyzer.sample import LADDER

HERE = Path(__file__).parent
TARGET = HERE.parent / "ouroscope_app/planning/measured.json"
DRAWN_PROMPTS = 200
"""Prompts of a sample of `benchmarks.coverage`."""
MADE_UP = "share 0.05"
"""The made-up prompts for which collapsed_99 is told; at another share p of prompts that collapse, its width goes with
sqrt(1/p - 1)."""
UNITS = {
    "read_word": "CPU seconds a word: reading from a store and folding into a sample",
    "words_word": "CPU seconds a word of every rung: all metrics of words",
    "cooccurrence_word": "CPU seconds a word of every rung: the co-occurrence network and its measures",
    "syntactic_word": "CPU seconds a word of every rung: the syntactic network and metrics of trees, after parsing",
    "parse_word": "CPU seconds a word of the largest rung: en_ouro_sm",
    "merge_word": "CPU seconds for each word of the parts that are merged, from bytes to bytes",
    "part_word": "bytes a word of a part (Parquet, compressed)",
    "stored_word": "bytes a word in a store (Parquet, compressed)",
}
TOLD = (
    Coefficient(
        id="process_bytes",
        value=754 * 2**20,
        unit="bytes of the process that analyses",
        source="benchmarks/README.md: python -m benchmarks.analysis FILE --memory, 5.23 million words",
    ),
    Coefficient(
        id="worker_bytes",
        value=1e9,
        unit="bytes of each worker beside it",
        source="docs/ray.md: what a node needs for each worker",
    ),
    Coefficient(
        id="model_parameters",
        value=3_770_624.0,
        unit="parameters of ouro-tiny, of which the seconds of a token are told",
        source="models/ouro-tiny/README.md",
    ),
    Coefficient(
        id="model_tokens",
        value=2.0,
        unit="tokens of ouro-tiny a word",
        source="its tokenizer on 400 documents each of news (2.28), articles (2.00) and abstracts (1.72)",
    ),
    Coefficient(
        id="score_token",
        value=22.0 / 116_000,
        unit="CPU seconds a token that ouro-tiny scores",
        source="benchmarks/README.md: python -m benchmarks.scoring --rounds 3, 116,000 tokens in 11.0 s of 2 threads",
    ),
    Coefficient(
        id="write_token",
        value=1 / (4187 * 1.55),
        unit="CPU seconds a token that ouro-tiny writes",
        source="benchmarks/README.md: python -m benchmarks.generation --clock cpu, 1.55 times 4,187 a second",
    ),
)
"""What others have measured before, and this model takes from them."""


def main() -> None:
    """Write the data file."""
    TARGET.write_text(json.dumps(to_plain(table()), indent=1, sort_keys=True) + "\n", encoding="utf-8")


def table() -> Measured:
    """Return the data file of the results that lie beside this module."""
    found, coverage = (json.loads((HERE / name).read_text()) for name in ("cost_coefficients.json", "coverage.json"))
    return compiled(found, coverage)


def compiled(found: Mapping[str, Any], coverage: Iterable[Mapping[str, Any]]) -> Measured:
    """Return the data file of what was measured here and what others measured before."""
    return Measured(
        date=found["date"],
        machine=found["machine"],
        coefficients=(*_coefficients(found), *TOLD),
        widths=tuple(_widths(found["widths"], list(coverage))),
    )


def _coefficients(found: Mapping[str, Any]) -> Iterator[Coefficient]:
    reading, rungs = list(found["reading"].values()), found["rungs"]["all"]
    parsing, eight = found["parsing"], found["merging"]["eight"]
    of_rungs = sum(rung["words"] for rung in rungs)
    words = sum(one["words"] for one in reading)
    parsed = sum(rung["words"] for rung in parsing["rungs"])
    values = {
        "read_word": (sum(one["seconds"] for one in reading) / words, words),
        "words_word": (sum(rung["seconds"]["words"] for rung in rungs) / of_rungs, rungs[-1]["words"]),
        "cooccurrence_word": (sum(rung["seconds"]["cooccurrence"] for rung in rungs) / of_rungs, rungs[-1]["words"]),
        "syntactic_word": (
            sum(rung["seconds"]["syntactic"] for rung in parsing["rungs"]) / parsed,
            parsing["rungs"][-1]["words"],
        ),
        "parse_word": (parsing["seconds"] / parsing["words"], parsing["words"]),
        "merge_word": (eight["seconds"] / eight["words"], eight["words"]),
        "part_word": (eight["bytes"] / eight["words"], eight["words"]),
        "stored_word": (sum(one["bytes"] for one in reading) / words, words),
    }
    for id, (value, most) in values.items():
        source = f"python -m benchmarks.cost_coefficients on human text, at most {most:,} words"
        yield Coefficient(id=id, value=float(f"{value:.3g}"), unit=UNITS[id], source=source)


def _widths(found: Mapping[str, Any], coverage: list[Mapping[str, Any]]) -> Iterator[Width]:
    for metric in METRICS:
        rows = [row for row in coverage if row["metric"] == metric.id and not row["corpus"].startswith("share")]
        made_up = [row for row in coverage if row["metric"] == metric.id and row["corpus"] == MADE_UP]
        if metric.headline and (rows or made_up):
            yield _width(metric.id, made_up or rows, found)


def _width(id: str, rows: list[Mapping[str, Any]], found: Mapping[str, Any]) -> Width:
    of_model = any(row["corpus"] in ("predictions", MADE_UP) for row in rows)
    at_ten_thousand = [CorpusWidth(corpus=row["corpus"], half_width=_half_width(row), exponent=0.5) for row in rows]
    return Width(
        metric=id,
        unit=PROMPTS if of_model else WORDS,
        size=DRAWN_PROMPTS if of_model else LADDER[0],
        corpora=tuple(at_ten_thousand if of_model else _lines(id, at_ten_thousand, found)),
        growth=0.0 if of_model else growth(id, found),
        note="where 5 % of prompts collapse" if id.startswith("collapsed") else "",
    )


def _half_width(row: Mapping[str, Any]) -> float:
    # The benchmark had narrowed it, since its samples were a part of a finite world.
    error = row["mean_error"] / math.sqrt(1 - row["fraction"])
    return float(f"{stdtrit(GROUPS - 1, 0.975) * error / row['truth']:.3g}")


def _lines(id: str, known: Iterable[CorpusWidth], found: Mapping[str, Any]) -> Iterator[CorpusWidth]:
    """Yield how the half width of a metric falls in each corpus, a straight line in logarithms.

    Where a corpus was not parsed at larger sizes, the syntactic network falls there as the co-occurrence network does,
    from where 300 samples of 10,000 words had it.
    """
    lines = {name: _line(name, corpus[id]) for name, corpus in found.items() if id in corpus}
    yield from lines.values()
    alike = id.replace("syntactic_", "cooccurrence_")
    for one in known if alike != id else ():
        if alike in found.get(one.corpus, {}) and f"{one.corpus}, parsed" not in lines:
            yield replace(one, exponent=_line(one.corpus, found[one.corpus][alike]).exponent)


def _line(corpus: str, by_size: Mapping[str, Sequence[float]]) -> CorpusWidth:
    """Return the line through the half widths of a corpus; none falls faster than that of means."""
    half_widths = {float(size): pair[1] for size, pair in by_size.items()}
    exponent = min(0.5, -slope([half_widths]))
    at = math.exp(statistics.fmean(math.log(each) + exponent * math.log(size) for size, each in half_widths.items()))
    level = at / LADDER[0] ** exponent
    return CorpusWidth(corpus=corpus, half_width=float(f"{level:.3g}"), exponent=round(exponent, 2))


def growth(id: str, found: Mapping[str, Any]) -> float:
    """Return the power of the size by which the value of a metric grows: one slope for all corpora."""
    alike = {id, id.replace("syntactic_", "cooccurrence_")}
    by_size = [corpus[name] for corpus in found.values() for name in alike if name in corpus]
    # Adding zero: what rounds to -0.0 is not there.
    return round(slope([{float(size): abs(pair[0]) for size, pair in one.items()} for one in by_size]), 2) + 0.0


def slope(curves: Iterable[Mapping[float, float]]) -> float:
    """Return the common slope of curves in double logarithms.

    >>> round(slope([{10: 1.0, 100: 10.0}, {10: 5.0, 1000: 500.0}]), 6)
    1.0
    """
    over, under = 0.0, 0.0
    for curve in curves:
        xs, ys = ([math.log(one) for one in column] for column in (curve.keys(), curve.values()))
        x, y = statistics.fmean(xs), statistics.fmean(ys)
        over += math.fsum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True))
        under += math.fsum((a - x) ** 2 for a in xs)
    return over / under


if __name__ == "__main__":
    main()
