"""Logs of gateways: what servers send becomes documents, and what cannot be used is counted and never shown."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ouroscope.corpora.streams import Limits
from ouroscope.errors import InvalidRequest, LimitExceeded, NotFound
from ouroscope.integrations.gateway_formats import Unusable, exchanges
from ouroscope.integrations.gateway_logs import GatewayLog
from ouroscope.records.documents import Document, Origin, View

# As the servers write them; fields that are left alone are kept in some.
VLLM_COMPLETION = {
    "request": {"model": "news-g7", "prompt": "Once upon", "max_tokens": 4, "logprobs": 1},
    "response": {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1795000000,
        "model": "news-g7",
        "choices": [
            {
                "index": 0,
                "text": " a time",
                "logprobs": {"tokens": [" a"], "token_logprobs": [-0.5], "top_logprobs": [{" a": -0.5}]},
                "finish_reason": "length",
                "stop_reason": None,
            }
        ],
        "usage": {"prompt_tokens": 2, "total_tokens": 4, "completion_tokens": 2},
    },
}
VLLM_CHAT = {
    "request": {
        "model": "news-g7",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "Say hello"}, {"type": "image_url", "image_url": {}}],
            },
        ],
    },
    "response": {
        "object": "chat.completion",
        "model": "news-g7",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}],
    },
}
VLLM_BATCH = {
    "id": "vllm-1",
    "custom_id": "line-1",
    "request": {"custom_id": "line-1", "method": "POST", "url": "/v1/completions", "body": VLLM_COMPLETION["request"]},
    "response": {"status_code": 200, "request_id": "r", "body": VLLM_COMPLETION["response"]},
    "error": None,
}
TGI_GENERATE = {
    "request": {"inputs": "Once upon", "parameters": {"max_new_tokens": 4, "top_n_tokens": 2}},
    "response": {
        "generated_text": " a time",
        "details": {
            "finish_reason": "length",
            "generated_tokens": 2,
            "tokens": [{"id": 263, "text": " a", "logprob": -0.5, "special": False}],
            "top_tokens": [[{"id": 263, "text": " a", "logprob": -0.5, "special": False}]],
        },
    },
}
TGI_ROOT = {"inputs": "Once upon", "response": [{"generated_text": " a time"}]}
MERGED = {**VLLM_COMPLETION["request"], **VLLM_COMPLETION["response"]}
AS_TEXT = {
    "request_body": json.dumps(VLLM_COMPLETION["request"]),
    "response_body": json.dumps(VLLM_COMPLETION["response"]),
}
PLAIN = {"prompt": "Once upon", "completion": " a time"}

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(*lines: Any, name: str = "log.jsonl") -> Path:
        content = b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return put


@pytest.mark.parametrize(
    "row",
    [VLLM_COMPLETION, VLLM_BATCH, TGI_GENERATE, TGI_ROOT, MERGED, AS_TEXT, PLAIN],
    ids=["vllm", "batch", "tgi", "tgi-root", "merged", "as-text", "plain"],
)
def test_every_shape_of_a_call_gives_the_same_prompt_and_completion(row: dict[str, Any]):
    (found,) = exchanges(row)
    assert (found.prompt, found.completion) == ("Once upon", " a time")


def test_a_conversation_is_its_messages_without_pictures():
    (found,) = exchanges(VLLM_CHAT)
    assert found.prompt == "system: Be brief.\n\nuser: Say hello\n\n"
    assert (found.completion, found.model) == ("Hello.", "news-g7")


def test_a_completion_is_a_synthetic_document_after_its_real_prefix(write: Write):
    one, other = GatewayLog(write(VLLM_COMPLETION, TGI_GENERATE))
    assert (one.text, one.visible(View.CONTINUATION), one.origin) == ("Once upon a time", " a time", Origin.SYNTHETIC)
    assert (one.id, other.id) == ("log.jsonl:1/0", "log.jsonl:2/0")
    assert one.prompt_id == one.group == other.prompt_id  # equal prompts are one observation


def test_several_prompts_and_several_choices_stay_together():
    choices = [
        {"index": 2, "text": "c"},
        {"index": 0, "text": "a"},
        {"index": 3, "text": "d"},
        {"index": 1, "text": "b"},
    ]
    found = list(exchanges({"prompt": ["P", "Q"], "n": 2, "choices": choices}))
    assert [(one.prompt, one.completion) for one in found] == [("P", "a"), ("P", "b"), ("Q", "c"), ("Q", "d")]


def test_a_prompt_of_tokens_names_its_answers_without_text():
    (one,) = exchanges({"prompt": [5, 6], "choices": [{"index": 0, "text": "x"}]})
    (two,) = exchanges({"prompt": [5, 7], "choices": [{"index": 0, "text": "x"}]})
    assert one.prompt == two.prompt == ""
    assert one.key != two.key


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "P", "echo": True, "choices": [{"index": 0, "text": "P and on"}]},
        {"inputs": "P", "parameters": {"return_full_text": True}, "generated_text": "P and on"},
    ],
)
def test_an_echoed_prompt_is_no_completion(row: dict[str, Any]):
    (found,) = exchanges(row)
    assert found.completion == " and on"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "P", "choices": []}, "no completion"),
        ({"choices": [{"text": "x"}]}, "no prompt"),
        ({"messages": "P", "choices": [{"text": "x"}]}, "no prompt"),
        ({"prompt": "P", "error": {"message": "secret"}}, "answers that failed"),
        ({"request": {"prompt": "P"}, "response": {"status_code": 429, "body": {}}}, "answers that failed"),
        ({"request": "{", "response": {}}, "bodies that are not JSON"),
        ({"prompt": "P", "choices": [{"delta": {"content": "x"}}]}, "pieces of a stream; log the whole answer"),
        ({"prompt": "P", "choices": [{"message": {"content": None}}]}, "no text, as in a call of a tool"),
        ({"prompt": ["P", "Q"], "choices": [{"text": "x"}]}, "not as many completions for each prompt"),
    ],
)
def test_what_has_no_completion_says_why(row: dict[str, Any], reason: str):
    with pytest.raises(Unusable) as caught:
        list(exchanges(row))
    assert str(caught.value) == reason


FIELDS = ("request", "response", "body", "prompt", "messages", "inputs", "choices", "text", "message", "content")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=12,
)


@given(row=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6))
def test_any_object_gives_documents_or_a_reason(row: dict[str, Any]):
    try:
        found = list(exchanges(row))
    except Unusable:
        return
    assert found
    assert all(isinstance(one.completion, str) and isinstance(one.prompt, str) for one in found)


def test_what_cannot_be_used_is_counted_and_told_and_never_shown(write: Write):
    path = write(VLLM_COMPLETION, b"\n", b"{secret\n", b'"secret"\n', b"\xff\xfe\n", {"error": "secret"}, TGI_GENERATE)
    reading = GatewayLog(path)
    with capture_logs() as logs:
        assert len(list(reading)) == 2
    expected = {"not JSON": 2, "not an object": 1, "answers that failed": 1}
    assert reading.tally.left_out == expected
    assert (reading.tally.lines, reading.tally.documents) == (6, 2)
    assert logs == [
        {
            "event": "gateway_log.read",
            "log_level": "info",
            "file": "log.jsonl",
            "lines": 6,
            "documents": 2,
            "left_out": expected,
        }
    ]
    assert len(list(reading)) == 2  # and again
    assert reading.tally.lines == 6


def test_a_line_that_is_too_long_is_passed_over_without_being_held(write: Write):
    reading = GatewayLog(write(PLAIN, b"x" * 5000 + b"\n", PLAIN, b"y" * 5000), limits=Limits(document_bytes=1000))
    assert len(list(reading)) == 2
    assert reading.tally.left_out == {"too long": 2}


def test_compressed_logs_are_read_and_bombs_are_not(write: Write):
    path = write(*[PLAIN] * 1000, name="log.jsonl.gz")
    assert len(list(GatewayLog(path))) == 1000
    with pytest.raises(LimitExceeded, match="grows beyond"):
        list(GatewayLog(path, limits=Limits(decompressed_bytes=10_000)))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InvalidRequest, match="not a whole gzip file"):
        list(GatewayLog(path))


def test_a_log_without_a_completion_is_refused_with_the_reasons(write: Write):
    with pytest.raises(InvalidRequest, match="has no completion; its lines: 2 not JSON, 1 no prompt"):
        list(GatewayLog(write(b"{\n", b"{\n", {"choices": [{"text": "x"}]})))
    with pytest.raises(NotFound):
        list(GatewayLog("absent.jsonl"))


def test_one_model_of_several_can_be_chosen_and_describes_the_generation(write: Write):
    other = {"model": "base", "prompt": "P", "choices": [{"index": 0, "text": "x"}]}
    path = write(other, VLLM_COMPLETION)
    reading = GatewayLog(path, model="news-g7")
    assert [one.text for one in reading] == ["Once upon a time"]
    assert reading.tally.left_out == {"answers of other models": 1}
    assert reading.description == "model news-g7"
    assert GatewayLog(path).description == "model base"
    assert GatewayLog(write(PLAIN)).description == ""


def test_answers_can_be_grouped_by_who_asked(write: Write):
    rows = [{**PLAIN, "request": {"prompt": f"P{n}", "user": f"u{n // 2}"}, "completion": "x"} for n in range(4)]
    found = list(GatewayLog(write(*rows), group_field="request.user"))
    assert [one.group for one in found] == ["u0", "u0", "u1", "u1"]
    assert len({one.prompt_id for one in found}) == 4


def test_prompts_can_stay_where_they_are(write: Write):
    (kept,) = GatewayLog(write(VLLM_CHAT))
    (alone,) = GatewayLog(write(VLLM_CHAT), keep_prompts=False)
    assert alone.text == "Hello." == kept.visible(View.CONTINUATION)
    assert (alone.prompt_id, alone.group) == (kept.prompt_id, kept.group)


def test_half_of_a_surrogate_pair_does_not_break_a_log(write: Write):
    (found,) = GatewayLog(write(b'{"prompt": "P", "completion": "cut \\ud83d"}\n'))
    assert isinstance(found, Document)
    assert found.text.encode() == "Pcut \ufffd".encode()
