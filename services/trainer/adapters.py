"""Low-rank adapters around a model, and back into its weights. The only file that imports peft."""

from __future__ import annotations

import torch
from peft import LoraConfig, LoraModel
from transformers import PreTrainedModel

from ouroscope.errors import FieldProblem, InvalidRequest
from ouroscope.models import BUILDING
from ouroscope.records.training import LoraSpec
from ouroscope.seeds import derive_seed


def with_adapters(model: PreTrainedModel, lora: LoraSpec, seed: int) -> LoraModel:
    """Return the model with adapters, the only weights that still move; they begin as no change at all.

    Raises:
        InvalidRequest: a name in `lora.targets` is no linear module of this model.
    """
    _check_targets(model, lora)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets) or "all-linear",
    )
    with BUILDING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "adapters"))
        return LoraModel(model, config, "default")


def merged(model: LoraModel) -> PreTrainedModel:
    """Return the plain model with `weight + B A alpha / rank` in place of each adapted weight."""
    with BUILDING:
        return model.merge_and_unload(safe_merge=True)


def _check_targets(model: PreTrainedModel, lora: LoraSpec) -> None:
    # Conv1D is a linear projection, written the other way round by GPT-2.
    kinds = (torch.nn.Linear,)
    known = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, kinds) or type(module).__name__ == "Conv1D"
    }
    unknown = sorted(set(lora.targets) - known)
    if unknown:
        described = f"{', '.join(unknown)} is no linear module of this model; it has {', '.join(sorted(known))}"
        raise InvalidRequest(f"recipe.lora.targets: {described}", [FieldProblem("recipe.lora.targets", described)])
