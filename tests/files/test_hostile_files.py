"""Files made to do harm are refused in words, soon, and the next file is read as ever."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from compliance_copilot.core.files import Unreadable
from compliance_copilot.rag.extraction.pool import Extractor
from tests.files import making

EXPECTED = {
    "empty": "empty",
    "truncated PDF": "damaged",
    "encrypted PDF": "encrypted",
    "PDF of a million pages": "too_large",
    "zip bomb": "archive_bomb",
    "nested zip bomb": "nested_archive",
    "overlapping zip": "archive_bomb",
    "DOCX bomb": "archive_bomb",
    "truncated DOCX": "damaged",
    "XLSX of entities": "damaged",
    "deep JSON": "too_large",
    "deep HTML": "damaged",
    "a program as .pdf": "unsupported",
    "gzip as .txt": "unsupported",
    "random bytes": "unsupported",
    "one line of 40 MiB": "too_large",
    "60 MiB of text": "too_large",
    "picture": "unsupported",
}


@pytest.fixture(scope="module")
def extractor() -> Iterator[Extractor]:
    extractor = Extractor()
    yield extractor
    asyncio.run(extractor.close())


def fresh(folder: Path) -> Path:
    folder.mkdir()
    return folder


async def outcome(extractor: Extractor, path: Path, folder: Path) -> str:
    try:
        members = await extractor.unpack(path, folder)
        if members is None:
            await extractor.extract(path)
            return "text"
        codes = {m.code if isinstance(m, Unreadable) else "file" for _, m in members}
        return " ".join(sorted(codes))
    except Unreadable as refusal:
        return refusal.code


async def test_hostile_files_are_refused_and_good_ones_read_after_them(
    extractor: Extractor, tmp_path: Path
) -> None:
    found = {}
    for what, path in making.hostile(tmp_path / "hostile").items():
        found[what] = await outcome(extractor, path, fresh(tmp_path / path.stem))
    assert {what: found[what] for what in EXPECTED} == EXPECTED
    assert found["path tricks"] == "file unsafe_name"
    # Entities are not expanded: what is left is text without them, or none.
    assert found["DOCX of entities"] in {"text", "no_text", "damaged"}
    good = tmp_path / "good"
    good.write_bytes(making.docx("A good file."))
    assert (await extractor.extract(good)).text.strip() == "A good file."
