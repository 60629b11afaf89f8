"""What an answer reads of its sources: CPU per question from the text, and from kept readings.

    python -m benchmarks.reading_speed [--questions 300] [--rounds 5] [--seed N]

Five sources of the load generator's corpus for each question, found by the words they share. Both
ways in turns, best of the rounds; the answers must be equal to the letter. Nothing else is counted:
no retrieval, no HTTP, no ledger.
"""

import argparse
import random
import time
from collections.abc import Callable, Sequence
from uuid import UUID

from benchmarks.harness import concluded, new_seed
from benchmarks.load_corpora import documents, question
from compliance_copilot.core.vocabulary import Chunk, ScoredChunk
from compliance_copilot.rag.analysis import terms
from compliance_copilot.rag.answering import assembled
from compliance_copilot.rag.chunking import split
from compliance_copilot.rag.citations import check
from compliance_copilot.rag.holding import Watch
from compliance_copilot.rag.reading import Reading, reading_of
from compliance_copilot.rag.retrieval import Retrieved
from compliance_copilot.rag.selection import select

CHUNKS = 1_000
SOURCES = 5
Sources = Sequence[ScoredChunk]


def corpus(seed: int) -> list[Chunk]:
    """Return the chunks of one tenant of the load generator."""
    made: list[Chunk] = []
    for document in documents(seed, CHUNKS):
        for ordinal, span in enumerate(split(document["text"])):
            made.append(
                Chunk(
                    UUID(int=len(made) + 1), document["document_id"], 1, ordinal, span.start,
                    span.end, document["text"][span.start : span.end], document["title"],
                    span.headings[-1] if span.headings else None, headings=span.headings,
                )
            )  # fmt: skip
    return made


def read(chunk: Chunk, record: bytes = b"") -> ScoredChunk:
    """Return a chunk as an index hands it over, with or without a kept reading."""
    reading = Reading(chunk.text, chunk.title, chunk.section, chunk.headings, record)
    fields = (chunk.id, chunk.document_id, 1, chunk.ordinal, chunk.start, chunk.end, chunk.text)
    told = Chunk(*fields, chunk.title, chunk.section, headings=chunk.headings, reading=reading)
    return ScoredChunk(told, 0.9, 0.4)


def answer(asked: str, sources: Sources) -> str:
    """Answer as the service does with sources at hand."""
    found = Watch().look(Retrieved(sources), hold=False).sources
    checked = [check(draft, found) for draft in select(asked, found)]
    return repr(assembled(asked, checked, found))


def milliseconds(
    asked: Sequence[tuple[str, list[Chunk]]], make: Callable[[Chunk], ScoredChunk]
) -> tuple[float, list[str]]:
    """Return CPU milliseconds a question, and the answers."""
    spent, answers = 0.0, []
    for text, chunks in asked:
        sources = [make(chunk) for chunk in chunks]
        began = time.process_time()
        answers.append(answer(text, sources))
        spent += time.process_time() - began
    return 1000 * spent / len(asked), answers


def found(seed: int, chunks: Sequence[Chunk], count: int) -> list[tuple[str, list[Chunk]]]:
    """Return questions, each with the chunks that share most of its words."""
    chance = random.Random(seed)
    words = [frozenset(terms(chunk.text, "en")) for chunk in chunks]
    asked = []
    for text in [question(chance, seed, CHUNKS) for _ in range(count)]:
        wanted = frozenset(terms(text, "en"))
        best = sorted(range(len(chunks)), key=lambda n: -len(wanted & words[n]))[:SOURCES]
        asked.append((text, [chunks[n] for n in best]))
    return asked


def main() -> None:
    """Measure both ways in turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int)
    options = parser.parse_args()
    seed = new_seed() if options.seed is None else options.seed
    chunks = corpus(seed)
    asked = found(seed, chunks, options.questions)
    began = time.process_time()
    records = {chunk.id: reading_of(chunk).record for chunk in chunks}
    once = 1000 * (time.process_time() - began) / len(chunks)
    fresh, kept, same = [], [], True
    for _ in range(options.rounds):
        one, from_text = milliseconds(asked, read)
        two, from_records = milliseconds(asked, lambda chunk: read(chunk, records[chunk.id]))
        fresh, kept, same = [*fresh, one], [*kept, two], same and from_text == from_records
    facts = {
        "CPU ms a question, read from the text": round(min(fresh), 3),
        "CPU ms a question, readings kept": round(min(kept), 3),
        "CPU ms to read a chunk, once": round(once, 3),
        "bytes kept a chunk": round(sum(map(len, records.values())) / len(records)),
    }
    raise SystemExit(concluded("reading", seed, facts, {"equal to the letter": same}))


if __name__ == "__main__":
    main()
