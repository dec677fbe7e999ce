"""Every record, through the wire and through the plain form, by reflection over `wire.PAIRS`.

The strategies below know the bounds of the records; a new record needs a line here only if it has bounds of its own.
"""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ouroscope.canonical import canonical_json, digest_of, from_plain, to_plain
from ouroscope.errors import InvalidRequest
from ouroscope.records.analysis import AnalyzeCorpus, Compare, CountingSpec, MetricValue, Policy, Rung, Verdict
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document, Origin, View
from ouroscope.records.generation import Classify, Edit, EvaluateTasks, SamplingSpec, Score, WindowSpec
from ouroscope.records.monitors import DomainBaseline, GatePolicy, Monitor
from ouroscope.records.predictions import Detection, NextToken, ScoredText
from ouroscope.records.runs import ArmSpec, DatasetSpec, DomainSpec, EditSpec, EvaluationSpec, RunSpec
from ouroscope.records.selection import SelectDocuments, SelectionSource, SelectionSpec
from ouroscope.records.training import FineTune, LoraSpec, Recipe
from ouroscope.shapes import shapes_of
from ouroscope.v1 import analyzer_pb2, document_pb2, generator_pb2, monitor_pb2
from ouroscope.wire import ONLY_ON_THE_WIRE, PAIRS, NotEncodable, from_proto, many_from_proto, message_of, to_proto

PAIR_IDS = [kind.__name__ for kind in PAIRS]
every_pair = pytest.mark.parametrize(("kind", "message"), PAIRS.items(), ids=PAIR_IDS)

words = st.text(min_size=1, max_size=12)
names = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=12)
counts = st.integers(1, 2**31 - 1)
refs = st.builds(ArtifactRef, st.sampled_from(ArtifactKind), st.text("0123456789abcdef", min_size=64, max_size=64))
open_share = st.floats(0, 1, exclude_min=True, exclude_max=True)

BOUNDED: dict[tuple[type[Any], str], st.SearchStrategy[Any]] = {
    (Document, "id"): words,
    (WindowSpec, "document_tokens"): st.integers(2, 2**31 - 1),
    (WindowSpec, "count"): counts,
    (WindowSpec, "offset"): st.integers(0, 2**31 - 1),
    (SamplingSpec, "temperature"): st.floats(0, 10),
    (SamplingSpec, "top_k"): st.integers(0, 2**31 - 1),
    (SamplingSpec, "top_p"): st.floats(0, 1, exclude_min=True),
    (SamplingSpec, "max_new_tokens"): counts,
    (SamplingSpec, "batch_size"): st.integers(0, 2**31 - 1),
    (Score, "documents"): refs,
    (Score, "prompt_length"): counts,
    (Score, "top_n"): st.integers(1, 1000),
    (Score, "max_tokens"): st.integers(2, 2**31 - 1),
    (Score, "last_n"): counts,
    (NextToken, "prompt_id"): words,
    (NextToken, "top_probabilities"): st.lists(st.floats(0, 0.25), min_size=1, max_size=4).map(
        lambda some: tuple(sorted(some, reverse=True))
    ),
    (NextToken, "entropy"): st.floats(0, 1e6),
    (NextToken, "true_rank"): st.none() | counts,
    (ScoredText, "document_id"): words,
    (ScoredText, "tokens"): counts,
    (ScoredText, "log_probability"): st.floats(-1e9, 0),
    (ScoredText, "last_tokens"): counts,
    (LoraSpec, "rank"): counts,
    (LoraSpec, "alpha"): st.floats(0, 1e6, exclude_min=True),
    (LoraSpec, "dropout"): st.floats(0, 1, exclude_max=True),
    (Recipe, "steps"): counts,
    (Recipe, "batch_size"): st.integers(1, 2**27 - 1).map(lambda share: share * 16),
    (Recipe, "gradient_accumulation"): counts,
    (Recipe, "block_tokens"): st.integers(8, 2**31 - 1),
    (Recipe, "learning_rate"): open_share,
    (Recipe, "warmup_share"): st.floats(0, 1),
    (Recipe, "weight_decay"): st.floats(0, 1e6),
    (Recipe, "max_gradient_norm"): st.floats(0, 1e6, exclude_min=True),
    (Recipe, "checkpoint_steps"): counts,
    (Recipe, "truncation"): st.none() | st.floats(0, 1, exclude_min=True),
    (Recipe, "heldout_steps"): st.integers(0, 2**31 - 1),
    (Recipe, "patience"): st.just(0),
    (Recipe, "processes"): st.sampled_from([1, 2, 4, 8, 16]),
    (EvaluateTasks, "tasks"): st.lists(words, min_size=1, max_size=3).map(tuple),
    (EvaluateTasks, "limit"): st.integers(0, 2**31 - 1),
    (EvaluateTasks, "few_shot"): st.none() | st.integers(0, 2**31 - 1),
    (EvaluateTasks, "batch_size"): st.integers(0, 2**31 - 1),
    (FineTune, "heldout"): refs,
    (FineTune, "corpora"): st.lists(refs, min_size=1, max_size=3).map(tuple),
    (FineTune, "corpus_weights"): st.just(()),
    (MetricValue, "undefined_because"): st.none(),
    (AnalyzeCorpus, "corpus"): refs,
    (AnalyzeCorpus, "drawn_concepts"): st.integers(0, 500),
    (AnalyzeCorpus, "repeated_texts"): st.integers(0, 50),
    (CountingSpec, "memory"): st.integers(2**20, 2**36),
    (Compare, "generation"): st.none() | st.integers(0, 2**31 - 1),
    (Compare, "explain"): st.integers(0, 50),
    (DomainBaseline, "domain"): words,
    (Monitor, "domain_baselines"): st.builds(DomainBaseline, domain=words, baseline=refs).map(lambda one: (one,)),
    (GatePolicy, "refuse_from"): st.sampled_from([Verdict.WARNING, Verdict.COLLAPSE]),
    (Policy, "margin"): st.floats(0, 10, exclude_min=True),
    (Policy, "far_bound"): st.floats(10, 1e6, exclude_min=True),
    (Policy, "persistence"): counts,
    (Policy, "confidence"): st.floats(0.5, 1, exclude_max=True),
    (Policy, "max_novel_token_share"): st.floats(0, 1, exclude_min=True),
    (Policy, "min_narrowing"): st.floats(-1, 1),
    (Policy, "max_length_ratio"): st.floats(1, 1e6, exclude_min=True),
    (ArmSpec, "name"): names,
    (ArmSpec, "real_share"): st.floats(0.25, 0.75),
    (ArmSpec, "human_fraction"): st.floats(0.1, 1),
    (ArmSpec, "synthetic_fraction"): st.floats(0, 1),
    (ArmSpec, "real_weight"): st.none() | open_share,
    (ArmSpec, "part"): st.just(1),
    (ArmSpec, "parts"): st.integers(2, 100),
    (ArmSpec, "domains"): st.just(()),
    (ArmSpec, "feeds_on"): st.just(()),
    (EditSpec, "threshold"): st.floats(0, 1, exclude_min=True),
    (EditSpec, "top_k"): counts,
    (SelectionSpec, "threshold"): st.floats(0, 1, exclude_min=True),
    (SelectionSpec, "growth"): st.floats(0, 10, exclude_min=True),
    (SelectionSpec, "exponent"): st.floats(0, 1000),
    (SelectionSpec, "repeats"): st.integers(1, 1000),
    (SelectionSpec, "scorer"): words.filter(str.strip),
    (SelectionSpec, "right_share"): open_share,
    (SelectionSpec, "keep_right"): st.floats(0.1, 1),
    (SelectionSpec, "keep_wrong"): st.floats(0, 1),
    (SelectionSource, "predictions"): refs,
    (SelectDocuments, "sources"): st.builds(SelectionSource, corpus=refs, predictions=refs).map(lambda one: (one,)),
    (SelectDocuments, "documents"): st.integers(0, 2**31 - 1),
    (Detection, "document_id"): words,
    (Detection, "probability"): st.floats(0, 1),
    (Edit, "threshold"): st.floats(0, 1, exclude_min=True),
    (Edit, "top_k"): counts,
    (Edit, "generation"): st.integers(0, 2**31 - 1),
    (Edit, "batch_size"): st.integers(0, 2**31 - 1),
    (Classify, "classifier"): words.filter(str.strip),
    (Classify, "max_tokens"): st.integers(2, 2**31 - 1),
    (Classify, "batch_size"): st.integers(0, 2**31 - 1),
    (DomainSpec, "name"): names,
    (DomainSpec, "documents"): st.integers(0, 2**31 - 1),
    (DatasetSpec, "domains"): st.builds(DomainSpec, name=names).map(lambda one: (one,)),
    (DatasetSpec, "documents"): st.integers(0, 2**31 - 1),
    (EvaluationSpec, "across_documents"): st.integers(20, 2**31 - 1),
    (EvaluationSpec, "across_generations"): st.lists(st.integers(0, 2**31 - 1), max_size=3).map(tuple),
    (EvaluationSpec, "prompts"): st.integers(20, 2**31 - 1),
    (EvaluationSpec, "prompt_length"): counts,
    (EvaluationSpec, "heldout_documents"): st.integers(20, 2**31 - 1),
    (EvaluationSpec, "max_tokens"): st.integers(2, 2**31 - 1),
    (EvaluationSpec, "last_n"): counts,
    (EvaluationSpec, "samples"): st.integers(0, 100),
    (EvaluationSpec, "scored_documents"): st.integers(20, 2**31 - 1),
    (Score, "stride"): st.integers(0, 2**31 - 1),
    (Score, "max_documents"): st.integers(0, 2**31 - 1),
    (DatasetSpec, "source"): words,
    (DatasetSpec, "text_field"): words,
    (RunSpec, "name"): names,
    (RunSpec, "generations"): counts,
    (RunSpec, "seeds"): st.integers(1, 100),
    (RunSpec, "documents"): st.integers(20, 2**31 - 1),
    (RunSpec, "document_tokens"): st.integers(4, 2**31 - 1),
}

Fields = dict[str, Any]
Draw = Callable[[st.SearchStrategy[Any]], Any]


def _fit_document(draw: Draw, fields: Fields) -> None:
    fields["prefix_length"] = draw(st.integers(0, len(fields["text"])))


def _fit_window(draw: Draw, fields: Fields) -> None:
    fields["prefix_tokens"] = draw(st.integers(1, fields["document_tokens"] - 1))


def _fit_sampling(draw: Draw, fields: Fields) -> None:
    fields["min_new_tokens"] = draw(st.integers(0, fields["max_new_tokens"]))


def _fit_scored_text(draw: Draw, fields: Fields) -> None:
    fields["greedy_tokens"] = draw(st.integers(0, fields["tokens"]))
    fields["last_greedy_tokens"] = draw(st.integers(0, fields["last_tokens"]))


def _fit_metric_value(draw: Draw, fields: Fields) -> None:
    fields["undefined_because"] = draw(words) if fields["value"] is None else None


def _fit_run(draw: Draw, fields: Fields) -> None:
    arm_names = draw(st.lists(names, min_size=2, max_size=3, unique=True))
    arms = [draw(records(ArmSpec)) for _ in arm_names]
    controls = [draw(st.none() | st.sampled_from([n for n in arm_names if n != name])) for name in arm_names]
    fields["arms"] = tuple(
        dataclasses.replace(arm, name=name, control=control)
        for arm, name, control in zip(arms, arm_names, controls, strict=True)
    )


FITTED: dict[type[Any], Callable[[Draw, Fields], None]] = {
    Document: _fit_document,
    WindowSpec: _fit_window,
    SamplingSpec: _fit_sampling,
    ScoredText: _fit_scored_text,
    MetricValue: _fit_metric_value,
    RunSpec: _fit_run,
}


@st.composite
def records(draw: Draw, kind: type[Any]) -> Any:
    """Draw a possible record of a class."""
    if kind is ArtifactRef:
        return draw(refs)
    fields = {}
    for name in shapes_of(kind):
        if (kind, name) != (RunSpec, "arms"):
            fields[name] = draw(BOUNDED[kind, name] if (kind, name) in BOUNDED else _values(kind, name))
    if kind in FITTED:
        FITTED[kind](draw, fields)
    return kind(**fields)


def _values(kind: type[Any], name: str) -> st.SearchStrategy[Any]:
    shape = shapes_of(kind)[name]
    element = _elements(shape.element, PAIRS[kind].DESCRIPTOR.fields_by_name[name])
    values = st.lists(element, max_size=2).map(tuple) if shape.many else element
    return st.none() | values if shape.optional else values


def _elements(element: Any, descriptor: Any) -> st.SearchStrategy[Any]:
    if dataclasses.is_dataclass(element):
        return records(element)
    if issubclass(element, Enum):
        return st.sampled_from(element)
    wide = descriptor.cpp_type == FieldDescriptor.CPPTYPE_INT64
    scalars: dict[Any, st.SearchStrategy[Any]] = {
        datetime: st.datetimes(timezones=st.just(UTC)),
        str: st.text(max_size=12),
        bool: st.booleans(),
        float: st.floats(allow_nan=False, allow_infinity=False),
        int: st.integers(-(2**63), 2**63 - 1) if wide else st.integers(-(2**31), 2**31 - 1),
    }
    return scalars[element]


a_few = settings(
    max_examples=8,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@every_pair
@given(data=st.data())
@a_few
def test_every_record_survives_the_wire(kind: type[Any], message: type[Any], data: st.DataObject) -> None:
    record = data.draw(records(kind))
    sent = message.FromString(to_proto(record).SerializeToString())
    assert from_proto(kind, sent) == record


@every_pair
@given(data=st.data())
@a_few
def test_every_record_survives_its_plain_form_and_keeps_its_digest(
    kind: type[Any], message: type[Any], data: st.DataObject
) -> None:
    record = data.draw(records(kind))
    if kind is not ArtifactRef:
        assert from_plain(kind, to_plain(record)) == record
    assert digest_of(from_proto(kind, to_proto(record))) == digest_of(record)
    assert canonical_json(record).isascii()


@every_pair
def test_a_record_and_its_message_have_the_same_fields(kind: type[Any], message: type[Any]) -> None:
    told = {field.name for field in message.DESCRIPTOR.fields} - ONLY_ON_THE_WIRE
    assert told == {field.name for field in dataclasses.fields(kind)}


@every_pair
def test_enums_have_the_same_members_in_the_same_order_with_numbers_from_one(
    kind: type[Any], message: type[Any]
) -> None:
    for name, shape in shapes_of(kind).items():
        if isinstance(shape.element, type) and issubclass(shape.element, Enum):
            enum = message.DESCRIPTOR.fields_by_name[name].enum_type
            prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
            assert [value.name.removeprefix(prefix) for value in enum.values[1:]] == [m.name for m in shape.element]
            assert [value.number for value in enum.values] == list(range(len(shape.element) + 1))


@every_pair
def test_a_field_that_may_be_none_can_be_absent_on_the_wire(kind: type[Any], message: type[Any]) -> None:
    optional = [name for name, shape in shapes_of(kind).items() if shape.optional]
    assert all(message.DESCRIPTOR.fields_by_name[name].has_presence for name in optional)


@pytest.mark.parametrize(
    "kind", [k for k in PAIRS if all(_.default is not dataclasses.MISSING for _ in dataclasses.fields(k))]
)
def test_an_empty_message_means_all_defaults(kind: type[Any]) -> None:
    try:
        default = kind()
    except InvalidRequest:
        return
    assert from_proto(kind, PAIRS[kind]()) == default


def test_absent_is_not_zero() -> None:
    undefined = MetricValue(id="mattr", undefined_because="no tokens")
    zero = MetricValue(id="mattr", value=0.0)
    assert from_proto(MetricValue, to_proto(undefined)).value is None
    assert from_proto(MetricValue, to_proto(zero)).value == 0.0
    assert from_proto(Document, to_proto(Document(id="a", text="", generation=0))).generation == 0
    assert from_proto(Document, to_proto(Document(id="a", text=""))).generation is None


def test_a_zero_that_is_not_the_default_is_sent() -> None:
    greedy = SamplingSpec(temperature=0.0, top_k=0, min_new_tokens=0)
    assert from_proto(SamplingSpec, to_proto(greedy)) == greedy


def test_an_enum_number_of_a_newer_version_is_an_invalid_request() -> None:
    with pytest.raises(InvalidRequest, match="99 is not a known Origin"):
        from_proto(Document, document_pb2.Document(id="a", origin=99))


def test_an_unspecified_enum_takes_the_default() -> None:
    assert from_proto(Document, document_pb2.Document(id="a")).origin is Origin.UNKNOWN


def test_all_missing_messages_are_told_at_once() -> None:
    with pytest.raises(InvalidRequest) as caught:
        from_proto(FineTune, PAIRS[FineTune]())
    assert [problem.field for problem in caught.value.problems] == ["model", "recipe"]


def test_an_impossible_message_is_refused_by_the_record() -> None:
    with pytest.raises(InvalidRequest) as caught:
        from_proto(SamplingSpec, generator_pb2.SamplingSpec(temperature=11, top_p=0))
    assert [problem.field for problem in caught.value.problems] == ["temperature", "top_p"]


@pytest.mark.parametrize(("seconds", "nanos"), [(2**63 - 1, 0), (-(2**63), 0), (0, -1), (0, 2**31 - 1)])
def test_a_time_that_no_calendar_has_is_refused(seconds: int, nanos: int) -> None:
    message = monitor_pb2.Monitor(create_time=Timestamp(seconds=seconds, nanos=nanos))
    with pytest.raises(InvalidRequest, match="years 1 to 9999"):
        from_proto(Monitor, message)


def test_many_messages_become_a_tuple() -> None:
    assert [d.id for d in many_from_proto(Document, [document_pb2.Document(id=i) for i in "ab"])] == ["a", "b"]


REF = ArtifactRef(ArtifactKind.REPORT, "0" * 64)
MISFITS: list[tuple[Any, str]] = [
    (Document(id="a", text="abc\ud800"), r"text: half of a surrogate pair at character 3"),
    (Document(id="a", text="", generation=2**40), r"generation: 1099511627776 is out of range"),
    (Document(id="a", text="", generation="1"), r"generation: expected int, got str"),
    (Document(id="a", text="", origin="HUMAN"), r"origin: expected Origin, got str"),
    (Document(id="a", text="", origin=View.WHOLE), r"origin: expected Origin, got View"),
    (MetricValue(id="a", value="1"), r"value: expected float, got str"),
    (Compare(baseline="report/1", candidate=REF), r"baseline: expected ArtifactRef, got str"),
    (Compare(baseline=REF, candidate=Document(id="a", text="")), r"candidate: expected ArtifactRef, got Document"),
    (AnalyzeCorpus(corpus=REF, metrics="types"), r"metrics: expected a tuple of str, got str"),
    (AnalyzeCorpus(corpus=REF, metrics=("types", 5)), r"metrics: expected str for each, got int, str"),
    (Rung(budget=1, clusters=1, metrics=(MetricValue(id=5, value=1.0),)), r"metrics.id: expected str, got int"),
]


@pytest.mark.parametrize(("record", "told"), MISFITS)
def test_a_value_that_does_not_fit_its_field_is_told_with_what_was_expected(record: Any, told: str) -> None:
    with pytest.raises(NotEncodable, match=f"^{told}"):
        to_proto(record)


def test_a_text_that_does_not_fit_is_never_repeated() -> None:
    with pytest.raises(NotEncodable) as caught:
        to_proto(Document(id="a", text="secret\udc00"))
    assert "secret" not in str(caught.value)


def test_a_list_is_as_good_as_a_tuple() -> None:
    given: Any = ["types"]
    request = to_proto(AnalyzeCorpus(corpus=REF, metrics=given))
    assert from_proto(AnalyzeCorpus, request).metrics == ("types",)


def test_a_message_is_made_of_records_enums_messages_and_plain_values() -> None:
    kind = analyzer_pb2.ExportNetworkRequest
    made = message_of(kind, corpus=REF, view=View.CONTINUATION, construction="syntactic", concepts=3)
    assert made == kind(corpus=to_proto(REF), view="VIEW_CONTINUATION", construction="syntactic", concepts=3)
    assert message_of(kind, corpus=to_proto(REF)).corpus == made.corpus
    with pytest.raises(NotEncodable, match="concepts: expected int, got str"):
        message_of(kind, concepts="3")
