# ruff: noqa: E501  (a pattern is read in one line or not at all)
"""Whether a passage addresses a model: orders it, poses as its protocol, or smuggles something out.

A list of known forms, in English and German: it flags what is written like an attack, and passes an
order in words of its own (of 20 such orders written after the list, 2 were flagged). What holds
whatever the words are is structure: sources apart as data, quotes checked, plain text shown. Pure; must not enter: sources, answers, storage.
"""

import re
import unicodedata
from collections.abc import Iterator

from compliance_copilot.rag.visible import clean_text

_MODEL = (
    r"(?:(?:an? |the |this |any |all |every |dear |hey |hello )?(?:(?:ai|llm|language|chat|ki)[ -]?"
    r"(?:model|assistant|bot|system|agent)s?|assistant|chatbot|chatgpt|gpt(?:-\d\S*)?|claude"
    r"|copilot|gemini|llms?|ki-(?:modell|assistent\w*)|sprachmodell))"
)
_MODEL_SIGNS = "model assist bot system agent gpt claude copilot gemini llm"
_EARLIER = (
    r"(?:(?:all|any|every|the|your|these|those|of|my|previous|prior|earlier|preceding|above|former"
    r"|foregoing|system|safety|initial|original|existing|alle\w*|deine\w*|ihre\w*|die"
    r"|vorherige\w*|bisherige\w*|obige\w*|vorangegangene\w*)[ ,]+){1,5}"
)
_OWN = r"(?=[^.\n]{0,40}\b(?:your|previous|prior|earlier|preceding|above|former|foregoing|system|initial|original|deine\w*|vorherige\w*|bisherige\w*|obige\w*|vorangegangene\w*)\b)"
_ORDERS = (
    r"(?:instructions?|prompts?|directions?|guidelines?|rules?|commands?|programming|restrictions?"
    r"|anweisung\w*|regeln|vorgaben|instruktionen|befehle)"
)
_DROP = (
    r"(?:ignore|disregard|forget|override|bypass|overlook|discard|do not (?:follow|obey)"
    r"|don'?t (?:follow|obey)|stop following|pay no attention to|ignoriere?n?|vergiss"
    r"|missachten?|missachte|übergehe)"
)
_SAY = r"(?:answer|respond|reply|say|print|output|repeat|write|emit|antworte|schreibe|sage|gib)"
_REPLY = r"(?:answers?|respon[sc]es?|repl(?:y|ies)|output|summary|antwort(?:en)?|zusammenfassung)"
_ADD = r"(?:include|append|add|insert|embed|put|end|start|begin|füge|hänge)"
_NOT_OVER = r"[^.\n]"

# What a pattern cannot do without, and the pattern: one of the words, of each group (&) one. A plus
# sign is a space.
_SIGNS: tuple[tuple[str, str], ...] = (
    # To drop what came before: "your", "previous", "above" tell it from rules for people.
    (
        "ignor disregard forget overrid bypass overlook discard follow obey attention vergiss "
        "missacht übergehe",
        rf"\b{_DROP}\b{_OWN}[ ,:]*{_EARLIER}{_ORDERS}\b",
    ),
    (
        "everything anything all alles",
        rf"\b{_DROP}\b{_NOT_OVER}{{0,30}}\b(?:everything|anything|all|alles)\b{_NOT_OVER}{{0,25}}"
        r"\b(?:above|before|said|told|instructed|oben|zuvor|bisher)\b",
    ),
    ("system developer", r"\b(?:system|developer)[ _-]?(?:prompt|message|override|instructions?)\b\s*[:=>\]]"),
    (
        "instruction prompt directive anweisung",
        r"\b(?:new|updated|real|actual|secret|hidden|neue|geheime) (?:system )?"
        r"(?:instructions?|prompt|directives?|anweisung(?:en)?)\s*(?::|for|from|für)",
    ),
    # To speak to the reader's machine.
    (
        "you du sie",
        rf"\b(?:if|when|since|as|falls|wenn)\b{_NOT_OVER}{{0,20}}\b(?:you are|you're|du bist|sie sind)\b"
        rf"{_NOT_OVER}{{0,25}}(?:{_MODEL}|\\bas an? ai\\b)",
    ),
    (
        "note attention message instruction notice important warning hinweis nachricht anweisung achtung",
        r"\b(?:note|attention|message|instructions?|notice|important|warning|hinweis|nachricht"
        rf"|anweisung(?:en)?|achtung)\b{_NOT_OVER}{{0,20}}(?:\b(?:to|for|an|für)\b|:){_NOT_OVER}{{0,20}}"
        rf"\b{_MODEL}\b(?! (?:tools?|use|services?|systems?|polic|software|vendors?|suppliers?))",
    ),
    (
        "assistant model bot gpt claude copilot gemini llm agent sprachmodell assistent",
        rf"(?:\A|[.\n!>\"]\s*){_MODEL}\s*[,:!]{_NOT_OVER}{{0,60}}\b(?:you|must|now|ignore|please|{_SAY}|du|sie)\b",
    ),
    (
        f"attention hey dear hello achtung & {_MODEL_SIGNS}",
        rf"\b(?:attention|hey|dear|hello|achtung)[ ,:]+(?:all |any )?{_MODEL}\s*[,:.!]",
    ),
    ("+ki", r"\ban (?:die|alle) kis?\b\s*[:,.!]"),
    (
        "you du",
        r"\byou are (?:now|no longer|from now on)\b|\bfrom now on[, ]+you\b"
        r"|\bdu bist (?:jetzt|nun|ab jetzt|ab sofort)\b|\bab (?:jetzt|sofort) (?:bist|antwortest) du\b",
    ),
    (
        "act behave pretend roleplay respond answer",
        r"\b(?:act|behave|pretend|roleplay|respond|answer) "
        r"(?:as (?:if|though) you|as an? (?:unrestricted|uncensored|different|evil|unfiltered)|as dan\b|to be)",
    ),
    (
        "mode jailbreak anything",
        r"\b(?:developer|debug|god|dan|jailbreak|admin(?:istrator)?|maintenance|sudo) mode\b"
        rf"{_NOT_OVER}{{0,30}}\b(?:enabled|activated|on|engaged|aktiv\w*)\b|\bjailbreak\b|\bdo anything now\b",
    ),
    (
        "prompt instruction rules configuration anweisung",
        rf"\b(?:{_SAY}|reveal|display|show|tell|list|disclose|zeige|nenne)\b{_NOT_OVER}{{0,40}}"
        r"\b(?:your (?:\w+ )?(?:prompt|instructions?|rules|configuration)|(?:system|hidden|initial) prompt"
        r"|deine\w* (?:\w+ )?(?:\w*prompt|anweisung\w*|regeln))",
    ),
    (
        "reading summari answering respond translat processing automated zusammenfass",
        r"\b(?:if|when|while|whoever|as) (?:you(?:'re| are)? |ever )?(?:reading|summari[sz]\w+|answering|respond\w*|translat\w+|processing)"
        r" (?:this|the (?:text|page|document|passage)|questions? (?:about|from)|(?:to )?(?:a |any |the )?user)\b|\b(?:automated|machine|artificial|ai) readers?\b"
        r"|\bsummari[sz]er of this\b|\breading this as an?\b",
    ),
    (f"as+a & {_MODEL_SIGNS} +ai", r"\bas an? (?:ai|llm|language model|chatbot|(?:ai |virtual )?assistant)\b[^.\n]{0,60}\b(?:you|must|recommend|always|never|say|answer)\b"),
    (
        "task job role goal objective aufgabe",
        r"\b(?:your|deine|ihre) (?:new |only |real |actual |neue |einzige )?(?:task|job|role|goal|objective|purpose|aufgabe) (?:has changed|is now|is to|changes|ist (?:jetzt|nun|es))\b|\b(?:new|next) (?:task|objective|goal)\s*:",
    ),
    (
        "assistant model bot ai llm copilot",
        r"\b(?:the|this|every|any) (?:ai |virtual |chat )?(?:assistant|chatbot|bot|language model|llm|copilot) (?:shall|must|should|will|has to|is to|needs to) (?:always |now |only )?(?:inform|tell|say|answer|state|reply|respond|recommend|confirm|rate|report that|claim|conclude|approve)\b",
    ),
    ("instruction directive note prompt", r"\b(?:model|ai|llm|assistant|bot|copilot) (?:instructions?|directive|note|prompt)\s*[:=]"),
    ("override", r"\b(?:admin|system|security|safety|policy|user|instruction|prompt) override\b|\boverride\s*:"),
    (
        "guidance instruction rules prompt vorgaben anweisungen told",
        r"\b(?:guidance|instructions?|rules?|prompts?|directions|vorgaben|anweisungen)\b[^.\n]{0,15}\b(?:you (?:were|have been|got|received|had)|given to you)\b|\byou (?:were|have been) (?:told|instructed|programmed|prompted) (?:to|before|earlier|previously)\b",
    ),
    ("aside acht", r"\b(?:set|put) aside\b[^.\n]{0,30}\byou\b|\b(?:vorgaben|regeln|anweisungen)\b[^.\n]{0,15}\baußer acht\b"),
    ("sources quellen", r"\b(?:do not|don't|never|only) (?:use|trust|cite|quote|read) (?:the |any |all )?(?:other|this) (?:sources?|documents?|passages?)\b[^.\n]{0,40}\b(?:only|instead|quote|alone|right)\b"),
    ("response answer reply", r"\b(?:correct|right|proper|only) (?:response|answer|reply) (?:to|for) (?:all|any|every|each|whatever)\b|\b(?:answer|respond|reply) (?:in the affirmative|yes|no) to (?:whatever|any|all|every)"),
    ("repeat", r"\brepeat (?:after me|the following|this (?:word|text|line))\b"),
    ("<!--", r"<!--[^>]{0,200}\b(?:ai|assistant|model|llm|bot|instruct\w*|recommend|answer|ignore|prompt)\b"),
    # To form the answer.
    (
        "answer respond reply say print output repeat write emit antworte schreibe sage gib",
        rf"\b(?:always|only|instead|now|simply|just|immer|nur|stattdessen)\b[, ]+{_SAY}\b"
        rf"{_NOT_OVER}{{0,40}}(?:[:\"“„'«]|\bwith\b|\bthat\b|\bdass\b|\bmit\b)",
    ),
    (
        "answer respond reply say print output repeat write emit antworte schreibe sage gib",
        rf"(?:\A|[.\n!>:,;]\s*|\band |\bund ){_SAY}\b (?:only |exactly |verbatim |nothing but |just |with "
        r"|that |this |the (?:word|phrase|text|sentence|following) |to (?:every|all|any|each) |nur |genau "
        r"|mit |dass |jede|[\"“„'«:])",
    ),
    (
        "answer respon repl output summary antwort zusammenfassung",
        rf"\b(?:in|to|with|at the (?:end|start|beginning) of|für|bei) (?:your|every|each|any|all|deiner?|jede[rn]?) {_REPLY}\b(?! to\b| an\b)",
    ),
    (
        "answer respon repl output summary antwort",
        rf"\b{_ADD}\b{_NOT_OVER}{{0,80}}\b(?:your|every|each|any|all|deine\w*|jede\w*) {_REPLY}\b"
        rf"|\b{_ADD} (?:your|every|each|all|deine\w*|jede\w*|the) {_REPLY} (?:with|by|mit)\b",
    ),
    (
        "user human reader & authori approved granted administrator verified",
        r"\b(?:the |this )?(?:user|human|reader) (?:has|is|was) (?:already |fully )?(?:authori[sz]ed|approved"
        rf"|granted|an administrator|verified)\b{_NOT_OVER}{{0,60}}\b(?:so|reveal|show|disclose)\b",
    ),
    (
        "user instruction prompt nutzer",
        rf"\b(?:do not|don't|never) (?:tell|inform|mention|alert|warn)\b{_NOT_OVER}{{0,30}}"
        r"\b(?:the user|this (?:instruction|message|prompt))\b",
    ),
    (
        "tool function plugin api",
        rf"\b(?:call|invoke|use|execute|run) (?:the )?(?:\w+ )?(?:tool|function|plugin|api)\b{_NOT_OVER}{{0,40}}"
        rf"\b(?:with|to|named|called)\b{_NOT_OVER}{{0,60}}\b(?:delete|send|transfer|exfiltrat\w*|grant|email|http)",
    ),
    # The forms of chat protocols, and of ours.
    (
        "im_ system endoftext inst] sys",
        r"<\|?\s*/?(?:im_start|im_end|system|endoftext|assistant|user)\b[^>\n]{0,20}\|?>"
        r"|\[/?(?:INST|SYS|SYSTEM)\]|<</?SYS>>",
    ),
    ("system: assistant: user: human:", r"(?:\A|\n)\s*(?:#{1,6}\s*)?(?:system|assistant|user|human)\s*:\s*\S"),
    ("source system prompt instruction & --", r"(?:\A|\n)-{2,}\s*(?:BEGIN|END) (?:SOURCE|SYSTEM|PROMPT|INSTRUCTIONS?)\b"),
    ("sentences role system tool_call", r"\{\s*\"\s*(?:sentences|role|system|tool_calls?)\s*\"\s*:"),
    # To carry something out of the house.
    ("![", r"!\[[^\]]*\]\(\s*(?:https?:)?//"),
    (
        "<script <iframe <img <svg <object <embed <form <meta <base",
        r"<(?:script|iframe|img|svg|object|embed|form|meta|base)\b",
    ),
    ("<", r"<\s*/?[a-z0-9][^<>\n]{0,200}\b[a-z0-9-]+\s*=\s*[\"'a-z0-9/]|<\s*s\s*c\s*r\s*i\s*p\s*t"),
    ("javascript vbscript text/html", r"\b(?:javascript|vbscript)\s*:\s*[a-z(]|\bdata\s*:\s*text/html"),
)  # fmt: skip
_PATTERNS = tuple(
    (
        [
            frozenset(word.replace("+", " ") for word in group.split())
            for group in needles.split("&")
        ],
        re.compile(pattern, re.I),
    )
    for needles, pattern in _SIGNS
)
_NEEDLES = tuple(
    sorted(frozenset[str]().union(*(group for all_, _ in _PATTERNS for group in all_)))
)
_ENCODED = re.compile(r"(?<![\w/+])[A-Za-z0-9+/]{40,}={0,2}(?![\w/+])")
_DECODE = re.compile(r"\b(?:decode|base64|rot13|dekodiere|entschlüssle)\b", re.I)
_DECODE_SIGNS = ("decode", "base64", "rot13", "dekodiere", "entschlüssle")

_SPELLED_OUT = re.compile(r"(?<![^\W_])(?:[^\W\d_]\s{1,3}){5,}[^\W\d_](?![^\W_])")
_LOOK_ALIKE = str.maketrans("аеіорсухѕԁ", "aeiopcyxsd")
_LEET_WORD = re.compile(r"\b(?=[\w@$]*[a-z])(?=[\w@$]*[0134@$5])[\w@$]{2,}\b")
_LEET = str.maketrans("0134@$5", "oieaass")
_LEET_SIGN = re.compile(r"[a-z][0134@$5]{1,2}[a-z]")
_MOST_LEET = 5
_CYRILLIC = re.compile("[а-я]")


def is_suspicious(passage: str) -> bool:
    """Tell whether a passage addresses a model.

    A policy that says "ignore" or "instructions" to people is clean: an order to drop rules counts
    only when the rules are the reader's own ("your", "previous", "above").
    """
    # Nobody s p e l l s  o u t a sentence for people, or wr1t35 1t l1k3 th15.
    if _SPELLED_OUT.search(passage) or len(_LEET_SIGN.findall(passage)) >= _MOST_LEET:
        return True
    return any(_addresses(reading) for reading in _readings(passage))


def _addresses(lower: str) -> bool:
    present = {needle for needle in _NEEDLES if needle in lower}
    for groups, pattern in _PATTERNS:
        for group in groups:
            if present.isdisjoint(group):
                break
        else:
            if pattern.search(lower):
                return True
    coded = any(sign in lower for sign in _DECODE_SIGNS)
    return bool(coded and _DECODE.search(lower) and _ENCODED.search(lower))


def _readings(passage: str) -> Iterator[str]:
    """Yield the text as it stands, then as an eye reads through its disguises."""
    plain = passage if passage.isascii() else unicodedata.normalize("NFKC", clean_text(passage))
    lower = plain.lower()
    yield lower
    if _CYRILLIC.search(lower):
        yield lower.translate(_LOOK_ALIKE)
    if _LEET_SIGN.search(lower):
        yield _LEET_WORD.sub(lambda found: found[0].translate(_LEET), lower)
