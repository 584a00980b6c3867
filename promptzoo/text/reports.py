"""Sentences on opacities of the lungs, coarse to fine, and what they say.

The form is that of the text annotations of QaTa-COV19 (Li et al., "LViT: Language meets Vision Transformer in Medical
Image Segmentation", IEEE TMI 2023): one side or both, how many areas, where: ``Bilateral pulmonary infection, two
infected areas, upper left lung and lower right lung``. Left and right are the patient's.
"""
from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from itertools import combinations
from typing import Mapping

from promptzoo.core.errors import PromptError, UnclearTextError, complain
from promptzoo.text.lexicon.spelling import fold

SIDES, ZONES, SIZES = ("left", "right"), ("upper", "middle", "lower"), ("small", "medium", "large")
Cell = tuple[str, str]
CELLS: tuple[Cell, ...] = tuple((zone, side) for side in SIDES for zone in ZONES)
"""Zone and side of the six parts of the lungs."""
NUMBERS = ("no", "one", "two", "three", "four")
MOST = len(NUMBERS) - 1
ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "side": (*SIDES, "both"), "lobe": (*ZONES, "all"), "count": NUMBERS[1:], "size": SIZES}
"""Names and values of the attributes that a sentence is built from."""

_WORDS = {
    **{word: ("side", side) for side, words in {
        "left": "left lingula", "right": "right", "both": "both bilateral bilaterally lungs diffuse"}.items()
       for word in words.split()},
    **{word: ("zone", zone) for zone, words in {
        "upper": "upper apical apex superior", "middle": "middle mid central hilar lingula",
        "lower": "lower basal base inferior"}.items() for word in words.split()},
    **{word: ("count", word) for word in NUMBERS},
    **{word: ("size", size) for size, words in {
        "small": "small tiny", "medium": "medium moderate", "large": "large big extensive"}.items()
       for word in words.split()},
    **{word: ("finding", "") for word in "infection infected infiltrate infiltrates opacity opacities consolidation "
       "consolidations pneumonia lesion lesions shadow shadows area areas patch patches pulmonary lung lobe zone field "
       "unilateral multifocal clear".split()}}


_EXCEPT = frozenset("not without except excluding but neither nor".split())


@dataclass(frozen=True)
class Report:
    """What a sentence says.

    Args:
        cells: parts of the lungs that are named, in the order of :data:`CELLS`; empty for clear lungs.
        size: one of :data:`SIZES`, or empty if nothing is said of it.
        count: number of areas; None for one per named part.
    """

    cells: tuple[Cell, ...] = ()
    size: str = ""
    count: int | None = None

    @property
    def clauses(self) -> tuple[str, str, str]:
        """Coarse to fine: sides, number, places."""
        sides = {side for _, side in self.cells}
        coarse = ("No", "Unilateral", "Bilateral")[len(sides)] + " pulmonary infection"
        number = len(self.cells) if self.count is None else self.count
        what = f"{self.size} infected area".strip() + ("" if number == 1 else "s")
        return coarse, f"{NUMBERS[min(number, MOST)]} {what}", " and ".join(self.places) or "clear lungs"

    @property
    def places(self) -> list[str]:
        """Names of the parts; a whole lung is one name."""
        found = []
        for side in SIDES:
            zones = [zone for zone, other in self.cells if other == side]
            found += [f"all {side} lung"] if len(zones) == len(ZONES) else [f"{zone} {side} lung" for zone in zones]
        return found

    @property
    def sentence(self) -> str:
        """All clauses."""
        return ", ".join(self.clauses)


def bank(most: int = MOST) -> tuple[Report, ...]:
    """Every report of up to ``most`` different parts, clear lungs first."""
    return tuple(Report(cells) for count in range(most + 1) for cells in combinations(CELLS, count))


def clause_bank(most: int = MOST) -> tuple[tuple[tuple[str, ...], ...], tuple[tuple[int, ...], ...]]:
    """The different clauses of :func:`bank` per scale, and for each report the indices of its three clauses."""
    reports = [report.clauses for report in bank(most)]
    scales = tuple(tuple(dict.fromkeys(clauses[n] for clauses in reports)) for n in range(3))
    return scales, tuple(tuple(scales[n].index(clauses[n]) for n in range(3)) for clauses in reports)


def words_of(text: str) -> list[str]:
    """Words of a text in lower case, without accents; commas and the like are words of their own."""
    return [word for part in re.split(r"([,.;])", text) for word in ([part] if part in ",.;" else fold(part).split())]


def sides_of(text: str) -> str:
    """The coarse part of a sentence: the lungs that it names, or all of it if it names none."""
    named = {_WORDS[word][1] for word in words_of(text) if _WORDS.get(word, ("", ""))[0] == "side"}
    lungs = [f"{side} lung" for side in SIDES if named & {side, "both"}]
    return " and ".join(lungs) or text


def check_sentence(text: str) -> list[str]:
    """The words of a text that say something of opacities, their side, place, number or size.

    Typing errors are forgiven, but for the first letter.

    Raises:
        UnclearTextError: if there is none, and for exceptions (``but not the right lung``), with examples.
    """
    words = words_of(text)
    if cut := _EXCEPT.intersection(words):
        raise UnclearTextError(f'"{text}": sentences here name what is wanted; "{min(cut)}" is not understood. Which '
                               "parts of the lungs are wanted?", ["upper left lung", "lower right lung"])
    told = [word for word in words if word in _WORDS or any(
        near[0] == word[0] for near in difflib.get_close_matches(word, _WORDS, 3, 0.8))]
    if not told:
        raise UnclearTextError(
            f'"{text}" says nothing of opacities of the lungs. Which side (left, right, bilateral), which part (upper, '
            "middle, lower), how many?", ["upper left lung", "lower right lung", "bilateral pulmonary infection"])
    return told


def from_attributes(attributes: Mapping[str, str], start: Report | None = None) -> Report:
    """The report that attributes ask for.

    Args:
        attributes: values by name, see :data:`ATTRIBUTES`; a count may be a digit.
        start: what holds where nothing is said, for example a retrieved report; None for everywhere.

    Raises:
        PromptError: for an unknown name or value.
    """
    values = {}
    for name, value in attributes.items():
        known = ATTRIBUTES.get(name.strip().lower())
        word = value.strip().lower()
        word = NUMBERS[int(word)] if name == "count" and word in "1234" and word else word
        if known is None:
            raise PromptError(complain("attribute", name, ", ".join(ATTRIBUTES)))
        if word not in known:
            raise PromptError(complain(f"value of the attribute {name}", value, ", ".join(known)))
        values[name.strip().lower()] = word
    start = start if start is not None and start.cells else Report(CELLS)
    sides = SIDES if values.get("side", "both") == "both" else (values["side"],)
    zones = ZONES if values.get("lobe", "all") == "all" else (values["lobe"],)
    asked = {(zone, side) for zone in zones for side in sides}
    kept = tuple(cell for cell in start.cells if cell in asked)
    cells = kept or tuple(cell for cell in CELLS if cell in asked)
    count = NUMBERS.index(values["count"]) if "count" in values else start.count
    return Report(cells, values.get("size", start.size), count)
