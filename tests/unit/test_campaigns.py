"""What the campaigns of benchmarks/ decide by themselves: which case comes next, and what counts as a fault."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from google.protobuf.message import DecodeError

from benchmarks.fuzz_messages import Words, drawn, mutated
from benchmarks.fuzzing import Findings, Method, fault_of, request_for
from benchmarks.kills import Campaign, Case, Left, Outcome, cases, differences
from benchmarks.load import Heard, Watched
from ouroscope.v1 import analyzer_pb2, coordinator_pb2, generator_pb2, monitor_pb2, trainer_pb2

MODULES = (analyzer_pb2, coordinator_pb2, generator_pb2, monitor_pb2, trainer_pb2)
METHODS = [
    Method("nowhere:1", method)
    for module in MODULES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


def outcome(case: Case, *faults: str) -> Outcome:
    return Outcome(case=case, killed_at="replace: generate", seconds=1.0, attempts=1, faults=list(faults))


def test_a_case_of_a_campaign_depends_on_its_number_and_the_seed_alone() -> None:
    assert cases(200, 0) == cases(200, 0) != cases(200, 1)
    services = {case.service for case in cases(200, 0)}
    assert services == {"generator", "trainer", "analyzer", "coordinator"}
    assert all(0 <= case.moment < 1 for case in cases(200, 0))


@pytest.mark.parametrize("count", [1, 2, 7, 200])
def test_half_of_the_runs_are_kept_in_each_database(count: int) -> None:
    kept = [case.database for case in cases(count, 0)]
    assert kept.count("sqlite") - kept.count("postgresql") in (0, 1)


def test_no_two_runs_of_a_campaign_have_the_same_seed() -> None:
    seeds = [case.seed(attempt) for case in cases(50, 0) for attempt in range(20)]
    assert len(set(seeds)) == len(seeds)


def test_a_campaign_goes_on_behind_what_is_done_and_never_with_another_seed(tmp_path: Path) -> None:
    file, planned = tmp_path / "kills.json", cases(4, 0)
    begun = Campaign.read(file, 0)
    for case in planned[:2]:
        begun.add(outcome(case, "a fault"))
    again = Campaign.read(file, 0)
    assert again.outcomes == begun.outcomes
    assert again.open(planned) == planned[2:]
    with pytest.raises(SystemExit, match="seed 0"):
        Campaign.read(file, 1)


def test_everything_that_is_not_as_undisturbed_is_a_fault() -> None:
    expected = Left(generations={"a": 1, "b": 2}, artifacts=["corpus/1", "corpus/2"])
    assert differences(expected, Left(generations={"b": 2, "a": 1}, artifacts=["corpus/2", "corpus/1"])) == []
    found = Left(generations={"a": 1, "b": 3, "c": 4}, artifacts=["corpus/1", "corpus/3"])
    assert differences(expected, found) == [
        "b is not that of the undisturbed run",
        "c is not that of the undisturbed run",
        "corpus/2 is missing",
        "corpus/3 is one too many",
    ]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.path)
def test_drawn_requests_are_messages_of_their_method_and_come_again_with_the_same_number(method: Method) -> None:
    kind = method.descriptor.input_type
    for number in range(10):
        one = drawn(kind, random.Random(number), Words(("known",)))
        assert one.DESCRIPTOR is kind
        assert one == drawn(kind, random.Random(number), Words(("known",))) or one != one
        assert type(one).FromString(one.SerializeToString()).ByteSize() == one.ByteSize()


def test_a_request_depends_on_its_number_and_the_seed_alone() -> None:
    many = [request_for(0, number, METHODS, Words()) for number in range(300)]
    assert many == [request_for(0, number, METHODS, Words()) for number in range(300)]
    assert many != [request_for(1, number, METHODS, Words()) for number in range(300)]
    assert len({one.method.path for one in many}) > 0.9 * len(METHODS)


def test_changed_bytes_are_mostly_no_message_any_more_and_never_long() -> None:
    raw = drawn(analyzer_pb2.CompareRequest.DESCRIPTOR, random.Random(1), Words()).SerializeToString()
    broken = 0
    for number in range(200):
        changed = mutated(raw, random.Random(number))
        assert len(changed) <= 200_000
        try:
            analyzer_pb2.CompareRequest.FromString(changed)
        except DecodeError:
            broken += 1
    assert 20 < broken < 200


@pytest.mark.parametrize(
    ("code", "told", "endless"),
    [
        ("INTERNAL", "internal error; see the log of the service", False),
        ("UNKNOWN", "", False),
        ("DEADLINE_EXCEEDED", "", False),
        ("NOT_FOUND", "Traceback (most recent call last)", False),
        ("NOT_FOUND", "KeyError: 'a'", False),
        ("NOT_FOUND", 'File "services/a.py", line 3', False),
        ("NOT_FOUND", "<class 'google.protobuf.message.DecodeError'>", False),
        ("NOT_FOUND", "there is nothing in /home/secret/store", False),
        ("OK", "/home/secret", True),
    ],
)
def test_what_no_caller_should_see_is_a_fault(code: str, told: str, endless: bool) -> None:
    assert fault_of(code, told, ["/home/secret"], endless=endless)


@pytest.mark.parametrize(
    ("code", "told", "endless"),
    [
        ("OK", "", False),
        ("INVALID_ARGUMENT", "name: use lower-case letters; an error of yours", False),
        ("NOT_FOUND", "there is no file '/etc/passwd'", False),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", True),
        ("UNAVAILABLE", "the hub cannot be reached", False),
    ],
)
def test_a_refusal_in_our_words_is_no_fault(code: str, told: str, endless: bool) -> None:
    assert fault_of(code, told, ["", "/home/secret"], endless=endless) is None


def test_findings_go_on_where_they_were_written(tmp_path: Path) -> None:
    findings = Findings.read(tmp_path / "fuzzing.json", 3)
    findings.note("/a/B", "OK", None, 0)
    findings.note("/a/B", "INTERNAL", "INTERNAL: x", 1)
    findings.done = 2
    findings.write(tmp_path / "fuzzing.json")
    assert Findings.read(tmp_path / "fuzzing.json", 3) == findings
    with pytest.raises(SystemExit, match="seed 3"):
        Findings.read(tmp_path / "fuzzing.json", 4)


def test_memory_that_grows_with_every_call_is_not_flat_and_warming_up_does_not_count() -> None:
    assert Watched(memory=[100, 150, 200, 200, 200, 200, 201, 200]).summary()["memory_is_flat"]
    assert not Watched(memory=list(range(100, 900, 100))).summary()["memory_is_flat"]


def test_percentiles_are_those_of_answered_calls() -> None:
    heard = Heard(seconds=[number / 100 for number in range(1, 101)], refused=7)
    told = heard.summary()
    assert told["median_seconds"] == pytest.approx(0.505)
    assert told["p99_seconds"] == pytest.approx(1.0, abs=0.01)
    assert (told["answered"], told["refused"]) == (100, 7)
