"""One piece of a sentence as concepts: phrases of the lexicon laid over its words, with as little left as possible."""
from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Iterator, Mapping, Sequence

from promptzoo.text.lexicon.concepts import How
from promptzoo.text.lexicon.lexicon import Entry, Lexicon
from promptzoo.text.lexicon.parse import Word
from promptzoo.text.lexicon.spelling import (
    STOP,
    bag,
    corrections,
    edits_allowed,
    fold,
    listed,
    stem,
    vocabulary,
)

MOST_WORDS = 9
"""Words of the longest phrase that is tried."""
CONFIDENCE = {"exact": 1.0, "normalised": 0.97, "fuzzy": 0.9}
_UNKNOWN, _SIDE, _FILLER, _PHRASE = 10.0, 0.1, 0.3, 0.5
"""What a word or phrase costs: a phrase of two words is preferred to two that say nothing, one such word is not."""


@dataclass(frozen=True)
class Span:
    """Some words that are a phrase of the lexicon.

    Args:
        words: as typed.
        entries: what the phrase may mean.
        how, confidence: as in ``Match``.
        related: whether a word such as *in* or *of* stands before it.
        sides: ``left``, ``right`` or ``both`` that belong to it and are not in the phrase.
    """

    words: tuple[Word, ...]
    entries: tuple[Entry, ...]
    how: How
    confidence: float
    related: bool = False
    sides: tuple[str, ...] = ()

    @property
    def phrase(self) -> str:
        """Its words as typed."""
        return " ".join(word.typed for word in self.words)


@dataclass(frozen=True)
class Reading:
    """What was made of a piece.

    Args:
        spans: phrases, in order.
        unknown: words that nothing was made of.
        sides: sides that belong to no phrase.
        cost: the lower the better.
    """

    spans: tuple[Span, ...] = ()
    unknown: tuple[Word, ...] = ()
    sides: tuple[str, ...] = ()
    cost: float = field(default=0.0, compare=False)


def read(words: Sequence[Word], lexicon: Lexicon) -> list[Reading]:
    """What a piece may mean, without any unknown word where that can be; several only if typing errors may be
    corrected in several ways that are equally near."""
    plain = _cover(words, lexicon)
    if not plain.unknown:
        return [plain]
    choices = [_repairs(word, lexicon) if word in plain.unknown else ((word, 0.0),) for word in words]
    if all(len(choice) == 1 and choice[0][1] == 0 for choice in choices):
        return [plain]
    found: list[tuple[tuple[int, float, int], Reading]] = []
    for chosen in itertools.islice(itertools.product(*choices), 64):
        reading = _cover([w for w, _ in chosen], lexicon)
        changed = {w: edits for w, edits in chosen if edits}
        if all(_readable(w, edits, reading) for w, edits in changed.items()):
            spans = tuple(_mended(s, changed) for s in reading.spans)
            found.append(((len(reading.unknown), sum(changed.values()), len(spans)), replace(reading, spans=spans)))
    least = min((key for key, _ in found), default=(len(words), 0.0, 0))
    if least[0] >= len(plain.unknown):
        return [plain]
    best = [reading for key, reading in found if key == least]
    meant = {tuple(frozenset(e.concept.id for e in s.entries) for s in r.spans): r for r in reversed(best)}
    return list(meant.values())


def _readable(word: Word, edits: float, reading: Reading) -> bool:
    """Whether a corrected word has few enough errors: fewer alone than in a phrase with others.

    A word that comes to be a part of no phrase must be a side, or one of :func:`_own_words`: a mistyped *please* may be
    passed over, a word that is a little like *pale* may not.
    """
    around = [len(span.words) for span in reading.spans if word in span.words]
    if not around and not word.side and word.folded not in _own_words().get(word.folded[0], ()):
        return False
    return int(edits) <= edits_allowed(fold(word.typed)) or any(size > 1 for size in around)


def _repairs(word: Word, lexicon: Lexicon) -> tuple[tuple[Word, float], ...]:
    found = [*corrections(word.folded, lexicon.words), *corrections(word.folded, _own_words())]
    least = min((edits for _, edits in found), default=0.0)
    best = tuple(dict.fromkeys(w for w, edits in found if edits == least))[:6]
    sides = {w: s for s, entries in vocabulary()["sides"].items() for w in entries}
    return tuple((_as(word, other, sides.get(other)), least) for other in best) or ((word, 0.0),)


def _as(word: Word, folded: str, side: str | None) -> Word:
    return Word(word.typed, side or folded, side or stem(folded), side)


def _mended(span: Span, changed: Mapping[Word, float]) -> Span:
    wrong = [w for w in span.words if w in changed]
    if not wrong:
        return span
    share = sum(1 / max(len(w.folded), 1) for w in wrong) / len(wrong)
    return replace(span, how="fuzzy", confidence=round(CONFIDENCE["fuzzy"] - share, 3))


@cache
def _own_words() -> dict[str, tuple[str, ...]]:
    """Sides, verbs and fillers that are long enough to be mistyped, by first letter."""
    found: dict[str, list[str]] = {}
    longer = {w for e in listed("verbs", "fillers", "positives", "negations") for w in e if len(w) > 4}
    for word in sorted(longer | {"left", "right", "both"}):
        found.setdefault(word[0], []).append(word)
    return {letter: tuple(words) for letter, words in found.items()}


@cache
def _idle() -> frozenset[str]:
    return frozenset(w for e in listed("fillers", "verbs", "modifiers", "relations", "positives") for w in e) | STOP


def _cover(words: Sequence[Word], lexicon: Lexicon) -> Reading:
    """The cheapest way to lay phrases over words; dynamic programming from the left."""
    best: list[tuple[float, tuple]] = [(0.0, ())]
    for end in range(1, len(words) + 1):
        word = words[end - 1]
        idle = word.folded in _idle() or word.stem in _idle()
        cost, kind = (_SIDE, "side") if word.side else (_FILLER, "idle") if idle else (_UNKNOWN, "unknown")
        options = [(best[end - 1][0] + cost, (*best[end - 1][1], (kind, word)))]
        for start in range(max(0, end - MOST_WORDS), end):
            for span, extra in _lookup(words[start:end], lexicon):
                options.append((best[start][0] + _PHRASE + extra, (*best[start][1], ("span", span))))
        best.append(min(options, key=lambda option: option[0]))
    return _reading(best[-1][1], best[-1][0])


def _lookup(words: Sequence[Word], lexicon: Lexicon) -> Iterator[tuple[Span, float]]:
    first, last = words[0], words[-1]
    typed = " ".join(w.folded for w in words)
    exact = typed in lexicon.exact
    if len(words) > 1 and (first.folded in STOP or last.folded in STOP) and not exact:
        return
    sides: tuple[str, ...] = ()
    stems = [w.stem for w in words]
    entries = _spoken(lexicon.by_bag.get(bag(stems), ()), words)
    entries = tuple(e for e in entries if fold(e.phrase) == typed) if exact else entries
    how: How = "exact" if exact and entries else "normalised"
    if not entries and len(words) < 5:
        entries, how = lexicon.by_squeezed.get("".join(stems), ()), "normalised"
    if not entries and not (first.side or last.side) and any(w.side for w in words):
        sides = tuple(w.side for w in words if w.side)
        entries = lexicon.by_bag.get(bag(w.stem for w in words if not w.side), ())
    if (first.folded,) in listed("verbs"):
        entries = tuple(e for e in entries if fold(e.phrase).startswith(first.folded))
    if entries:
        yield (Span(tuple(words), entries, how, CONFIDENCE[how], sides=sides),
               0.05 * (how != "exact") + 0.05 * min(e.rank for e in entries))


def _spoken(entries: tuple[Entry, ...], words: Sequence[Word]) -> tuple[Entry, ...]:
    """Entries as they are typed: one short word in capitals is an abbreviation where it can be one (``OS``, the left
    eye, and not Latin for bone); an abbreviation that is an everyday word must be in capitals."""
    shouted = all(word.typed.isupper() for word in words)
    short = tuple(entry for entry in entries if entry.short)
    if shouted and short and len(words) == 1:
        return short
    plain = all(word.folded in _idle() for word in words)
    return tuple(entry for entry in entries if not entry.short) if plain and not shouted else entries


def _reading(items: Sequence[tuple], cost: float) -> Reading:
    """Items as spans; a side goes to the phrase after it, or else before it."""
    spans: list[Span] = []
    pending: list[str] = []
    unknown: list[Word] = []
    related = False
    for kind, what in items:
        if kind == "span":
            spans.append(replace(what, related=related, sides=(*pending, *what.sides)))
            pending, related = [], False
        elif kind == "side":
            pending.append(what.side)
        elif kind == "unknown":
            unknown.append(what)
        related = related or (bool(spans) and kind == "idle" and (what.folded,) in listed("relations"))
    if pending and spans:
        spans[-1] = replace(spans[-1], sides=(*spans[-1].sides, *pending))
        pending = []
    return Reading(tuple(spans), tuple(unknown), tuple(pending), cost)
