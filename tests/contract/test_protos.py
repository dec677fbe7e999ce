"""The contract: generated code matches its source, every line is explained, and buf finds nothing to say."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SERVICES = {
    "GeneratorService",
    "TrainerService",
    "AnalyzerService",
    "CoordinatorService",
    "MonitorService",
    "ExternalScaler",
}


def generated(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "ouroscope/v1").glob("*.py*") if path.is_file()}


def test_generated_code_is_what_the_protos_give(root: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, root / "proto/generate.py", "--out", tmp_path], check=True, capture_output=True)
    assert generated(tmp_path) == generated(root), "run `make proto` and commit the result"


def proto_lines(root: Path) -> list[tuple[str, list[str]]]:
    return [(path.name, path.read_text().splitlines()) for path in sorted(root.glob("proto/ouroscope/v1/*.proto"))]


def test_every_message_field_value_and_method_is_commented(root: Path) -> None:
    declares = re.compile(r"^\s*(message \w+|enum \w+|service \w+|rpc \w+|[\w .<>,]+ \w+ = \d+;|[A-Z0-9_]+ = \d+;)")
    bare = [
        f"{name}:{number + 1}: {line.strip()}"
        for name, lines in proto_lines(root)
        for number, line in enumerate(lines)
        if declares.match(line) and not lines[number - 1].strip().startswith("//")
    ]
    assert bare == []


def test_the_contract_has_all_services(root: Path) -> None:
    text = "\n".join(line for _, lines in proto_lines(root) for line in lines)
    assert set(re.findall(r"^service (\w+)", text, re.MULTILINE)) == SERVICES


@pytest.fixture
def buf_workspace(root: Path, tmp_path: Path) -> Path:
    """The protos beside google's interface definitions, as buf wants them; google's own files are not linted."""
    workspace = tmp_path / "proto"
    shutil.copytree(root / "proto", workspace)
    generate = [sys.executable, root / "proto/generate.py", "--includes", workspace]
    subprocess.run(generate, check=True, capture_output=True)
    shutil.rmtree(workspace / "google/protobuf")
    config = workspace / "buf.yaml"
    config.write_text(config.read_text().replace("  ignore:\n", "  ignore:\n    - google\n", 1))
    return workspace


def buf(program: Callable[[str], str], workspace: Path, *arguments: str) -> str:
    done = subprocess.run([program("buf"), *arguments], cwd=workspace, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr if done.returncode else ""


def test_buf_lint_finds_nothing(program: Callable[[str], str], buf_workspace: Path) -> None:
    assert buf(program, buf_workspace, "lint") == ""


def test_buf_breaking_finds_nothing_against_the_released_contract(
    program: Callable[[str], str], buf_workspace: Path
) -> None:
    released = str(buf_workspace / "released.binpb")
    assert buf(program, buf_workspace, "breaking", "--against", released, "--exclude-imports") == ""


def test_buf_breaking_would_find_a_removed_field(program: Callable[[str], str], buf_workspace: Path) -> None:
    document = buf_workspace / "ouroscope/v1/document.proto"
    document.write_text(re.sub(r"  string text = 2;\n", "", document.read_text()))
    found = buf(
        program, buf_workspace, "breaking", "--against", str(buf_workspace / "released.binpb"), "--exclude-imports"
    )
    assert "text" in found
