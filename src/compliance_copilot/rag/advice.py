"""What a language model is asked beside the answer: to part a question, to make one stand alone.

Its word is advice: what does not look like it is left aside, and a rule of ours takes its place.
"""

import re
from collections.abc import Sequence

from compliance_copilot.core.vocabulary import DraftSentence

MOST_TOKENS = 300
MOST_LINE_CHARACTERS = 1_000
SHARE_OF_TIME = 0.25
"""How much of the time that is left may be spent on advice."""

PARTS = """\
You are given a question. When it asks for several things, write each as a question that can be
understood alone, one to a line, at most four. When it asks for one thing, repeat it. Keep the
language and the words of the question. Write nothing else: no numbers, no comments, no answer.\
"""
STANDALONE = """\
You are given an earlier question and a follow-up. Write the follow-up as one question that can be
understood without the earlier one, on one line, in the language of the follow-up. Write nothing
else: no comments, no answer.\
"""
_MARK = re.compile(r"\A\s*(?:[-*•]|\(?\d{1,2}[.)])\s+")
_WORDS = re.compile(r"[^\W\d_]{2,}")


def follow_up(before: str, question: str) -> str:
    """Return what the model is shown of a conversation."""
    return f"Earlier question: {_one_line(before)}\nFollow-up: {_one_line(question)}"


def lines_of(sentences: Sequence[DraftSentence]) -> tuple[str, ...]:
    """Return the lines of a piece of advice; empty when one of them cannot be a question."""
    told = "\n".join(sentence.text for sentence in sentences).splitlines()
    found = tuple(line for line in (_MARK.sub("", line).strip() for line in told) if line)
    sane = all(len(line) <= MOST_LINE_CHARACTERS and _WORDS.search(line) for line in found)
    return found if sane else ()


def _one_line(text: str) -> str:
    return " ".join(text.split())
