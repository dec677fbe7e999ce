"""The Helm chart and trainings as Jobs: a template that the trainer reads, rights of the trainer, quota by Kueue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

from services.trainer.jobs.template import Template, read_template
from tests.chart import (
    CHART,
    FULL,
    NAMESPACE,
    Object,
    cases,
    claimed_versions,
    environment,
    of_kind,
    pods,
    render,
    rights_of,
    training_job,
    validator,
)

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
LONGEST = "a" * 53
"""The longest name that Helm gives a release."""
WHERE: Object = {"apiServer": {"to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}]}}
PLAIN: Object = {"trainer": {"jobs": {"enabled": True}}, "networkPolicy": WHERE}


def read(job: Object, folder: Path, store: str) -> Template:
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    return read_template(folder / "job.yaml", store)


def trainer(values: Object) -> Object:
    """Return the container of the trainer that these values make."""
    found = [one for one in yaml.safe_load_all(render(values)["workers.yaml"]) if one]
    template = next(one for one in found if one["metadata"]["name"] == f"{FULL}-trainer")["spec"]["template"]
    (container,) = template["spec"]["containers"]
    return dict(container)


def job_of(values: Object) -> Object:
    """Return the template of a Job that these values make."""
    config = next(one for one in yaml.safe_load_all(render(values)["jobs.yaml"]) if one["kind"] == "ConfigMap")
    job: Object = yaml.safe_load(config["data"]["job.yaml"])
    return job


def test_nothing_of_it_is_there_unless_it_is_asked_for() -> None:
    for case in set(cases()) - {"kueue"}:
        assert training_job(case) == {}
        assert "OURO_TRAINER_JOBS" not in environment(pods(case)["trainer"]["spec"]["containers"][0])


def test_the_trainer_reads_the_template_that_the_chart_makes(tmp_path: Path) -> None:
    found = read(training_job("kueue"), tmp_path, "s3://ouroscope/shared")
    assert found.device == "cuda"
    on_volume = read(job_of(PLAIN), tmp_path, "/data/store")
    assert on_volume.device == "cpu"
    (container,) = pods("kueue")["trainer"]["spec"]["containers"]
    (mount,) = [one for one in container["volumeMounts"] if one["name"] == "jobs"]
    (key,) = of_kind("kueue", "ConfigMap")["training"]["data"]
    assert environment(container)["OURO_TRAINER_JOBS"] == f"{mount['mountPath']}/{key}"


@pytest.mark.parametrize("version", [claimed_versions()[0], claimed_versions()[-1]])
def test_the_template_is_a_job_of_kubernetes(version: str) -> None:
    for job in (training_job("kueue"), job_of(PLAIN)):
        wrong = validator(version, "batch/v1", "Job").iter_errors(job)
        assert [f"{error.json_path} {error.message[:200]}" for error in wrong] == []


def test_a_queue_is_named_and_the_job_waits_for_it() -> None:
    job = training_job("kueue")
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "training"
    assert job["spec"]["suspend"] is True
    plain = job_of(PLAIN)
    assert "suspend" not in plain["spec"]
    assert "kueue" not in str(plain)


def test_pods_that_the_cluster_takes_away_are_no_failures() -> None:
    (rule,) = training_job("kueue")["spec"]["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    assert training_job("kueue")["spec"]["backoffLimit"] == 3


def test_only_the_job_holds_a_gpu_and_a_node_that_has_one() -> None:
    front, job = pods("kueue")["trainer"]["spec"], pods("kueue")["training"]["spec"]
    assert "nvidia.com/gpu" not in str(front)
    assert not {"nodeSelector", "tolerations"} & front.keys()
    (container,) = job["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert {"nodeSelector", "tolerations"} <= job.keys()
    assert of_kind("kueue", "Deployment")["trainer"]["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 1
    shared = {one["name"] for one in container["volumeMounts"] if one["mountPath"] == "/dev/shm"}
    assert shared == {one["name"] for one in job["volumes"] if one.get("emptyDir", {}).get("medium") == "Memory"}


def test_settings_go_where_they_mean_something() -> None:
    settings = {"DEVICE": "cpu", "THREADS": 2, "GRACE": 20, "LOG_LEVEL": "debug", "QUEUE_LIMIT": 5}
    values = {**PLAIN, "trainer": {"jobs": {"enabled": True}, "settings": settings}}
    (container,) = job_of(values)["spec"]["template"]["spec"]["containers"]
    of_job, of_front = environment(container), environment(trainer(values))
    told = {
        name: {one.removeprefix("OURO_TRAINER_") for one in variables}
        for name, variables in (("job", of_job), ("front", of_front))
    }
    assert set(settings) - told["job"] == {"QUEUE_LIMIT"}
    assert set(settings) & told["front"] == {"LOG_LEVEL", "QUEUE_LIMIT"}
    assert of_job["OURO_TRAINER_STORE"] == of_front["OURO_TRAINER_STORE"]
    # Nobody calls a Job, and it calls no service.
    assert not [name for name in of_job if name.startswith(("OURO_SECURITY", "OURO_CLIENT"))]


def test_no_setting_of_the_trainer_leaks_to_the_front_where_none_means_anything_there() -> None:
    values = {**PLAIN, "trainer": {"jobs": {"enabled": True}, "settings": {"DEVICE": "cpu"}}}
    assert "OURO_TRAINER_DEVICE" not in environment(trainer(values))


def test_the_trainer_may_make_follow_and_delete_jobs_and_nothing_else() -> None:
    assert rights_of("kueue", "trainer") == {
        ("create", "jobs"),
        ("get", "jobs"),
        ("delete", "jobs"),
        ("list", "pods"),
        ("get", "pods/log"),
    }
    (binding,) = of_kind("kueue", "RoleBinding").values()
    assert binding["roleRef"]["name"] == of_kind("kueue", "Role")["trainer"]["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": f"{FULL}-trainer", "namespace": NAMESPACE}]
    holders = [
        name for name, pod in pods("kueue").items() if pod["spec"].get("serviceAccountName") == f"{FULL}-trainer"
    ]
    assert holders == ["trainer"]


def test_the_token_of_kubernetes_is_in_the_container_of_the_trainer_alone() -> None:
    for name, pod in pods("kueue").items():
        mounts = {mount["mountPath"] for one in pod["spec"]["containers"] for mount in one["volumeMounts"]}
        tokens = [volume for volume in pod["spec"]["volumes"] if "serviceAccountToken" in str(volume)]
        assert (ACCOUNT in mounts, len(tokens)) == ((True, 1) if name == "trainer" else (False, 0)), name


def test_another_template_begins_the_trainer_anew() -> None:
    def checksum(values: Any) -> str:
        found = [one for one in yaml.safe_load_all(render(values)["workers.yaml"]) if one]
        template = next(one for one in found if one["metadata"]["name"] == f"{FULL}-trainer")["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/jobs"])

    assert checksum(PLAIN) == checksum(PLAIN)
    assert checksum(PLAIN) != checksum({**PLAIN, "trainer": {"jobs": {"enabled": True, "retries": 9}}})


def test_the_name_of_a_job_has_room_for_a_digest_whatever_the_release_is_called(tmp_path: Path) -> None:
    with helm_python.Chart.load(CHART) as chart:
        texts = chart.render(PLAIN, name=LONGEST, namespace=NAMESPACE)
    (text,) = [text for name, text in texts.items() if name.endswith("/jobs.yaml")]
    config = next(one for one in yaml.safe_load_all(text) if one["kind"] == "ConfigMap")
    read(yaml.safe_load(config["data"]["job.yaml"]), tmp_path, "/data/store")
