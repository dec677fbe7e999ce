"""The Helm chart and secrets: who makes them, who reads them, and the Job that alone has that of the tables' owner."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import helm_python
import pytest
import yaml

from tests.chart import CHART, FULL, NAMESPACE, RELEASE, Object, cases, objects, of_kind, pods, render
from tests.custom_resources import custom_validator

CASES = sorted(cases())
ANYWHERE: list[Object] = [{"podSelector": {}}]
POLICY: Object = {"database": {"to": ANYWHERE}, "objectStore": {"to": ANYWHERE}}
OWNER = "OURO_COORDINATOR_MIGRATION_DATABASE"


def at(key: str, name: str = "") -> Object:
    return {"key": key, "property": name}


STORE: Object = {"store": {"name": "vault"}}
TLS = {name: at("house/tls", name) for name in ("certificate", "privateKey", "authority")}
S3: Object = {"kind": "s3", "s3": {"url": "s3://bucket"}}
ALL: Object = {
    "externalSecrets": {
        "store": {"name": "vault", "kind": "ClusterSecretStore"},
        "refreshInterval": "15m",
        "database": at("runs", "coordinator"),
        "migration": at("runs", "owner"),
        "s3": {"accessKeyId": at("bucket", "id"), "secretAccessKey": at("bucket", "secret")},
        "tokens": at("tokens"),
        "clientToken": at("run"),
        "tls": TLS,
        "ray": at("ray", "token"),
    },
    "tls": {"certManager": {"enabled": False}},
    "store": S3,
    "database": {"key": "address", "migration": {"key": "owners-address", "grantTo": "coordinators"}},
    "security": {"tokens": {"key": "tokens.yml"}},
    "analyzer": {"autoscaling": {"enabled": False}},
    "ray": {"enabled": True},
    "networkPolicy": {**POLICY, "prometheus": ANYWHERE},
    "monitoring": {"serviceMonitor": {"enabled": True}},
}
"""Every secret of the chart from a store; nothing of them is named twice."""


def made_by(values: Object, revision: int = 1) -> list[Object]:
    with helm_python.Chart.load(CHART) as chart:
        texts = chart.render(values, name=RELEASE, namespace=NAMESPACE, revision=revision)
    found = (text for name, text in texts.items() if name.endswith(".yaml"))
    return [one for text in found for one in yaml.safe_load_all(text) if one]


def kinds(made: Iterable[Object], kind: str) -> list[Object]:
    return [one for one in made if one["kind"] == kind]


def read_keys(what: Any) -> Iterator[tuple[str, str]]:
    """Yield what is read by key, of Secrets, at whatever depth: their names with the key."""
    if isinstance(what, list):
        for one in what:
            yield from read_keys(one)
    if isinstance(what, dict):
        for kind in ("secretKeyRef", "secret", "keySecret", "credentials"):
            if isinstance(found := what.get(kind), dict) and "key" in found:
                yield found["name"], found["key"]
        for value in what.values():
            yield from read_keys(value)


def mounted(what: Any) -> Iterator[str]:
    """Yield the names of Secrets that are mounted, or handed to Ray."""
    if isinstance(what, list):
        for one in what:
            yield from mounted(one)
    if isinstance(what, dict):
        yield from (value for key, value in what.items() if key == "secretName")
        for value in what.values():
            yield from mounted(value)


def external(made: Iterable[Object]) -> dict[str, set[str]]:
    """Return the Secrets that External Secrets makes, each with its keys."""
    specs = [one["spec"] for one in kinds(made, "ExternalSecret")]
    return {spec["target"]["name"]: {one["secretKey"] for one in spec["data"]} for spec in specs}


@pytest.mark.parametrize("case", sorted({*CASES} - {"gpu-vllm"}))
def test_no_secret_of_a_store_and_no_job_is_there_unless_it_is_asked_for(case: str) -> None:
    assert not {"ExternalSecret", "Job"} & {one["kind"] for one in objects(case)}
    (before,) = pods(case)["coordinator"]["spec"]["initContainers"]
    assert (before["name"], before["command"][-1]) == ("migrate", "--migrate")


def test_what_the_store_has_is_what_pods_read_by_the_same_names_and_keys() -> None:
    made = made_by(ALL)
    secrets = external(made)
    assert set(secrets) == {
        f"{FULL}-{name}" for name in ("database", "migration", "s3", "tokens", "client-token", "tls", "ray")
    }
    others = [one for one in made if one["kind"] != "ExternalSecret"]
    by_key = set(read_keys(others))
    assert {name for name, _ in by_key} | set(mounted(others)) == set(secrets)
    assert all(key in secrets[name] for name, key in by_key)
    assert secrets[f"{FULL}-database"] == {"address"}
    assert secrets[f"{FULL}-migration"] == {"owners-address"}
    assert secrets[f"{FULL}-tls"] == {"tls.crt", "tls.key", "ca.crt"}


def test_files_of_secrets_are_where_variables_say() -> None:
    made = made_by(ALL)
    secrets = external(made)
    (coordinator,) = kinds(made, "StatefulSet")
    spec = coordinator["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    files = {one["value"] for one in container["env"] if str(one.get("value")).startswith("/etc/ouroscope/")}
    volumes = {one["name"]: one["secret"]["secretName"] for one in spec["volumes"] if "secret" in one}
    there = {
        f"{mount['mountPath']}/{key}"
        for mount in container["volumeMounts"]
        if mount["name"] in volumes
        for key in secrets[volumes[mount["name"]]]
    }
    assert {"/etc/ouroscope/tokens/tokens.yml", "/etc/ouroscope/token/token", "/etc/ouroscope/tls/tls.key"} <= files
    assert files <= there


def test_objects_for_the_store_say_where_it_is_and_what_is_asked_of_it() -> None:
    made = kinds(made_by(ALL), "ExternalSecret")
    for one in made:
        assert not list(custom_validator(one["apiVersion"], one["kind"]).iter_errors(one))
        assert one["spec"]["secretStoreRef"] == {"name": "vault", "kind": "ClusterSecretStore"}
        assert one["spec"]["refreshInterval"] == "15m"
    asked = {one["metadata"]["name"]: [each["remoteRef"] for each in one["spec"]["data"]] for one in made}
    assert asked[f"{FULL}-tokens"] == [{"key": "tokens"}]
    assert asked[f"{FULL}-s3"] == [at("bucket", "id"), at("bucket", "secret")]


def test_only_the_job_has_the_secret_of_the_owner() -> None:
    name = of_kind("gpu-vllm", "ExternalSecret")["migration"]["spec"]["target"]["name"]
    for part, pod in pods("gpu-vllm").items():
        assert (name in str(pod)) == (part == "migrate")
        assert (OWNER in str(pod)) == (part == "migrate")
    (before,) = pods("gpu-vllm")["coordinator"]["spec"]["initContainers"]
    (work,) = pods("gpu-vllm")["migrate"]["spec"]["containers"]
    assert before["command"] == ["python", "-m", "services.coordinator", "--await-tables"]
    assert work["command"] == ["python", "-m", "services.coordinator", "--migrate"]
    assert work["image"] == before["image"]


def test_every_revision_has_a_job_of_its_own_that_ends_and_goes() -> None:
    for revision in (1, 7):
        (job,) = kinds(made_by(cases()["gpu-vllm"], revision), "Job")
        assert job["metadata"]["name"] == f"{FULL}-migrate-{revision}"
        assert "annotations" not in job["metadata"], "it is no hook: it would run while the old coordinator stays"
        assert {"backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"} <= job["spec"].keys()
        assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    with_role = next(one for one in made_by(ALL) if one["kind"] == "Job")
    granted = {"name": "OURO_COORDINATOR_GRANT_TO", "value": "coordinators"}
    assert granted in with_role["spec"]["template"]["spec"]["containers"][0]["env"]


def test_the_owner_may_be_a_secret_that_is_there() -> None:
    values: Object = {
        "database": {"existingSecret": "runs", "migration": {"existingSecret": "owner", "deadlineSeconds": 600}},
        "networkPolicy": POLICY,
    }
    made = made_by(values)
    (job,) = kinds(made, "Job")
    assert job["spec"]["activeDeadlineSeconds"] == 600
    assert set(read_keys(job)) == {("runs", "url"), ("owner", "url")}
    assert not kinds(made, "ExternalSecret")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"externalSecrets": {"tokens": at("x")}}, "externalSecrets.store.name is empty.*externalSecrets.tokens"),
        ({"externalSecrets": STORE}, "externalSecrets.store is named and no secret is asked of it"),
        ({"externalSecrets": {"store": {"name": "x", "kind": "Vault"}}}, "/externalSecrets/store/kind"),
        ({"externalSecrets": {"store": {"name": "Not A Name"}}}, "/externalSecrets/store/name"),
        ({"externalSecrets": {**STORE, "refreshInterval": "often"}}, "/externalSecrets/refreshInterval"),
        ({"externalSecrets": {**STORE, "databse": at("x")}}, "/externalSecrets.*databse"),
        ({"externalSecrets": {**STORE, "ray": at(" x")}}, "/externalSecrets/ray/key"),
        ({"externalSecrets": {**STORE, "tokens": at("", "x")}}, "externalSecrets.tokens: tokens.yaml has no key"),
        (
            {"externalSecrets": {**STORE, "s3": {"accessKeyId": at("x")}}, "store": S3},
            "externalSecrets.s3: AWS_SECRET_ACCESS_KEY has no key",
        ),
        (
            {"externalSecrets": {**STORE, "tls": {**TLS, "authority": at("")}}},
            "externalSecrets.tls: ca.crt has no key",
        ),
        ({"externalSecrets": {**STORE, "tls": TLS}}, "externalSecrets.tls needs tls.enabled without tls.certManager"),
        (
            {"externalSecrets": {**STORE, "s3": {"accessKeyId": at("x"), "secretAccessKey": at("x")}}},
            "externalSecrets.s3 needs store.kind s3",
        ),
        ({"externalSecrets": {**STORE, "ray": at("x")}}, "externalSecrets.ray needs ray.enabled or ray.job.enabled"),
        ({"externalSecrets": {**STORE, "tokens": at("x")}}, "security.clientToken.existingSecret is empty"),
        (
            {"externalSecrets": {**STORE, "database": at("x")}, "database": {"existingSecret": "y"}},
            "externalSecrets.database makes a Secret, and existingSecret names one",
        ),
        ({"externalSecrets": {**STORE, "database": at("x")}}, "networkPolicy.database.to is empty"),
        ({"externalSecrets": {**STORE, "migration": at("x")}}, "database.migration needs database.existingSecret"),
        ({"database": {"migration": {"existingSecret": "x"}}}, "database.migration needs database.existingSecret"),
        ({"database": {"migration": {"grantTo": "x"}}}, "database.migration.grantTo needs"),
        ({"database": {"migration": {"deadlineSeconds": 5}}}, "/database/migration/deadlineSeconds"),
        ({"database": {"key": "a/b"}}, "/database/key"),
    ],
)
def test_nonsense_is_refused_and_the_key_is_named(values: Object, told: str) -> None:
    with pytest.raises(helm_python.HelmError, match=f"(?s){told}"):
        render(values)
