# ruff: noqa: E501  (cases read best one to a line)
import pytest

from compliance_copilot.adapters.extractive_generator import ExtractiveGenerator
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import DeadlineExceeded
from compliance_copilot.core.vocabulary import DraftSentence, GenerationEnd, ScoredChunk
from compliance_copilot.rag.citations import check
from compliance_copilot.rag.ports import GenerationRequest
from tests.unit.sources import source

POLICY = """# Access and retention

## 3.1 Passwords

Passwords must have at least **14 characters**. They are never shared with colleagues.

## 3.2 Backups

Backups of customer data are kept for 35 days, e.g. in the second site. Afterwards they are destroyed.
The operations team tests a restore every quarter.

## 3.3 Leavers

Access ends when:

- the employment ends
- the contract of a supplier ends
- the Security Officer orders it

## 3.4 Periods

| Record | Retention |
|---|---|
| Invoice | 10 years |
| Visitor log | 90 days |
"""
OTHER = "Laptops are encrypted with AES-256. Lost devices must be reported to the service desk within 2 hours."
RICHTLINIE = (
    "Sicherungen werden 35 Tage aufbewahrt. Kennwörter müssen mindestens 14 Zeichen lang sein."
)
SOURCES = [
    source(POLICY, start=100, title="Access Policy"),
    source(OTHER, document="devices", title="Devices"),
    source(RICHTLINIE, document="richtlinie", title="Richtlinie"),
]


async def drafts(question: str, sources: list[ScoredChunk]) -> list[DraftSentence]:
    request = GenerationRequest(question, sources, "extractive-1", 500)
    items = [
        item async for item in ExtractiveGenerator().generate(request, deadline=Deadline.after(5))
    ]
    end = items.pop()
    assert isinstance(end, GenerationEnd)
    assert (end.usage.input_tokens, end.usage.output_tokens, end.provider_model) == (
        0,
        0,
        "extractive-1",
    )
    found = [item for item in items if isinstance(item, DraftSentence)]
    assert len(found) == len(items)
    return found


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How long are backups kept?", "kept for 35 days"),
        ("How many characters must a password have?", "at least 14 characters"),
        ("Who tests restores?", "The operations team tests a restore"),
        ("How quickly must lost devices be reported?", "within 2 hours"),
        ("May I share my password with colleagues?", "never shared with colleagues"),
        ("When does access end?", "Access ends when: the employment ends; the contract"),
        ("How long are visitor logs retained?", "Record: Visitor log; Retention: 90 days."),
        ("Wie lange werden Sicherungen aufbewahrt?", "Sicherungen werden 35 Tage aufbewahrt."),
        ("Which cipher encrypts laptops?", "AES-256"),
    ],
)
async def test_a_question_is_answered_by_the_sentence_that_says_it(
    question: str, answer: str
) -> None:
    found = await drafts(question, SOURCES)
    assert any(answer in draft.text for draft in found), found


@pytest.mark.parametrize(
    "question",
    [
        "What is the capital of France?",
        "Who won the 1998 world cup?",
        "How long do elephants live?",
        "How many employees does the company have in Norway?",
        "Wer hat den Faust geschrieben?",
        "???",
        "How long?",
        "",
    ],
)
async def test_a_question_that_the_documents_do_not_answer_gets_no_sentence(question: str) -> None:
    assert await drafts(question, SOURCES) == []


async def test_no_source_gives_no_sentence() -> None:
    assert await drafts("How long are backups kept?", []) == []


async def test_every_quote_is_verbatim_and_every_sentence_passes_the_check() -> None:
    found = await drafts(
        "When does access end, and how long are backups and visitor logs kept?", SOURCES
    )
    found += await drafts("How long are visitor logs retained?", SOURCES)
    assert found
    for draft in found:
        assert all(quote.text in SOURCES[quote.source].chunk.text for quote in draft.quotes)
        assert check(draft, SOURCES).supported


async def test_headings_code_and_emphasis_signs_are_not_shown() -> None:
    found = await drafts("How many characters must a password have?", SOURCES)
    assert all("#" not in draft.text and "*" not in draft.text for draft in found)


async def test_the_same_sentence_of_overlapping_chunks_is_shown_once() -> None:
    text = "Backups are kept for 35 days."
    twice = [
        source(text, start=50),
        source(text + " More.", start=50),
        source(text, document="copy"),
    ]
    assert len(await drafts("How long are backups kept?", twice)) == 1


async def test_a_dense_scorer_breaks_a_draw() -> None:
    sources = [source("Backups are kept in Rome. Backups are kept in Oslo.")]
    request = GenerationRequest("Where are backups kept?", sources, "extractive-1", 500)

    def likes_oslo(question: str, sentences: list[str]) -> list[float]:
        return [1.0 if "Oslo" in sentence else 0.0 for sentence in sentences]

    generator = ExtractiveGenerator(scorer=likes_oslo, max_sentences=1)
    first = await anext(generator.generate(request, deadline=Deadline.after(5)))
    assert isinstance(first, DraftSentence)
    assert first.text == "Backups are kept in Oslo."


async def test_a_passed_deadline_is_said() -> None:
    request = GenerationRequest("How long are backups kept?", SOURCES, "extractive-1", 500)
    with pytest.raises(DeadlineExceeded):
        await anext(ExtractiveGenerator().generate(request, deadline=Deadline.after(0)))
