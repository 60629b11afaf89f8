"""What ingest stores, and that the statistics are a function of the corpus alone."""

from dataclasses import replace

import asyncpg
import pytest

from compliance_copilot.core.errors import InvalidRequest, LimitReached
from compliance_copilot.core.vocabulary import NewDocument
from compliance_copilot.orchestrator import Service
from compliance_copilot.rag import analysis
from compliance_copilot.rag.frequencies import MANY_TERMS
from compliance_copilot.storage.vectors import decode_sparse
from tests.conftest import make_customer

SHORT = NewDocument("# Backups\n\nBackups are kept for thirty days in a second place.", "backups")
LONG = NewDocument(
    "# Passwords\n\n"
    + "\n\n".join(
        f"## {n}. Rule\n\nA password for system {n} has at least {n + 10} characters, is never "
        f"shared, never written down, and changed within {n} days after a suspicion."
        for n in range(1, 30)
    ),
    "passwords",
)
GERMAN = NewDocument(
    "# Löschung\n\nKundendaten werden nach sieben Jahren gelöscht. Die Löschung wird vom "
    "Datenschutzbeauftragten bestätigt und im Protokoll festgehalten.",
    "loeschung",
)
QUESTIONS = (
    "How long are backups kept?",
    "How many characters does a password for system 7 have?",
    "Wann werden Kundendaten gelöscht?",
)


async def ranking(service: Service, tenant_id: str) -> list[object]:
    found = []
    for question in QUESTIONS:
        reply = await service.copilot.search(
            tenant_id, question, override_config={"retrieval_mode": "hybrid", "top_k": 20}
        )
        found.append(
            [
                (r.chunk.document_id, r.chunk.ordinal, *_rounded(r.score, r.dense, r.sparse))
                for r in reply.results
            ]
        )
    return found


def _rounded(*scores: float | None) -> list[float | None]:
    # Sums of floats depend in their last bits on where a row lies in memory.
    return [None if score is None else round(score, 5) for score in scores]


async def statistics(owner: asyncpg.Connection, tenant_id: str) -> dict[int, int]:
    rows = await owner.fetch(
        "SELECT term_id, document_frequency FROM term_statistics WHERE tenant_id = $1", tenant_id
    )
    counts = {row["term_id"]: row["document_frequency"] for row in rows}
    assert all(count > 0 for count in counts.values())
    blocks = "SELECT frequencies FROM term_blocks WHERE tenant_id = $1"
    for row in await owner.fetch(blocks, tenant_id):
        for term, count in decode_sparse(row["frequencies"]).items():
            assert count > 0
            counts[term] = counts.get(term, 0) + int(count)
    return counts


async def recounted(owner: asyncpg.Connection, tenant_id: str) -> dict[int, int]:
    rows = await owner.fetch(
        "SELECT sparse FROM chunk_vectors WHERE tenant_id = $1 AND effective_until = 'infinity'",
        tenant_id,
    )
    counts: dict[int, int] = {}
    for row in rows:
        for term in decode_sparse(row["sparse"]):
            counts[term] = counts.get(term, 0) + 1
    return counts


@pytest.fixture
async def owner_of_vectors(owner: asyncpg.Connection) -> asyncpg.Connection:
    from compliance_copilot.storage import vectors

    await vectors.register(owner)
    return owner


async def test_the_order_of_ingestion_changes_no_rank_and_no_score(service: Service) -> None:
    for tenant_id, order in (
        ("forward", [SHORT, LONG, GERMAN]),
        ("backward", [GERMAN, LONG, SHORT]),
    ):
        await make_customer(service, tenant_id)
        for document in order:
            await service.copilot.ingest(tenant_id, [document])
    await make_customer(service, "at_once")
    await service.copilot.ingest("at_once", [LONG, SHORT, GERMAN])
    expected = await ranking(service, "forward")
    assert all(expected)
    assert await ranking(service, "backward") == expected
    assert await ranking(service, "at_once") == expected


async def test_document_frequencies_equal_a_recount_after_updates_and_deletions(
    service: Service, owner_of_vectors: asyncpg.Connection
) -> None:
    await make_customer(service, "acme")
    await service.copilot.ingest("acme", [SHORT, LONG, GERMAN])
    changed = replace(LONG, text=LONG.text.replace("password", "passphrase"))
    await service.copilot.ingest("acme", [changed])
    await service.copilot.documents.delete("acme", "backups")
    counted = await statistics(owner_of_vectors, "acme")
    assert counted
    assert counted == await recounted(owner_of_vectors, "acme")


def many_words(first: int) -> NewDocument:
    """Return a document with more different terms than are counted row by row."""
    rules = "\n\n".join(
        f"## Rule {n}\n\n" + " ".join(f"word{n}x{m}" for m in range(60))
        for n in range(first, first + MANY_TERMS // 60)
    )
    return NewDocument(f"# Rules\n\nPasswords of backups are kept.\n\n{rules}", f"rules-{first}")


async def test_frequencies_are_the_same_in_rows_and_in_blocks(
    service: Service, owner_of_vectors: asyncpg.Connection
) -> None:
    await make_customer(service, "acme")
    await make_customer(service, "beta")
    first, second = many_words(0), many_words(10)
    await service.copilot.ingest("acme", [SHORT])
    await service.copilot.ingest("acme", [first, second])
    packed = "SELECT count(*) FROM term_blocks WHERE tenant_id = 'acme'"
    assert await owner_of_vectors.fetchval(packed) > 100
    await service.copilot.ingest("acme", [LONG, GERMAN])
    await service.copilot.ingest("acme", [second, replace(SHORT, text=SHORT.text + " So be it.")])
    await service.copilot.ingest("acme", [replace(first, text=LONG.text)])
    await service.copilot.documents.delete("acme", "passwords")
    counted = await statistics(owner_of_vectors, "acme")
    assert counted == await recounted(owner_of_vectors, "acme")
    assert counted[next(iter(analysis.terms("word12x7", "en")))] == 1
    assert not analysis.terms("word3x7", "en").keys() & counted.keys(), "nothing has it any more"
    found = await ranking(service, "acme")
    for document in (GERMAN, replace(SHORT, text=SHORT.text + " So be it.")):
        await service.copilot.ingest("beta", [document])
    await service.copilot.ingest("beta", [second])
    await service.copilot.ingest("beta", [replace(first, text=LONG.text)])
    assert await ranking(service, "beta") == found
    assert await statistics(owner_of_vectors, "beta") == counted


async def test_the_same_content_again_is_unchanged_and_moves_nothing(
    service: Service, owner: asyncpg.Connection
) -> None:
    await make_customer(service, "acme")
    first = await service.copilot.ingest("acme", [SHORT])
    version = await owner.fetchval("SELECT version FROM corpora WHERE tenant_id = 'acme'")
    again = await service.copilot.ingest("acme", [SHORT])
    assert [d.status for d in first.documents] == ["created"]
    assert [d.status for d in again.documents] == ["unchanged"]
    assert again.chunks_indexed == 0
    assert version == await owner.fetchval("SELECT version FROM corpora WHERE tenant_id = 'acme'")


async def test_changed_content_is_the_next_version_and_the_old_one_stays_readable(
    service: Service,
) -> None:
    await make_customer(service, "acme")
    await service.copilot.ingest("acme", [SHORT])
    new = replace(SHORT, text=SHORT.text.replace("thirty", "ninety"))
    reply = await service.copilot.ingest("acme", [new])
    assert [(d.status, d.version) for d in reply.documents] == [("updated", 2)]
    documents = service.copilot.documents
    assert "thirty" in await documents.text("acme", "backups", 1)
    assert "ninety" in await documents.text("acme", "backups", 2)
    found = await service.copilot.search("acme", "How long are backups kept?")
    assert {source.chunk.version for source in found.results} == {2}


async def test_a_failing_document_fails_the_call_and_nothing_is_half_stored(
    service: Service,
) -> None:
    await make_customer(service, "acme")
    with pytest.raises(InvalidRequest) as refused:
        await service.copilot.ingest("acme", [SHORT, NewDocument("  \n ", "empty")])
    assert refused.value.facts["field"] == "documents.1.text"
    assert await service.copilot.documents.list("acme") == []


async def test_the_limit_on_documents_counts_new_ones_only(service: Service) -> None:
    await make_customer(service, "acme", limits={"max_documents": 2})
    await service.copilot.ingest("acme", [SHORT, LONG])
    await service.copilot.ingest("acme", [replace(LONG, text=LONG.text + "\n\nAnd so on.")])
    with pytest.raises(LimitReached) as refused:
        await service.copilot.ingest("acme", [GERMAN])
    assert refused.value.facts["limit"] == "max_documents"
    assert len(await service.copilot.documents.list("acme")) == 2


async def test_every_chunk_is_the_text_at_its_offsets_and_knows_its_headings(
    service: Service,
) -> None:
    await make_customer(service, "acme")
    await service.copilot.ingest("acme", [LONG])
    text = await service.copilot.documents.text("acme", "passwords", 1)
    found = await service.copilot.search("acme", "password rule", override_config={"top_k": 100})
    assert len(found.results) == 29
    for source in found.results:
        chunk = source.chunk
        assert text[chunk.start : chunk.end] == chunk.text
        assert chunk.headings[0] == "Passwords"
        assert chunk.section == chunk.headings[-1]
        assert chunk.text.startswith(f"## {chunk.section}")


async def test_several_hundred_documents_in_one_call(service: Service) -> None:
    await make_customer(service, "acme")
    documents = [
        NewDocument(f"# Rule {n}\n\nRule {n} allows {n} exceptions a year.", f"rule-{n}")
        for n in range(400)
    ]
    reply = await service.copilot.ingest("acme", documents)
    assert len(reply.documents) == reply.chunks_indexed == 400


async def test_a_text_without_a_word_is_stored_and_has_no_chunk(service: Service) -> None:
    await make_customer(service, "acme")
    reply = await service.copilot.ingest("acme", [NewDocument("... !? ...", "marks")])
    assert [(d.status, d.chunks) for d in reply.documents] == [("created", 0)]
    both = await service.copilot.ingest("acme", [NewDocument("-- -- --", "dashes"), SHORT])
    assert [d.chunks for d in both.documents] == [0, 1]
    assert await service.copilot.documents.text("acme", "dashes", 1) == "-- -- --"
