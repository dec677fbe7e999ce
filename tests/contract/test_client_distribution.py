"""The clients as a distribution of their own: installed from its wheel, beside a user's own package `services`."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import AsyncIterator
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest

from services.analyzer.service import start

USERS_PROGRAM = """
import asyncio, importlib.util, json, sys

import ouroscope
import services
from ouroscope.client import AnalyzerClient, SyncAnalyzer
from ouroscope.errors import InvalidRequest
from ouroscope.records.documents import Document

address = sys.argv[1]
documents = [Document(id=str(n), text=f"the cat number {n} sat on the mat") for n in range(50)]


async def measured():
    async with AnalyzerClient.connect(address) as analyzer:
        return await analyzer.analyze(documents, metrics=["types"])


def told():
    with SyncAnalyzer(address) as analyzer:
        try:
            analyzer.analyze(documents, metrics=["tipes"])
        except InvalidRequest as error:
            return error.reason


with SyncAnalyzer(address) as analyzer:
    blocking = analyzer.analyze(documents, metrics=["types"])
print(json.dumps({
    "services": services.OWNER,
    "analyzer": importlib.util.find_spec("services.analyzer") is not None,
    "ouroscope": ouroscope.__file__,
    "documents": [blocking.documents, asyncio.run(measured()).documents],
    "reason": told(),
}))
"""
ONLY_THESE = """
import importlib.abc, sys

allowed = set(sys.argv[1].split(","))


class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] not in allowed | sys.stdlib_module_names:
            raise ModuleNotFoundError(name)


sys.meta_path.insert(0, Refuse())
import ouroscope.client
import ouroscope.integrations.gateway_logs, ouroscope.integrations.mlflow, ouroscope.integrations.pipeline
"""


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, root / "client"]
    subprocess.run(build, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", folder, wheel], check=True)
    return folder


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """A user's folder, with a package that has the name of ours."""
    package = tmp_path / "user" / "services"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('OWNER = "the user"\n')
    return package.parent


def run(program: str, argument: str, folder: Path, *paths: Path) -> str:
    """Run a program that sees `paths` and the installed libraries; -S leaves out the .pth of this checkout."""
    search = ":".join(map(str, [*paths, sysconfig.get_path("purelib")]))
    command = [sys.executable, "-S", "-W", "error", "-c", program, argument]
    done = subprocess.run(
        command, cwd=folder, env={"PYTHONPATH": search}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
async def address(store: Any) -> AsyncIterator[str]:
    server = await start(store)
    yield server.address
    await server.stop(grace=0.0)


async def test_both_clients_work_beside_a_package_of_the_user_that_is_called_services(address, users, installed):
    told = json.loads(await asyncio.to_thread(run, USERS_PROGRAM, address, users, users, installed))
    assert told.pop("ouroscope") == str(installed / "ouroscope/__init__.py")
    expected = {"services": "the user", "analyzer": False, "documents": [50, 50], "reason": "INVALID_REQUEST"}
    assert told == expected


def test_the_wheel_holds_the_package_and_no_service_and_no_model(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"ouroscope", "ouroscope_client"}
    assert {Path(name).suffix for name in names if name.startswith("ouroscope/")} == {".py", ".pyi", ".typed"}
    assert not [name for name in names if "__pycache__" in name]


def closure(requirements: list[str]) -> set[str]:
    """The names of distributions that `requirements` bring, without extras."""
    found: set[str] = set()
    waiting = [requirement for requirement in requirements if "extra ==" not in requirement]
    while waiting:
        name = re.split(r"[^\w.-]", waiting.pop())[0].lower().replace("_", "-")
        if name not in found:
            found.add(name)
            waiting += [needed for needed in requires(name) or () if "extra ==" not in needed]
    return found


def settings_of(path: Path) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads(path.read_text())["project"]
    return project


def test_importing_the_clients_and_the_adapters_needs_no_more_than_the_wheel_asks_for(
    root: Path, users: Path, installed: Path
):
    brought = closure(settings_of(root / "client/pyproject.toml")["dependencies"])
    modules = [
        module
        for module, distributions in packages_distributions().items()
        if brought & {name.lower().replace("_", "-") for name in distributions}
    ]
    run(ONLY_THESE, ",".join(["ouroscope", *modules]), users, installed)


def test_both_distributions_ask_for_the_same_versions(root: Path):
    ours, clients = (settings_of(root / path / "pyproject.toml") for path in ("", "client"))
    assert set(clients["dependencies"]) < set(ours["dependencies"])
    assert clients["requires-python"] == ours["requires-python"]
    assert set(clients["optional-dependencies"]["store"]) < set(ours["dependencies"])
    assert clients["optional-dependencies"]["mlflow"] == ours["optional-dependencies"]["mlflow"]
