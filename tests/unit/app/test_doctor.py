"""The doctor: what each check says of a reading, and the whole of it on sound and on broken installations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import s3fs
import structlog
from typer.testing import CliRunner

from ouroscope.addresses import join_address
from ouroscope.records.artifacts import ArtifactKind
from ouroscope.rpc import visit
from ouroscope.rpc.server import serve
from ouroscope.rpc.visit import Visit
from ouroscope.security.callers import Caller
from ouroscope.security.connection import PLAIN
from ouroscope.security.roles import Role
from ouroscope.security.tokens import new_token
from ouroscope.store import ArtifactStore
from ouroscope.store.local import LocalFiles
from ouroscope_app.doctor import data, examination, machine, protection, reach, storage
from ouroscope_app.doctor.findings import Finding, Level, fault, ok
from ouroscope_app.doctor.packages import packages
from ouroscope_app.home import Home
from ouroscope_app.main import app
from services.generator import service as generator
from services.generator.backends import Unusable
from tests.certificates import Authority

NOW = datetime(2026, 6, 1, tzinfo=UTC)
SECRET = "xyzzy-marked-secret"


def levels(found: Any) -> list[str]:
    return [one.level.value for one in found]


def by_subject(found: Any) -> dict[str, Finding]:
    return {one.subject: one for one in found}


# Findings


def test_a_finding_says_what_to_do_if_and_only_if_something_is_wrong() -> None:
    for level, remedy in ((Level.OK, "do it"), (Level.WARNING, ""), (Level.FAULT, "")):
        with pytest.raises(ValueError, match="remedy"):
            Finding(subject="x", level=level, told="y", remedy=remedy)


# The machine


def test_little_room_is_a_warning_and_none_a_fault() -> None:
    assert [machine.room("disk", free).level.value for free in (10**12, 5 * 10**9, 10**6)] == ["ok", "warning", "fault"]


def test_an_old_python_is_a_fault_and_little_memory_a_warning() -> None:
    assert levels([machine.python((3, 10)), machine.python(), machine.memory(10**9), machine.memory(10**12)]) == [
        "fault",
        "ok",
        "warning",
        "ok",
    ]


def test_clocks_are_compared_whichever_is_ahead() -> None:
    for sign in (1, -1):
        found = [machine.clock("clock", NOW, NOW + sign * timedelta(seconds=s)) for s in (0, 29, 31, 299, 301)]
        assert levels(found) == ["ok", "ok", "warning", "warning", "fault"]


MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
server:/export /data nfs4 rw 0 0
/dev/sdb1 /data/local xfs rw 0 0
host:/a /with\\040space fuse.sshfs rw 0 0
tmpfs /twice tmpfs rw 0 0
/dev/sdc /twice btrfs rw 0 0
broken
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me", "ext4"),
        ("/data", "nfs4"),
        ("/data/home", "nfs4"),
        ("/data/local/home", "xfs"),
        ("/database", "ext4"),
        ("/with space/x", "fuse.sshfs"),
        ("/twice/x", "btrfs"),
    ],
)
def test_the_deepest_and_latest_mount_holds_a_path(path: str, kind: str) -> None:
    assert machine.kind_of(Path(path), MOUNTS) == kind
    assert machine.is_far(kind) == (kind in {"nfs4", "fuse.sshfs"})


def test_an_unknown_table_of_mounts_says_nothing() -> None:
    assert machine.kind_of(Path("/x"), "") == ""


# Packages

REQUIRED = ["a>=2", "b", 'c==1; extra == "one"', 'd>=3; extra == "two"', 'e; extra == "dev"']


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ({"a": "2.1", "b": "1", "c": "1", "d": "3.1"}, ["ok", "ok"]),
        ({"a": "2.1", "b": "1"}, ["ok", "ok"]),
        ({"a": "1.9", "b": "1"}, ["fault", "ok"]),
        ({"a": "2"}, ["fault", "ok"]),
        ({"a": "2", "b": "1", "d": "2"}, ["ok", "warning"]),
        ({"a": "2", "b": "1", "c": "1+cpu"}, ["ok", "ok"]),
    ],
)
def test_packages_are_held_to_what_is_required(there: Mapping[str, str], expected: list[str]) -> None:
    found = list(packages(REQUIRED, ["one", "two", "dev"], there.get))
    assert levels(found) == expected
    assert "dev" not in found[1].told


# Home and database


def test_a_home_on_the_disk_of_another_machine_is_a_fault_unless_the_runs_lie_on_a_server(tmp_path: Path) -> None:
    mounts = f"server:/x {tmp_path} nfs4 rw 0 0"
    for on_server, level in ((False, Level.FAULT), (True, Level.OK)):
        found = by_subject(data.home_findings(Home(tmp_path), mounts, on_server=on_server))
        assert found["disk of the home"].level is level


def test_a_home_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    found = by_subject(data.home_findings(Home(tmp_path / "a" / "b"), "", on_server=False))
    assert found["home"].level is Level.OK
    assert not (tmp_path / "a").exists()


def test_a_home_that_is_a_file_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    assert by_subject(data.home_findings(Home(tmp_path / "home"), "", on_server=False))["home"].level is Level.FAULT


def test_tables_are_older_newer_or_of_this_program() -> None:
    assert levels(data.judge_revision(found, "0002") for found in (None, "0001", "0002", "0003")) == [
        "ok",
        "warning",
        "ok",
        "fault",
    ]


@pytest.mark.parametrize("url", [f"postgresql://me:{SECRET}@127.0.0.1:1/runs", f"nonsense {SECRET}"])
async def test_a_database_that_does_not_answer_is_told_without_its_address(tmp_path: Path, url: str) -> None:
    (found,) = await data.database_findings(tmp_path, url)
    assert found.level is Level.FAULT
    assert SECRET not in repr(found)


# The store


def test_a_sound_store_is_left_as_it_was(tmp_path: Path) -> None:
    ArtifactStore(tmp_path).publish(ArtifactKind.MODEL, None, {"a": b"1"})
    before = sorted(tmp_path.rglob("*"))
    assert levels(storage.store_findings(str(tmp_path))) == ["ok", "ok"]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_store_that_makes_a_file_twice_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def create(files: LocalFiles, key: str, content: bytes) -> bool:
        files.write(key, content)
        return True

    monkeypatch.setattr(LocalFiles, "create", create)
    found = by_subject(storage.store_findings(str(tmp_path)))
    assert "If-None-Match" in found["artifact store"].told


def test_a_store_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    (found,) = storage.store_findings(str(tmp_path / "store"))
    assert found.level is Level.FAULT


def test_services_must_see_one_store() -> None:
    assert storage.same_store({"generator": "s3://a", "trainer": "s3://b"}).level is Level.FAULT
    assert storage.same_store({"generator": "s3://a", "trainer": "s3://a"}).level is Level.OK


def test_a_stored_model_without_one_of_its_files_is_told_and_a_changed_one_if_asked_for(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    ref = store.publish(ArtifactKind.MODEL, None, {"a": b"1", "b": b"2"})
    assert storage.stored_models(store, deep=True).level is Level.OK
    place = tmp_path / "model" / ref.digest[:2] / ref.digest
    (place / "a").chmod(0o600)
    (place / "a").write_bytes(b"3")
    assert levels([storage.stored_models(store, deep=deep) for deep in (False, True)]) == ["ok", "fault"]
    (place / "a").unlink()
    assert "a is gone" in storage.stored_models(store, deep=False).told


# Protection


@pytest.fixture
def place(tmp_path: Path) -> Path:
    authority = Authority("ours")
    (tmp_path / "ca.crt").write_bytes(authority.pem)
    for name, ends in (("good", 100.0), ("soon", 5.0), ("ended", -1.0)):
        files = authority.issue(name, ends=ends).write(tmp_path / name)
        files.key.chmod(0o600)
    token = new_token("ci", Role.ADMIN, datetime(2020, 1, 1, tzinfo=UTC).date())
    (tmp_path / "tokens.yaml").write_text(f"tokens:\n{token.line}\n")
    return tmp_path


@pytest.mark.parametrize(("name", "expected"), [("good", ["ok"]), ("soon", ["warning"]), ("ended", ["fault"])])
def test_a_certificate_is_told_by_its_end(place: Path, name: str, expected: list[str]) -> None:
    files = protection.TlsFiles(place / name / "tls.crt", place / name / "tls.key")
    assert levels(protection.certificate("certificate", files, datetime.now(UTC))) == expected


def test_a_key_that_everybody_may_read_is_told(place: Path) -> None:
    files = protection.TlsFiles(place / "good/tls.crt", place / "good/tls.key", place / "ca.crt")
    files.key.chmod(0o644)
    found = by_subject(protection.certificate("certificate", files, datetime.now(UTC)))
    assert found["key of the certificate"].level is Level.WARNING
    assert found["authority of clients"].level is Level.WARNING  # it ends in nine days


def test_tokens_are_told_by_their_holders() -> None:
    callers = [
        Caller("gone", Role.READ, (NOW - timedelta(days=1)).timestamp()),
        Caller("soon", Role.READ, (NOW + timedelta(days=3)).timestamp()),
        Caller("later", Role.READ, (NOW + timedelta(days=300)).timestamp()),
        Caller("ever", Role.READ),
    ]
    found = protection.judge_tokens(callers, NOW)
    assert found.told == "expired: gone; soon to expire: soon"
    assert protection.judge_tokens(callers[2:], NOW).level is Level.OK
    assert protection.judge_tokens([], NOW).level is Level.WARNING


def test_an_open_door_is_told_and_what_may_be_named_there() -> None:
    environ = {
        "OURO_GENERATOR_ADDRESS": "0.0.0.0:1",
        "OURO_GENERATOR_SOURCES": "any",
        "OURO_ANALYZER_ADDRESS": "[::1]:1",
    }
    assert [one.subject for one in protection.open_doors(environ, protected=False)] == ["open door", "sources"]
    assert [one.subject for one in protection.open_doors(environ, protected=True)] == ["sources"]
    del environ["OURO_GENERATOR_SOURCES"]
    assert not list(protection.open_doors(environ, protected=True))


# Services


async def test_a_service_that_serves_is_known_by_its_name_and_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked from a thread, as a service is asked from another process."""
    import asyncio

    running = await generator.start(ArtifactStore(tmp_path), backend=Unusable("none", "openai", "not here"))
    try:
        ask = [reach.service, "generator", running.address, PLAIN]
        assert await asyncio.to_thread(*ask) == ok(ask[1] + " at " + ask[2], "serves, in the version of this program")
        assert (
            await asyncio.to_thread(reach.service, "trainer", running.address, PLAIN)
        ).told == "a server, but no trainer"
        told = await asyncio.to_thread(reach.default_port, "generator", running.address, PLAIN)
        assert told.level is Level.OK
        assert (await asyncio.to_thread(reach.default_port, "trainer", running.address, PLAIN)).level is Level.WARNING
        monkeypatch.setattr(visit, "_our", lambda _: None)
        assert (await asyncio.to_thread(*ask)).level is Level.WARNING
    finally:
        await running.stop(0)


async def test_a_server_that_does_not_serve_or_is_gone_is_a_fault() -> None:
    running = await serve(lambda _: (), "127.0.0.1:0")
    address = join_address("127.0.0.1", running.port)
    await running.stop(0)
    assert reach.service("generator", address, PLAIN, 5.0).level is Level.FAULT
    assert reach.port("port", address).level is Level.OK
    assert reach.judge("x", Visit(serving=False, same_contract=True)).level is Level.FAULT


# All of it


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment that says nothing, a home, and ports that nobody has."""
    import os

    for name in [name for name in os.environ if name.startswith("OURO_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OUROSCOPE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("ouroscope_app.commands.doctor.PORTS", {})
    monkeypatch.setattr("ouroscope_app.commands.doctor.WEB_PORTS", {})
    return monkeypatch


def examined(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["doctor", *arguments], catch_exceptions=False)
    return done.exit_code, done.output


def test_a_sound_installation_has_no_fault(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare.setattr(machine, "read_room", lambda _: 10**12)
    Home(tmp_path / "home").prepare()
    status, told = examined("--json")
    found = json.loads(told)
    assert (status, found["faults"]) == (0, 0)
    assert {"subject", "level", "told", "remedy"} == set(found["findings"][0])


def test_a_broken_one_ends_with_1_tells_every_fault_and_no_secret(bare: pytest.MonkeyPatch, place: Path) -> None:
    """Each variable that may hold a secret holds a marked one, and each is wrong."""
    (place / "client.token").write_text(f"{SECRET} two words")
    (place / "jwks.json").write_text(SECRET)
    (place / "home").write_text("not a folder")
    for name, value in {
        "OURO_COORDINATOR_DATABASE": f"postgresql://me:{SECRET}@127.0.0.1:1/runs",
        "OURO_COORDINATOR_STORE": "s3://no-such-bucket/x",
        "OURO_COORDINATOR_GENERATOR": "127.0.0.1:1",
        "OURO_COORDINATOR_PATIENTS": SECRET,
        "OURO_ANALYZER_PROCESSES": SECRET,
        "OURO_SECURITY_CERTIFICATE": str(place / "ended/tls.crt"),
        "OURO_SECURITY_KEY": str(place / "ended/tls.key"),
        "OURO_SECURITY_TOKENS": str(place / "tokens.yaml"),
        "OURO_SECURITY_OIDC_ISSUER": "https://id.example",
        "OURO_SECURITY_OIDC_AUDIENCE": "ouroscope",
        "OURO_SECURITY_OIDC_KEYS": str(place / "jwks.json"),
        "OURO_CLIENT_CA": str(place / "ca.crt"),
        "OURO_CLIENT_TOKEN_FILE": str(place / "client.token"),
        "AWS_ACCESS_KEY_ID": SECRET,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
        "HF_TOKEN": SECRET,
    }.items():
        bare.setenv(name, value)
    # It does not come up while the test waits.
    bare.setattr(s3fs.S3FileSystem, "retries", 1)
    with structlog.testing.capture_logs() as logs:
        status, told = examined("--json")
    assert status == 1
    assert SECRET not in f"{told}{logs}"
    faults = {one["subject"] for one in json.loads(told)["findings"] if one["level"] == "fault"}
    assert {
        "home",
        "database",
        "artifact store",
        "settings of the coordinator",
        "settings of the analyzer",
        "certificate of the services",
        "identity provider",
        "token of clients",
        "generator at 127.0.0.1:1",
    } <= faults


def test_people_see_a_table_with_what_to_do(bare: pytest.MonkeyPatch) -> None:
    bare.setattr(examination, "CHECKS", {"first": lambda _: [fault("disk [of] x", "it is full", "make room")]})
    status, told = examined()
    assert status == 1
    assert "fault  disk [of] x  it is full  make room" in told
    assert "1 fault, 0 warnings" in told


def test_a_check_that_fails_itself_takes_no_other_with_it(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(_: object) -> list[Finding]:
        raise RuntimeError(SECRET)

    bare.setattr(examination, "CHECKS", {"first": fails, "second": lambda _: [fault("x", "y", "z")]})
    whole = examination.Installation(home=Home(tmp_path), environ={}, services={}, ports={})
    found = list(examination.examine(whole))
    assert levels(found) == ["warning", "fault"]
    assert SECRET not in repr(found)
