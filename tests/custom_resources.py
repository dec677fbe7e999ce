"""What the definitions of custom resources say of the fields that the chart uses; no other field is let through.

Each kind beside the version whose definition its table was compared with. A field is added here when the chart uses it,
from that definition and not from what the chart happens to write.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NAME: Schema = {"type": "string", "minLength": 1}
BOOLEAN: Schema = {"type": "boolean"}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}
COUNT: Schema = {"type": "integer", "minimum": 0}
POSITIVE: Schema = {"type": "integer", "minimum": 1}
POD: Schema = {"type": "object", "required": ["spec"]}
SUBDOMAIN: Schema = {
    "type": "string",
    "maxLength": 253,
    "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
}
GO_DURATION: Schema = {"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$"}
PROMETHEUS_DURATION: Schema = {
    "type": "string",
    "pattern": r"^(0|([0-9]+y)?([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?)$",
}


def closed(required: str = "", **properties: Any) -> Schema:
    """Return the schema of an object without other fields; `required` are names with spaces between."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": required.split(),
        "properties": properties,
    }


def several(item: Schema, least: int = 0) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": item, "minItems": least}


KEY_OF_SECRET = closed("key", name=TEXT, key=TEXT)

# cert-manager 1.21.1; the same with 1.12.
ISSUER = closed(selfSigned=closed(), ca=closed("secretName", secretName=TEXT))
CERTIFICATE = closed(
    "issuerRef secretName",
    isCA=BOOLEAN,
    commonName={"type": "string", "maxLength": 64},
    dnsNames=several(TEXT),
    duration=GO_DURATION,
    renewBefore=GO_DURATION,
    secretName=NAME,
    usages=several({"enum": ["signing", "digital signature", "key encipherment", "server auth", "client auth"]}),
    privateKey=closed(
        algorithm={"enum": ["RSA", "ECDSA", "Ed25519"]},
        size={"type": "integer"},
        rotationPolicy={"enum": ["Never", "Always"]},
    ),
    issuerRef=closed("name", name=NAME, kind=TEXT, group=TEXT),
)

# KEDA 2.20.2; the same with 2.12.
SCALING_POLICY = closed(
    "periodSeconds type value", type={"enum": ["Pods", "Percent"]}, value=POSITIVE, periodSeconds=POSITIVE
)
SCALED_OBJECT = closed(
    "scaleTargetRef triggers",
    scaleTargetRef=closed("name", name=NAME),
    minReplicaCount=COUNT,
    maxReplicaCount=POSITIVE,
    pollingInterval=POSITIVE,
    cooldownPeriod=COUNT,
    advanced=closed(
        horizontalPodAutoscalerConfig=closed(
            behavior=closed(
                scaleDown=closed(
                    stabilizationWindowSeconds={"type": "integer", "minimum": 0, "maximum": 3600},
                    policies=several(SCALING_POLICY),
                )
            )
        )
    ),
    triggers=several(
        closed("metadata type", type=NAME, metadata=TEXTS, authenticationRef=closed("name", name=NAME)), least=1
    ),
)
TRIGGER_AUTHENTICATION = closed(
    secretTargetRef=several(closed("key name parameter", parameter=NAME, name=NAME, key=NAME))
)

# Prometheus operator 0.93.0; the same with 0.70.
SERVICE_MONITOR = closed(
    "endpoints selector",
    selector=closed(matchLabels=TEXTS),
    endpoints=several(
        closed(
            port=TEXT,
            path=TEXT,
            interval=PROMETHEUS_DURATION,
            scheme={"enum": ["http", "https"]},
            tlsConfig=closed(
                serverName=TEXT,
                ca=closed(secret=KEY_OF_SECRET),
                cert=closed(secret=KEY_OF_SECRET),
                keySecret=KEY_OF_SECRET,
            ),
            authorization=closed(credentials=KEY_OF_SECRET),
            relabelings=several(closed(targetLabel=TEXT, replacement=TEXT)),
        )
    ),
)
RULE = closed(
    "expr",
    alert=TEXT,
    record=TEXT,
    expr={"type": ["string", "integer"]},
    labels=TEXTS,
    annotations=TEXTS,
    **{"for": PROMETHEUS_DURATION},
)
PROMETHEUS_RULE = closed(groups=several(closed("name", name=NAME, rules=several(RULE))))

# External Secrets 2.9.0; the same with 0.16, its first with v1.
EXTERNAL_SECRET = closed(
    refreshInterval=GO_DURATION,
    secretStoreRef=closed(name=SUBDOMAIN, kind={"enum": ["SecretStore", "ClusterSecretStore"]}),
    target=closed(
        name=SUBDOMAIN,
        creationPolicy={"enum": ["Owner", "Orphan", "Merge", "None"]},
        deletionPolicy={"enum": ["Delete", "Merge", "Retain"]},
    ),
    data=several(
        closed(
            "remoteRef secretKey",
            secretKey={"type": "string", "maxLength": 253, "pattern": "^[-._a-zA-Z0-9]+$"},
            remoteRef=closed("key", key=TEXT, property=TEXT),
        )
    ),
)

# KubeRay 1.6.2.
RAY_CLUSTER = closed(
    "headGroupSpec",
    rayVersion={"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
    authOptions=closed(mode={"enum": ["disabled", "token"]}, secretName=TEXT),
    enableInTreeAutoscaling=BOOLEAN,
    autoscalerOptions=closed(
        version={"enum": ["v1", "v2"]},
        idleTimeoutSeconds=COUNT,
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
        imagePullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
        resources={"type": "object"},
        securityContext={"type": "object"},
        volumeMounts={"type": "array"},
        env={"type": "array"},
    ),
    headGroupSpec=closed("template", serviceType=TEXT, rayStartParams=TEXTS, template=POD),
    workerGroupSpecs=several(
        closed(
            "groupName minReplicas maxReplicas template",
            groupName=TEXT,
            replicas=COUNT,
            minReplicas=COUNT,
            maxReplicas=COUNT,
            rayStartParams=TEXTS,
            template=POD,
        )
    ),
)
RAY_JOB = closed(
    "rayClusterSpec entrypoint",
    entrypoint=TEXT,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    backoffLimit=COUNT,
    activeDeadlineSeconds=POSITIVE,
    shutdownAfterJobFinishes=BOOLEAN,
    ttlSecondsAfterFinished=COUNT,
    submitterPodTemplate=POD,
    rayClusterSpec=RAY_CLUSTER,
)

SPECS: dict[tuple[str, str], Schema] = {
    ("cert-manager.io/v1", "Issuer"): ISSUER,
    ("cert-manager.io/v1", "Certificate"): CERTIFICATE,
    ("keda.sh/v1alpha1", "ScaledObject"): SCALED_OBJECT,
    ("keda.sh/v1alpha1", "TriggerAuthentication"): TRIGGER_AUTHENTICATION,
    ("monitoring.coreos.com/v1", "ServiceMonitor"): SERVICE_MONITOR,
    ("monitoring.coreos.com/v1", "PrometheusRule"): PROMETHEUS_RULE,
    ("external-secrets.io/v1", "ExternalSecret"): EXTERNAL_SECRET,
    ("ray.io/v1", "RayCluster"): RAY_CLUSTER,
    ("ray.io/v1", "RayJob"): RAY_JOB,
}
"""By version of the interface and kind."""


@cache
def custom_validator(api: str, kind: str) -> Draft202012Validator:
    """Return what checks a whole object of a kind.

    Raises:
        KeyError: nobody has written down its fields.
    """
    spec = SPECS[api, kind]
    whole = closed("apiVersion kind metadata spec", apiVersion={"const": api}, kind={"const": kind}, spec=spec)
    whole["properties"]["metadata"] = closed("name labels", name=SUBDOMAIN, labels=TEXTS, annotations=TEXTS)
    return Draft202012Validator(whole)
