"""Lets a call through or not: who calls, which role that is, how much it uses. Decided before the request is read."""

from __future__ import annotations

import time
from asyncio import get_running_loop, sleep
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import structlog
from grpc_status import rpc_status

from ouroscope.errors import Internal, OuroscopeError
from ouroscope.rpc.errors import HIDDEN, rich_status, rpc_errors
from ouroscope.rpc.interceptors import Outcome, kind_of
from ouroscope.security.callers import Access, Caller, check_role
from ouroscope.security.limits import Limits, Meter, Use
from ouroscope.security.roles import Role, required_role

log = structlog.get_logger(__name__)

EVERYBODY = Caller("everybody", Role.ADMIN)
"""Who calls where nobody is asked: all callers together are one."""
THREADS = 4
"""That look at tokens which are seen for the first time."""
LONGEST_NAME = 200
"""Characters of a name in the audit log."""


@dataclass(frozen=True, slots=True)
class _Call:
    caller: Caller
    service: str
    method: str
    role: Role
    use: Use | None


class Guard(grpc.aio.ServerInterceptor):
    """Refuses calls that may not be made, and notes those of administrators."""

    def __init__(self, access: Access | None, limits: Limits, *, mutual: bool = False) -> None:
        """Decide by `access` and `limits`; with `mutual`, callers without a token have a certificate, and its name."""
        self._access = access
        self._audits = access is not None or mutual
        self._meter = Meter(limits) if limits else None
        # Their own: strangers with bad tokens must not take the threads that the service works with.
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="access")

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """Return the handler of a call that may be made, else one that refuses it without reading the request."""
        # Anything may stand here: what is no path of ours finds no handler.
        service, _, method = details.method.removeprefix("/").partition("/")
        role = required_role(service, method)
        if role is None:
            return await continuation(details)
        caller: Caller | None = None
        try:
            caller = await self._caller(details.invocation_metadata)
            call = self._admitted(caller, service, method, role)
        except OuroscopeError as error:
            who = caller.name if caller else ""
            log.warning("security.refused", service=service, method=method, reason=error.reason, caller=who)
            return _refusal(error)
        except Exception as error:
            # Closed: who cannot be told from a stranger is one.
            log.error("rpc.unexpected_error", exc_info=error)
            return _refusal(Internal(HIDDEN))
        handler = await continuation(details)
        return handler and self._guarded(handler, call)

    def _admitted(self, caller: Caller, service: str, method: str, role: Role) -> _Call:
        check_role(caller, role, method)
        use = self._meter.use_of(caller.name) if self._meter else None
        if use:
            use.admit()
        return _Call(caller, service, method, role, use)

    async def _caller(self, metadata: Any) -> Caller:
        if self._access is None:
            return EVERYBODY
        header: Any = next((value for key, value in metadata or () if key == "authorization"), None)
        text = header.decode("ascii", "replace") if isinstance(header, bytes) else header
        # Seldom needed, and it may ask the identity provider for its keys.
        if known := self._access.known(text, time.time()):
            return known
        return await get_running_loop().run_in_executor(self._threads, self._access.caller_of, text)

    def _guarded(self, handler: Any, call: _Call) -> Any:
        if call.use is None and not self._is_audited(call):
            return handler
        kind = kind_of(handler)
        behaviour = getattr(handler, kind)
        wrapped = _stream(behaviour, call) if handler.response_streaming else _single(behaviour, call)
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(wrapped, _counted(handler.request_deserializer, call.use), handler.response_serializer)

    def _is_audited(self, call: _Call) -> bool:
        return self._audits and call.role is Role.ADMIN


def _single(behaviour: Any, call: _Call) -> Any:
    async def wrapped(request: Any, context: Any) -> Any:
        async with _Watch(call, request, context):
            return await behaviour(_paced(request, call.use), context)

    return wrapped


def _stream(behaviour: Any, call: _Call) -> Any:
    async def wrapped(request: Any, context: Any) -> AsyncIterator[Any]:
        async with _Watch(call, request, context):
            async for answer in behaviour(_paced(request, call.use), context):
                yield answer

    return wrapped


class _Watch:
    """Around one call: holds its place among those at a time, and notes it if an administrator makes it."""

    def __init__(self, call: _Call, request: Any, context: Any) -> None:
        self._call, self._request, self._context = call, request, context
        self._outcome = Outcome(context)
        self._noted = self._outcome.noted()
        self._held = call.use.held() if call.use else None

    async def __aenter__(self) -> None:
        if self._held:
            async with rpc_errors(self._context):
                self._held.__enter__()
        self._noted.__enter__()

    async def __aexit__(self, *error: Any) -> None:
        try:
            self._noted.__exit__(*error)
        finally:
            if self._held:
                self._held.__exit__(None, None, None)
            if self._call.role is Role.ADMIN:
                self._audit()

    def _audit(self) -> None:
        # The name of what was asked about, and nothing else of the request.
        name = getattr(self._request, "name", "") or getattr(getattr(self._request, "monitor", None), "name", "")
        log.info(
            "audit.call",
            caller=_name_of(self._call.caller, self._context),
            role=self._call.caller.role.name.lower(),
            service=self._call.service,
            method=self._call.method,
            resource=str(name)[:LONGEST_NAME],
            outcome=self._outcome.code.name,
        )


def _name_of(caller: Caller, context: Any) -> str:
    """Return who calls: the name of the token, or that of the certificate where there are no tokens."""
    if caller is not EVERYBODY:
        return caller.name
    shown = next(iter(context.peer_identities() or ()), b"").decode("ascii", "replace")
    if not shown:
        return caller.name
    return "certificate:" + "".join(one if one.isprintable() else "?" for one in shown[:LONGEST_NAME])


def _counted(deserializer: Any, use: Use | None) -> Any:
    if use is None:
        return deserializer

    def counted(raw: bytes) -> Any:
        use.received(len(raw))
        return deserializer(raw) if deserializer else raw

    return counted


def _paced(request: Any, use: Use | None) -> Any:
    """Return `request`, of which messages are handed on no faster than their caller may send."""
    return _pace(request, use) if use and hasattr(request, "__aiter__") else request


async def _pace(messages: Any, use: Use) -> AsyncIterator[Any]:
    async for message in messages:
        # Not refused: half a stream would be lost, and the next try would not be faster. gRPC stops the sender.
        if wait := use.owed():
            await sleep(wait)
        yield message


def _refusal(error: OuroscopeError) -> Any:
    async def refuse(_: Any, context: Any) -> None:
        await context.abort_with_status(rpc_status.to_status(rich_status(error)))

    # Whatever the method is: a handler of a stream is called before anything is read.
    return grpc.stream_unary_rpc_method_handler(refuse)
