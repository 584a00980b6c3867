"""Class names of a bundle as concepts: which class is meant, and what a concept is made of."""
from __future__ import annotations

import re
from functools import lru_cache
from typing import Iterable

from promptzoo.text.lexicon.concepts import Concept
from promptzoo.text.lexicon.lexicon import Lexicon
from promptzoo.text.lexicon.parse import words_of
from promptzoo.text.lexicon.reading import read
from promptzoo.text.lexicon.spelling import fold


class Known:
    """The classes that a bundle knows.

    Args:
        names: class names in any spelling.
        lexicon: where they are looked up; a name that is not in it becomes a concept of its own.

    Attributes:
        lexicon: the lexicon with these concepts.
        classes: class name by id of its concept; the first of several.
    """

    def __init__(self, names: Iterable[str], lexicon: Lexicon) -> None:
        self.classes: dict[str, str] = {}
        strange = []
        for name in names:
            concept = concept_of(name, lexicon)
            if concept is None:
                concept = Concept(id=re.sub(r" ", "_", fold(name)) or name, name=name, region="bundle")
                strange.append(concept)
            self.classes.setdefault(concept.id, name)
        self.lexicon = Lexicon((*lexicon.concepts, *strange)) if strange else lexicon

    def class_for(self, concept: Concept) -> str | None:
        """The class that is this concept and nothing else."""
        return self.classes.get(concept.id)

    def cover(self, concept: Concept) -> tuple[Concept, ...]:
        """What the classes have for a concept.

        Itself; or its left and right; or the parts that make up the whole of it; or, of a group, those of its kind that
        are known. Sides and parts come with those that no class has, as long as one has a class, so that the caller can
        say what is missing. Empty if nothing is known.
        """
        return tuple(dict.fromkeys(self._cover(concept, frozenset())))

    def _cover(self, concept: Concept, seen: frozenset[str]) -> tuple[Concept, ...]:
        if concept.id in self.classes:
            return (concept,)
        if concept.id in seen:
            return ()
        seen = seen | {concept.id}
        found = self._all(self.lexicon.sides(concept), seen)
        if not found:
            found = self._all(tuple(self.lexicon.concept(p) for p in concept.parts if p in self.lexicon), seen)
        if not found and concept.group:
            found = tuple(c for child in self.lexicon.kinds(concept) for c in self._cover(child, seen))
            found = tuple(c for c in found if c.id in self.classes)
        return found

    def _all(self, parts: tuple[Concept, ...], seen: frozenset[str]) -> tuple[Concept, ...]:
        covers = [self._cover(part, seen) for part in parts]
        return tuple(c for part, cover in zip(parts, covers) for c in cover or (part,)) if any(covers) else ()


@lru_cache(maxsize=64)
def known_of(names: tuple[str, ...], lexicon: Lexicon) -> Known:
    """:class:`Known`, kept."""
    return Known(names, lexicon)


def concept_of(name: str, lexicon: Lexicon) -> Concept | None:
    """The concept that a class name says, in any order and spelling but without typing errors.

    Args:
        name: such as ``kidney_left``, ``Left kidney``, ``vertebrae L1``.

    Returns:
        None if a word is unknown, or if it may mean several concepts.
    """
    words = [w for w in words_of(re.sub(r"[_,()]", " ", name)) if not isinstance(w, str)]
    found = read(words, lexicon) if words else []
    if len(found) != 1 or found[0].unknown or found[0].sides or len(found[0].spans) != 1:
        return None
    span = found[0].spans[0]
    if span.how == "fuzzy":
        return None
    least = min(e.rank for e in span.entries)
    meant = {e.concept.id: e.concept for e in span.entries if e.rank == least}
    if len(meant) != 1:
        return None
    concept = next(iter(meant.values()))
    for side in span.sides:
        concept = next((c for c in lexicon.sides(concept) if c.side == side), concept)
        if concept.side != side:
            return None
    return concept


def class_for(concept: Concept, known: Iterable[str], lexicon: Lexicon | None = None) -> str | None:
    """The class name among ``known`` that is this concept; None if there is none.

    Args:
        concept: of a ``Match`` that was resolved with the same names and lexicon.
        known: class names of a bundle in any spelling.
        lexicon: default: the shipped one.
    """
    return known_of(tuple(known), lexicon or Lexicon.load()).class_for(concept)
