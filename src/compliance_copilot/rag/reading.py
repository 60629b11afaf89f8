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
from compliance_copilot.rag.candidates import Candidate, candidates
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


def _rules() -> bytes:
    folder = files(__package__)
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".py"))
    told = blake2b(f"{unicodedata.unidata_version} {Stemmer.version()}".encode(), digest_size=16)
    for name in names:
        told.update(folder.joinpath(name).read_bytes())
    return told.digest()


RULES = _rules()
"""The rules that this release reads by: what others have read is read anew. It is the sum of this
room's code, so that nobody has to remember to count a version up."""


class Part(NamedTuple):
    """A sentence, heading, row or block of code: where it stands, its words in order."""

    start: int
    end: int
    kind: str
    words: Sequence[int]


class Sentences(NamedTuple):
    """What selection looks at. Words are numbers: places in `words`, each in small letters, once.

    `heads`: the words of title and headings, in order.
    """

    words: Sequence[str]
    heads: Sequence[int]
    parts: Sequence[Part]
    candidates: Sequence[Candidate]


class Statement(NamedTuple):
    """A stretch that says something. Bits of `begins` and `about` are places in `Statements`."""

    start: int
    end: int
    begins: int
    about: int


class Statements(NamedTuple):
    """What of a chunk could disagree with another.

    `begins`: how the words of the whole chunk begin; `about`: the words that its statements are
    about. `said` says what each commits itself to; None: not read yet.
    """

    begins: Mapping[str, int]
    about: Mapping[str, int]
    stretches: Sequence[Statement]
    said: list[Sayings | None]


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
        for part in sentences.parts:
            self.trusted(part.start, part.end)
        return orjson.dumps(
            {
                "suspicious": self.suspicious,
                "passages": [[*bounds, bad] for bounds, bad in self._passages.items()],
                "words": " ".join(sentences.words),
                "heads": sentences.heads,
                "parts": list(map(list, sentences.parts)),
                "candidates": list(map(list, sentences.candidates)),
                "begins": " ".join(statements.begins),
                "about": " ".join(statements.about),
                "stretches": [
                    [s.start, s.end, f"{s.begins:x}", f"{s.about:x}"] for s in statements.stretches
                ],
                "said": [list(self.says(n)) for n in range(len(statements.stretches))],
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
            return Sentences(
                kept["words"].split(),
                kept["heads"],
                list(map(Part._make, kept["parts"])),
                list(map(Candidate._make, kept["candidates"])),
            )
        return self._read_sentences()

    @cached_property
    def statements(self) -> Statements:
        """What conflicts are looked for in."""
        kept = self._kept
        if kept:
            return Statements(
                _bits(kept["begins"].split()),
                _bits(kept["about"].split()),
                [Statement(a, b, int(c, 16), int(d, 16)) for a, b, c, d in kept["stretches"]],
                list(map(Sayings._make, kept["said"])),
            )
        return self._read_statements()

    def says(self, number: int) -> Sayings:
        """Return what a statement commits itself to: the dear part, read when it is compared."""
        stretches, said = self.statements.stretches, self.statements.said
        found = said[number]
        if found is None:
            one = stretches[number]
            found = said[number] = sayings(self._text[one.start : one.end])
        return found

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
        parts = [
            Part(p.start, p.end, p.kind, [n for at, n in own if p.start <= at < p.end])
            for p in found
        ]
        options = [
            one._replace(shapes=shapes_of(raw), poor=_is_poor(raw))
            for one in candidates(text, found)
            if (raw := "\n".join(text[parts[n].start : parts[n].end] for n in one.parts))
        ]
        return Sentences(list(numbers), above, parts, options)

    def _read_statements(self) -> Statements:
        parts = [part for part in self.sentences.parts if part.kind in _SAYING]
        texts = [self._text[part.start : part.end] for part in parts]
        begun, about = list(map(beginnings, texts)), list(map(subject, texts))
        begins_bits = _bits(sorted(beginnings(self._text)))
        about_bits = _bits(sorted(frozenset[str]().union(*about)))
        stretches = [
            Statement(part.start, part.end, mask_of(begin, begins_bits), mask_of(words, about_bits))
            for part, begin, words in zip(parts, begun, about, strict=True)
        ]
        return Statements(begins_bits, about_bits, stretches, [None] * len(stretches))


def reading_of(chunk: Chunk) -> Reading:
    """Return what is read of a chunk: once for all who look at it in one request."""
    if isinstance(chunk.reading, Reading):
        return chunk.reading
    return Reading(chunk.text, chunk.title, chunk.section, chunk.headings)


def mask_of(words: frozenset[str], bits: Mapping[str, int]) -> int:
    """Return these words as bits; those that have none are left out."""
    mask = 0
    for word in words:
        mask |= bits.get(word, 0)
    return mask


def words_of(mask: int, bits: Mapping[str, int]) -> frozenset[str]:
    """Return the words whose bits are set."""
    return frozenset(word for word, bit in bits.items() if mask & bit)


def _bits(words: Sequence[str]) -> dict[str, int]:
    return {word: 1 << place for place, word in enumerate(words)}


def _words(text: str) -> list[tuple[int, str]]:
    """Return the words of a text in small letters, with their offsets, in order."""
    lower = folded(text)
    found = [(match.start(), match.group()) for match in _WORD.finditer(lower)]
    for match in _JOINED.finditer(lower):
        whole = match.group()
        ends = [n for n, letter in enumerate(whole) if letter == "."][1:]  # 4.2 of 4.2.1
        found += [(match.start(), whole[:end]) for end in (*ends, len(whole))]
    return sorted(found, key=itemgetter(0))


def _is_poor(text: str) -> bool:
    return text.endswith("?") or len(_CODE.findall(text)) > 2
