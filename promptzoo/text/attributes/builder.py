"""Captions for a detector from the name of a thing: name alone, by hand, by cloze, by questions, or both."""
from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Sequence

import numpy as np

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.data.synthesis.attribute_words import GROUPS, group_of, tokens
from promptzoo.text.attributes.answers import Answers, PictureStatistics
from promptzoo.text.attributes.knowledge import Cloze, Concept, CountCloze, concept_of
from promptzoo.text.attributes.sorting import combined, sorted_captions

MODES = ("none", "noun", "manual", "mlm", "vqa", "hybrid", "sorted")
"""Where attributes come from; ``none`` takes the text as it is, ``noun`` only changes a known name for its noun,
``sorted`` keeps the most relevant of many captions, see :mod:`promptzoo.text.attributes.sorting`."""

ORDER = ("size", "tone", "colour", "shape", "texture")
"""Attributes before the noun; the location follows it (Qin et al., ICLR 2023, section 3.2)."""

FROM_CLOZE = {"mlm": ("colour", "shape", "size", "location"), "hybrid": ("size", "location")}
FROM_ANSWERS = {"vqa": ("colour", "shape", "location"), "hybrid": ("colour", "shape"), "sorted": ("colour", "shape")}

ANYTHING = "object"
"""The noun for whatever it is."""


@dataclass(frozen=True)
class Caption:
    """A phrase for the detector and how far it is trusted, relative to the others."""

    text: str
    weight: float = 1.0


def caption(noun: str, attributes: Mapping[str, str]) -> str:
    """``[size] [tone] [colour] [shape] [texture] <noun> [at the location]``, each part there or not."""
    before = [attributes[name] for name in ORDER if name in attributes]
    after = ["at the", attributes["location"]] if "location" in attributes else []
    return " ".join([*before, noun, *after])


class PromptBuilder:
    """Makes captions; answers are kept per name (cloze) and per picture and name (questions).

    Args:
        mode: one of :data:`MODES`.
        k: most captions; the second, third … take the next likely word of each attribute. For ``sorted`` also the
            words asked of each attribute.
        keep_plain: also ask for the text as it is, so that a wrong attribute cannot lose everything.
        lay_noun: put the everyday noun of a known concept in the place of its name.
        cloze: fills attributes from knowledge.
        answers: fills them from the picture.
        cached: most pictures remembered.
    """

    def __init__(self, mode: str = "none", k: int = 1, keep_plain: bool = False, lay_noun: bool = True,
                 cloze: Cloze | None = None, answers: Answers | None = None, cached: int = 256) -> None:
        if mode not in MODES:
            raise PromptZooError(complain("way of making prompts", mode, ", ".join(MODES)))
        if not 1 <= k <= 9:
            raise PromptZooError(complain("number of captions", k, "1 … 9"))
        self.mode, self.k, self.keep_plain, self.lay_noun = mode, k, keep_plain, lay_noun
        self.cloze, self.answers = cloze or CountCloze(), answers or PictureStatistics()
        self.cached = cached
        self._by_name: dict[str, dict[str, list[tuple[str, float]]]] = {}
        self._by_picture: OrderedDict[tuple[str, str], dict[str, list[tuple[str, float]]]] = OrderedDict()

    def captions(self, text: str, picture: np.ndarray | None = None, key: str = "",
                 regions: Callable[[], np.ndarray] | None = None, seen: Callable[[], Any] | None = None,
                 fits: Callable[[Sequence[str]], Sequence[float]] | None = None) -> list[Caption]:
        """Captions for a text, best first; the text itself where nothing is known about it.

        Attributes that the text says already are kept as said.

        Args:
            text: what a person typed.
            picture: ``[rows, columns, 3]`` in [0, 1]; None leaves questions unanswered.
            key: of the picture, for the cache.
            regions: gives boxes ``[n, 4]`` where the thing may be, called when a question is asked.
            seen: gives what a detector sees in the picture, called when a question is asked.
            fits: gives how relevant captions are, for ``sorted``; without it they come in the order of their words.
        """
        known = concept_of(text)
        if self.mode == "none" or (known is None and self.mode in ("noun", "manual", "mlm")):
            return [Caption(text)]
        choices = self._choices(text, known, picture, key, regions, seen)
        said = _said(text, known)
        noun = (known.noun if known and self.lay_noun else text) if known else text
        if self.mode == "sorted":
            # A text that means nothing more than its words stays whole.
            nouns = (known.name, noun, ANYTHING) if known else (text,)
            free = {name: [word for word, _ in words] for name, words in choices.items() if name not in said}
            phrases = [caption(one, {**chosen, **said} if known else chosen) for chosen in combined(free)
                       if not chosen.keys() & said.keys() for one in nouns]
            return self._sorted(text, list(dict.fromkeys(phrases)), fits)
        made: list[Caption] = []
        for number in range(self.k):
            rank = {name: min(number, len(words) - 1) for name, words in choices.items() if words}
            chosen = {name: choices[name][at][0] for name, at in rank.items()}
            if known is None:
                chosen = {name: word for name, word in chosen.items() if name not in said}
            phrase = caption(noun, {**chosen, **said} if known else chosen)
            if phrase not in [one.text for one in made]:
                made.append(Caption(phrase, float(np.mean([choices[n][a][1] for n, a in rank.items()] or [1.0]))))
        if self.keep_plain and text not in [one.text for one in made]:
            made.append(Caption(text, max(one.weight for one in made)))
        return made

    def _sorted(self, text: str, phrases: Sequence[str], fits: Callable[[Sequence[str]], Sequence[float]] | None
                ) -> list[Caption]:
        """The most relevant of some captions, and the text as it is where that is wanted."""
        found = sorted_captions(phrases, [1.0] * len(phrases) if fits is None else fits(phrases), self.k)
        plain = [Caption(text, found[0][1])] if self.keep_plain and text not in [one for one, _ in found] else []
        return [*(Caption(*one) for one in found), *plain]

    def asking(self, mode: str, k: int = 1, keep_plain: bool = False, lay_noun: bool = True) -> "PromptBuilder":
        """Another way of prompting with the same cloze and answers."""
        return PromptBuilder(mode, k, keep_plain, lay_noun, self.cloze, self.answers, self.cached)

    def _choices(self, text: str, known: Concept | None, picture: np.ndarray | None, key: str,
                 regions: Callable[[], np.ndarray] | None, seen: Callable[[], Any] | None
                 ) -> dict[str, list[tuple[str, float]]]:
        """Words by attribute, with their shares."""
        if self.mode == "manual":
            return {name: [(word, 1.0)] for name, word in (known.manual.items() if known else ())}
        found: dict[str, list[tuple[str, float]]] = {}
        if self.mode in FROM_CLOZE and known is not None:
            if known.name not in self._by_name:
                self._by_name[known.name] = {}
            for name in FROM_CLOZE[self.mode]:
                store = self._by_name[known.name]
                store.setdefault(name, self.cloze.fill(name, known.name, self.k))
                found[name] = store[name]
        if self.mode in FROM_ANSWERS and picture is not None:
            entry = (key, text)
            if not key or entry not in self._by_picture:
                where = regions() if regions is not None else None
                what = seen() if seen is not None else None
                told = {name: self.answers.ask(picture, name, text, where, self.k, what)
                        for name in FROM_ANSWERS[self.mode]}
                if not key:
                    return {**told, **found}
                self._by_picture[entry] = told
                while len(self._by_picture) > self.cached:
                    self._by_picture.popitem(last=False)
            found = {**self._by_picture[entry], **found}
        return found


def _said(text: str, known: Concept | None) -> dict[str, str]:
    """Attributes that the text says itself, outside the name of the concept."""
    own = {word for name in ((known.name, *known.aliases) if known else ()) for word in tokens(name)}
    return {str(group_of(word)): word for word in tokens(text)
            if group_of(word) not in (None, "noun") and word not in own}


def lint(score: Callable[[Sequence[str]], Sequence[float]], text: str) -> list[tuple[str, float]]:
    """How much each word of a prompt adds: its score with the word less its score without it.

    Args:
        score: best detection score for each of several phrases.
        text: the prompt, two words at least.

    Returns:
        Words in their order with the change; negative where the prompt is better without the word. Empty for a prompt
        of one word.
    """
    words = tokens(text)
    if len(words) < 2:
        return []
    without = [" ".join(words[:n] + words[n + 1:]) for n in range(len(words))]
    whole, *parts = score([" ".join(words), *without])
    return [(word, float(whole - part)) for word, part in zip(words, parts)]


def known_words() -> frozenset[str]:
    """Every word that has a meaning for attribute prompts."""
    return frozenset(word for words in GROUPS.values() for word in words)
