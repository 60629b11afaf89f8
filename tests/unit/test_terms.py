"""Terms of many chunks in columns: the same numbers as chunk by chunk, to the bit."""

import numpy as np
import pytest

from compliance_copilot.rag import analysis, bm25
from compliance_copilot.rag.frequencies import net_steps
from compliance_copilot.rag.terms import from_weights, joined
from compliance_copilot.storage.vectors import (
    decode_sparse,
    decode_sparse_rows,
    encode_dense_rows,
    encode_sparse,
    encode_sparse_rows,
)

TEXTS = [
    "Backups are kept for 30 days, backups of logs under 4.2.1-b for 90 days.",
    "",
    "...",
    "The owner of a risk reviews the risk; the Regulator\u2019s view is kept in writing.",
    "\u8cc7\u6599\u4fdd\u5b58 and one word",
    "Backups are kept for 30 days, backups of logs under 4.2.1-b for 90 days.",
    "x " * 300,
]


@pytest.mark.parametrize("language", ["en", "de", "fr"])
def test_columns_hold_what_each_chunk_has_alone(language: str) -> None:
    terms = analysis.chunk_terms(TEXTS, language)
    alone = [analysis.terms(text, language) for text in TEXTS]
    assert len(terms) == len(TEXTS)
    assert terms.rows(terms.counts.astype(np.float64)) == alone
    assert terms.lengths.tolist() == [analysis.document_length(counts) for counts in alone]
    assert len(analysis.chunk_terms([], language)) == 0


@pytest.mark.parametrize("average", [0.0, 1.0, 37.25, 400.0])
def test_weights_and_their_wire_form_are_those_of_each_chunk(average: float) -> None:
    terms = analysis.chunk_terms(TEXTS, "en")
    weights = terms.weights(average)
    alone = [
        bm25.document_weights(
            counts, length=analysis.document_length(counts), average_length=average
        )
        for counts in (analysis.terms(text, "en") for text in TEXTS)
    ]
    assert terms.rows(weights) == alone
    wires = encode_sparse_rows(terms.ids, weights, terms.starts)
    assert wires == [encode_sparse(row) for row in alone]
    assert [sorted(decode_sparse(wire)) for wire in wires] == [sorted(row) for row in alone]
    back = from_weights(
        *decode_sparse_rows(wires), lengths=terms.lengths.tolist(), average_length=average
    )
    assert back.rows(back.counts.astype(np.float64)) == [
        analysis.terms(text, "en") for text in TEXTS
    ]


def test_dense_rows_are_halves_one_after_another() -> None:
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    wires = encode_dense_rows(rows)
    assert [wire[:4] for wire in wires] == [b"\x00\x02\x00\x00"] * 3
    assert [np.frombuffer(w, ">f2", offset=4).tolist() for w in wires] == rows.tolist()
    assert encode_dense_rows(rows[:0]) == []


def test_frequencies_move_by_what_came_less_what_went() -> None:
    came, went = np.array([5, 9, 5, 7], dtype=np.int32), np.array([7, 5, 11], dtype=np.int32)
    terms, steps = net_steps(came, went)
    assert (terms.tolist(), steps.tolist()) == ([5, 9, 11], [1, 1, -1])
    assert net_steps(went[:0], went[:0])[0].tolist() == joined([]).tolist() == []
