"""Models that run in this process with torch and transformers, loaded from the artifact store.

A model is checked before any
library that would run its code sees it, its files are verified against the manifest, and weights that the file lacks
are an error, where the library would make them up.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import structlog
import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from ouroscope.errors import CapabilityMissing, CorruptArtifact, InvalidRequest, LimitExceeded, UntrustedArtifact
from ouroscope.models import BUILDING, SAFELY, check_model_directory
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.generation import Capability, SamplingSpec
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.tokens import Tokens
from services.generator.backend import Continuation, Expectation, Prompt, Pulse, TokenScores, Written
from services.generator.in_process.decoding import continue_prompts
from services.generator.in_process.scoring import Head, expect_next, judge_texts
from services.generator.models import stored_shape
from services.generator.plan import batch_size
from services.generator.sampling import noise

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

_LIBRARIES = ("torch", "transformers", "tokenizers", "numpy")
_LARGEST_BATCH = {"cpu": 256, "cuda": 256, "mps": 64}
"""Beyond these a step takes longer by as much as it does more."""
_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


class HfBackend:
    """Causal language models of transformers on one device. Thread-safe: one thread at a time uses the device."""

    name = "transformers"

    def __init__(
        self, store: ArtifactStore, *, device: str = "auto", dtype: str = "auto", threads: int = 0, kept_models: int = 2
    ) -> None:
        """Choose device and number type; nothing is loaded yet.

        Args:
            store: Where models are.
            device: `auto` (an NVIDIA or AMD accelerator, else the processor), `cpu`, `cuda` or `mps`.
            dtype: `auto` (float32 on cpu and mps, bfloat16 on cuda) or the name of a torch type.
            threads: Of one operation on the processor; 0 takes as many as the process may use.
            kept_models: Models kept in memory, the last used ones.

        Raises:
            CapabilityMissing: this machine has no such device.
        """
        transformers_logging.disable_progress_bar()
        self._store = store
        self._device = _chosen_device(device)
        self._dtype = _chosen_dtype(dtype, self._device)
        self._threads = threads or _processors()
        self._kept_models = kept_models
        self._models: OrderedDict[ArtifactRef, HfModel] = OrderedDict()
        self._lock = threading.RLock()

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Return what its models can do; only on the processor is it proved that equal requests give equal text."""
        able = {Capability.GENERATE, Capability.SCORE}
        return frozenset(able | {Capability.REPRODUCIBLE} if self._device == "cpu" else able)

    def fingerprint(self) -> Mapping[str, str]:
        """Return everything about machine and software that can change a result."""
        on_cpu = self._device == "cpu"
        return {
            "backend": self.name,
            "device": torch.backends.cpu.get_cpu_capability() if on_cpu else _accelerator(self._device),
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
            memory_bytes=_memory_bytes(self._device),
            number_bytes=self._dtype.itemsize,
            limit=_LARGEST_BATCH[self._device],
        )

    def open(self, model: ArtifactRef) -> HfModel:
        """Return the model, from memory or loaded and verified."""
        with self._lock:
            if model not in self._models:
                while len(self._models) >= self._kept_models:
                    self._models.popitem(last=False)
                self._models[model] = self._load(model)
            self._models.move_to_end(model)
            return self._models[model]

    def _load(self, ref: ArtifactRef) -> HfModel:
        directory = self._store.directory(ref.expect(ArtifactKind.MODEL, "model"))
        check_model_directory(directory)
        shape = stored_shape(self._store, ref)
        log.info("model.loading", model=ref.digest[:12], device=self._device, parameters=shape.parameters)
        torch.set_num_threads(self._threads)
        tokens = Tokens.open(directory)
        if tokens.largest >= shape.vocabulary:
            raise UntrustedArtifact("the model is refused: its tokenizer knows more tokens than its weights")
        model = _loaded(directory, self._dtype, self._device)
        return HfModel(model, tokens, shape.context_tokens, self._lock, self._threads)


class HfModel:
    """One loaded model. Works off its prompts longest first, so that a lack of memory shows at once."""

    def __init__(self, model: Any, tokens: Tokens, context_tokens: int, lock: threading.RLock, threads: int) -> None:
        self._model = model
        self._head = Head.of(model)
        self._lock = lock
        self._threads = threads
        self.tokens = tokens
        self.context_tokens = context_tokens
        self.vocabulary = self._head.vocabulary

    def write(self, prompts: Sequence[Prompt], sampling: SamplingSpec, batch_size: int, pulse: Pulse) -> Written:
        """Continue every prompt; see `LanguageModel.write`."""
        encoded = self.tokens.encode_many([prompt.text for prompt in prompts])
        inputs = [[*self.tokens.start, *ids] for ids in encoded]
        self._check_room(prompts, inputs, sampling.max_new_tokens)
        noise_DN = np.stack([noise(sampling.seed, prompt.id, sampling.max_new_tokens) for prompt in prompts])
        ends = sorted(self.tokens.ends)

        def work(batch: list[int]) -> list[list[int]]:
            return continue_prompts(self._model, [inputs[i] for i in batch], noise_DN[batch], sampling, ends, pulse)

        added, smallest = self._batched(list(map(len, inputs)), batch_size, work)
        texts = self.tokens.continued(encoded, added)
        return Written(tuple(Continuation(text, len(ids)) for text, ids in zip(texts, added, strict=True)), smallest)

    def expect(
        self,
        prompts: Sequence[Sequence[int]],
        following: Sequence[int | None],
        top_n: int,
        batch_size: int,
        pulse: Pulse,
    ) -> list[Expectation]:
        """Say what is expected after each prompt; see `LanguageModel.expect`."""
        inputs = [[*self.tokens.start, *ids] for ids in prompts]

        def work(batch: list[int]) -> list[Expectation]:
            found = expect_next(self._head, [inputs[i] for i in batch], [following[i] for i in batch], top_n)
            pulse(sum(len(inputs[i]) for i in batch))
            return found

        return self._batched(list(map(len, inputs)), batch_size, work, self._head.texts_at_once)[0]

    def judge(
        self, texts: Sequence[Sequence[int]], scored_from: Sequence[int], batch_size: int, pulse: Pulse
    ) -> list[TokenScores]:
        """Score each text; see `LanguageModel.judge`."""
        before = len(self.tokens.start)
        inputs = [[*self.tokens.start, *ids] for ids in texts]

        def work(batch: list[int]) -> list[TokenScores]:
            found = judge_texts(self._head, [inputs[i] for i in batch], [before + scored_from[i] for i in batch])
            pulse(sum(len(inputs[i]) for i in batch))
            return found

        return self._batched(list(map(len, inputs)), batch_size, work, self._head.texts_at_once)[0]

    def _check_room(self, prompts: Sequence[Prompt], inputs: Sequence[Sequence[int]], new_tokens: int) -> None:
        for prompt, ids in zip(prompts, inputs, strict=True):
            if not ids:
                raise InvalidRequest(
                    f"prompt {prompt.id[:80]!r} is empty and the model has no start token; give prefixes"
                )
            if len(ids) + new_tokens > self.context_tokens:
                raise InvalidRequest(
                    f"prompt {prompt.id[:80]!r} has {len(ids)} tokens; with {new_tokens} new ones it does not fit into "
                    f"the model's context of {self.context_tokens}; lower sampling.max_new_tokens or shorten the prefix"
                )

    def _batched(
        self,
        lengths: Sequence[int],
        size: int,
        work: Callable[[list[int]], list[Result]],
        bound: Callable[[int], int] | None = None,
    ) -> tuple[list[Result], int]:
        """Return the result of every item in its order, and the smallest batch size that was needed.

        Items of similar length share a batch; `bound` says how many of one length may. When memory runs out, the batch
        size is halved from there on.
        """
        order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
        results: dict[int, Result] = {}
        with self._lock:
            # Torch counts threads per thread that calls it.
            torch.set_num_threads(self._threads)
            while len(results) < len(order):
                longest = lengths[order[len(results)]]
                batch = order[len(results) :][: min(size, bound(longest)) if bound else size]
                found = _unless_out_of_memory(work, batch)
                if found is not None:
                    results.update(zip(batch, found, strict=True))
                elif len(batch) == 1:
                    raise LimitExceeded("the memory does not hold a single document of this length; use shorter ones")
                else:
                    size = len(batch) // 2
                    log.warning("model.batch_halved", batch_size=size, reason="out of memory")
        return [results[i] for i in range(len(order))], size


def _unless_out_of_memory(work: Callable[[list[int]], list[Result]], batch: list[int]) -> list[Result] | None:
    try:
        return work(batch)
    except (RuntimeError, MemoryError) as error:
        if not _is_lack_of_memory(error):
            raise
    # Outside of the handler, whose traceback holds what did not fit.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def _is_lack_of_memory(error: Exception) -> bool:
    # On the processor torch raises a plain RuntimeError.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _loaded(directory: Path, dtype: torch.dtype, device: str) -> Any:
    with BUILDING:
        try:
            model, found = AutoModelForCausalLM.from_pretrained(
                directory,
                dtype=dtype,
                **SAFELY,
                output_loading_info=True,
            )
        except (ValueError, KeyError, ImportError) as error:
            raise InvalidRequest(
                "the model cannot be opened: transformers knows no causal language model of that configuration"
            ) from error
    missing = sorted(found["missing_keys"]) + sorted(str(each) for each in found.get("mismatched_keys", ()))
    if missing:
        raise CorruptArtifact(
            f"the model lacks weights ({missing[0]} and {len(missing) - 1} more); save it again in full"
        )
    return model.eval().requires_grad_(False).to(device)


def _chosen_device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not present.get(device, False):
        able = ", ".join(name for name, there in present.items() if there)
        raise CapabilityMissing(f"this machine has no device {device!r}; use auto or one of: {able}")
    return device


def _chosen_dtype(dtype: str, device: str) -> torch.dtype:
    if dtype == "auto":
        return torch.bfloat16 if device == "cuda" else torch.float32
    chosen = getattr(torch, dtype, None)
    if not isinstance(chosen, torch.dtype) or not chosen.is_floating_point:
        raise InvalidRequest(f"{dtype!r} is no number type; use auto, float32, bfloat16 or float16")
    return chosen


def _accelerator(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else device


def _memory_bytes(device: str) -> int:
    """Return the memory of the whole device, free or not: what is free changes from moment to moment."""
    if device == "cuda":
        return int(torch.cuda.get_device_properties(0).total_memory)
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # In a container less may be allowed; the file says `max` where it is not.
    allowed = _CONTAINER_LIMIT.read_text().strip() if _CONTAINER_LIMIT.is_file() else ""
    return min(whole, int(allowed)) if allowed.isdigit() else whole


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
