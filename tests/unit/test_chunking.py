"""Chunks: each of one section, in order, none without words of its own."""

from compliance_copilot.rag.chunking import CAPACITY_CHARACTERS, split

LONG = "A supplier that processes customer data is assessed before it is used. " * 40


def test_a_heading_goes_with_the_words_under_it_however_long_they_are() -> None:
    text = f"## 4. Suppliers\n\n{LONG}\n\n## 5. Visitors\n\nVisitors sign in."
    pieces = [text[span.start : span.end] for span in split(text)]
    assert pieces[0].startswith("## 4. Suppliers\n\nA supplier")
    assert len(pieces[0]) <= CAPACITY_CHARACTERS + len("## 4. Suppliers\n\n")
    assert pieces[-1] == "## 5. Visitors\n\nVisitors sign in."
    assert "".join("".join(pieces).split()) == "".join(text.split()), "nothing is lost"


def test_what_has_no_words_is_no_chunk() -> None:
    assert split("# Only a heading\n\n---\n\n# Another\n\nWords.")[0].headings == ("Another",)
    assert split("---\n\n***\n") == []


def test_a_text_of_headings_alone_is_a_chunk_all_the_same() -> None:
    (span,) = split("# Only a heading")
    assert (span.start, span.end) == (0, 16)
