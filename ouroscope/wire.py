"""Records to messages and back: one codec, one table of pairs.

A record and its message have the same field names; None is an absent field, a tuple a repeated one, an enum the
message's value without its prefix, a datetime a Timestamp. Because the rule is the same everywhere, a pair is one line
in `PAIRS`, and a test proves by reflection that no field of any pair is missing on either side.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from ouroscope.errors import FieldProblem, InvalidRequest
from ouroscope.records import (
    analysis,
    artifacts,
    documents,
    generation,
    monitors,
    predictions,
    progress,
    runs,
    selection,
    training,
)
from ouroscope.v1 import (
    analysis_pb2,
    analyzer_pb2,
    artifact_pb2,
    document_pb2,
    generator_pb2,
    monitor_pb2,
    operation_pb2,
    prediction_pb2,
    run_pb2,
    selection_pb2,
    trainer_pb2,
)

Record = TypeVar("Record")
Wire = TypeVar("Wire", bound=Message)

PAIRS: dict[type[Any], type[Message]] = {
    documents.Document: document_pb2.Document,
    artifacts.ArtifactRef: artifact_pb2.ArtifactRef,
    progress.Progress: operation_pb2.Progress,
    generation.Served: generator_pb2.Served,
    generation.BackendInfo: generator_pb2.Backend,
    generation.ChatFormat: generator_pb2.ChatFormat,
    generation.EvaluateTasks: generator_pb2.EvaluateTasksRequest,
    generation.TaskScore: generator_pb2.TaskScore,
    generation.EvaluatedTasks: generator_pb2.EvaluatedTasks,
    generation.Edit: generator_pb2.EditRequest,
    generation.Classify: generator_pb2.ClassifyRequest,
    generation.Classified: generator_pb2.Classified,
    generation.ModelInfo: generator_pb2.ModelInfo,
    generation.WindowSpec: generator_pb2.WindowSpec,
    generation.SamplingSpec: generator_pb2.SamplingSpec,
    generation.PreparePrompts: generator_pb2.PreparePromptsRequest,
    generation.Generate: generator_pb2.GenerateRequest,
    generation.Generated: generator_pb2.Generated,
    generation.Score: generator_pb2.ScoreRequest,
    generation.Scored: generator_pb2.Scored,
    predictions.NextToken: prediction_pb2.NextToken,
    predictions.ScoredText: prediction_pb2.ScoredText,
    predictions.Detection: prediction_pb2.Detection,
    selection.SelectionSpec: selection_pb2.SelectionSpec,
    selection.SelectionSource: selection_pb2.SelectionSource,
    selection.SelectDocuments: selection_pb2.SelectDocumentsRequest,
    selection.Composition: selection_pb2.Composition,
    selection.Selected: selection_pb2.Selected,
    training.LoraSpec: trainer_pb2.LoraSpec,
    training.Recipe: trainer_pb2.Recipe,
    training.CheckRecipe: trainer_pb2.CheckRecipeRequest,
    training.FineTune: trainer_pb2.FineTuneRequest,
    training.LossPoint: trainer_pb2.LossPoint,
    training.FineTuned: trainer_pb2.FineTuned,
    analysis.MetricInfo: analysis_pb2.MetricInfo,
    analysis.MetricValue: analysis_pb2.MetricValue,
    analysis.Rung: analysis_pb2.Rung,
    analysis.Histogram: analysis_pb2.Histogram,
    analysis.Concept: analysis_pb2.Concept,
    analysis.Relation: analysis_pb2.Relation,
    analysis.NetworkDrawing: analysis_pb2.NetworkDrawing,
    analysis.LeftOut: analysis_pb2.LeftOut,
    analysis.Share: analysis_pb2.Share,
    analysis.RepeatedText: analysis_pb2.RepeatedText,
    analysis.CountingSpec: analysis_pb2.CountingSpec,
    analysis.Count: analysis_pb2.Count,
    analysis.WholeCorpus: analysis_pb2.WholeCorpus,
    analysis.Report: analysis_pb2.Report,
    analysis.AnalyzeCorpus: analyzer_pb2.AnalyzeCorpusRequest,
    analysis.Policy: analysis_pb2.Policy,
    analysis.MetricEffect: analysis_pb2.MetricEffect,
    analysis.FamilyEffect: analysis_pb2.FamilyEffect,
    analysis.PastEffects: analysis_pb2.PastEffects,
    analysis.Compare: analyzer_pb2.CompareRequest,
    analysis.ConceptMove: analysis_pb2.ConceptMove,
    analysis.PromptMove: analysis_pb2.PromptMove,
    analysis.Explanation: analysis_pb2.Explanation,
    analysis.Comparison: analysis_pb2.Comparison,
    analysis.BaselineInfo: analysis_pb2.BaselineInfo,
    runs.EditSpec: run_pb2.EditSpec,
    runs.ArmSpec: run_pb2.ArmSpec,
    runs.EvaluationSpec: run_pb2.EvaluationSpec,
    runs.DomainSpec: run_pb2.DomainSpec,
    runs.DatasetSpec: run_pb2.DatasetSpec,
    runs.RunSpec: run_pb2.RunSpec,
    runs.StageTime: run_pb2.StageTime,
    runs.DomainReport: run_pb2.DomainReport,
    runs.Generation: run_pb2.Generation,
    runs.ArmVerdict: run_pb2.ArmVerdict,
    runs.Arm: run_pb2.Arm,
    runs.Run: run_pb2.Run,
    runs.RunEvent: run_pb2.RunEvent,
    monitors.DomainBaseline: monitor_pb2.DomainBaseline,
    monitors.DomainComparison: monitor_pb2.DomainComparison,
    monitors.MonitorGeneration: monitor_pb2.MonitorGeneration,
    monitors.Monitor: monitor_pb2.Monitor,
    monitors.GatePolicy: monitor_pb2.GatePolicy,
    monitors.GateDecision: monitor_pb2.GateDecision,
}

ONLY_ON_THE_WIRE = frozenset({"request_id", "read_mask"})
"""Fields of requests that belong to the transport, not to the question that is asked."""

_MISFITS = (AttributeError, KeyError, TypeError, ValueError)
# What protobuf, and our tables of enums, raise where a value does not fit.
_PLAIN = {
    FieldDescriptor.CPPTYPE_STRING: "str",
    FieldDescriptor.CPPTYPE_DOUBLE: "float",
    FieldDescriptor.CPPTYPE_FLOAT: "float",
    FieldDescriptor.CPPTYPE_BOOL: "bool",
}


class NotEncodable(TypeError):
    """A value does not fit its field. A client tells its caller; in a service it is a mistake of ours."""

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}")
        self.field = field
        self.description = description


def to_proto(record: Any) -> Any:
    """Encode a record as the message that `PAIRS` gives for its class.

    Raises:
        KeyError: the class is not in `PAIRS`.
        NotEncodable: a value of the record does not fit its field.
    """
    kind: Any = type(record)
    message = PAIRS[kind]()
    try:
        for name in _fields(kind):
            _encode(message, name, getattr(record, name))
    except _MISFITS as error:
        raise _not_encodable(message, name, getattr(record, name), error) from error
    return message


def message_of(kind: type[Wire], **values: Any) -> Wire:
    """Return a message of class `kind` with these values: records, enums of records, messages, or plain ones.

    Raises:
        NotEncodable: a value does not fit its field.
    """
    message = kind()
    try:
        for name, value in values.items():
            _encode(message, name, value)
    except _MISFITS as error:
        raise _not_encodable(message, name, value, error) from error
    return message


def from_proto(kind: type[Record], message: Message) -> Record:
    """Decode `message` into a record of class `kind`; the record's own checks apply.

    An absent field takes the default of the record.

    Raises:
        InvalidRequest: a required field is absent, or a value is impossible.
    """
    fields = _fields(typing.cast(Any, kind))
    # What is not listed is absent, or 0 or empty: numbers whose default is not 0 are `optional` in the proto.
    present = [(field.name, value) for field, value in message.ListFields() if field.name in fields]
    given = {name: _decode(_decoder(typing.cast(Any, kind), name), value) for name, value in present}
    problems: list[FieldProblem] = []
    for name, required in fields.items():
        if required and name not in given:
            _fill_required(message, name, given, problems)
    if problems:
        raise InvalidRequest("; ".join(f"{p.field}: {p.description}" for p in problems), problems)
    return kind(**given)


def many_from_proto(kind: type[Record], messages: Iterable[Message]) -> tuple[Record, ...]:
    """Decode each of `messages`."""
    return tuple(from_proto(kind, message) for message in messages)


@cache
def _fields(kind: type[Any]) -> dict[str, bool]:
    """Return the names of the fields of a record class, each with whether it has no default."""
    return {
        field.name: field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        for field in dataclasses.fields(kind)
    }


def _fill_required(message: Message, name: str, given: dict[str, Any], problems: list[FieldProblem]) -> None:
    """A scalar that is 0 or empty is not sent: it is given all the same. A missing message or enum is a problem."""
    descriptor = message.DESCRIPTOR.fields_by_name[name]
    if descriptor.is_repeated:
        given[name] = ()
    elif descriptor.message_type is None and descriptor.enum_type is None:
        given[name] = getattr(message, name)
    else:
        problems.append(FieldProblem(name, "is required"))


def _not_encodable(message: Message, name: str, value: Any, error: Exception) -> NotEncodable:
    if isinstance(error, NotEncodable):
        return NotEncodable(f"{name}.{error.field}", error.description)
    return NotEncodable(name, _misfit(message.DESCRIPTOR.fields_by_name[name], value, error))


def _misfit(field: Any, value: Any, error: Exception) -> str:
    """Say why a value does not fit. The value itself is told only where it is a number: it may be a text."""
    if isinstance(error, UnicodeEncodeError):
        return f"half of a surrogate pair at character {error.start} is no character; replace it"
    if isinstance(error, ValueError) and isinstance(value, int | float):
        return f"{value} is out of range"
    kind = field.message_type or field.enum_type
    expected = str(kind.name) if kind else _PLAIN.get(field.cpp_type, "int")
    if field.is_repeated and isinstance(value, tuple | list):
        return f"expected {expected} for each, got {', '.join(sorted({type(one).__name__ for one in value}))}"
    return f"expected {'a tuple of ' * field.is_repeated}{expected}, got {type(value).__name__}"


def _encode(message: Message, name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, str | int | float):  # most fields; documents and records come by the million
        setattr(message, name, value)
        return
    descriptor = message.DESCRIPTOR.fields_by_name[name]
    if isinstance(value, tuple | list):
        encoded = [to_proto(item) if dataclasses.is_dataclass(item) else item for item in value]
        getattr(message, name).extend([_enum_number(descriptor, v) if isinstance(v, Enum) else v for v in encoded])
    elif isinstance(value, Enum):
        setattr(message, name, _enum_number(descriptor, value))
    elif isinstance(value, datetime):
        getattr(message, name).FromDatetime(value.astimezone(UTC))
    elif dataclasses.is_dataclass(value):
        getattr(message, name).CopyFrom(to_proto(value))
    elif isinstance(value, Message):
        getattr(message, name).CopyFrom(value)
    else:
        setattr(message, name, value)


def _enum_number(descriptor: Any, value: Enum) -> int:
    return _number(descriptor.enum_type, value)


@cache
def _number(kind: Any, value: Enum) -> int:
    return int(kind.values_by_name[f"{_enum_prefix(kind)}{value.name}"].number)


def _enum_prefix(kind: Any) -> str:
    return str(kind.values_by_number[0].name).removesuffix("UNSPECIFIED")


Decoder = tuple[str, Any]


@cache
def _decoder(kind: type[Any], name: str) -> Decoder:
    """Return how the field is read: its shape (one, many) and its element class."""
    hint = typing.get_type_hints(kind)[name]
    if typing.get_origin(hint) is types.UnionType:
        (hint,) = (arm for arm in typing.get_args(hint) if arm is not type(None))
    if typing.get_origin(hint) is tuple:
        return "many", typing.get_args(hint)[0]
    return "one", hint


def _decode(decoder: Decoder, value: Any) -> Any:
    shape, element = decoder
    if shape == "many":
        return tuple(_decode_one(element, item) for item in value)
    return _decode_one(element, value)


def _decode_one(element: Any, value: Any) -> Any:
    if element in (str, int, float, bool):
        return value
    if isinstance(element, type) and issubclass(element, Enum):
        return _enum_member(element, value)
    if element is datetime:
        return _time(value)
    if dataclasses.is_dataclass(element):
        return from_proto(typing.cast(Callable[..., Any], element), value)  # type: ignore[arg-type]  # a class it is
    return element(value)


def _time(value: Any) -> datetime:
    try:
        return typing.cast(datetime, value.ToDatetime(tzinfo=UTC))
    except (ValueError, OverflowError) as error:
        raise InvalidRequest("a time must lie in the years 1 to 9999, its nanoseconds in [0, 999999999]") from error


@cache
def _members(element: type[Enum]) -> tuple[Enum, ...]:
    return tuple(element)


def _enum_member(element: type[Enum], number: int) -> Enum:
    """Members stand in the order of the numbers, which start at 1; a test holds both to it."""
    members = _members(element)
    if not 1 <= number <= len(members):
        raise InvalidRequest(f"{number} is not a known {element.__name__}; use a newer version of Ouroscope?")
    return members[number - 1]
