"""Read masks: what a path keeps, and that a path that leads nowhere is told."""

from __future__ import annotations

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo
from hypothesis import given
from hypothesis import strategies as st

from ouroscope.errors import InvalidRequest
from ouroscope.rpc.masks import apply_mask, check_mask
from ouroscope.v1.analysis_pb2 import Comparison, MetricValue, NetworkDrawing, Report, Rung

REPORT = Report(
    report={"kind": "ARTIFACT_KIND_REPORT", "digest": "0" * 64},
    analyzer_version="2",
    documents=3,
    rungs=[
        Rung(budget=10, metrics=[MetricValue(id="a", value=0.0, replicates=[1.0, 2.0]), MetricValue(id="b")]),
        Rung(budget=20, metrics=[MetricValue(id="a", undefined_because="why")]),
    ],
    drawing=NetworkDrawing(),
)


def paths_of(message: Message, prefix: str = "") -> list[str]:
    """Every path of what is present, down to the leaves."""
    found: list[str] = []
    for field, value in message.ListFields():
        found.append(prefix + field.name)
        if field.message_type is not None:
            for item in value if field.is_repeated else [value]:
                found += paths_of(item, f"{prefix}{field.name}.")
    return sorted(set(found))


def masked(*paths: str) -> Report:
    return apply_mask(REPORT, FieldMask(paths=paths))


def test_a_path_goes_through_repeated_fields_and_keeps_their_places():
    kept = masked("documents", "rungs.metrics.value")
    assert kept == Report(
        documents=3,
        rungs=[
            Rung(metrics=[MetricValue(value=0.0), MetricValue()]),
            Rung(metrics=[MetricValue()]),
        ],
    )


def test_a_zero_that_is_present_stays_present_and_what_is_absent_stays_absent():
    first, second = masked("rungs.metrics.value", "rungs.metrics.undefined_because").rungs[0].metrics
    assert first.HasField("value")
    assert not second.HasField("value")
    assert not masked("top1_histogram.counts").HasField("top1_histogram")


def test_an_empty_message_that_is_present_stays_present():
    assert masked("drawing").HasField("drawing")
    assert masked("drawing.concepts").HasField("drawing")


@pytest.mark.parametrize("paths", [(), ("*",), ("documents", "*")])
def test_no_mask_and_the_star_keep_everything(paths):
    assert masked(*paths) == REPORT


@given(chosen=st.lists(st.sampled_from(paths_of(REPORT))), seed=st.randoms())
def test_only_the_set_of_paths_counts_and_nothing_else_is_kept(chosen, seed):
    shuffled = chosen + chosen[:1]
    seed.shuffle(shuffled)
    kept = masked(*chosen)
    assert masked(*shuffled) == kept
    assert apply_mask(kept, FieldMask(paths=chosen)) == kept
    if chosen:
        asked = {".".join(path.split(".")[: n + 1]) for path in chosen for n in range(path.count(".") + 1)}
        below = tuple(f"{path}." for path in chosen)
        assert all(path in asked or path.startswith(below) for path in paths_of(kept))


@given(chosen=st.lists(st.sampled_from(paths_of(REPORT)), min_size=1))
def test_what_is_wanted_whole_is_whole_beside_a_part_of_it(chosen):
    assert masked(*chosen, "rungs").rungs == REPORT.rungs


def test_all_fields_together_are_the_whole():
    assert masked(*[field.name for field in Report.DESCRIPTOR.fields]) == REPORT


@pytest.mark.parametrize(
    "path", ["", ".", "rungs.", "tokenz", "rungs.metrics.values", "documents.count", "rungs.*", "analyzerVersion"]
)
def test_a_path_that_leads_nowhere_is_refused_by_name(path):
    with pytest.raises(InvalidRequest, match="Report has no field") as refused:
        check_mask(Report.DESCRIPTOR, FieldMask(paths=["documents", path]), "options.read_mask")
    (problem,) = refused.value.problems
    assert problem.field == "options.read_mask"


def test_paths_of_the_answer_are_accepted():
    check_mask(Report.DESCRIPTOR, FieldMask(paths=[*paths_of(REPORT), "*"]), "options.read_mask")
    check_mask(Comparison.DESCRIPTOR, FieldMask(paths=["families.metrics", "verdict"]), "read_mask")


def test_a_map_is_wanted_whole_or_not_at_all():
    info = ErrorInfo(reason="x", metadata={"unit": "words"})
    assert apply_mask(info, FieldMask(paths=["metadata"])).metadata == {"unit": "words"}
    with pytest.raises(InvalidRequest, match="no field"):
        check_mask(ErrorInfo.DESCRIPTOR, FieldMask(paths=["metadata.value"]), "read_mask")
