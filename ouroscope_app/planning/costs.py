"""What each kind of work takes: seconds of processors, seconds of GPUs, bytes, memory, time and money. Pure.

Reading and merging grow with the corpus. Parsing and measuring do not grow beyond the largest rung: of a corpus of any
size the analyzer parses one sample. Asking a model grows with what it is asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ouroscope_app.planning.coefficients import Measured
from ouroscope_app.planning.inputs import Inputs
from ouroscope_app.planning.sampling import fill, largest_rung
from services.analyzer.sample import LADDER
from services.analyzer.spreading.corpus import MERGED_AT_ONCE

WORDS, COOCCURRENCE, SYNTACTIC, TEXT, SCORING, WRITING = (
    "words",
    "co-occurrence network",
    "syntactic network",
    "all three, read once",
    "model: scoring",
    "model: writing",
)
"""What can be asked for, as it is called in tables. The first four read text, the last two ask a model."""
SHARD_DOCUMENTS = 1_000
"""Documents of a shard of a stored corpus."""
HOUR, GIGABYTE = 3600.0, 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one kind of work takes."""

    work: str
    words: float
    """Words that are read, scored or written."""
    cpu_seconds: float
    spread_seconds: float
    """Those of them that any number of processors share; the rest runs where it was asked."""
    gpu_seconds: float
    bytes_read: float
    """From the store."""
    bytes_moved: float
    """Over the network: what is read, and parts or results that are written and read again."""
    memory_bytes: float
    """Of all processes together."""
    seconds: float
    """By the clock, if nothing else is going on."""
    money: float
    """In the currency of the prices: processors and GPUs for as long as it takes, and the bytes moved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What work is made of, before it is put on machines."""

    spread: float = 0.0
    alone: float = 0.0
    gpu: float = 0.0
    read: float = 0.0
    moved: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(
            spread=self.spread + other.spread,
            alone=self.alone + other.alone,
            gpu=self.gpu + other.gpu,
            read=self.read + other.read,
            moved=self.moved + other.moved,
        )


def costs(words: float, asked_tokens: float, samples: int, inputs: Inputs, measured: Measured) -> tuple[Cost, ...]:
    """Return what every kind of work takes.

    Args:
        words: to read, or to have written.
        asked_tokens: that a model is asked to score.
        samples: that are measured one by one, each with the same share of the words.
        inputs: prices and machines.
        measured: the coefficients.
    """
    read = reading(words, inputs, measured)
    rung = largest_rung(words / samples, inputs.document_words)
    of = _measuring(rung, samples, measured)
    every = sum(of.values(), read)
    of_text = [_cost(name, words, read + work, inputs, measured) for name, work in of.items()]
    scoring = _asking(asked_tokens, "score_token", inputs.gpu_score, inputs, measured)
    writing = _asking(words * measured["model_tokens"], "write_token", inputs.gpu_write, inputs, measured)
    return (
        *of_text,
        _cost(TEXT, words, every, inputs, measured),
        _cost(SCORING, asked_tokens / measured["model_tokens"], scoring, inputs, measured),
        _cost(WRITING, words, writing, inputs, measured),
    )


def reading(words: float, inputs: Inputs, measured: Measured) -> Work:
    """Return what it takes to read a corpus; by several processors shard by shard, and to merge their parts into one.

    A part holds what the largest rung may keep of its shard, at most all of it. Eight parts become one until one is
    left, so S parts take (S - 1) / 7 merges; every word that goes into one is read, and every word that is kept of one
    written.
    """
    size, seconds = words * measured["stored_word"], words * measured["read_word"]
    if inputs.cores == 1:
        return Work(spread=seconds, read=size, moved=size)
    shard, most = SHARD_DOCUMENTS * inputs.document_words, fill(LADDER[-1])
    shards = math.ceil(words / shard)
    merges, first = math.ceil((shards - 1) / (MERGED_AT_ONCE - 1)), math.ceil(shards / MERGED_AT_ONCE)
    of_shards = shards * min(shard, most)
    of_merges = first * min(MERGED_AT_ONCE * shard, most) + max(0, merges - first) * most
    parts = of_shards + of_merges
    moved = size + 2 * parts * measured["part_word"]
    return Work(spread=seconds + parts * measured["merge_word"], read=size, moved=moved)


def foretold(words: float, rung: int, measured: Measured, *, parsed: bool) -> float:
    """Return the CPU seconds of one analysis by one processor that reaches a rung, with a parser or without."""
    of = _measuring(rung, 1, measured)
    work = sum((of[name] for name in of if parsed or name != SYNTACTIC), reading(words, Inputs(tokens=words), measured))
    return work.spread + work.alone


def rung_words(rung: int) -> int:
    """Return the words of all rungs up to one: each of them is measured.

    >>> rung_words(20_000)
    31600
    """
    return sum(fill(budget) for budget in LADDER if budget <= rung)


def _measuring(rung: int, samples: int, measured: Measured) -> dict[str, Work]:
    """Return what measuring samples at all rungs up to one takes; the syntactic network is parsed for, once."""
    words, parsed = samples * rung_words(rung), samples * (fill(rung) if rung else 0)
    return {
        WORDS: Work(alone=words * measured["words_word"]),
        COOCCURRENCE: Work(alone=words * measured["cooccurrence_word"]),
        SYNTACTIC: Work(spread=parsed * measured["parse_word"], alone=words * measured["syntactic_word"]),
    }


def _asking(tokens: float, coefficient: str, gpu_rate: float | None, inputs: Inputs, measured: Measured) -> Work:
    """Return what it takes to ask a model; on processors in proportion to its parameters, on GPUs by their rate."""
    size = tokens / measured["model_tokens"] * measured["stored_word"]
    if gpu_rate is not None:
        return Work(gpu=tokens / gpu_rate, read=size, moved=size)
    larger = (inputs.parameters or measured["model_parameters"]) / measured["model_parameters"]
    return Work(spread=tokens * measured[coefficient] * larger, read=size, moved=size)


def _cost(name: str, words: float, work: Work, inputs: Inputs, measured: Measured) -> Cost:
    busy = max(work.spread / inputs.cores, work.gpu / inputs.gpus, work.moved / inputs.bandwidth)
    seconds = busy + work.alone
    prices, cores = inputs.prices, 1 if work.gpu else inputs.cores
    paid = seconds / HOUR * (cores * prices.cpu_hour + (inputs.gpus * prices.gpu_hour if work.gpu else 0.0))
    return Cost(
        work=name,
        words=words,
        cpu_seconds=work.spread + work.alone,
        spread_seconds=work.spread,
        gpu_seconds=work.gpu,
        bytes_read=work.read,
        bytes_moved=work.moved,
        memory_bytes=_memory(cores, measured),
        seconds=seconds,
        money=paid + work.moved / GIGABYTE * prices.gigabyte,
    )


def _memory(cores: int, measured: Measured) -> float:
    """Return the memory of the process that asks, and of workers beside it where there are more processors."""
    return measured["process_bytes"] + (cores * measured["worker_bytes"] if cores > 1 else 0.0)
