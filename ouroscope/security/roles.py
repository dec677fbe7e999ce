"""Roles, and the one table that says which role each method needs. A test holds it to the services by reflection."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum


class Role(IntEnum):
    """What a caller may do; each role may do what those before it may."""

    READ = 1
    """Look at runs, monitors, baselines, reports and operations."""
    ANALYSE = 2
    """Have text measured and compared, and freeze baselines."""
    RUN = 3
    """Start, stop and record: runs, models, training, monitors."""
    ADMIN = 4
    """Delete."""

    @classmethod
    def named(cls, text: str) -> Role:
        """Return the role of that name.

        Raises:
            ValueError: there is none; the text says which there are.
        """
        found = {role.name.lower(): role for role in cls}.get(text)
        if found is None:
            raise ValueError(f"must be one of {', '.join(role.name.lower() for role in cls)}")
        return found


PUBLIC = frozenset(
    {"grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"}
)
"""Services that answer anybody: probes have no token, and the contract is no secret."""

_BY_ROLE: Mapping[str, Mapping[Role, tuple[str, ...]]] = {
    "ouroscope.v1.AnalyzerService": {
        Role.READ: ("GetBaseline", "ListBaselines", "ListMetrics"),
        Role.ANALYSE: (
            "Analyze",
            "AnalyzePredictions",
            "AnalyzeCorpus",
            "Compare",
            "CreateBaseline",
            "ExportNetwork",
            "SelectDocuments",
        ),
        Role.ADMIN: ("DeleteBaseline",),
    },
    "ouroscope.v1.GeneratorService": {
        Role.READ: ("GetModel", "ListBackends"),
        Role.RUN: ("ImportModel", "PreparePrompts", "Generate", "Score", "EvaluateTasks", "Edit", "Classify"),
    },
    "ouroscope.v1.TrainerService": {Role.RUN: ("FineTune", "CheckRecipe")},
    "ouroscope.v1.CoordinatorService": {
        Role.READ: (
            "GetRun",
            "ListRuns",
            "WatchRun",
            "GetArm",
            "ListArms",
            "GetGeneration",
            "ListGenerations",
        ),
        Role.RUN: ("CreateRun", "CancelRun", "ResumeRun"),
        Role.ADMIN: ("DeleteRun",),
    },
    "ouroscope.v1.MonitorService": {
        Role.READ: ("GetMonitor", "ListMonitors", "GetMonitorGeneration", "ListMonitorGenerations"),
        Role.ANALYSE: ("Gate",),
        Role.RUN: ("CreateMonitor", "RecordGeneration"),
        # Its thresholds decide what is called collapse, so a pipeline must not loosen its own.
        Role.ADMIN: ("UpdateMonitor", "DeleteMonitor"),
    },
    # Asked by KEDA, of package and names that are KEDA's.
    "externalscaler.ExternalScaler": {Role.READ: ("GetMetricSpec", "GetMetrics", "IsActive", "StreamIsActive")},
    "google.longrunning.Operations": {
        Role.READ: ("GetOperation", "ListOperations", "WaitOperation"),
        Role.RUN: ("CancelOperation",),
        Role.ADMIN: ("DeleteOperation",),
    },
}

REQUIRED: Mapping[tuple[str, str], Role] = {
    (service, method): role
    for service, roles in _BY_ROLE.items()
    for role, methods in roles.items()
    for method in methods
}
"""Role by service and method."""


def required_role(service: str, method: str) -> Role | None:
    """Return the role that a call needs, or None where anybody may make it; what is not in the table needs ADMIN."""
    return None if service in PUBLIC else REQUIRED.get((service, method), Role.ADMIN)
