"""A trainer that asks for Jobs: where it can be one, which settings it takes, and that it needs no torch for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ouroscope.errors import InvalidRequest, NotFound, PreconditionFailed
from ouroscope.operations.requests import request_digest
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.training import FineTune, Recipe
from ouroscope.store import ArtifactStore
from services.trainer.__main__ import _by_jobs
from services.trainer.jobs.front import AT_ONCE, work_by_jobs
from services.trainer.jobs.template import read_template
from services.trainer.requests import METHOD
from services.trainer.settings import TrainerSettings
from tests.training_jobs import template, written

POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


@pytest.fixture
def account(tmp_path: Path) -> Path:
    folder = tmp_path / "account"
    folder.mkdir()
    (folder / "token").write_text("a token")
    (folder / "namespace").write_text("lab\n")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"))


@pytest.fixture
def path(tmp_path: Path, store: ArtifactStore) -> Path:
    return written(tmp_path / "job.yaml", template(store.url))


def test_a_pod_with_an_account_asks_for_jobs_several_at_once(path: Path, store: ArtifactStore, account: Path) -> None:
    work = work_by_jobs(path, store, POD, account)
    assert work.at_once == AT_ONCE > 1
    assert {"image", "pod"} < set(work.fingerprint)


def test_elsewhere_the_way_out_is_told(path: Path, store: ArtifactStore, account: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for environ, folder in (({}, account), (POD, tmp_path / "empty")):
        with pytest.raises(PreconditionFailed, match="OURO_TRAINER_JOBS needs a trainer that runs as a pod"):
            work_by_jobs(path, store, environ, folder)
    with pytest.raises(NotFound):
        work_by_jobs(tmp_path / "none", store, POD, account)


@pytest.mark.parametrize(
    "other",
    [
        {"nodes": 2, "max_processes": 2, "meeting": "a:1"},
        {"node_rank": 1},
        {"device": "cuda"},
        {"threads": 2},
        {"log_to": "mlflow:x"},
    ],
)
def test_a_setting_that_would_mean_nothing_is_refused_by_its_name(other: dict[str, Any], store: ArtifactStore) -> None:
    with pytest.raises(
        InvalidRequest, match=r"OURO_TRAINER_(DEVICE|THREADS|NODES|NODE_RANK|MAX_PROCESSES|LOG_TO) means"
    ):
        _by_jobs(TrainerSettings(jobs="job.yaml", **other), store)


def test_asking_for_jobs_imports_no_torch(path: Path, store: ArtifactStore, account: Path, root: Path) -> None:
    program = """
import sys
from pathlib import Path
import services.trainer.__main__
from services.trainer.jobs.front import work_by_jobs
from ouroscope.store import ArtifactStore
path, store, account = sys.argv[1:]
work_by_jobs(Path(path), ArtifactStore(store), {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, Path(account))
assert not {"torch", "transformers"} & set(sys.modules)
"""
    command = [sys.executable, "-c", program, str(path), store.url, str(account)]
    subprocess.run(command, cwd=root, check=True, timeout=120)


def test_the_answer_of_a_request_is_named_by_what_the_operation_is_named_by(
    path: Path, store: ArtifactStore, account: Path
) -> None:
    """The table of tasks looks for an answer under the digest that the Job was told."""
    corpora = (ArtifactRef(ArtifactKind.CORPUS, "b" * 64),)
    request = FineTune(model=ArtifactRef(ArtifactKind.MODEL, "a" * 64), corpora=corpora, recipe=Recipe())
    work = work_by_jobs(path, store, POD, account)
    asked = read_template(path, store.url).asked(request)
    assert asked.answer == request_digest(METHOD, request, work.fingerprint)
