"""A question is parted where it asks for another thing, and nowhere else."""

import pytest

from compliance_copilot.rag.planning import MOST_PARTS, parts


@pytest.mark.parametrize(
    ("question", "told"),
    [
        (
            "Who approves exceptions to the password policy, and how long are they valid?",
            ("Who approves exceptions to the password policy", "how long are they valid"),
        ),
        (
            "What must be logged? How long are logs kept?",
            ("What must be logged", "How long are logs kept"),
        ),
        (
            "If a laptop is lost, who is told first and when must it be wiped?",
            (
                "If a laptop is lost, who is told first",
                "If a laptop is lost, when must it be wiped",
            ),
        ),
        (
            "Wer genehmigt den Zugang und wie lange gilt er für externe Kräfte?",
            ("Wer genehmigt den Zugang", "wie lange gilt er für externe Kräfte"),
        ),
    ],
)
def test_several_questions_in_one_are_told_apart(question: str, told: tuple[str, ...]) -> None:
    assert parts(question) == told


@pytest.mark.parametrize(
    "question",
    [
        "How are keys generated and stored?",
        "What is required of suppliers and contractors?",
        "If a laptop is lost, who is told?",
        "Why?",
        "retention of audit records",
    ],
)
def test_one_question_stays_one(question: str) -> None:
    assert len(parts(question)) == 1


def test_there_are_never_too_many_parts() -> None:
    question = " ".join(f"What is the rule on subject number {n}?" for n in range(20))
    assert len(parts(question)) == MOST_PARTS
