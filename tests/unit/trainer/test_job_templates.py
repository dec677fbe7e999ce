"""The template of a Job: what is read, what is refused with its place, and what a request adds to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ouroscope.canonical import from_plain
from ouroscope.errors import CapabilityMissing, InvalidRequest, LimitExceeded, NotFound
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.training import FineTune, Recipe
from services.trainer.jobs.template import ANSWER, REQUEST, Template, annotation, read_template
from tests.chart import FULL
from tests.training_jobs import template, written

STORE = "/data/store"
REQUESTED = FineTune(
    model=ArtifactRef(ArtifactKind.MODEL, "a" * 64),
    corpora=(ArtifactRef(ArtifactKind.CORPUS, "b" * 64),),
    recipe=Recipe(),
)
Change = Callable[[dict[str, Any]], Any]


def read(folder: Path, change: Change = lambda job: None, store: str = STORE) -> Template:
    job = template(STORE)
    change(job)
    return read_template(written(folder / "job.yaml", job), store)


def container(job: Any) -> Any:
    return job["spec"]["template"]["spec"]["containers"][0]


def variable(name: str, value: Any) -> Change:
    def change(job: dict[str, Any]) -> None:
        others = [one for one in container(job)["env"] if one["name"] != name]
        container(job)["env"] = [*others, {"name": name, "value": value}]

    return change


def test_a_request_adds_its_name_its_digests_and_itself_and_nothing_else(tmp_path: Path) -> None:
    read_ = read(tmp_path)
    asked = read_.asked(REQUESTED)
    made = json.loads(json.dumps(asked.job))
    assert made["metadata"].pop("name") == asked.name == f"{FULL}-train-{asked.request[:16]}"
    assert made["metadata"].pop("annotations") == {REQUEST: asked.request, ANSWER: asked.answer}
    *others, request, answer = container(made)["env"]
    assert from_plain(FineTune, json.loads(request["value"])) == REQUESTED
    assert (request["name"], answer) == (
        "OURO_TRAINER_REQUEST",
        {"name": "OURO_TRAINER_ANSWER", "value": asked.answer},
    )
    container(made)["env"] = others
    plain = json.loads(json.dumps(read_.job))
    del plain["metadata"]["name"]
    assert made == plain


def test_a_template_is_not_changed_by_what_is_asked_of_it(tmp_path: Path) -> None:
    read_ = read(tmp_path)
    before = json.dumps(read_.job)
    assert read_.asked(REQUESTED) == read_.asked(REQUESTED)
    assert json.dumps(read_.job) == before


def test_another_pod_gives_another_answer_under_the_same_name(tmp_path: Path) -> None:
    one = read(tmp_path).asked(REQUESTED)
    other = read(tmp_path, lambda job: container(job).update(image="another:1")).asked(REQUESTED)
    assert (one.name, one.request) == (other.name, other.request)
    assert one.answer != other.answer
    assert other.is_of(one.job)
    assert not other.answers(one.job)


def test_what_a_job_is_worth_does_not_change_its_answer(tmp_path: Path) -> None:
    one = read(tmp_path)
    other = read(tmp_path, lambda job: job["spec"].update(backoffLimit=9, activeDeadlineSeconds=60))
    assert one.fingerprint == other.fingerprint


def test_a_job_without_annotations_is_nobodys(tmp_path: Path) -> None:
    asked = read(tmp_path).asked(REQUESTED)
    for foreign in ({}, {"metadata": None}, {"metadata": {"annotations": None}}, {"metadata": {"name": asked.name}}):
        assert annotation(foreign, REQUEST) == ""
        assert not asked.is_of(foreign)


def test_a_request_that_no_variable_holds_is_told(tmp_path: Path) -> None:
    corpora = tuple(ArtifactRef(ArtifactKind.CORPUS, f"{n:064x}") for n in range(1500))
    with pytest.raises(LimitExceeded, match="fewer corpora"):
        read(tmp_path).asked(FineTune(model=REQUESTED.model, corpora=corpora, recipe=Recipe()))


@pytest.mark.parametrize(
    ("gpus", "told", "device"),
    [
        ({}, "auto", "cpu"),
        ({"nvidia.com/gpu": 2}, "auto", "cuda"),
        ({"nvidia.com/mig-1g.10gb": 1}, "auto", "cuda"),
        ({"nvidia.com/gpu": 2}, "cpu", "cpu"),
        ({"rdma/hca": 1}, "auto", "cpu"),
    ],
)
def test_the_device_is_what_the_pod_is_told_or_what_it_gets(
    tmp_path: Path, gpus: dict[str, int], told: str, device: str
) -> None:
    def change(job: dict[str, Any]) -> None:
        variable("OURO_TRAINER_DEVICE", told)(job)
        container(job)["resources"]["limits"].update(gpus)

    assert read(tmp_path, change).device == device


def test_processes_are_bounded_where_it_is_known_how_many_there_can_be(tmp_path: Path) -> None:
    eight = Recipe(processes=8, batch_size=8)
    read(tmp_path).able(eight)  # on a processor nobody knows before the pod is there
    for change in (
        variable("OURO_TRAINER_MAX_PROCESSES", "4"),
        lambda job: (
            variable("OURO_TRAINER_DEVICE", "auto")(job),
            container(job)["resources"]["limits"].update({"nvidia.com/gpu": 4}),
        ),
    ):
        read_ = read(tmp_path, change)
        read_.able(Recipe(processes=4, batch_size=4))
        with pytest.raises(CapabilityMissing, match="at most 4"):
            read_.able(eight)


WRONG: list[tuple[str, Change]] = [
    ("apiVersion: must be batch/v1", lambda job: job.update(apiVersion="v1")),
    ("kind: must be Job", lambda job: job.update(kind="TrainJob")),
    ("status: is not known", lambda job: job.update(status={})),
    ("metadata.name: must be lower-case", lambda job: job["metadata"].update(name="x" * 47)),
    ("metadata.namespace: must be left out", lambda job: job["metadata"].update(namespace="lab")),
    ("metadata.labels: must be a mapping of texts", lambda job: job["metadata"].update(labels={"a": 1})),
    ("spec.activeDeadlineSeconds: must be a whole number", lambda job: job["spec"].pop("activeDeadlineSeconds")),
    ("spec.ttlSecondsAfterFinished: must be", lambda job: job["spec"].update(ttlSecondsAfterFinished=1)),
    ("spec.backoffLimit: must be", lambda job: job["spec"].update(backoffLimit=True)),
    ("spec.parallelism: must be 1", lambda job: job["spec"].update(parallelism=2)),
    ("restartPolicy: must be Never", lambda job: job["spec"]["template"]["spec"].update(restartPolicy="OnFailure")),
    ("containers: must hold one container", lambda job: container(job).update(name="other")),
    ("containers: must hold one container", lambda job: job["spec"]["template"]["spec"].update(containers="x")),
    (r"containers\[0\].image: must name", lambda job: container(job).update(image="")),
    (r"containers\[0\].resources.limits: nvidia.com/gpu", lambda job: _gpu(job, "half")),
    (r"containers\[0\].env: must be a list", lambda job: container(job).update(env=[1])),
    (r"containers\[0\].env: must be a list", variable("OURO_TRAINER_THREADS", 2)),
    ("did you mean OURO_TRAINER_THREADS", variable("OURO_TRAINER_TREADS", "2")),
    ("OURO_TRAINER_DEVICE must be one of", variable("OURO_TRAINER_DEVICE", "tpu")),
    ("OURO_TRAINER_REQUEST must be left out", variable("OURO_TRAINER_REQUEST", "{}")),
    ("OURO_TRAINER_STORE must be the store of the trainer", variable("OURO_TRAINER_STORE", "/elsewhere")),
    ("spec.template.spec.restartPolicy", lambda job: job.update(spec=3)),
]


def _gpu(job: Any, count: Any) -> None:
    container(job)["resources"]["limits"]["nvidia.com/gpu"] = count


@pytest.mark.parametrize(("told", "change"), WRONG)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, told: str, change: Change) -> None:
    with pytest.raises(InvalidRequest, match=rf"job\.yaml:\d+: .*{told}"):
        read(tmp_path, change)


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    def change(job: dict[str, Any]) -> None:
        job["kind"] = "Pod"
        job["spec"]["backoffLimit"] = -1

    with pytest.raises(InvalidRequest, match="2 problems"):
        read(tmp_path, change)


def test_a_store_in_memory_is_refused_since_no_pod_sees_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="in memory"):
        read(tmp_path, variable("OURO_TRAINER_STORE", "memory://x"), store="memory://x")


def test_a_file_that_is_not_there_or_no_yaml_or_too_long_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="OURO_TRAINER_JOBS"):
        read_template(tmp_path / "none.yaml", STORE)
    for text, told in (("- 1", "must hold a mapping"), ("a: [", "job.yaml:1"), ("a: " + "x" * 2**20, "at most")):
        (tmp_path / "job.yaml").write_text(text)
        with pytest.raises(InvalidRequest, match=told):
            read_template(tmp_path / "job.yaml", STORE)
