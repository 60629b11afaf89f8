"""Policies and questions for load: seeded, as many as wanted, each question with an answer.

A section is one chunk of about 600 characters. No two questions of a run need be alike, so a
query cache that is on has nothing to give unless `kinds` is made small.
"""

import random
from collections.abc import Iterator
from typing import Any

_SUBJECTS = (
    "customer records", "payment data", "access logs", "backup tapes", "audit evidence",
    "vendor contracts", "incident reports", "encryption keys", "personnel files", "test results",
    "source code", "security alerts", "risk registers", "training records", "visitor lists",
    "network diagrams", "service accounts", "portable devices", "change requests", "invoices",
)  # fmt: skip
_TEAMS = (
    "security office", "finance department", "data protection officer", "platform team",
    "internal audit", "legal counsel", "human resources", "procurement", "operations desk",
    "risk committee",
)  # fmt: skip
_PLACES = (
    "Aldgate", "Bergen", "Cardiff", "Dublin", "Esbjerg", "Fulda", "Ghent", "Hamar", "Izmir",
    "Jena", "Kassel", "Lugano", "Malmo", "Nantes", "Oulu", "Parma", "Quimper", "Reims", "Siena",
    "Turku", "Ulm", "Vaasa", "Wels", "Xanten", "York", "Zwolle",
)  # fmt: skip
_SECTION = (
    "## {subject} at {place}, unit {n}\n\n"
    "The {team} keeps {subject} of unit {n} at {place} for {months} months. "
    "Every request to see them is approved by the {other} within {days} working days. "
    "Copies are encrypted with AES-256 and stored in a room that only named staff may enter. "
    "After that time they are destroyed under the eyes of two people, who sign a protocol. "
    "Exceptions need the written consent of the {team} and end after {weeks} weeks. "
    "Breaches of this rule at {place} are reported to the {other} on the same day.\n\n"
)
_QUESTIONS = (
    "How long are {subject} of unit {n} at {place} kept?",
    "Who approves requests to see {subject} of unit {n} at {place}?",
    "To whom are breaches at {place} about {subject} of unit {n} reported?",
    "When do exceptions for {subject} of unit {n} at {place} end?",
)
SECTIONS_A_DOCUMENT = 20


def facts(seed: int, n: int) -> dict[str, Any]:
    """Return what section `n` of a tenant says."""
    chance = random.Random(f"{seed} {n}")
    return {
        "n": n,
        "subject": chance.choice(_SUBJECTS),
        "place": chance.choice(_PLACES),
        "team": chance.choice(_TEAMS),
        "other": chance.choice(_TEAMS),
        "months": chance.randrange(3, 120),
        "days": chance.randrange(2, 20),
        "weeks": chance.randrange(2, 40),
    }


def documents(seed: int, chunks: int) -> Iterator[dict[str, str]]:
    """Yield documents that are `chunks` chunks together."""
    for first in range(0, chunks, SECTIONS_A_DOCUMENT):
        numbers = range(first, min(chunks, first + SECTIONS_A_DOCUMENT))
        text = "".join(_SECTION.format(**facts(seed, n)) for n in numbers)
        yield {"document_id": f"policy-{first}", "title": f"Policy {first}", "text": text}


def question(chance: random.Random, seed: int, chunks: int) -> str:
    """Return a question that one of the sections answers."""
    return chance.choice(_QUESTIONS).format(**facts(seed, chance.randrange(chunks)))
