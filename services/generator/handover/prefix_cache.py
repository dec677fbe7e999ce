"""Forgetting what a server has computed of prompts: after a change of weights it would be that of other weights."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from ouroscope.errors import CapabilityMissing, InvalidRequest, PreconditionFailed, Unavailable
from services.generator.declared import ServerKind
from services.generator.servers.replicas import Replica
from services.generator.servers.transport import Transport

log = structlog.get_logger(__name__)

_RESET = "/reset_prefix_cache"


def reset_prefix_caches(transport: Transport, kind: ServerKind, check: Callable[[], None]) -> None:
    """Let every replica forget its prefix cache; one that cannot is told in the log.

    That is tolerated, since weights never come under a name that served others: vLLM keeps the cache of an adapter
    under its number, and a server that was started anew has none. TGI has no such route and is always started anew.
    """
    if kind is not ServerKind.VLLM:
        return

    async def reset(replica: Replica) -> bool:
        try:
            told = await transport.post(replica, _RESET, None)
        except (CapabilityMissing, InvalidRequest, PreconditionFailed):
            return False
        if isinstance(told, dict) and told.get("success") is False:
            # Blocks are still held by requests in flight; the transport asks again.
            raise Unavailable(f"a server of backend {transport.server!r} cannot reset its prefix cache now")
        return True

    try:
        done = transport.everywhere(reset, lambda _: check())
    except Unavailable:
        done = [False]
    if not all(done):
        log.warning(
            "prefix_cache.not_reset",
            backend=transport.server,
            hint="vLLM has the route with VLLM_SERVER_DEV_MODE=1; tolerated, since the name of the weights is new",
        )
