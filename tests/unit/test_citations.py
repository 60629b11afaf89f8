import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from benchmarks.unsupported import run
from compliance_copilot.core.vocabulary import DraftSentence, Quote
from compliance_copilot.rag.citations import Reason, check
from tests.unit.sources import source

RULE = "Backups of customer data must be kept for 30 days and must not leave the second site."
TEXT = f"Purpose of this page.\r\n\r\n{RULE} The CISO reviews them every quarter from 3 May 2026."
SOURCES = [
    source(TEXT, start=4_000),
    source("Visitors may enter with an escort.", document="visitors"),
]

words = st.text(
    st.sampled_from("abcdefgXYZ äöß😀é—–“”‘’\u00a0\r\n\t012.,:()"), min_size=1, max_size=60
)


def reasons(text: str, quote: str = RULE, source_number: int = 0) -> tuple[Reason, ...]:
    return check(DraftSentence(text, (Quote(source_number, quote),)), SOURCES).reasons


def test_a_faithful_sentence_is_supported_and_its_quote_has_the_stored_offsets() -> None:
    checked = check(
        DraftSentence("Customer data backups must be kept for 30 days.", (Quote(0, RULE),)), SOURCES
    )
    assert checked.supported
    (quote,) = checked.quotes
    assert (quote.text, quote.start) == (RULE, 4_000 + TEXT.index(RULE))
    assert quote.end - quote.start == len(RULE)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Backups of customer data must be kept for 31 days.", Reason.NUMBER),
        ("Backups of customer data must be kept for 30 hours.", Reason.NUMBER),
        ("Backups of customer data must be kept for thirty-one days.", Reason.NUMBER),
        ("Backups of customer data may be kept for 30 days.", Reason.MODAL),
        ("Backups of customer data must not be kept for 30 days.", Reason.NEGATION),
        ("Customer data must leave the second site.", Reason.NEGATION),
        ("Backups of customer data must be kept for 30 days since 4 May 2026.", Reason.DATE),
        ("Backups of customer data must be kept for 30 days in Norway.", Reason.NAME),
        ("The canteen opens at noon and serves soup.", Reason.SUBJECT),
    ],
)
def test_what_the_quote_does_not_carry_makes_a_sentence_unsupported(
    text: str, reason: Reason
) -> None:
    assert reason in reasons(text)


@pytest.mark.parametrize(
    "text",
    [
        "Backups of customer data must be kept for thirty days.",
        "Backups must not leave the second site.",
        "Customer data backups shall be kept 30 days.",
        RULE,
    ],
)
def test_an_honest_retelling_is_supported(text: str) -> None:
    assert reasons(text) == ()


def test_a_quote_of_another_source_or_of_none_does_not_count() -> None:
    assert reasons(RULE, source_number=1) == (Reason.QUOTE_NOT_FOUND,)
    assert reasons(RULE, source_number=2) == (Reason.UNKNOWN_SOURCE,)
    assert reasons(RULE, source_number=-1) == (Reason.UNKNOWN_SOURCE,)
    assert reasons(RULE, quote="Backups must be kept for ever") == (Reason.QUOTE_NOT_FOUND,)
    assert reasons(RULE, quote=" … ") == (Reason.QUOTE_NOT_FOUND,)
    assert check(DraftSentence(RULE, ()), SOURCES).reasons == (Reason.NO_QUOTE,)


def test_prose_with_a_marker_is_matched_against_the_source_it_names() -> None:
    checked = check(
        DraftSentence("Backups of customer data must be kept for 30 days [1].", ()), SOURCES
    )
    assert checked.supported
    assert checked.quotes[0].text == RULE
    assert checked.text == "Backups of customer data must be kept for 30 days."
    wrong = check(
        DraftSentence("Backups of customer data must be kept for 30 days [2].", ()), SOURCES
    )
    assert not wrong.supported
    assert check(DraftSentence(f"{RULE} [9]", ()), SOURCES).reasons == (Reason.UNKNOWN_SOURCE,)


def test_a_quote_that_leaves_something_out_becomes_its_parts_in_order() -> None:
    checked = check(
        DraftSentence(
            RULE, (Quote(0, "Backups of customer data … must not leave the second site"),)
        ),
        SOURCES,
    )
    assert [quote.text for quote in checked.quotes] == [
        "Backups of customer data", "must not leave the second site",
    ]  # fmt: skip
    backwards = Quote(0, "must not leave the second site … Backups of customer data")
    assert check(DraftSentence(RULE, (backwards,)), SOURCES).reasons == (Reason.QUOTE_NOT_FOUND,)


@given(before=words, quote=words, after=words, start=st.integers(0, 10_000))
def test_a_planted_quote_is_found_where_it_stands(
    before: str, quote: str, after: str, start: int
) -> None:
    assume(re.search(r"\w", quote))
    text = before + quote + after
    checked = check(DraftSentence("x", (Quote(0, quote),)), [source(text, start=start)])
    assert checked.quotes
    for found in checked.quotes:
        assert text[found.start - start : found.end - start] == found.text


# Begun with a word, so that every quote has something to be found by.
@given(before=words, quote=words.map("rule ".__add__), after=words)
def test_a_quote_in_other_typography_is_found_verbatim(before: str, quote: str, after: str) -> None:
    typed = re.sub(r"\s+", " ", quote).translate(
        str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "—": "-", "–": "-"})
    )
    text = before + quote + after
    checked = check(DraftSentence("x", (Quote(0, typed),)), [source(text)])
    assert checked.quotes
    assert all(text[found.start : found.end] == found.text for found in checked.quotes)


@given(
    st.integers(2, 5_000),
    st.integers(1, 500),
    st.sampled_from(["days", "hours", "percent", "files"]),
)
def test_a_mutated_number_is_always_caught(number: int, more: int, unit: str) -> None:
    stored = f"Each team deletes its records after {number} {unit} of rest."
    honest = DraftSentence(f"Records are deleted after {number} {unit}.", (Quote(0, stored),))
    mutated = DraftSentence(
        f"Records are deleted after {number + more} {unit}.", (Quote(0, stored),)
    )
    assert check(honest, [source(stored)]).supported
    assert Reason.NUMBER in check(mutated, [source(stored)]).reasons


def test_planted_unsupported_sentences_are_caught_without_refusing_honest_ones() -> None:
    total, caught, good, misses = run(seed=3, rounds=2)
    alarms = [miss for miss in misses if not miss.startswith("missed")]
    assert sum(caught.values()) >= 0.95 * sum(total.values()), misses
    assert len(alarms) <= 0.02 * good, alarms


def test_an_address_is_told_in_the_documents_words_alone() -> None:
    found = [source("Incidents are reported at https://acme.test/incidents within a day.")]
    whole = "Incidents are reported at https://acme.test/incidents within a day."
    assert check(DraftSentence(whole, (Quote(0, whole),)), found).supported
    told = check(
        DraftSentence(
            "See https://acme.test/incidents now.", (Quote(0, "https://acme.test/incidents"),)
        ),
        found,
    )
    assert told.reasons == (Reason.ADDRESS,)
