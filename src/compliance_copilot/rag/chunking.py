"""Markdown-aware chunks with offsets and the headings above them.

A text is first cut at its headings, so that a chunk belongs to one section and a citation can
name it; sections that are too long are cut by semantic-text-splitter. `text[start:end]` is the
chunk's text, in code points. A file that knows its own parts (pages, sheets) is cut at those.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from semantic_text_splitter import MarkdownSplitter

from compliance_copilot.core.files import Section

CAPACITY_CHARACTERS = 1_200
"""About 200 words: a paragraph or two, what an answer is usually found in."""
_HEADING = re.compile(r"^ {0,3}(#{1,6})[ \t]+(.+?)[ \t]*#*[ \t]*$")
_FENCE = re.compile(r"^ {0,3}(```+|~~~+)")
_WORD = re.compile(r"\w")


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a text, the headings above it, outermost first, and the page it is on."""

    start: int
    end: int
    headings: tuple[str, ...]
    page: int | None = None


@dataclass(frozen=True, slots=True)
class _Section:
    start: int
    body: int  # where the heading's own line ends
    end: int
    headings: tuple[str, ...]
    page: int | None = None


def split(
    text: str, sections: Sequence[Section] = (), *, capacity: int = CAPACITY_CHARACTERS
) -> list[Span]:
    """Return the chunks of a text in order; stretches without a letter or digit are left out.

    `sections` say where its parts come from; without them Markdown's headings do.
    """
    splitter = MarkdownSplitter(capacity)
    spans = [
        span
        for section in (_given(text, sections) if sections else _sections(text))
        if _WORD.search(text, section.body, section.end)
        for span in _cut(text, section, splitter, capacity)
    ]
    if spans or not _WORD.search(text):
        return spans
    return _cut(text, _Section(0, 0, len(text), ()), splitter, capacity)  # headings and no body


def _cut(text: str, section: _Section, splitter: MarkdownSplitter, capacity: int) -> list[Span]:
    whole = _trimmed(text, section.start, section.end, section)
    if whole.end - whole.start <= capacity:
        return [whole]
    spans: list[Span] = []
    for offset, piece in splitter.chunk_indices(text[section.start : section.end]):
        start = section.start + offset
        end = start + len(piece)
        if _WORD.search(text, max(start, section.body), end):
            # A heading alone says nothing: it goes with what follows it.
            spans.append(_trimmed(text, start if spans else section.start, end, section))
    return spans


def _trimmed(text: str, start: int, end: int, section: _Section) -> Span:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return Span(start, end, section.headings, section.page)


def _given(text: str, sections: Iterable[Section]) -> Iterator[_Section]:
    ordered = sorted(sections, key=lambda section: section.start)
    ends = [section.start for section in ordered[1:]] + [len(text)]
    for section, end in zip(ordered, ends, strict=True):
        if section.start < end:
            yield _Section(section.start, section.start, end, section.headings, section.page)


def _sections(text: str) -> Iterator[_Section]:
    path: list[tuple[int, str]] = []
    start, body = 0, 0
    for line_start, line_end, level, title in _heading_lines(text):
        if line_start > start:
            yield _Section(start, body, line_start, tuple(name for _, name in path))
        path = [entry for entry in path if entry[0] < level] + [(level, title)]
        start, body = line_start, line_end
    if start < len(text):
        yield _Section(start, body, len(text), tuple(name for _, name in path))


def _heading_lines(text: str) -> Iterator[tuple[int, int, int, str]]:
    fence: str | None = None
    position = 0
    for line in text.splitlines(keepends=True):
        bare = line.rstrip("\r\n")
        mark = _FENCE.match(bare)
        if mark:
            opens = mark.group(1)[:3]
            fence = opens if fence is None else (None if fence == opens else fence)
        heading = None if fence or mark else _HEADING.match(bare)
        if heading:
            title = heading.group(2).strip()
            yield position, position + len(line), len(heading.group(1)), title
        position += len(line)
