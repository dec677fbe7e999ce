"""The Helm chart and the services: variables that they read, ports, commands, images, and what it runs by itself."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ouroscope import __version__
from ouroscope.addresses import split_address
from ouroscope.client import CoordinatorClient, open_channel
from ouroscope.rpc.server import serve
from ouroscope.security.connection import PREFIX as CLIENT
from ouroscope.security.connection import Connection
from ouroscope.security.settings import PREFIX as SECURITY
from ouroscope.security.settings import SecuritySettings, read_security
from ouroscope.settings import describe, load
from ouroscope.store import ArtifactStore
from services.analyzer.service import start as start_analyzer
from services.analyzer.settings import AnalyzerSettings
from services.coordinator.lock import HomeLock
from services.coordinator.scaling import Scaled, read_scaled
from services.coordinator.service import start as start_coordinator
from services.coordinator.settings import CoordinatorSettings
from services.generator.declared import read_backends
from services.generator.settings import GeneratorSettings
from services.trainer.settings import PREFIX as TRAINER
from services.trainer.settings import TaskSettings, TrainerSettings
from tests.certificates import Authority
from tests.chart import (
    CHART,
    FULL,
    PARTS,
    ROOT,
    Object,
    cases,
    containers,
    environment,
    of_kind,
    pods,
    render,
)
from tests.unit.coordinator.fakes import Team

CASES = sorted(cases())
SCHEMA: Object = json.loads((CHART / "values.schema.json").read_text())
SETTINGS: dict[str, type[Any]] = {
    "coordinator": CoordinatorSettings,
    "generator": GeneratorSettings,
    "trainer": TrainerSettings,
    "analyzer": AnalyzerSettings,
}
GROUPS_OF_MACHINES = {"NODES", "NODE_RANK", "MEETING"}
"""Settings of trainers that train together, which the chart does not set up."""
OF_THE_OWNER = {"MIGRATION_DATABASE", "GRANT_TO"}
"""Of the Job that changes the tables, where database.migration asks for it."""
OF_RAY = {"EXECUTOR", "RAY_ADDRESS"}
"""Set by the chart with its cluster of Ray, by people with one of their own."""


def test_plaintext_that_is_said_aloud_is_accepted_and_told_to_the_services() -> None:
    for part, container in containers("laptop"):
        if part in PARTS:
            assert environment(container)[f"OURO_{part.upper()}_ALLOW_PLAINTEXT"] == "true"
    for part, container in containers("defaults"):
        assert f"OURO_{part.upper()}_ALLOW_PLAINTEXT" not in environment(container)


@pytest.mark.parametrize("case", CASES)
def test_every_variable_is_read_by_its_service_and_can_be_read(case: str) -> None:
    for part, container in containers(case):
        variables = environment(container)
        kinds = {SECURITY: SecuritySettings, CLIENT: Connection}
        if part in SETTINGS:
            kinds[f"OURO_{part.upper()}"] = SETTINGS[part]
        if part == "migrate":
            kinds["OURO_COORDINATOR"] = CoordinatorSettings
        if part == "training":
            # The program of a Job reads the variables of the trainer, and two that each request brings.
            kinds[TRAINER] = TaskSettings
            variables |= {f"{TRAINER}_REQUEST": "{}", f"{TRAINER}_ANSWER": "0"}
        known = {one.name for prefix, kind in kinds.items() for one in describe(kind, prefix)}
        assert {name for name in variables if name.startswith("OURO_")} <= known
        for prefix, kind in kinds.items():
            load(kind, variables, prefix)


@pytest.mark.parametrize("part", PARTS)
def test_the_schema_takes_every_setting_that_the_chart_does_not_set_itself(part: str) -> None:
    prefix = f"OURO_{part.upper()}_"
    takes = SCHEMA["properties"][part]["properties"]["settings"]["properties"]
    set_here = {
        name.removeprefix(prefix)
        for case in CASES
        for name in environment(pods(case)[part]["spec"]["containers"][0])
        if name.startswith(prefix)
    } - {name for case in CASES for name in cases()[case].get(part, {}).get("settings", {})}
    declared = {one.name.removeprefix(prefix) for one in describe(SETTINGS[part], prefix.rstrip("_"))}
    assert set(takes) == declared - (set_here - OF_RAY) - GROUPS_OF_MACHINES - OF_THE_OWNER, (
        "tell values.schema.json of it"
    )


def test_the_schema_takes_every_setting_of_security_that_is_no_file() -> None:
    takes = SCHEMA["properties"]["security"]["properties"]["settings"]["properties"]
    declared = {one.name.removeprefix(f"{SECURITY}_") for one in describe(SecuritySettings, SECURITY)}
    assert set(takes) == declared - {"CERTIFICATE", "KEY", "CLIENT_CA", "TOKENS"}


@pytest.mark.parametrize("case", CASES)
def test_ports_are_those_that_the_services_listen_on(case: str) -> None:
    for part in PARTS:
        (container,) = pods(case)[part]["spec"]["containers"]
        prefix, variables = f"OURO_{part.upper()}_", environment(container)
        listens = {
            "grpc": variables[f"{prefix}ADDRESS"],
            "metrics": variables.get(f"{prefix}METRICS_ADDRESS") or f"x:{variables[f'{prefix}METRICS_PORT']}",
            "page": variables.get(f"{prefix}PAGE_ADDRESS", ""),
        }
        ports = {name: split_address(address)[1] for name, address in listens.items() if address}
        assert {one["name"]: one["containerPort"] for one in container["ports"]} == ports
        service = of_kind(case, "Service")[part]["spec"]
        assert {one["name"]: one["port"] for one in service["ports"]} == ports
        defaults = {one.name: one.default for one in describe(SETTINGS[part], prefix.rstrip("_"))}
        assert str(defaults[f"{prefix}ADDRESS"]).endswith(f":{ports['grpc']}")


@pytest.mark.parametrize("case", CASES)
def test_the_coordinator_is_told_of_services_that_exist(case: str) -> None:
    (container,) = pods(case)["coordinator"]["spec"]["containers"]
    for worker in PARTS[1:]:
        target = environment(container)[f"OURO_COORDINATOR_{worker.upper()}"]
        name, port = split_address(target.removeprefix("dns:///"))
        service = of_kind(case, "Service")[name.removeprefix(f"{FULL}-")]["spec"]
        assert service["selector"]["app.kubernetes.io/component"] == worker
        assert port in {one["port"] for one in service["ports"]}
        # Asked in turn where there are several addresses; otherwise always the same pod.
        assert (service.get("clusterIP") == "None") != (service.get("sessionAffinity") == "ClientIP")


def test_keda_asks_the_coordinator_in_words_that_it_reads_by_a_name_of_its_certificate() -> None:
    (scaled,) = of_kind("gpu-vllm", "ScaledObject").values()
    assert (scaled["spec"]["minReplicaCount"], scaled["spec"]["maxReplicaCount"]) == (0, 1)
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["type"] == "external-push"
    assert read_scaled(trigger["metadata"]) == Scaled("trainer", 1.0)
    host, port = split_address(trigger["metadata"]["scalerAddress"])
    assert host in of_kind("gpu-vllm", "Certificate")["coordinator"]["spec"]["dnsNames"]
    assert port in {one["port"] for one in of_kind("gpu-vllm", "Service")["coordinator"]["spec"]["ports"]}
    shown = of_kind("gpu-vllm", "TriggerAuthentication")[trigger["authenticationRef"]["name"].removeprefix(f"{FULL}-")]
    secret = of_kind("gpu-vllm", "Certificate")["client"]["spec"]["secretName"]
    assert {(one["parameter"], one["name"], one["key"]) for one in shown["spec"]["secretTargetRef"]} == {
        ("caCert", secret, "ca.crt"),
        ("tlsClientCert", secret, "tls.crt"),
        ("tlsClientKey", secret, "tls.key"),
    }


def test_images_commands_and_user_are_those_of_the_dockerfile() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    stages = re.findall(r"^FROM \S+ AS (\S+)$", dockerfile, re.MULTILINE)
    user = re.search(r"^USER (\d+)$", dockerfile, re.MULTILINE).group(1)  # type: ignore[union-attr]
    for part, container in containers("defaults"):
        stage = "model" if part in {"generator", "trainer"} else "service"
        assert container["image"] == f"ouroscope-{stage}:{__version__}"
        assert stage in stages
        if container["command"][:2] == ["python", "-m"]:
            assert importlib.util.find_spec(f"{container['command'][2]}.__main__")
        assert pods("defaults")[part]["spec"]["securityContext"]["runAsUser"] == int(user)
    assert all(extra in dockerfile for extra in ("s3", "security", "tracing"))


def test_the_generator_understands_its_backends(tmp_path: Path) -> None:
    file = tmp_path / "backends.yaml"
    file.write_text(of_kind("gpu-vllm", "ConfigMap")["backends"]["data"]["backends.yaml"])
    (backend,) = read_backends(file)
    assert backend.name == "pool"
    mounts = {mount["mountPath"] for mount in pods("gpu-vllm")["generator"]["spec"]["containers"][0]["volumeMounts"]}
    assert {"/shared", "/etc/ouroscope/backends"} <= mounts


def test_what_runs_before_the_coordinator_makes_its_tables_but_not_beside_another(tmp_path: Path) -> None:
    (container,) = pods("laptop")["coordinator"]["spec"]["initContainers"]
    home = {"OURO_COORDINATOR_HOME": str(tmp_path)}
    command = [sys.executable, *container["command"][1:]]
    variables = {**os.environ, **environment(container), **home}
    done = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, "tables.migrated" in done.stderr + done.stdout) == (0, True)
    assert (tmp_path / "state/ouroscope.sqlite").exists()
    HomeLock(tmp_path)
    done = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, "another coordinator" in done.stderr + done.stdout) == (1, True)


async def test_the_probe_trusts_a_certificate_that_names_only_the_service(tmp_path: Path) -> None:
    (container,) = pods("defaults")["analyzer"]["spec"]["containers"]
    house = Authority("house")
    for name, host in (("right", f"{FULL}-analyzer"), ("wrong", f"{FULL}-trainer")):
        folder = tmp_path / name
        house.issue(host, hosts=(host,)).write(folder)
        (folder / "ca.crt").write_bytes(house.pem)
        variables = {
            one: value.replace("/etc/ouroscope/tls", str(folder)) for one, value in environment(container).items()
        }
        server = await serve(lambda _: (), "127.0.0.1:0", security=read_security(variables))
        *command, _ = container["readinessProbe"]["exec"]["command"]
        found = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", **variables}
        process = await asyncio.create_subprocess_exec(*command, server.address, cwd=ROOT, env=found)
        assert await process.wait() == (name == "wrong")
        await server.stop(0)


async def test_what_helm_test_runs_gets_an_answer_of_a_real_analyzer(tmp_path: Path) -> None:
    (container,) = pods("laptop")["test"]["spec"]["containers"]
    server = await start_analyzer(ArtifactStore(str(tmp_path)), "127.0.0.1:0")
    try:
        program = environment(container)["SMOKE"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, server.address, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        told, _ = await process.communicate()
    finally:
        await server.stop(0)
    assert (process.returncode, told.startswith(b"40 documents")) == (0, True)
    assert 'python -c "$SMOKE"' in container["command"][-1]


async def test_the_run_of_helm_test_goes_to_its_end_and_a_second_test_makes_its_own(tmp_path: Path) -> None:
    (container,) = pods("defaults")["test"]["spec"]["containers"]
    assert '-c "$LOOP" ouro-ouroscope-coordinator:50054 helm-test-1' in container["command"][-1]
    # The embedded text is every docstring of Python, which takes a while to read; a file does here.
    file = tmp_path / "human.jsonl"
    draw = random.Random(0)
    texts = [" ".join("".join(draw.choices("abcdefghij", k=5)) for _ in range(20)) for _ in range(600)]
    file.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    text = f"dataset=__import__('ouroscope.records.runs').records.runs.DatasetSpec(source={str(file)!r})"
    program = environment(container)["LOOP"].replace('name="helm-test",', f'name="helm-test", {text},')
    store, team = ArtifactStore(str(tmp_path / "store")), Team(tmp_path / "workers")
    server = await start_coordinator(tmp_path, store, workers=team.workers)
    try:
        for _ in range(2):
            command = [sys.executable, "-c", program, server.address, "helm-test-1"]
            process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
            lines, _ = await process.communicate()
            assert (process.returncode, lines.splitlines()[-1]) == (0, b"SUCCEEDED: 4 of 4 generations")
        async with open_channel(server.address) as channel:
            names = {run.name async for run in CoordinatorClient(channel).list_runs()}
        assert len(names) == 2
        assert all(name.startswith("runs/helm-test-1-") for name in names)
    finally:
        await server.stop(0)


def test_a_run_is_left_out_of_helm_test_where_nobody_wants_it() -> None:
    rendered = yaml.safe_load(render({"helmTest": {"loop": False}})["test.yaml"])
    assert "LOOP" not in str(rendered)
