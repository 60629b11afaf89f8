"""Reading JSON bodies: their type, size and time first, then every field.

A body is read only after the caller is known. orjson parses it; what orjson refuses is looked at
once more, only to name the field at fault (a lone surrogate) or the reason (depth, NaN).
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import orjson
from fastapi import Depends
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from compliance_copilot.core.errors import InvalidRequest, PayloadTooLarge, UnsupportedMedia
from compliance_copilot.gateway.problems import (
    MalformedRequest,
    RequestTimeout,
    field_name,
    of_pydantic,
)

SMALL_BODY_BYTES = 1024 * 1024
LARGE_BODY_BYTES = 16 * 1024 * 1024
_SECONDS_PER_MEBIBYTE = 20.0
_BRIEF_BYTES = 64 * 1024
_NUL = b"\\u0000"
Model = TypeVar("Model", bound=BaseModel)
Path = tuple[int | str, ...]


def json_body(
    model: type[Model], *, limit_bytes: int = SMALL_BODY_BYTES, optional: bool = False
) -> Any:
    """Return the FastAPI dependency that reads a body by `read_json`."""

    async def read(request: Request) -> Model:
        return await read_json(request, model, limit_bytes=limit_bytes, optional=optional)

    reader: Callable[[Request], Awaitable[Model]] = read
    return Depends(reader)


async def read_json(
    request: Request,
    model: type[Model],
    *,
    limit_bytes: int = SMALL_BODY_BYTES,
    optional: bool = False,
) -> Model:
    """Return the body as `model`.

    Raises MalformedRequest, UnsupportedMedia, PayloadTooLarge, RequestTimeout or an
    `invalid_request` that names the field.
    """
    raw = await read_bytes(request, limit_bytes)
    if optional and not raw:
        return checked(model, {})
    _check_type(request)
    if len(raw) <= _BRIEF_BYTES:
        return checked(model, parse(raw))
    # A long body must not hold up the requests of others.
    return await asyncio.to_thread(lambda: checked(model, parse(raw)))


async def read_bytes(request: Request, limit_bytes: int) -> bytes:
    """Return the body. Raises PayloadTooLarge, also without a Content-Length, RequestTimeout."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit_bytes:
        raise too_large(limit_bytes)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_SECONDS_PER_MEBIBYTE * limit_bytes / SMALL_BODY_BYTES):
            async for part in request.stream():
                size += len(part)
                if size > limit_bytes:
                    raise too_large(limit_bytes)
                parts.append(part)
    except TimeoutError:
        raise RequestTimeout("The body did not arrive in time.") from None
    return b"".join(parts)


def too_large(limit_bytes: int) -> PayloadTooLarge:
    """Return the error for a body over its limit."""
    return PayloadTooLarge(
        f"The body is larger than {limit_bytes} bytes.", field="body", limit_bytes=limit_bytes
    )


def parse(raw: bytes) -> Any:
    """Return the parsed JSON text. Raises MalformedRequest, or InvalidRequest for a text that
    no database can hold (NUL, half of a surrogate pair).
    """
    try:
        parsed = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise _diagnosis(raw, str(error)) from None
    if _NUL in raw:
        _refuse_nul(parsed)
    return parsed


def checked(model: type[Model], parsed: Any) -> Model:
    """Return the body as its model. Raises an `invalid_request` naming the field."""
    if not isinstance(parsed, dict):
        raise InvalidRequest("The body has to be a JSON object.", field="body")
    try:
        return model.model_validate(parsed)
    except ValidationError as error:
        raise of_pydantic(
            error.errors(include_url=False, include_context=False, include_input=False)
        ) from None


def _check_type(request: Request) -> None:
    given = request.headers.get("content-type", "application/json").partition(";")[0]
    kind = given.strip().lower()
    if kind != "application/json" and not (
        kind.startswith("application/") and kind.endswith("+json")
    ):
        raise UnsupportedMedia("The body has to be application/json.")


def _diagnosis(raw: bytes, reason: str) -> MalformedRequest | InvalidRequest:
    malformed = MalformedRequest(f"The body is not valid JSON: {reason}.", field="body")
    try:
        parsed = json.loads(raw.decode(), parse_constant=_refuse_constant)
    except RecursionError:
        return MalformedRequest("The body is nested too deep.", field="body")
    except ValueError:
        return malformed
    for path, text in strings(parsed):
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            return _unusable(path, "half of a surrogate pair")
    return malformed


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _refuse_nul(parsed: Any) -> None:
    for path, text in strings(parsed):
        if "\0" in text:
            raise _unusable(path, "the character NUL")


def _unusable(path: Path, what: str) -> InvalidRequest:
    name = field_name(path)
    return InvalidRequest(f"{name} contains {what}.", field=name)


def strings(parsed: Any) -> Iterator[tuple[Path, str]]:
    """Yield every string of a JSON value, names too, in order, with its path; no recursion."""
    waiting: list[tuple[Path, Any]] = [((), parsed)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, str):
            yield path, value
        elif isinstance(value, dict):
            yield from (((*path, name), name) for name in value)
            waiting.extend(((*path, name), value[name]) for name in reversed(value))
        elif isinstance(value, list):
            waiting.extend(((*path, i), value[i]) for i in reversed(range(len(value))))
