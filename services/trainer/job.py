"""One request from references to a reference: read, train, publish. Knows the store and the order of the work."""

from __future__ import annotations

import contextlib
import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol

import structlog
import torch

from ouroscope.corpora.stored import read_corpus
from ouroscope.errors import TrainingDiverged
from ouroscope.models import CheckedModel, check_model_directory
from ouroscope.operations.requests import request_digest
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.progress import Progress
from ouroscope.records.training import FineTune, FineTuned, Recipe
from ouroscope.store import ArtifactStore, Draft
from ouroscope.stored_models import BASE, StoredModel, stored_model
from services.trainer.checking import check_recipe, one_process
from services.trainer.checkpoints import Checkpoints
from services.trainer.course import Course, put_back
from services.trainer.data import TokenFile, Tokenizer
from services.trainer.environment import Environment
from services.trainer.finetune import Blocks, Control, Memory, train, trainable
from services.trainer.heldout import Heldout
from services.trainer.objective import relative_weights
from services.trainer.opening import keeps_adapter, open_learner, plain_model, vocabulary_of
from services.trainer.packing import Joined, packed_blocks
from services.trainer.progress import loss_curve, tokens_per_step
from services.trainer.publish import write_adapter, write_model
from services.trainer.requests import METHOD, check_request
from services.trainer.world import Alone, Group, World

log = structlog.get_logger(__name__)


class Helpers(Protocol):
    """Several processes that train in place of this one."""

    def check(self, recipe: Recipe) -> None:
        """Refuse what they cannot do.

        Raises:
            CapabilityMissing: so many processes are not to be had here.
        """

    def trained(
        self, request: FineTune, environment: Environment, control: Control
    ) -> AbstractContextManager[tuple[Course, Mapping[str, torch.Tensor]]]:
        """Train; give what happened and the weights that moved, which are there as long as the context is open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One request, with everything that its work takes."""

    store: ArtifactStore
    request: FineTune
    environment: Environment
    control: Control
    clock: Callable[[], float] = time.monotonic
    helpers: Helpers | None = None
    """Who trains where the recipe asks for several processes."""

    def run(self) -> FineTuned:
        """Train and publish. A job that was stopped goes on from its last checkpoint when it is asked for again.

        Raises:
            NotFound: the model or a corpus is not in the store.
            InvalidRequest: the recipe does not fit the model or the stored adapter, or there is nothing to learn from.
            UntrustedArtifact: the model could run code, or its parts do not fit together.
            CapabilityMissing: the recipe asks for what this machine has not.
            TrainingDiverged: the loss left every bound.
            Cancelled, Unavailable: `control` said so; a checkpoint is kept.
            StorageFull: no room; nothing was published.
        """
        check_request(self.request)
        stored, checked = self._opened()
        able = self.helpers.check if self.helpers else one_process
        check_recipe(self.request.recipe, stored.directory, stored.adapter, self.environment, able)
        draft = self._draft()
        with _drop_if_diverged(draft):
            learner, course = self._trained(stored, draft)
        ref = self._published(learner, stored, checked, course)
        draft.discard()
        return self._outcome(ref, course)

    def take_part(
        self, world: Group, memory: Callable[[Draft], Memory]
    ) -> tuple[Course, Mapping[str, torch.nn.Parameter]]:
        """Do the training of `run` as one of several processes, and publish nothing; raises what `run` does.

        Args:
            world: This process and the others.
            memory: Makes what keeps checkpoints in the job's draft.

        Returns:
            What happened, and the weights that moved, each in as many parts as there are processes.
        """
        stored, _ = self._opened()
        learner, environment = world.in_turn(lambda: self._placed(stored, world))
        # Before the training: after a forward pass without a backward one, the model shows gathered copies instead.
        weights = trainable(learner)
        return self._taught(learner, stored, memory(self._draft()), world, environment), weights

    def _placed(self, stored: StoredModel, world: Group) -> tuple[torch.nn.Module, Environment]:
        # Opened in the processor's memory, whatever trains: a model may be larger than what holds a part of it.
        learner = open_learner(stored, self.request.recipe, replace(self.environment, device="cpu"))
        return learner, world.place(learner, self.environment)

    def _opened(self) -> tuple[StoredModel, CheckedModel]:
        stored = stored_model(self.store, self.request.model)
        return stored, check_model_directory(stored.directory)

    def _draft(self) -> Draft:
        return self.store.draft(request_digest(METHOD, self.request, self.environment.fingerprint))

    def _trained(self, stored: StoredModel, draft: Draft) -> tuple[torch.nn.Module, Course]:
        """Return what learnt, and what happened."""
        if self.request.recipe.processes > 1:
            return self._trained_by_helpers(stored)
        learner = open_learner(stored, self.request.recipe, self.environment)
        return learner, self._taught(learner, stored, Checkpoints(draft), Alone(), self.environment)

    def _trained_by_helpers(self, stored: StoredModel) -> tuple[torch.nn.Module, Course]:
        assert self.helpers  # as the recipe was checked
        with self.helpers.trained(self.request, self.environment, self.control) as (course, weights):
            learner = open_learner(stored, self.request.recipe, replace(self.environment, device="cpu"))
            put_back(weights, trainable(learner))
        return learner, course

    def _taught(
        self,
        learner: torch.nn.Module,
        stored: StoredModel,
        memory: Memory,
        world: World,
        environment: Environment,
    ) -> Course:
        """Change the learner; return what happened."""
        recipe = self.request.recipe
        vocabulary = vocabulary_of(learner)
        tokenizer = Tokenizer(stored.directory, vocabulary, recipe.loss_scope, recipe.chat)
        blocks, corpus_weights = self._blocks(tokenizer)
        return train(
            learner,
            blocks,
            recipe,
            environment,
            vocabulary=vocabulary,
            memory=memory,
            control=self.control,
            clock=self.clock,
            heldout=self._heldout(tokenizer),
            world=world,
            corpus_weights=corpus_weights,
        )

    def _blocks(self, tokenizer: Tokenizer) -> tuple[Blocks, list[float] | None]:
        """Return the stream of blocks, and the relative weights of corpora in it, if they have any."""
        self.control.report(Progress(stage="read"))
        recipe, weights, end = self.request.recipe, self.request.corpus_weights, tokenizer.end
        corpora = [self._documents(tokenizer, corpus) for corpus in self.request.corpora]
        documents = Joined(corpora)
        log.info("corpora.read", documents=len(documents), corpora=len(corpora), weighted=bool(weights))

        def blocks(first: int) -> Iterator[array[int]]:
            return packed_blocks(documents, block_tokens=recipe.block_tokens, end=end, seed=recipe.seed, first=first)

        return blocks, relative_weights(weights, [each.counting(end) for each in corpora]) if weights else None

    def _heldout(self, tokenizer: Tokenizer) -> Heldout | None:
        request = self.request
        if not request.recipe.heldout_steps or request.heldout is None:
            return None
        return Heldout(self._documents(tokenizer, request.heldout), request.recipe, tokenizer.end)

    def _documents(self, tokenizer: Tokenizer, corpus: ArtifactRef) -> TokenFile:
        return TokenFile(tokenizer.tokens(read_corpus(self.store, corpus), self.control.check))

    def _published(
        self, learner: torch.nn.Module, stored: StoredModel, checked: CheckedModel, course: Course
    ) -> ArtifactRef:
        request, recipe = self.request, self.request.recipe
        self.control.report(Progress(stage="publish", done=course.steps, total=course.steps, unit="steps"))
        summary: dict[str, str | int] = {"parent": str(request.model), "parameters": checked.parameters}
        with self.store.scratch() as folder:
            if keeps_adapter(recipe):
                files = write_adapter(learner, stored.whole, request, folder)
                own = sum(weight.numel() for weight in trainable(learner).values())
                summary |= {"parameters": own, BASE: str(stored.whole)}
            else:
                model = plain_model(learner, stored, recipe, self.environment)
                files = write_model(model, stored.directory, checked, request, folder)
            return self.store.publish(ArtifactKind.MODEL, None, files, summary)

    def _outcome(self, ref: ArtifactRef, course: Course) -> FineTuned:
        last = next((round(loss, 4) for loss in reversed(course.losses) if loss is not None), None)
        log.info(
            "model.published",
            digest=ref.digest[:12],
            steps=course.steps,
            loss=last,
            heldout_loss=course.last_heldout_loss,
            steps_without_loss=course.losses.count(None),
            stopped_early=course.steps < self.request.recipe.steps,
        )
        return FineTuned(
            model=ref,
            steps=course.steps,
            tokens=course.steps * tokens_per_step(self.request.recipe),
            losses=loss_curve(course.losses),
            heldout_losses=tuple(course.heldout),
        )


@contextlib.contextmanager
def _drop_if_diverged(draft: Draft) -> Iterator[None]:
    """A job that diverged would diverge again from its checkpoint: it must not be kept."""
    try:
        yield
    except TrainingDiverged:
        draft.discard()
        raise
