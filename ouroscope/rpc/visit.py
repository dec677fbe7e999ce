"""Ask a service how it is: whether it serves, and whether it speaks the contract that this program knows.

Health and reflection answer anybody, so no token is needed. Blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from ouroscope.rpc.errors import error_from_rpc
from ouroscope.rpc.probe import SECONDS, sync_channel
from ouroscope.security.connection import PLAIN, Connection
from ouroscope.v1 import analyzer_pb2, coordinator_pb2, generator_pb2, trainer_pb2

SERVICES = {
    "generator": generator_pb2.DESCRIPTOR.services_by_name["GeneratorService"].full_name,
    "trainer": trainer_pb2.DESCRIPTOR.services_by_name["TrainerService"].full_name,
    "analyzer": analyzer_pb2.DESCRIPTOR.services_by_name["AnalyzerService"].full_name,
    "coordinator": coordinator_pb2.DESCRIPTOR.services_by_name["CoordinatorService"].full_name,
}
"""Full name of each service by the name that people use."""

_OURS = "ouroscope/v1/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What a service said of itself."""

    serving: bool
    same_contract: bool
    """Whether its messages and methods are those of this program."""


def visit(address: str, service: str, connection: Connection = PLAIN, seconds: float = SECONDS) -> Visit:
    """Ask the server at `address`, which should be `service`, a key of `SERVICES`.

    Raises:
        NotFound: it is a server, and not this service.
        Unavailable: nobody answers, or TLS fails; says why.
        OuroscopeError: it answers something else.
    """
    name = SERVICES[service]
    with sync_channel(address, connection) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            state = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=seconds).status
            files = list(_files(channel, name, seconds))
        except grpc.RpcError as error:
            told: Any = error
            raise error_from_rpc(told) from error
    return Visit(serving=state == health_pb2.HealthCheckResponse.SERVING, same_contract=_are_ours(files))


def _files(channel: grpc.Channel, name: str, seconds: float) -> Iterator[FileDescriptorProto]:
    """Yield the files of the contract that a service is made of."""
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = reflection_pb2.ServerReflectionRequest(file_containing_symbol=name)
    for answer in stub.ServerReflectionInfo(iter([asked]), timeout=seconds):
        for raw in answer.file_descriptor_response.file_descriptor_proto:
            yield FileDescriptorProto.FromString(raw)


def _are_ours(files: list[FileDescriptorProto]) -> bool:
    theirs = [file for file in files if file.name.startswith(_OURS)]
    return bool(theirs) and all(file == _our(file.name) for file in theirs)


def _our(name: str) -> FileDescriptorProto | None:
    """Return a file of the contract as this program knows it; None where it does not."""
    try:
        found = descriptor_pool.Default().FindFileByName(name)
    except KeyError:
        return None
    return FileDescriptorProto.FromString(found.serialized_pb)
