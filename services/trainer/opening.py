"""Stored models into models that can be trained. Knows transformers; nothing of data, steps or stores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from ouroscope.errors import CapabilityMissing, FieldProblem, InvalidRequest, UntrustedArtifact
from ouroscope.models import BUILDING, SAFELY
from ouroscope.records.training import BaseWeights, Method, Recipe
from ouroscope.stored_models import StoredModel
from services.trainer.adapters import continuing, factors, merged, put_factors, with_adapters, with_stored_adapter
from services.trainer.environment import Environment


def open_learner(stored: StoredModel, recipe: Recipe, environment: Environment) -> torch.nn.Module:
    """Return what learns under `recipe`: the whole model, or a model whose adapters alone move.

    Training begins with the weights of `stored`. Where that is an adapter and the recipe keeps one, it moves on;
    otherwise it is merged into its base first.

    Raises:
        InvalidRequest: the recipe does not fit the model or the stored adapter.
        UntrustedArtifact: parts of the model do not belong together, or could run code.
        CapabilityMissing: the architecture cannot compute activations again.
    """
    check_start(recipe, stored.adapter)
    merge = bool(stored.adapter) and not keeps_adapter(recipe)
    below = _below(recipe)
    model = _merged_start(stored, below, environment) if merge else open_model(stored.directory, environment, below)
    spare_activations(model, recipe)
    learner: torch.nn.Module = model
    if recipe.method is Method.LORA and stored.adapter and not merge:
        learner = continuing(model, recipe.lora, recipe.seed, stored)
    elif recipe.method is Method.LORA:
        learner = with_adapters(model, recipe.lora, recipe.seed)
    return learner


def plain_model(learner: Any, stored: StoredModel, recipe: Recipe, environment: Environment) -> PreTrainedModel:
    """Return what learnt as a plain model with float32 weights: adapters are merged into weights of full precision."""
    if recipe.method is Method.FULL:
        return learner
    if recipe.lora.base_weights is BaseWeights.FLOAT32:
        return merged(learner)
    learnt = factors(learner)
    # In the processor's memory: the device was chosen for weights of fewer bits.
    whole = _with_own_adapter(open_model(stored.directory, replace(environment, device="cpu")), stored)
    fresh = with_adapters(whole, recipe.lora, recipe.seed)
    put_factors(fresh, learnt)
    return merged(fresh)


def keeps_adapter(recipe: Recipe) -> bool:
    """Return whether what is published is an adapter beside its base."""
    return recipe.method is Method.LORA and recipe.lora.keep_adapter


def vocabulary_of(learner: Any) -> int:
    """Return the rows of the embedding."""
    return int(learner.get_input_embeddings().weight.shape[0])


def open_model(
    directory: Path, environment: Environment, weights: BaseWeights = BaseWeights.FLOAT32
) -> PreTrainedModel:
    """Return the model of a checked directory with weights of this number type, on the device.

    Raises:
        UntrustedArtifact: the weights do not belong to the architecture that the configuration names.
    """
    try:
        with BUILDING:
            model, found = AutoModelForCausalLM.from_pretrained(
                directory,
                **_loading(weights, environment),
                **SAFELY,
                output_loading_info=True,
            )
    except (ValueError, KeyError, RuntimeError, OSError) as error:
        raise _refused(error) from error
    missing = sorted(found["missing_keys"]) + sorted(str(item[0]) for item in found["mismatched_keys"])
    if missing:
        raise UntrustedArtifact(
            f"the model is refused: {len(missing)} weights are missing or misshapen, as {missing[0]}"
        )
    placed: PreTrainedModel = model if weights is BaseWeights.FOUR_BIT else model.to(environment.device)
    return placed


def check_start(recipe: Recipe, adapter: Path | None) -> None:
    """Check that training can begin with a stored adapter: weights of four bits cannot take one in.

    Raises:
        InvalidRequest: the recipe would merge it into such weights.
    """
    if adapter and not keeps_adapter(recipe) and _below(recipe) is BaseWeights.FOUR_BIT:
        described = "must be kept where training in four bits begins with an adapter: set it to true"
        field = "recipe.lora.keep_adapter"
        raise InvalidRequest(f"{field} {described}", [FieldProblem(field, described)])


def open_skeleton(directory: Path) -> PreTrainedModel:
    """Return the model that a checked configuration describes, its modules without weights: it takes no memory.

    Raises:
        UntrustedArtifact: transformers knows no such model.
    """
    try:
        # Float32, so that torch's default type, which is everybody's, stays as it is.
        with BUILDING, torch.device("meta"):
            config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    except (ValueError, KeyError, RuntimeError, OSError, TypeError, AttributeError) as error:
        raise _refused(error) from error
    return model


def _refused(error: Exception) -> UntrustedArtifact:
    return UntrustedArtifact(f"the model is refused: transformers cannot open it ({type(error).__name__})")


def _loading(weights: BaseWeights, environment: Environment) -> dict[str, Any]:
    if weights is BaseWeights.FOUR_BIT:
        # As in QLoRA (Dettmers et al., arXiv 2305.14314); what is not a projection stays float32.
        four_bit = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
        return {"dtype": torch.float32, "quantization_config": four_bit, "device_map": {"": environment.device}}
    return {"dtype": torch.bfloat16 if weights is BaseWeights.BFLOAT16 else torch.float32}


def _below(recipe: Recipe) -> BaseWeights:
    """Return the number type of the weights that do not move; those that do are float32."""
    return recipe.lora.base_weights if recipe.method is Method.LORA else BaseWeights.FLOAT32


def _merged_start(stored: StoredModel, below: BaseWeights, environment: Environment) -> PreTrainedModel:
    whole = _with_own_adapter(open_model(stored.directory, environment), stored)
    return whole.to(torch.bfloat16) if below is BaseWeights.BFLOAT16 else whole


def _with_own_adapter(model: PreTrainedModel, stored: StoredModel) -> PreTrainedModel:
    return with_stored_adapter(model, stored) if stored.adapter else model


def spare_activations(model: PreTrainedModel, recipe: Recipe) -> None:
    """Have activations computed again in the backward pass, if the recipe wants it.

    Raises:
        CapabilityMissing: the architecture cannot.
    """
    if not recipe.gradient_checkpointing:
        return
    try:
        model.activation_checkpointing_enable()
    except ValueError as error:
        raise CapabilityMissing(
            "this architecture cannot compute activations again; set recipe.gradient_checkpointing to false"
        ) from error
