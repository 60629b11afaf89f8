"""The example policies and questions keep what they promise: each answer stands where it says."""

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from compliance_copilot.core.vocabulary import (
    EffectiveConfig,
    ModelTier,
    ResourceLimits,
    RetrievalMode,
)

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE: dict[str, Any] = json.loads((ROOT / "example_data.json").read_text(encoding="utf-8"))
CONFIG: dict[str, Any] = json.loads((ROOT / "configs/example.json").read_text(encoding="utf-8"))
TENANTS = ("acme_corp", "beta_inc", "gamma_labs")
HEADING = re.compile(r"^(#{1,6}) (.+)$", re.MULTILINE)
NUMBERED = re.compile(r"^\d+(\.\d+|\.) \S")
DOCUMENT_ID = re.compile(r"^[a-z0-9]+(-[a-z0-9]+)*$")
REFERENCE = re.compile(r"\bsection (\d+(?:\.\d+)?)(?: of the (?=[A-Z]))?")


def documents(tenant_id: str) -> list[dict[str, Any]]:
    """Return a tenant's documents in their order."""
    found: list[dict[str, Any]] = EXAMPLE["sample_documents"][tenant_id]
    return found


def queries(tenant_id: str) -> list[dict[str, Any]]:
    """Return a tenant's questions in their order."""
    found: list[dict[str, Any]] = EXAMPLE["sample_queries"][tenant_id]
    return found


def sections(text: str) -> Iterator[tuple[str, str]]:
    """Give each heading with the text up to the next heading of whatever level."""
    headings = list(HEADING.finditer(text))
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    for heading, end in zip(headings, ends, strict=True):
        yield heading[2], text[heading.end() : end]


EVERY_DOCUMENT = [pytest.param(t, d, id=d["document_id"]) for t in TENANTS for d in documents(t)]
EVERY_QUERY = [
    pytest.param(t, q, id=f"{t}-{number}") for t in TENANTS for number, q in enumerate(queries(t))
]


def test_the_file_has_its_three_top_keys_and_the_same_three_tenants_under_each() -> None:
    assert list(EXAMPLE) == ["tenants", "sample_documents", "sample_queries"]
    assert tuple(tenant["tenant_id"] for tenant in EXAMPLE["tenants"]) == TENANTS
    assert tuple(EXAMPLE["sample_documents"]) == TENANTS
    assert tuple(EXAMPLE["sample_queries"]) == TENANTS
    for tenant in EXAMPLE["tenants"]:
        assert set(tenant) == {"tenant_id", "name", "description"}
        assert len(tenant["description"].splitlines()) == 1


def test_every_tenant_has_at_least_four_policies_and_ten_questions() -> None:
    for tenant_id in TENANTS:
        assert len(documents(tenant_id)) >= 4
        assert len(queries(tenant_id)) >= 10


def test_no_document_id_title_or_text_occurs_twice() -> None:
    everything = [document for tenant_id in TENANTS for document in documents(tenant_id)]
    for key in ("document_id", "title", "text"):
        assert len({document[key] for document in everything}) == len(everything), key


@pytest.mark.parametrize(("tenant_id", "document"), EVERY_DOCUMENT)
def test_a_policy_has_the_shape_that_ingest_takes(tenant_id: str, document: dict[str, Any]) -> None:
    assert set(document) == {"document_id", "title", "text", "metadata"}
    assert DOCUMENT_ID.match(document["document_id"])
    assert document["text"].startswith(f"# {document['title']}\n")
    assert set(document["metadata"]) == {"source", "category", "effective_from"}
    assert all(value.strip() for value in document["metadata"].values())
    date.fromisoformat(document["metadata"]["effective_from"])


@pytest.mark.parametrize(("tenant_id", "document"), EVERY_DOCUMENT)
def test_a_policy_has_between_600_and_1500_words(tenant_id: str, document: dict[str, Any]) -> None:
    assert 600 <= len(document["text"].split()) <= 1500


@pytest.mark.parametrize(("tenant_id", "document"), EVERY_DOCUMENT)
def test_a_policy_has_six_to_twelve_sections_numbered_in_order_and_no_heading_twice(
    tenant_id: str, document: dict[str, Any]
) -> None:
    marks_and_titles = HEADING.findall(document["text"])[1:]
    titles = [title for _, title in marks_and_titles]
    assert all(NUMBERED.match(title) for title in titles)
    assert len(set(titles)) == len(titles)
    top = [int(title.split(".")[0]) for marks, title in marks_and_titles if marks == "##"]
    assert top == list(range(1, len(top) + 1))
    assert 6 <= len(top) <= 12


@pytest.mark.parametrize(("tenant_id", "document"), EVERY_DOCUMENT)
def test_every_section_that_a_policy_refers_to_exists(
    tenant_id: str, document: dict[str, Any]
) -> None:
    for reference in REFERENCE.finditer(document["text"]):
        target = document["text"]
        if reference[0].endswith(" of the "):
            rest = document["text"][reference.end() :]
            target = next(d["text"] for d in documents(tenant_id) if rest.startswith(d["title"]))
        numbers = {title.split(" ")[0].rstrip(".") for title, _ in sections(target)}
        assert reference[1] in numbers, reference[0]


@pytest.mark.parametrize(("tenant_id", "query"), EVERY_QUERY)
def test_an_answer_stands_word_for_word_in_the_section_that_is_named_and_in_no_other(
    tenant_id: str, query: dict[str, Any]
) -> None:
    assert set(query) == {"query", "document_id", "section", "answer_contains", "shared"}
    holders = [
        (document["document_id"], title)
        for document in documents(tenant_id)
        for title, body in sections(document["text"])
        if query["answer_contains"] in body
    ]
    assert holders == [(query["document_id"], query["section"])]


@pytest.mark.parametrize(("tenant_id", "query"), EVERY_QUERY)
def test_an_answer_is_a_whole_sentence(tenant_id: str, query: dict[str, Any]) -> None:
    text = next(d["text"] for d in documents(tenant_id) if d["document_id"] == query["document_id"])
    start = text.index(query["answer_contains"])
    assert query["answer_contains"].endswith(".")
    assert text[:start].endswith(("\n", ". "))


def test_no_tenant_asks_a_question_twice() -> None:
    for tenant_id in TENANTS:
        asked = [query["query"] for query in queries(tenant_id)]
        assert len(set(asked)) == len(asked)


def test_the_shared_questions_are_those_that_all_tenants_ask_and_each_answers_differently() -> None:
    answers = {t: {q["query"]: q["answer_contains"] for q in queries(t)} for t in TENANTS}
    common = set.intersection(*(set(of_one) for of_one in answers.values()))
    assert "How long do we keep customer records?" in common
    for tenant_id in TENANTS:
        assert {query["query"] for query in queries(tenant_id) if query["shared"]} == common
    for question in common:
        assert len({answers[tenant_id][question] for tenant_id in TENANTS}) == len(TENANTS)


def test_the_first_question_of_acme_is_about_encryption() -> None:
    assert queries("acme_corp")[0]["query"] == "What are our data encryption requirements?"


def test_the_example_tenants_have_known_settings_and_limits() -> None:
    assert [tenant["tenant_id"] for tenant in CONFIG["tenants"]] == list(TENANTS)
    assert [t["name"] for t in CONFIG["tenants"]] == [t["name"] for t in EXAMPLE["tenants"]]
    for tenant in CONFIG["tenants"]:
        assert set(tenant) == {"tenant_id", "name", "config", "limits"}
        assert set(tenant["config"]) <= {field.name for field in fields(EffectiveConfig)}
        assert set(tenant["limits"]) <= {field.name for field in fields(ResourceLimits)}


def test_acme_is_on_gpt_4_and_hybrid_and_the_others_are_on_the_defaults() -> None:
    acme, *others = CONFIG["tenants"]
    assert ModelTier(acme["config"]["model_tier"]) is ModelTier.GPT4
    assert RetrievalMode(acme["config"]["retrieval_mode"]) is RetrievalMode.HYBRID
    assert ResourceLimits(**acme["limits"]).max_queries_per_hour == 1000
    for tenant in others:
        assert ModelTier(tenant["config"]["model_tier"]) is ModelTier.GPT35
        assert RetrievalMode(tenant["config"]["retrieval_mode"]) is RetrievalMode.BASIC
        assert ResourceLimits(**tenant["limits"]) == ResourceLimits()
