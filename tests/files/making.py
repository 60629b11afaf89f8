"""Small files of every kind, made here: what a tenant sends, and what an attacker does."""

import zipfile
from io import BytesIO
from pathlib import Path

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
P = "http://schemas.openxmlformats.org/presentationml/2006/main"
A = "http://schemas.openxmlformats.org/drawingml/2006/main"
R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
OFFICE = "application/vnd.openxmlformats-officedocument"


def zipped(files: dict[str, bytes | str]) -> bytes:
    target = BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target.getvalue()


def pdf(*pages: str, repeat: int = 1, encrypt: bool = False) -> bytes:
    """Return a PDF with a text on each page; `repeat` names the last page that often."""
    kids = [f"{4 + 2 * n} 0 R" for n in range(len(pages))]
    kids += kids[-1:] * (repeat - 1)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Count {len(kids)} /Kids [{' '.join(kids)}] >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for n, text in enumerate(pages):
        shown = " ".join(f"({line}) Tj 0 -16 Td" for line in text.split("\n")) if text else ""
        stream = f"BT /F1 12 Tf 72 720 Td {shown} ET".encode()
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * n} 0 R"
            " /Resources << /Font << /F1 3 0 R >> >> >>".encode()
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
    trailer = b""
    if encrypt:
        secret = b"41" * 32
        objects.append(
            b"<< /Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s> >>" % (secret, secret)
        )
        trailer = b" /Encrypt %d 0 R /ID [<41> <41>]" % len(objects)
    return _pdf_file(objects, trailer)


def _pdf_file(objects: list[bytes], trailer: bytes) -> bytes:
    body, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    size = len(objects) + 1
    table = b"0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % at for at in offsets)
    end = b"trailer << /Size %d /Root 1 0 R%s >>\nstartxref\n%d\n%%%%EOF" % (
        size,
        trailer,
        len(body),
    )
    return body + b"xref\n0 %d\n" % size + table + end


def docx(*blocks: str, prolog: str = "") -> bytes:
    """Return a DOCX; a block that starts with `# ` is a heading. Blocks are XML text."""
    body = "".join(_paragraph(block) for block in blocks)
    styles = (
        f'<w:styles xmlns:w="{W}"><w:style w:type="paragraph" w:styleId="Heading1">'
        '<w:name w:val="heading 1"/><w:pPr><w:outlineLvl w:val="0"/></w:pPr></w:style></w:styles>'
    )
    kinds = {
        "/word/document.xml": "wordprocessingml.document.main",
        "/word/styles.xml": "wordprocessingml.styles",
    }
    return zipped(
        {
            "[Content_Types].xml": _types(kinds),
            "_rels/.rels": _relations({"officeDocument": "word/document.xml"}),
            "word/_rels/document.xml.rels": _relations({"styles": "styles.xml"}),
            "word/document.xml": f'<?xml version="1.0"?>{prolog}<w:document xmlns:w="{W}">'
            f"<w:body>{body}</w:body></w:document>",
            "word/styles.xml": styles,
        }
    )


def _paragraph(block: str) -> str:
    style = ""
    if block.startswith("# "):
        style, block = '<w:pPr><w:pStyle w:val="Heading1"/></w:pPr>', block[2:]
    return f"<w:p>{style}<w:r><w:t>{block}</w:t></w:r></w:p>"


def pptx(*slides: str) -> bytes:
    """Return a PPTX with a text on each slide."""
    names = {n: f"slides/slide{n}.xml" for n in range(1, len(slides) + 1)}
    ids = "".join(f'<p:sldId id="{255 + n}" r:id="rId{n}"/>' for n in names)
    relations = "".join(
        f'<Relationship Id="rId{n}" Type="{R}/slide" Target="{name}"/>' for n, name in names.items()
    )
    kinds = {"/ppt/presentation.xml": "presentationml.presentation.main"}
    kinds |= {f"/ppt/{name}": "presentationml.slide" for name in names.values()}
    files: dict[str, bytes | str] = {
        "[Content_Types].xml": _types(kinds),
        "_rels/.rels": _relations({"officeDocument": "ppt/presentation.xml"}),
        "ppt/presentation.xml": f'<p:presentation xmlns:p="{P}" xmlns:r="{R}">'
        f"<p:sldIdLst>{ids}</p:sldIdLst></p:presentation>",
        "ppt/_rels/presentation.xml.rels": f'<Relationships xmlns="{PACKAGE}/relationships">'
        f"{relations}</Relationships>",
    }
    for n, text in enumerate(slides, start=1):
        files[f"ppt/{names[n]}"] = (
            f'<p:sld xmlns:p="{P}" xmlns:a="{A}"><p:cSld><p:spTree><p:sp><p:txBody><a:p><a:r><a:t>'
            f"{text}</a:t></a:r></a:p></p:txBody></p:sp></p:spTree></p:cSld></p:sld>"
        )
    return zipped(files)


def _types(parts: dict[str, str]) -> str:
    kinds = "".join(
        f'<Override PartName="{name}" ContentType="{OFFICE}.{kind}+xml"/>'
        for name, kind in parts.items()
    )
    return (
        f'<Types xmlns="{PACKAGE}/content-types"><Default Extension="rels" ContentType="'
        'application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Default Extension="xml" ContentType="application/xml"/>{kinds}</Types>'
    )


def _relations(targets: dict[str, str]) -> str:
    entries = "".join(
        f'<Relationship Id="rId{n}" Type="{R}/{kind}" Target="{target}"/>'
        for n, (kind, target) in enumerate(targets.items(), start=1)
    )
    return f'<Relationships xmlns="{PACKAGE}/relationships">{entries}</Relationships>'


def xlsx(sheets: dict[str, dict[str, object]]) -> bytes:
    """Return an XLSX from sheets of cells by their names (`B3`)."""
    from openpyxl import Workbook

    book = Workbook()
    book.remove(book.active)
    for title, cells in sheets.items():
        sheet = book.create_sheet(title)
        for place, value in cells.items():
            sheet[place] = value
    target = BytesIO()
    book.save(target)
    return target.getvalue()


def xlsx_of_entities() -> bytes:
    return zipped(
        {
            "[Content_Types].xml": _types({"/xl/workbook.xml": "spreadsheetml.sheet.main"}),
            "_rels/.rels": _relations({"officeDocument": "xl/workbook.xml"}),
            "xl/workbook.xml": f"<?xml version='1.0'?>{LAUGHS}<workbook>&i;</workbook>",
        }
    )


def bomb(levels: int = 1, megabytes: int = 220) -> bytes:
    """Return a ZIP of zeros; each further level wraps ten copies of the one below."""
    inner = zipped({"zeros.txt": bytes(megabytes * 2**20)})
    for _ in range(levels - 1):
        inner = zipped({f"{n}.zip": inner for n in range(10)})
    return inner


def overlapping(copies: int = 300, kilobytes: int = 1024) -> bytes:
    """Return a ZIP whose directory names the same data over and over (as 42.zip's heirs do)."""
    whole = zipped({"a.txt": bytes(kilobytes * 1024)})
    end = whole.rfind(b"PK\x05\x06")
    start = int.from_bytes(whole[end + 16 : end + 20], "little")
    entry = whole[start:end]
    directory = b"".join(entry.replace(b"a.txt", b"%05d" % n) for n in range(copies))
    tail = bytearray(whole[end:])
    tail[8:10] = tail[10:12] = copies.to_bytes(2, "little")
    tail[12:16] = len(directory).to_bytes(4, "little")
    return whole[:start] + directory + bytes(tail)


def _entity(name: str, value: str) -> str:
    return f'<!ENTITY {name} "{value}">'


_NESTED = [_entity(b, f"&{a};" * 20) for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
LAUGHS = f"<!DOCTYPE x [{_entity('a', 'ha')}{''.join(_NESTED)}]>"


def hostile(folder: Path) -> dict[str, Path]:
    """Write files that try to take the service down; return them by what they are."""
    tricks = {"../../etc/passwd": "a", "/abs.txt": "b", "C:\\x.txt": "c", "ok.txt": "A good file."}
    huge = {"[Content_Types].xml": "<Types/>", "word/document.xml": b" " * (220 * 2**20)}
    made = {
        "empty": b"",
        "truncated PDF": pdf("some text")[:200],
        "encrypted PDF": pdf("some text", encrypt=True),
        "PDF of a million pages": pdf("page", repeat=1_000_000),
        "zip bomb": bomb(),
        "nested zip bomb": bomb(levels=3, megabytes=20),
        "overlapping zip": overlapping(),
        "path tricks": zipped(dict(tricks)),
        "DOCX bomb": zipped(dict(huge)),
        "DOCX of entities": docx("&i;", prolog=LAUGHS),
        "truncated DOCX": docx("some text")[:-300],
        "XLSX of entities": xlsx_of_entities(),
        "deep JSON": b"[" * 5_000_000,
        "deep HTML": b"<html><body>" + b"<div>" * 1_000_000 + b"text",
        "a program as .pdf": b"\x7fELF" + bytes(range(256)) * 100,
        "gzip as .txt": b"\x1f\x8b" + bytes(100),
        "random bytes": bytes((n * 7919 + n // 256) % 256 for n in range(100_000)),
        "one line of 40 MiB": b"x" * (40 * 2**20),
        "60 MiB of text": b"word " * (12 * 2**20),
        "picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for number, (what, content) in enumerate(made.items()):
        paths[what] = folder / f"{number}.pdf"  # a name says nothing
        paths[what].write_bytes(content)
    return paths
