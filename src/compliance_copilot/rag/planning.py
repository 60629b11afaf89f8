"""A question's parts: what has to be found out before the whole can be answered.

Deterministic; a language model may plan in its place. English and German have the words at which a
question is parted; in other languages it is parted at its question marks. Pure.
"""

import re

MOST_PARTS = 4
_FEWEST_WORDS = 4
_ASKING = (
    r"(?:(?:(?:in|within|under|by|to|for|from|at|on|of|with|until) )?(?:what|which|whom|whose|when)"
    r"|how|who|where|why|whether|is|are|can|could|does|do|did|should"
    r"|must|may|will|would|was|wie|wer|wem|wen|welche[rsmn]?|wann|wo"
    r"|warum|ob|ist|sind|kann|können|muss|müssen|darf|dürfen|soll|sollen)"
)
_JOINING = r"(?:and also|and if so|as well as|and|or|und auch|sowie|und|oder|bzw\.)"
_CUT = re.compile(rf"[?;]\s+|,?\s+{_JOINING}\s+(?={_ASKING}\b)|,\s+(?={_ASKING}\b)", re.IGNORECASE)
_CONDITION = re.compile(
    r"\A(?:if|when|where|in|under|for|given|with|assuming|regarding|concerning|wenn|falls|sofern"
    r"|bei|unter|im|in)\b",
    re.IGNORECASE,
)


def parts(question: str) -> tuple[str, ...]:
    """Return the questions that a question is made of, in order; itself alone when it is one.

    An introductory condition ("If a device is lost, who is told and when?") goes with every part.
    """
    cut = [piece.strip(" ,.?") for piece in _CUT.split(question)]
    pieces = [piece for piece in cut if piece]
    condition = ""
    if len(pieces) > 1 and _CONDITION.match(pieces[0]):
        condition, pieces = pieces[0] + ", ", pieces[1:]
    told = [condition + piece for piece in pieces if condition or _says_enough(piece)]
    return tuple(told[:MOST_PARTS]) if len(told) > 1 else (question.strip(),)


def _says_enough(piece: str) -> bool:
    return len(piece.split()) >= _FEWEST_WORDS
