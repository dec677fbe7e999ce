"""Low-rank adapters over one loaded base: added once, kept for a while, one of them or none in use. Imports peft.

The base is neither copied nor changed: an adapter's product is added beside it at every step. So a model with an
adapter computes bit by bit what a freshly loaded one would, whatever was in use before, and the base is itself again at
once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
import torch
from peft import LoraConfig, LoraModel
from safetensors.torch import load_file
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from ouroscope.adapters import ADAPTER_WEIGHTS, CheckedAdapter
from ouroscope.errors import UntrustedArtifact
from ouroscope.models import BUILDING

log = structlog.get_logger(__name__)

_FILE_PREFIX = "base_model.model."


class Adapters:
    """The adapters of one base that are in memory, the last used ones. One thread at a time may call."""

    def __init__(self, model: Any, kept: int) -> None:
        """`kept`: how many stay in memory, at least 1."""
        self._model = model
        self._kept = kept
        self._like = next(model.parameters())
        self._tuner: LoraModel | None = None
        self._names: OrderedDict[str, None] = OrderedDict()

    def use(self, name: str, checked: CheckedAdapter, directory: Path) -> None:
        """Let the base compute with this adapter, which is loaded if it is not in memory.

        Args:
            name: Digest of the stored adapter.
            checked: What was found in its directory.
            directory: Where its verified files lie.

        Raises:
            UntrustedArtifact: the adapter was made for another base.
        """
        if name not in self._names:
            self._forget_oldest()
            self._add(name, checked, directory)
        self._names.move_to_end(name)
        assert self._tuner is not None  # there is an adapter
        self._tuner.enable_adapter_layers()
        self._tuner.set_adapter(name, inference_mode=True)

    def use_none(self) -> None:
        """Let the base compute alone."""
        if self._tuner is not None:
            self._tuner.disable_adapter_layers()

    def _forget_oldest(self) -> None:
        while self._tuner is not None and len(self._names) >= self._kept:
            self._tuner.delete_adapter(self._names.popitem(last=False)[0])

    def _add(self, name: str, checked: CheckedAdapter, directory: Path) -> None:
        self._check_modules(checked)
        log.info("adapter.loading", adapter=name[:12], parameters=checked.parameters)
        weights = load_file(directory / ADAPTER_WEIGHTS)
        with BUILDING:
            tuner = self._injected(name, _config_of(checked, self._model))
            try:
                self._fill(name, checked, weights)
            except (UntrustedArtifact, RuntimeError, MemoryError):
                tuner.delete_adapter(name)
                raise
        self._names[name] = None

    def _check_modules(self, checked: CheckedAdapter) -> None:
        known = {module for module, found in self._model.named_modules() if isinstance(found, torch.nn.Linear | Conv1D)}
        # Where an earlier adapter was added, the base's own projection lies one step deeper.
        known |= {module.removesuffix(".base_layer") for module in known}
        for module in checked.factors:
            if module not in known:
                raise _for_another_base(f"this base has no projection {module[:120]}")

    def _injected(self, name: str, config: LoraConfig) -> LoraModel:
        # Without memory for weights that are about to be replaced, and without touching anybody's random numbers.
        if self._tuner is None:
            self._tuner = LoraModel(self._model, config, name, low_cpu_mem_usage=True)
        else:
            self._tuner.peft_config[name] = config
            self._tuner.inject_adapter(self._model, name, low_cpu_mem_usage=True)
        return self._tuner

    def _fill(self, name: str, checked: CheckedAdapter, weights: Mapping[str, Tensor]) -> None:
        state = {_in_memory(key, name): weight.to(self._like) for key, weight in weights.items()}
        places = {key for key, _ in self._model.named_parameters() if f".{name}." in key}
        if places != set(state):
            raise _for_another_base("its factors and the base's projections differ in name")
        self._model.load_state_dict(state, strict=False, assign=True)
        self._model.eval()


def _config_of(checked: CheckedAdapter, model: Any) -> LoraConfig:
    # Names of modules in full: what the file itself says of its targets may be a pattern, and is not run.
    modules = list(checked.factors)
    turned = any(isinstance(module, Conv1D) for module in model.modules())
    return LoraConfig(
        **checked.settings, target_modules=modules, init_lora_weights=False, inference_mode=True, fan_in_fan_out=turned
    )


def _in_memory(key: str, name: str) -> str:
    """Return the parameter that a tensor of the file fills."""
    module, factor, weight = key.removeprefix(_FILE_PREFIX).rsplit(".", 2)
    return f"{module}.{factor}.{name}.{weight}"


def _for_another_base(why: str) -> UntrustedArtifact:
    return UntrustedArtifact(f"the model is refused: {ADAPTER_WEIGHTS} is an adapter for another base: {why}")
