"""Cross-references in a text: "see section 4.2", "Rule 3.4.1", "Article 28", "§ 5 Abs. 2".

Pure; must not enter: where the thing referred to is stored.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_KIND = (
    r"(?:sub-?)?(?:sections?|rules?|articles?|arts?\.|clauses?|chapters?|paragraphs?|paras?\.?"
    r"|annex(?:es)?|appendix|appendices|schedules?|parts?|controls?|requirements?"
    r"|abschnitte?n?|artikel[n]?|kapitel[n]?|absatz|anhang|anlage|ziffern?|regel[n]?)"
)
_NUMBER = r"(?:[A-Z]\.?)?\d{1,4}(?:\.\d{1,4})*|[A-Z](?:\.\d{1,4})+|[IVX]{1,6}\b"
_SINGLE = re.compile(rf"(?:\b{_KIND}\s+|§§?\s*)\u200e?({_NUMBER})(?![\w])", re.IGNORECASE)
_LIST = re.compile(r"\A\s*(?:,|and|or|to|und|oder|bis)\s+\u200e?(\d{1,4}(?:\.\d{1,4})+)")
MOST_REFERENCES = 8


@dataclass(frozen=True, slots=True)
class Reference:
    """What a text points to: the number as its heading would begin, and the words as they stand."""

    number: str
    words: str


def references(texts: Iterable[str]) -> tuple[Reference, ...]:
    """Return the references of some texts, each number once, in order; at most eight."""
    found: dict[str, Reference] = {}
    for text in texts:
        for match in _SINGLE.finditer(text):
            words = " ".join(match.group().replace("\u200e", "").split())
            found.setdefault(match[1], Reference(match[1], words))
            rest = match.end()
            while following := _LIST.match(text[rest:]):
                found.setdefault(following[1], Reference(following[1], following[1]))
                rest += following.end()
    return tuple(found.values())[:MOST_REFERENCES]
