"""The table of errors is whole, and a status carries everything there and back."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from ouroscope import errors
from ouroscope.errors import Busy, FieldProblem, InvalidRequest, NotFound, OuroscopeError, Unavailable
from ouroscope.rpc.errors import (
    DETAILS_KEY,
    STATUS_BY_ERROR,
    error_from_rpc,
    error_from_status,
    rich_status,
    status_code,
)


def all_subclasses(kind: type) -> set[type]:
    return {sub for child in kind.__subclasses__() for sub in {child} | all_subclasses(child)}


def family() -> set[type]:
    # Classes that other tests define for themselves do not count.
    return {kind for kind in all_subclasses(OuroscopeError) if kind.__module__.startswith(("ouroscope", "services"))}


def as_call_error(status: status_pb2.Status, *, details: bool = True) -> grpc.aio.AioRpcError:
    code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
    trailer = [(DETAILS_KEY, status.SerializeToString())] if details else []
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailer), details=status.message)


def test_every_error_has_a_status():
    assert family() == set(STATUS_BY_ERROR)


def test_every_error_has_a_reason_of_its_own():
    assert len({kind.reason for kind in STATUS_BY_ERROR}) == len(STATUS_BY_ERROR)


def test_no_error_is_answered_with_ok_or_unknown():
    assert {grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN}.isdisjoint(STATUS_BY_ERROR.values())


@pytest.mark.parametrize("kind", sorted(STATUS_BY_ERROR, key=lambda kind: kind.__name__))
def test_a_status_turns_into_the_same_error_again(kind):
    original = kind("what to do", key="value", message_of="someone")
    back = error_from_rpc(as_call_error(rich_status(original)))
    assert type(back) is kind
    assert (back.message, dict(back.metadata)) == ("what to do", {"key": "value", "message_of": "someone"})


def test_every_problem_of_a_request_travels():
    problems = (FieldProblem("sampling.temperature", "must be in [0, 10]"), FieldProblem("model", "is required"))
    back = error_from_status(rich_status(InvalidRequest("two things are wrong", problems)))
    assert isinstance(back, InvalidRequest)
    assert back.problems == problems


@pytest.mark.parametrize("kind", [Busy, Unavailable])
def test_errors_that_pass_say_when_to_try_again(kind):
    status = rich_status(kind("later", retry_after=2.5))
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status.details)
    assert retry.retry_delay.ToMilliseconds() == 2500
    back = error_from_status(status)
    assert isinstance(back, kind)
    assert back.retry_after == 2.5


def test_a_class_of_its_own_is_answered_like_its_ancestor():
    class Stranger(NotFound):
        pass

    assert status_code(Stranger("gone")) is grpc.StatusCode.NOT_FOUND


def test_metadata_may_have_the_names_of_parameters():
    error = NotFound("gone")
    error.metadata = {"message": "a", "self": "b"}
    assert dict(error_from_status(rich_status(error)).metadata) == {"message": "a", "self": "b"}


@given(
    message=st.text(max_size=4000),
    fields=st.lists(st.tuples(st.text(max_size=300), st.text(max_size=2000)), max_size=300),
    metadata=st.dictionaries(st.text(max_size=20), st.text(max_size=3000), max_size=12),
)
def test_no_error_outgrows_the_trailer_that_default_clients_accept(message, fields, metadata):
    error = InvalidRequest(message, [FieldProblem(*pair) for pair in fields])
    error.metadata = metadata
    status = rich_status(error)
    percent_encoded = 3 * len(status.message.encode())
    base64 = 4 * (status.ByteSize() + 2) // 3
    assert percent_encoded + base64 < 8192 - 200


def test_problems_that_do_not_fit_are_counted():
    problems = [FieldProblem(f"field_{n}", "is wrong " * 20) for n in range(500)]
    back = error_from_status(rich_status(InvalidRequest("much is wrong", problems)))
    assert isinstance(back, InvalidRequest)
    shown = len(back.problems) - 1
    assert back.problems[:shown] == tuple(FieldProblem(p.field, p.description) for p in problems[:shown])
    assert back.problems[-1].description == f"and {500 - shown} more problems"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.Unavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.LimitExceeded),
        (grpc.StatusCode.UNIMPLEMENTED, errors.CapabilityMissing),
        (grpc.StatusCode.CANCELLED, errors.Unavailable),
        (grpc.StatusCode.NOT_FOUND, errors.NotFound),
        (grpc.StatusCode.INTERNAL, errors.Internal),
        (grpc.StatusCode.UNKNOWN, errors.Internal),
    ],
)
def test_a_status_that_grpc_itself_made_becomes_one_of_ours(code, kind):
    bare = status_pb2.Status(code=code.value[0], message="failed to connect")
    error = error_from_rpc(as_call_error(bare, details=False))
    assert type(error) is kind
    assert "failed to connect" in error.message


def unavailable(details: str) -> str:
    bare = status_pb2.Status(code=grpc.StatusCode.UNAVAILABLE.value[0], message=details)
    error = error_from_rpc(as_call_error(bare, details=False))
    assert isinstance(error, Unavailable)
    return error.message


@pytest.mark.parametrize(
    "details",
    [
        "Stream removed",
        "Stream removed (Socket closed)",
        "Socket closed",
        "recvmsg:Connection reset by peer",
        "GOAWAY received",
        "keepalive watchdog timeout",
    ],
)
def test_a_connection_that_broke_is_not_told_as_one_that_never_was(details):
    assert unavailable(details) == f"the connection to the service broke; ask again ({details})"


@pytest.mark.parametrize(
    "details",
    [
        "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: connect: Connection refused (111)",
        "ring hash cannot find a connected endpoint; first failure: Failed to connect to remote host: Connection reset",
        "ring hash cannot find a connected endpoint; first failure: recvmsg:Connection reset by peer",
        "DNS resolution failed for nowhere: Domain name not found",
        "",
    ],
)
def test_a_connection_that_was_never_made_asks_whether_the_service_runs(details):
    assert unavailable(details).startswith("the service cannot be reached; is it running?")


def test_details_of_another_domain_are_not_taken_for_ours():
    status = status_pb2.Status(code=grpc.StatusCode.NOT_FOUND.value[0], message="gone")
    info = error_details_pb2.ErrorInfo(reason="BUSY", domain="example.com")
    status.details.add().Pack(info)
    assert type(error_from_status(status)) is NotFound


def test_broken_details_do_not_hide_the_error():
    trailer = grpc.aio.Metadata((DETAILS_KEY, b"\xff\xff not a message"))
    broken = grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), trailer, details="gone")
    assert error_from_rpc(broken).message == "gone"
