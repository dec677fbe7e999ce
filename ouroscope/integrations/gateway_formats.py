"""One logged call of a text-generation server as prompt and completions. Pure: knows JSON objects, no files.

Known are the bodies of the OpenAI-compatible routes, as vLLM, TGI and others serve them, and of TGI's own `/generate`;
request and response side by side, or merged into one object. Tokens, log-probabilities and usage are left alone: see
docs/integrations.md for why no next-token record is made of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_REQUEST = ("request", "request_body")
_RESPONSE = ("response", "response_body")
_ALONE = ("generated_text", "completion")
"""Fields of an answer that has one completion."""


class Unusable(ValueError):
    """A line that holds no completion; its text is a reason without any content of the line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One completion and what it was written after."""

    prompt: str
    """Empty where it was logged as tokens only."""
    key: str
    """Equal for equal prompts, also where they were logged as tokens."""
    completion: str
    model: str


def exchanges(row: Mapping[str, Any]) -> Iterator[Exchange]:
    """Yield the completions of one logged call.

    Raises:
        Unusable: it has none, or no prompt.
    """
    request, response = _part(row, _REQUEST), _part(row, _RESPONSE)
    if _has_failed(row, response):
        raise Unusable("answers that failed")
    model = next((side["model"] for side in (response, request, row) if isinstance(side.get("model"), str)), "")
    completions = list(_completions(request, response))
    prompts = _prompts(request, len(completions))
    for prompt, completion in zip(prompts, completions, strict=True):
        text = prompt if isinstance(prompt, str) else ""
        key = text or json.dumps(prompt)
        yield Exchange(prompt=text, key=key, completion=_without_echo(request, text, completion), model=model)


def _part(row: Mapping[str, Any], names: Sequence[str]) -> Mapping[str, Any]:
    """Return one side of the call: under one of `names`, there perhaps as `body` or as JSON in a string, or merged."""
    found = next((row[name] for name in names if name in row), row)
    if isinstance(found, str):
        found = _parsed(found)
    if isinstance(found, Mapping) and isinstance(found.get("body"), Mapping | str | list):
        found = _parsed(found["body"]) if isinstance(found["body"], str) else found["body"]
    if isinstance(found, list) and found and isinstance(found[0], Mapping):  # TGI answers so at its root
        found = found[0]
    return found if isinstance(found, Mapping) else {}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unusable("bodies that are not JSON") from error


def _has_failed(row: Mapping[str, Any], response: Mapping[str, Any]) -> bool:
    outer = next((row[name] for name in _RESPONSE if isinstance(row.get(name), Mapping)), row)
    status = outer.get("status_code", outer.get("status"))
    told = any(side.get("error") for side in (row, response))
    return told or (isinstance(status, int) and status >= 400)


def _completions(request: Mapping[str, Any], response: Mapping[str, Any]) -> Iterator[str]:
    alone = next((response[name] for name in _ALONE if isinstance(response.get(name), str)), None)
    if alone is not None:
        yield _sound(alone)
        return
    choices = response.get("choices")
    if not isinstance(choices, list) or not choices or not all(isinstance(one, Mapping) for one in choices):
        raise Unusable("no completion")
    if any("delta" in choice for choice in choices):
        raise Unusable("pieces of a stream; log the whole answer")
    for choice in sorted(choices, key=_place):
        yield _text_of(choice)


def _place(choice: Mapping[str, Any]) -> int:
    place = choice.get("index", 0)
    return place if isinstance(place, int) else 0


def _text_of(choice: Mapping[str, Any]) -> str:
    message = choice.get("message")
    found = message.get("content") if isinstance(message, Mapping) else choice.get("text")
    if not isinstance(found, str):
        raise Unusable("no text, as in a call of a tool")
    return _sound(found)


def _prompts(request: Mapping[str, Any], count: int) -> list[Any]:
    """Return the prompt of each completion: several prompts have equally many completions each, in their order."""
    given = request.get("messages", request.get("prompt", request.get("inputs")))
    if "messages" in request:
        prompts: list[Any] = [_conversation(given)]
    elif isinstance(given, list) and given and not isinstance(given[0], int):
        prompts = given
    else:
        prompts = [given]
    if not all(isinstance(prompt, str | list) and prompt for prompt in prompts):
        raise Unusable("no prompt")
    if count % len(prompts):
        raise Unusable("not as many completions for each prompt")
    each = count // len(prompts)
    return [_sound(prompt) if isinstance(prompt, str) else prompt for prompt in prompts for _ in range(each)]


def _conversation(messages: Any) -> str:
    if not isinstance(messages, list) or not all(isinstance(one, Mapping) for one in messages):
        raise Unusable("no prompt")
    told = [f"{message.get('role', '')}: {_content(message.get('content'))}" for message in messages]
    return "".join(f"{line}\n\n" for line in told)


def _content(content: Any) -> str:
    """Return the text of a message: it may come in parts, of which some are pictures."""
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, Mapping))
        return "\n".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _without_echo(request: Mapping[str, Any], prompt: str, completion: str) -> str:
    parameters = request.get("parameters")
    echoed = request.get("echo") or (isinstance(parameters, Mapping) and parameters.get("return_full_text"))
    return completion.removeprefix(prompt) if echoed else completion


def _sound(text: str) -> str:
    """Return a text without halves of surrogate pairs, which JSON can spell and UTF-8 cannot."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
