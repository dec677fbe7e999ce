"""The doctor on real dependencies: a PostgreSQL server, and a server that speaks S3."""

from __future__ import annotations

from pathlib import Path

import pytest

from ouroscope.records.artifacts import ArtifactKind
from ouroscope.store import ArtifactStore
from ouroscope_app.doctor import data, examination, storage
from ouroscope_app.doctor.findings import Level
from ouroscope_app.home import Home
from services.coordinator.database import open_history
from services.coordinator.migrations import HEAD
from tests.postgres import PostgresServer


async def test_a_database_is_looked_at_before_and_after_its_tables_are_made(
    postgresql: PostgresServer, tmp_path: Path
) -> None:
    url = postgresql.database()
    empty = {one.subject: one for one in await data.database_findings(tmp_path, url)}
    assert "none yet" in empty["tables"].told
    await (await open_history(tmp_path, url)).close()
    found = {one.subject: one for one in await data.database_findings(tmp_path, url)}
    assert HEAD in found["tables"].told
    assert set(found) == {"database", "tables", "clock of the database"}
    assert {one.level for one in found.values()} == {Level.OK}


def test_a_store_on_s3_that_refuses_to_make_a_file_twice_is_sound_and_left_as_it_was(s3: str) -> None:
    store = ArtifactStore(s3)
    ref = store.publish(ArtifactKind.MODEL, None, {"a": b"1"})
    found = {one.subject: one for one in storage.store_findings(s3)}
    assert set(found) == {"artifact store", "clock of the store"}
    assert {one.level for one in found.values()} == {Level.OK}
    assert storage.stored_models(store, deep=True).level is Level.OK
    assert list(store.list(ArtifactKind.MODEL)) == [ref]


def test_a_backend_whose_token_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = """
    backends:
      - {name: one, kind: vllm, urls: ["http://vllm:8000"], weights: fixed, base: model/%s, served_name: x,
         token_variable: POOL_TOKEN}
    """ % ("0" * 64)
    (tmp_path / "backends.yaml").write_text(declared)
    monkeypatch.setattr(examination, "CHECKS", {"backends": examination.CHECKS["backends"]})
    for token, level in ({}, Level.FAULT), ({"POOL_TOKEN": "x"}, Level.OK):
        environ = {"OURO_GENERATOR_BACKENDS": str(tmp_path / "backends.yaml"), **token}
        whole = examination.Installation(home=Home(tmp_path), environ=environ, services={}, ports={})
        (found,) = examination.examine(whole)
        assert found.level is level, found
