"""The Job of Kubernetes that carries out a request, as the operator wrote it down. Read once, checked, then filled in.

The operator says everything about the pod: image, GPUs, volumes, settings, queue. A request adds itself and its digest,
in two variables and two annotations; nothing of a request is a name, a command or a path there.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ouroscope.canonical import canonical_json, digest_of
from ouroscope.errors import CapabilityMissing, FieldProblem, InvalidRequest, LimitExceeded, NotFound
from ouroscope.mappings import read_mapping, refusal, told_with_place
from ouroscope.operations.requests import request_digest
from ouroscope.placed import plain_of
from ouroscope.records.runs import is_name
from ouroscope.records.training import FineTune, Recipe
from ouroscope.settings import load
from services.trainer.requests import METHOD
from services.trainer.settings import PREFIX, TaskSettings

CONTAINER = "training"
REQUEST = "ouroscope.dev/request"
"""Annotation: digest of the request alone. Who has another one is not ours, whatever its name."""
ANSWER = "ouroscope.dev/answer"
"""Annotation: digest of the request and the template, under which the answer is remembered."""

_WAY = "1"
"""Number of the way Jobs are made; raised when the same template would train otherwise."""
_DIGITS = 16
MAX_NAME = 63 - 1 - _DIGITS
MAX_REQUEST = 100_000
"""Linux takes no variable of more than 128 KiB."""
_EXAMPLE = "`apiVersion: batch/v1`, `kind: Job`, see docs/kubernetes.md"
_POD = "spec.template.spec"
_OURS = {f"{PREFIX}_REQUEST", f"{PREFIX}_ANSWER"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request as a Job."""

    name: str
    request: str
    answer: str
    job: Mapping[str, Any]

    def is_of(self, job: Mapping[str, Any]) -> bool:
        """Return whether a Job is one for this request."""
        return annotation(job, REQUEST) == self.request

    def answers(self, job: Mapping[str, Any]) -> bool:
        """Return whether a Job gives the very answer that is wanted: it is of the same template too."""
        return self.is_of(job) and annotation(job, ANSWER) == self.answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A checked template."""

    job: Mapping[str, Any]

    @property
    def fingerprint(self) -> dict[str, str]:
        """Return what besides the request may change an answer, as far as it is known here: what the pod is."""
        pod = self.job["spec"]["template"]["spec"]
        return {"jobs": _WAY, "image": self._container["image"], "pod": digest_of(pod)}

    @property
    def device(self) -> str:
        """Return what trains: what the pod is told, or by the GPUs that it gets."""
        told = self._settings.get(f"{PREFIX}_DEVICE", "auto")
        return told if told != "auto" else ("cuda" if self._gpus else "cpu")

    def able(self, recipe: Recipe) -> None:
        """Refuse more processes than a Job can have, where that is known: by its GPUs, or by what it is told.

        Raises:
            CapabilityMissing: with the number of processes that can be had.
        """
        most = int(self._settings.get(f"{PREFIX}_MAX_PROCESSES", "0")) or (self._gpus if self.device == "cuda" else 0)
        if most and recipe.processes > most:
            raise CapabilityMissing(
                f"recipe.processes is {recipe.processes}, and a Job of this trainer has at most {most}; ask for fewer, "
                "or give its template more GPUs",
                processes=str(most),
            )

    def asked(self, request: FineTune) -> Asked:
        """Return the Job of a request.

        Raises:
            LimitExceeded: the request is too long for a variable.
        """
        text = canonical_json(request)
        if len(text) > MAX_REQUEST:
            raise LimitExceeded(
                f"the request has {len(text):,} signs, and one that a Job carries out at most {MAX_REQUEST:,}; name "
                "fewer corpora"
            )
        own, answer = request_digest(METHOD, request, {}), request_digest(METHOD, request, self.fingerprint)
        job = copy.deepcopy(dict(self.job))
        name = f"{job['metadata']['name']}-{own[:_DIGITS]}"
        job["metadata"] |= {
            "name": name,
            "annotations": {**(job["metadata"].get("annotations") or {}), REQUEST: own, ANSWER: answer},
        }
        told = {f"{PREFIX}_REQUEST": text, f"{PREFIX}_ANSWER": answer}
        container = _trainers(job)[0]
        container["env"] = [*container.get("env", ()), *({"name": key, "value": told[key]} for key in told)]
        return Asked(name=name, request=own, answer=answer, job=job)

    @property
    def _container(self) -> Mapping[str, Any]:
        return _trainers(self.job)[0]

    @property
    def _settings(self) -> dict[str, str]:
        return _literals(self._container)

    @property
    def _gpus(self) -> int:
        limits = (self._container.get("resources") or {}).get("limits") or {}
        return sum(int(count) for name, count in limits.items() if "gpu" in name or "/mig-" in name)


def read_template(path: Path, store: str) -> Template:
    """Read the file of a template.

    Args:
        path: A whole Job of batch/v1, as YAML.
        store: URL of the store of the trainer that will look for answers.

    Raises:
        NotFound: there is no such file.
        InvalidRequest: it is no Job that could carry out a request; every mistake is told with its place.
    """
    if not path.is_file():
        raise NotFound(f"there is no template of Jobs {str(path)!r}; {PREFIX}_JOBS names it, see docs/kubernetes.md")
    document = read_mapping(path, "a template of a Job", _EXAMPLE)
    plain = plain_of(document)
    problems = list(_problems(plain, store))
    if problems:
        raise refusal(path, [told_with_place(document, problem) for problem in problems], problems)
    return Template(job=plain)


def annotation(job: Mapping[str, Any], name: str) -> str:
    """Return an annotation of an object; empty if it has none of that name."""
    metadata = job.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    found = annotations.get(name) if isinstance(annotations, Mapping) else None
    return found if isinstance(found, str) else ""


def _problems(plain: Any, store: str) -> Iterator[FieldProblem]:
    if store.startswith("memory://"):
        yield FieldProblem("", f"{PREFIX}_STORE is in memory, which no pod sees; use a volume or s3://")
    for field, wanted in (("apiVersion", "batch/v1"), ("kind", "Job")):
        if plain.get(field) != wanted:
            yield FieldProblem(field, f"must be {wanted}")
    for key in sorted(set(plain) - {"apiVersion", "kind", "metadata", "spec"}):
        yield FieldProblem(key, "is not known in a Job that is to be made")
    yield from _of_metadata(_mapping(plain, "metadata"))
    spec = _mapping(plain, "spec")
    yield from _of_spec(spec)
    pod = _mapping(_mapping(spec, "template"), "spec")
    if pod.get("restartPolicy") != "Never":
        yield FieldProblem(f"{_POD}.restartPolicy", "must be Never: the Job begins a pod again, so that it is counted")
    yield from _of_containers(pod, store)


def _of_metadata(metadata: Mapping[str, Any]) -> Iterator[FieldProblem]:
    name = metadata.get("name")
    if not (isinstance(name, str) and is_name(name) and len(name) <= MAX_NAME):
        told = f"must be lower-case letters, digits and hyphens, at most {MAX_NAME}: a digest is put behind it"
        yield FieldProblem("metadata.name", told)
    for field in ("namespace", "generateName"):
        if field in metadata:
            told = "must be left out: Jobs are made in the namespace of the trainer, with names of their requests"
            yield FieldProblem(f"metadata.{field}", told)
    for field in ("labels", "annotations"):
        texts = metadata.get(field) or {}
        if not isinstance(texts, dict) or not all(isinstance(each, str) for each in texts.values()):
            yield FieldProblem(f"metadata.{field}", "must be a mapping of texts")


_COUNTS = {"activeDeadlineSeconds": (1, "how long it may work"), "backoffLimit": (0, "how often it is begun again")}
_COUNTS["ttlSecondsAfterFinished"] = (60, "how long it is kept for its log")


def _of_spec(spec: Mapping[str, Any]) -> Iterator[FieldProblem]:
    for field, (least, why) in _COUNTS.items():
        value = spec.get(field)
        if type(value) is not int or value < least:
            yield FieldProblem(f"spec.{field}", f"must be a whole number, {least} or more: {why}")
    for field in ("parallelism", "completions"):
        if spec.get(field, 1) != 1:
            yield FieldProblem(f"spec.{field}", "must be 1 or left out: one pod carries out a request")


def _of_containers(pod: Mapping[str, Any], store: str) -> Iterator[FieldProblem]:
    found = [position for position, one in enumerate(_containers(pod)) if one.get("name") == CONTAINER]
    if len(found) != 1:
        yield FieldProblem(f"{_POD}.containers", f"must hold one container with the name {CONTAINER}")
        return
    container, path = _containers(pod)[found[0]], f"{_POD}.containers[{found[0]}]"
    if not (isinstance(container.get("image"), str) and container["image"]):
        yield FieldProblem(f"{path}.image", "must name the image")
    yield from _of_resources(container, f"{path}.resources")
    try:
        yield from _of_variables(_literals(container), f"{path}.env", store)
    except (TypeError, LookupError, AttributeError):
        yield FieldProblem(f"{path}.env", "must be a list of {name, value} or {name, valueFrom}, all values texts")


def _of_resources(container: Mapping[str, Any], path: str) -> Iterator[FieldProblem]:
    limits = _mapping(_mapping(container, "resources"), "limits")
    for name, count in limits.items():
        if ("gpu" in name or "/mig-" in name) and not str(count).isdigit():
            yield FieldProblem(f"{path}.limits", f"{name} must be a whole number")


def _of_variables(told: Mapping[str, str], path: str, store: str) -> Iterator[FieldProblem]:
    for name in sorted(_OURS & set(told)):
        yield FieldProblem(path, f"{name} must be left out: it is the request's")
    if told.get(f"{PREFIX}_STORE") != store:
        yield FieldProblem(
            path, f"{PREFIX}_STORE must be the store of the trainer itself, {store!r}: answers lie there"
        )
    try:
        load(TaskSettings, {f"{PREFIX}_STORE": store, **told, **dict.fromkeys(_OURS, "set")}, PREFIX)
    except InvalidRequest as error:
        yield from (FieldProblem(path, f"{each.field} {each.description}") for each in error.problems)


def _literals(container: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables of the trainer that a container is given in so many words; raises what bad values raise."""
    told = {}
    for one in container.get("env") or ():
        if one["name"].startswith(f"{PREFIX}_") and "valueFrom" not in one:
            told[one["name"]] = one["value"]
            if not isinstance(one["value"], str):
                raise TypeError(one["name"])
    return told


def _trainers(job: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [one for one in _containers(job["spec"]["template"]["spec"]) if one.get("name") == CONTAINER]


def _containers(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = pod.get("containers")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _mapping(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, Mapping) else {}
