"""One request from references to a reference: read, train, publish. Knows the store and the order of the work."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog
from transformers import PreTrainedModel

from ouroscope.corpora.stored import read_corpus
from ouroscope.errors import FieldProblem, InvalidRequest, TrainingDiverged
from ouroscope.models import CheckedModel, check_model_directory
from ouroscope.operations.requests import request_digest
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.progress import Progress
from ouroscope.records.training import FineTune, FineTuned, Method
from ouroscope.store import ArtifactStore, Draft
from services.trainer.adapters import merged, with_adapters
from services.trainer.checkpoints import Checkpoints
from services.trainer.data import TokenFile, Tokenizer
from services.trainer.environment import Environment
from services.trainer.finetune import Blocks, Control, open_model, train
from services.trainer.packing import packed_blocks
from services.trainer.progress import loss_curve, tokens_per_step
from services.trainer.publish import write_model
from services.trainer.requests import METHOD, check_request

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One request, with everything that its work takes."""

    store: ArtifactStore
    request: FineTune
    environment: Environment
    control: Control
    clock: Callable[[], float] = time.monotonic

    def run(self) -> FineTuned:
        """Train and publish. A job that was stopped goes on from its last checkpoint when it is asked for again.

        Raises:
            NotFound: the model or a corpus is not in the store.
            InvalidRequest: the recipe does not fit the model, or there is nothing to learn from.
            UntrustedArtifact: the model could run code, or its parts do not fit together.
            TrainingDiverged: the loss left every bound.
            Cancelled, Unavailable: `control` said so; a checkpoint is kept.
            StorageFull: no room; nothing was published.
        """
        check_request(self.request)
        base = self.store.directory(self.request.model)
        checked = check_model_directory(base)
        _check_fit(self.request, checked)
        draft = self.store.draft(request_digest(METHOD, self.request, self.environment.fingerprint))
        with _drop_if_diverged(draft):
            model, losses = self._trained(base, draft)
        ref = self._published(model, base, checked)
        draft.discard()
        log.info("model.published", digest=ref.digest[:12], steps=len(losses), loss=round(losses[-1], 4))
        tokens = len(losses) * tokens_per_step(self.request.recipe)
        return FineTuned(model=ref, steps=len(losses), tokens=tokens, losses=loss_curve(losses))

    def _trained(self, base: Path, draft: Draft) -> tuple[PreTrainedModel, list[float]]:
        """Return the trained model, without adapters, and the loss of every step."""
        recipe = self.request.recipe
        model = open_model(base, self.environment)
        vocabulary = int(model.get_input_embeddings().weight.shape[0])
        blocks = self._blocks(Tokenizer(base, vocabulary))
        learner = with_adapters(model, recipe.lora, recipe.seed) if recipe.method is Method.LORA else model
        losses = train(
            learner,
            blocks,
            recipe,
            self.environment,
            vocabulary=vocabulary,
            memory=Checkpoints(draft),
            control=self.control,
            clock=self.clock,
        )
        return (merged(learner) if recipe.method is Method.LORA else model), losses

    def _blocks(self, tokenizer: Tokenizer) -> Blocks:
        self.control.report(Progress(stage="read"))
        texts = (document.text for corpus in self.request.corpora for document in read_corpus(self.store, corpus))
        documents = TokenFile(tokenizer.tokens(texts, self.control.check))
        recipe = self.request.recipe
        log.info("corpora.read", documents=len(documents), corpora=len(self.request.corpora))
        return lambda first: packed_blocks(
            documents, block_tokens=recipe.block_tokens, end=tokenizer.end, seed=recipe.seed, first=first
        )

    def _published(self, model: PreTrainedModel, base: Path, checked: CheckedModel) -> ArtifactRef:
        steps = self.request.recipe.steps
        self.control.report(Progress(stage="publish", done=steps, total=steps, unit="steps"))
        summary: dict[str, str | int] = {"parent": str(self.request.model), "parameters": checked.parameters}
        with self.store.scratch() as folder:
            files = write_model(model, base, checked, self.request, folder)
            return self.store.publish(ArtifactKind.MODEL, None, files, summary)


def _check_fit(request: FineTune, checked: CheckedModel) -> None:
    context, blocks = checked.context_tokens, request.recipe.block_tokens
    if context is not None and blocks > context:
        described = f"must be at most the {context} tokens that the model can see at once, got {blocks}"
        raise InvalidRequest(f"recipe.block_tokens {described}", [FieldProblem("recipe.block_tokens", described)])
    if checked.config.get("quantization_config"):
        raise InvalidRequest("the weights of the model are quantised; fine-tune the model that they were made from")


@contextlib.contextmanager
def _drop_if_diverged(draft: Draft) -> Iterator[None]:
    """A job that diverged would diverge again from its checkpoint: it must not be kept."""
    try:
        yield
    except TrainingDiverged:
        draft.discard()
        raise
