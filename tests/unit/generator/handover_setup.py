"""Adapters in a store, for tests of the hand-over."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from ouroscope.adapters import lineage_of
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.store.artifacts import ArtifactStore


def write_adapter(base: Path, folder: Path, seed: int) -> Path:
    """Write what peft writes, over the model in the directory `base`."""
    settings = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # peft asks transformers in a way that will go.
        warnings.simplefilter("ignore", FutureWarning)
        torch.manual_seed(seed)
        plain = AutoModelForCausalLM.from_pretrained(base)
        adapted = get_peft_model(plain, settings)
        adapted.save_pretrained(folder)
    return folder


def publish_adapter(store: ArtifactStore, base: ArtifactRef, directory: Path) -> ArtifactRef:
    """Store an adapter beside its base."""
    names = ("adapter_config.json", "adapter_model.safetensors")
    files = {name: directory / name for name in names} | {"ouroscope.json": lineage_of(base)}
    return store.publish(ArtifactKind.MODEL, None, files, {"base": str(base)})
