"""Scanned pages, drawn here and read by Debian's tesseract: found, and cited by their page."""

import asyncio
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import httpx
import pytest
from PIL import Image, ImageDraw, ImageFont

from benchmarks.harness import client_of, make_tenant, open_base, open_service
from compliance_copilot.core.files import Unreadable
from compliance_copilot.rag.extraction.bounds import Bounds
from compliance_copilot.rag.extraction.pool import Extractor
from compliance_copilot.rag.extraction.scans import tesseract_data

SENTENCE = "Badge records are kept for fourteen months."


def scanned(*pages: str) -> bytes:
    """Return a PDF of which each page is a picture."""
    font = ImageFont.load_default(28)
    pictures = []
    for text in pages:
        pictures.append(Image.new("L", (1240, 1754), 255))
        ImageDraw.Draw(pictures[-1]).text((120, 160), text, font=font, fill=0, spacing=16)
    target = BytesIO()
    pictures[0].save(target, "PDF", resolution=150, save_all=True, append_images=pictures[1:])
    return target.getvalue()


async def _ended(client: httpx.AsyncClient, job_id: str) -> str:
    while True:
        state: str = (await client.get(f"/jobs/{job_id}")).json()["state"]
        if state not in {"queued", "running"}:
            return state
        await asyncio.sleep(0.2)


@pytest.fixture
async def extractor() -> AsyncIterator[Extractor]:
    extractor = Extractor(Bounds(ocr_pages=2), ocr_data=tesseract_data())
    yield extractor
    await extractor.close()


async def test_a_scan_is_cited_by_its_page() -> None:
    pages = ("The manual of the gate house", f"Retention\n\n{SENTENCE}")
    async with open_base() as base, open_service(base) as service:
        key = await make_tenant(service, "acme", config={"model_tier": "extractive"})
        async with client_of(service, key) as client:
            files = [("files", ("manual.pdf", scanned(*pages)))]
            job_id = (await client.post("/ingest/files", files=files)).json()["job_id"]
            assert (await _ended(client, job_id)) == "succeeded"
            question = {"query": "For how many months are badge records kept?"}
            answer = (await client.post("/query", json=question)).json()
    citation = answer["citations"][0]
    source = answer["sources"][citation["source"]]
    assert citation["quote"] == SENTENCE
    assert (source["document_id"], source["page"]) == ("manual.pdf", 2)


async def test_a_scan_of_too_many_pages_is_refused_before_it_is_read(
    extractor: Extractor, tmp_path: Path
) -> None:
    path = tmp_path / "scan"
    path.write_bytes(scanned(*["A page"] * 3))
    with pytest.raises(Unreadable, match=r"^too_large: A scanned PDF has at most 2 pages"):
        await extractor.extract(path)


async def test_a_scan_of_nothing_says_so(extractor: Extractor, tmp_path: Path) -> None:
    path = tmp_path / "scan"
    path.write_bytes(scanned("", ""))
    with pytest.raises(Unreadable, match=r"^no_text: .* OCR found none"):
        await extractor.extract(path)
