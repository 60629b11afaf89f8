"""Log lines: JSON with trace, request and tenant; a readable form for development.

One line for each record, whatever it holds. What stands in a line is the message of our own words,
the facts of `FACTS`, and where an error came from; never what a foreign exception says, which may
quote a document, and no key. Vendors' clients, which log what they send, are heard from WARNING up.
"""

import json
import logging
import re
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, TextIO

from compliance_copilot.core.errors import CopilotError
from compliance_copilot.telemetry import requests, tracing

OURS = "compliance_copilot"
FACTS: Final = (
    "request_id", "client_request_id", "tenant_id", "method", "route", "status", "latency_ms",
    "job_id",
)  # fmt: skip
_SECRETS = re.compile(
    r"cc_live_[A-Za-z0-9_-]+|\bsk-[A-Za-z0-9_-]{6,}|\bpcsk_[A-Za-z0-9_-]+"
    r"|(?<=[Bb]earer )\S+|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)
_SIGNS = ("cc_live_", "sk-", "pcsk_", "earer ", "://")
"""Without any of these no pattern fits; to look for them is quicker."""
_LINE = json.JSONEncoder(default=str)
_LONGEST_MESSAGE, _MOST_FRAMES = 2_000, 30
_HANDLER = "compliance_copilot.telemetry"


def configure(level: str, *, readable: bool, stream: TextIO | None = None) -> None:
    """Send all log lines of this process to stderr (or `stream`) in our form.

    For processes that serve; a library leaves its user's logging alone.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.set_name(_HANDLER)
    handler.addFilter(_is_fit)
    handler.setFormatter(ReadableFormatter() if readable else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [h for h in root.handlers if h.get_name() != _HANDLER] + [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(OURS).setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.WARNING)


def _is_fit(record: logging.LogRecord) -> bool:
    """Let through what is ours, and of others what is urgent.

    Not by their loggers' levels: ANTHROPIC_LOG=debug sets them when the package is imported, and
    then every question is logged.
    """
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] == OURS


class JsonFormatter(logging.Formatter):
    """One JSON object in ASCII: no character of an input can end the line or move a cursor."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        facts = {name: value for name, value in _facts(record).items() if value is not None}
        # DEL is the one control character that JSON leaves as it is.
        return _LINE.encode(facts).replace("\x7f", "\\u007f")


class ReadableFormatter(logging.Formatter):
    """Time, level, logger, words, facts; what cannot be printed is escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        facts = {name: value for name, value in _facts(record).items() if value is not None}
        at, level = str(facts.pop("at"))[11:23], facts.pop("level")
        logger = str(facts.pop("logger")).removeprefix(f"{OURS}.")
        told = " ".join(f"{n}={_told(v)}" for n, v in facts.items() if n not in _QUIET)
        return printable(f"{at} {level:<7} {logger}: {facts['message']} {told}".rstrip())


_QUIET = frozenset({"message", "trace_id", "span_id"})


def _told(value: object) -> str:
    return " < ".join(map(str, value)) if isinstance(value, list) else str(value)


def printable(text: str) -> str:
    """Return a text that stays on one line and moves no cursor."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def without_secrets(text: str) -> str:
    """Return a text with everything that looks like a key replaced."""
    if not any(sign in text for sign in _SIGNS):
        return text
    return _SECRETS.sub("[secret]", text)


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    request, traced = requests.current(), tracing.ids()
    given = {name: _short(getattr(record, name, None)) for name in FACTS}
    if request is not None:
        given["request_id"] = given["request_id"] or request.request_id
        given["tenant_id"] = given["tenant_id"] or request.tenant_id
    return {
        "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname,
        "logger": record.name,
        "message": without_secrets(_message(record))[:_LONGEST_MESSAGE],
        "trace_id": traced[0] if traced else None,
        "span_id": traced[1] if traced else None,
        **given,
        **(_error(record.exc_info[1]) if record.exc_info and record.exc_info[1] else {}),
    }


def _short(value: object) -> object:
    return without_secrets(value)[:_LONGEST_MESSAGE] if isinstance(value, str) else value


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - an argument that cannot be written must not lose the line
        return str(record.msg)


def _error(error: BaseException) -> dict[str, Any]:
    chain = list(_chain(error))
    words = error.detail if isinstance(error, CopilotError) else None
    return {
        "error": " < ".join(type(e).__name__ for e in chain),
        "error_detail": _short(words),
        "frames": list(_frames(chain[-1].__traceback__)),
    }


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Give an error and what it came from; a loop ends it."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _frames(trace: TracebackType | None) -> Iterator[str]:
    """Give where an error passed, the innermost first: file, line and function, no values."""
    frames = traceback.extract_tb(trace)[-_MOST_FRAMES:]
    for frame in reversed(frames):
        path = frame.filename.replace("\\", "/")
        yield f"{'/'.join(path.split('/')[-2:])}:{frame.lineno} {frame.name}"
