"""A sentence as pieces: what is asked for, what is excluded, and how the pieces hang together."""
from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Sequence

from promptzoo.text.lexicon.spelling import fold, listed, stem, vocabulary

LONGEST = 2000
"""Characters of a text that are read."""
_HARD = frozenset(",;:.!?()\n")
_DOTTED = {"a": "arteria", "v": "vena", "m": "musculus", "n": "nervus", "aa": "arteria", "vv": "vena", "mm": "musculus",
           "nn": "nervus"}
_TOKEN = re.compile(r"[^\W_]+|[,;:.!?()&+/\n]")


@dataclass(frozen=True)
class Word:
    """One word: as typed, folded, and its stem; sides are ``left``, ``right`` or ``both``."""

    typed: str
    folded: str
    stem: str
    side: str | None = None


@dataclass(frozen=True)
class Piece:
    """Words between joints.

    Args:
        words: in order.
        negated: whether they are excluded.
        choice: whether *or* stands before them.
    """

    words: tuple[Word, ...]
    negated: bool = False
    choice: bool = False


def words_of(text: str) -> list[Word | str]:
    """Words, and marks as strings: ``,`` for any mark that ends a clause, ``and`` for ``&``, ``+`` and ``/``."""
    plain = unicodedata.normalize("NFKC", text[:LONGEST]).replace("ß", "ss")
    plain = re.sub(r"\b([bBwW])/([lLoO])\b", r"\1 \2", plain)
    raw = _TOKEN.findall(plain)
    sides = {w: side for side, entries in vocabulary()["sides"].items() for w in entries if " " not in w}
    found: list[Word | str] = []
    for n, token in enumerate(raw):
        before = raw[n - 1].lower() if n else ""
        if token == "." and (before in _DOTTED or before in sides):
            continue
        if token in _HARD:
            found.append(",")
        elif token in "&+/":
            found.append("and")
        else:
            folded = fold(token)
            if n + 1 < len(raw) and raw[n + 1] == "." and n + 2 < len(raw) and folded in _DOTTED:
                folded = _DOTTED[folded]
            found += [Word(token, part, stem(part), sides.get(part)) for part in folded.split()]
    return _joined_sides(found)


def _joined_sides(words: list[Word | str]) -> list[Word | str]:
    """Sides of several words as one: *left hand side*, *left and right*."""
    longer = sorted(((tuple(entry.split()), side) for side, entries in vocabulary()["sides"].items()
                     for entry in entries if " " in entry), key=lambda e: -len(e[0]))
    found: list[Word | str] = []
    n = 0
    while n < len(words):
        for entry, side in longer:
            here = words[n:n + len(entry)]
            if tuple(w if isinstance(w, str) else w.folded for w in here) == entry:
                typed = " ".join(w if isinstance(w, str) else w.typed for w in here)
                found.append(Word(typed, side, side, side))
                n += len(entry)
                break
        else:
            word = words[n]
            found.append(Word(word.typed, word.folded, word.side, word.side)
                         if isinstance(word, Word) and word.side else word)
            n += 1
    return found


def pieces(words: Sequence[Word | str], glued: Sequence[tuple[str, ...]]) -> list[Piece]:
    """Words parted at marks, *and*, *or*, negations and words that end a negation.

    Args:
        words: of :func:`words_of`.
        glued: phrases that are not parted although they hold such a word.
    """
    return _Parser(words, glued).run()


class _Parser:
    def __init__(self, words: Sequence[Word | str], glued: Sequence[tuple[str, ...]]) -> None:
        self.words, self.whole = words, glued
        self.done: list[Piece] = []
        self.open: list[Word] = []
        self.negated = self.choice = self.empty_negation = False

    def run(self) -> list[Piece]:
        n = 0
        while n < len(self.words):
            n += self._glued(n) or self._cue(n) or self._plain(n)
        self._close()
        return self.done

    def _folded(self, n: int, count: int) -> tuple[str, ...]:
        return tuple(w if isinstance(w, str) else w.folded for w in self.words[n:n + count])

    def _starts(self, n: int, *lists: str) -> int:
        """How many words at ``n`` are an entry of the lists: of the longest."""
        return next((k for k in (4, 3, 2, 1) if n + k <= len(self.words) and self._folded(n, k) in listed(*lists)), 0)

    def _glued(self, n: int) -> int:
        for phrase in self.whole:
            if self._folded(n, len(phrase)) == phrase:
                self.open += [w if isinstance(w, Word) else Word(w, w, w) for w in self.words[n:n + len(phrase)]]
                return len(phrase)
        return 0

    def _cue(self, n: int) -> int:
        word = self.words[n]
        if word == ",":
            self._close()
            self.negated, self.choice = self.negated and self._list_goes_on(n + 1), False
            return 1
        size = self._starts(n, "joins") or (1 if word == "and" else 0)
        if size:
            self._close()
            return size
        size = self._starts(n, "negated_before")
        if size and self.open:
            self._close(negated=True)
            return size
        size = self._starts(n, "choices")
        if size:
            self._close()
            self.choice = True
            return size
        size = self._starts(n, "negations")
        if size:
            self._close()
            self.negated = True
            return size
        size = self._starts(n, "positives")
        if size:
            self._close()
            self.negated = self.choice = False
            return size
        return 0

    def _plain(self, n: int) -> int:
        word = self.words[n]
        after_joint = not self.open and n and not (self.negated and self._starts(n - 1, "negations"))
        if after_joint and self._starts(n, "verbs"):
            self.negated = False
        if isinstance(word, Word):
            self.open.append(word)
        return 1

    def _list_goes_on(self, n: int) -> bool:
        """Whether a negated list runs on after a comma: *or* comes before anything that would end it."""
        while n < len(self.words):
            if self._starts(n, "choices") or self._folded(n, 1) == ("nor",):
                return True
            if self._starts(n, "positives", "negations", "joins", "verbs") or self.words[n] == "and":
                return False
            n += 1
        return False

    def _close(self, negated: bool | None = None) -> None:
        if self.open:
            self.done.append(Piece(tuple(self.open), self.negated if negated is None else negated, self.choice))
            self.choice = False
        self.open = []
