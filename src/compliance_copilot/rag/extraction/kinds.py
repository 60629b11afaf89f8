"""What a file is, told by its bytes: a name can say anything."""

import csv
import re
from pathlib import Path

from compliance_copilot.core.files import Unreadable
from compliance_copilot.rag.extraction.archives import names_of
from compliance_copilot.rag.extraction.bounds import Bounds

PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
ODT = "application/vnd.oasis.opendocument.text"
EPUB = "application/epub+zip"
RTF = "application/rtf"
HTML = "text/html"
EMAIL = "message/rfc822"
CSV = "text/csv"
TEXT = "text/plain"
ZIP = "application/zip"

_HEAD_BYTES = 8192
_OFFICE_PARTS = {"word/": DOCX, "xl/": XLSX, "ppt/": PPTX}
_MIMETYPES = {b"application/vnd.oasis.opendocument.text": ODT, b"application/epub+zip": EPUB}
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\x00", b"MM\x00*")
_OTHERS = {
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"MZ": "a program",
    b"\x7fELF": "a program",
}
_HTML = re.compile(
    r"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.I | re.S
)
_MAIL = re.compile(r"(?:[A-Za-z][A-Za-z0-9-]*:[^\n]*(?:\r?\n[ \t][^\n]*)*\r?\n)+", re.A)
_MAIL_FIELDS = ("\nfrom:", "\nmime-version:", "\nreceived:", "\nsubject:", "\nto:", "\ndate:")
_LEAST_MAIL_FIELDS = 3
_DELIMITERS = ",;\t|"
_SAMPLE_LINES = 30
_LEAST_ROWS = 2


def kind_of(path: Path, bounds: Bounds) -> str:
    """Return a file's media type. Raises Unreadable when it is none that can be read."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        raise Unreadable("empty", "The file is empty.")
    if b"%PDF-" in head[:1024]:
        return PDF
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip_kind(path, bounds)
    if head.startswith(b"{\\rtf"):
        return RTF
    _refuse_binary(head)
    return _text_kind(decoded(head, partial=True))


def _zip_kind(path: Path, bounds: Bounds) -> str:
    names = names_of(path, bounds)
    if "[Content_Types].xml" in names:
        for folder, kind in _OFFICE_PARTS.items():
            if any(name.startswith(folder) for name in names):
                return kind
        raise Unreadable("unsupported", "It is an office file of a kind that is not read.")
    with path.open("rb") as file:
        head = file.read(120)
    for mark, kind in _MIMETYPES.items():
        if mark in head:
            return kind
    return ZIP


def _refuse_binary(head: bytes) -> None:
    if head.startswith(_OLE):
        raise Unreadable(
            "unsupported",
            "It is an old Office file (or an encrypted new one); save it as DOCX, XLSX or PPTX"
            " without a password.",
        )
    if head.startswith(_PICTURES) or head[4:8] == b"ftyp":
        raise Unreadable(
            "unsupported", "It is a picture; put it into a PDF with a text layer (needs OCR)."
        )
    for mark, what in _OTHERS.items():
        if head.startswith(mark):
            raise Unreadable("unsupported", f"It is {what}, which is not read.")
    if b"\x00" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Unreadable("unsupported", "It is not a text, and of no kind that is read.")


def decoded(raw: bytes, *, partial: bool = False) -> str:
    """Return bytes as text: UTF-8, UTF-16 with its mark, else Windows-1252."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16", "replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if partial and error.start > len(raw) - 4:
            return raw[: error.start].decode("utf-8-sig")
        return raw.decode("cp1252", "replace")


def _text_kind(head: str) -> str:
    if _HTML.match(head):
        return HTML
    header = _MAIL.match(head)
    if header:
        fields = "\n" + header.group().lower()
        if sum(field in fields for field in _MAIL_FIELDS) >= _LEAST_MAIL_FIELDS:
            return EMAIL
    return CSV if delimiter_of(head) else TEXT


def delimiter_of(text: str) -> str | None:
    """Return the delimiter that cuts each of the first lines into equally many fields."""
    lines = text.splitlines()[: _SAMPLE_LINES + 1]
    whole = [line for line in (lines[:-1] if len(lines) > _SAMPLE_LINES else lines) if line.strip()]
    if len(whole) < _LEAST_ROWS:
        return None
    for delimiter in _DELIMITERS:
        try:
            widths = {len(row) for row in csv.reader(whole, delimiter=delimiter) if row}
        except csv.Error:
            continue
        if len(widths) == 1 and widths.pop() > 1:
            return delimiter
    return None
