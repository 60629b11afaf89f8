"""Which words of a text stand for a content word of a question. Pure; must not enter: scores."""

from operator import itemgetter

from compliance_copilot.rag.analysis import word_stems
from compliance_copilot.rag.questions import Question

COMPOUND = 0.6
"""The credit of a word that only begins as one of the question does."""
_NOTHING = ("", 0.0)
Met = dict[int, tuple[str, float]]
"""Words of a text, by their numbers: the word of the question that each stands for, and the credit
that it earns."""


class LookUp:
    """Finds the content words of one question among the words of texts.

    Prefixes let through whatever a stem may come from, then the stems decide: most words are never
    stemmed, which would be most of the time of a request.
    """

    def __init__(self, question: Question) -> None:
        self._question = question
        self._known: dict[str, tuple[str, float]] = {}
        beginnings = {form[: max(3, len(form) - 2)] for form in question.forms}
        self._prefixes = tuple(f" {beginning}" for beginning in sorted(beginnings))
        self._languages = tuple(dict.fromkeys((question.language, "en")))

    def met(self, words: str) -> Met:
        """Return which of the words stand for one of the question: its word and the credit."""
        found: Met = {}
        for prefix in self._prefixes:
            at = words.find(prefix)
            while at >= 0:
                end = words.index(" ", at + 1)
                word = words[at + 1 : end]
                earned = self._known.get(word) or self._credit(word)
                if earned[1]:
                    found[words.count(" ", 0, at)] = earned
                at = words.find(prefix, end)
        return found

    def _credit(self, word: str) -> tuple[str, float]:
        stems = [stem for lang in self._languages for stem in word_stems(word, lang)]
        earned = [self._earned(stem) for stem in stems]
        self._known[word] = max(earned, key=itemgetter(1), default=_NOTHING)
        return self._known[word]

    def _earned(self, stem: str) -> tuple[str, float]:
        forms = self._question.forms
        if stem in forms:
            return forms[stem]
        for term in self._question.weights:
            if len(term) >= 5 and stem.startswith(term):  # Passwort in Passwortlänge
                return term, COMPOUND
        return _NOTHING
