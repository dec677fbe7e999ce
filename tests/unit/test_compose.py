"""deploy/compose.yaml and the Dockerfile: no engine runs here, so what they name is looked up instead."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("generator", "trainer", "analyzer", "coordinator")
SETTINGS = dict(
    re.findall(r"^\| `(OURO_\w+)` \| .* \| (?:`(.*)`)? ?\|$", (ROOT / "docs/settings.md").read_text(), re.MULTILINE)
)
"""Every variable with its default."""


def environment() -> Iterator[tuple[str, str, str]]:
    for name in OURS:
        yield from ((name, variable, value) for variable, value in SERVICES[name]["environment"].items())


def test_it_has_the_four_services_and_what_they_need() -> None:
    assert set(SERVICES) == {*OURS, "database", "prometheus", "grafana"}


@pytest.mark.parametrize(("service", "variable"), [(service, name) for service, name, _ in environment()])
def test_a_variable_is_one_that_its_service_reads(service: str, variable: str) -> None:
    assert variable in SETTINGS
    assert variable.startswith(f"OURO_{service.upper()}_")


def test_services_listen_at_their_default_ports_and_find_one_another() -> None:
    listening = {}
    for service, variable, value in environment():
        if variable.endswith("ADDRESS"):
            assert value.rpartition(":")[2] == SETTINGS[variable].rpartition(":")[2]
        if variable == f"OURO_{service.upper()}_ADDRESS":
            listening[service] = value.rpartition(":")[2]
    for worker in OURS[:3]:
        assert (
            SERVICES["coordinator"]["environment"][f"OURO_COORDINATOR_{worker.upper()}"]
            == f"{worker}:{listening[worker]}"
        )
    for service, port in listening.items():
        assert SERVICES[service]["healthcheck"]["test"][-1] == f"127.0.0.1:{port}"
        assert SERVICES[service]["command"] == ["python", "-m", f"services.{service}"]


def test_prometheus_scrapes_where_the_services_show_their_metrics() -> None:
    ports = {
        f"ouroscope-{service}": SETTINGS[variable].rpartition(":")[2]
        for service in OURS
        for variable in (f"OURO_{service.upper()}_METRICS_PORT", f"OURO_{service.upper()}_METRICS_ADDRESS")
        if variable in SETTINGS
    }
    scraped = yaml.safe_load((DEPLOY / "compose/prometheus.yml").read_text())
    jobs = {job["job_name"]: job["static_configs"][0]["targets"] for job in scraped["scrape_configs"]}
    assert jobs == {job: [f"{job.removeprefix('ouroscope-')}:{port}"] for job, port in ports.items()}
    shipped = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    assert {key: scraped[key] for key in ("global", "rule_files")} == {
        key: shipped[key] for key in ("global", "rule_files")
    }


def test_every_folder_and_volume_that_is_mounted_exists() -> None:
    for service in SERVICES.values():
        for mount in service.get("volumes", ()):
            source = mount.partition(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
    mounted = {mount.split(":")[0] for mount in SERVICES["grafana"]["volumes"]}
    assert {"./grafana/provisioning", "./grafana/dashboards"} <= mounted


def test_only_this_machine_reaches_a_port() -> None:
    for service in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_what_we_did_not_build_has_a_version_and_what_we_did_has_a_stage() -> None:
    stages = re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    for name, service in SERVICES.items():
        if name in OURS:
            assert service["build"]["target"] in stages
        else:
            assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\S*", service["image"])


def test_our_containers_have_no_rights_that_they_do_not_need() -> None:
    for name in OURS:
        service = SERVICES[name]
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        written = {mount.split(":")[1] for mount in service["volumes"]} | set(service["tmpfs"])
        assert written <= {"/data/store", "/data/home", "/tmp"}
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^USER \d+$", dockerfile, re.MULTILINE)
    for folder in ("/data/store", "/data/home"):
        assert folder in dockerfile


def test_everything_that_waits_for_another_waits_for_its_health() -> None:
    for service in SERVICES.values():
        assert "healthcheck" in service
        for other, condition in service.get("depends_on", {}).items():
            assert condition == {"condition": "service_healthy"}
            assert other in SERVICES


def test_grafana_is_told_of_the_prometheus_beside_it_and_of_a_home_that_exists() -> None:
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/ouroscope.yml").read_text())["providers"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert Path(home).parent == Path(provider["options"]["path"])
    assert (DEPLOY / "grafana/dashboards" / Path(home).name).exists()


def test_an_image_gets_all_that_the_wheel_is_made_of() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    packages = re.findall(r'"(\w+)"', re.search(r"^packages = \[(.*)\]$", project, re.MULTILINE).group(1))  # type: ignore[union-attr]
    included = re.findall(r'^"(\w+)" = "ouroscope/embedded/\w+"$', project, re.MULTILINE)
    kept = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert included
    assert {*packages, *included, "pyproject.toml", "constraints.txt", "README.md", "LICENSE", "deploy/image"} == kept
