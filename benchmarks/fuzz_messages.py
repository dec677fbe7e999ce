"""Draws requests that nobody would send: from the description of a message, and from bytes that once were one.

Knows no service. Everything depends on the generator of random numbers that is handed in, and on nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

DEEPEST = 6
"""Messages inside messages."""
MOST = 3
"""Elements of a repeated field, mostly."""
DIGEST = "ab" * 32

NAMES = (
    "",
    "a",
    "runs/a",
    "runs/-",
    "runs/a/arms/human",
    "runs/a/arms/human/seeds/0",
    "runs/a/arms/human/seeds/0/generations/0",
    "runs/a/arms/human/seeds/-1/generations/99999999999999999999",
    "monitors/a",
    "monitors/a/generations/0",
    "baselines/a",
    "operations/a",
    f"operations/generate-{DIGEST}",
    "operations/runs-a",
    f"corpus/{DIGEST}",
    f"model/{DIGEST}",
    DIGEST,
    DIGEST.upper(),
    "ouro-tiny",
    "embedded",
    "transformers",
    "human",
    "replace",
    "accumulate",
    "types",
    "token_entropy",
    "cooccurrence",
    "en",
    "arc_easy",
    "123e4567-e89b-12d3-a456-426614174000",
)
HOSTILE = (
    "../../etc/passwd",
    "/etc/passwd",
    "/proc/self/environ",
    "file:///etc/passwd",
    "http://127.0.0.1:1/latest/meta-data",
    "s3://bucket/key",
    "owner/name@main",
    "a\x00b",
    "\r\nSet-Cookie: a=b",
    "'; DROP TABLE runs; --",
    "${jndi:ldap://127.0.0.1/a}",
    "{{7*7}}",
    "%s%n%x",
    "<script>alert(1)</script>",
    "\u202e\u0000\ufeff",
    "\U0001f600" * 40,
    "e\u0301" * 200,
    " \t\n ",
    "a" * 70_000,
    "word " * 3000,
    "[" * 2000,
)
_WHOLE = (0, 1, -1, 2, 7, 64, 127, 128, 255, 256, 65_535, 2**31 - 1, -(2**31), 2**53, 2**63 - 1, -(2**63))
_REAL = (0.0, -0.0, 0.5, 1.0, -1.0, 1e-300, 1e300, 0.1, float("inf"), float("-inf"), float("nan"))
_LIMITS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


@dataclass(frozen=True, slots=True)
class Words:
    """Strings that a drawn request may hold, beside random ones."""

    known: tuple[str, ...] = ()
    """Names of what there is, so that a request gets past the first check."""

    def draw(self, draw: random.Random) -> str:
        """Return one."""
        chance = draw.random()
        if chance < 0.3 and self.known:
            return draw.choice(self.known)
        if chance < 0.7:
            return draw.choice(NAMES)
        if chance < 0.9:
            return draw.choice(HOSTILE)
        return "".join(chr(draw.choice((32, 47, 97, 0x3B1, 0x4E00)) + draw.randrange(26)) for _ in range(9))


def drawn(kind: Descriptor, draw: random.Random, words: Words, depth: int = 0) -> Any:
    """Return a message of that kind with fields at random: left out, at their bounds, or anything."""
    message = GetMessageClass(kind)()
    share = draw.choice((0.1, 0.5, 0.9)) if depth < DEEPEST else 0.0
    for field in kind.fields:
        if draw.random() < share:
            _fill(message, field, draw, words, depth)
    return message


def mutated(raw: bytes, draw: random.Random) -> bytes:
    """Return bytes that were a message: some turned, cut, repeated, put in, or all of them drawn anew."""
    changed = bytearray(raw)
    for _ in range(draw.randint(1, 4)):
        draw.choice(_MUTATIONS)(changed, draw)
    return bytes(changed[:200_000])


def _fill(message: Any, field: FieldDescriptor, draw: random.Random, words: Words, depth: int) -> None:
    if field.is_repeated:
        _fill_many(message, field, draw, words, depth)
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(drawn(field.message_type, draw, words, depth + 1))
    else:
        setattr(message, field.name, _value(field, draw, words))


def _fill_many(message: Any, field: FieldDescriptor, draw: random.Random, words: Words, depth: int) -> None:
    many = getattr(message, field.name)
    count = draw.choice((1, MOST, MOST, 50)) if depth < 2 else 1
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        _fill_map(many, field.message_type, draw, words, depth)
        return
    for _ in range(count):
        if field.message_type is not None:
            many.add().CopyFrom(drawn(field.message_type, draw, words, depth + 1))
        else:
            many.append(_value(field, draw, words))


def _fill_map(many: Any, entry: Descriptor, draw: random.Random, words: Words, depth: int) -> None:
    key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
    for _ in range(draw.randint(1, MOST)):
        name = _value(key, draw, words)
        if value.message_type is not None:
            many[name].CopyFrom(drawn(value.message_type, draw, words, depth + 1))
        else:
            many[name] = _value(value, draw, words)


def _value(field: FieldDescriptor, draw: random.Random, words: Words) -> Any:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:
        text = words.draw(draw)
        return text if field.type == FieldDescriptor.TYPE_STRING else text.encode()
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return draw.random() < 0.5
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        known = [one.number for one in field.enum_type.values]
        return draw.choice((*known, *known, 99, -1, 2**31 - 1))
    if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return draw.choice((*_REAL, draw.uniform(0, 1), draw.uniform(-1e6, 1e6)))
    least, most = _LIMITS[kind]
    return max(least, min(most, draw.choice((*_WHOLE, draw.randint(0, 100), draw.randint(least, most)))))


def _turn(raw: bytearray, draw: random.Random) -> None:
    if raw:
        raw[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)


def _cut(raw: bytearray, draw: random.Random) -> None:
    del raw[draw.randint(0, len(raw)) :]


def _repeat(raw: bytearray, draw: random.Random) -> None:
    begin = draw.randint(0, len(raw))
    raw[begin:begin] = raw[begin : begin + draw.randint(0, 200)] * draw.randint(1, 20)


def _put(raw: bytearray, draw: random.Random) -> None:
    place = draw.randint(0, len(raw))
    raw[place:place] = draw.randbytes(draw.choice((1, 4, 64)))


def _anew(raw: bytearray, draw: random.Random) -> None:
    raw[:] = draw.randbytes(draw.choice((0, 1, 16, 1000)))


def _nest(raw: bytearray, draw: random.Random) -> None:
    """Lengths inside lengths: parsers count on their depth."""
    for _ in range(draw.choice((3, 120))):
        if len(raw) < 120:
            raw[:0] = bytes([0x0A, len(raw)])


_MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (_turn, _turn, _cut, _repeat, _put, _anew, _nest)
