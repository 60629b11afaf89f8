"""Filters mean the same in Python, in SQL and in Pinecone's language, and are refused clearly."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import orjson
import pytest

from compliance_copilot.adapters.filter_forms import pinecone_filter, pinecone_metadata, sql_filter
from compliance_copilot.core.errors import InvalidRequest
from compliance_copilot.rag.filter_language import FilterBody, narrowed, negated, spoken
from compliance_copilot.rag.filters import Facts, matches

NAMES = ("kind", "rank", "tags", "draft", "odd", "unheard", "it's", "metadata.and")
TEXTS = ("a", "B", "ü'; DROP TABLE chunks; --", "", "1", "true")
NUMBERS = (-1, 0, 0.0, 1, 1.0, 0.1, 2.5, 1e15, 2**53 - 1)
DAYS = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=n, microseconds=n) for n in range(4)]
IDS = ("alpha", "beta", "gamma")
SEED = 11


def some_metadata(numbers: random.Random) -> dict[str, Any]:
    made = {
        "kind": numbers.choice(TEXTS),
        "rank": numbers.choice(NUMBERS),
        "tags": numbers.choice((["a", "B"], [], ["a", 1, None], [1, 2], "a")),
        "draft": numbers.choice((True, False, None, 1)),
        "odd": numbers.choice(({"a": 1}, None, [[]], "x", 0, False)),
        "it's": numbers.choice(TEXTS),
        "and": numbers.choice(TEXTS),
    }
    return {name: value for name, value in made.items() if numbers.random() < 0.7}


def some_facts(numbers: random.Random) -> Facts:
    return Facts(
        numbers.choice(IDS), numbers.choice(DAYS), numbers.choice(DAYS), some_metadata(numbers)
    )


def some_condition(numbers: random.Random) -> tuple[str, Any]:
    place = numbers.random()
    if place < 0.15:
        operator = numbers.choice(("eq", "ne", "in", "nin"))
        value: Any = numbers.choice(IDS)
        return "document_id", {operator: [value] if operator in ("in", "nin") else value}
    operator = numbers.choice(("eq", "ne", "in", "nin", "gt", "gte", "lt", "lte", "exists"))
    if operator == "exists":
        return numbers.choice(NAMES), {"exists": numbers.random() < 0.5}
    if place < 0.35:
        name, pool = numbers.choice(("effective_from", "created_at")), [d.isoformat() for d in DAYS]
    else:
        name = numbers.choice(NAMES)
        ordered = operator in ("gt", "gte", "lt", "lte")
        pool = list(NUMBERS) if ordered else [*TEXTS, *NUMBERS, True, False]
    values = numbers.choices(pool, k=numbers.randint(1, 3))
    return name, {operator: values if operator in ("in", "nin") else values[0]}


def some_filter(numbers: random.Random, depth: int = 3) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for _ in range(numbers.randint(0 if depth < 3 else 1, 2)):
        name, condition = some_condition(numbers)
        made[name] = condition
    if depth and numbers.random() < 0.7:
        word = numbers.choice(("and", "or", "not"))
        inner = [some_filter(numbers, depth - 1) for _ in range(numbers.randint(1, 3))]
        made[word] = inner[0] if word == "not" else inner
    return made


def pinecone_holds(filter_: dict[str, Any], metadata: dict[str, Any]) -> bool:
    """Evaluate what Pinecone documents; what it leaves open (`$ne` of nothing) is held true."""
    return all(_held(key, condition, metadata) for key, condition in filter_.items())


def _held(key: str, condition: Any, metadata: dict[str, Any]) -> bool:
    if key in ("$and", "$or"):
        assert condition
        parts = [pinecone_holds(part, metadata) for part in condition]
        return all(parts) if key == "$and" else any(parts)
    ((operator, value),) = condition.items()
    here = metadata.get(key)
    if operator == "$exists":
        return (here is not None) is value
    entries = here if isinstance(here, list) else [here]
    wanted = value if isinstance(value, list) else [value]
    equal = any(type(e) is type(w) and e == w for e in entries for w in wanted) or any(
        _is_number(e) and _is_number(w) and e == w for e in entries for w in wanted
    )
    if operator in ("$eq", "$in"):
        return equal
    if operator in ("$ne", "$nin"):
        return not equal
    if not _is_number(here):
        return False
    return {
        "$gt": here > value, "$gte": here >= value, "$lt": here < value, "$lte": here <= value
    }[operator]  # fmt: skip


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


async def in_sql(owner: asyncpg.Connection, tree: dict[str, Any], facts: list[Facts]) -> list[bool]:
    rows = await owner.fetch(
        "SELECT filter_holds($1, u.d, u.e, u.c, u.m) AS held FROM unnest($2::text[],"
        " $3::timestamptz[], $4::timestamptz[], $5::jsonb[]) WITH ORDINALITY u (d, e, c, m, n)"
        " ORDER BY u.n",
        orjson.dumps(tree).decode(),
        [f.document_id for f in facts],
        [f.effective_from for f in facts],
        [f.created_at for f in facts],
        [orjson.dumps(f.metadata).decode() for f in facts],
    )
    return [row["held"] for row in rows]


async def test_a_filter_means_the_same_in_python_in_sql_and_for_pinecone(
    owner: asyncpg.Connection,
) -> None:
    numbers = random.Random(SEED)  # noqa: S311 - repeatable
    held = 0
    for _ in range(300):
        facts = [some_facts(numbers) for _ in range(20)]
        tree = FilterBody.model_validate(some_filter(numbers)).tree()
        here = [matches(tree, f) for f in facts]
        assert await in_sql(owner, sql_filter(tree), facts) == here, spoken(tree)
        form = pinecone_filter(tree)
        assert [pinecone_holds(form, pinecone_metadata(f)) for f in facts] == here, form
        held += sum(here)
    assert 400 < held < 5000  # neither side always says the same


def test_nothing_meets_a_filter_and_its_opposite_and_what_was_told_reads_back() -> None:
    numbers = random.Random(SEED)  # noqa: S311 - repeatable
    for _ in range(300):
        tree = FilterBody.model_validate(some_filter(numbers)).tree()
        for facts in [some_facts(numbers) for _ in range(10)]:
            assert not (matches(tree, facts) and matches(negated(tree), facts))
        assert negated(negated(tree)) == tree


@pytest.mark.parametrize("name", ["unheard", "metadata.document_id"])
@pytest.mark.parametrize("operator", ["eq", "ne", "gt", "in", "nin"])
def test_an_unknown_field_meets_no_condition_nor_its_opposite(name: str, operator: str) -> None:
    value: Any = [1] if operator in ("in", "nin") else 1
    facts = Facts("a", DAYS[0], DAYS[0], {"kind": "a"})
    tree = FilterBody.model_validate({name: {operator: value}}).tree()
    assert not matches(tree, facts)
    assert not matches(negated(tree), facts)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"kind": {"equals": 1}}, "filters.kind.equals"),
        ({"kind": {}}, "filters.kind"),
        ({"kind": None}, "filters.kind.eq"),
        ({"kind": {"gt": "a"}}, "filters.kind.gt"),
        ({"kind": {"gt": True}}, "filters.kind.gt"),
        ({"kind": {"in": "a"}}, "filters.kind.in"),
        ({"kind": {"in": []}}, "filters.kind.in"),
        ({"kind": {"eq": [1]}}, "filters.kind.eq"),
        ({"kind": {"exists": "yes"}}, "filters.kind.exists"),
        ({"kind": float("nan")}, "filters.kind.eq"),
        ({"kind": 2**60}, "filters.kind.eq"),
        ({"or": {}}, "filters.or"),
        ({"or": []}, "filters.or"),
        ({"not": {"or": [{"kind": {"lt": "x"}}]}}, "filters.not.or.0.kind.lt"),
        ({"document_id": 7}, "filters.document_id.eq"),
        ({"created_at": {"gte": "yesterday"}}, "filters.created_at.gte"),
        ({"effective_from": {"lt": 5}}, "filters.effective_from.lt"),
        ({"created_at": {"lt": "2026-01-01T00:00:00"}}, "filters.created_at.lt"),
        ({"kind": {"in": ["x"] * 101}}, "filters.kind.in"),
        ({"or": [{"kind": 1}] * 250}, "filters"),
        ("kind = 1", "filters"),
        ([], "filters"),
    ],
)
def test_a_wrong_filter_is_refused_and_the_field_named(given: Any, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        narrowed(given)
    assert refused.value.facts["field"] == field


def test_depth_is_bounded_and_what_lies_within_is_taken() -> None:
    def nested(levels: int) -> dict[str, Any]:
        return {"not": nested(levels - 1)} if levels else {"kind": "a"}

    assert narrowed(nested(8)).filters is not None
    with pytest.raises(InvalidRequest, match="levels deep"):
        narrowed(nested(500))


def test_narrowings_are_keys() -> None:
    one = narrowed({"a": 1, "b": {"in": ["x", "y"]}})
    assert one == narrowed({"b": {"in": ["x", "y"]}, "a": 1})
    assert len({one, narrowed({"a": 1, "b": {"in": ["x", "y"]}}), narrowed({"a": 2})}) == 2
