"""What the environment may say about a coordinator process."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from ouroscope.errors import InvalidRequest
from ouroscope.settings import describe, load
from services.coordinator.__main__ import main
from services.coordinator.settings import PREFIX, CoordinatorSettings


def test_everything_has_a_default_that_only_this_machine_can_reach() -> None:
    settings = load(CoordinatorSettings, {}, PREFIX)
    for address in (
        settings.address,
        settings.generator,
        settings.trainer,
        settings.analyzer,
        settings.metrics_address,
    ):
        assert address.startswith("127.0.0.1:")
    assert settings.recover
    assert not settings.allow_plaintext


def test_a_misspelt_variable_is_told() -> None:
    with pytest.raises(InvalidRequest, match="did you mean OURO_COORDINATOR_PATIENCE"):
        load(CoordinatorSettings, {"OURO_COORDINATOR_PATIENSE": "3"}, PREFIX)


def test_the_address_of_the_database_is_no_text_that_is_shown() -> None:
    settings = load(CoordinatorSettings, {"OURO_COORDINATOR_DATABASE": "postgresql://me:hush@host/db"}, PREFIX)
    assert "hush" not in repr(settings)


@pytest.mark.parametrize("address", ["{}", "mysql://me:{}@host/db", "postgresql://me:{}@host:port/db", "://{}"])
def test_an_address_that_is_none_is_told_and_not_quoted(address: str) -> None:
    with pytest.raises(InvalidRequest, match=r"must be postgresql://USER") as caught:
        load(CoordinatorSettings, {"OURO_COORDINATOR_DATABASE": address.format("hush")}, PREFIX)
    assert "hush" not in repr(caught.value)
    assert load(CoordinatorSettings, {"OURO_COORDINATOR_DATABASE": ""}, PREFIX).database is None


def test_every_variable_is_described() -> None:
    described = describe(CoordinatorSettings, PREFIX)
    assert all(one.help and one.name.startswith("OURO_COORDINATOR_") for one in described)


@pytest.fixture
def logs_as_before() -> Iterator[None]:
    """A process configures its logs; the next test is another process, in effect."""
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    yield
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
    structlog.reset_defaults()


@pytest.mark.usefixtures("logs_as_before")
def test_a_port_in_use_is_one_line_and_leaves_the_home_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("OURO_COORDINATOR_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("OURO_COORDINATOR_ADDRESS", f"127.0.0.1:{port}")
        assert main() == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert f"port {port} is in use" in line
    assert not (tmp_path / "home").exists()
