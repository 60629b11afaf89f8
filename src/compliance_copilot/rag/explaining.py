"""What the score of a source is made of, for whoever asks. Must not enter: the ranking itself."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from compliance_copilot.rag import analysis
from compliance_copilot.rag.contenders import Contender
from compliance_copilot.rag.filter_language import spoken
from compliance_copilot.rag.filters import Filter
from compliance_copilot.rag.ports import RankedLists


def explained(
    letters: Mapping[int, str],
    lists: RankedLists,
    fused: Sequence[Contender],
    ranked: Sequence[Contender],
    filters: Filter | None,
) -> list[dict[str, Any]]:
    """Return an entry for each ranked chunk.

    `dense` (cosine) and `bm25` are null where that list does not name the chunk; `ranker` is null
    where the fusion's order stands. `letters` are those of the question's terms.
    """
    fusion = {contender.chunk_id: contender.score for contender in fused}
    reranked = fused is not ranked and lists.counts is not None
    return [
        {
            "path": lists.path,
            "dense": contender.dense,
            "bm25": contender.sparse,
            "fusion": fusion.get(contender.chunk_id),
            "ranker": contender.score if reranked else None,
            "matched_terms": _matched(lists, contender.chunk_id, letters),
            "filters": None if filters is None else spoken(filters),
        }
        for contender in ranked
    ]


def letters_of(question: str, languages: Sequence[str]) -> dict[int, str]:
    """Return the letters of a question's terms (stems, and pairs of them) by term id."""
    found: dict[int, str] = {}
    for language in dict.fromkeys((analysis.detect_language(question), *languages)):
        found = {**analysis.term_strings(question, language), **found}
    return found


def _matched(lists: RankedLists, chunk_id: UUID, letters: Mapping[int, str]) -> list[str]:
    if lists.counts is None:
        return []
    row = lists.counts.frequencies[lists.counts.rows[chunk_id]]
    met = [term for term, count in zip(lists.counts.terms, row.tolist(), strict=True) if count]
    return sorted({letters[term] for term in met if term in letters})
