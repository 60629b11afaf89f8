# ruff: noqa: E501  (cases read best one to a line)
import pytest

from compliance_copilot.core.vocabulary import DraftSentence, Outcome, Quote
from compliance_copilot.rag.answering import assembled
from compliance_copilot.rag.citations import check
from compliance_copilot.rag.conflicts import Conflict, Disagreement, conflicts
from tests.unit.sources import source


def found(one: str, other: str, *, same_document: bool = False) -> list[Conflict]:
    sources = [
        source(one, document="a"),
        source(other, document="a" if same_document else "b", start=900),
    ]
    return conflicts(check(DraftSentence(one, (Quote(0, one),)), sources).quotes, sources)


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        ("Backups of customer data are kept for 30 days.", "Backups of customer data are kept for 90 days.", "number"),
        ("Sessions at the console end after 30 minutes.", "Sessions at the console end after 30 hours.", "number"),
        ("Backups of customer data must be kept 30 days.", "Customer data backups must be kept for 2 years.", "number"),
        ("User passwords need at least 12 characters.", "User passwords need at least 16 characters.", "number"),
        ("The supplier contract ends on 3 May 2026.", "The supplier contract ends on 9 June 2027.", "date"),
        ("Private devices may connect to the office network.", "Private devices must not connect to the office network.", "polarity"),
        ("Sicherungen der Kundendaten werden 30 Tage aufbewahrt.", "Sicherungen der Kundendaten werden 90 Tage aufbewahrt.", "number"),
    ],
)  # fmt: skip
def test_two_documents_that_disagree_are_told(one: str, other: str, kind: str) -> None:
    (conflict,) = found(one, other)
    assert conflict.kind is Disagreement(kind)
    assert (conflict.one.text, conflict.other.text) == (one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Backups of customer data are kept for 24 hours.", "Backups of customer data are kept for 1 day."),
        ("Sessions at the console end after 60 minutes.", "Sessions at the console end after 1 hour."),
        ("Backups of customer data are kept for 30 days.", "Visitor logs of the front desk are kept for 90 days."),
        ("Standard accounts need 12 characters in a password.", "Privileged administrator accounts need 16 characters."),
        ("Private devices may connect to the guest network.", "Private devices must not connect to the production control systems."),
        ("See section 4 for the retention of customer data backups.", "See section 7 for the retention of customer data backups."),
        ("Backups of customer data are kept for 30 days.", "Backups of customer data are encrypted."),
    ],
)  # fmt: skip
def test_what_only_sounds_alike_is_no_conflict(one: str, other: str) -> None:
    assert found(one, other) == []


def test_one_document_does_not_conflict_with_itself() -> None:
    one, other = "Customer backups are kept for 30 days.", "Customer backups are kept for 90 days."
    assert found(one, other, same_document=True) == []
    assert found(one, other) != []


def test_a_conflicting_answer_shows_both_sides_with_their_citations() -> None:
    one, other = "Customer backups are kept for 30 days.", "Customer backups are kept for 90 days."
    sources = [
        source(one, document="a", title="Old policy"),
        source(other, document="b", title="New policy"),
    ]
    checked = [check(DraftSentence(one, (Quote(0, one),)), sources)]
    answer = assembled("How long are customer backups kept?", checked, sources)
    assert answer.outcome is Outcome.CONFLICTING_EVIDENCE
    assert "30 days” (Old policy) [1]" in answer.text
    assert "90 days” (New policy) [2]" in answer.text
    assert [citation.source for citation in answer.citations] == [0, 1]
