"""Text to terms: the words, identifiers and word pairs that BM25 counts.

A term is a number: a stable hash of its letters, the same in every process and release, so that it
can be a dimension of a stored sparse vector. Unigrams lie below `BIGRAM_BASE`, bigrams from there
on. Pure; must not enter: SQL, vectors, weights (`bm25.py`).
"""

import re
import threading
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import pairwise

import numpy as np
import Stemmer
from numpy.typing import NDArray

from compliance_copilot.rag import terms as columns
from compliance_copilot.rag.stopwords import STOP_WORDS
from compliance_copilot.rag.terms import ChunkTerms

DEFAULT_LANGUAGE = "en"
LANGUAGES: tuple[str, ...] = tuple(STOP_WORDS)
MAX_TERMS = 16_000
"""pgvector's bound on the non-zero places of one `sparsevec`."""
BIGRAM_BASE = 500_000_000
"""The first id of a bigram; ids end below 1,000,000,000, pgvector's bound on dimensions."""

_STEMMERS = {
    "en": "english",
    "de": "german",
    "fr": "french",
    "es": "spanish",
    "it": "italian",
    "nl": "dutch",
}
_LANGUAGES_OF = {
    word: tuple(language for language, words in STOP_WORDS.items() if word in words)
    for word in frozenset[str]().union(*STOP_WORDS.values())
}
_ELISION = frozenset({"fr", "it"})
_CACHE_ENTRIES = 200_000
_PAIR_FACTOR = 1_000_003
_PAIR_PRIME = 499_999_993
_LONGEST_WORD = 64
_DETECTION_WORDS = 400
_FEW_WORDS = 2

# Scripts without spaces are taken letter by letter: their bigrams are the words.
_UNSPACED = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_LETTER = rf"[^\W_{_UNSPACED}]"
_TOKEN = re.compile(rf"[{_UNSPACED}]|{_LETTER}+(?:[.\-\u2010\u2011/_&'’]{_LETTER}+)*")
_JOINER = re.compile(r"[.\-\u2010\u2011/_&]")
_WORD = re.compile(r"[^\W\d_]{2,}")

_Token = tuple[tuple[int, ...], tuple[int, ...], tuple[str, ...]]
"""The words of a token in order, the identifier it is as a whole (which makes no bigrams), and the
letters of both."""

_thread = threading.local()
_caches: dict[str, dict[str, _Token]] = {language: {} for language in LANGUAGES}


def terms(text: str, language: str) -> dict[int, int]:
    """Return each uni- and bigram of a text with its count; at most `MAX_TERMS`, commonest first.

    Stop words are left out before words are paired. An unknown language counts as English.
    """
    sequence: list[int] = []
    identifiers: list[int] = []
    for word_ids, whole_ids, _ in _tokens(text, language):
        sequence += word_ids
        identifiers += whole_ids
    counts = Counter(sequence + identifiers + _bigrams(sequence))
    return dict(counts) if len(counts) <= MAX_TERMS else _commonest(counts)


def chunk_terms(texts: Sequence[str], language: str) -> ChunkTerms:
    """Return the terms of chunks as `terms` counts them, all at once and in columns.

    A chunk is far too short (`chunking.CAPACITY_CHARACTERS`) to have more than `MAX_TERMS`.
    """
    words: list[int] = []
    identifiers: list[int] = []
    word_ends, identifier_ends = [], []
    for text in texts:
        for word_ids, whole_ids, _ in _tokens(text, language):
            words += word_ids
            identifiers += whole_ids
        word_ends.append(len(words))
        identifier_ends.append(len(identifiers))
    single, places = np.array(words, dtype=np.int64), _places(word_ends)
    whole, whole_places = np.array(identifiers, dtype=np.int64), _places(identifier_ends)
    paired = places[:-1] == places[1:]
    pairs = (single[:-1] * _PAIR_FACTOR + single[1:])[paired] % _PAIR_PRIME + BIGRAM_BASE
    chunks = np.concatenate([places, whole_places, places[:-1][paired]])
    return columns.grouped(chunks, np.concatenate([single, whole, pairs]), len(texts))


def _places(ends: Sequence[int]) -> NDArray[np.int64]:
    """Return, for each entry of a column, the place of the chunk it belongs to."""
    bounds = np.array([0, *ends], dtype=np.int64)
    return np.repeat(np.arange(len(ends)), bounds[1:] - bounds[:-1])


def query_terms(text: str, languages: Iterable[str]) -> dict[int, int]:
    """Return the terms of a question: in its own language when its function words show it.

    A short question often does not show it: then as documents in any of these languages would
    write them, without the stop words of the likeliest. To a question that is plainly English its
    words in German forms would be new words: rare ones, where a few chunks happen to have them, and
    so heavier than those that were asked for.
    """
    detected = detect_language(text)
    others = [language for language in languages if language != detected]
    if _is_plain(text, detected, others):
        return terms(text, detected)
    merged: dict[int, int] = {}
    for language in dict.fromkeys((detected, *others)):
        words = text if language == detected else _without_stop_words(text, detected)
        for term_id, count in terms(words, language).items():
            merged[term_id] = max(count, merged.get(term_id, 0))
    return merged


def term_strings(text: str, language: str) -> dict[int, str]:
    """Return the letters behind each term id of a text, for explaining a score."""
    found: dict[int, str] = {}
    sequence: list[int] = []
    for word_ids, whole_ids, stems in _tokens(text, language):
        sequence += word_ids
        found.update(zip(word_ids + whole_ids, stems, strict=True))
    for pair_id, a, b in zip(_bigrams(sequence), sequence, sequence[1:], strict=False):
        found[pair_id] = f"{found[a]} {found[b]}"
    return found


def word_stems(text: str, language: str) -> list[str]:
    """Return the stems of a text's words and identifiers, each once, without stop words."""
    stems = [stem for _, _, stems in _tokens(text, language) for stem in stems]
    return list(dict.fromkeys(stems))


def is_bigram(term_id: int) -> bool:
    """Tell a pair of words from a single one."""
    return term_id >= BIGRAM_BASE


def document_length(counts: Mapping[int, int]) -> int:
    """Return the length that BM25 weighs by: the number of terms, each as often as it occurs."""
    return sum(counts.values())


def detect_language(text: str, default: str = DEFAULT_LANGUAGE) -> str:
    """Return the language whose function words occur most in the first words of a text.

    Deterministic; a draw or no function word at all gives `default`.
    """
    seen = _function_words(text)
    best = max(seen.values())
    leaders = [language for language, count in seen.items() if count == best]
    return leaders[0] if len(leaders) == 1 else default


def _function_words(text: str) -> dict[str, int]:
    """Return how many of the first words of a text are function words of each language."""
    seen = dict.fromkeys(STOP_WORDS, 0)
    for word in _WORD.findall(text[: _DETECTION_WORDS * 8].lower())[:_DETECTION_WORDS]:
        for language in _LANGUAGES_OF.get(word, ()):
            seen[language] += 1
    return seen


def _is_plain(text: str, language: str, others: Sequence[str]) -> bool:
    """Tell whether a text has two function words of a language, and twice as many as of others."""
    seen = _function_words(text)
    most = max((seen[other] for other in others if other in seen), default=0)
    return seen[language] >= max(_FEW_WORDS, 2 * most)


def _tokens(text: str, language: str) -> list[_Token]:
    known = language if language in _caches else DEFAULT_LANGUAGE
    cache = _caches[known]
    if len(cache) > _CACHE_ENTRIES:
        cache.clear()
    if (single := cache.get(text)) is not None:  # one word, as it comes out of a text
        return [single]
    return [cache.get(token) or _remember(token, known) for token in _split(text)]


def _split(text: str) -> list[str]:
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).replace("\u00ad", "")
    return _TOKEN.findall(text.lower())


def _without_stop_words(text: str, language: str) -> str:
    return " ".join(token for token in _split(text) if token not in STOP_WORDS[language])


def _remember(token: str, language: str) -> _Token:
    found = _analyse(token, language)
    _caches[language][token] = found
    return found


def _analyse(token: str, language: str) -> _Token:
    token = token.replace("’", "'")
    if language in _ELISION:
        token = token.rpartition("'")[2]
    parts = [part for part in _JOINER.split(token) if part]
    if len(parts) == 1:
        return _units(parts, (), language)
    if not any(character.isdigit() for character in token):
        return _units(_unabbreviated(parts), (), language)
    if token.replace(".", "").isdecimal():
        return _units((token,), (), language)
    return _units(parts, ("-".join(parts),), language)


def _unabbreviated(parts: list[str]) -> list[str]:
    """Write `e.g` and `u.s.a` as one word, leave `write-down` in two."""
    return ["".join(parts)] if all(len(part) == 1 for part in parts) else parts


def _units(words: Sequence[str], whole: Sequence[str], language: str) -> _Token:
    stop_words = STOP_WORDS[language]
    stems = [_stem(word, language) for word in words if word not in stop_words]
    return tuple(map(_hash, stems)), tuple(map(_hash, whole)), (*stems, *whole)


def _stem(word: str, language: str) -> str:
    if len(word) > _LONGEST_WORD:
        return word
    # Snowball's objects keep state while they work: one per thread.
    stemmers: dict[str, Stemmer.Stemmer] | None = getattr(_thread, "stemmers", None)
    if stemmers is None:
        stemmers = _thread.stemmers = {}
    if language not in stemmers:
        stemmers[language] = Stemmer.Stemmer(_STEMMERS[language], 0)
    stem: str = stemmers[language].stemWord(word)
    return stem


def _hash(word: str) -> int:
    digest = blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return 1 + int.from_bytes(digest, "big") % (BIGRAM_BASE - 1)


def _bigrams(sequence: Sequence[int]) -> list[int]:
    """Return an id for each neighbouring pair; the order of the two matters."""
    return [
        BIGRAM_BASE + (first * _PAIR_FACTOR + second) % _PAIR_PRIME
        for first, second in pairwise(sequence)
    ]


def _commonest(counts: Mapping[int, int]) -> dict[int, int]:
    """Keep single words before pairs and the frequent before the rare."""
    kept = sorted(counts, key=lambda term_id: (is_bigram(term_id), -counts[term_id], term_id))
    return {term_id: counts[term_id] for term_id in kept[:MAX_TERMS]}
