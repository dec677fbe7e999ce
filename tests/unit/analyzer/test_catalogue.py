"""The catalogue against the table of names that was fixed once, and every data sheet against its own example."""

import doctest
import importlib
import pkgutil
import re

import pytest

import services.analyzer.metrics
import services.analyzer.network
from ouroscope.errors import InvalidRequest
from ouroscope.records.analysis import Direction, Family
from services.analyzer.catalogue import CATALOGUE, METRICS, RELATIVE, RELATIVE_SHEETS
from services.analyzer.choice import choose, needs_of
from services.analyzer.network.edges import CONSTRUCTIONS
from services.analyzer.parsing.parsed import Need
from services.analyzer.relative import REPLICATED, SINGLE

# Rows of the table of names: a sign is the direction that means collapse, H a headline. The two variances are asked for
# by the list of what is computed and came later than the table.
NAMES = {
    Family.TEXT: """types -H, type_token_ratio -, mattr -H, mtld -, hdd -, yule_k +, token_entropy -H,
        normalized_entropy_by_tokens -H, normalized_entropy_by_types -, hapax_share -, zipf_exponent +, head_share +,
        distinct_1 -, distinct_2 -, distinct_3 -H, distinct_4 -, distinct_5 -, skipgram_2_2 -, repetition_2 +,
        repetition_3 +, repetition_4 +, diversity_product -, self_bleu_4 +, compression_ratio +, entropy_rate -,
        near_duplicate_share +, pos_divergence +, vocabulary_coverage -, tail_coverage -, novel_token_share 0,
        expectation_adjusted_distinct -, levenshtein_diversity -, tfidf_mean 0, document_length 0, sentence_length 0,
        dependency_depth 0, dependency_depth_variance -, dependency_distance 0, dependency_distance_variance -,
        syntactic_diversity -, readability 0""",
    Family.NETWORK: """nodes -H, edges -H, edge_weight_entropy -H, degree_entropy -H, hub_share +H, node_overlap -,
        edge_overlap -, central_overlap -, density 0, mean_degree 0, degree_gini +, clustering 0, transitivity 0,
        components 0, giant_share 0, path_length 0, assortativity 0, modularity 0, communities 0, core_depth 0,
        small_world 0""",
    Family.MODEL: """top1_probability +H, gini_top100 +H, collapsed_90 +, collapsed_99 +H, collapsed_999 +,
        next_token_entropy -H, effective_tokens -, true_token_rank +, heldout_perplexity +, bits_per_byte +,
        last_n_accuracy -, surplexity -, base_perplexity_of_synthetic -, greedy_share +""",
    Family.EMBEDDING: """vendi_score -H, effective_rank -H, mean_cosine_distance -H, frechet_distance +,
        frontier_divergence +""",
}
SIGNS = {"+": Direction.RISING, "-": Direction.FALLING, "0": Direction.NONE}


def table():
    for family, row in NAMES.items():
        for id, sign, headline in re.findall(r"(\w+) ([-+0])(H?)", row):
            for prefix in ("cooccurrence_", "syntactic_") if family is Family.NETWORK else ("",):
                yield prefix + id, family, SIGNS[sign], bool(headline)


def test_every_name_of_the_table_is_measured():
    assert sorted(info.id for info in CATALOGUE) == sorted(name for name, *_ in table())


def test_families_directions_and_headlines_are_those_of_the_table():
    expected = {name: rest for name, *rest in table()}
    for info in CATALOGUE:
        assert [info.family, info.direction, info.headline] == expected[info.id], info.id


def family_of(id):
    return next(info.family for info in CATALOGUE if info.id == id)


def test_units_are_words_that_the_catalogue_explains():
    units = {
        "1",
        "ratio",
        "nats",
        "words",
        "tokens",
        "ranks",
        "documents",
        "dimensions",
        "concepts",
        "relations",
        "components",
        "communities",
        "steps",
        "steps^2",
    }
    assert {info.unit for info in CATALOGUE} <= units


def test_every_family_that_votes_has_3_to_5_headlines():
    headlines = [info.id for info in CATALOGUE if info.headline and info.family is not Family.NETWORK]
    assert all(3 <= sum(family_of(id) is family for id in headlines) <= 5 for family in (Family.TEXT, Family.MODEL))


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
def test_each_construction_of_the_network_has_the_same_headlines(construction):
    headlines = {info.id for info in CATALOGUE if info.headline and info.id.startswith(f"{construction}_")}
    names = ("nodes", "edges", "edge_weight_entropy", "degree_entropy", "hub_share")
    assert headlines == {f"{construction}_{name}" for name in names}


SHEETS = {metric.id: metric.sheet for metric in METRICS} | dict(RELATIVE_SHEETS)


@pytest.mark.parametrize("info", CATALOGUE, ids=lambda info: info.id)
def test_a_data_sheet_says_all_that_a_reader_needs(info):
    sheet = SHEETS[info.id].__doc__
    for needed in ("Range", "collapse", "Undefined", "Bias", "Source", ">>>"):
        assert needed in sheet, needed
    direction = {Direction.RISING: "rises", Direction.FALLING: "falls", Direction.NONE: "moves either way"}
    assert f"{direction[info.direction]} under" in " ".join(sheet.split())


def test_every_metric_is_explained_by_a_sentence_of_its_own():
    summaries = [info.summary for info in CATALOGUE]
    assert len(set(summaries)) == len(summaries)
    assert [summary for summary in summaries if not summary.endswith(".") or summary.startswith("Return")] == []


def test_every_metric_that_needs_a_baseline_is_measured_by_a_comparison():
    assert {info.id for info in RELATIVE} == REPLICATED.keys() | SINGLE.keys()


TOP_LEVEL = ("jackknife", "tokens", "keys", "trees", "relative", "relative_embedding")


def modules():
    yield from (f"services.analyzer.{name}" for name in TOP_LEVEL)
    for package in (services.analyzer.metrics, services.analyzer.network):
        yield from (module.name for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."))


@pytest.mark.parametrize("name", list(modules()))
def test_examples_of_data_sheets_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_no_ids_means_all_metrics():
    assert choose(()) == (METRICS, ())


def test_an_unknown_metric_is_an_error_that_names_near_ones():
    with pytest.raises(InvalidRequest, match=r"no metric 'distinct_33'; did you mean .*distinct_3") as error:
        choose(["types", "distinct_33", "nonsense"])
    assert len(error.value.problems) == 2


def test_a_known_name_that_is_not_measured_is_left_out_with_the_reason():
    lacking = {Need.TREE: "nobody parses"}
    chosen, left_out = choose(["types", "syntactic_nodes", "vocabulary_coverage"], lacking)
    assert [metric.id for metric in chosen] == ["types"]
    assert {one.id: one.reason for one in left_out} == {
        "syntactic_nodes": "nobody parses",
        "vocabulary_coverage": "needs a baseline; ask for a comparison",
    }
    assert all(info.id in {i.id for i in CATALOGUE} for info in RELATIVE)


def test_only_what_metrics_need_is_made():
    assert needs_of(["types", "cooccurrence_nodes", "novel_token_share"]) == frozenset()
    assert needs_of(["dependency_depth"]) == {Need.TREE}
    assert needs_of(["pos_divergence", "types"]) == {Need.POS}
    assert needs_of(["syntactic_edge_overlap"]) == {Need.LEMMA, Need.POS, Need.TREE}
    assert needs_of(["syntactic_edges", "pos_divergence"], {Need.TREE: "nobody parses"}) == {Need.POS}
