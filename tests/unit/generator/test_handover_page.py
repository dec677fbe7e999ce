"""What docs/handover.md shows can be used as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from services.generator.declared import DeclaredBackend, Weights, read_backends


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs/handover.md").read_text()


@pytest.fixture
def shown(page: str, tmp_path: Path) -> list[DeclaredBackend]:
    """Every file of backends on the page, read as a generator reads it."""
    found = []
    for number, text in enumerate(re.findall(r"```yaml\n(backends:.*?)```", page, re.DOTALL)):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        found += read_backends(path)
    return found


def test_every_way_has_a_file_of_backends_that_can_be_read(shown: list[DeclaredBackend]) -> None:
    assert {backend.weights for backend in shown} == set(Weights)
    hooks = [backend.reload for backend in shown if backend.reload]
    assert any(hook.command for hook in hooks)
    assert any(hook.http for hook in hooks)
    assert any(hook.kubernetes for hook in hooks)


def test_the_role_allows_what_is_done_and_nothing_else(page: str, shown: list[DeclaredBackend]) -> None:
    (role,) = (yaml.safe_load(text) for text in re.findall(r"```yaml\n(apiVersion.*?)```", page, re.DOTALL))
    (asked,) = (backend.reload.kubernetes for backend in shown if backend.reload and backend.reload.kubernetes)
    assert role["metadata"]["namespace"] == asked.namespace
    (rule,) = role["rules"]
    expected = {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "patch"]}
    assert rule == expected | {"resourceNames": [asked.deployment]}


def test_the_pods_read_the_annotation_that_is_written(page: str, shown: list[DeclaredBackend]) -> None:
    (asked,) = (backend.reload.kubernetes for backend in shown if backend.reload and backend.reload.kubernetes)
    (env,) = re.findall(r"```yaml\n(env:.*?)```", page, re.DOTALL)
    (variable,) = yaml.safe_load(env)["env"]
    assert variable["valueFrom"]["fieldRef"]["fieldPath"] == f"metadata.annotations['{asked.annotation}']"
