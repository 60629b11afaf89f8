"""Documents by kreuzberg, plain text by its letters. Runs in the reading process."""

import re
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from compliance_copilot.core.files import NEEDS_OCR, Extracted, Section, Unreadable
from compliance_copilot.rag.extraction import archives, kinds
from compliance_copilot.rag.extraction.bounds import Bounds, too_much_text
from compliance_copilot.rag.extraction.markup import flat
from compliance_copilot.rag.extraction.references import put_back, without_references
from compliance_copilot.rag.visible import clean_text

_ESCAPE = re.compile(r"(?<!^)\\([!-/:-@\[-`{-~])", re.M)
_FRONT_MATTER = re.compile(r"\A---\n(?:[^\n]*\n)*?\n(?:#+ title: [^\n]*\n+)?")
_HEADING = re.compile(r"^(#{1,6})[ \t]+(.+?)[ \t]*$", re.M)
_IMAGE_DATA = re.compile(r"!\[[^\]]*\]\(data:[^)]*\)")
_GAP = "\n\n"
_ZIPPED = frozenset({kinds.DOCX, kinds.PPTX, kinds.ODT, kinds.EPUB})


def read_plain(path: Path, bounds: Bounds) -> Extracted:
    """Return a text or Markdown file as it is."""
    return _whole(kinds.decoded(path.read_bytes()), kinds.TEXT, bounds)


def read_document(path: Path, media_type: str, bounds: Bounds) -> Extracted:
    """Return a document as Markdown: headings, lists and tables stay what they are."""
    if media_type in _ZIPPED:
        archives.names_of(path, bounds)
    mark = secrets.token_hex(8)
    source = _source(path, media_type, bounds)
    config = _config(page_mark=f"{_GAP}{mark}{{page_num}}{mark}{_GAP}")
    found = extract(source, media_type, config)
    text = _FRONT_MATTER.sub("", found.content) if media_type == kinds.HTML else found.content
    text = _IMAGE_DATA.sub("", put_back(_ESCAPE.sub(r"\1", text)))
    if mark not in text:
        return _whole(text, media_type, bounds)
    pieces = re.split(f"{mark}([0-9]+){mark}", text)
    slides = zip(map(int, pieces[1::2]), pieces[2::2], strict=True)
    return paged(((page, body, _titles(body)) for page, body in slides), media_type, bounds)


def _source(path: Path, media_type: str, bounds: Bounds) -> bytes:
    """Return a file's bytes in the form in which kreuzberg leaves nothing out."""
    if media_type == kinds.DOCX:
        return without_references(path, bounds)
    return flat(path.read_bytes()) if media_type == kinds.HTML else path.read_bytes()


def read_pdf(path: Path, bounds: Bounds) -> Extracted:
    """Return a PDF page by page, with the headings that its letters' sizes show.

    Raises Unreadable, with NEEDS_OCR when no page has a text.
    """
    check_pages(path, bounds.pages)
    found = extract(path.read_bytes(), kinds.PDF, _config())
    headings = [
        (len(marks), _ESCAPE.sub(r"\1", title).replace("\\", ""))
        for marks, title in _HEADING.findall(found.content)
    ]
    pages = [(page["page_number"], page["content"]) for page in found.pages or ()]
    if not any(body.strip() for _, body in pages):
        raise Unreadable(NEEDS_OCR, "The PDF has no text layer; it needs OCR.")
    return paged(_under_headings(pages, headings), kinds.PDF, bounds)


def check_pages(path: Path, most: int, what: str = "PDF") -> None:
    """Raise Unreadable for a PDF of more pages."""
    from kreuzberg import PdfPageIterator

    try:
        count = len(PdfPageIterator(str(path)))
    except Exception as error:
        raise explained(error) from error
    if count > most:
        raise Unreadable("too_large", f"A {what} has at most {most} pages.")


def _config(*, page_mark: str = "") -> Any:
    import kreuzberg as k

    return k.ExtractionConfig(
        use_cache=False,
        enable_quality_processing=False,
        output_format="markdown",
        pages=k.PageConfig(
            extract_pages=True, insert_page_markers=bool(page_mark), marker_format=page_mark
        ),
        concurrency=k.ConcurrencyConfig(max_threads=1),
    )


def extract(source: bytes, media_type: str, config: Any) -> Any:
    """Return what kreuzberg reads. Raises Unreadable."""
    import kreuzberg as k

    try:
        return k.extract_bytes_sync(source, media_type, config)
    except k.KreuzbergError as error:
        raise explained(error) from error


def explained(error: Exception) -> Unreadable:
    """Return the refusal that an error of kreuzberg amounts to."""
    words = str(error).lower()
    if "password" in words or "encrypt" in words:
        return Unreadable("encrypted", "The file is encrypted; send it without a password.")
    return Unreadable("damaged", "The file cannot be read; it is damaged or not what it seems.")


def _titles(body: str) -> Iterator[tuple[int, int, str]]:
    """Yield (offset, level, heading) of each heading in a slide's Markdown."""
    for found in _HEADING.finditer(body):
        yield found.start(), len(found.group(1)), found.group(2)


def _under_headings(
    pages: Iterable[tuple[int, str]], headings: list[tuple[int, str]]
) -> Iterator[tuple[int, str, list[tuple[int, int, str]]]]:
    """Find the headings in the pages, in order; one that is not there as a line is passed over."""
    waiting = list(headings)
    for page, raw in pages:
        body, found, at = _clean(raw), [], 0
        while waiting:
            level, title = waiting[0]
            line = re.compile(rf"^[ \t]*{re.escape(title)}[ \t]*$", re.M).search(body, at)
            if line is None:
                break
            found.append((line.start(), level, title))
            at = line.end()
            waiting.pop(0)
        else:
            yield page, body, found
            continue
        waiting = _without_lost(waiting, body, at)
        yield page, body, found


def _without_lost(waiting: list[tuple[int, str]], body: str, at: int) -> list[tuple[int, str]]:
    """Drop a heading that the page skips: the next ones stand on it, this one does not."""
    for place, (_, title) in enumerate(waiting[1:4], start=1):
        if re.compile(rf"^[ \t]*{re.escape(title)}[ \t]*$", re.M).search(body, at):
            return waiting[place:]
    return waiting


def paged(
    pages: Iterable[tuple[int, str, Iterable[tuple[int, int, str]]]],
    media_type: str,
    bounds: Bounds,
) -> Extracted:
    """Return pages (number, text, headings with their offsets) as one text. Raises Unreadable."""
    parts: list[str] = []
    sections: list[Section] = []
    path: list[tuple[int, str]] = []
    length = 0
    for page, raw, headings in pages:
        body = _clean(raw).rstrip()
        sections.append(Section(length, tuple(name for _, name in path), page))
        for offset, level, title in headings:
            path = [entry for entry in path if entry[0] < level] + [(level, title)]
            sections.append(Section(length + offset, tuple(name for _, name in path), page))
        parts.append(body)
        length += len(body) + len(_GAP)
        if length > bounds.text_characters:
            raise too_much_text(bounds)
    return _checked(Extracted(_GAP.join(parts), media_type, sections))


def _whole(text: str, media_type: str, bounds: Bounds) -> Extracted:
    if len(text) > bounds.text_characters:
        raise too_much_text(bounds)
    return _checked(Extracted(_clean(text), media_type))


def _clean(text: str) -> str:
    return clean_text(text.replace("\r\n", "\n"))


def _checked(extracted: Extracted) -> Extracted:
    if not extracted.text.strip():
        raise Unreadable("no_text", "There is no text in it.")
    return extracted
