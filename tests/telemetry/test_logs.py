"""Log lines: one for each record, with who and where, and nothing that may not be there."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from compliance_copilot.core.errors import StoreUnavailable
from compliance_copilot.telemetry import logs, requests

FORGED = 'harmless\n{"level": "ERROR"}\r\x1b[2J\x1b]0;title\x07\u2028next\x85and\x7f\x00'
SECRETS = (
    "cc_live_" + "a" * 49,
    "sk-proj-abcdef123456",
    "Bearer something-of-a-token",
    "postgresql://user:hunter2@host/db",
)


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root, ours = logging.getLogger(), logging.getLogger(logs.OURS)
    before = (root.handlers[:], root.level, ours.level)
    yield io.StringIO()
    root.handlers[:], root.level = before[0], before[1]
    ours.setLevel(before[2])


def test_a_line_carries_request_and_tenant_and_is_json(stream: io.StringIO) -> None:
    logs.configure("INFO", readable=False, stream=stream)
    with requests.entered("r-1"):
        requests.note_tenant("acme_corp")
        logging.getLogger("compliance_copilot.any").info("done", extra={"status": 200})
    line = json.loads(stream.getvalue())
    assert (line["request_id"], line["tenant_id"], line["status"]) == ("r-1", "acme_corp", 200)
    assert (line["level"], line["message"]) == ("INFO", "done")


@pytest.mark.parametrize("readable", [True, False])
def test_no_input_ends_a_line_or_moves_a_cursor(stream: io.StringIO, readable: bool) -> None:
    logs.configure("INFO", readable=readable, stream=stream)
    logger = logging.getLogger("compliance_copilot.any")
    logger.info("look: %s", FORGED, extra={"client_request_id": FORGED, "route": FORGED})
    text = stream.getvalue()
    assert text.endswith("\n")
    assert len(text.splitlines()) == 1, "splitlines knows every character that ends a line"
    assert text[:-1].isprintable()
    assert "harmless" in text, "the positive twin: what can be printed is there"


@pytest.mark.parametrize("readable", [True, False])
@pytest.mark.parametrize("secret", SECRETS)
def test_what_looks_like_a_key_is_left_out(
    stream: io.StringIO, secret: str, readable: bool
) -> None:
    logs.configure("DEBUG", readable=readable, stream=stream)
    logging.getLogger("compliance_copilot.any").debug("tried %s here", secret)
    text = stream.getvalue()
    assert "[secret]" in text
    assert "here" in text
    for part in ("cc_live_a", "sk-proj", "something-of", "hunter2"):
        assert part not in text


def test_an_error_is_located_and_a_foreign_ones_words_stay_out(stream: io.StringIO) -> None:
    logs.configure("INFO", readable=False, stream=stream)
    logger = logging.getLogger("compliance_copilot.any")
    try:
        raise ValueError("Key (text)=(the whole policy) already exists")
    except ValueError as error:
        try:
            raise StoreUnavailable("The database does not answer.") from error
        except StoreUnavailable:
            logger.exception("unexpected")
    line = json.loads(stream.getvalue())
    assert line["error"] == "StoreUnavailable < ValueError"
    assert line["error_detail"] == "The database does not answer."
    assert "test_logs.py" in line["frames"][0]
    assert "policy" not in stream.getvalue()


def test_vendors_clients_do_not_log_what_they_send(stream: io.StringIO) -> None:
    logs.configure("DEBUG", readable=False, stream=stream)
    logging.getLogger("openai").setLevel(logging.DEBUG)  # as OPENAI_LOG=debug does at import
    logging.getLogger("openai._base_client").debug("Request options: %s", {"content": "question"})
    logging.getLogger("uvicorn.access").info("GET /documents/secret-name")
    assert stream.getvalue() == ""
    logging.getLogger("openai").warning("heard")
    assert "heard" in stream.getvalue()
    logging.getLogger("openai").setLevel(logging.NOTSET)


def test_a_record_that_cannot_be_written_still_gives_a_line() -> None:
    record = logging.LogRecord("any", logging.INFO, __file__, 1, "%d apples", ("none",), None)
    assert json.loads(logs.JsonFormatter().format(record))["message"] == "%d apples"
