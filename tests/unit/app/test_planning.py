"""The cost model and the planner: what must hold whatever was measured, then hand-computed values, then the command."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from benchmarks import cost_table
from ouroscope.canonical import to_plain
from ouroscope.errors import InvalidRequest
from ouroscope.records.analysis import Family
from ouroscope_app.main import app
from ouroscope_app.planning.coefficients import PROMPTS, Coefficient, CorpusWidth, Measured, Width, shipped
from ouroscope_app.planning.costs import COOCCURRENCE, SCORING, SYNTACTIC, TEXT, WORDS, WRITING, Cost, costs, foretold
from ouroscope_app.planning.inputs import Inputs, Prices
from ouroscope_app.planning.planned import plan
from ouroscope_app.planning.sampling import sampled
from services.analyzer.catalogue import METRICS
from services.analyzer.sample import LADDER

SIZES = [10.0**power for power in range(6, 13)]
AMOUNTS = ("cpu_seconds", "bytes_read", "bytes_moved", "seconds", "money")

ROUND = Measured(
    date="2026-01-01",
    machine="of paper",
    coefficients=tuple(
        Coefficient(id=id, value=value, unit="", source="")
        for id, value in {
            "read_word": 1e-6,
            "words_word": 4e-6,
            "cooccurrence_word": 2e-6,
            "syntactic_word": 5e-6,
            "parse_word": 1e-4,
            "stored_word": 3.0,
            "merge_word": 1e-7,
            "part_word": 3.0,
            "process_bytes": 1e9,
            "worker_bytes": 1e9,
            "model_parameters": 1e6,
            "model_tokens": 2.0,
            "score_token": 1e-4,
            "write_token": 2e-4,
        }.items()
    ),
    widths=(
        Width(
            metric="types",
            unit="words",
            size=10_000,
            corpora=(
                CorpusWidth(corpus="a", half_width=0.02, exponent=0.5),
                CorpusWidth(corpus="b", half_width=0.05, exponent=0.5),
            ),
            growth=0.5,
        ),
        Width(
            metric="next_token_entropy",
            unit=PROMPTS,
            size=200,
            corpora=(CorpusWidth(corpus="c", half_width=0.05, exponent=0.5),),
            growth=0.0,
        ),
    ),
)


def by_work(words: float, inputs: Inputs | None = None, measured: Measured = ROUND) -> dict[str, Cost]:
    return {cost.work: cost for cost in costs(words, 2 * words, 1, inputs or Inputs(tokens=words), measured)}


# Laws.


@pytest.mark.parametrize("cores", [1, 64])
def test_nothing_gets_cheaper_as_the_corpus_grows(cores: int) -> None:
    found = [plan(Inputs(tokens=size, cores=cores), shipped()).everything for size in SIZES]
    for smaller, larger in itertools.pairwise(found):
        for a, b in zip(smaller, larger, strict=True):
            assert all(getattr(a, name) <= getattr(b, name) for name in AMOUNTS), (a.work, a.words)


def test_text_is_read_once_for_all_its_metrics() -> None:
    found = by_work(1e9)
    assert max(found[work].cpu_seconds for work in (WORDS, COOCCURRENCE, SYNTACTIC)) < found[TEXT].cpu_seconds
    assert found[TEXT].bytes_read == found[WORDS].bytes_read
    alone = sum(found[work].cpu_seconds - 1000 for work in (WORDS, COOCCURRENCE, SYNTACTIC))
    assert found[TEXT].cpu_seconds == pytest.approx(1000 + alone)


def test_of_a_corpus_of_any_size_the_same_sample_is_parsed() -> None:
    parsing = [by_work(size)[SYNTACTIC].cpu_seconds - size * 1e-6 for size in (1e9, 1e12)]
    assert parsing[0] == pytest.approx(parsing[1], rel=1e-6)


@given(st.floats(0.001, 0.5), st.floats(0.05, 0.5), st.floats(1e-4, 0.9))
def test_the_size_for_a_width_has_that_width(half_width: float, exponent: float, wanted: float) -> None:
    corpus = CorpusWidth(corpus="a", half_width=half_width, exponent=exponent)
    law = Width(metric="types", unit="words", size=10_000, corpora=(corpus,), growth=0.0)
    size, _ = law.size_for(wanted)
    assert law.half_width(size) <= wanted * (1 + 1e-6)
    assert size == 1 or law.half_width(size / 2) > wanted


@given(st.floats(1e-4, 0.99), st.floats(1.0, 1e5))
def test_what_the_plan_takes_is_as_exact_as_was_wanted(wanted: float, document_words: float) -> None:
    inputs = Inputs(tokens=1e12, interval=wanted, document_words=document_words)
    for one in sampled(inputs, ROUND)[:1]:
        law, longer = ROUND.widths[0], max(1.0, document_words / 500)
        reached = law.half_width(one.rung / longer) / math.sqrt(one.samples)
        assert reached <= wanted * (1 + 1e-6)
        assert one.read >= one.samples * one.rung
        assert one.rung in LADDER


def test_a_narrower_interval_never_needs_less() -> None:
    for before, after in zip(
        sampled(Inputs(tokens=1e12, interval=0.02), shipped()),
        sampled(Inputs(tokens=1e12, interval=0.01), shipped()),
        strict=True,
    ):
        assert before.needed <= after.needed
        assert before.read <= after.read
        assert before.samples <= after.samples


def test_money_is_in_proportion_to_the_prices() -> None:
    inputs = Inputs(tokens=1e9, cores=4, gpu_score=1000.0)
    twice = Prices(cpu_hour=0.1, gpu_hour=6.0, gigabyte=0.02)
    for cost, dearer in zip(
        by_work(1e9, inputs).values(), by_work(1e9, replace(inputs, prices=twice)).values(), strict=True
    ):
        assert dearer.money == pytest.approx(2 * cost.money)


def test_more_processors_share_reading_and_parsing_and_wait_for_the_network() -> None:
    slow, fast = (by_work(1e9, Inputs(tokens=1e9, cores=64, bandwidth=bytes))[TEXT] for bytes in (1e6, 1e12))
    assert fast.seconds < slow.seconds == pytest.approx(slow.bytes_moved / 1e6 + slow.cpu_seconds - slow.spread_seconds)


# Values by hand, of the round numbers above.


def test_a_corpus_on_one_processor_costs_what_its_parts_cost() -> None:
    # Rungs of 10,000 to 500,000 words: 880,000 / 19 * 20, each rounded up to whole groups.
    found, rungs = by_work(1e9), 926_380
    assert found[WORDS].cpu_seconds == pytest.approx(1e9 * 1e-6 + rungs * 4e-6)
    assert found[SYNTACTIC].cpu_seconds == pytest.approx(1e9 * 1e-6 + rungs * 5e-6 + 526_320 * 1e-4)
    assert found[WORDS].bytes_moved == found[WORDS].bytes_read == 3e9
    assert found[SCORING].cpu_seconds == pytest.approx(2e9 * 1e-4)
    assert found[WRITING].cpu_seconds == pytest.approx(2e9 * 2e-4)


def test_parts_are_merged_eight_by_eight() -> None:
    # 64 shards of 200,000 words give 8 parts of 526,320, and those the last one, whose words nobody merges further.
    words = 64 * 200_000
    found = by_work(words, Inputs(tokens=words, cores=2))[WORDS]
    parts = words + 9 * 526_320
    assert found.spread_seconds == pytest.approx(words * 1e-6 + parts * 1e-7)
    assert found.bytes_moved - found.bytes_read == pytest.approx(2 * parts * 3)


def test_a_metric_takes_the_corpus_that_knew_it_worst() -> None:
    # 0.05 at 10,000 words is 0.025 at 40,000, the budget above is 50,000.
    (types, entropy) = sampled(Inputs(tokens=1e9, interval=0.025), ROUND)
    assert (types.needed, types.rung, types.samples, types.corpus) == (40_000, 50_000, 1, "b")
    assert (entropy.needed, entropy.rung, entropy.unit) == (800, 0, PROMPTS)


def test_beyond_the_largest_budget_samples_are_averaged() -> None:
    # 0.05 / sqrt(50) = 0.00707 at 500,000 words; half of that needs four of them.
    (types,) = sampled(Inputs(tokens=1e9, interval=0.05 / math.sqrt(200), metrics=("types",)), ROUND)
    assert (types.rung, types.samples, types.needed) == (500_000, 4, 2_000_000)


def test_a_gpu_is_counted_by_the_rate_that_was_told() -> None:
    found = by_work(1e9, Inputs(tokens=1e9, gpus=4, gpu_write=1000.0))
    assert found[WRITING].gpu_seconds == 2e6
    assert found[WRITING].seconds == 5e5
    assert found[WRITING].cpu_seconds == 0
    assert found[SCORING].gpu_seconds == 0


# What was measured.


def test_every_metric_that_votes_has_a_measured_width() -> None:
    voting = [m.id for m in METRICS if m.headline and m.family is not Family.EMBEDDING]
    assert [law.metric for law in shipped().widths] == voting


def test_the_data_file_is_what_the_results_say() -> None:
    assert to_plain(cost_table.table()) == to_plain(shipped()), "run `python -m benchmarks.cost_table`"


def test_every_figure_says_where_it_is_from() -> None:
    assert all(one.source and one.unit and one.value > 0 for one in shipped().coefficients)


def test_no_corpus_was_measured_much_wider_than_the_plan_takes_it_at_any_size(root: Path) -> None:
    found = json.loads((root / "benchmarks/cost_coefficients.json").read_text())["widths"]
    for name, corpus in found.items():
        for metric, by_size in corpus.items():
            law = shipped().width(metric)
            assert law is not None
            for size, (_, measured) in by_size.items():
                assert measured < 1.25 * law.half_width(int(size)), (name, metric, size)


def test_a_million_words_are_foretold_as_they_were_measured() -> None:
    # benchmarks/README.md: 6.6 s without a parser and 88 s with one, in process.
    assert foretold(1e6, 500_000, shipped(), parsed=False) == pytest.approx(6.6, rel=0.5)
    assert foretold(1e6, 500_000, shipped(), parsed=True) == pytest.approx(88, rel=0.3)


# What is refused, and the command.


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"tokens": 0.0}, "tokens"),
        ({"tokens": math.nan}, "tokens"),
        ({"tokens": 1e9, "interval": 2.0}, "interval"),
        ({"tokens": 1e9, "interval": 0.0}, "interval"),
        ({"tokens": 1e9, "interval": 1e-300}, "interval"),
        ({"tokens": 1e9, "interval": math.nan}, "interval"),
        ({"tokens": 1e9, "cores": 0}, "cores"),
        ({"tokens": 1e9, "bandwidth": math.inf}, "bandwidth"),
        ({"tokens": 1e9, "gpu_write": 0.0}, "gpu_write"),
    ],
)
def test_nonsense_is_refused_with_its_field(given: dict[str, float], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Inputs(**given)  # type: ignore[arg-type]
    assert [problem.field for problem in refused.value.problems] == [field]


def test_prices_below_zero_are_refused() -> None:
    with pytest.raises(InvalidRequest):
        Prices(gigabyte=-1.0)


def test_the_command_answers_as_one_json_document() -> None:
    done = CliRunner().invoke(app, ["plan", "--tokens", "1e11", "--interval", "0.02", "-m", "types", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["inputs"]["tokens"] == 1e11
    assert [one["metric"] for one in told["metrics"]] == ["types"]
    assert [cost["work"] for cost in told["everything"]] == [WORDS, COOCCURRENCE, SYNTACTIC, TEXT, SCORING, WRITING]
    assert told["ray"] is True


def test_the_table_says_what_to_do() -> None:
    done = CliRunner().invoke(app, ["plan", "--tokens", "1e11", "--interval", "0.01"])
    assert done.exit_code == 0, done.output
    for said in ("drawn at random", "average the values", "one budget only", "--executor ray"):
        assert said in done.stdout


def test_a_plan_for_text_alone_asks_no_model() -> None:
    done = CliRunner().invoke(app, ["plan", "--tokens", "1e9", "-m", "types"])
    whole, _, sample = done.stdout.partition("enough for")
    assert SCORING in whole
    assert SCORING not in sample


def test_a_corpus_that_is_too_small_is_said_to_be() -> None:
    done = CliRunner().invoke(app, ["plan", "--tokens", "50000", "--interval", "0.001"])
    assert "too small" in done.stdout


@pytest.mark.parametrize(
    "arguments", [["--tokens", "0"], ["--tokens", "1e9", "--interval", "2"], ["--tokens", "1e9", "-m", "tpyes"]]
)
def test_the_command_refuses_nonsense_as_wrong_usage(arguments: list[str]) -> None:
    done = CliRunner().invoke(app, ["plan", *arguments])
    assert done.exit_code == 2
    assert "error:" in done.stderr
    assert "Traceback" not in done.output
