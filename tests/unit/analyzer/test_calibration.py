"""Calibration: what a unit of effect is, that the shipped table has it, and that human text stays within the margin."""

from __future__ import annotations

import json
import random
import statistics
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from ouroscope.canonical import to_plain
from ouroscope.errors import InvalidRequest, NotFound, Undefined
from ouroscope.records.analysis import Direction, Family, Policy, Verdict
from ouroscope.records.documents import Document
from ouroscope.records.predictions import NextToken
from services.analyzer import calibrate as command
from services.analyzer.analysis import analyze
from services.analyzer.calibration import ModelRecords, Provenance, calibrate
from services.analyzer.catalogue import CATALOGUE, METRICS
from services.analyzer.comparison import compare
from services.analyzer.parsing.parsed import PARSED, PARTS_OF_SPEECH, Need, Parsed
from services.analyzer.parsing.parser import load_parser
from services.analyzer.rungs import RungSample
from services.analyzer.sample import LADDER
from services.analyzer.side import Side, side_of
from services.analyzer.spread import (
    FEWEST_SOURCES,
    HumanSpread,
    RungSpread,
    Spread,
    read_spread,
    shipped_spread,
)
from services.analyzer.tools import Tools
from tests.unit.analyzer.corpora import prose

SOURCES = 5
WHERE = Provenance(date="2026-01-01", command="test", versions={"source 0": "1.2"}, model="toy")
HEADLINES = [metric for metric in METRICS if metric.headline]


def source(number: int, documents: int = 240) -> list[Document]:
    """Text whose vocabulary grows with `number`: sources differ as people do."""
    texts = prose(documents, 50, seed=number, vocabulary=1_000 + 200 * number)
    return [
        Document(id=f"{number}/{n}", text=text, group=f"module {n % 40}", domain=f"source {number}")
        for n, text in enumerate(texts)
    ]


class EachWordAlone:
    """A parser to which each document is a sentence of verbs in a chain, one for each word."""

    identity = "en_toy 1.0.0 0123456789ab"
    able = PARSED

    def parse(self, rung: RungSample, needs: frozenset[Need], *_: object) -> Parsed:
        documents = np.repeat(rung.places_D, rung.used_D)
        words = np.concatenate([np.arange(used, dtype=np.int32) for used in rung.used_D])
        lemmas, lemma_T = np.unique(rung.words_N, return_inverse=True)
        return Parsed(
            lemmas=tuple(rung.lexicon.words[word] for word in lemmas),
            lemma_T=lemma_T.astype(np.int32),
            pos_T=np.full(len(words), PARTS_OF_SPEECH.index("VERB"), dtype=np.uint8),
            head_T=np.where(words > 0, np.arange(len(words)) - 1, np.arange(len(words))).astype(np.int32),
            sentence_T=np.repeat(np.arange(len(rung.used_D), dtype=np.int32), rung.used_D),
            document_T=documents.astype(np.int32),
            word_T=words,
        )


def expectations(number: int, prompts: int = 80) -> list[NextToken]:
    top = 0.6 + 0.02 * number
    return [
        NextToken(prompt_id=str(n), cluster=str(n), top_probabilities=(top, 1 - top), entropy=3.0 - 0.1 * number)
        for n in range(prompts)
    ]


@cache
def table() -> HumanSpread:
    sources = {f"source {number}": source(number) for number in range(SOURCES)}
    records = {name: ModelRecords(next_tokens=expectations(number)) for number, name in enumerate(sources)}
    records["few"] = ModelRecords(next_tokens=expectations(9, prompts=30))
    return calibrate({**sources, "tiny": source(9, documents=5)}, WHERE, records=records)


def spread(metric: str, rung: int | None = None) -> Spread:
    found = table().model_metrics if rung is None else next(r.metrics for r in table().rungs if r.budget == rung)
    return next(one for one in found if one.id == metric)


def test_the_deviation_is_that_of_the_values_of_the_sources() -> None:
    values = []
    for number in range(SOURCES):
        # Groups play no part: more sources fill a rung by their single documents.
        loose = [Document(id=one.id, text=one.text) for one in source(number)]
        report, _ = analyze(loose, metrics=["types"])
        values.append(report.rungs[0].metrics[0].value or 0.0)
    types = spread("types", 10_000)
    assert types.sources == SOURCES
    assert types.mean == pytest.approx(statistics.fmean(values))
    assert types.deviation == pytest.approx(statistics.stdev(values))


def test_model_metrics_are_calibrated_from_what_models_expect() -> None:
    # Steps of 0.02 between five sources: the deviation is 0.02 * sqrt(2.5).
    assert spread("top1_probability").deviation == pytest.approx(0.02 * 2.5**0.5)
    assert spread("next_token_entropy").mean == pytest.approx(2.8)
    assert table().model == "toy"


def test_a_share_of_prompts_is_not_taken_to_be_known_better_than_to_one_prompt() -> None:
    # No prediction of any source is collapsed; each has 80 prompts.
    assert spread("collapsed_99").deviation == pytest.approx(1 / 80)


def test_sources_of_few_prompts_would_add_noise_and_count_for_nothing() -> None:
    assert spread("top1_probability").sources == SOURCES


def test_sources_that_are_too_small_count_for_nothing() -> None:
    assert [one.name for one in table().sources] == [f"source {number}" for number in range(SOURCES)]
    assert table().sources[0].version == "1.2"
    with pytest.raises(InvalidRequest, match="at least 5"):
        calibrate({"one": source(1)}, WHERE)


def test_a_table_keeps_no_text_and_survives_its_file(tmp_path) -> None:
    written = json.dumps(to_plain(table()))
    assert source(0)[0].text.split()[0] not in written
    path = tmp_path / "table.json"
    path.write_text(written)
    assert read_spread(path) == table()


def test_a_file_that_is_no_table_is_told(tmp_path) -> None:
    path = tmp_path / "table.json"
    with pytest.raises(NotFound, match=r"table\.json"):
        read_spread(path)
    path.write_text("{}")
    with pytest.raises(InvalidRequest, match="analyzer_version"):
        read_spread(path)
    path.write_text("no JSON")
    with pytest.raises(InvalidRequest, match="calibration table"):
        read_spread(path)


def test_the_command_makes_a_table_from_files(tmp_path, capsys) -> None:
    lines = [
        json.dumps({"text": one.text, "domain": one.domain, "group": one.group})
        for number in range(SOURCES)
        for one in source(number)
    ]
    (tmp_path / "mine.jsonl").write_text("\n".join(lines))
    out = tmp_path / "table.json"
    assert command.main([str(out), "--files", str(tmp_path / "mine.jsonl"), "--parser", "none"]) == 0
    made = read_spread(out)
    assert made.rungs == table().rungs
    assert made.command == "python -m services.analyzer.calibrate table.json --files mine.jsonl --parser none"
    (tmp_path / "nameless.jsonl").write_text(json.dumps({"text": "Whose is it?"}))
    assert command.main([str(out), "--files", str(tmp_path / "nameless.jsonl")]) == 1
    assert "domain" in capsys.readouterr().err


def test_a_rung_that_too_few_sources_reach_is_extrapolated_from_the_largest_that_enough_do() -> None:
    few = Spread(id="types", mean=30.0, deviation=1.0, sources=FEWEST_SOURCES - 1)
    enough = Spread(id="types", mean=20.0, deviation=2.0, sources=FEWEST_SOURCES)
    made = HumanSpread(
        analyzer_version="1",
        date="",
        command="",
        sources=(),
        rungs=(RungSpread(budget=10_000, metrics=(enough,)), RungSpread(budget=20_000, metrics=(few,))),
    )
    assert made.deviation("types", 10_000, 99.0) == 2.0
    assert made.deviation("types", 20_000, 30.0) == 3.0
    assert made.deviation("types", 20_000, 10.0) == 2.0
    with pytest.raises(Undefined):
        made.deviation("mattr", 10_000, 1.0)


def test_a_metric_in_which_people_do_not_differ_has_no_unit() -> None:
    still = Spread(id="types", mean=20.0, deviation=0.0, sources=FEWEST_SOURCES)
    made = HumanSpread(
        analyzer_version="1",
        date="",
        command="",
        sources=(),
        rungs=(RungSpread(budget=10_000, metrics=(still,)),),
    )
    with pytest.raises(Undefined, match="do not differ"):
        made.deviation("types", 10_000, 20.0)


def test_a_table_knows_the_definition_that_it_was_measured_with_and_is_no_unit_for_another() -> None:
    assert {one.definition for rung in table().rungs for one in rung.metrics} == {1}
    assert table().deviation("types", 10_000, 1.0, definition=1) == spread("types", 10_000).deviation
    with pytest.raises(Undefined, match="by its definition 1, not by 2; calibrate again"):
        table().deviation("types", 10_000, 1.0, definition=2)


def test_a_metric_that_only_larger_rungs_have_has_no_unit_at_a_smaller_one() -> None:
    late = Spread(id="types", mean=20.0, deviation=1.0, sources=FEWEST_SOURCES)
    made = replace(table(), rungs=(RungSpread(budget=20_000, metrics=(late,)),))
    with pytest.raises(Undefined, match="no human spread"):
        made.deviation("types", 10_000, 20.0)


def test_a_table_says_which_parser_its_sources_had() -> None:
    assert table().parser == ""
    sources = {f"source {number}": source(number) for number in range(SOURCES)}
    made = calibrate(sources, WHERE, tools=Tools(parser=EachWordAlone()))  # type: ignore[arg-type]  # looks like one
    assert made.parser == EachWordAlone.identity
    (rung,) = (rung for rung in made.rungs if rung.budget == 10_000)
    assert "dependency_depth_variance" not in {one.id for one in table().rungs[0].metrics}
    assert {one.id for one in rung.metrics} > {one.id for one in table().rungs[0].metrics}


def test_the_shipped_table_can_judge_every_headline_at_every_rung() -> None:
    shipped = shipped_spread()
    assert len(shipped.sources) >= FEWEST_SOURCES
    for metric in HEADLINES:
        if metric.family is Family.EMBEDDING:
            continue  # The encoder is the user's own, and so is its calibration.
        for budget in LADDER if metric.family is not Family.MODEL else (0,):
            assert shipped.deviation(metric.id, budget, 1.0, metric.definition) > 0, (metric.id, budget)


def test_the_shipped_table_was_parsed_by_the_parser_that_ships() -> None:
    shipped = load_parser()
    assert shipped is not None
    assert shipped_spread().parser == shipped.identity


def test_the_shipped_table_names_only_metrics_that_can_move() -> None:
    directed = {info.id for info in CATALOGUE if info.direction is not Direction.NONE}
    shipped = shipped_spread()
    told = {one.id for rung in shipped.rungs for one in rung.metrics} | {one.id for one in shipped.model_metrics}
    assert told <= directed


@cache
def library(name: str) -> tuple[Document, ...]:
    """Passages of one installed library, as the embedded corpus reads them."""
    from ouroscope.corpora.docstrings import SOURCES as LIBRARIES
    from ouroscope.corpora.docstrings import gather

    return gather([one for one in LIBRARIES if one.name == name]).documents


def measured(documents: list[Document]) -> Side:
    return side_of(
        *analyze(documents, metrics=[one.id for one in HEADLINES if one.family is not Family.MODEL and not one.needs])
    )


def test_halves_of_a_human_corpus_are_not_called_collapse_nor_warned_of() -> None:
    every = list(library("networkx"))
    for seed in range(3):
        shuffled = random.Random(seed).sample(every, len(every))
        loose = [Document(id=one.id, text=one.text) for one in shuffled]
        told = compare(measured(loose[::2]), measured(loose[1::2]), spread=shipped_spread(), policy=Policy())
        assert told.verdict not in (Verdict.COLLAPSE, Verdict.WARNING), told.sentence
        assert all(abs(one.effect) < 1 for one in told.families), told.sentence
