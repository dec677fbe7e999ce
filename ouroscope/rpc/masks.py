"""Read masks (AIP-157): of a whole answer, the fields that the caller wants. Knows no message by name.

Unlike `FieldMask.MergeMessage` of protobuf, a path goes through repeated fields: `rungs.metrics.value` is the value of
every metric of every rung.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeVar

from google.protobuf.descriptor import Descriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from ouroscope.errors import FieldProblem, InvalidRequest

M = TypeVar("M", bound=Message)

Path = tuple[str, ...]


def check_mask(answer: Descriptor, mask: FieldMask, field: str) -> None:
    """Refuse a mask with paths that the message of `answer` does not have.

    Args:
        answer: what the mask will be applied to.
        mask: what the caller wants.
        field: name of the mask in the request, for the error.

    Raises:
        InvalidRequest: with one problem for each path that leads nowhere.
    """
    unknown = [path for path in mask.paths if not _leads_somewhere(answer, path)]
    problems = [FieldProblem(field, f"{answer.name} has no field {path[:80]!r}") for path in unknown]
    if problems:
        raise InvalidRequest(f"{field}: " + "; ".join(problem.description for problem in problems[:3]), problems)


def apply_mask(message: M, mask: FieldMask) -> M:
    """Return a message with only the fields of `mask`, which was checked; an empty mask, or `*`, means all of them."""
    if not mask.paths or "*" in mask.paths:
        return message
    kept = type(message)()
    _copy(message, kept, [tuple(path.split(".")) for path in mask.paths])
    return kept


def _leads_somewhere(answer: Descriptor, path: str) -> bool:
    if path == "*":
        return True
    level: Descriptor | None = answer
    for name in path.split("."):
        if level is None or name not in level.fields_by_name or level.GetOptions().map_entry:
            return False
        level = level.fields_by_name[name].message_type
    return True


def _copy(message: Message, kept: Message, paths: Sequence[Path]) -> None:
    present = {field.name: (field, value) for field, value in message.ListFields()}
    for name, below in groupby(sorted(paths), key=itemgetter(0)):
        rest = [path[1:] for path in below]
        if name not in present:
            continue
        field, value = present[name]
        if () in rest:
            _copy_whole(field, value, kept)
        elif field.is_repeated:
            for item in value:
                _copy(item, getattr(kept, name).add(), rest)
        else:
            # Present even where nothing in it is wanted: absent would say something else.
            getattr(kept, name).SetInParent()
            _copy(value, getattr(kept, name), rest)


def _copy_whole(field: Any, value: Any, kept: Message) -> None:
    if field.is_repeated:
        getattr(kept, field.name).MergeFrom(value)
    elif field.message_type is not None:
        getattr(kept, field.name).CopyFrom(value)
    else:
        setattr(kept, field.name, value)
