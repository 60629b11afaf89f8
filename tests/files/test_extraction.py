"""What each kind of file gives: its text, and where each part of it stands."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from compliance_copilot.core import cores
from compliance_copilot.core.files import Extracted, Unreadable
from compliance_copilot.rag.chunking import split
from compliance_copilot.rag.extraction import kinds, reading
from compliance_copilot.rag.extraction.bounds import Bounds
from compliance_copilot.rag.extraction.pool import Extractor
from compliance_copilot.rag.extraction.scans import tesseract_data
from compliance_copilot.rag.extraction.titles import title_of
from compliance_copilot.rag.visible import clean_text
from tests.files import making


@pytest.fixture(scope="module")
def extractor() -> Iterator[Extractor]:
    extractor = Extractor(Bounds(seconds=60))
    yield extractor
    asyncio.run(extractor.close())


async def read(extractor: Extractor, folder: Path, content: bytes | str) -> Extracted:
    path = folder / "file"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    extracted = await extractor.extract(path)
    assert clean_text(extracted.text) == extracted.text, "stored as it is: offsets refer to it"
    return extracted


def places(extracted: Extracted) -> list[tuple[str, tuple[str, ...], int | None]]:
    text = extracted.text
    return [
        (text[span.start : span.end], span.headings, span.page)
        for span in split(text, extracted.sections)
    ]


async def test_files_are_read_on_all_cores_whatever_core_the_service_keeps_to() -> None:
    extractor = Extractor(Bounds(seconds=60))
    try:
        with cores.kept_to(min(cores.CORES)):
            used = await extractor._run(os.sched_getaffinity, 0, seconds=60)
            assert os.sched_getaffinity(0) == {min(cores.CORES)}
        assert used == cores.CORES
    finally:
        await extractor.close()


async def test_a_pdf_keeps_the_page_of_every_chunk(extractor: Extractor, tmp_path: Path) -> None:
    found = await read(extractor, tmp_path, making.pdf("First page.", "", "Third page."))
    pages = [(text, page) for text, _, page in places(found)]
    assert pages == [("First page.", 1), ("Third page.", 3)]


async def test_a_docx_keeps_headings_and_every_character(
    extractor: Extractor, tmp_path: Path
) -> None:
    words = "Caf&#233; &quot;X&#x41;&quot; &amp;amp; more. 1. one"
    found = await read(extractor, tmp_path, making.docx("# R&amp;D &lt;rules&gt;", words))
    ((text, headings, _),) = places(found)
    assert headings == ("R&D <rules>",)
    assert text.endswith('Café "XA" &amp; more. 1. one')


async def test_a_pptx_keeps_the_number_of_the_slide(extractor: Extractor, tmp_path: Path) -> None:
    found = await read(extractor, tmp_path, making.pptx("One goes first", "Two follows"))
    slides = [(text, page) for text, _, page in places(found)]
    assert slides == [("## One goes first", 1), ("## Two follows", 2)]


async def test_a_spreadsheet_keeps_sheet_and_cells(extractor: Extractor, tmp_path: Path) -> None:
    head, row = {"B3": "Risk", "C3": "Owner"}, {"B4": "Fire | flood", "C4": "Facilities"}
    risks = {**head, **row, "B6": "Note", "B7": 3.0}
    found = await read(extractor, tmp_path, making.xlsx({"Risks": risks, "Empty": {}}))
    first, second = places(found)
    table = "| Risk | Owner |\n| --- | --- |\n| Fire \\| flood | Facilities |"
    assert first == (table, ("Risks", "Risks!B3:C4"), None)
    assert second[:2] == ("| Note |\n| --- |\n| 3 |", ("Risks", "Risks!B6:B7"))


async def test_a_long_table_is_cut_by_rows_under_its_head(
    extractor: Extractor, tmp_path: Path
) -> None:
    rows = "\n".join(f"control {n};open since {n} days" for n in range(200))
    found = await read(extractor, tmp_path, f"name;state\n{rows}\n")
    pieces = places(found)
    assert len(pieces) > 5
    assert all(text.startswith("| name | state |\n| --- | --- |\n") for text, _, _ in pieces)
    assert pieces[1][1][0].startswith("rows ")
    joined = "".join(text for text, _, _ in pieces)
    assert all(f"| control {n} |" in joined for n in range(200))


@pytest.mark.parametrize(
    ("content", "expected", "headings"),
    [
        ("# Title\n\nBody \\# text.", "# Title\n\nBody \\# text.", ("Title",)),
        ("plain text,\nwith a comma", "plain text,\nwith a comma", ()),
        ("Grüße".encode("cp1252"), "Grüße", ()),
        ("\ufeffmarked".encode("utf-16"), "marked", ()),
        ("a\u200bb\u202ec", "abc", ()),
        (
            "<html><body><h1>Top</h1><p>a &amp; b</p></body></html>",
            "# Top\n\na & b",
            ("Top",),
        ),
        ("### only", "### only", ()),
    ],
)
async def test_texts_come_as_they_are(
    extractor: Extractor, tmp_path: Path, content: str | bytes, expected: str, headings: tuple
) -> None:
    found = await read(extractor, tmp_path, content)
    assert found.text.strip() == expected
    assert places(found)[0][1] == headings


@pytest.mark.parametrize(
    ("opening", "times"),
    [("<div><span class=a>", 45), ("<section>", 500), ("<ul><li>", 20), ("<p>x", 900)],
)
async def test_a_deep_page_loses_nothing(
    extractor: Extractor, tmp_path: Path, opening: str, times: int
) -> None:
    page = f"<html><body><h1>Top</h1>{opening * times}the innermost</body></html>"
    found = await read(extractor, tmp_path, page)
    assert "the innermost" in found.text
    assert places(found)[-1][1] == ("Top",)


@pytest.mark.parametrize(("opening", "times"), [("<ul><li>", 40), ("<div>", 2_000)])
async def test_a_page_too_deep_to_be_read_whole_is_refused(
    extractor: Extractor, tmp_path: Path, opening: str, times: int
) -> None:
    with pytest.raises(Unreadable, match=r"^damaged: It is nested deeper"):
        await read(extractor, tmp_path, f"<html><body>{opening * times}the innermost")


async def test_a_mail_is_read_with_its_head(extractor: Extractor, tmp_path: Path) -> None:
    head = "From: a@example.org\r\nTo: b@example.org\r\nSubject: Fire drill\r\n"
    date = "Date: Mon, 2 Nov 2026 10:00:00 +0000\r\n\r\n"
    found = await read(extractor, tmp_path, f"{head}{date}It is on Friday.\r\n")
    assert found.media_type == "message/rfc822"
    assert "Fire drill" in found.text
    assert "It is on Friday." in found.text


async def test_a_pdf_without_text_needs_ocr(extractor: Extractor, tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"^needs_ocr: .* needs OCR") as caught:
        await read(extractor, tmp_path, making.pdf("", ""))
    assert caught.value.code == "needs_ocr"


@pytest.mark.parametrize(
    ("text", "media_type", "title"),
    [
        ("\n# Leave Policy\n\nText.", kinds.TEXT, "Leave Policy"),
        ("Access Control Policy\nOwner: the CISO.\n", kinds.PDF, "Access Control Policy"),
        ("**Paragraph one**\n\nText", kinds.DOCX, "Paragraph one"),
        ("Employees have 30 days of leave.\n\n# Later", kinds.PDF, "leave"),
        ("**Subject**: Fire drill\n\nText", kinds.EMAIL, "Fire drill"),
        ("| Risk | Owner |", kinds.XLSX, "leave"),
        ('{"a": 1}', kinds.TEXT, "leave"),
        ("w" * 121, kinds.TEXT, "leave"),
        ("", kinds.TEXT, "leave"),
    ],
)
def test_a_file_is_called_by_its_first_line_or_its_name(
    text: str, media_type: str, title: str
) -> None:
    assert title_of("staff/leave.pdf", Extracted(text, media_type)) == title


def test_ocr_waits_for_the_data_of_a_language(tmp_path: Path) -> None:
    (tmp_path / "osd.traineddata").touch()  # tells directions apart, and reads nothing
    folders = (str(tmp_path / "none"), str(tmp_path))
    assert tesseract_data(folders) is None
    (tmp_path / "eng.traineddata").touch()
    assert tesseract_data(folders) == tmp_path


async def test_a_zip_is_unpacked_under_safe_names(extractor: Extractor, tmp_path: Path) -> None:
    path, folder = tmp_path / "a.zip", tmp_path / "out"
    folder.mkdir()
    members: dict[str, bytes | str] = {"a/one.md": "one", "../up.md": "no", ".x": ""}
    members |= {"in.zip": making.zipped({"x.txt": "x"}), "d.docx": making.docx("d")}
    path.write_bytes(making.zipped({**members, "__MACOSX/y": ""}))
    found = dict(await extractor.unpack(path, folder) or [])
    refused = {name: e.code for name, e in found.items() if isinstance(e, Unreadable)}
    assert refused == {"up.md": "unsafe_name", "in.zip": "nested_archive"}
    assert [n for n, e in found.items() if isinstance(e, Path)] == ["a/one.md", "d.docx"]
    assert {p.parent for p in found.values() if isinstance(p, Path)} == {folder}
    assert await extractor.unpack(tmp_path / "out" / "0", folder) is None, "a text is no archive"


def _die(path: Path, bounds: Bounds) -> Extracted:
    with path.open("a") as file:
        file.write("tried\n")
    os._exit(9)


def _spin(path: Path, bounds: Bounds) -> Extracted:
    while True:
        path.exists()


async def test_a_reader_that_dies_takes_no_other_file_along(
    extractor: Extractor, tmp_path: Path
) -> None:
    poison, good = tmp_path / "poison", tmp_path / "good"
    poison.touch()
    good.write_text("A good file.")
    outcomes = await asyncio.gather(
        extractor._run(_die, poison, extractor.bounds, seconds=60),
        *(extractor.extract(good) for _ in range(3)),
        return_exceptions=True,
    )
    assert str(outcomes[0]).startswith("crashed: ")
    assert [o.text for o in outcomes[1:]] == ["A good file."] * 3
    assert poison.read_text() == "tried\ntried\n", "a bounded number of tries"


async def test_a_reader_that_hangs_is_ended(extractor: Extractor, tmp_path: Path) -> None:
    path = tmp_path / "good"
    path.write_text("A good file.")
    with pytest.raises(Unreadable, match=r"^too_slow: "):
        await extractor._run(_spin, path, extractor.bounds, seconds=0.5)
    assert (await extractor.extract(path)).text == "A good file."


def test_what_its_size_forbids_is_refused_before_it_is_kept(tmp_path: Path) -> None:
    path, folder = tmp_path / "a", tmp_path / "out"
    folder.mkdir()
    path.write_text("five!")
    with pytest.raises(Unreadable, match=r"^too_large: It gives more than 1 characters"):
        reading._unpack(path, folder, Bounds(text_characters=1))
    assert reading._unpack(path, folder, Bounds(text_characters=2)) is None
    path.write_bytes(making.zipped({"long.txt": "five!", "short.txt": "four"}))
    found = dict(reading._unpack(path, folder, Bounds(file_bytes=4)) or [])
    refused = {name: e.code for name, e in found.items() if isinstance(e, Unreadable)}
    assert refused == {"long.txt": "too_large"}
    assert found["short.txt"].read_text() == "four"  # type: ignore[union-attr]


def test_a_file_over_the_bound_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("too long")
    with pytest.raises(Unreadable, match=r"^too_large: "):
        reading._read(path, Bounds(file_bytes=3))
    assert reading._read(path, Bounds(file_bytes=8)).text == "too long"
