"""What a sentence commits itself to: numbers, dates, negation, modality, bounds, names.

English and German. Patterns are in small letters, for lowered texts: one that ignores case is slow,
and takes letters for others (a long s for an s). Pure; must not enter: sources, answers, providers.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from compliance_copilot.rag.matching import folded
from compliance_copilot.rag.numerals import COUNTING, JOINED, NUMERALS, in_digits

_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january januar jänner jan",
            "february februar feb",
            "march märz mar mrz",
            "april apr",
            "may mai",
            "june juni jun",
            "july juli jul",
            "august aug",
            "september sep sept",
            "october oktober oct okt",
            "november nov",
            "december dezember dec dez",
        ),
        start=1,
    )
    for name in names.split()
}
_MONTH_BEGINS = tuple(sorted({name[:3] for name in _MONTHS}))
_DIGIT = re.compile(r"\d")
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_DATES = (
    re.compile(r"\b(?P<y>\d{4})-(?P<m>\d{2})-(?P<d>\d{2})\b"),
    re.compile(r"\b(?P<d>\d{1,2})\.\s?(?P<m>\d{1,2})\.\s?(?P<y>\d{4})\b"),
    re.compile(r"\b(?P<d>\d{1,2})/(?P<m>\d{1,2})/(?P<y>\d{4})\b"),
    re.compile(
        rf"\b(?P<d>\d{{1,2}})(?:st|nd|rd|th|\.)?\s+(?:of\s+)?(?P<m>{_MONTH})\b\.?"
        r"(?:,?\s+(?P<y>\d{4}))?"
    ),
    re.compile(
        rf"\b(?P<m>{_MONTH})\.?\s+(?P<d>\d{{1,2}})(?:st|nd|rd|th)?\b(?!\d)(?:,?\s+(?P<y>\d{{4}}))?"
    ),
    re.compile(rf"\b(?P<m>{_MONTH})\.?\s+(?P<d>)(?P<y>\d{{4}})\b"),
)

_NUMBER = re.compile(
    rf"(?<![\w])(?P<n>\d+(?:[.,'’\u00a0\u202f]\d+)*)(?:st|nd|rd|th)?(?![\d])"
    rf"|(?<=[a-z])[-]?(?P<i>\d+(?:\.\d+)*)|\b(?P<w>{'|'.join(NUMERALS)})\b"
)
_RUN = re.compile(r"\w+")
_UNIT_NAMES = """
second seconds sekunde sekunden sec s
minute minutes minuten min
hour hours stunde stunden h
day days tag tage tagen
week weeks woche wochen
month months monat monate monaten
quarter quarters quartal quartale quartalen
year years jahr jahre jahren
percent % prozent
euro € eur euros
dollar $ usd dollars
"""
_UNITS = {
    name: line.split()[0] for line in _UNIT_NAMES.strip().splitlines() for name in line.split()
}
_UNIT_AFTER = re.compile(
    r"[\s\u00a0-]*(?P<q>(?:business|working|calendar|consecutive|full|volle[nr]?)[\s-]+)?"
    r"(?P<u>[^\W\d_]+|[%€$])"
)
_QUALIFIERS = {"business": "working", "working": "working", "calendar": "calendar"}
_COMPOUNDS = {"arbeitstag": "working", "werktag": "working", "kalendertag": "calendar"}

# "No later than" bounds; it denies nothing.
_BOUND = re.compile(
    r"\b(?:no|not|nicht)\s+(?:later|longer|more|less|fewer|sooner|earlier|später|länger|mehr|weniger"
    r"|früher)\s+(?:than|als)\b|\bnot only\b|\bnicht nur\b"
)
_NEGATION = re.compile(
    r"\b(?:not|no|never|neither|nor|none|cannot|without|nobody|nothing|\w+n['’]t|nicht|kein\w*"
    r"|nie|niemals|niemand|nichts|ohne|weder)\b"
)
_PROHIBITION = (
    r"(?:prohibit(?:ed|s)?|forbidden|forbids?|disallowed|not (?:be )?(?:allowed|permitted)"
    r"|untersagt|verboten|unzulässig|nicht (?:erlaubt|zulässig|gestattet))"
)
# Modality with its polarity: "may not" and "must not" forbid, "muss nicht" exempts. The first
# pattern that takes a stretch keeps it. In small letters, for lowered texts.
_MODALS: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "exempt",
        re.compile(
            r"\b(?:not (?:\w+ )?(?:required|mandatory|obliged|need(?:ed)? to)|no (?:obligation"
            r"|duty)|(?:need|do|does) not (?:need|have) to|need not|muss nicht|müssen nicht"
            r"|nicht (?:\w+ )?(?:erforderlich|verpflichtet|vorgeschrieben))\b",
        ),
    ),
    (
        "forbid",
        re.compile(
            rf"\b(?:(?:must|shall|may|can|could)(?: \w+)? (?:not|never)|cannot|can't|mustn't"
            rf"|{_PROHIBITION}|(?:darf|dürfen|kann|können)\b[^.;,]{{0,40}}?\b(?:nicht|kein\w*|nie"
            r"|niemals)|(?:kein\w*|no one|nobody|no \w+)\b"
            r"[^.;,]{0,30}?\b(?:may|can|darf|dürfen))\b",
        ),
    ),
    (
        "must",
        re.compile(
            r"\b(?:must|shall|ha(?:s|ve|d) to|needs? to|required?|requires?|requirements?|mandatory"
            r"|oblig\w+|muss|müssen|musst|mussten?|verpflicht\w+|(?:hat|haben|ist|sind)\b.{1,80}?\bzu"
            r"|erforderlich\w*|vorgeschrieben\w*|zwingend\w*|pflicht)\b",
            re.S,
        ),
    ),
    (
        "may",
        re.compile(
            r"\b(?:may|might|can|could|allow(?:ed|s)?|permit(?:ted|s)?|optional(?:ly)?|darf|dürfen"
            r"|kann|können|könnten?|erlaubt|zulässig|gestattet)\b",
        ),
    ),
    (
        "should",
        re.compile(r"\b(?:should|ought|recommend\w*|soll(?:en|te|ten)?|empfohlen|empfiehlt)\b"),
    ),
)
# Each line is a scale: a sentence on one step needs a quote on the same step.
_SCALES = """
daily täglich | weekly wöchentlich | monthly monatlich | quarterly vierteljährlich | annually annual
before vor prior | after nach following
minimum mindestens least | maximum höchstens most maximal
increase increased increases erhöht | decrease decreased decreases reduced gesenkt verringert
internal intern interne internen | external extern externe externen
all alle every each jede jeder jedes | some einige manche several
always immer stets | sometimes occasionally rarely manchmal gelegentlich
higher höher more above over | lower niedriger less below under fewer weniger
enabled aktiviert | disabled deaktiviert
encrypted verschlüsselt | unencrypted unverschlüsselt
written schriftlich writing | oral verbal mündlich
successful erfolgreich | failed unsuccessful fehlgeschlagen
"""
_STEPS: dict[str, tuple[int, int]] = {
    word: (scale, step)
    for scale, line in enumerate(_SCALES.strip().splitlines())
    for step, words in enumerate(line.split("|"))
    for word in words.split()
} | {"yearly": (0, 4), "jährlich": (0, 4)}
_CLAUSE = re.compile(r"[,;:.()]\s")
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_ACRONYM = re.compile(r"\b(?=\w*[A-Z]\w*[A-Z])[A-Z][A-Za-z0-9]{1,9}\b")
_NAME = re.compile(r"(?<=[a-z,;)] )(?:[A-Z][a-z]+)\b")

Date = tuple[int | None, int, int | None]


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with the unit that follows it, when it is a known one."""

    value: str
    unit: str | None = None
    qualifier: str | None = None


@dataclass(frozen=True, slots=True)
class Claims:
    """What one text commits itself to."""

    quantities: frozenset[Quantity]
    dates: frozenset[Date]
    negated: bool
    modals: frozenset[str]
    steps: frozenset[tuple[int, int]]
    names: frozenset[str]


def claims(text: str) -> Claims:
    """Return the numbers, dates, negation, modality, steps of scales and names of a text."""
    dates, rest = _without_dates(text)
    lower = text.lower()
    return Claims(
        quantities=frozenset(_quantities(rest)),
        dates=dates,
        negated=bool(_NEGATION.search(_BOUND.sub(" ", lower))),
        modals=_modals(rest.lower()),
        steps=frozenset(_STEPS[w] for w in _WORD.findall(lower) if w in _STEPS),
        names=frozenset(_ACRONYM.findall(text)) | frozenset(_NAME.findall(text)),
    )


def negations(text: str) -> list[tuple[str, str]]:
    """Return, for each negation, a few words before it and after it in its clause."""
    text = _BOUND.sub(" ", text.lower())
    found = []
    for match in _NEGATION.finditer(text):
        before = _CLAUSE.split(text[: match.start()])[-1].split()[-3:]
        after = _CLAUSE.split(text[match.end() :], maxsplit=1)[0].split()[:4]
        found.append((" ".join(before), " ".join(after)))
    return found


def _modals(text: str) -> frozenset[str]:
    found = set()
    for name, pattern in _MODALS:
        text, count = pattern.subn(" ", text)
        if count:
            found.add(name)
    return frozenset(found)


def _without_dates(text: str) -> tuple[frozenset[Date], str]:
    dates: set[Date] = set()
    # Most sentences have no date, and the patterns with names of months are slow to say so.
    if not _DIGIT.search(text):
        return frozenset(), text
    lower = folded(text)
    patterns = _DATES if any(month in lower for month in _MONTH_BEGINS) else _DATES[:3]
    for pattern in patterns:
        for match in pattern.finditer(lower):
            number = _MONTHS.get(match["m"]) or int(match["m"])
            year, day = match["y"], match["d"]
            dates.add((int(year) if year else None, number, int(day) if day else None))
            text, lower = _blanked(text, match), _blanked(lower, match)
    return frozenset(dates), text.replace("\x00", " ")


def _blanked(text: str, match: re.Match[str]) -> str:
    return text[: match.start()] + "\x00" * len(match.group()) + text[match.end() :]


def _quantities(text: str) -> Iterable[Quantity]:
    lower = folded(text)
    # Most sentences count nothing, and the patterns with numerals are slow to say so.
    if not (_DIGIT.search(lower) or COUNTING.intersection(_RUN.findall(lower)) or "und" in lower):
        return
    for match in reversed(list(JOINED.finditer(folded(text)))):
        text = text[: match.start()] + in_digits(match) + text[match.end() :]
    for match in _NUMBER.finditer(folded(text)):
        word = match["w"]
        value = NUMERALS[word] if word else _value(match["n"] or match["i"])
        yield Quantity(value, *_unit(text, match))


def _value(digits: str) -> str:
    """Return one spelling of `1,000`, `1.000`, `1'000` and `1000`; `4.2` stays `4.2`."""
    if re.fullmatch(r"[1-9]\d{0,2}(?:[.,'’\u00a0\u202f]\d{3})+", digits):
        return re.sub(r"\D", "", digits)
    digits = digits.replace(",", ".")
    if digits.count(".") == 1:
        digits = digits.rstrip("0").rstrip(".") if digits.split(".")[1].strip("0") == "" else digits
    return digits.lstrip("0") or "0"


def _unit(text: str, match: re.Match[str]) -> tuple[str | None, str | None]:
    before = text[max(0, match.start() - 2) : match.start()].strip()
    if before in ("€", "$"):
        return _UNITS[before], None
    after = _UNIT_AFTER.match(text, match.end())
    if after is None:
        return None, None
    word = after["u"].lower()
    for compound, qualifier in _COMPOUNDS.items():
        if word.startswith(compound):
            return "day", qualifier
    named = (after["q"] or "").strip(" -\u00a0").lower()
    return _UNITS.get(word), _QUALIFIERS.get(named)
