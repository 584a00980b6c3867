"""How much the mask depends on the words: the same object asked for in many ways, on images with known masks."""
from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from promptzoo.core.errors import UnclearTextError
from promptzoo.core.volume import Volume
from promptzoo.data.phantoms import Phantom, head_mr, torso_ct
from promptzoo.evaluation.datalist import Datalist
from promptzoo.evaluation.metrics import dice
from promptzoo.evaluation.text_robustness import share
from promptzoo.evaluation.text_variants import KINDS, STRANGE, Variant, variants
from promptzoo.prompts.types import PromptSet, TextPrompt
from promptzoo.text.lexicon import Concept, Lexicon
from promptzoo.text.lexicon.known import Known, concept_of, known_of

OTHER_SIDE = "other side"
PHANTOMS: tuple[Callable[[int], Phantom], ...] = (torso_ct, head_mr)
SAME, APART = 0.5, 0.1
"""Dice with the answer to the name: below the first it is another mask, below the second it is elsewhere."""


@dataclass(frozen=True, eq=False)
class TextCase:
    """An image, and masks of classes on its grid, by class name as the bundle spells it."""

    name: str
    volume: Volume
    masks: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Answer:
    """What a text gave.

    Args:
        case, concept: what was asked for, on which image.
        variant: how.
        dice: with the true mask; None if it was refused.
        same: Dice with the answer to the concept's name; None if either is missing or that answer is empty.
        voxels: of the answer.
    """

    case: str
    concept: str
    variant: Variant
    dice: float | None
    same: float | None
    voxels: int = 0


def phantom_cases(known: Sequence[str], seeds: Sequence[int] = (0,), lexicon: Lexicon | None = None
                  ) -> Iterator[TextCase]:
    """Procedural torso CT and head MR with masks of what is known; phantoms without any such organ are left out."""
    lexicon = lexicon or Lexicon.load()
    classes = known_of(tuple(known), lexicon)
    for make in PHANTOMS:
        for seed in seeds:
            volume, labels, names = make(seed)
            masks = {}
            for value, name in names.items():
                concept = concept_of(name, classes.lexicon)
                own = classes.class_for(concept) if concept else None
                if own is not None:
                    masks[own] = labels == value
            if masks:
                yield TextCase(f"{make.__name__}({seed})", volume, masks)


def datalist_cases(listed: Datalist, known: Sequence[str], limit: int | None = None, seed: int = 0,
                   lexicon: Lexicon | None = None) -> Iterator[TextCase]:
    """Rows of a datalist whose column ``label_name`` says a known class."""
    classes = known_of(tuple(known), lexicon or Lexicon.load())
    done = 0
    for number in listed.drawing(seed):
        row = listed.rows[number]
        concept = concept_of(row.extra.get("label_name", ""), classes.lexicon)
        own = classes.class_for(concept) if concept else None
        if own is None or (limit is not None and done >= limit):
            continue
        case = listed.load(row)
        done += 1
        yield TextCase(row.id, case.volume, {own: case.mask})


def study_masks(cases: Iterable[TextCase], predictor: Any, known: Sequence[str], lexicon: Lexicon | None = None,
                seed: int = 0, most: int = 2, progress: Callable[[int, int, str], None] = lambda *told: None
                ) -> dict[str, Any]:
    """Ask a bundle for every known object of every case in many ways.

    Args:
        cases: images with masks.
        predictor: takes text prompts.
        known: the bundle's class names.
        lexicon: default: the shipped one.
        seed, most: as for ``study_reading``.
        progress: told how far it is; the number of objects is not known before.

    Returns:
        ``kinds``: per kind :func:`summary`; ``objects``; ``cases``; ``settings``.
    """
    lexicon = lexicon or Lexicon.load()
    classes = known_of(tuple(known), lexicon)
    answers: list[Answer] = []
    told: list[str] = []
    objects = 0
    for case in cases:
        told.append(case.name)
        asker = _Asker(predictor, case, most, seed)
        for name, mask in case.masks.items():
            concept = concept_of(name, lexicon) or next(c for c in classes.lexicon.concepts if c.name == name)
            answers += asker.ask(concept, mask, classes)
            objects += 1
            progress(objects, objects, f"{case.name}, {name}")
        answers += asker.strange()
    return {"cases": told, "objects": objects, "texts": len(answers), "kinds": summary(answers),
            "settings": {"seed": seed, "most": most}}


class _Asker:
    def __init__(self, predictor: Any, case: TextCase, most: int, seed: int) -> None:
        self.predictor, self.case, self.most, self.seed = predictor, case, most, seed
        self.state = predictor.encode(case.volume)

    def ask(self, concept: Concept, mask: np.ndarray, classes: Known) -> Iterator[Answer]:
        """All variants of one object, the name first."""
        others = [c for c in classes.lexicon.concepts if c.id in classes.classes]
        first: np.ndarray | None = None
        for variant in self._variants(concept, classes, others):
            found = self._mask(variant.text)
            if variant.kind == "name":
                first = found
            same = dice(found, first) if found is not None and first is not None and first.any() else None
            yield Answer(self.case.name, concept.name, variant, None if found is None else dice(found, mask), same,
                         0 if found is None else int(found.sum()))

    def _variants(self, concept: Concept, classes: Known, others: Sequence[Concept]) -> Iterator[Variant]:
        yield from variants(concept, classes.lexicon, self.seed, self.most, others)
        whole = classes.lexicon.whole(concept)
        for other in classes.lexicon.sides(whole) if whole else ():
            if other.id != concept.id:
                yield Variant(OTHER_SIDE, other.name, other.id)

    def strange(self) -> Iterator[Answer]:
        """Texts that must not be answered."""
        for text in STRANGE[::4]:
            found = self._mask(text)
            yield Answer(self.case.name, "", Variant("absent", text, None), None if found is None else 0.0, None,
                         0 if found is None else int(found.sum()))

    def _mask(self, text: str) -> np.ndarray | None:
        """The answer ``[i, j, k]``, None for a question."""
        try:
            return self.predictor.decode(self.state, PromptSet((TextPrompt(text, 1),)))[1].mask
        except UnclearTextError:
            return None


def summary(answers: Sequence[Answer]) -> dict[str, Any]:
    """Per kind of text: ``n``, ``refused`` (share of questions), ``empty`` (share of answers without a voxel),
    ``dice`` (mean with the truth over answers), ``spread`` (mean over objects of the largest minus the smallest Dice,
    that of the name included), ``flipped`` (share of answers that are another mask than the name gives) and ``worst``.
    For *other side*, ``elsewhere`` is the share of answers that do not touch the one to the name."""
    groups: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        groups[answer.variant.kind].append(answer)
    names = {(a.case, a.concept): a.dice for a in groups.get("name", ()) if a.dice is not None}
    told: dict[str, Any] = {}
    for kind in (k for k in (*KINDS, OTHER_SIDE) if k in groups):
        own = groups[kind]
        answered = [a for a in own if a.dice is not None]
        told[kind] = {"n": len(own), "refused": share(a.dice is None for a in own),
                      "empty": share(a.voxels == 0 for a in answered)}
        same = [a.same for a in answered if a.same is not None]
        if kind == OTHER_SIDE:
            told[kind]["elsewhere"] = share(s < APART for s in same)
        elif kind not in ("absent", "only negation") and answered:
            told[kind] |= {"dice": _rounded(np.mean([a.dice for a in answered])), "spread": _spread(answered, names),
                           "flipped": share(s < SAME for s in same), "worst": _worst(answered, names)}
    return told


def _spread(answered: Sequence[Answer], names: Mapping[tuple[str, str], float]) -> float | None:
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for answer in answered:
        groups[answer.case, answer.concept].append(float(answer.dice or 0))
    ranges = [max(v + [names[k]]) - min(v + [names[k]]) for k, v in groups.items() if k in names]
    return _rounded(np.mean(ranges)) if ranges else None


def _worst(answered: Sequence[Answer], names: Mapping[tuple[str, str], float]) -> dict[str, Any]:
    """The text that loses most Dice against the name."""
    loss = {n: names.get((a.case, a.concept), 0.0) - float(a.dice or 0) for n, a in enumerate(answered)}
    answer = answered[max(loss, key=lambda n: loss[n])]
    return {"text": answer.variant.text, "case": answer.case, "dice": _rounded(answer.dice),
            "dice_of_the_name": _rounded(names.get((answer.case, answer.concept)))}


def _rounded(value: Any) -> float | None:
    return None if value is None else round(float(value), 4)
