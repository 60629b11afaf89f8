"""BM25 by hand, by the literal formula, and in its limits."""

from math import isclose, log

from hypothesis import given
from hypothesis import strategies as st

from compliance_copilot.rag import bm25

CHUNKS = ({1: 2, 2: 1}, {2: 3}, {3: 1})

corpora = st.lists(
    st.dictionaries(st.integers(1, 9), st.integers(1, 20), max_size=6), min_size=1, max_size=8
)
questions = st.dictionaries(st.integers(1, 9), st.integers(1, 3), max_size=5)


def test_a_score_worked_out_by_hand() -> None:
    # Lengths 3, 3, 1, average 7/3. Term 1: idf = ln(1 + 2.5/1.5) = 0.980829; tf part of chunk 0 =
    # 2 * 2.2 / (2 + 1.2 * (0.25 + 0.75 * 9/7)) = 4.4 / 3.457143 = 1.272727.
    stored = bm25.document_weights(CHUNKS[0], length=3, average_length=7 / 3, k1=1.2, b=0.75)
    question = bm25.query_weights({1: 1}, {1: 1, 2: 2, 3: 1}, 3)
    assert isclose(bm25.inner_product(question, stored), 0.980829 * 1.272727, rel_tol=1e-6)


def literal_score(
    question: dict[int, int], chunk: dict[int, int], corpus: list[dict[int, int]]
) -> float:
    average = sum(sum(other.values()) for other in corpus) / len(corpus)
    score = 0.0
    for term, count in question.items():
        frequency = sum(term in other for other in corpus)
        if term not in chunk:
            continue
        rarity = log(1 + (len(corpus) - frequency + 0.5) / (frequency + 0.5))
        tf = chunk[term]
        length = sum(chunk.values()) / average
        score += count * rarity * tf * 2.2 / (tf + 1.2 * (1 - 0.75 + 0.75 * length))
    return score


@given(corpora, questions)
def test_the_inner_product_is_the_literal_formula(
    corpus: list[dict[int, int]], question: dict[int, int]
) -> None:
    frequencies = {t: sum(t in chunk for chunk in corpus) for t in range(1, 10)}
    average = sum(sum(chunk.values()) for chunk in corpus) / len(corpus)
    weights = bm25.query_weights(question, frequencies, len(corpus))
    for chunk in corpus:
        stored = bm25.document_weights(
            chunk, length=sum(chunk.values()), average_length=average, k1=1.2, b=0.75
        )
        expected = literal_score(question, chunk, corpus)
        assert isclose(bm25.inner_product(weights, stored), expected, abs_tol=1e-9)


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_idf_is_never_negative_and_falls_with_frequency(a: int, b: int) -> None:
    low, high = sorted((a, b))
    assert bm25.idf(low, 1000) >= bm25.idf(high, 1000) >= 0.0


@given(st.integers(1, 10**6), st.integers(1, 10**4))
def test_a_weight_saturates_below_k1_plus_1(tf: int, length: int) -> None:
    (weight,) = bm25.document_weights({1: tf}, length=length, average_length=100.0).values()
    assert 0.0 < weight <= bm25.K1 + 1.0


def test_a_longer_chunk_with_the_same_word_scores_less() -> None:
    short = bm25.document_weights({1: 1}, length=50, average_length=100.0)
    long = bm25.document_weights({1: 1}, length=200, average_length=100.0)
    assert short[1] > long[1]


def test_a_term_that_no_chunk_has_is_left_out() -> None:
    assert bm25.query_weights({1: 1, 2: 1}, {1: 4}, 10).keys() == {1}


def test_a_corpus_without_a_single_term_divides_by_nothing() -> None:
    assert bm25.document_weights({}, length=0, average_length=0.0) == {}
    assert bm25.document_weights({1: 1}, length=1, average_length=0.0)[1] == 1.0
