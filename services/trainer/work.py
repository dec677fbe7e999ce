"""What a trainer's process does for a request, made ready once. Imports torch only when it is made ready."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ouroscope.memory import importing
from ouroscope.operations.requests import request_digest
from ouroscope.records.training import CheckRecipe, FineTune, FineTuned
from ouroscope.store.artifacts import ArtifactStore
from services.trainer.group.hosts import Hosts
from services.trainer.requests import METHOD

if TYPE_CHECKING:
    from services.trainer.finetune import Control


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """How requests are carried out, and what else than the request changes the answer."""

    fingerprint: Mapping[str, str]
    train: Callable[[FineTune, Control], FineTuned]
    check: Callable[[CheckRecipe], None]
    at_once: int = 1
    """Requests that are carried out side by side."""


def work_here(store: ArtifactStore, threads: int, device: str, log_to: str, hosts: Callable[[int], Hosts]) -> Work:
    """Make this process ready to train, which takes seconds.

    Args:
        store: Where corpora and models are.
        threads: Processor threads of one operation; 0 takes as many as the process may use.
        device: `cpu`, `cuda`, or `auto` for an accelerator if there is one.
        log_to: Where curves go.
        hosts: The machines that train together, from how many processes this one can take.

    Raises:
        CapabilityMissing: this machine has no such device, or the package that `log_to` needs is missing.
        InvalidRequest: the machines cannot share the processes equally.
    """
    with importing():
        from services.trainer.checking import check_stored
        from services.trainer.environment import places, prepare
        from services.trainer.group.launch import Launcher
        from services.trainer.job import Job
        from services.trainer.journal import following, new_writers

    environment, new_writer = prepare(threads, device), new_writers(log_to)
    helpers = Launcher(store=store, hosts=hosts(places(environment.device)))

    def train(request: FineTune, context: Control) -> FineTuned:
        name = request_digest(METHOD, request, environment.fingerprint)[:12]
        with following(context, request, name, new_writer) as control:
            job = Job(store=store, request=request, environment=environment, control=control, helpers=helpers)
            return job.run()

    def check(asked: CheckRecipe) -> None:
        check_stored(store, asked.model, asked.recipe, environment, helpers.check)

    return Work(fingerprint=environment.fingerprint, train=train, check=check)
