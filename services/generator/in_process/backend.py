"""Models that run in this process with torch and transformers, loaded from the artifact store.

A model is checked before any library that would run its code sees it, its files are verified against the manifest, and
weights that the file lacks are an error, where the library would make them up. A base is loaded once for all adapters
of it: the next generation of a loop with adapters costs a few megabytes and no loading.
"""

from __future__ import annotations

import importlib.metadata
import platform
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import structlog
import torch
from transformers.utils import logging as transformers_logging

from ouroscope.errors import UntrustedArtifact
from ouroscope.executor import processors
from ouroscope.models import check_model_directory
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.generation import Capability, Served, Verification
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.stored_models import StoredModel, stored_model
from ouroscope.tokens import Tokens
from services.generator.in_process import device as devices
from services.generator.in_process.classifier import HfClassifier
from services.generator.in_process.lanes import is_shareable
from services.generator.in_process.loaded import LoadedModel, adapter_of, load_weights
from services.generator.in_process.model import HfModel
from services.generator.models import stored_shape
from services.generator.plan import batch_size, lanes

log = structlog.get_logger(__name__)

_LIBRARIES = ("torch", "transformers", "peft", "tokenizers", "numpy")


class HfBackend:
    """Causal language models of transformers on one device. Thread-safe: one thread at a time uses the device."""

    name = kind = "transformers"
    problem = ""

    def __init__(
        self,
        store: ArtifactStore,
        *,
        device: str = "auto",
        dtype: str = "auto",
        threads: int = 0,
        kept_models: int = 2,
        kept_adapters: int = 4,
    ) -> None:
        """Choose device and number type; nothing is loaded yet.

        Args:
            store: Where models are.
            device: `auto` (an NVIDIA or AMD accelerator, else the processor), `cpu`, `cuda` or `mps`.
            dtype: `auto` (float32 on cpu and mps; on cuda bfloat16 where the hardware has it, else float16) or the
                name of a torch type.
            threads: Of one operation on the processor; 0 takes as many as the process may use.
            kept_models: Whole models kept in memory, the last used ones.
            kept_adapters: Adapters kept in memory with each of them.

        Raises:
            CapabilityMissing: this machine has no such device.
        """
        transformers_logging.disable_progress_bar()
        self._store = store
        self._device = devices.chosen_device(device)
        self._dtype = devices.chosen_dtype(dtype, self._device)
        self._threads = threads or processors()
        self._kept_models, self._kept_adapters = kept_models, kept_adapters
        self._loaded: OrderedDict[ArtifactRef, LoadedModel] = OrderedDict()
        self._lock = threading.RLock()

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Return what its models can do; only on the processor is it proved that equal requests give equal text."""
        able = frozenset(Capability)
        return able if self._device == "cpu" else able - {Capability.REPRODUCIBLE}

    def hold(self, check: Callable[[], None]) -> AbstractContextManager[None]:
        """Return at once: every step has its own weights, under the lock of the device."""
        return nullcontext()

    def fingerprint(self) -> Mapping[str, str]:
        """Return everything about machine and software that can change a result."""
        return {
            "backend": self.name,
            "device": devices.described(self._device),
            "machine": platform.machine(),
            "dtype": str(self._dtype).removeprefix("torch."),
            "threads": str(self._threads),
            **{library: importlib.metadata.version(library) for library in _LIBRARIES},
        }

    def batch_size(self, model: ArtifactRef, new_tokens: int) -> int:
        """Return how many documents to work on together: by the memory of the machine and the shape of the model."""
        return batch_size(
            stored_shape(self._store, model),
            new_tokens=new_tokens,
            memory_bytes=devices.memory_bytes(self._device),
            number_bytes=self._dtype.itemsize,
            limit=devices.LARGEST_BATCH[self._device],
        )

    def open(self, model: ArtifactRef) -> HfModel:
        """Return the model, from memory or loaded and verified."""
        stored = stored_model(self._store, model)
        adapter = adapter_of(stored)
        with self._lock:
            if stored.whole not in self._loaded:
                while len(self._loaded) >= self._kept_models:
                    self._loaded.popitem(last=False)
                self._loaded[stored.whole] = self._load(stored)
            self._loaded.move_to_end(stored.whole)
            loaded = self._loaded[stored.whole]
            with loaded.weights(adapter):
                return HfModel(loaded, self._served(model), adapter)

    def close(self) -> None:
        """Do nothing: there are no connections."""

    def open_classifier(self, directory: Path) -> HfClassifier:
        """Return the text classifier of a directory, loaded anew: it is asked seldom and for all documents at once."""
        torch.set_num_threads(self._threads)
        return HfClassifier.open(directory, self._device)

    def _load(self, stored: StoredModel) -> LoadedModel:
        check_model_directory(stored.directory)
        shape = stored_shape(self._store, stored.whole)
        log.info("model.loading", model=stored.whole.digest[:12], device=self._device, parameters=shape.parameters)
        tokens = Tokens.open(stored.directory)
        if tokens.largest >= shape.vocabulary:
            raise UntrustedArtifact("the model is refused: its tokenizer knows more tokens than its weights")
        weights = load_weights(stored.directory, self._dtype, self._device)
        together = self._device == "cpu" and is_shareable(weights)
        return LoadedModel(
            weights,
            tokens,
            shape.context_tokens,
            self._lock,
            threads=self._threads,
            lanes=lanes(shape, self._threads) if together else 1,
            kept=self._kept_adapters,
            directory=stored.directory,
        )

    def _served(self, model: ArtifactRef) -> Served:
        return Served(
            backend=self.name,
            kind=self.kind,
            model=model.digest,
            verification=Verification.LOADED,
            reproducible=Capability.REPRODUCIBLE in self.capabilities,
        )
