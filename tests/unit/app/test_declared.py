"""`--backends` on the command line: who takes it, and what is refused before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ouroscope.errors import NotFound, PreconditionFailed
from ouroscope_app.declared import check_declared, declared_in
from ouroscope_app.drive import served
from ouroscope_app.home import Home
from ouroscope_app.live import announced
from ouroscope_app.main import app
from ouroscope_app.specs import load_spec

FILE = """
backends:
  - {name: pool, kind: tgi, urls: ["http://tgi"], weights: reload, directory: /shared, reload: {command: [switch]}}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "backends.yaml"
    path.write_text(FILE)
    return str(path)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").prepare()


def test_a_run_may_name_what_is_declared_and_nothing_else(home: Home, file: str) -> None:
    declared = declared_in(file)
    for backend in ("", "transformers", "pool"):
        check_declared(home, load_spec("quickstart", [f"backend={backend!r}"]), declared)
    with pytest.raises(NotFound, match=r"no 'pol'; there are transformers, pool; .*--backends FILE"):
        check_declared(home, load_spec("quickstart", ["backend=pol"]), declared)


def test_where_somebody_serves_the_home_that_generator_knows_its_backends(home: Home) -> None:
    with announced(home, "127.0.0.1:1", "", ""):
        check_declared(home, load_spec("quickstart", ["backend=pool"]), ())


async def test_backends_come_too_late_where_services_are_at_work(home: Home, file: str) -> None:
    with announced(home, "127.0.0.1:1", "", ""):
        async with served(home) as live:
            assert live.coordinator == "127.0.0.1:1"
        with pytest.raises(PreconditionFailed, match="took its backends when it started"):
            async with served(home, backends=declared_in(file)):
                pass


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "--backends", "nowhere.yaml"], "there is no file of backends 'nowhere.yaml'"),
        (["run", "--set", "backend=pool"], "there is no 'pool'; there are transformers"),
        (["serve", "trainer", "--backends", "FILE"], "the trainer runs no models"),
        (["models", "backends", "--generator", "nowhere"], "is not an address"),
        (["models", "evaluate", "ouro-tiny", "--tasks", "x", "--own-tasks", "nowhere"], "there is no folder nowhere"),
    ],
)
def test_wrong_words_are_told_in_one_line(
    words: list[str], told: str, file: str, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUROSCOPE_HOME", str(home.path))
    done = CliRunner().invoke(app, [file if word == "FILE" else word for word in words])
    assert done.exit_code == 2
    said = " ".join(done.output.split())
    assert said.startswith("error:")
    assert told in said
