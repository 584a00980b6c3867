"""The lexicon: concepts, and the index from words to concepts."""
from __future__ import annotations

import difflib
import os
from collections import defaultdict
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import Iterable, Iterator, NamedTuple

from promptzoo.core.errors import NotFoundError, complain
from promptzoo.text.lexicon import files
from promptzoo.text.lexicon.concepts import Concept
from promptzoo.text.lexicon.spelling import bag, fold, stems, trigrams

VARIABLE = "PROMPTZOO_LEXICON"
SHORT_LATIN = 8
"""Letters from which a Latin word is sought behind a typing error: ``vasa`` is near to too much."""


class Entry(NamedTuple):
    """One phrase of one concept.

    Args:
        rank: 0 for names, 1 for synonyms and Latin, 2 for abbreviations and everyday words.
        concept: what it means.
        phrase: as stated.
        short: whether it is an abbreviation.
    """

    rank: int
    concept: Concept
    phrase: str
    short: bool


class Lexicon:
    """Concepts by id and by words.

    Args:
        concepts: all of them; of two with the same id the later counts.
    """

    def __init__(self, concepts: Iterable[Concept]) -> None:
        self._by_id = {concept.id: concept for concept in concepts}

    @classmethod
    def load(cls, *extra_files: str | Path) -> "Lexicon":
        """The shipped lexicon, extended.

        Args:
            extra_files: files as ``schema.json`` says; they come after the files of ``$PROMPTZOO_LEXICON`` (separated
                as in ``$PATH``). Later ones add words to concepts of the same id, and replace what else they state.

        Raises:
            NotFoundError: if a file does not exist.
            PromptZooError: if a file is not as the schema says, or names a parent or part that is nowhere.
        """
        more = [part for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
        stamped = tuple((str(p), Path(p).stat().st_mtime_ns if Path(p).is_file() else 0)
                        for p in (*more, *map(str, extra_files)))
        return _load(stamped)

    def without(self, phrases: Iterable[str]) -> "Lexicon":
        """The same concepts without some of their words, in any order and spelling, with and without a side."""
        gone = {bag((*stems(phrase), *side)) for phrase in phrases for side in ((), ("left",), ("right",))}

        def kept(words: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(word for word in words if bag(stems(word)) not in gone)

        return Lexicon(replace(c, synonyms=kept(c.synonyms), latin=kept(c.latin), everyday=kept(c.everyday),
                               abbreviations=kept(c.abbreviations)) for c in self.concepts)

    @property
    def concepts(self) -> tuple[Concept, ...]:
        """All concepts; of lateral ones the pair, the left and the right."""
        return tuple(self._by_id.values())

    def concept(self, concept_id: str) -> Concept:
        """One concept by id.

        Raises:
            NotFoundError: if there is none, with similar ids.
        """
        if concept_id not in self._by_id:
            near = difflib.get_close_matches(concept_id, self._by_id, n=3)
            raise NotFoundError(complain("concept id", concept_id, "an id of the lexicon",
                                         f"Did you mean {' or '.join(near)}?" if near else ""))
        return self._by_id[concept_id]

    def __contains__(self, concept_id: object) -> bool:
        return concept_id in self._by_id

    def __len__(self) -> int:
        return len(self._by_id)

    def names(self) -> tuple[str, ...]:
        """The canonical names, in the order of :attr:`concepts`."""
        return tuple(concept.name for concept in self._by_id.values())

    def sides(self, concept: Concept) -> tuple[Concept, ...]:
        """Left and right of a lateral concept; empty for others."""
        found = tuple(self._by_id.get(f"{concept.id}_{side}") for side in files.SIDES)
        return tuple(c for c in found if c is not None and concept.side is None) if all(found) else ()

    def whole(self, concept: Concept) -> Concept | None:
        """The pair of which a left or right concept is one; None if it is not one of a pair."""
        base = concept.id.removesuffix(f"_{concept.side}")
        return self._by_id.get(base) if concept.side and base != concept.id else None

    def children(self, concept: Concept) -> tuple[Concept, ...]:
        """Concepts whose parent this is; its own left and right are not among them."""
        own = {c.id for c in self.sides(concept)}
        return tuple(c for c in self._children.get(concept.id, ()) if c.id not in own)

    def kinds(self, group: Concept) -> tuple[Concept, ...]:
        """What a group stands for: its children, and whatever is named by it, as *psoas muscle* is by *muscle*."""
        if not group.group:
            return ()
        named = [c for c in self._last_words.get(stems(group.name)[-1:], ())
                 if c.side == group.side and c.id != group.id and self._named_by(c, group)]
        return tuple(dict.fromkeys((*self.children(group), *named)))

    @staticmethod
    def _named_by(concept: Concept, group: Concept) -> bool:
        own, other = stems(group.name), stems(concept.name)
        return len(other) > len(own) and other[len(other) - len(own):] == own

    @cached_property
    def _last_words(self) -> dict[tuple[str, ...], tuple[Concept, ...]]:
        return _grouped(((stems(c.name)[-1],), c) for c in self._by_id.values())

    def ancestors(self, concept: Concept) -> Iterator[Concept]:
        """Its parent, and so on."""
        seen = {concept.id}
        while concept.parent in self._by_id and concept.parent not in seen:
            concept = self._by_id[concept.parent]
            seen.add(concept.id)
            yield concept

    @cached_property
    def _children(self) -> dict[str, list[Concept]]:
        found: dict[str, list[Concept]] = defaultdict(list)
        for concept in self._by_id.values():
            if concept.parent:
                found[concept.parent].append(concept)
        return found

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """Every phrase of every concept."""
        found = []
        for concept in self._by_id.values():
            for rank, words in ((0, (concept.name,)), (1, (*concept.synonyms, *concept.latin)),
                                (2, (*concept.abbreviations, *concept.everyday))):
                found += [Entry(rank, concept, w, w in concept.abbreviations and rank == 2) for w in words]
        return tuple(found)

    @cached_property
    def by_bag(self) -> dict[tuple[str, ...], tuple[Entry, ...]]:
        """Entries by the stems of their words, whatever the order."""
        return _grouped((bag(stems(e.phrase)), e) for e in self.entries)

    @cached_property
    def by_squeezed(self) -> dict[str, tuple[Entry, ...]]:
        """Entries by their stems without spaces: ``gall bladder`` and ``gallbladder`` are one."""
        return _grouped(("".join(stems(e.phrase)), e) for e in self.entries if not e.short)

    @cached_property
    def exact(self) -> frozenset[str]:
        """Phrases as stated, folded."""
        return frozenset(fold(e.phrase) for e in self.entries)

    @cached_property
    def words(self) -> dict[str, tuple[str, ...]]:
        """Words that may be mistyped, as stated and as stems, by first letter; short Latin ones are left out."""
        found: dict[str, set[str]] = defaultdict(set)
        for entry in self.entries:
            if not entry.short:
                latin = entry.phrase in entry.concept.latin
                for word in (*fold(entry.phrase).split(), *stems(entry.phrase)):
                    if not latin or len(word) >= SHORT_LATIN:
                        found[word[0]].add(word)
        return {letter: tuple(sorted(words)) for letter, words in found.items()}

    @cached_property
    def grams(self) -> tuple[tuple[Entry, ...], dict[str, tuple[int, ...]], tuple[int, ...]]:
        """For spelling: entries without a side, which of them have a group of three letters, and how many each has."""
        entries = tuple({fold(e.phrase): e for e in reversed(self.entries)
                         if not e.short and e.concept.side is None and len(fold(e.phrase)) > 2}.values())
        each = [trigrams(fold(e.phrase)) for e in entries]
        return entries, _grouped((g, n) for n, own in enumerate(each) for g in own), tuple(map(len, each))

    @cached_property
    def glued(self) -> tuple[tuple[str, ...], ...]:
        """Folded phrases that hold a word which otherwise parts or negates."""
        parting = {"and", "or", "with", "no", "not", "without", "plus"}
        return tuple(sorted({tuple(words) for e in self.entries if parting & set(words := fold(e.phrase).split())},
                            key=len, reverse=True))


def _grouped(pairs: Iterable[tuple]) -> dict:
    found: dict = defaultdict(list)
    for key, entry in pairs:
        found[key].append(entry)
    return {key: tuple(entries) for key, entries in found.items()}


@cache
def _load(stamped: tuple[tuple[str, int], ...]) -> Lexicon:
    return Lexicon(files.concepts(files.merged((*files.shipped(), *(path for path, _ in stamped)))))
