"""Numbers that are written in letters, English and German, in small ones. Pure."""

import re

_WORDS_EN = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen twenty
"""
_WORDS_DE = """
null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn
sechzehn siebzehn achtzehn neunzehn zwanzig
"""
_TENS_EN = "thirty forty fifty sixty seventy eighty ninety"
_TENS_DE = "dreißig vierzig fünfzig sechzig siebzig achtzig neunzig"
NUMERALS: dict[str, str] = {
    **{word: str(n) for n, word in enumerate(_WORDS_EN.split()) if n > 1},
    **{word: str(n) for n, word in enumerate(_WORDS_DE.split()) if n > 1},
    **{word: str(n * 10) for n, word in enumerate(_TENS_EN.split(), start=3)},
    **{word: str(n * 10) for n, word in enumerate(_TENS_DE.split(), start=3)},
    "hundred": "100", "hundert": "100", "thousand": "1000", "tausend": "1000", "twice": "2",
    "half": "0.5",
}  # fmt: skip
_ONES = {word: n for words in (_WORDS_EN, _WORDS_DE) for n, word in enumerate(words.split()[:10])}
_ONES["ein"] = 1
JOINED = re.compile(
    rf"\b(?:(?P<t>{'|'.join(_TENS_EN.split())}|twenty)[- ](?P<o>{'|'.join(_ONES)})"
    rf"|(?P<a>{'|'.join(_ONES)})und(?P<b>zwanzig|{'|'.join(_TENS_DE.split())}))\b"
    r"|\b(?P<one>one|eine[rmn]?)(?=[\s-]+(?:\w+[\s-]+)?"
    r"(?:second|minute|hour|day|week|month|quarter|year|sekunde|stunde|tag|woche|monat|jahr))"
)
COUNTING = frozenset({*NUMERALS, "one", "eine", "einer", "einem", "einen"})
"""Without one of these, or a digit, or a German `einunddreißig`, a text counts nothing."""


def in_digits(match: re.Match[str]) -> str:
    """Return `31` for `thirty-one` and `einunddreißig`, `1` for the `one` of `one day`."""
    if match["one"]:
        return "1"
    return str(int(NUMERALS[match["t"] or match["b"]]) + _ONES[match["o"] or match["a"]])
