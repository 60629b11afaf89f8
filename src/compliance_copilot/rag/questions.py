"""What a question asks for: its content words with their relatives, and the shape of its answer.

Pure; must not enter: sources, scores, answers. English and German have question words, relatives
and shapes; in other languages a question is its content words alone.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from compliance_copilot.rag.analysis import detect_language, word_stems


class Asks(StrEnum):
    """The shape of an answer."""

    MOMENT = "moment"
    DURATION = "duration"
    QUANTITY = "quantity"
    PERSON = "person"
    RULE = "rule"
    MEANING = "meaning"
    ANYTHING = "anything"


_FREQUENCY = r"(?:how (?:often|frequently)|wie (?:oft|häufig)|in welchen abständen)"
_LENGTH = r"(?:how (?:long|soon|quickly|fast|old)|wie (?:lange|schnell|bald|alt))"
_SHAPES: tuple[tuple[Asks, re.Pattern[str]], ...] = tuple(
    (asks, re.compile(pattern))
    for asks, pattern in (
        (Asks.DURATION, rf"\b(?:{_FREQUENCY}|{_LENGTH}|within what|innerhalb welcher)\b"),
        (Asks.DURATION, r"\b(?:retention period|time ?limit|deadline|frist|aufbewahrungsdauer)\b"),
        (
            Asks.QUANTITY,
            r"\b(?:how (?:many|much|large|big|high|strong)|wie (?:viele?|hoch|groß))\b",
        ),
        (Asks.QUANTITY, r"\b(?:(?:minimum|maximum) (?:\w+ )?(?:length|number|amount|size))\b"),
        (Asks.MOMENT, r"\b(?:when|by what date|what date|wann|zu welchem zeitpunkt|ab wann)\b"),
        (Asks.PERSON, r"\b(?:who|whom|whose|which (?:role|team|person|body|department))\b"),
        (Asks.PERSON, r"\b(?:wer|wem|wen|wessen|welche (?:rolle|abteilung|stelle))\b"),
        (Asks.RULE, r"\A\W*(?:must|may|can|shall|should|are|is|do|does|am|will|have|has)\b"),
        (Asks.RULE, r"\A\W*(?:muss|müssen|darf|dürfen|kann|können|soll|sollen|ist|sind|wird)\b"),
        (Asks.MEANING, r"\A\W*(?:what (?:is|are) (?:an? |the )?(?:\w+[ -]?){1,3}\?*\Z)"),
        (
            Asks.MEANING,
            r"\b(?:mean by|defined as|definition of|was (?:ist|sind|bedeutet)|meant by)\b",
        ),
    )
)
_UNIT = (
    r"(?:second|minute|hour|day|week|month|quarter|year|sekunde|minute|stunde|tag|woche|monat"
    r"|quartal|jahr)(?:s|n|en|e|es|ly)?"
)
_NUMBER = (
    r"(?:\d[\d.,]*|one|two|three|four|five|six|seven|eight|nine|ten|twelve|fourteen|thirty|sixty"
    r"|ninety|zwei|drei|vier|fünf|sechs|sieben|acht|neun|zehn|zwölf|vierzehn|dreißig|einmal|each"
    r"|every|per|a|an|alle|jede[nsm]?|pro|einem?|einer)"
)
_PERIOD = (
    rf"\b{_NUMBER}[\s-]*(?:\w+[\s-])?{_UNIT}\b"
    r"|\b(?:immediately|without (?:undue )?delay|at once|annually"
    r"|(?:semi-?|bi-?)?(?:annual|month|quarter|week|dai|year)ly?|daily|indefinitely|permanently"
    r"|continuously|unverzüglich|sofort|umgehend|(?:viertel|halb)?jährlich|monatlich|wöchentlich"
    r"|täglich|dauerhaft|laufend|as soon as|so bald wie|as long as|solange)\b"
)
_DATE = r"\b(?:\d{4}-\d\d-\d\d|\d{1,2}\.\d{1,2}\.\d{2,4}|(?:19|20)\d\d)\b"
_EVENT = (
    r"\b(?:before|after|when(?:ever)?|upon|during|once|until|at the (?:time|end|latest)|prior to"
    r"|on the|within|vor|nach|wenn|sobald|während|bei|bis|spätestens)\b"
)


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What a fitting answer shows. A pattern in small letters on a lowered text takes a tenth of
    the time of one that ignores case.
    """

    pattern: re.Pattern[str]
    lowered: bool = True


_EVIDENCE: Mapping[Asks, _Evidence] = {
    Asks.DURATION: _Evidence(re.compile(_PERIOD)),
    Asks.MOMENT: _Evidence(re.compile(f"{_PERIOD}|{_DATE}|{_EVENT}")),
    Asks.QUANTITY: _Evidence(
        re.compile(r"\d|\b(?:two|three|four|five|six|zwei|drei|vier|fünf|sechs)\b")
    ),
    Asks.PERSON: _Evidence(
        re.compile(
            r"\b(?:officer|manager|management|owner|team|committee|department|board|personnel|staff"
            r"|supervisor|employees?|contractors?|users?|person|everyone|director|lead|head|desk"
            r"|administrators?|auditors?|responsible|authority|regulator|ciso|dpo|hr|it|legal"
            r"|\w*beauftragte\w*|\w*leit(?:ung|er)\w*|\w*abteilung|beschäftigte\w*|mitarbeite\w+|vorstand|geschäftsführung|verantwortlich\w*)\b"
        )
    ),
    Asks.RULE: _Evidence(
        re.compile(
            r"\b(?:must|may|shall|should|cannot|can|only|never|not|required|prohibited|permitted|allowed"
            r"|forbidden|muss|müssen|darf|dürfen|kann|können|nicht|kein\w*|nur|verboten|untersagt|erlaubt"
            r"|zulässig|verpflichtet)\b"
        )
    ),
    Asks.MEANING: _Evidence(
        re.compile(r"\b(?:means?|is an?|are|refers? to|defines?|is the|bedeutet|bezeichnet|ist)\b"),
        lowered=False,
    ),
}

_BITS = {asks: 1 << place for place, asks in enumerate(_EVIDENCE)}


EVERY_SHAPE = sum(_BITS.values())


def shapes_of(text: str, asked: int = EVERY_SHAPE) -> int:
    """Return which of the answers that are asked for a text looks like, as bits of `asked`."""
    lower = text.lower()
    shapes = 0
    for asks, evidence in _EVIDENCE.items():
        if _BITS[asks] & asked and evidence.pattern.search(lower if evidence.lowered else text):
            shapes |= _BITS[asks]
    return shapes


# Words that make the question a question, or say nothing about its subject: a tenth of a word.
_FRAMING = """
much many long often frequently soon quickly fast kind type sort tell explain describe list give say
state happen need require required requirement must may might shall can allowed permitted please
company organisation organization policy policies rule regulation document according viele viel
lange oft häufig schnell muss müssen darf dürfen soll erforderlich nötig bitte firma unternehmen
richtlinie richtlinien regel regeln vorschrift laut gilt gelten gibt specific specify outline
provide mean use used apply applies get make made take place work us we do our i my me minimum
maximum period time date another other else person people responsible definition
"""
_FRAME = frozenset(_FRAMING.split())
_FULL = frozenset({"personal"})
# Relatives of compliance prose: one is taken for another at a small discount.
_RELATIVES = (
    "keep kept retain store retention preserve hold held archive",
    "delete erase destroy dispose remove deletion erasure disposal",
    "report notify inform disclose notification announce tell escalate",
    "revoke withdraw remove disable deactivate terminate block",
    "leave leaver termination depart departure offboarding end",
    "join joiner onboarding hire start",
    "review check verify assess audit examine inspect recertify evaluate reviewed",
    "approve authorise authorize approval sign permission consent release",
    "encrypt encryption cipher cryptography cryptographic encrypted",
    "password passphrase credential passwort kennwort",
    "employee staff personnel worker workforce",
    "supplier vendor contractor processor provider subcontractor",
    "backup copy restore",
    "rotate change renew replace rotation",
    "incident breach violation event",
    "train training awareness course instruct education",
    "test exercise drill rehearse",
    "laptop device notebook computer workstation endpoint",
    "customer client",
    "fine penalty sanction",
    "home remote telework",
    "screen display workstation",
    "lock locked lockout",
    "length long characters character",
    "mfa multi-factor factor",
    "personal private",
    "allow permit may",
    "aufbewahren speichern aufbewahrung archivieren aufbewahrt gespeichert",
    "löschen vernichten löschung vernichtung gelöscht entsorgen vernichtet",
    "melden meldung informieren anzeigen gemeldet benachrichtigen mitteilen",
    "prüfen überprüfen überprüfung prüfung kontrolle geprüft überprüft",
    "genehmigen freigeben genehmigung freigabe genehmigt zustimmung",
    "verschlüsseln verschlüsselung verschlüsselt",
    "mitarbeiter beschäftigte personal mitarbeitende",
    "lieferant dienstleister anbieter auftragnehmer",
    "vorfall ereignis verstoß verletzung",
    "schulung unterweisung training schulen sensibilisierung",
    "entziehen sperren deaktivieren entzogen gesperrt",
)
_WORDS = re.compile(r"[^\W_]+(?:[-'’.][^\W_]+)*")
_RELATED = 0.85


@dataclass(frozen=True, slots=True)
class Question:
    """A question taken apart.

    `weights`: how much each content word counts before rarity; `forms`: every stem that stands for
    a content word, with the word and the credit it earns; `shape`: the bit of a fitting answer,
    0 when any fits.
    """

    text: str
    language: str
    asks: Asks
    weights: Mapping[str, float]
    forms: Mapping[str, tuple[str, float]]
    shape: int


def parse(text: str) -> Question:
    """Return the question taken apart. A question without content words has no weights."""
    language = detect_language(text)
    lower = text.lower()
    asks = next((asks for asks, shape in _SHAPES if shape.search(lower)), Asks.ANYTHING)
    weights: dict[str, float] = {}
    forms: dict[str, tuple[str, float]] = {}
    for match in _WORDS.finditer(text):
        word = match.group()
        for stem in word_stems(word, language):
            weights[stem] = max(weights.get(stem, 0.0), _weight(word, stem, match.start()))
            forms[stem] = (stem, 1.0)
            for relative in _RELATED_STEMS.get(stem, ()):
                forms.setdefault(relative, (stem, _RELATED))
    return Question(text, language, asks, weights, forms, _BITS.get(asks, 0))


def _weight(word: str, stem: str, start: int) -> float:
    # `personal` has the stem of `person` and none of its emptiness.
    lower = word.lower()
    if lower in _FRAME or (stem in _FRAME and lower not in _FULL):
        return 0.1
    if any(map(str.isdigit, word)):
        return 1.5  # a number or an identifier is what the question is about
    # A name inside the sentence; German writes every noun so, and loses nothing by it.
    return 1.3 if start > 0 and word[0].isupper() else 1.0


def _related_stems() -> dict[str, frozenset[str]]:
    related: dict[str, set[str]] = {}
    for line in _RELATIVES:
        language = "de" if _RELATIVES.index(line) >= _FIRST_GERMAN else "en"
        group = {stem for word in line.split() for stem in word_stems(word, language)}
        for stem in group:
            related.setdefault(stem, set()).update(group - {stem})
    return {stem: frozenset(others) for stem, others in related.items()}


_FIRST_GERMAN = next(n for n, line in enumerate(_RELATIVES) if line.startswith("aufbewahren"))
_RELATED_STEMS = _related_stems()
