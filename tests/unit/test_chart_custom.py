"""The Helm chart and the operators of others: their objects have only fields that their definitions know."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chart import Object, cases, claimed_versions, objects, validator
from tests.custom_resources import SPECS, custom_validator

CASES = sorted(cases())
KINDS = sorted(SPECS)
PARTS_OF_PODS = {"template", "submitterPodTemplate", "resources", "securityContext", "volumeMounts"}
"""What lies below them is Kubernetes' own, and held to its schemas by test_chart_ray.py."""


def of_kinds() -> dict[tuple[str, str], list[Object]]:
    """Return what all cases render, by version of the interface and kind."""
    found: dict[tuple[str, str], list[Object]] = {}
    for case in CASES:
        for one in objects(case):
            found.setdefault((one["apiVersion"], one["kind"]), []).append(one)
    return found


def problems(one: Object) -> list[str]:
    found = custom_validator(one["apiVersion"], one["kind"]).iter_errors(one)
    return [f"{one['metadata']['name']}: {error.json_path} {error.message[:200]}" for error in found]


def test_no_object_is_left_unchecked() -> None:
    # Whatever has no table here is held to the schemas of Kubernetes, by test_chart.py; they know no other kind.
    for api, kind in of_kinds().keys() - SPECS.keys():
        assert validator(claimed_versions()[-1], api, kind).schema["properties"]["kind"]["enum"] == [kind]


@pytest.mark.parametrize(("api", "kind"), KINDS)
def test_objects_of_operators_are_what_their_definitions_say(api: str, kind: str) -> None:
    rendered = of_kinds()[api, kind]
    assert [problem for one in rendered for problem in problems(one)] == []


@pytest.mark.parametrize(("api", "kind"), KINDS)
def test_a_field_that_no_definition_knows_would_be_seen_wherever_it_is(api: str, kind: str) -> None:
    wrong = copy.deepcopy(of_kinds()[api, kind][0])
    for place in [wrong, wrong["metadata"], *places(wrong["spec"])]:
        place["misspelt"] = {}
        assert any("misspelt" in problem for problem in problems(wrong))
        del place["misspelt"]
    assert problems(wrong) == []


def places(what: Any) -> Iterator[Object]:
    """Yield every object within an object, but for those of pods."""
    if isinstance(what, dict):
        yield what
        for key, value in what.items():
            if key not in PARTS_OF_PODS:
                yield from places(value)
    if isinstance(what, list):
        for one in what:
            yield from places(one)


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Certificate", ("issuerRef", "name"), ""),
        ("Certificate", ("duration",), "90d"),
        ("ScaledObject", ("minReplicaCount",), -1),
        ("ScaledObject", ("triggers",), []),
        ("TriggerAuthentication", ("secretTargetRef", 0, "key"), None),
        ("ServiceMonitor", ("endpoints", 0, "interval"), "1.5m"),
        ("PrometheusRule", ("groups", 0, "rules", 0, "expr"), None),
        ("ExternalSecret", ("secretStoreRef", "kind"), "Secret"),
        ("ExternalSecret", ("data", 0, "remoteRef"), {"property": "url"}),
        ("RayJob", ("rayClusterSpec", "workerGroupSpecs", 0, "minReplicas"), "1"),
    ],
)
def test_a_value_that_no_operator_takes_would_be_seen(kind: str, path: tuple[Any, ...], value: Any) -> None:
    wrong = copy.deepcopy(next(found[0] for (_, name), found in of_kinds().items() if name == kind))
    place = wrong["spec"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert problems(wrong)
