"""Requests to a real server on this machine that fails when it is told to."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Any

import pytest
from structlog.testing import capture_logs

from ouroscope.errors import (
    Cancelled,
    CapabilityMissing,
    InvalidRequest,
    LimitExceeded,
    OuroscopeError,
    PreconditionFailed,
    Unavailable,
)
from services.generator.servers import faults
from services.generator.servers.replicas import Call, Replica
from services.generator.servers.transport import Transport
from tests.servers.language import Language
from tests.servers.running import running
from tests.servers.stand_in import Fault, StandIn, serving
from tests.servers.waiting import wait_until
from tests.unit.generator.servers_setup import NAME, transport

_ROUTE = "/v1/completions"


def _quiet(tokens: int) -> None: ...


def _ask(way: Transport, text: str = "The serpent", model: str = NAME) -> Call[Any]:
    body = {"model": model, "prompt": text, "max_tokens": 2, "temperature": 0}

    async def call(replica: Replica) -> Any:
        return await way.post(replica, _ROUTE, body)

    return call


def _texts(answers: list[Any]) -> list[str]:
    return [answer["choices"][0]["text"] for answer in answers]


def test_answers_come_in_the_order_of_their_requests(url: str, language: Language) -> None:
    prompts = [f"The {'very ' * length}tail" for length in range(12)]
    with transport(url) as way:
        found = way.run([_ask(way, prompt) for prompt in prompts], _quiet)
    lengths = [len(language.encode(prompt)) for prompt in prompts]
    assert [answer["usage"]["prompt_tokens"] for answer in found] == lengths


@pytest.mark.parametrize(
    "fault", [Fault.BUSY, Fault.STARTING, Fault.FAILED, Fault.DROPPED, Fault.TRUNCATED], ids=lambda fault: fault.name
)
def test_what_may_pass_is_tried_again_and_changes_no_answer(url: str, stand_in: StandIn, fault: Fault) -> None:
    with transport(url) as way:
        whole = way.run([_ask(way)] * 3, _quiet)
        stand_in.faults.extend([fault] * 4)
        assert _texts(way.run([_ask(way)] * 3, _quiet)) == _texts(whole)
    assert len(stand_in.asked) == 3 + 4 + 3


def test_a_server_that_hangs_is_given_up_after_the_deadline_and_asked_again(url: str, stand_in: StandIn) -> None:
    stand_in.faults.append(Fault.HANG)
    with transport(url, timeout=0.5) as way:
        way.run([_ask(way)], _quiet)
    wait_until(lambda: stand_in.broken_off == 1)


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (Fault.BUSY, Unavailable, "429"),
        (Fault.FAILED, Unavailable, "500"),
        (Fault.DROPPED, Unavailable, "connection"),
        (Fault.TRUNCATED, Unavailable, "no whole answer"),
        (Fault.HANG, Unavailable, "raise `timeout`"),
        (Fault.OVERSIZED, LimitExceeded, "not trusted"),
        (Fault.FORBIDDEN, PreconditionFailed, "POOL_TOKEN"),
        (Fault.REFUSED, InvalidRequest, "400"),
        (Fault.NO_ROUTE, CapabilityMissing, "`kind`"),
        (Fault.REDIRECT, InvalidRequest, "307"),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else "",
)
def test_what_stays_wrong_becomes_an_error_that_says_what_to_do(
    url: str, stand_in: StandIn, fault: Fault, error: type[OuroscopeError], words: str
) -> None:
    stand_in.always = fault
    with (
        transport(url, attempts=2, timeout=1.0 if fault is Fault.HANG else 30.0, max_answer_bytes=1 << 20) as way,
        pytest.raises(error, match=words) as raised,
    ):
        way.run([_ask(way)], _quiet)
    tries = 2 if error is Unavailable else 1
    # A request that hangs may be given up before the server has counted it.
    wait_until(lambda: len(stand_in.asked) == tries)
    unreached = fault in (Fault.DROPPED, Fault.HANG)
    assert (f" at {url.removeprefix('http://')} " in raised.value.message) is unreached


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with transport("http://127.0.0.1:9", attempts=2) as way, pytest.raises(Unavailable, match="cannot be reached"):
        way.run([_ask(way)], _quiet)


def test_a_model_that_is_not_served_any_more_is_told_apart_from_a_missing_route(url: str) -> None:
    with transport(url) as way, pytest.raises(PreconditionFailed, match="does not serve this model"):
        way.run([_ask(way, model="another")], _quiet)


def test_the_wait_that_a_server_asks_for_is_kept(url: str, stand_in: StandIn) -> None:
    stand_in.faults.append(Fault.BUSY)
    stand_in.retry_after = "0.3"
    with transport(url) as way, capture_logs() as logs:
        way.run([_ask(way)], _quiet)
    (told,) = [entry for entry in logs if entry["event"] == "server.retry"]
    assert told["wait"] >= 0.3


def test_no_more_requests_are_in_flight_than_the_operator_allows(url: str, stand_in: StandIn) -> None:
    with transport(url, concurrency=3, scoring_concurrency=1) as way:
        way.run([_ask(way)] * 12, _quiet)
        assert stand_in.most_in_flight <= 3
        stand_in.most_in_flight = 0
        way.run([_ask(way)] * 4, _quiet, scoring=True)
        assert stand_in.most_in_flight == 1


def test_stopping_breaks_off_every_request_at_once(url: str, stand_in: StandIn) -> None:
    stand_in.always = Fault.HANG

    def stop(tokens: int) -> None:
        if stand_in.in_flight == 4:
            raise Cancelled("the test asked for it")

    with transport(url, timeout=600.0) as way:
        with pytest.raises(Cancelled):
            way.run([_ask(way)] * 4, stop)
        wait_until(lambda: stand_in.broken_off == 4)


def test_asking_all_replicas_stops_when_the_thread_is_told_to(url: str, stand_in: StandIn) -> None:
    stand_in.always = Fault.HANG

    def stop() -> None:
        if stand_in.in_flight:
            raise Cancelled("the test asked for it")

    with transport(url, timeout=600.0) as way, way.stoppable(stop), pytest.raises(Cancelled):
        way.everywhere(_ask(way))


def test_a_replica_that_fails_is_passed_over_while_another_answers(language: Language) -> None:
    sick, well = StandIn({NAME: language}), StandIn({NAME: language})
    sick.always = Fault.FAILED
    with serving(sick) as first, serving(well) as second, transport(first, second, concurrency=1) as way:
        way.run([_ask(way)] * 8, _quiet)
    assert (len(sick.asked), len(well.asked)) == (1, 8)


def test_a_server_that_is_restarted_is_found_again(language: Language) -> None:
    stand_in, found = StandIn({NAME: language}), []
    stand_in.always = Fault.HANG
    with ExitStack() as opened:
        first = opened.enter_context(ExitStack())
        url = first.enter_context(serving(stand_in))
        way = opened.enter_context(transport(url, attempts=12, first_wait=0.2))
        work = threading.Thread(target=lambda: found.extend(way.run([_ask(way)] * 3, _quiet)))
        work.start()
        wait_until(lambda: stand_in.in_flight == 3)
        first.close()
        stand_in.always = Fault.NONE
        opened.enter_context(running(stand_in.application, port=int(url.rpartition(":")[2])))
        work.join()
    assert len(found) == 3


def test_the_work_is_shared_between_replicas(language: Language) -> None:
    both = [StandIn({NAME: language}) for _ in range(2)]
    with serving(both[0]) as first, serving(both[1]) as second, transport(first, second, concurrency=4) as way:
        way.run([_ask(way)] * 16, _quiet)
        assert [answer["object"] for answer in way.everywhere(_ask(way))] == ["text_completion"] * 2
    assert all(len(stand_in.asked) > 2 for stand_in in both)


def test_the_token_goes_to_the_server_and_nowhere_else(url: str, stand_in: StandIn) -> None:
    stand_in.token = "open sesame"
    with transport(url, token="open sesame") as way, capture_logs() as logs:
        stand_in.faults.append(Fault.BUSY)
        way.run([_ask(way)], _quiet)
    assert "sesame" not in repr(logs) + repr(vars(way))


def test_several_threads_may_ask_at_once(url: str) -> None:
    found: list[list[str]] = []
    with transport(url) as way:
        work = [
            threading.Thread(target=lambda: found.append(_texts(way.run([_ask(way)] * 5, _quiet)))) for _ in range(3)
        ]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
    assert len(found) == 3
    assert found[0] == found[1] == found[2]


def test_an_address_in_an_error_is_host_and_port_and_nothing_else() -> None:
    url = "https://user:hunter2@vllm/hunter2?key=hunter2"
    for error in (faults.lost("pool", url), faults.late("pool", url, 2)):
        assert "at vllm:443 " in error.message
        assert "hunter2" not in error.message
