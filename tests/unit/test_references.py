"""What a text refers to is read off its words; numbers that are no references are not."""

import pytest

from compliance_copilot.rag.references import MOST_REFERENCES, references


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("Exceptions follow section 4.2.", ["4.2"]),
        ("as required by Rule 3.4.1(b)", ["3.4.1"]),
        ("pursuant to Article 28 of the Regulation", ["28"]),
        ("see sections 4.2, 4.3 and 5.1 below", ["4.2", "4.3", "5.1"]),
        ("nach § 5 Abs. 2 und Abschnitt 7.3", ["5", "7.3"]),
        ("Control A.8.24 applies", ["A.8.24"]),
        ("in Annex B.2", ["B.2"]),
    ],
)
def test_references_are_found(text: str, numbers: list[str]) -> None:
    assert [reference.number for reference in references([text])] == numbers


@pytest.mark.parametrize(
    "text",
    [
        "Keys are rotated every 90 days.",
        "TLS 1.2 or higher is used.",
        "The section on keys applies.",
        "In part because of AES-256.",
    ],
)
def test_other_numbers_are_no_references(text: str) -> None:
    assert references([text]) == ()


def test_a_number_counts_once_and_there_are_never_too_many() -> None:
    assert len(references(["section 4.2", "Section 4.2"])) == 1
    assert len(references([f"section 1.{n}" for n in range(50)])) == MOST_REFERENCES
