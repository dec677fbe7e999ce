"""The Dockerfile, read: what is pinned, who runs, what is in which image. `make images-test` builds and starts them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ouroscope import __version__
from ouroscope.settings import describe
from services.analyzer.settings import AnalyzerSettings
from services.coordinator.settings import CoordinatorSettings
from services.generator.settings import GeneratorSettings
from services.trainer.settings import TrainerSettings
from tests.dockerfile import ROOT, read, substituted

DOCKERFILE = read()
IMAGES = ("service", "model")
IMAGE = ROOT / "deploy" / "image"
SERVICES = {
    "service": {"analyzer": AnalyzerSettings, "coordinator": CoordinatorSettings},
    "model": {"generator": GeneratorSettings, "trainer": TrainerSettings},
}
LOADED = """
import json, sys
# What is installed here and not in the image is not found there either.
sys.modules.update(dict.fromkeys(json.loads(sys.argv[1])))
import networkit, networkx, scipy.cluster.vq, spacy.lang.en
import services.analyzer.__main__, services.coordinator.__main__
print(*sys.modules)
"""
"""Prints what is loaded where all that an analyzer imports late is imported."""
HEAVY = {"torch", "transformers", "peft", "accelerate", "triton"}


def extras(image: str) -> set[str]:
    """Return the extras that an image is installed with."""
    (run,) = DOCKERFILE.stages[f"build-{image}"].of("RUN")
    return set(re.search(r"install\.sh (\S+)", run.text)[1].split(","))  # type: ignore[index]


def installed_with(wanted: set[str]) -> set[str]:
    """Return the distributions that some extras bring, with all that they need, as pip would choose them here."""
    found: set[tuple[str, str]] = set()
    waiting = [("ouroscope", extra) for extra in ("", *wanted)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        for line in metadata.requires(name) or ():
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(need.name), each) for each in ("", *need.extras)]
    return {name for name, _ in found}


def test_hadolint_finds_nothing() -> None:
    program = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([program, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_base_is_pinned_by_its_digest_and_every_stage_stands_on_it() -> None:
    assert re.fullmatch(r"python:3\.\d+-slim-\w+@sha256:[0-9a-f]{64}", DOCKERFILE.arguments["BASE"])
    for stage in DOCKERFILE.stages.values():
        assert stage.base in {*DOCKERFILE.stages, DOCKERFILE.arguments["BASE"]}


@pytest.mark.parametrize("image", IMAGES)
def test_a_container_is_nobody_and_has_nothing_to_install_or_to_build_with(image: str) -> None:
    assert int(DOCKERFILE.last(image, "USER").text) >= 10_000
    assert DOCKERFILE.last(image, "ENV").pairs["HOME"] == "/tmp"
    line = [stage.name for stage in DOCKERFILE.line_of(image)]
    assert "build" not in line
    for stage in DOCKERFILE.line_of(image):
        for run in stage.of("RUN"):
            assert not re.search(r"\b(apt-get|pip install|curl|wget)\b", run.text)
        for copy in stage.of("COPY"):
            assert copy.text == f"--from=build-{image} /opt/ouroscope /opt/ouroscope"


def test_what_has_no_pip_in_it_is_installed_from_wheels_of_versions_that_were_tested() -> None:
    script = (IMAGE / "install.sh").read_text()
    for told in ("--without-pip", "--only-binary :all:", "--constraint constraints.txt"):
        assert told in script
    tools = (IMAGE / "tools.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in tools if not line.startswith("#"))


@pytest.mark.parametrize("image", IMAGES)
def test_every_package_of_an_image_has_its_version_in_the_constraints(image: str) -> None:
    listed = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    missing = installed_with(extras(image)) - {canonicalize_name(name) for name in listed} - {"ouroscope"}
    # What torch brings of CUDA is pinned by torch itself.
    assert {name for name in missing if not name.startswith(("nvidia-", "cuda-"))} - {"triton"} == set()


def test_torch_is_in_the_image_of_models_and_not_in_that_of_services() -> None:
    assert not installed_with(extras("service")) & HEAVY
    assert {"torch", "transformers", "peft"} <= installed_with(extras("model"))


def test_both_images_can_do_what_the_chart_asks_of_them() -> None:
    for image in IMAGES:
        assert {*SERVICES[image], "s3", "security", "tracing"} == extras(image)


def test_what_is_trimmed_of_scipy_is_loaded_by_nothing_in_the_image() -> None:
    trimmed = set(re.search(r"for name in (datasets .*); do", (IMAGE / "trim.sh").read_text())[1].split())  # type: ignore[index]
    there = installed_with(extras("service"))
    strangers = [
        name
        for name, makers in metadata.packages_distributions().items()
        if not {canonicalize_name(maker) for maker in makers} & there
    ]
    loaded = subprocess.run(
        [sys.executable, "-c", LOADED, json.dumps(strangers)], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    assert {"scipy.special", "scipy.sparse", "scipy.io"} <= set(loaded)
    assert not {f"scipy.{name}" for name in trimmed} & set(loaded)


def test_nothing_asks_a_server_through_pyarrow() -> None:
    arrow = "".join(path.read_text() for path in (ROOT / "ouroscope").rglob("*.py"))
    assert not re.search(r"pyarrow\.(flight|fs)\b", arrow)


@pytest.mark.parametrize("image", IMAGES)
def test_health_is_asked_where_the_services_of_the_image_listen(image: str) -> None:
    *command, first, second = DOCKERFILE.last(image, "HEALTHCHECK").command
    assert command == ["python", "-m", "ouroscope.rpc.probe"]
    listens = {
        str(one.default)
        for service, kind in SERVICES[image].items()
        for one in describe(kind, f"OURO_{service.upper()}")
        if one.name == f"OURO_{service.upper()}_ADDRESS"
    }
    assert {first, second} == listens


def test_labels_tell_which_version_it_is_and_under_which_licence() -> None:
    labels = DOCKERFILE.last("service", "LABEL").pairs
    told = {name.removeprefix("org.opencontainers.image."): value for name, value in labels.items()}
    assert told["version"] == __version__
    assert told["licenses"] == re.search(r'^license = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]  # type: ignore[index]
    assert substituted(told["revision"], {"REVISION": "abc"}) == "abc"


def test_two_builds_of_one_date_are_alike_as_far_as_dates_go() -> None:
    assert DOCKERFILE.stages["base"].of("ARG")[0].pairs == {"SOURCE_DATE_EPOCH": "315532800"}
    finish = (IMAGE / "finish.sh").read_text()
    assert "unchecked-hash" in finish
    assert "--output-reproducible" in finish
    assert '--date "@$SOURCE_DATE_EPOCH"' in finish


def test_scripts_are_run_by_the_dockerfile_and_nothing_else_is_there() -> None:
    text = (ROOT / "Dockerfile").read_text()
    for path in IMAGE.iterdir():
        assert f"deploy/image/{path.name}" in text
        assert path.suffix != ".sh" or path.stat().st_mode & 0o111


def test_the_chart_and_compose_use_these_images() -> None:
    compose = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]
    for image in IMAGES:
        for service in SERVICES[image]:
            assert compose[service]["build"]["target"] == image
    values = yaml.safe_load((ROOT / "deploy/chart/values.yaml").read_text())["image"]
    assert {values[image]["repository"] for image in IMAGES} == {f"ouroscope-{image}" for image in IMAGES}
