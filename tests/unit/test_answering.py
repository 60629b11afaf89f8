from compliance_copilot.core.vocabulary import DraftSentence, Outcome, Quote, Unsupported
from compliance_copilot.rag.answering import (
    Citations,
    assemble,
    assembled,
    no_evidence,
    reader_language,
    shown,
)
from compliance_copilot.rag.citations import check
from tests.unit.sources import source

KEPT = "Backups are kept for 35 days."
TESTED = "Restores are tested every quarter."
SOURCES = [source(f"{KEPT} {TESTED}", start=70, title="Backup Policy")]
QUESTION = "How long are backups kept?"


def sentence(text: str, *quotes: str) -> DraftSentence:
    return DraftSentence(text, tuple(Quote(0, quote) for quote in quotes))


def checked(*drafts: DraftSentence) -> list:
    return [check(draft, SOURCES) for draft in drafts]


def test_markers_count_in_order_of_appearance_and_stand_before_the_full_stop() -> None:
    answer = assembled(
        QUESTION,
        checked(sentence(TESTED, TESTED), sentence(KEPT, KEPT), sentence(TESTED, TESTED)),
        SOURCES,
    )
    assert answer.text == (
        "Restores are tested every quarter [1]. Backups are kept for 35 days [2]. "
        "Restores are tested every quarter [1]."
    )
    assert answer.outcome is Outcome.ANSWERED
    assert [(c.marker, c.quote, c.verified) for c in answer.citations] == [
        (1, TESTED, True),
        (2, KEPT, True),
    ]
    text = SOURCES[0].chunk.text
    assert all(text[c.start - 70 : c.end - 70] == c.quote for c in answer.citations)


def test_an_unsupported_sentence_is_dropped_or_marked_and_the_answer_is_partial() -> None:
    drafts = checked(sentence(KEPT, KEPT), sentence("Backups are kept for 99 days.", KEPT))
    dropped = assembled(QUESTION, drafts, SOURCES)
    assert (dropped.text, dropped.outcome) == ("Backups are kept for 35 days [1].", Outcome.PARTIAL)
    marked = assembled(QUESTION, drafts, SOURCES, unsupported=Unsupported.MARK)
    assert marked.text.endswith("Backups are kept for 99 days [unsupported].")
    assert len(marked.citations) == 1


def test_no_supported_sentence_is_no_evidence_and_names_the_nearest_without_citing() -> None:
    answer = assembled(QUESTION, checked(sentence("Backups are kept for ever.")), SOURCES)
    assert answer.outcome is Outcome.NO_EVIDENCE
    assert "Backup Policy" in answer.text
    assert answer.citations == []
    assert "for ever" not in answer.text


def test_no_source_at_all_is_said_in_the_language_of_the_question() -> None:
    assert no_evidence("Wie lange werden Sicherungen aufbewahrt und wo?", []).text.startswith(
        "Kein Dokument"
    )
    assert no_evidence(QUESTION, []).text.startswith("No documents")


def test_a_stream_of_shown_sentences_is_the_assembled_text() -> None:
    drafts = checked(sentence(KEPT, KEPT), sentence("Unfounded."), sentence(TESTED, TESTED))
    citations = Citations()
    language = reader_language(QUESTION)
    streamed = [shown(draft, citations, Unsupported.DROP, language) for draft in drafts]
    answer = assembled(QUESTION, drafts, SOURCES)
    assert " ".join(text for text in streamed if text) == answer.text
    assert citations.all == answer.citations


def test_drafts_are_checked_and_the_unsupported_counted() -> None:
    found = assemble([sentence(KEPT, KEPT), sentence("Unfounded.")], SOURCES, question=QUESTION)
    assert (found.answer.text, found.unsupported) == ("Backups are kept for 35 days [1].", 1)
    assert assemble([sentence(KEPT, KEPT)], SOURCES).unsupported == 0
