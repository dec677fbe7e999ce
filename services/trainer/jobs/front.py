"""A trainer that asks for Jobs: what it needs for that, and what it can tell of a recipe without having what trains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ouroscope.errors import PreconditionFailed
from ouroscope.kubernetes import ACCOUNT, ApiServer
from ouroscope.memory import importing
from ouroscope.records.training import CheckRecipe
from ouroscope.store.artifacts import ArtifactStore
from services.trainer.jobs.following import Jobs
from services.trainer.jobs.template import Template, read_template
from services.trainer.work import Work

AT_ONCE = 16
"""Jobs that are followed side by side; who may begin is the queue's word."""


def work_by_jobs(path: Path, store: ArtifactStore, environ: Mapping[str, str], account: Path = ACCOUNT) -> Work:
    """Return how requests are carried out by Jobs. Imports no torch.

    Args:
        path: The template of a Job.
        store: Where corpora, models and answers are; Jobs see it too.
        environ: Variables of this pod.
        account: What it is known by to the API server.

    Raises:
        NotFound, InvalidRequest: the template is not there, or not right.
        PreconditionFailed: this is no pod that may ask Kubernetes for anything.
    """
    template, api = read_template(path, store.url), ApiServer.of_pod(environ, account)
    if api is None or not api.namespace:
        raise PreconditionFailed(
            "OURO_TRAINER_JOBS needs a trainer that runs as a pod with a service account of Kubernetes; elsewhere "
            "leave it out, and the trainer trains in its own process"
        )
    return followed(Jobs(api=api, template=template, store=store))


def followed(jobs: Jobs) -> Work:
    """Return how requests are carried out by these Jobs."""

    def check(asked: CheckRecipe) -> None:
        _check(asked, jobs.store, jobs.template)

    return Work(fingerprint=jobs.template.fingerprint, train=jobs.train, check=check, at_once=AT_ONCE)


def _check(asked: CheckRecipe, store: ArtifactStore, template: Template) -> None:
    """Refuse what does not fit the model, and what no pod of the template could do."""
    # Only now: whoever never asks this keeps a process without torch.
    with importing():
        from services.trainer.checking import check_stored
        from services.trainer.environment import Environment

    place = Environment(device=template.device, precision="", threads=0, hardware="", versions=())
    check_stored(store, asked.model, asked.recipe, place, template.able)
