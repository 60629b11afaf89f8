"""What `/query`, `/search` and `/ingest` share: repeats, the limited mode, keys found revoked."""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any
from uuid import UUID

import orjson
from starlette.requests import Request
from starlette.responses import Response

from compliance_copilot.core.errors import InvalidRequest, NotInitialized, Unauthenticated
from compliance_copilot.core.vocabulary import IdempotencyClaim, Operation, Replay
from compliance_copilot.gateway.authentication import Caller, verify_tenant
from compliance_copilot.gateway.replying import json_reply
from compliance_copilot.gateway.schemas import Body
from compliance_copilot.gateway.state import working_service_of
from compliance_copilot.orchestrator import Call, Service

_LONGEST_KEY = 255
_NOT_IN_THE_CLAIM = {"tenant_id", "stream"}  # whose, and how it is delivered


@contextmanager
def working(
    request: Request, caller: Caller, operation: Operation, named: str | None
) -> Iterator[Service]:
    """Give the service for one admitted operation of the caller's own tenant.

    Raises TenantMismatch, NotInitialized; forgets the key when admission finds it revoked.
    """
    verify_tenant(caller.principal, named)
    service = working_service_of(request)
    reason = service.skipped(operation)
    if reason is not None:
        raise NotInitialized(reason)
    try:
        yield service
    except Unauthenticated:
        service.keys.forget(caller.principal)
        raise


def request_id_of(request: Request) -> UUID:
    """Return the id under which this request stands in the ledger."""
    request_id: UUID = request.scope["state"]["request_id"]
    return request_id


def call_of(
    request: Request,
    caller: Caller,
    claim: IdempotencyClaim | None = None,
    conversation_id: str | None = None,
) -> Call:
    """Return who calls and under which ids."""
    return Call(
        caller.principal,
        claim,
        request_id_of(request),
        _no_store(request),
        conversation_id,
        caller.since_seconds,
    )


def _no_store(request: Request) -> bool:
    """Tell whether the client wants no answer of a moment ago, and none kept of this one."""
    directives = ",".join(request.headers.getlist("cache-control")).lower().split(",")
    return any(directive.strip() == "no-store" for directive in directives)


def claim_of(request: Request, body: Body) -> IdempotencyClaim | None:
    """Return the `Idempotency-Key` with the hash of its body. Raises InvalidRequest."""
    if "idempotency-key" not in request.headers:
        return None  # before the body is written out once more and hashed
    return claim_with(request, sha256(_canonical(request, body)).digest())


def claim_with(request: Request, body_hash: bytes) -> IdempotencyClaim | None:
    """Return the `Idempotency-Key` with a hash of what came with it. Raises InvalidRequest."""
    keys = request.headers.getlist("idempotency-key")
    if not keys:
        return None
    key = keys[0]
    visible = key.isascii() and key.isprintable() and " " not in key
    if len(keys) > 1 or not visible or not 1 <= len(key) <= _LONGEST_KEY:
        raise InvalidRequest(
            "Idempotency-Key: one header of 1-255 visible ASCII characters.",
            field="Idempotency-Key",
        )
    return IdempotencyClaim(key, body_hash)


def _canonical(request: Request, body: Body) -> bytes:
    given: dict[str, Any] = body.model_dump(exclude_none=True, exclude=_NOT_IN_THE_CLAIM)
    return orjson.dumps([request.scope["path"], given], option=orjson.OPT_SORT_KEYS)


def replayed(replay: Replay, *, status: int = 200) -> Response:
    """Return the stored reply of an earlier request, and say that it is one."""
    return json_reply(replay.reply, status=status, headers=replay_headers(replay))


def replay_headers(replay: Replay) -> dict[str, str]:
    """Return the headers that say that a reply is a stored one, and whose."""
    return {
        "Idempotency-Replayed": "true",
        "X-Request-ID": str(replay.original_request_id),
    }
