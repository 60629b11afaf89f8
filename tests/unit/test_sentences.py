# ruff: noqa: E501  (cases read best one to a line)
from hypothesis import given
from hypothesis import strategies as st

from compliance_copilot.rag.sentences import Kind, spans

PIECES = st.lists(
    st.sampled_from(
        ["# Title", "- item one.", "1. First", "| a | b |", "```", "Dr. Smith approves.", "4.2 Keys",
         "Am 3. November.", "\r\n", "\n\n", "  \n", " ", "😀", "\u00a0", "e.g. this", "word", ".", ":", "> quoted"]
    ),
    max_size=30,
)  # fmt: skip


def parts(text: str) -> list[tuple[Kind, str]]:
    return [(span.kind, text[span.start : span.end]) for span in spans(text)]


def prose(text: str) -> list[str]:
    return [part for kind, part in parts(text) if kind is Kind.PROSE]


def test_abbreviations_and_numbers_do_not_end_a_sentence() -> None:
    text = "Keys live, e.g. in an HSM, for 4.2 years (see Art. 5). Dr. Smith approves it. Then it ends."
    assert prose(text) == [
        "Keys live, e.g. in an HSM, for 4.2 years (see Art. 5).",
        "Dr. Smith approves it.",
        "Then it ends.",
    ]


def test_german_ordinals_do_not_end_a_sentence_and_full_stops_do() -> None:
    text = "Am 3. November gilt z. B. die Regel. Bitte bis zum 12. Mai melden. Danach nicht."
    assert prose(text) == [
        "Am 3. November gilt z. B. die Regel.",
        "Bitte bis zum 12. Mai melden.",
        "Danach nicht.",
    ]


def test_blocks_of_markdown_are_told_apart() -> None:
    text = "# Policy\n\nIt applies to:\n\n- all staff\n- guests\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```\nx. y\n```\n"
    assert parts(text) == [
        (Kind.HEADING, "Policy"),
        (Kind.PROSE, "It applies to:"),
        (Kind.ITEM, "all staff"),
        (Kind.ITEM, "guests"),
        (Kind.ROW, "| a | b |"),
        (Kind.ROW, "| 1 | 2 |"),
        (Kind.CODE, "```\nx. y\n```"),
    ]


def test_a_numbered_title_without_markdown_is_a_heading_and_a_numbered_rule_is_none() -> None:
    assert parts("4.2 Encryption at rest\n\n4.3 Keys must be rotated.") == [
        (Kind.HEADING, "Encryption at rest"),
        (Kind.ITEM, "Keys must be rotated."),
    ]


def test_a_wrapped_line_that_begins_with_a_number_is_no_item() -> None:
    assert (
        prose("Data is deleted within at most\n30. of June or later, whatever comes first.\n") != []
    )
    assert all(kind is Kind.PROSE for kind, _ in parts("Data is deleted on page\n12. The rest."))


@given(PIECES)
def test_spans_are_in_order_disjoint_and_trimmed(pieces: list[str]) -> None:
    text = "\n".join(pieces)
    end = 0
    for span in spans(text):
        assert end <= span.start < span.end <= len(text)
        assert text[span.start : span.end] == text[span.start : span.end].strip()
        end = span.end


@given(st.text(max_size=300))
def test_any_text_can_be_read(text: str) -> None:
    assert all(text[span.start : span.end].strip() for span in spans(text))
