"""A whole model in memory with everything that goes with it, shared by all who ask it or its adapters."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoModelForCausalLM

from ouroscope.adapters import CheckedAdapter, check_adapter_directory, check_fits
from ouroscope.chat import ChatFrame, chat_frame
from ouroscope.errors import CorruptArtifact, InvalidRequest
from ouroscope.memory import is_lack_of_memory
from ouroscope.models import BUILDING, SAFELY, weight_shapes
from ouroscope.records.generation import ChatFormat
from ouroscope.stored_models import StoredModel
from ouroscope.tokens import Tokens
from services.generator.in_process.adapters import Adapters
from services.generator.in_process.scoring import Head

_NOT_UNDERSTOOD = (
    *(ValueError, KeyError, ImportError, AssertionError, AttributeError, TypeError, ArithmeticError),
    StrictDataclassError,
)
"""What transformers raises while it builds a model from a configuration that it does not know or that is none."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A stored adapter that may be opened."""

    digest: str
    directory: Path
    checked: CheckedAdapter


def adapter_of(stored: StoredModel) -> Adapter | None:
    """Return the adapter of a stored model, having found that it is harmless and belongs to its base.

    Raises:
        UntrustedArtifact: it is not, or it does not.
    """
    if stored.adapter is None:
        return None
    checked = check_adapter_directory(stored.adapter)
    check_fits(checked, weight_shapes(stored.directory))
    return Adapter(stored.ref.digest, stored.adapter, checked)


class LoadedModel:
    """A model of transformers in memory. Thread-safe: `weights` lets in one thread at a time."""

    def __init__(
        self,
        model: Any,
        tokens: Tokens,
        context_tokens: int,
        lock: threading.RLock,
        *,
        threads: int,
        lanes: int = 1,
        kept: int = 1,
        directory: Path | None = None,
    ) -> None:
        """Take a model in evaluation mode.

        Args:
            model: A causal language model of transformers.
            tokens: How it cuts text.
            context_tokens: Longest input.
            lock: Of the device.
            threads: Of one operation on the processor.
            lanes: Batches of given texts that are looked at side by side, with one thread each.
            kept: Adapters that stay in memory.
            directory: Its verified files, for its chat template.
        """
        self.model = model
        self.tokens = tokens
        self.context_tokens = context_tokens
        self.head = Head.of(model, lanes)
        self.lanes = lanes
        self._lock = lock
        self._threads = threads
        self._adapters = Adapters(model, kept)
        self.directory = directory
        self._frames: dict[ChatFormat, ChatFrame] = {}

    def frame(self, chat: ChatFormat) -> ChatFrame:
        """Return what its chat template puts around an answer.

        Raises:
            InvalidRequest: it has none that takes these turns.
        """
        if chat not in self._frames:
            if self.directory is None:
                raise InvalidRequest("the model has no files, so it has no chat template; ask without sampling.chat")
            self._frames[chat] = chat_frame(self.directory, chat)
        return self._frames[chat]

    @contextmanager
    def weights(self, adapter: Adapter | None) -> Iterator[None]:
        """Have the device, and the base with this adapter or alone."""
        with self._lock:
            # Torch counts threads per thread that calls it.
            torch.set_num_threads(self._threads)
            if adapter is None:
                self._adapters.use_none()
            else:
                self._adapters.use(adapter.digest, adapter.checked, adapter.directory)
            yield


def load_weights(
    directory: Path,
    dtype: torch.dtype,
    device: str,
    kind: Any = AutoModelForCausalLM,
    called: str = "causal language model",
) -> Any:
    """Return the model of a checked directory, in evaluation mode.

    `kind` is the class of transformers that opens it, and `called` what people call that.

    Raises:
        InvalidRequest: transformers does not know its architecture.
        CorruptArtifact: weights are missing, which the library would make up, or have another shape.
    """
    with BUILDING:
        try:
            model, found = kind.from_pretrained(directory, dtype=dtype, **SAFELY, output_loading_info=True)
        except _NOT_UNDERSTOOD as error:
            raise InvalidRequest(
                f"the model cannot be opened: transformers knows no {called} of that configuration"
            ) from error
        except RuntimeError as error:
            if is_lack_of_memory(error):
                raise
            raise CorruptArtifact(
                "the model cannot be opened: its weights have other shapes than config.json says; save it again in full"
            ) from error
    missing = sorted(found["missing_keys"]) + sorted(str(each) for each in found.get("mismatched_keys", ()))
    if missing:
        raise CorruptArtifact(
            f"the model lacks weights ({missing[0]} and {len(missing) - 1} more); save it again in full"
        )
    return model.eval().requires_grad_(False).to(device)
