"""The query cache: bounded, of one corpus version, no tenant at another's cost."""

import gc
from dataclasses import replace
from uuid import UUID

from compliance_copilot.core.vocabulary import (
    Chunk,
    Citation,
    EffectiveConfig,
    Outcome,
    QueryReply,
    ReplyMetadata,
    RetrievalMode,
    ScoredChunk,
    TenantId,
)
from compliance_copilot.rag.query_cache import (
    CacheKey,
    CacheLimits,
    QueryCache,
    normalized,
)
from compliance_copilot.rag.reading import Reading

ACME, BETA = TenantId("acme"), TenantId("beta")
CHUNK = Chunk(
    UUID(int=7), "policy", 3, 2, 10, 18, "It is so", "Policy", "§ 1 Größe", 4, {"a": [1.5, None]},
    ("Top", "§ 1 Größe"),
)  # fmt: skip


def reply(text: str = "It is so.") -> QueryReply:
    told = ReplyMetadata(
        ACME, UUID(int=1), "gpt-4", None, 0, 0, 0, 0.1, 1.0, RetrievalMode.HYBRID,
        fallback={"attempts": [{"outcome": "ok"}]}, steps=[{"action": "search", "found": 2}],
    )  # fmt: skip
    sources = [ScoredChunk(CHUNK, 0.7, 1 / 3, None, suspicious=True), ScoredChunk(CHUNK, 0.1)]
    return QueryReply(text, Outcome.ANSWERED, sources, [Citation(1, 0, "It is", 10, 15)], told)


def key(question: str = "q", tenant: TenantId = ACME, version: int = 1) -> CacheKey:
    return CacheKey(tenant, version, EffectiveConfig(), question)


def size_of_one() -> int:
    cache = QueryCache()
    cache.put(key(), reply(), seconds=10)
    return cache.size


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_a_reply_is_found_until_its_time_is_over() -> None:
    clock = Clock()
    cache = QueryCache(now=clock)
    cache.put(key(), reply(), seconds=10)
    clock.seconds = 9.9
    assert cache.get(key()) == reply()
    clock.seconds = 10
    assert cache.get(key()) is None
    assert cache.size == 0


def test_a_kept_reply_is_equal_and_nothing_of_it_is_walked_through_by_the_collector() -> None:
    cache = QueryCache()
    one = replace(reply(), written=b"{}")
    read = replace(CHUNK, reading=Reading(CHUNK.text))
    one.sources[0] = replace(one.sources[0], chunk=read)
    cache.put(key(), one, seconds=10)
    kept = cache.get(key())
    assert kept == one
    assert kept is not None
    assert kept.written is None
    assert kept.sources[0].chunk.reading is None
    before = len(gc.get_objects())
    for number in range(100):
        cache.put(key(str(number)), one, seconds=10)
    assert len(gc.get_objects()) - before < 1_000


def test_everything_that_an_answer_depends_on_tells_questions_apart() -> None:
    cache = QueryCache()
    cache.put(key(), reply(), seconds=10)
    assert cache.get(key())
    for other in (
        key("another"),
        key(tenant=BETA),
        replace(key(), config=EffectiveConfig(top_k=9)),
        replace(key(), narrowing=("category", "hr")),
    ):
        assert cache.get(other) is None


def test_a_newer_corpus_empties_the_tenants_shelf_and_an_older_one_is_not_mixed_in() -> None:
    cache = QueryCache()
    cache.put(key(), reply(), seconds=10)
    cache.put(key(tenant=BETA), reply(), seconds=10)
    assert cache.get(key(version=2)) is None
    assert cache.size == size_of_one()
    cache.put(key(version=1), reply("old"), seconds=10)
    assert cache.get(key(version=1)) is None
    assert cache.get(key(tenant=BETA))


def test_a_tenants_shelf_is_bounded_and_what_is_used_least_goes_first() -> None:
    cache = QueryCache(CacheLimits(entries_per_tenant=2))
    for question in ("one", "two"):
        cache.put(key(question), reply(), seconds=10)
    assert cache.get(key("one"))
    cache.put(key("three"), reply(), seconds=10)
    assert [bool(cache.get(key(q))) for q in ("one", "two", "three")] == [True, False, True]


def test_the_largest_shelf_gives_way_when_all_are_too_large() -> None:
    one = size_of_one()
    cache = QueryCache(CacheLimits(total_bytes=3 * one, share_of_a_tenant=1.0))
    cache.put(key("quiet", BETA), reply(), seconds=10)
    for number in range(20):
        cache.put(key(str(number)), reply(), seconds=10)
    assert cache.size == 3 * one
    assert cache.get(key("quiet", BETA))
    assert [n for n in range(20) if cache.get(key(str(n)))] == [18, 19]


def test_no_room_keeps_nothing() -> None:
    cache = QueryCache(CacheLimits(total_bytes=0))
    cache.put(key(), reply(), seconds=10)
    assert (cache.get(key()), cache.size) == (None, 0)


def test_a_forgotten_tenant_leaves_nothing_and_others_stay() -> None:
    cache = QueryCache()
    for tenant in (ACME, BETA):
        cache.put(key(tenant=tenant), reply(), seconds=10)
    cache.forget(ACME)
    assert cache.get(key()) is None
    assert cache.get(key(tenant=BETA))
    assert cache.size == size_of_one()


def test_spaces_and_composed_letters_make_no_other_question_but_case_does() -> None:
    assert normalized("  How\tlong \n is  it? ") == "How long is it?"
    assert normalized("Pru\u0308fung") == normalized("Pr\u00fcfung")
    assert normalized("IT") != normalized("it")
