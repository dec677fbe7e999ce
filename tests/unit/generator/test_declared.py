"""The file in which an operator declares servers: read strictly, everything wrong told at once, no secret in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ouroscope.errors import InvalidRequest, NotFound
from ouroscope.settings import Secret
from services.generator.declared import Load, ServerKind, Weights, read_backends, token_of

BASE = f"model/{'0' * 64}"
FIXED: dict[str, Any] = {
    "name": "pool",
    "kind": "openai",
    "urls": ["http://server:8000"],
    "weights": "fixed",
    "base": BASE,
    "served_name": "llama-8b",
}
ADAPTERS = {**FIXED, "kind": "vllm", "weights": "adapters", "directory": "/shared"}
RELOAD = {
    "name": "tgi",
    "kind": "tgi",
    "urls": ["https://tgi"],
    "weights": "reload",
    "directory": "/shared",
    "reload": {"command": ["restart", "{directory}"]},
}


def write(folder: Path, *backends: dict[str, Any]) -> Path:
    path = folder / "backends.yaml"
    path.write_text(yaml.safe_dump({"backends": list(backends)}))
    return path


def without(backend: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in backend.items() if name not in names}


def test_every_way_of_handing_weights_over_can_be_declared(tmp_path: Path) -> None:
    others = [{**FIXED, "name": "fixed"}, ADAPTERS, RELOAD]
    fixed, adapters, reload = read_backends(write(tmp_path, *others))
    assert [one.weights for one in (fixed, adapters, reload)] == [Weights.FIXED, Weights.ADAPTERS, Weights.RELOAD]
    assert (adapters.kind, adapters.load, str(adapters.base)) == (ServerKind.VLLM, Load.RESOLVER, BASE)
    assert reload.reload is not None
    assert reload.reload.command == ("restart", "{directory}")


@pytest.mark.parametrize("name", ["vllm-adapters.yaml"])
def test_the_shipped_examples_are_valid(name: str, root: Path) -> None:
    assert read_backends(root / "examples" / "backends" / name)


@pytest.mark.parametrize("name", ["backends.md", "handover.md"])
def test_files_that_the_pages_show_can_be_read(name: str, root: Path, tmp_path: Path) -> None:
    page = (root / "docs" / name).read_text()
    shown = [block.split("```")[0] for block in page.split("```yaml\n")[1:] if block.startswith("backends:")]
    assert shown
    for number, text in enumerate(shown):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        assert read_backends(path)


def test_no_file_declares_nothing_and_one_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert read_backends(None) == ()
    with pytest.raises(NotFound, match=r"docs/backends\.md"):
        read_backends(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("backend", "told"),
    [
        ({**FIXED, "kind": "sglang"}, "'sglang' is not a server kind; known are openai, vllm, tgi"),
        ({**FIXED, "concurency": 3}, "did you mean concurrency"),
        ({**FIXED, "concurrency": 0}, r"concurrency: must be in \[1, 1024\]"),
        ({**FIXED, "timeout": 0}, "timeout: must be seconds"),
        ({**FIXED, "name": "transformers"}, "generator's own process"),
        ({**FIXED, "name": "My Pool"}, "lower-case"),
        ({**FIXED, "urls": []}, "at least one server"),
        ({**FIXED, "urls": ["file:///etc/passwd"]}, r"urls\[0\]: must be http"),
        ({**FIXED, "urls": ["http://:8000"]}, "must be http"),
        ({**FIXED, "urls": ["http://server:8000/v1"]}, "without /v1"),
        ({**FIXED, "urls": ["http://one", "http://one"]}, "same address"),
        (without(FIXED, "base"), "base: weights: fixed needs it"),
        (without(FIXED, "served_name"), "served_name: weights: fixed needs it"),
        ({**FIXED, "base": f"corpus/{'0' * 64}"}, "must be model/<digest>"),
        ({**FIXED, "directory": "/shared"}, "directory: has no meaning"),
        ({**FIXED, "reload": RELOAD["reload"]}, "reload: has no meaning"),
        ({**ADAPTERS, "kind": "tgi"}, "only kind: vllm"),
        (without(ADAPTERS, "directory"), "directory: weights: adapters needs it"),
        (without(RELOAD, "reload"), "reload: weights: reload needs it"),
        ({**RELOAD, "base": BASE}, "base: has no meaning"),
        ({**RELOAD, "served_name": "llama"}, "served_name: has no meaning"),
        ({**RELOAD, "load": "request"}, "load: has no meaning"),
        ({**RELOAD, "reload": {}}, "give exactly one of command, http and kubernetes, got 0"),
        ({**RELOAD, "reload": {"command": "restart it"}}, "reload.command: must be a list"),
        (
            {**RELOAD, "reload": {"command": ["a"], "kubernetes": {"namespace": "ml", "deployment": "tgi"}}},
            "exactly one",
        ),
        ({**RELOAD, "reload": {"http": {"url": "ftp://x"}}}, "must be http"),
        ({**RELOAD, "reload": {"http": {"url": "http://x", "method": "BREW"}}}, "must be one of GET"),
        ({**RELOAD, "reload": {"http": {"url": "http://x", "json": [1]}}}, "json: must be a mapping"),
    ],
)
def test_a_wrong_backend_is_told_with_the_path_of_its_field(tmp_path: Path, backend: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRequest, match=told) as failed:
        read_backends(write(tmp_path, backend))
    assert all(problem.field.startswith("backends[0]") for problem in failed.value.problems)


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest) as failed:
        read_backends(write(tmp_path, {**FIXED, "attempts": 0}, {**RELOAD, "urls": ["x"], "concurrency": 0}))
    fields = {problem.field for problem in failed.value.problems}
    assert fields == {"backends[0].attempts", "backends[1].urls[0]", "backends[1].concurrency"}


def test_every_mistake_has_a_line_of_its_own_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "backends.yaml"
    path.write_text(
        """\
backends:
  - name: pool
    kind: sglang
    urls: [file:///etc/passwd]
    weights: fixed
    concurency: 3
  - name: pool
    kind: tgi
    urls:
      - http://tgi/v1
    weights: reloaded
    attempts: 0
"""
    )
    with pytest.raises(InvalidRequest) as failed:
        read_backends(path)
    heading, *lines = failed.value.message.splitlines()
    assert heading == f"{path} is not valid, {len(lines)} problems:"
    wanted = {
        (3, "backends[0].kind"),
        (4, "backends[0].urls[0]"),
        (2, "backends[0].base"),
        (2, "backends[0].served_name"),
        (6, "backends[0].concurency"),
        (7, "backends[1].name"),
        (10, "backends[1].urls[0]"),
        (11, "backends[1].weights"),
        (12, "backends[1].attempts"),
    }
    assert sorted(line.split(": ")[0:2] for line in lines) == sorted([f"{path}:{n}", field] for n, field in wanted)


def test_a_word_that_is_wrong_hides_no_other_mistake_and_makes_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest) as failed:
        read_backends(write(tmp_path, {**RELOAD, "kind": "sglang", "weights": "reloaded", "timeout": 0}))
    fields = {problem.field for problem in failed.value.problems}
    assert fields == {"backends[0].kind", "backends[0].weights", "backends[0].timeout"}


def test_a_backend_is_found_by_its_position_although_another_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest) as failed:
        read_backends(write(tmp_path, {**FIXED, "name": "1"}, {**FIXED, "name": "0", "attempts": 0}))
    text = (tmp_path / "backends.yaml").read_text().splitlines()
    line = next(number for number, line in enumerate(text, 1) if "attempts" in line)
    assert failed.value.message.startswith(f"{tmp_path / 'backends.yaml'}:{line}: backends[1].attempts")


def test_two_backends_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"backends\[1\].name: backends\[0\] has the same name"):
        read_backends(write(tmp_path, FIXED, FIXED))


def test_a_secret_has_no_place_in_the_file_and_none_in_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="token_variable") as failed:
        read_backends(write(tmp_path, {**FIXED, "urls": ["http://user:hunter2@server"]}))
    assert "hunter2" not in failed.value.message
    with pytest.raises(InvalidRequest, match="is not known"):
        read_backends(write(tmp_path, {**FIXED, "token": "hunter2"}))


def test_a_token_comes_from_the_variable_that_is_named_and_must_be_there(tmp_path: Path) -> None:
    open_one, secret = read_backends(
        write(tmp_path, FIXED, {**FIXED, "name": "secret", "token_variable": "POOL_TOKEN"})
    )
    assert token_of(open_one, {"POOL_TOKEN": "hunter2"}) is None
    assert token_of(secret, {"POOL_TOKEN": "hunter2\n"}) == Secret("hunter2")
    for environ in ({}, {"POOL_TOKEN": " "}):
        with pytest.raises(InvalidRequest, match="variable POOL_TOKEN, which is not set"):
            token_of(secret, environ)
