"""Sentences that say what things look like: typical attributes of the lexicon, spoken in many ways.

They teach the masked language model of the cloze, and those held out measure it: ways of speaking that no training
sees, and pairs of a name and an attribute that training never puts into one sentence.
"""
from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Sequence

from promptzoo.data.synthesis.attribute_words import GROUPS, group_of, tokens
from promptzoo.text.attributes.knowledge import CLOZE_SENTENCES, Concept, concepts
from promptzoo.text.lexicon import Lexicon

KINDS = {"colour": "color", "shape": "shape", "texture": "texture", "size": "size", "location": "place"}
"""Attributes of the lexicon, and what the sentences call them."""

WAYS = ("The {kind} of {name} is {word}.", "{name} has the {kind} {word}.", "{name} is {word} in {kind}.",
        "What is the {kind} of {name}? It is {word}.", "Doctors know {name} by its {word} {kind}.",
        "In a picture the {kind} of {name} is usually {word}.", "A {word} {kind} is typical of {name}.",
        "{name}: {kind} {word}.")
HELD_OUT_WAYS = ("Doctors say that the usual {kind} of {name} is {word}.",
                 "It is typical of {name} to be {word} in {kind}.", "In a picture {name} has a {word} {kind}.",
                 "What {kind} has {name}? Usually {word}.")
"""Ways of speaking that no training sees."""
SAME = "{name} is another name of {other}."
MOST_NAMES = 5
HELD_OUT_SHARE = 0.2
_GAPS = ("that", "say", "it", "to", "be")


@dataclass(frozen=True)
class Fact:
    """One word for one attribute of a name.

    Args:
        concept: id in the lexicon.
        name: what it is called.
        first: whether that is the concept's own name rather than another word for it.
        attribute: key of :data:`KINDS`.
        words: typical ones, the most typical first.
    """

    concept: str
    name: str
    first: bool
    attribute: str
    words: tuple[str, ...]

    @property
    def held_out(self) -> bool:
        """Whether no training puts this name and this attribute into one sentence; never for a concept's own name."""
        digest = hashlib.sha256(f"{self.name} {self.attribute}".encode()).digest()[0]
        return not self.first and digest < 256 * HELD_OUT_SHARE

    def said(self, way: str, word: str) -> str:
        """The fact in one of :data:`WAYS`."""
        return way.format(kind=KINDS[self.attribute], name=self.name, word=word)


def single_words(attribute: str, values: Sequence[str]) -> tuple[str, ...]:
    """The one word that stands for each value: one that the detector knows as such an attribute, or a value of one word
    (``dark red`` is red, ``tube`` is itself); others are left out."""
    found = []
    for value in values:
        words = tokens(value)
        known = [w for w in words if group_of(w) == attribute or (attribute == "colour" and group_of(w) == "tone")]
        if known or len(words) == 1:
            found.append((known or words)[-1])
    return tuple(dict.fromkeys(found))


def facts(lexicon: Lexicon | None = None) -> list[Fact]:
    """Every attribute of every concept of the lexicon under its name and at most four other words for it."""
    found = []
    for one in (lexicon or Lexicon.load()).concepts:
        for number, name in enumerate(one.phrases[:MOST_NAMES]):
            for attribute in KINDS:
                words = single_words(attribute, one.attributes.get(attribute, ()))
                if words:
                    found.append(Fact(one.id, name, number == 0, attribute, words))
    return found


def plain_sentences(known: Sequence[Fact], looks: Sequence[Concept] | None = None) -> list[str]:
    """Sentences beside the facts: what is another name of what, and those of :func:`concepts` under every alias."""
    names: dict[str, list[str]] = {}
    for fact in known:
        names.setdefault(fact.concept, []).append(fact.name)
    found = [SAME.format(name=other, other=own[0]) for own in names.values() for other in dict.fromkeys(own[1:])
             if other != own[0]]
    return list(dict.fromkeys([*found, *(s for one in looks or concepts() for s in one.sentences)]))


def cloze_way(attribute: str) -> str:
    """The sentence of :data:`promptzoo.text.attributes.knowledge.CLOZE_SENTENCES` as a way of speaking."""
    return CLOZE_SENTENCES[attribute].replace("{mask}", "{word}")


def vocabulary(known: Sequence[Fact], sentences: Sequence[str]) -> list[str]:
    """The special tokens of BERT, then every word and mark of all of it, sorted."""
    words = {*_GAPS, *KINDS.values(), *(w for group in GROUPS.values() for w in group)}
    for text in (*WAYS, *HELD_OUT_WAYS, *CLOZE_SENTENCES.values(), *sentences, *(f.name for f in known),
                 *(word for f in known for word in f.words)):
        words.update(tokens(text.format_map(_Blank())))
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *".,:;?!'-()/", *sorted(words - set(".,:;?!'-()/"))]


class _Blank(dict):
    """Fills every slot of a template with nothing."""

    def __missing__(self, key: str) -> str:
        return ""
