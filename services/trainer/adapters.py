"""Low-rank adapters around a model, into its weights, and into files. The only file that imports peft.

Shapes: a pair of factors is B [outputs, rank] and A [rank, inputs].
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, LoraModel
from safetensors.torch import load_file
from transformers import PreTrainedModel

from ouroscope.adapters import ADAPTER_WEIGHTS, CheckedAdapter, check_adapter_directory, check_fits
from ouroscope.errors import FieldProblem, InvalidRequest, UntrustedArtifact
from ouroscope.model_files import LINEAGE
from ouroscope.models import BUILDING, weight_shapes
from ouroscope.records.training import LoraSpec
from ouroscope.seeds import derive_seed
from ouroscope.stored_models import StoredModel

Factors = dict[str, torch.Tensor]
"""Factors by their names in an adapter's file."""


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
        use_rslora=lora.rank_stabilized,
        target_modules=list(lora.targets) or "all-linear",
    )
    with BUILDING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "adapters"))
        learner = LoraModel(model, config, "default")
    for weight in learner.parameters():
        # peft gives factors the type of the weights below; steps are too small for bfloat16.
        if weight.requires_grad:
            weight.data = weight.data.float()
    return learner


def continuing(model: PreTrainedModel, lora: LoraSpec, seed: int, stored: StoredModel) -> LoraModel:
    """Return the model with adapters that begin as the stored one.

    Raises:
        InvalidRequest: rank, scale or targets of `lora` are not those of the stored adapter.
        UntrustedArtifact: the stored adapter could run code, or is for another base.
    """
    directory, checked = _checked(stored)
    learner = with_adapters(model, lora, seed)
    _check_agreement(lora, learner, checked)
    put_factors(learner, load_file(directory / ADAPTER_WEIGHTS))
    return learner


def check_adapters(model: PreTrainedModel, lora: LoraSpec, stored: Path | None) -> None:
    """Check that adapters as `lora` says go around a model, which may be a skeleton, and go on with a stored one.

    Args:
        model: What would be adapted; it is changed.
        lora: What is asked for.
        stored: Files of the adapter that would move on, or None for new ones.

    Raises:
        InvalidRequest: a target is no linear module of the model, or the stored adapter is another one.
        UntrustedArtifact: the stored adapter could run code, or its factors do not fit this model.
    """
    _check_targets(model, lora)
    if stored:
        checked = check_adapter_directory(stored)
        check_fits(checked, {name: tuple(weight.shape) for name, weight in model.named_parameters()})
        with torch.device("meta"):
            _check_agreement(lora, with_adapters(model, lora, seed=0), checked)


def with_stored_adapter(model: PreTrainedModel, stored: StoredModel) -> PreTrainedModel:
    """Return the plain model whose weights have the stored adapter in them.

    Raises:
        UntrustedArtifact: the adapter could run code, or is for another base.
    """
    directory, checked = _checked(stored)
    # Whole names of modules, not the adapter's own patterns: those are run as regular expressions.
    config = LoraConfig(task_type="CAUSAL_LM", target_modules=sorted(checked.factors), **checked.settings)
    try:
        with BUILDING, torch.random.fork_rng(devices=[]):
            adapted = LoraModel(model, config, "default")
    except ValueError as error:
        raise UntrustedArtifact("the adapter is refused: its base has no such modules") from error
    put_factors(adapted, load_file(directory / ADAPTER_WEIGHTS))
    # peft freezes what lies under adapters, and leaves it so.
    return merged(adapted).requires_grad_(True)


def merged(model: LoraModel) -> PreTrainedModel:
    """Return the plain model with `weight + scale B A` in place of each adapted weight."""
    with BUILDING:
        return model.merge_and_unload(safe_merge=True)


def factors(model: LoraModel) -> Factors:
    """Return the factors of a model, named as peft names them in a file."""
    return {name: weight.detach().cpu().contiguous() for name, weight in _moving(model).items()}


@torch.no_grad()
def put_factors(model: LoraModel, values: Mapping[str, torch.Tensor]) -> None:
    """Give the factors of a model these values.

    Raises:
        UntrustedArtifact: they are not those of this model, by name or by shape.
    """
    own = _moving(model)
    if {name: weight.shape for name, weight in own.items()} != {name: value.shape for name, value in values.items()}:
        raise UntrustedArtifact("the adapter is refused: its factors do not fit the modules of its base")
    for name, weight in own.items():
        weight.copy_(values[name])


def adapter_settings(model: LoraModel, base: str) -> dict[str, Any]:
    """Return the adapter's settings as peft writes them, in one order whatever the process.

    Args:
        model: With adapters.
        base: Reference of the model under them.
    """
    settings: dict[str, Any] = model.peft_config["default"].to_dict()
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in settings.items()}
    return {**plain, "base_model_name_or_path": base, "inference_mode": True, "peft_type": "LORA"}


def _checked(stored: StoredModel) -> tuple[Path, CheckedAdapter]:
    assert stored.adapter
    checked = check_adapter_directory(stored.adapter)
    if checked.base not in (None, stored.whole):
        raise UntrustedArtifact(
            f"the adapter is refused: {LINEAGE} says that it belongs to {checked.base}, another base"
        )
    check_fits(checked, weight_shapes(stored.directory))
    return stored.adapter, checked


def _moving(model: LoraModel) -> Factors:
    """Return the factors themselves, by their names in a file."""
    own = ((name, weight) for name, weight in model.named_parameters() if "lora_" in name)
    return {"base_model." + name.replace(".default.", "."): weight for name, weight in own}


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


def _check_agreement(lora: LoraSpec, learner: LoraModel, stored: CheckedAdapter) -> None:
    told, problems = stored.settings, []
    if told["r"] != lora.rank or told["rank_pattern"]:
        problems.append(FieldProblem("recipe.lora.rank", f"is {lora.rank}, the stored adapter has {told['r']}"))
    if told["lora_alpha"] != lora.alpha or told["alpha_pattern"]:
        problems.append(
            FieldProblem("recipe.lora.alpha", f"is {lora.alpha:g}, the stored adapter has {told['lora_alpha']:g}")
        )
    if told["use_rslora"] != lora.rank_stabilized:
        problems.append(FieldProblem("recipe.lora.rank_stabilized", "is not what the stored adapter was trained with"))
    own = {name.rpartition(".lora_")[0].removeprefix("base_model.model.") for name in _moving(learner)}
    if own != set(stored.factors):
        kinds = ", ".join(sorted({module.rpartition(".")[2] for module in stored.factors}))
        problems.append(FieldProblem("recipe.lora.targets", f"are not the modules of the stored adapter: {kinds}"))
    if problems:
        told_problems = "; ".join(f"{problem.field} {problem.description}" for problem in problems)
        raise InvalidRequest(
            f"training cannot go on with the stored adapter: {told_problems}; take its own, "
            "or recipe.lora.keep_adapter false, which merges it first",
            problems,
        )
