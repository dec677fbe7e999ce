"""A key-value cache with room for the whole document from the first step on. Knows tensors; no text, no store.

The library's own cache copies all keys and values at every step to add one position, which is a third of the time of a
small model.

Shapes: B = rows of the batch, H = heads, P = positions there is room for, T = positions so far, D = width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class RoomyLayer(DynamicLayer):  # type: ignore[misc]  # the library ships no types
    """Keys and values of one layer: views of the filled part of two arrays that are made once."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room
        self._key_room_BHPD = self._value_room_BHPD = torch.empty(0)

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Add new positions [B, H, new, D] and return all of them [B, H, T, D]."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._key_room_BHPD, self._value_room_BHPD = (self._made(each) for each in (key_states, value_states))
        begin = self.get_seq_length()
        end = begin + key_states.shape[-2]
        self._key_room_BHPD[:, :, begin:end] = key_states
        self._value_room_BHPD[:, :, begin:end] = value_states
        return self._show(end)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep only these rows."""
        length = self.get_seq_length()
        self._key_room_BHPD, self._value_room_BHPD = self._key_room_BHPD[indices], self._value_room_BHPD[indices]
        self._show(length)

    def _made(self, states: Tensor) -> Tensor:
        rows, heads, _, width = states.shape
        return states.new_empty(rows, heads, self._room, width)

    def _show(self, length: int) -> tuple[Tensor, Tensor]:
        self.keys, self.values = self._key_room_BHPD[:, :, :length], self._value_room_BHPD[:, :, :length]
        return self.keys, self.values


def cache_with_room(config: Any, positions: int) -> DynamicCache:
    """Return an empty cache for a model; layers that look back only so far, or keep no keys, stay the library's own."""
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer(positions) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
