"""Requests that nobody would send, to every method of the four services: a sample of benchmarks/fuzzing.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from benchmarks.fuzz_messages import Words
from benchmarks.fuzzing import Findings, Fuzzer, Request, fault_of, known_words, send
from ouroscope.client import open_channel
from ouroscope.rpc.decoding import TOLD
from ouroscope.security.connection import PLAIN
from ouroscope_app.embedded import embedded_services
from ouroscope_app.home import Home

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]

SAMPLE = 300
NO_MESSAGE = b"\xff\xff\xff"
"""A tag of a field that no message has, cut off in the middle."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fuzzer(tmp_path_factory: pytest.TempPathFactory, root: Path) -> AsyncIterator[Fuzzer]:
    folder = tmp_path_factory.mktemp("fuzzing")
    async with embedded_services(Home(folder).prepare()) as at:
        words = Words(await known_words(at.generator))
        addresses = (at.generator, at.trainer, at.analyzer, at.coordinator)
        async with Fuzzer(0, addresses, words, (str(folder), str(root))) as found:
            yield found


async def test_nothing_crashes_hangs_answers_internal_or_tells_the_text_of_an_exception(fuzzer: Fuzzer) -> None:
    findings = Findings(seed=0)
    await fuzzer.batch(range(SAMPLE), findings)
    assert findings.faults == []
    assert sum(sum(codes.values()) for codes in findings.counts.values()) == SAMPLE


async def test_bytes_that_are_no_message_are_a_fault_of_the_caller_in_every_method(fuzzer: Fuzzer) -> None:
    for method in fuzzer.methods:
        async with open_channel(method.address, PLAIN) as channel:
            answer = await send(Request(method=method, messages=(NO_MESSAGE,), metadata=()), channel)
        assert fault_of(answer.code, answer.told, ()) is None, method.path
        if answer.code == "UNIMPLEMENTED":
            assert method.path.startswith("/grpc."), "a method of ours that nobody wrote"
            continue
        assert answer.code == "INVALID_ARGUMENT", method.path
        assert TOLD in answer.told
