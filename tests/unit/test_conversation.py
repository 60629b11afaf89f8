"""Follow-ups stand alone afterwards; questions that stand alone already are left as they are."""

import pytest

from compliance_copilot.rag.conversation import standalone

BACKUPS = "How long are backups of customer data kept?"
TRAINING = "How often must employees complete security training?"
SUPPLIERS = "Who approves new suppliers?"
KEYS = "Where are encryption keys stored?"
FRIST = "Wie lange werden Kundendaten aufbewahrt?"
SCHULUNG = "Wie oft müssen Mitarbeiter geschult werden?"


@pytest.mark.parametrize(
    ("before", "asked", "words"),
    [
        (BACKUPS, "And who tests them?", ["who tests", "backups of customer data"]),
        (BACKUPS, "Where are they stored?", ["where are backups of customer data", "stored"]),
        (BACKUPS, "What is their retention in Germany?", ["retention of backups of customer data"]),
        (BACKUPS, "What about log files?", ["how long", "kept", "log files"]),
        (BACKUPS, "And for test systems?", ["how long", "kept", "test systems"]),
        (BACKUPS, "Why?", ["why", "backups", "customer data"]),
        (BACKUPS, "Since when?", ["since when", "backups"]),
        (TRAINING, "What about contractors?", ["how often", "security training", "contractors"]),
        (TRAINING, "Who keeps the records of it?", ["records of", "security training"]),
        (TRAINING, "Does this rule apply to interns?", ["interns", "security training"]),
        (SUPPLIERS, "How are they assessed?", ["how are new suppliers assessed"]),
        (SUPPLIERS, "Does that also hold for small orders?", ["small orders", "new suppliers"]),
        (KEYS, "Who has access there?", ["access", "encryption keys"]),
        (KEYS, "How often are these rotated?", ["encryption keys", "rotated"]),
        (KEYS, "And its owner?", ["owner of encryption keys"]),
        (FRIST, "Und wer löscht sie?", ["wer löscht kundendaten"]),
        (FRIST, "Was ist mit Bewerberdaten?", ["wie lange", "aufbewahrt", "bewerberdaten"]),
        (FRIST, "Gilt das auch für Lieferanten?", ["kundendaten", "lieferanten"]),
        (SCHULUNG, "Wie sieht es mit Praktikanten aus?", ["wie oft", "geschult", "praktikanten"]),
        (SCHULUNG, "Wer ist dafür verantwortlich?", ["verantwortlich", "mitarbeiter"]),
        (SCHULUNG, "Seit wann?", ["seit wann", "mitarbeiter"]),
    ],
)
def test_a_follow_up_stands_alone(before: str, asked: str, words: list[str]) -> None:
    told = standalone(asked, before)
    assert [word for word in words if word not in told.lower()] == [], told
    assert told.endswith("?")


@pytest.mark.parametrize(
    "asked",
    [
        "How is customer data encrypted at rest?",
        "Is it allowed to use private phones for work?",
        "Are there rules for visitors in the data centre?",
        "What changes this year for suppliers in the data protection policy?",
        "Gibt es Regeln für Besucher im Rechenzentrum?",
        "Wie wird das Rechenzentrum vor Feuer geschützt?",
    ],
)
def test_a_question_that_stands_alone_stays_as_it_is(asked: str) -> None:
    assert standalone(asked, BACKUPS) == asked


def test_the_first_question_of_a_conversation_has_nothing_to_lean_on() -> None:
    assert standalone("And who tests them?", None) == "And who tests them?"


def test_a_long_question_before_adds_a_bounded_context() -> None:
    before = "How are " + "very long named data sets " * 200 + "kept?"
    assert len(standalone("Why?", before)) < 400
    assert len(standalone("What about logs?", before)) < 400
