"""Candidates for words that the lexicon does not hold: by a text tower, or by spelling."""
from __future__ import annotations

from collections import Counter
from typing import Any, Sequence
from weakref import WeakKeyDictionary

import numpy as np

from promptzoo.text.lexicon.concepts import Concept, Match
from promptzoo.text.lexicon.known import Known
from promptzoo.text.lexicon.lexicon import Lexicon
from promptzoo.text.lexicon.parse import Word
from promptzoo.text.lexicon.spelling import fold, listed, trigrams

ACCEPT, MARGIN = 0.90, 0.15
"""Cosine from which a tower's answer is taken, and by how much it must lead before any other concept."""
OFFER = 0.75
"""Cosine from which a tower's answer is offered as a candidate."""
NEARER = 0.05
"""By how much a concept with a class may be less likely and is still offered first."""
LIKE = 0.45
"""Dice of groups of three letters from which a phrase is offered as a candidate."""
_vectors: WeakKeyDictionary[Lexicon, dict[str, tuple[list[Concept], np.ndarray]]] = WeakKeyDictionary()


def nearest(words: Sequence[Word], unknown: Sequence[Word], lexicon: Lexicon, tower: Any, known: Known | None,
            most: int = 5) -> list[Match]:
    """Concepts that words may mean, the likeliest first.

    Args:
        words: of a piece.
        unknown: those that nothing is known of; without a tower these are compared by spelling.
        tower: texts to unit vectors ``[N, D]``, or None.
        known: concepts with classes come first where they are nearly as likely.
        most: number of candidates.
    """
    idle = {w for e in listed("fillers", "verbs") for w in e}
    content = [w for w in words if w.folded not in idle] or list(unknown)
    phrase = " ".join(w.folded for w in content)
    trusted = tower is not None and _wordlike(unknown, lexicon)
    scored = _by_tower(phrase, lexicon, tower) if trusted else _by_spelling(unknown, lexicon)
    scored.sort(key=lambda s: -s[0] - (NEARER if known is not None and known.cover(s[1]) else 0))
    typed = " ".join(w.typed for w in content)
    return [Match(c, typed, "embedding" if trusted else "fuzzy", round(float(min(max(s, 0), 1)), 3))
            for s, c in scored[:most]]


def accepted(near: Sequence[Match], lexicon: Lexicon) -> Match | None:
    """The first candidate, if it is near enough and leads clearly before any that is not its left, right or pair."""
    if not near or near[0].confidence < ACCEPT:
        return None
    first = near[0].concept
    pair = lexicon.whole(first) or first
    own = {pair.id, *(c.id for c in lexicon.sides(pair))}
    others = [m.confidence for m in near[1:] if m.concept.id not in own]
    return near[0] if not others or near[0].confidence - others[0] >= MARGIN else None


def supported(concept: Concept, unknown: Sequence[Word]) -> bool:
    """Whether each unknown word is like a word of the concept, so that none of them counts for nothing."""
    own = [trigrams(word) for word in dict.fromkeys(w for p in concept.phrases for w in fold(p).split())]
    return all(any(2 * len(typed & word) >= LIKE * (len(typed) + len(word)) for word in own)
               for typed in (trigrams(w.folded) for w in unknown))


def _wordlike(unknown: Sequence[Word], lexicon: Lexicon) -> bool:
    """Whether half of the groups of three letters of each unknown word occur in the lexicon; a tower has no idea of
    words of which it has seen no part, and answers all the same."""
    seen = lexicon.grams[1]
    return all(sum(g in seen for g in own) >= len(own) / 2 for own in (trigrams(w.folded) for w in unknown))


def _by_tower(phrase: str, lexicon: Lexicon, tower: Any) -> list[tuple[float, Concept]]:
    kept = _vectors.setdefault(lexicon, {})
    if tower.name not in kept:
        entries = [e for e in lexicon.entries if not e.short]
        kept[tower.name] = [e.concept for e in entries], np.asarray(tower([fold(e.phrase) for e in entries]))
    concepts, vectors = kept[tower.name]
    cosines = vectors @ np.asarray(tower([phrase]))[0]
    best: dict[str, tuple[float, Concept]] = {}
    for index in np.argsort(-cosines)[:64]:
        best.setdefault(concepts[index].id, (float(cosines[index]), concepts[index]))
    return [found for found in best.values() if found[0] >= OFFER][:12]


def _by_spelling(unknown: Sequence[Word], lexicon: Lexicon) -> list[tuple[float, Concept]]:
    """Concepts whose phrases share groups of three letters: Dice of the groups, halved."""
    own = trigrams(" ".join(w.folded for w in unknown))
    entries, holders, sizes = lexicon.grams
    shared = Counter(n for gram in own for n in holders.get(gram, ()))
    scores = sorted(((count / (len(own) + sizes[n]), n) for n, count in shared.items()), key=lambda s: (-s[0], s[1]))
    best: dict[str, tuple[float, Concept]] = {}
    for score, n in scores[:20]:
        if 2 * score >= LIKE:
            best.setdefault(entries[n].concept.id, (score, entries[n].concept))
    return list(best.values())[:5]
