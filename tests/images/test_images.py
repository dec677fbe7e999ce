"""Both images, built by executing the Dockerfile and started as they would be: `make images-test`, minutes and some GB.

No container engine is needed, but root is: see `tests.image_roots`. What stands for the base image is a Debian of its
release with Debian's own Python.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from ouroscope import __version__
from tests.image_roots import Images, missing

pytestmark = [pytest.mark.images, pytest.mark.slow, pytest.mark.timeout(7200)]

FOLDER = "OURO_IMAGES_FOLDER"
"""Variable with a folder that is used again and kept; without it a new one is made and removed."""
PATIENCE = 300.0
SERVICES = {"analyzer": "service", "coordinator": "service", "generator": "model", "trainer": "model"}
IDLE = ["python", "-c", "import signal; signal.sigwait([signal.SIGTERM])"]
TEXT = "The river rose by three feet in the spring, and people moved their cattle to the hills. "


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    if lacks := missing():
        pytest.fail(f"building images without an engine needs {', '.join(lacks)}")
    kept = os.environ.get(FOLDER)
    folder = Path(kept) if kept else tmp_path_factory.mktemp("images")
    # The build with CUDA is only to be had where the usual index has it, and nothing here could use it.
    yield Images(folder, {"ACCELERATOR": "cpu", "REVISION": "test"})
    if not kept:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def built(images: Images) -> Images:
    for image in sorted(set(SERVICES.values())):
        images.build(image)
    return images


def health(images: Images, image: str) -> list[str]:
    return images.dockerfile.last(image, "HEALTHCHECK").command


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_starts_as_nobody_on_a_read_only_tree_and_is_healthy(
    built: Images, tmp_path: Path, service: str
) -> None:
    image, prefix = SERVICES[service], f"OURO_{service.upper()}"
    given = {f"{prefix}_STORE": "/data/store"}
    if service == "coordinator":
        given[f"{prefix}_HOME"] = "/data/home"
    log = tmp_path / "log"
    with built.container(image, ["python", "-m", f"services.{service}"], environment=given, log=log) as running:
        assert running.ask(PATIENCE, *health(built, image)), log.read_text()[-4000:]
        assert running.run("id", "-u").stdout.strip() == "10001"
        for place in ("/", "/opt/ouroscope", "/usr", "/data"):
            assert running.run("touch", f"{place}/written").returncode != 0, place
        for place in ("/tmp", "/data/store", "/data/home"):
            assert running.run("touch", f"{place}/written").returncode == 0, place
        # The first process of its space, as in a container: only signals that it handles reach it.
        assert running.stop() == 0, log.read_text()[-4000:]


def test_the_analyzer_measures_every_family_with_what_was_left_in(built: Images, tmp_path: Path) -> None:
    texts = "\n".join(json.dumps({"text": f"{TEXT * 8} It was the year {1800 + number}."}) for number in range(60))
    program = (
        "import sys; open('/tmp/texts.jsonl', 'w').write(sys.argv[1]); sys.argv[1:] = "
        "['analyze', '/tmp/texts.jsonl', '--json']; from ouroscope_app.main import main; main()"
    )
    log = tmp_path / "log"
    environment = {"OUROSCOPE_HOME": "/tmp/home"}
    with built.container("service", ["python", "-c", program, texts], environment=environment, log=log) as running:
        assert running.process.wait(PATIENCE) == 0, log.read_text()[-4000:]
    told = log.read_text()
    assert '"syntactic_nodes"' in told
    assert '"types"' in told


@pytest.mark.parametrize("image", ["service", "model"])
def test_a_list_of_parts_lies_in_the_image_and_names_what_is_installed(built: Images, image: str) -> None:
    bill = json.loads(built.path(image, "/opt/ouroscope/sbom.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    parts = {part["name"].lower(): part["version"] for part in bill["components"]}
    assert parts["grpcio"] == metadata.version("grpcio")
    assert ("torch" in parts) == (image == "model")
    assert bill["metadata"]["component"]["name"] == "ouroscope"


def test_no_image_has_a_compiler_or_pip(built: Images, tmp_path: Path) -> None:
    for image in ("service", "model"):
        with built.container(image, IDLE, log=tmp_path / image) as running:
            assert running.ask(PATIENCE, "true")
            for name in ("cc", "gcc", "c++", "ld", "make", "pip"):
                assert running.run("sh", "-c", f"command -v {name}").returncode != 0, name
            assert running.run("python", "-c", "import pip").returncode != 0


def test_the_image_of_services_stays_below_half_a_gigabyte(built: Images, tmp_path: Path) -> None:
    with built.container("service", IDLE, log=tmp_path / "log") as running:
        assert running.ask(PATIENCE, "true")
        size = built.size("service") + running.interpreter()
    assert size < 500_000_000, f"{size:,} bytes"


def test_the_command_line_is_of_this_version(built: Images, tmp_path: Path) -> None:
    with built.container("service", ["ouroscope", "--version"], log=tmp_path / "log") as running:
        assert running.process.wait(PATIENCE) == 0
    assert re.search(re.escape(__version__), (tmp_path / "log").read_text())


@pytest.mark.parametrize("stage", ["build-service", "build-model"])
def test_two_builds_are_the_same_to_the_byte(built: Images, stage: str) -> None:
    first = built.digest(stage, "opt/ouroscope")
    again = Images(built.folder, built.arguments, _built={"base", "build"})
    again.build(stage)
    assert again.digest(stage, "opt/ouroscope") == first
