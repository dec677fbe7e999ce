"""Call a gRPC method from a shell: JSON in, JSON out. Knows no service; it asks the server for its contract.

    python call.py [-plaintext] [-d JSON] HOST:PORT package.Service/Method

A small part of grpcurl, with the same arguments; `-d @` reads standard input. Several JSON objects in a row are the
messages of a stream. Needs grpcio, grpcio-reflection and grpcio-status, no package of Ouroscope. A refusal is printed
on standard error, with status 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


def main() -> int:
    """Make one call."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-plaintext", action="store_true", help="accepted, since there is nothing else")
    parser.add_argument("-d", dest="data", default="{}")
    parser.add_argument("address")
    parser.add_argument("method")
    chosen = parser.parse_args()
    text = sys.stdin.read() if chosen.data == "@" else chosen.data
    with grpc.insecure_channel(chosen.address) as channel:
        try:
            for answer in answers(channel, chosen.method, text):
                print(json_format.MessageToJson(answer, descriptor_pool=None))
        except grpc.RpcError as error:
            print(f"{error.code().name}: {error.details()}", file=sys.stderr)
            return 1
    return 0


def answers(channel: grpc.Channel, name: str, text: str) -> Iterator[Any]:
    """Send the messages that `text` spells, and yield the answers."""
    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    service, _, short = name.partition("/")
    method = pool.FindServiceByName(service).FindMethodByName(short)
    request = GetMessageClass(method.input_type)
    messages = [json_format.ParseDict(plain, request(), descriptor_pool=pool) for plain in objects(text)]
    kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
    call = getattr(channel, kind)(
        f"/{name}",
        request_serializer=request.SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    found = call(iter(messages) if method.client_streaming else messages[0])
    yield from found if method.server_streaming else [found]


def objects(text: str) -> Iterator[Any]:
    """Yield the JSON objects that stand one after the other."""
    decoder, text = json.JSONDecoder(), text.strip()
    while text:
        found, end = decoder.raw_decode(text)
        yield found
        text = text[end:].lstrip()


if __name__ == "__main__":
    sys.exit(main())
