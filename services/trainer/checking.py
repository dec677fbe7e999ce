"""Whether a recipe can be done here to a model: all that can be told before anything is computed, at once.

Reads the configuration, the tokenizer and a small adapter; weights may lie far away. What this cannot see (the text,
how much memory a batch takes) is told by the training itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ouroscope.errors import CapabilityMissing, FieldProblem, InvalidRequest
from ouroscope.model_files import read_settings
from ouroscope.models import CONFIG, TOKENIZER_FILES, check_settings, context_of
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.training import Method, Recipe
from ouroscope.store import ArtifactStore
from ouroscope.store.files import storage_errors
from ouroscope.stored_models import base_of
from services.trainer.adapters import check_adapters
from services.trainer.data import Tokenizer
from services.trainer.environment import Environment, missing
from services.trainer.opening import check_start, keeps_adapter, open_skeleton, spare_activations, vocabulary_of
from services.trainer.refusals import Reason, reasons, refuse

Able = Callable[[Recipe], None]
"""Refuses a recipe of several processes if there are not so many."""


def check_stored(
    store: ArtifactStore, model: ArtifactRef, recipe: Recipe, environment: Environment, able: Able
) -> None:
    """Check `recipe` against a model in the store, without its weights; raises what `check_recipe` does.

    Raises:
        NotFound: the model, or the base of the adapter that it is, is not in the store.
    """
    base = base_of(store, model)
    with _settings_of(store, base or model) as directory:
        check_recipe(recipe, directory, store.directory(model) if base else None, environment, able)


def check_recipe(recipe: Recipe, directory: Path, adapter: Path | None, environment: Environment, able: Able) -> None:
    """Refuse what cannot be done.

    Args:
        recipe: What is asked for.
        directory: Checked configuration and tokenizer of a whole model.
        adapter: Files of an adapter over it that training begins with, or None.
        environment: What there is to train on.
        able: Tells whether there are so many processes.

    Raises:
        InvalidRequest: the recipe does not fit the model or the stored adapter; with every problem.
        CapabilityMissing: the recipe fits, and this trainer lacks what it asks for.
        UntrustedArtifact: transformers cannot open the model, or the adapter could run code.
    """
    processes = reasons("recipe.processes", partial(able, recipe)) if recipe.processes > 1 else ()
    refuse([*missing(recipe, environment), *processes, *_misfits(recipe, directory, adapter)])


def one_process(recipe: Recipe) -> None:
    """Refuse several processes, since nobody is there to start them.

    Raises:
        CapabilityMissing: always.
    """
    raise CapabilityMissing("this trainer works in one process; set recipe.processes to 1")


@contextmanager
def _settings_of(store: ArtifactStore, model: ArtifactRef) -> Iterator[Path]:
    """Give a folder with the configuration and the tokenizer of a stored model, found to hold no code."""
    with store.scratch() as folder:
        for name in sorted({CONFIG, *TOKENIZER_FILES} & set(store.manifest(model).files)):
            data = store.read(model, name)
            with storage_errors():
                (folder / name).write_bytes(data)
        check_settings(folder)
        yield folder


def _misfits(recipe: Recipe, directory: Path, adapter: Path | None) -> Iterator[Reason]:
    """Yield what of the recipe does not fit the model."""
    config = read_settings(directory / CONFIG)
    yield from reasons("recipe.block_tokens", partial(_check_context, recipe, config))
    yield from reasons("model", partial(_check_precision, config))
    yield from reasons("recipe.lora.keep_adapter", partial(check_start, recipe, adapter))
    model = open_skeleton(directory)
    opened = partial(Tokenizer, directory, vocabulary_of(model), recipe.loss_scope, recipe.chat)
    yield from reasons("recipe.chat", lambda: opened().end)
    yield from reasons("recipe.gradient_checkpointing", partial(spare_activations, model, recipe))
    if recipe.method is Method.LORA:
        continued = adapter if keeps_adapter(recipe) else None
        yield from reasons("recipe.lora", partial(check_adapters, model, recipe.lora, continued))


def _check_context(recipe: Recipe, config: Mapping[str, Any]) -> None:
    context, blocks = context_of(config), recipe.block_tokens
    if context is not None and blocks > context:
        described = f"must be at most the {context} tokens that the model can see at once, got {blocks}"
        raise InvalidRequest(f"recipe.block_tokens {described}", [FieldProblem("recipe.block_tokens", described)])


def _check_precision(config: Mapping[str, Any]) -> None:
    if config.get("quantization_config"):
        raise InvalidRequest("the weights of the model are quantised; fine-tune the model that they were made from")
