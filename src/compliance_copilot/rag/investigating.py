"""The `agentic` mode: evidence is looked for in steps, each led by what the steps before found.

1. `search`: the whole question.
2. `search_parts`: the questions that it is made of, when it is made of several.
3. `follow_references`: what the question or the strongest sources refer to ("see section 4.2").
4. `read_around`: what stands before and after the strongest sources.
5. `search_missing`: the words of a part that no source found so far has.

After the first step and before the last the evidence is judged part by part; a step that has
nothing to do is not taken. In the end all candidates are ordered by `companions.ordered`. At most
`max_steps` are taken, and none is begun that the deadline would hardly let end.
"""

import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

import numpy as np

from compliance_copilot.core.vocabulary import Chunk
from compliance_copilot.rag import analysis, companions, planning
from compliance_copilot.rag.contenders import Contender
from compliance_copilot.rag.linked import LinkedChunks
from compliance_copilot.rag.ports import RankedLists, Vectors
from compliance_copilot.rag.references import references
from compliance_copilot.rag.searching import Found, Retrieved, Search
from compliance_copilot.telemetry.tracing import span

_BEST_OF_A_PART = 10
_READ_FOR_REFERENCES = 3
_JUDGED = 10
"""How many of the best sources so far are read when the evidence is judged."""
_ENOUGH = 0.7
"""A part is covered when the sources have this share of its words."""
_BELOW_THE_LAST = 0.6
"""In log-odds about the half that `benchmarks/train_companions.py` takes off."""
_WORD = re.compile(r"[^\W_]+(?:[-'’.][^\W_]+)*")
_NOTHING = RankedLists([], [], {}, {})


class Companion(Protocol):
    """Who goes along: keeps the ledger's row of each step, and may plan."""

    async def parts(self, question: str) -> Sequence[str]:
        """Return the questions that a question is made of; itself alone when it is one."""
        ...

    async def step(self, action: str) -> None:
        """Note that a further step begins."""
        ...


class Alone:
    """Nobody goes along: the plan is `planning.parts`, and no rows are kept."""

    async def parts(self, question: str) -> Sequence[str]:
        """Return the parts that the words of the question show."""
        return planning.parts(question)

    async def step(self, action: str) -> None:
        """Note nothing."""


@dataclass
class Investigation:
    """One question on its way through the steps."""

    search: Search
    links: LinkedChunks
    companion: Companion
    steps: list[Mapping[str, Any]] = field(default_factory=list, init=False)
    added: dict[UUID, None] = field(default_factory=dict, init=False)
    lists: list[Sequence[UUID]] = field(default_factory=list, init=False)
    slowest_seconds: float = field(default=0.0, init=False)

    async def run(self) -> Retrieved:
        """Return the sources and the steps that led to them. Raises as `Retriever.retrieve`."""
        question = self.search.request.question
        (whole,) = await self._timed(lambda: self.search.of([question]))
        head = list(whole.ranked[: companions.POOL])
        self._told("search", queries=[question], found=len(head))
        if not head:
            return self.search.retrieved(whole, [], steps=self.steps)
        with span("plan"):
            parts = tuple(await self.companion.parts(question))
        if len(parts) > 1:
            await self._take("search_parts", lambda: self._search_parts(parts))
        strongest = [contender.chunk_id for contender in head[: companions.READ_AROUND]]
        await self._follow(question, [whole.lists.chunks[id_] for id_ in strongest])
        await self._take("read_around", lambda: self._read_around(strongest))
        extra = await self._extra(whole, head)
        await self._search_missing(parts, whole, head, extra)
        extra = await self._extra(whole, head) if len(extra.rows) < len(self.added) else extra
        ordered = companions.ordered(self._pool(whole, head, extra), whole.query.dense)
        return self.search.retrieved(whole, ordered, beside=[extra], steps=self.steps)

    async def _search_parts(self, parts: Sequence[str]) -> Mapping[str, Any]:
        found = await self.search.of(parts)
        for part in found:
            self.lists.append(
                [contender.chunk_id for contender in part.ranked[: 2 * _BEST_OF_A_PART]]
            )
            self._add(self.lists[-1][:_BEST_OF_A_PART])
        return {"queries": list(parts)}

    async def _follow(self, question: str, strongest: Sequence[Chunk]) -> None:
        read = [question, *(chunk.text for chunk in strongest[:_READ_FOR_REFERENCES])]
        named = references(read)
        if not named:
            return

        async def follow() -> Mapping[str, Any]:
            documents = list(dict.fromkeys(chunk.document_id for chunk in strongest))
            self._add(
                await self.links.referred(
                    self.search.tenant_id, named, documents, deadline=self.search.request.deadline
                )
            )
            return {"references": [reference.words for reference in named]}

        await self._take("follow_references", follow)

    async def _read_around(self, strongest: Sequence[UUID]) -> Mapping[str, Any]:
        deadline = self.search.request.deadline
        reach = companions.REACH
        self._add(
            await self.links.around(
                self.search.tenant_id, strongest, reach=reach, deadline=deadline
            )
        )
        return {}

    async def _search_missing(
        self, parts: Sequence[str], whole: Found, head: Sequence[Contender], extra: RankedLists
    ) -> None:
        best = companions.ordered(self._pool(whole, head, extra), whole.query.dense)[:_JUDGED]
        texts = [s.chunk.text for s in self.search.retrieved(whole, best, beside=[extra]).sources]
        missing = [words for part in parts if (words := missing_words(part, texts))]
        if not missing:
            return

        async def search() -> Mapping[str, Any]:
            for found in await self.search.of(missing):
                self._add([c.chunk_id for c in found.ranked[:_BEST_OF_A_PART]])
            return {"queries": missing}

        await self._take("search_missing", search)

    async def _take(self, action: str, work: Callable[[], Awaitable[Mapping[str, Any]]]) -> None:
        """Take a step, when the configuration and the deadline leave room for one."""
        request = self.search.request
        late = request.deadline.remaining_seconds() < 4 * self.slowest_seconds
        if len(self.steps) >= request.config.max_steps or late:
            return
        before = len(self.added)
        await self.companion.step(action)
        with span(action):
            told = await self._timed(work)
        self._told(action, **told, found=len(self.added) - before)

    async def _timed(self, work: Callable[[], Awaitable[Any]]) -> Any:
        began = time.monotonic()
        try:
            return await work()
        finally:
            self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)

    def _told(self, action: str, **facts: Any) -> None:
        self.steps.append({"step": len(self.steps) + 1, "action": action, **facts})

    def _add(self, chunk_ids: Sequence[UUID]) -> None:
        self.added.update(dict.fromkeys(chunk_ids))

    async def _extra(self, whole: Found, head: Sequence[Contender]) -> RankedLists:
        """Return what the steps added to the head, scored for the whole question."""
        known = {contender.chunk_id for contender in head}
        self.added = {chunk_id: None for chunk_id in self.added if chunk_id not in known}
        return await self.search.score(whole.query, list(self.added)) if self.added else _NOTHING

    def _pool(self, whole: Found, head: Sequence[Contender], extra: RankedLists) -> companions.Pool:
        chances = {contender.chunk_id: contender.score for contender in whole.ranked}
        # What the whole question did not rank at all is taken for a bit less than its last.
        below = min(chances.values()) * _BELOW_THE_LAST
        behind = [
            Contender(id_, extra.places[id_], chances.get(id_, below))
            for id_ in self.added
            if id_ in extra.places
        ]
        contenders = [*head, *behind]
        ids = [contender.chunk_id for contender in contenders]
        return companions.Pool(
            contenders=contenders,
            vectors=_vectors(ids, whole.lists, extra),
            added=np.arange(len(ids)) >= len(head),
            part_places=companions.part_places(self.lists, ids),
        )


def missing_words(part: str, texts: Sequence[str]) -> str:
    """Return the words of a part that none of the texts has, empty when enough are there."""
    language = analysis.detect_language(part)
    seen: set[int] = set()
    for text in texts:
        seen |= analysis.terms(text, analysis.detect_language(text)).keys()
    words = {word: analysis.terms(word, language).keys() for word in _WORD.findall(part)}
    wanted = {word: terms for word, terms in words.items() if terms}
    lacking = [word for word, terms in wanted.items() if not terms & seen]
    return "" if len(lacking) <= (1 - _ENOUGH) * len(wanted) else " ".join(lacking)


def _vectors(ids: Sequence[UUID], *lists: RankedLists) -> Vectors:
    where = {
        chunk_id: found.vectors[row]
        for found in reversed(lists)
        if found.vectors is not None
        for chunk_id, row in found.rows.items()
    }
    return np.array([where[chunk_id] for chunk_id in ids], dtype=np.float32)
