"""What counts as a term, and that it is the same term everywhere."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance_copilot.rag import analysis

KNOWN = {"encrypt": 195083109, "key": 367321768, "encrypt key": 564302271}


def spelled(text: str, language: str = "en") -> set[str]:
    return set(analysis.term_strings(text, language).values())


def test_words_are_lowered_stemmed_and_paired_without_stop_words() -> None:
    assert spelled("The Encryption of backups") == {"encrypt", "backup", "encrypt backup"}


def test_german_words_are_stemmed_as_german() -> None:
    assert analysis.terms("Die Verschlüsselungen", "de") == analysis.terms("Verschlüsselung", "de")
    assert analysis.terms("Die Verschlüsselungen", "en") != analysis.terms("Verschlüsselung", "en")


def test_a_section_number_is_one_term() -> None:
    assert spelled("Rule 4.2.1.") == {"rule", "4.2.1", "rule 4.2.1"}


def test_an_identifier_is_found_whole_and_by_its_parts() -> None:
    assert {"tls-1-3", "tls", "1", "3"} <= spelled("TLS-1.3")
    assert {"27001", "iso", "iec"} <= spelled("ISO/IEC 27001")


def test_a_hyphenated_word_is_its_parts() -> None:
    assert analysis.terms("write-down", "en") == analysis.terms("write down", "en")


def test_curly_apostrophes_and_soft_hyphens_do_not_matter() -> None:
    assert analysis.terms("the Regulator’s en\u00adcryption", "en") == analysis.terms(
        "the Regulator's encryption", "en"
    )


def test_abbreviated_function_words_are_stop_words() -> None:
    assert spelled("e.g. backups") == {"backup"}


def test_the_order_of_a_pair_matters_and_its_repetition_counts() -> None:
    forth, back = analysis.terms("risk owner", "en"), analysis.terms("owner risk", "en")
    assert {t for t in forth if not analysis.is_bigram(t)} == {
        t for t in back if not analysis.is_bigram(t)
    }
    assert forth != back
    assert sorted(analysis.terms("audit audit", "en").values()) == [1, 2]


def test_a_script_without_spaces_is_taken_letter_by_letter() -> None:
    assert {"情", "報", "情 報"} <= spelled("情報")


@pytest.mark.parametrize("text", ["", "   ", "the of and", "!?… —"])
def test_a_text_without_content_has_no_terms(text: str) -> None:
    assert analysis.terms(text, "en") == {}
    assert analysis.document_length(analysis.terms(text, "en")) == 0


def test_an_unknown_language_counts_as_english() -> None:
    assert analysis.terms("policies", "xx") == analysis.terms("policies", "en")


@given(st.text(), st.sampled_from(analysis.LANGUAGES))
def test_any_text_gives_ids_that_a_sparse_vector_holds(text: str, language: str) -> None:
    counts = analysis.terms(text, language)
    assert all(1 <= term_id < 1_000_000_000 for term_id in counts)
    assert all(count >= 1 for count in counts.values())
    assert set(analysis.term_strings(text, language)) == set(counts)


def test_a_huge_text_keeps_the_sparse_vectors_bound_and_its_single_words() -> None:
    words = [f"w{n}" for n in range(12_000)]
    counts = analysis.terms(" ".join(words), "en")
    assert len(counts) == analysis.MAX_TERMS
    assert sum(not analysis.is_bigram(term_id) for term_id in counts) == 12_000


def test_ids_are_the_same_in_another_process() -> None:
    program = (
        "from compliance_copilot.rag import analysis;"
        "print(sorted(analysis.terms('Keys are rotated under 4.2.1', 'en')))"
    )
    told = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == str(sorted(analysis.terms("Keys are rotated under 4.2.1", "en")))


def test_known_ids_do_not_change_between_releases() -> None:
    assert analysis.terms("encryption key", "en") == {
        KNOWN["encrypt"]: 1,
        KNOWN["key"]: 1,
        KNOWN["encrypt key"]: 1,
    }


def test_threads_agree_with_one_another() -> None:
    texts = [f"running audits {n} of controlled policies" for n in range(200)]
    alone = [analysis.terms(text, "en") for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda text: analysis.terms(text, "en"), texts)) == alone


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Which of the keys are rotated, and how often should that be done?", "en"),
        ("Wie oft werden die Schlüssel gewechselt und wer ist dafür verantwortlich?", "de"),
        ("À quelle fréquence les clés sont-elles changées dans les systèmes?", "fr"),
        ("AES-256", "en"),
        ("", "en"),
    ],
)
def test_the_language_is_told_by_its_function_words(text: str, language: str) -> None:
    assert analysis.detect_language(text) == language


def test_a_german_keyword_question_meets_german_documents() -> None:
    document = analysis.terms("Alle Verschlüsselungen werden geprüft.", "de")
    question = "Verschlüsselung"
    assert not analysis.query_terms(question, ["en"]).keys() & document.keys()
    assert analysis.query_terms(question, ["en", "de"]).keys() & document.keys()


def test_stop_words_of_the_question_stay_out_in_every_language() -> None:
    assert analysis.query_terms("What is the backup?", ["de"]) == analysis.terms("backup", "en")


def test_a_question_that_shows_its_language_is_asked_in_that_one_alone() -> None:
    english = "How is the reporting of the incidents checked?"
    assert analysis.query_terms(english, ["en", "de"]) == analysis.terms(english, "en")
    german = "Wie werden die Verschlüsselungen geprüft?"
    assert analysis.query_terms(german, ["en", "de"]) == analysis.terms(german, "de")
    unclear = "reporting incidents"
    both = analysis.terms(unclear, "en").keys() | analysis.terms(unclear, "de").keys()
    assert analysis.query_terms(unclear, ["en", "de"]).keys() == both


def test_a_word_alone_is_read_as_in_a_sentence_before_and_after_it_was_met() -> None:
    words = ["sleutels", "crm-2", "o’brien", "u.s.a", "naïve", "beleid", "de", "第"]
    alone = [analysis.word_stems(word, "nl") for word in words]
    together = analysis.word_stems(", ".join(words), "nl")
    assert [analysis.word_stems(word, "nl") for word in words] == alone
    assert together == [stem for stems in alone for stem in stems]
    assert {"crm-2", "usa"} <= set(together)
    assert "de" not in together
