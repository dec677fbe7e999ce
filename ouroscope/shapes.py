"""What the fields of a record class hold, read from its annotations. For codecs that work by reflection."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any

UNLESS_DEFAULT: Mapping[str, bool] = types.MappingProxyType({"unless_default": True})
"""Metadata of a field that came when records without it were digested already: it is written only where it says
something, so that the digests of what does not use it stay."""


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """How the value of one field is built: from one element or many, whether None will do."""

    element: Any
    many: bool
    optional: bool


def shapes_of(kind: type[Any]) -> Mapping[str, Shape]:
    """Return the shape of every field of a record class, in their order."""
    return _shapes(typing.cast(Any, kind))


@cache
def _shapes(kind: Any) -> Mapping[str, Shape]:
    hints = typing.get_type_hints(kind)
    return {field.name: _shape(hints[field.name]) for field in dataclasses.fields(kind)}


def _shape(hint: Any) -> Shape:
    optional = typing.get_origin(hint) is types.UnionType
    if optional:
        (hint,) = (arm for arm in typing.get_args(hint) if arm is not type(None))
    many = typing.get_origin(hint) is tuple
    return Shape(typing.get_args(hint)[0] if many else hint, many, optional)
