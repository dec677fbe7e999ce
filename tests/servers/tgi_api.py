"""What this project relies on in text-generation-inference's HTTP interface, written down by hand from its published
OpenAPI document (docs/openapi.json of huggingface/text-generation-inference), and a validator for it.

Only what is sent or read here is listed. `differences` compares the table with a copy of the document, so that whoever
has one can see whether it still holds; no copy is kept here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

VERSION = "3.3.6-dev0"
"""`info.version` of the document that the table was written from."""

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "array": (list,),
}


@dataclass(frozen=True, slots=True)
class Field:
    """One property of a JSON object."""

    kind: str
    """`string`, `boolean`, `integer`, `number`, or the name of a schema."""
    required: bool = False
    nullable: bool = False
    minimum: float | None = None
    above: float | None = None
    """Exclusive minimum."""
    maximum: float | None = None
    depth: int = 0
    """Lists around it."""


@dataclass(frozen=True, slots=True)
class Route:
    """One way to ask."""

    request: str | None
    answers: Mapping[int, str | None]
    """Schema of the answer by status; None where none is told."""


_FAILURES = {422: "ErrorResponse", 424: "ErrorResponse", 429: "ErrorResponse", 500: "ErrorResponse"}

ROUTES: Mapping[tuple[str, str], Route] = {
    ("POST", "/generate"): Route("GenerateRequest", {200: "GenerateResponse", **_FAILURES}),
    ("POST", "/tokenize"): Route("GenerateRequest", {200: "TokenizeResponse", 404: "ErrorResponse"}),
    ("GET", "/info"): Route(None, {200: "Info"}),
    ("GET", "/health"): Route(None, {200: None, 503: "ErrorResponse"}),
}

SCHEMAS: Mapping[str, Mapping[str, Field]] = {
    "GenerateRequest": {
        "inputs": Field("string", required=True),
        "parameters": Field("GenerateParameters"),
    },
    "GenerateParameters": {
        "decoder_input_details": Field("boolean"),
        "details": Field("boolean"),
        "do_sample": Field("boolean"),
        "max_new_tokens": Field("integer", nullable=True, minimum=0),
        "return_full_text": Field("boolean", nullable=True),
        "seed": Field("integer", nullable=True, minimum=0, above=0),
        "temperature": Field("number", nullable=True, above=0),
        "top_k": Field("integer", nullable=True, above=0),
        "top_n_tokens": Field("integer", nullable=True, minimum=0, above=0),
        "top_p": Field("number", nullable=True, above=0, maximum=1),
    },
    "GenerateResponse": {
        "generated_text": Field("string", required=True),
        "details": Field("Details", nullable=True),
    },
    "Details": {
        "finish_reason": Field("FinishReason", required=True),
        "generated_tokens": Field("integer", required=True, minimum=0),
        "prefill": Field("PrefillToken", required=True, depth=1),
        "seed": Field("integer", nullable=True, minimum=0),
        "tokens": Field("Token", required=True, depth=1),
        "top_tokens": Field("Token", depth=2),
    },
    "PrefillToken": {
        "id": Field("integer", required=True, minimum=0),
        "text": Field("string", required=True),
        "logprob": Field("number", required=True, nullable=True),
    },
    "Token": {
        "id": Field("integer", required=True, minimum=0),
        "text": Field("string", required=True),
        "logprob": Field("number", required=True, nullable=True),
        "special": Field("boolean", required=True),
    },
    "SimpleToken": {
        "id": Field("integer", required=True, minimum=0),
        "text": Field("string", required=True),
        "start": Field("integer", required=True, minimum=0),
        "stop": Field("integer", required=True, minimum=0),
    },
    "Info": {
        "model_id": Field("string", required=True),
        "max_concurrent_requests": Field("integer", required=True, minimum=0),
        "max_best_of": Field("integer", required=True, minimum=0),
        "max_stop_sequences": Field("integer", required=True, minimum=0),
        "max_input_tokens": Field("integer", required=True, minimum=0),
        "max_total_tokens": Field("integer", required=True, minimum=0),
        "validation_workers": Field("integer", required=True, minimum=0),
        "max_client_batch_size": Field("integer", required=True, minimum=0),
        "router": Field("string", required=True),
        "version": Field("string", required=True),
    },
    "ErrorResponse": {
        "error": Field("string", required=True),
        "error_type": Field("string", required=True),
    },
}

ENUMS: Mapping[str, tuple[str, ...]] = {"FinishReason": ("length", "eos_token", "stop_sequence")}
LISTS: Mapping[str, str] = {"TokenizeResponse": "SimpleToken"}
"""Schemas that are lists of another."""


def problems(value: Any, kind: str, where: str = "") -> Iterator[str]:
    """Yield where `value` is not of the schema or simple type `kind`; an unknown key is a problem too."""
    if kind in LISTS:
        yield from _list_problems(value, Field(LISTS[kind], depth=1), where)
    elif kind in ENUMS:
        if value not in ENUMS[kind]:
            yield f"{where}: {value!r} is none of {ENUMS[kind]}"
    elif kind not in SCHEMAS:
        if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
            yield f"{where}: {value!r} is no {kind}"
    elif not isinstance(value, dict):
        yield f"{where}: {value!r} is no object"
    else:
        yield from _object_problems(value, SCHEMAS[kind], where)


def _object_problems(value: Mapping[str, Any], fields: Mapping[str, Field], where: str) -> Iterator[str]:
    yield from (f"{where}.{key} is unknown" for key in value if key not in fields)
    for key, field in fields.items():
        if key in value:
            yield from _field_problems(value[key], field, f"{where}.{key}")
        elif field.required:
            yield f"{where}.{key} is missing"


def _field_problems(value: Any, field: Field, where: str) -> Iterator[str]:
    if value is None:
        if not field.nullable:
            yield f"{where} is null"
    elif field.depth:
        yield from _list_problems(value, field, where)
    else:
        found = list(problems(value, field.kind, where))
        yield from found or _bound_problems(value, field, where)


def _list_problems(value: Any, field: Field, where: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{where}: {value!r} is no list"
        return
    inner = Field(field.kind, depth=field.depth - 1)
    for place, item in enumerate(value):
        yield from _field_problems(item, inner, f"{where}[{place}]")


def _bound_problems(value: Any, field: Field, where: str) -> Iterator[str]:
    if field.minimum is not None and value < field.minimum:
        yield f"{where}: {value} is below {field.minimum}"
    if field.above is not None and value <= field.above:
        yield f"{where}: {value} is not above {field.above}"
    if field.maximum is not None and value > field.maximum:
        yield f"{where}: {value} is above {field.maximum}"


def differences(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield where the table and a copy of the OpenAPI document disagree."""
    for (method, path), route in ROUTES.items():
        found = document["paths"].get(path, {}).get(method.lower())
        if found is None:
            yield f"{method} {path} is not in the document"
        else:
            yield from _route_differences(found, route, f"{method} {path}")
    schemas = document["components"]["schemas"]
    for name, fields in SCHEMAS.items():
        yield from _schema_differences(schemas.get(name, {}), fields, name)
    for name, values in ENUMS.items():
        if tuple(schemas[name]["enum"]) != values:
            yield f"{name}: the document has {schemas[name]['enum']}"
    for name, item in LISTS.items():
        if _kind(schemas[name]) != (item, 1):
            yield f"{name}: the document has {_kind(schemas[name])}"


def _route_differences(found: Mapping[str, Any], route: Route, where: str) -> Iterator[str]:
    if _content(found.get("requestBody", {})) != route.request:
        yield f"{where}: the document takes {_content(found.get('requestBody', {}))}"
    for status, answer in route.answers.items():
        told = found["responses"].get(str(status))
        if told is None or _content(told) != answer:
            yield f"{where}: the document answers {status} with {told and _content(told)}"


def _content(part: Mapping[str, Any]) -> str | None:
    schema = part.get("content", {}).get("application/json", {}).get("schema")
    return None if schema is None else _kind(schema)[0]


def _schema_differences(schema: Mapping[str, Any], fields: Mapping[str, Field], name: str) -> Iterator[str]:
    required = {field for field, told in fields.items() if told.required}
    if more := set(schema.get("required", ())) - set(fields):
        yield f"{name}: the document also requires {sorted(more)}"
    for key, field in fields.items():
        found = schema.get("properties", {}).get(key)
        if found is None:
            yield f"{name}.{key} is not in the document"
            continue
        kind, depth = _kind(found)
        told = Field(
            kind,
            required=key in schema.get("required", ()),
            nullable=found.get("nullable", False),
            minimum=found.get("minimum"),
            above=found.get("exclusiveMinimum"),
            maximum=found.get("maximum"),
            depth=depth,
        )
        if told != field or (key in required) != told.required:
            yield f"{name}.{key}: the document has {told}"


def _kind(schema: Mapping[str, Any]) -> tuple[str, int]:
    """Return the name of a schema or simple type, and the lists around it."""
    if schema.get("type") == "array":
        kind, depth = _kind(schema["items"])
        return kind, depth + 1
    ref = schema.get("$ref") or next((part["$ref"] for part in schema.get("allOf", ()) if "$ref" in part), None)
    return (ref.rpartition("/")[2] if ref else str(schema.get("type"))), 0
