"""How much work is done together: fixed before a request is digested, so that equal requests mean equal batches.

The shape of a batch moves the last bits of a probability, and once in a while a drawn token; therefore the plan is part
of the request's digest, and nothing that varies from moment to moment (free memory, load) may enter it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from ouroscope.errors import UntrustedArtifact

Item = TypeVar("Item")

_SHARD_DOCUMENTS = 200
_MEMORY_SHARE = 0.25
"""Of the device, for weights and batch together: the embedded launcher runs three more services on the same machine."""
_PROMPT_TOKENS = 1024
"""Room for the prompt. A longer one may exhaust the memory; the batch is then halved."""
_WORKING_COPIES = 4
"""Arrays of the size of the logits that exist at once while a token is drawn."""


_SMALL_PARAMETERS = 50_000_000
"""Models up to this size look at texts in batches side by side; of larger ones a matrix is worth several threads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """The sizes that decide how much memory a model takes."""

    layers: int
    key_value_width: int
    """Numbers that one layer's cache keeps per position: keys and values of all heads."""
    vocabulary: int
    context_tokens: int
    parameters: int

    @classmethod
    def of(cls, config: Mapping[str, Any], parameters: int) -> ModelShape:
        """Read the shape from a Hugging Face configuration.

        Raises:
            UntrustedArtifact: a size is missing or is no positive number.
        """
        # Models that also see or hear keep the sizes of their language part apart.
        text = {**config, **config.get("text_config", {})}
        heads = _size(text, "num_attention_heads", "n_head")
        width = _size(text, "hidden_size", "n_embd")
        kept = _size(text, "num_key_value_heads", default=heads)
        return cls(
            layers=_size(text, "num_hidden_layers", "n_layer"),
            key_value_width=2 * kept * _size(text, "head_dim", default=max(1, width // heads)),
            vocabulary=_size(text, "vocab_size"),
            context_tokens=_size(text, "max_position_embeddings", "n_positions", "n_ctx", default=2048),
            parameters=parameters,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a list of documents is worked off."""

    batch_size: int
    shard_documents: int
    """Documents between two points from which interrupted work goes on; a whole number of batches."""


def batch_size(shape: ModelShape, *, new_tokens: int, memory_bytes: int, number_bytes: int, limit: int) -> int:
    """Return the largest power of two of documents that fit into a fixed share of the memory, in [1, limit].

    `memory_bytes`: of the whole device, free or not; `number_bytes`: of one weight (4 = float32).
    """
    positions = min(shape.context_tokens, new_tokens + _PROMPT_TOKENS)
    cache = positions * shape.layers * shape.key_value_width * number_bytes
    document = cache + _WORKING_COPIES * 4 * shape.vocabulary
    left = memory_bytes * _MEMORY_SHARE - shape.parameters * number_bytes
    fitting = min(limit, max(1, int(left // document)))
    return int(2 ** (fitting.bit_length() - 1))


def lanes(shape: ModelShape, threads: int) -> int:
    """Return how many batches of texts a processor looks at side by side, with a thread each; 1 shares all threads."""
    return threads if shape.parameters <= _SMALL_PARAMETERS else 1


def plan_for(batch: int) -> Plan:
    """Return the plan with whole batches in every shard, near 200 documents each."""
    return Plan(batch_size=batch, shard_documents=batch * max(1, round(_SHARD_DOCUMENTS / batch)))


def parts(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in lists of `size`, the last one maybe shorter.

    >>> list(parts("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    remaining = iter(items)
    while part := list(islice(remaining, size)):
        yield part


def _size(config: Mapping[str, Any], *names: str, default: int | None = None) -> int:
    found = next((config[name] for name in names if config.get(name) is not None), default)
    if type(found) is not int or found < 1:
        raise UntrustedArtifact(f"the model is refused: config.json must give {names[0]} as a positive number")
    return found
