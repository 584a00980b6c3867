"""Words made comparable: accents, number, British and American, adjectives of organs, and typing errors."""
from __future__ import annotations

import json
import re
import unicodedata
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Iterable, Mapping

STOP = frozenset(("a", "an", "the", "of", "in", "to", "for", "with", "and", "on", "at", "from", "s", "by"))
"""Words that do not tell phrases apart."""


@cache
def vocabulary() -> Mapping[str, Any]:
    """The word lists of ``words.json``."""
    return json.loads(Path(__file__).with_name("words.json").read_text(encoding="utf-8"))


@cache
def listed(*names: str) -> frozenset[tuple[str, ...]]:
    """Entries of word lists, each as a tuple of words."""
    return frozenset(tuple(entry.split()) for name in names for entry in vocabulary()[name])


@lru_cache(maxsize=1 << 15)
def fold(text: str) -> str:
    """Lower case, without accents; everything but letters and digits becomes one space."""
    plain = unicodedata.normalize("NFKD", text.replace("ß", "ss").replace("æ", "ae").replace("œ", "oe"))
    plain = "".join(c for c in plain if not unicodedata.combining(c)).lower()
    return " ".join(re.findall(r"[^\W_]+", plain))


@cache
def stem(word: str) -> str:
    """A folded word in the singular, in American spelling; adjectives of organs become the organ."""
    words = vocabulary()
    word = words["irregular"].get(word, word)
    if word not in words["keep"]:
        word = _american(_singular(word))
    return words["adjectives"].get(word, word)


def _singular(word: str) -> str:
    if len(word) < 4:
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes", "zes", "uses")):
        return word[:-2]
    if word.endswith("ae"):
        return word[:-1]
    if word.endswith("i"):
        return word[:-1] + "us"
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def _american(word: str) -> str:
    word = re.sub(r"(?<=.)(?:ae|oe)(?=.)|^(?:ae|oe)(?=..)", "e", word)
    word = re.sub(r"(?<=..)our$", "or", word).replace("leuco", "leuko")
    return re.sub(r"is(?=e[ds]?$|ing$|ation$)", "iz", word) if len(word) > 6 else word


def stems(text: str) -> tuple[str, ...]:
    """Stems of the words of a text, in order."""
    return tuple(stem(word) for word in fold(text).split())


def bag(words: Iterable[str]) -> tuple[str, ...]:
    """Stems whatever their order, without those that do not tell phrases apart."""
    words = tuple(words)
    return tuple(sorted({w for w in words if w not in STOP})) or tuple(sorted(set(words)))


def distance(one: str, other: str, limit: int) -> int:
    """Edits between two words: insertions, deletions, substitutions and swaps of neighbours.

    Optimal string alignment; ``limit + 1`` as soon as it is sure to exceed ``limit``.
    """
    if abs(len(one) - len(other)) > limit:
        return limit + 1
    before: list[int] = []
    last = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(other, 1):
            best = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and b == one[i - 2]:
                best = min(best, before[j - 2] + 1)
            row.append(best)
        if min(row) > limit:
            return limit + 1
        before, last = last, row
    return last[-1]


def trigrams(text: str) -> frozenset[str]:
    """Groups of three letters of a folded text, its ends marked."""
    marked = f"<{text}>"
    return frozenset(marked[n:n + 3] for n in range(len(marked) - 2))


def edits_allowed(word: str, beside: bool = False) -> int:
    """How many typing errors a word may have and still be read.

    Args:
        word: folded.
        beside: whether other words of the same phrase are there to tell what is meant; alone, a short word is not read.
    """
    if beside:
        return 0 if len(word) < 3 else 1 if len(word) < 6 else 2
    return 0 if len(word) < 4 else 1 if len(word) < 7 else 2


def corrections(word: str, among: Mapping[str, Iterable[str]]) -> tuple[tuple[str, float], ...]:
    """Words that a mistyped one may be, with the number of edits, the nearest first.

    Half an edit more where the letters differ, and not their order alone.

    Args:
        word: folded; a word of everyday English is no typing error of another.
        among: words by their first letter.
    """
    limit = edits_allowed(word, beside=True)
    if not limit or word in _everyday() or word.isdigit():
        return ()
    found = []
    for letter in dict.fromkeys(word[:2]):
        for other in among.get(letter, ()):
            if len(other) < 4 or (other[0] != word[0] and other[:2] != word[1::-1]):
                continue
            edits = distance(word, other, limit)
            if edits <= limit:
                found.append((other, edits + 0.5 * (sorted(other) != sorted(word))))
    return tuple(sorted(found, key=lambda f: (f[1], f[0])))


@cache
def _everyday() -> frozenset[str]:
    return frozenset(vocabulary()["common"]) | {w for e in listed("modifiers", "relations") for w in e}
