"""What the extractive generator answers, what it cites, and when it says that there is nothing.

    python -m benchmarks.answers --data DIR [--sample 500] [--seed 7] [--min-evidence 0.5]

Three tables from a service on a fresh temporary database: the questions of `example_data.json`;
those of `benchmarks/questions.json`, asked of each example tenant (`unrelated` and `near_miss` have
no answer in any of their documents, `held_out` have one in the section named, asked in other
words); and a sample of ObliQA (BEIR's form: `corpus.jsonl`, `queries.jsonl`,
`qrels/dev.tsv`), whose passages are put together to the documents they come from.
"""

import argparse
import asyncio
import csv
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compliance_copilot.core.vocabulary import Citation, NewDocument, Outcome, QueryReply, TenantId
from compliance_copilot.orchestrator import Service
from compliance_copilot.rag.hostile import clean_text
from compliance_copilot.rag.selection import select
from compliance_copilot.settings import PROJECT_ROOT, load_settings
from compliance_copilot.tenancy.tenants import NewTenant
from compliance_copilot.wiring import open_service

EXAMPLES = ("acme_corp", "beta_inc", "gamma_labs")
SETS = json.loads((PROJECT_ROOT / "benchmarks" / "questions.json").read_text(encoding="utf-8"))
UNLIMITED = {
    "max_queries_per_hour": None, "requests_per_minute": None, "max_concurrent_requests": None,
}  # fmt: skip

Stretch = tuple[str, int, int]
"""A document's id, and where a passage stands in its text."""


@dataclass(frozen=True)
class Case:
    """A question to one tenant, and where its answer is: a section, stretches, or nowhere."""

    group: str
    tenant_id: str
    question: str
    section: str | None = None
    gold: frozenset[Stretch] = field(default_factory=frozenset)

    def met_by(self, citation: Citation, reply: QueryReply) -> bool:
        """Tell whether a citation lies where the answer is."""
        chunk = reply.sources[citation.source].chunk
        if self.section is not None:
            return chunk.section == self.section
        return any(
            chunk.document_id == document and citation.start < end and citation.end > start
            for document, start, end in self.gold
        )


@dataclass(frozen=True)
class Asked:
    """A case and what came back; `milliseconds` are those of the generator alone."""

    case: Case
    reply: QueryReply
    milliseconds: float

    @property
    def answered(self) -> bool:
        """Tell whether anything was claimed."""
        return self.reply.outcome is not Outcome.NO_EVIDENCE

    @property
    def right(self) -> list[bool]:
        """Tell of each citation, in order, whether it lies where the answer is."""
        return [self.case.met_by(citation, self.reply) for citation in self.reply.citations]


def example_cases() -> list[Case]:
    """Return the questions that ship with the example tenants and those of `questions.json`."""
    data = json.loads((PROJECT_ROOT / "example_data.json").read_text(encoding="utf-8"))
    return [
        *_sectioned("example", data["sample_queries"]),
        *_sectioned("held_out", SETS["held_out"]),
        *(
            Case(group, tenant_id, question)
            for group in ("unrelated", "near_miss")
            for question in SETS[group]
            for tenant_id in EXAMPLES
        ),
    ]


def _sectioned(group: str, entries: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Case]:
    return [
        Case(group, tenant_id, entry["query"], entry["section"])
        for tenant_id, asked in entries.items()
        for entry in asked
    ]


def obliqa(folder: Path, sample: int, seed: int) -> tuple[list[NewDocument], list[Case]]:
    """Return the corpus as whole documents, and a sample of its questions."""
    texts: dict[str, list[str]] = {}
    places: dict[str, Stretch] = {}
    lengths: dict[str, int] = {}
    for passage in _lines(folder / "corpus.jsonl"):
        document_id = f"obliqa-{passage['metadata']['document_id']}"
        text = clean_text(passage["text"])  # offsets are of what is stored
        if not text.strip():
            continue
        start = lengths.get(document_id, 0)
        places[passage["_id"]] = (document_id, start, start + len(text))
        texts.setdefault(document_id, []).append(text)
        lengths[document_id] = start + len(text) + 2
    documents = [
        NewDocument("\n\n".join(parts), document_id, title=document_id)
        for document_id, parts in texts.items()
    ]
    gold: dict[str, set[Stretch]] = {}
    with (folder / "qrels" / "dev.tsv").open(encoding="utf-8") as file:
        for entry in csv.DictReader(file, delimiter="\t"):
            if int(entry["score"]) > 0:
                gold.setdefault(entry["query-id"], set()).add(places[entry["corpus-id"]])
    asked = [q for q in _lines(folder / "queries.jsonl") if q["_id"] in gold]
    chosen = random.Random(seed).sample(asked, min(sample, len(asked)))
    return documents, [
        Case("obliqa", "obliqa", q["text"], gold=frozenset(gold[q["_id"]])) for q in chosen
    ]


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    return map(json.loads, path.read_text(encoding="utf-8").splitlines())


async def loaded(service: Service, documents: Sequence[NewDocument]) -> None:
    """Lift the example tenants' limits and give the documents to a tenant of their own."""
    for tenant_id in EXAMPLES:
        await service.config.update_tenant_config(tenant_id, resource_limits=UNLIMITED)
    if documents:
        new = NewTenant(
            "obliqa", "ObliQA", {"retrieval_mode": "hybrid"}, {**UNLIMITED, "max_documents": None}
        )
        await service.tenants.create(new, set_by="benchmark")
        await service.copilot.ingest("obliqa", documents)
        for document in documents:
            kept = await service.copilot.documents.text(
                TenantId("obliqa"), document.document_id or "", 1
            )
            assert kept == document.text, "offsets of passages would be wrong"


async def asked(service: Service, case: Case, min_evidence: float) -> Asked:
    """Ask one question of its tenant, and time the generator over the same sources again."""
    reply = await service.copilot.query(case.tenant_id, case.question)
    assert isinstance(reply, QueryReply)
    began = time.perf_counter()
    select(case.question, reply.sources, min_evidence=min_evidence)
    return Asked(case, reply, 1000 * (time.perf_counter() - began))


def table(results: Sequence[Asked]) -> str:
    """Return a row for each group of questions; `first` and `any` citation that is right."""
    names = ("first of answered", "any of answered", "any of all", "sentences", "p50 ms")
    rows = [f"| group | asked | answered | {' | '.join(names)} |", "|---|" + "---:|" * 7]
    for group in dict.fromkeys(result.case.group for result in results):
        mine = [result for result in results if result.case.group == group]
        told = [result for result in mine if result.answered]
        first = sum(result.right[0] for result in told if result.right)
        any_right = sum(any(result.right) for result in told)
        sentences = statistics.mean([len(r.reply.citations) for r in told] or [0])
        rows.append(
            f"| {group} | {len(mine)} | {_share(len(told), len(mine))} "
            f"| {_share(first, len(told))} | {_share(any_right, len(told))} "
            f"| {_share(any_right, len(mine))} | {sentences:.2f} "
            f"| {statistics.median(r.milliseconds for r in mine):.2f} |"
        )
    return "\n".join(rows)


def _share(part: int, whole: int) -> str:
    return f"{part} ({part / whole:.1%})" if whole else "-"


async def measure(options: argparse.Namespace) -> list[Asked]:
    """Return all answers of a service that is set up for this one run."""
    cases = example_cases()
    documents: list[NewDocument] = []
    if options.data is not None:
        documents, more = obliqa(options.data, options.sample, options.seed)
        cases += more
    with tempfile.TemporaryDirectory(prefix="cc-answers-") as folder:
        settings = load_settings(
            data_dir=Path(folder), environment="test", database_url=None, load_examples=True
        )
        async with open_service(settings) as service:
            await loaded(service, documents)
            for tenant_id in {case.tenant_id for case in cases}:
                await service.config.update_tenant_config(
                    tenant_id, min_evidence=options.min_evidence
                )
            return [await asked(service, case, options.min_evidence) for case in cases]


def main() -> None:
    """Print the table, and with `--show` what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--sample", type=int, default=500)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--min-evidence", type=float, default=0.5)
    parser.add_argument("--show", action="store_true", help="print the wrong ones, ObliQA's aside")
    options = parser.parse_args()
    results = asyncio.run(measure(options))
    print(f"seed {options.seed}, min_evidence {options.min_evidence}")
    print(table(results))
    for result in results if options.show else []:
        case = result.case
        wrong = not any(result.right) if case.section else result.answered
        if case.group != "obliqa" and wrong:
            print(f"{case.group} {case.tenant_id}: {case.question} => {result.reply.answer[:160]}")


if __name__ == "__main__":
    main()
