"""Whatever a server answers, it becomes a result within bounds or a typed error: servers are not trusted."""

from __future__ import annotations

import asyncio
import math
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ouroscope.errors import CapabilityMissing, InvalidRequest, OuroscopeError, PreconditionFailed, Unavailable
from ouroscope.records.generation import SamplingSpec, Served, Verification
from ouroscope.tokens import Tokens
from services.generator.backend import Prompt
from services.generator.servers import answers, faults
from services.generator.servers.base import Asked
from services.generator.servers.openai import OpenAiDialect
from services.generator.servers.replicas import Replica
from services.generator.servers.transport import Transport
from services.generator.servers.vllm import VllmDialect

SERVED = Served(backend="pool", kind="vllm", model="tiny", verification=Verification.DECLARED)
MOST = 5

numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.floats(max_value=0, allow_nan=False),
    st.sampled_from([10**400, -(10**400), -1.5, 1 << 63]),
)
anything = st.recursive(
    st.one_of(
        st.none(), st.booleans(), numbers, st.text(max_size=5), st.sampled_from(["\ud800", "token_id:" + "9" * 30])
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(["1", "2", "3", "logprob", "rank"]), inner)
    ),
    max_leaves=12,
)
entries = st.one_of(
    anything,
    st.dictionaries(
        st.sampled_from(["1", "2", "3"]),
        st.fixed_dictionaries({"logprob": numbers, "rank": st.one_of(numbers, st.none())}),
    ),
)
choices = st.one_of(
    anything,
    st.fixed_dictionaries(
        {},
        optional={
            "text": anything,
            "token_ids": st.one_of(anything, st.lists(st.integers(0, 400), max_size=7)),
            "prompt_logprobs": st.one_of(anything, st.lists(entries, min_size=3, max_size=3)),
            "logprobs": st.one_of(
                anything,
                st.fixed_dictionaries(
                    {
                        "token_logprobs": st.one_of(anything, st.lists(numbers, min_size=3, max_size=4)),
                        "top_logprobs": st.one_of(
                            anything,
                            st.lists(st.dictionaries(st.sampled_from(["a", "b", "token_id:7"]), numbers), max_size=4),
                        ),
                    }
                ),
            ),
        },
    ),
)
bodies = st.one_of(
    anything,
    st.fixed_dictionaries(
        {"choices": st.one_of(anything, st.lists(choices, max_size=2))},
        optional={"model": st.just("tiny"), "usage": anything},
    ),
)


class _Answering(Transport):
    """Answers every request with one thing, without a server."""

    def __init__(self, answer: Any) -> None:
        super().__init__("pool", ["http://127.0.0.1:9"])
        self._answer = answer

    async def send(self, replica: Replica, method: str, route: str, **options: Any) -> Any:
        return self._answer


@pytest.fixture(scope="module")
def tokens(model_directory: Path) -> Tokens:
    return Tokens.open(model_directory)


@pytest.mark.parametrize("dialect", [OpenAiDialect, VllmDialect])
@settings(max_examples=75)
@given(answer=bodies)
@example(answer={"model": "tiny", "choices": [{"text": "\ud83d", "token_ids": None}]})
@example(answer={"model": "tiny", "choices": [{"text": "a", "token_ids": None}], "usage": {"completion_tokens": 99}})
def test_no_answer_does_more_than_its_kind_can(tokens: Tokens, dialect: type[OpenAiDialect], answer: Any) -> None:
    asked = dialect(_Answering(answer))
    replica = cast(Replica, None)
    prompt = Asked(
        Prompt("p", "The tail"), tokens.start, (5, 6), tokens.ends, 1, SamplingSpec(top_k=0, max_new_tokens=MOST)
    )
    try:
        written = asyncio.run(asked.write(replica, SERVED, tokens, prompt))
        assert 0 <= written.tokens <= MOST
        assert written.text.encode().decode() == written.text
    except OuroscopeError:
        pass
    try:
        judged = asyncio.run(asked.judge(replica, SERVED, tokens, [1, 2, 3], 1))
        assert judged.log_probabilities.shape == (2,)
        assert np.isfinite(judged.log_probabilities).all()
        assert (judged.log_probabilities <= 0).all()
    except OuroscopeError:
        pass
    try:
        found = asyncio.run(asked.choices(replica, SERVED, tokens, [1, 2, 3], 2))
        assert len(found.log_probabilities) == 2
        assert found.log_probabilities[0] >= found.log_probabilities[1]
    except OuroscopeError:
        pass


def test_a_log_probability_is_a_number_of_at_most_0() -> None:
    assert answers.log_probability(-0.25) == -0.25
    assert answers.log_probability(1e-9) == 0.0
    assert math.isfinite(answers.log_probability(-(10**400)))
    with pytest.raises(PreconditionFailed):
        answers.log_probability(math.inf)
    for wrong in (True, "0", None, 0.5):
        with pytest.raises(answers.Broken):
            answers.log_probability(wrong)


def test_a_broken_character_becomes_the_mark_of_one() -> None:
    assert answers.text_of("a\ud800b") == "a\ufffdb"
    assert answers.text_of("\ud83d\udc0d") == "🐍"


def test_a_wait_is_read_as_seconds_or_as_a_date_and_bounded() -> None:
    assert faults.seconds_to_wait({"retry-after": "2.5"}) == 2.5
    assert 20 < faults.seconds_to_wait({"retry-after": formatdate(time.time() + 30, usegmt=True)}) <= 30
    assert faults.seconds_to_wait({"retry-after": "86400"}) == 300
    for nothing in ({}, {"retry-after": "soon"}, {"retry-after": "-4"}, {"retry-after": "nan"}, {"retry-after": "inf"}):
        assert faults.seconds_to_wait(nothing) == 0


@given(status=st.integers(300, 599), body=st.binary(max_size=60))
def test_every_status_has_an_error_that_holds_nothing_of_the_servers_text(status: int, body: bytes) -> None:
    secret = b'{"error": {"message": "model /secret/path"}}'
    error = faults.error_of(status, server="pool", route="/v1/completions", body=secret if len(body) > 30 else body)
    assert isinstance(error, (Unavailable, PreconditionFailed, CapabilityMissing, InvalidRequest))
    assert isinstance(error, Unavailable) == (status in (408, 424, 425, 429) or (status >= 500 and status != 501))
    assert "secret" not in error.message
