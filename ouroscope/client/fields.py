"""Which fields of an answer a caller wants, as a mask that gives records. Knows records, not services.

A record checks itself: a value needs its id, and a reason where it is undefined. What such a record cannot do without
is asked for together with what the caller names.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from ouroscope.records.analysis import MetricValue

_TOLD_TOGETHER = {MetricValue: ("value", "undefined_because")}
"""Optional fields of which a record must have one."""


def read_mask(answer: type[Any], fields: Sequence[str]) -> FieldMask:
    """Return the mask for `fields` of the record class `answer`, for example `rungs.metrics.value`; none means all.

    A name that does not exist stays in it: the service says so.
    """
    wanted = set(fields)
    for path in fields:
        wanted.update(_needed_beside(answer, path.split(".")))
    return FieldMask(paths=sorted(wanted))


def _needed_beside(answer: type[Any], names: Sequence[str]) -> Iterator[str]:
    kind: Any = answer
    for depth, name in enumerate(names):
        if not dataclasses.is_dataclass(kind):
            return
        yield from (".".join([*names[:depth], needed]) for needed in _needed(kind))
        kind = _element(typing.get_type_hints(kind).get(name))


def _needed(kind: Any) -> Iterator[str]:
    """Yield what a record of class `kind` cannot be made without; an empty list is as good as none."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if field.default is dataclasses.MISSING and typing.get_origin(hints[field.name]) is not tuple:
            yield field.name
    yield from _TOLD_TOGETHER.get(kind, ())


def _element(hint: Any) -> Any:
    """Return the class of one item: T of `tuple[T, ...]` and of `T | None`."""
    if typing.get_origin(hint) in (tuple, types.UnionType):
        return typing.get_args(hint)[0]
    return hint
