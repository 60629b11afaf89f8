"""The hash of a reply is that of its text, whichever writer makes the text."""

import json
from dataclasses import replace
from hashlib import sha256
from uuid import UUID

import pytest

from compliance_copilot.core.replies import content_hash
from compliance_copilot.core.vocabulary import (
    Chunk,
    Citation,
    Outcome,
    QueryReply,
    ReplyMetadata,
    RetrievalMode,
    ScoredChunk,
    TenantId,
)

TOLD = ReplyMetadata(
    TenantId("acme"), UUID(int=1), "extractive-1", None, 0, 0, 0, 0.0, 1.0, RetrievalMode.BASIC
)
TEXT = 'Say "yes" \\ \n\r\t\b\f\x00\x1b\x7f / \u2028 é 第 \U0001f511'
REPLY = QueryReply(
    "Yes.",
    Outcome.ANSWERED,
    [ScoredChunk(Chunk(UUID(int=2), "policy", 3, 0, 0, len(TEXT), TEXT, "Policy"), 0.5)],
    [Citation(1, 0, "Say", 0, 3)],
    TOLD,
)


@pytest.mark.parametrize("answer", ["Yes.", TEXT, "half a character: \ud83d"])
def test_the_hash_is_of_the_json_text_also_with_half_a_character_in_it(answer: str) -> None:
    said = [answer, "answered", [["policy", 3, 0, len(TEXT), TEXT]], [[1, 0, 0, 3, "Say"]]]
    text = json.dumps(said, ensure_ascii=False, separators=(",", ":"))
    wanted = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    assert content_hash(replace(REPLY, answer=answer)) == wanted
    assert content_hash(replace(REPLY, answer=answer + "!")) != wanted
