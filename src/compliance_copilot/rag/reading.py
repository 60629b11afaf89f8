"""What is read of a chunk whoever asks: sentences, words, statements, whether it addresses a model.

All of it follows from the chunk's own words, so it can be kept beside it (`record`) and need not be
read again: a mapped corpus keeps it. Each part is read when it is first asked for; kept or not, it
is the same. Must not enter: questions that were asked, scores, storage.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from importlib.resources import files
from operator import itemgetter
from typing import Any, NamedTuple

import orjson
import Stemmer

from compliance_copilot.core.vocabulary import Chunk
from compliance_copilot.rag.candidates import Candidate, Form, candidates
from compliance_copilot.rag.hostile import is_suspicious, passage, passage_bounds
from compliance_copilot.rag.matching import folded
from compliance_copilot.rag.questions import shapes_of
from compliance_copilot.rag.sentences import Kind, spans
from compliance_copilot.rag.statements import Sayings, beginnings, sayings, subject

_WORD = re.compile(r"[^\W_]+")
# Numbers of sections (4.2.1) and names (O'Brien) are words in one piece, too.
_JOINED = re.compile(r"(?<![^\W_])(?:\d+(?:\.\d+)+[^\W_]*|[^\W_]+(?:['’][^\W_]+)+)")
_CODE = re.compile(r"\b(?:[A-Z]{1,5}[. ]?\d|\d+\.\d+\.\d)")
_SAYING = frozenset({Kind.PROSE, Kind.ITEM, Kind.ROW})


READERS = (
    "analysis", "bm25", "candidates", "claims", "hostile", "matching", "numerals", "questions",
    "reading", "sentences", "statements", "stopwords", "suspicion", "terms", "visible",
)  # fmt: skip
"""This module and all of the room that it reads by (`tests/architecture/test_readers.py`)."""


def _rules() -> bytes:
    folder = files(__package__)
    told = blake2b(f"{unicodedata.unidata_version} {Stemmer.version()}".encode(), digest_size=16)
    for name in READERS:
        told.update(folder.joinpath(f"{name}.py").read_bytes())
    return told.digest()


RULES = _rules()
"""The rules that this release reads by: what others have read is read anew. It is the sum of their
code, so that nobody has to remember to count a version up."""


class Parts(NamedTuple):
    """The sentences, headings, rows and blocks of code of a text, in order: a column for each fact.

    `words`: the words of a part in order, by their numbers in `Sentences`.
    """

    starts: Sequence[int]
    ends: Sequence[int]
    kinds: Sequence[str]
    words: Sequence[Sequence[int]]

    def span(self, number: int) -> tuple[int, int]:
        """Return where a part stands."""
        return self.starts[number], self.ends[number]


class Sentences(NamedTuple):
    """What selection looks at.

    `words`: each word once, in small letters, before each a space (and one at the end): its number
    is how many spaces stand before that. `heads`: the words of title and headings, in order.
    """

    words: str
    heads: Sequence[int]
    parts: Parts
    candidates: Sequence[Candidate]


class Statements(NamedTuple):
    """What of a chunk could disagree with another: a column for each fact.

    `parts`: which part each statement is; `begins`: how its words begin; `about`: the words that it
    is about, parted by spaces (none when it is too short or too long to tell); `said`: what it
    commits itself to, None: not read.
    """

    parts: Sequence[int]
    begins: Sequence[frozenset[str]]
    about: Sequence[str]
    said: list[Sequence[Any] | None]


class Reading:
    """What is read of one chunk. `record` is what was kept of an earlier reading, or empty."""

    def __init__(
        self,
        text: str,
        title: str = "",
        section: str | None = None,
        headings: Sequence[str] = (),
        record: bytes = b"",
    ) -> None:
        self._text = text
        self._title = title
        self._section = section
        self._headings = headings
        self._raw = record

    @property
    def record(self) -> bytes:
        """Return all that can be read, to be kept."""
        sentences, statements = self.sentences, self.statements
        parts = sentences.parts
        for start, end in zip(parts.starts, parts.ends, strict=True):
            self.trusted(start, end)
        return orjson.dumps(
            {
                "suspicious": self.suspicious,
                "passages": [[*bounds, bad] for bounds, bad in self._passages.items()],
                "words": sentences.words,
                "heads": sentences.heads,
                "parts": list(parts),
                "candidates": [list(self._looked_at(one)) for one in sentences.candidates],
                "statements": statements.parts,
                "begins": [_row(words) for words in statements.begins],
                "about": statements.about,
                "said": [list(self.says(n)) for n in range(len(statements.parts))],
            }
        )

    def let_go(self) -> None:
        """Keep nothing beyond the request: what is asked for after this is read again."""
        self._raw = b""
        for name in ("_kept", "suspicious", "_passages", "sentences", "statements"):
            self.__dict__.pop(name, None)

    @cached_property
    def suspicious(self) -> bool:
        """Whether the text or what stands above it addresses a model."""
        if self._kept:
            return bool(self._kept["suspicious"])
        above = " ".join(part for part in (self._title, self._section) if part)
        return is_suspicious(self._text) or is_suspicious(above)

    def trusted(self, start: int, end: int) -> bool:
        """Tell whether the paragraph around a stretch speaks to people."""
        bounds = passage_bounds(self._text, start, end)
        if bounds not in self._passages:
            self._passages[bounds] = is_suspicious(passage(self._text, *bounds))
        return not self._passages[bounds]

    @cached_property
    def sentences(self) -> Sentences:
        """What selection looks at."""
        kept = self._kept
        if kept:
            found = list(map(Candidate._make, kept["candidates"]))
            return Sentences(kept["words"], kept["heads"], Parts._make(kept["parts"]), found)
        return self._read_sentences()

    @cached_property
    def statements(self) -> Statements:
        """What conflicts are looked for in."""
        kept = self._kept
        if kept:
            begins = [frozenset(words.split()) for words in kept["begins"]]
            return Statements(kept["statements"], begins, kept["about"], kept["said"])
        return self._read_statements()

    def says(self, number: int) -> Sayings:
        """Return what a statement commits itself to: the dear part, read when it is compared."""
        statements = self.statements
        found = statements.said[number]
        if found is None:
            start, end = self.sentences.parts.span(statements.parts[number])
            statements.said[number] = found = sayings(self._text[start:end])
        return Sayings._make(found)

    @cached_property
    def _kept(self) -> Mapping[str, Any]:
        return orjson.loads(self._raw) if self._raw else {}

    @cached_property
    def _passages(self) -> dict[tuple[int, int], bool]:
        return {(begin, stop): bad for begin, stop, bad in self._kept.get("passages", ())}

    def _read_sentences(self) -> Sentences:
        text = self._text
        heads = "\n".join((self._title, self._section or "", *self._headings))
        numbers: dict[str, int] = {}
        own = [(at, numbers.setdefault(word, len(numbers))) for at, word in _words(text)]
        above = [numbers.setdefault(word, len(numbers)) for _, word in _words(heads)]
        found = spans(text)
        parts = Parts(
            [part.start for part in found],
            [part.end for part in found],
            [part.kind for part in found],
            [[n for at, n in own if part.start <= at < part.end] for part in found],
        )
        options = [
            one._replace(cut=_is_cut(one, raw), poor=_is_poor(raw))
            for one in candidates(text, found)
            if (raw := _raw(text, parts, one))
        ]
        return Sentences(f" {' '.join(numbers)} ", above, parts, options)

    def _looked_at(self, one: Candidate) -> Candidate:
        return one._replace(shapes=shapes_of(_raw(self._text, self.sentences.parts, one)))

    def _read_statements(self) -> Statements:
        parts = self.sentences.parts
        numbers = [n for n, kind in enumerate(parts.kinds) if kind in _SAYING]
        texts = [self._text[slice(*parts.span(n))] for n in numbers]
        about = [_row(subject(text)) for text in texts]
        return Statements(numbers, list(map(beginnings, texts)), about, [None] * len(numbers))


def reading_of(chunk: Chunk) -> Reading:
    """Return what is read of a chunk: once for all who look at it in one request."""
    if isinstance(chunk.reading, Reading):
        return chunk.reading
    return Reading(chunk.text, chunk.title, chunk.section, chunk.headings)


def _row(words: frozenset[str]) -> str:
    return " ".join(sorted(words))


def _words(text: str) -> list[tuple[int, str]]:
    """Return the words of a text in small letters, with their offsets, in order."""
    lower = folded(text)
    found = [(match.start(), match.group()) for match in _WORD.finditer(lower)]
    for match in _JOINED.finditer(lower):
        whole = match.group()
        ends = [n for n, letter in enumerate(whole) if letter == "."][1:]  # 4.2 of 4.2.1
        found += [(match.start(), whole[:end]) for end in (*ends, len(whole))]
    return sorted(found, key=itemgetter(0))


def _raw(text: str, parts: Parts, one: Candidate) -> str:
    return "\n".join([text[slice(*parts.span(n))] for n in one.parts])


def _is_cut(one: Candidate, raw: str) -> bool:
    return raw[:1].islower() and one.form == Form.PLAIN


def _is_poor(text: str) -> bool:
    return text.endswith("?") or len(_CODE.findall(text)) > 2
