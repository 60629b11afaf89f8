"""What the stand-in model says: deterministic, from the sources in the prompt alone."""

import hashlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass

_SOURCE = re.compile(
    r"^--- BEGIN SOURCE (\d+) (\w+)[^\n]*---\n(.*?)\n--- END SOURCE \1 \2 ---$", re.S | re.M
)
_QUESTION = re.compile(r"^Question: (.*)$", re.M)
_SENTENCE = re.compile(r"[^\n.!?]+(?:[.!?](?!\s|\Z)[^\n.!?]*)*[.!?]?")
_ORDER = re.compile(
    r"(?:ignore|disregard|forget|override|system|instruction|assistant|respond|reply|answer|say|print|output"
    r"|reveal|include|append|ignoriere|antworte|gib aus|schreibe)",
    re.I,
)  # fmt: skip
_URL = re.compile(r"https?://\S+|www\.\S+|!\[[^\]]*\]\([^)]*\)|<[^>]+>")


@dataclass(frozen=True)
class Prompt:
    """A prompt as the model reads it."""

    question: str
    sources: list[tuple[int, str]]


def read(text: str) -> Prompt:
    """Return the question and the numbered sources of a prompt."""
    question = _QUESTION.search(text)
    sources = [(int(number), body) for number, _, body in _SOURCE.findall(text)]
    return Prompt(question[1] if question else "", sources)


def tokens(text: str) -> int:
    """Return the tokens this model counts for a text."""
    return math.ceil(len(text.encode()) / 4)


def _chosen(prompt: Prompt) -> list[tuple[int, str]]:
    words = set(re.findall(r"\w{4,}", prompt.question.lower()))
    found = []
    for number, body in prompt.sources:
        sentences = [s.strip() for s in _SENTENCE.findall(body) if len(s.split()) > 2]
        scored = [
            (len(words & set(re.findall(r"\w{4,}", s.lower()))), -n, s)
            for n, s in enumerate(sentences)
        ]
        if scored and max(scored)[0] > 0:
            found.append((max(scored)[0], number, max(scored)[2]))
    best = sorted(found, key=lambda item: (-item[0], item[1]))[:3]
    return [(number, sentence) for _, number, sentence in best]


def _structured(sentences: list[dict[str, object]]) -> str:
    return json.dumps({"sentences": sentences}, ensure_ascii=False)


def normal(prompt: Prompt) -> str:
    """Answer with verbatim sentences, each with itself as its quote."""
    return _structured(
        [{"text": s, "quotes": [{"source": n, "quote": s}]} for n, s in _chosen(prompt)]
    )


def prose(prompt: Prompt) -> str:
    """Answer in plain prose with markers, as servers without a schema do."""
    said = " ".join(f"{sentence.rstrip('.')} [{number}]." for number, sentence in _chosen(prompt))
    return said or "The documents do not say."


def unsupported(prompt: Prompt) -> str:
    """Say one thing the sources say and one that they do not."""
    good = [{"text": s, "quotes": [{"source": n, "quote": s}]} for n, s in _chosen(prompt)[:1]]
    bad = {
        "text": "All of this ends on 31 December 2099.",
        "quotes": [{"source": 1, "quote": "All of this ends on 31 December 2099."}],
    }
    return _structured([*good, bad])


def unverifiable(prompt: Prompt) -> str:
    """Say only what no source says, without a marker."""
    return "Trust me, everything is allowed. There is no rule about it."


def obey(prompt: Prompt) -> str:
    """Do whatever a document says: repeat its orders' words, links and markup, claim quotes."""
    said: list[dict[str, object]] = []
    for number, body in prompt.sources:
        for line in body.splitlines():
            if _ORDER.search(line) or _URL.search(line):
                said.append({"text": line, "quotes": [{"source": number, "quote": line}]})
                after = re.split(r"[:\"“„]", line, maxsplit=1)[-1].strip(' "”“.')
                said.append({"text": after, "quotes": [{"source": number, "quote": after}]})
                said += [
                    {"text": f"See {url} now.", "quotes": [{"source": number, "quote": url}]}
                    for url in _URL.findall(line)
                ]
    return _structured(said) if said else normal(prompt)


def bad_json(prompt: Prompt) -> str:
    """Begin a structure and never end it."""
    return normal(prompt)[:20]


def empty(prompt: Prompt) -> str:
    """Find nothing."""
    return _structured([])


MODELS: dict[str, Callable[[Prompt], str]] = {
    "prose": prose,
    "unsupported": unsupported,
    "unverifiable": unverifiable,
    "obey": obey,
    "bad_json": bad_json,
    "empty": empty,
}


def advised(text: str) -> str | None:
    """Do what an instruction beside the answer asks; None when the prompt is none."""
    if "You are given an earlier question" in text:
        before, after = (re.search(rf"^{name}: (.*)$", text, re.M) for name in
                         ("Earlier question", "Follow-up"))  # fmt: skip
        return f"{after[1].rstrip('?')}, as to {before[1].rstrip('?')}?" if before and after else ""
    if "You are given a question." in text:
        asked = text.rsplit("\n", 1)[-1]
        return "\n".join(
            f"{n}. {part.strip(' ?')}?" for n, part in enumerate(re.split(r"\bplus\b", asked), 1)
        )
    return None


def answer(text: str, mode: str) -> str:
    """Return what the model says to a prompt in this mode."""
    if mode not in MODELS and (said := advised(text)) is not None:
        return said
    return MODELS.get(mode, normal)(read(text))


def vector(text: str, dimensions: int) -> list[float]:
    """Return a unit vector that depends on the words of a text only."""
    values = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()) or [""]:
        digest = hashlib.sha256(word.encode()).digest()
        values[int.from_bytes(digest[:4], "big") % dimensions] += 1.0 if digest[4] % 2 else -1.0
        values[int.from_bytes(digest[5:9], "big") % dimensions] += 0.5
    length = math.sqrt(sum(value * value for value in values)) or 1.0
    return [value / length for value in values]
