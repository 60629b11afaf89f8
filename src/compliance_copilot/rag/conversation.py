"""Follow-up questions made to stand alone, from the question before them.

Rules for English and German, no model: what a follow-up leaves out, or only points at, is filled
in from the last question. A question that stands alone stays as it is. Pure; must not enter:
storage, providers.
"""

import re

MOST_CONTEXT_CHARACTERS = 300
_FUNCTION = """
a an the this that these those it its they them their theirs there he she him her his
what which who whom whose when where why how long often many much far soon
is are was were be been being am do does did done has have had can could may might must shall
should will would need needs about and or but also then so if whether please tell me us we our
you your i my any all for from to in on at by with as into per within
der die das den dem des ein eine einen einem einer eines dies diese dieser dieses es er sie ihn
ihm ihr ihre ihrer ihren was welche welcher welches wer wen wem wessen wann wo warum wieso wie
lange oft viele viel ist sind war waren sein werden wird wurde hat haben hatte kann darf muss
müssen soll sollen sollte und oder aber auch dann so wenn ob bitte wir uns unser unsere ich mein
für von vom zu zum zur in im an am auf aus bei mit als pro innerhalb davon dafür dazu darüber
dabei dort kann können dürfen gilt gelten
"""
_FUNCTION_WORDS = frozenset(_FUNCTION.split())
_BETWEEN = "of for the and in to on der die das des den dem von für und im zur zum"
_JOINING = frozenset(_BETWEEN.split())
_SUBJECTS = frozenset({"who", "wer"})  # what follows is what somebody does
_WORD = re.compile(r"[\w][\w'’\-/.]*\w|\w")
_GERMAN = re.compile(
    r"\b(?:und|was|wie|wer|wann|wo|warum|welche\w*|ist|sind|gilt|gelten|muss|müssen|darf|das|der|die"
    r"|für|auch|sie|davon|dafür)\b",
    re.I,
)
_ABOUT = re.compile(
    r"^(?:and |but |so |und |aber )?(?:(?:what|how) about|what if it is|was ist mit"
    r"|wie ist es (?:mit|bei)|wie sieht es (?:mit|bei) (?P<german>.+?) aus"
    r"|and for|and in|and with|und für|und bei|und mit)\s*(?P<rest>.*)$",
    re.I,
)
_LEADING = re.compile(r"^(?:and|but|so|also|then|und|aber|also|dann)\b,?\s+", re.I)
_EXPLETIVE = re.compile(
    r"\b(?:is|was|would|ist|wäre) (?:it|es) (?:allowed|permitted|required|possible|mandatory"
    r"|necessary|forbidden|ok|okay|enough|erlaubt|verboten|möglich|nötig|erforderlich"
    r"|ausreichend)\b.*\b(?:to|that|for|zu|dass|wenn)\b|\b(?:gibt es|es gibt)\b",
    re.I,
)
_POSSESSIVE = re.compile(r"\b(?:their|its)\s+(?P<noun>[\w-]+)", re.I)
_DEMONSTRATIVE = re.compile(
    r"\b(?:this|these|those|diese[rsmn]?)\s+(?!year|month|week|day|quarter|jahr|monat|woche|tag)[\w-]+",
    re.I,
)
_PRONOUN = re.compile(
    r"\b(?:they|them|it|these|those|this|sie|er|ihn)\b(?!\s+(?:year|month|week|day|quarter))"
    r"|\bthat\b(?=\s*(?:\?|$|is|was|also|apply|applies|mean|means|happen|happens|hold|holds|too))"
    r"|\b(?:es|das)\b(?=\s*(?:\?|$|[a-zäöü]))"
)
_PLACE = re.compile(
    r"(?<!is )(?<!are )(?<!was )(?<!were )\bthere\b"
    r"|\b(?:dort|davon|dafür|dazu|darüber|dabei)\b",
    re.I,
)
_FEWEST_OWN_TERMS = 2


def standalone(question: str, before: str | None) -> str:
    """Return the question so that it can be understood without the one before it.

    `before` is the last question of the conversation, itself standing alone; None at the start.
    """
    asked = " ".join(question.split())
    if before is None:
        return question
    about = _ABOUT.match(asked.rstrip(" ?!."))
    if about:
        return _with_subject(before, about["german"] or about["rest"], asked)
    topic = _topic(before)
    if not topic or _EXPLETIVE.search(asked):
        return question
    pointed = _pointed(_LEADING.sub("", asked), topic)
    if pointed is not None:
        return pointed[:1].upper() + pointed[1:]
    if len(_terms(asked)) < _FEWEST_OWN_TERMS:
        return _regarding(asked, " ".join(_terms(before))[:MOST_CONTEXT_CHARACTERS])
    return question


def _pointed(asked: str, topic: str) -> str | None:
    """Put the topic where the question only points at it; None when it does not point."""
    possessive = _POSSESSIVE.search(asked)
    if possessive:
        told = f"the {possessive['noun']} of {topic}"
        return asked[: possessive.start()] + told + asked[possessive.end() :]
    if _DEMONSTRATIVE.search(asked):
        return _regarding(asked, topic)
    pronoun = _PRONOUN.search(asked)
    if pronoun:
        return asked[: pronoun.start()] + topic + asked[pronoun.end() :]
    return _regarding(asked, topic) if _PLACE.search(asked) else None


def _with_subject(before: str, subject: str, asked: str) -> str:
    """Ask the question before once more, about something else."""
    if not subject.strip():
        return _regarding(asked, _topic(before))
    return _regarding(before[-MOST_CONTEXT_CHARACTERS:], subject.strip())


def _regarding(asked: str, what: str) -> str:
    word = "bezüglich" if len(_GERMAN.findall(asked)) > len(asked.split()) / 5 else "regarding"
    return f"{asked.rstrip(' ?!.')}, {word} {what}?" if what else asked


def _terms(text: str) -> list[str]:
    return [word for word in _WORD.findall(text) if word.lower() not in _FUNCTION_WORDS]


def _topic(text: str) -> str:
    """Return the longest stretch of words that name something; the first of equal ones."""
    best: list[str] = []
    for run in _runs(_WORD.findall(text)):
        if len(_terms(" ".join(run))) > len(_terms(" ".join(best))):
            best = run
    return " ".join(best)[:MOST_CONTEXT_CHARACTERS]


def _runs(words: list[str]) -> list[list[str]]:
    """Return the stretches of naming words, with what joins two of them inside."""
    runs: list[list[str]] = []
    current: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        naming = word.lower() not in _FUNCTION_WORDS and before.lower() not in _SUBJECTS
        if naming or (current and word.lower() in _JOINING):
            current.append(word)
        else:
            runs.append(current)
            current = []
    runs.append(current)
    return [_trimmed(run) for run in runs]


def _trimmed(run: list[str]) -> list[str]:
    while run and run[-1].lower() in _JOINING | _FUNCTION_WORDS:
        run = run[:-1]
    return run
