"""Records beside an image (grade, segment, slice position, what is wanted) and the words that they are told in."""
from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from typing import Mapping

import numpy as np

from promptzoo.core.errors import PromptError, UnclearTextError, complain
from promptzoo.data.synthesis.clinical import GRADES, POSITIONS, SEGMENTS, STUDIES, TARGETS
from promptzoo.text.lexicon.spelling import fold

CLASSES: tuple[str, ...] = tuple(name for names in TARGETS.values() for name in names)
STUDY_OF: Mapping[str, str] = {name: study for study, names in TARGETS.items() for name in names}
FIELD_OF: Mapping[str, str] = dict(zip(STUDIES, ("grade", "segment", "position", "")))
"""The attribute that each study's record holds."""
SIZES: Mapping[str, int] = {"grade": len(GRADES), "segment": len(SEGMENTS), "position": POSITIONS}
LENGTH = len(CLASSES) + sum(SIZES.values())
"""Numbers of a record as a vector."""

_ROMAN = {"i": 1, "ii": 2, "iii": 3, "iv": 4, "v": 5, "vi": 6, "vii": 7, "viii": 8}
_NAMES: Mapping[str, tuple[str, ...]] = {
    "whole tumour": ("tumour", "glioma", "whole lesion", "oedema", "edema"),
    "tumour core": ("core", "solid part"),
    "enhancing tumour": ("enhancing", "enhancement", "contrast uptake", "rim"),
    "liver lesion": ("metastasis", "metastases", "liver tumour", "lesion", "lesions", "hcc"),
    "liver segment": ("couinaud segment", "couinaud region", "segment of the liver"),
    "stomach": ("gaster", "belly"), "small bowel": ("small intestine", "jejunum", "ileum"),
    "large bowel": ("colon", "large intestine"),
    "glomerulus": ("glomeruli", "functional unit", "unit", "capsule", "whole glomerulus", "renal corpuscle"),
    "glomerular tuft": ("tuft", "tufts", "capillaries"),
    "nuclei": ("nucleus", "cell", "cells", "cell nuclei"),
    "tubules": ("tubule", "tubuli", "tubulus")}
_PHRASES = {phrase: name for name, phrases in _NAMES.items() for phrase in (name, *phrases)}
_EXCEPT = frozenset("not without except excluding but neither nor no".split())
_PLACES = {"uppermost": 0.0, "top": 0.0, "upper": 0.2, "middle": 0.5, "mid": 0.5, "lower": 0.8, "bottom": 1.0,
           "lowermost": 1.0}
_EXAMPLES = ["enhancing tumour, high grade", "lesion in segment 6", "stomach, slice 12 of 40", "the whole glomerulus"]


@dataclass(frozen=True)
class Record:
    """What is known or wanted; empty values are open.

    Args:
        target: one of :data:`CLASSES`.
        grade: ``low`` or ``high``.
        segment: Couinaud's number, ``1`` to ``8``.
        position: of the slice, 0 (uppermost) to 1, as a number in text.
    """

    target: str = ""
    grade: str = ""
    segment: str = ""
    position: str = ""

    def given(self) -> dict[str, str]:
        """Attributes that have a value."""
        return {name: value for name in SIZES if (value := getattr(self, name))}


def position_chances(position: float) -> np.ndarray:
    """A slice position as shares of the steps beside it, ``[POSITIONS]`` float32."""
    at = float(np.clip(position, 0, 1)) * (POSITIONS - 1)
    return np.clip(1 - np.abs(np.arange(POSITIONS) - at), 0, 1).astype(np.float32)


def chances_of(name: str, value: str) -> np.ndarray:
    """The value of an attribute as shares of its steps, ``[SIZES[name]]`` float32; zeros for an open one."""
    if not value:
        return np.zeros(SIZES[name], np.float32)
    if name == "position":
        return position_chances(float(value))
    known = GRADES if name == "grade" else SEGMENTS
    return np.eye(len(known), dtype=np.float32)[known.index(value)]


def value_of(name: str, chances: np.ndarray) -> str:
    """The likeliest value of an attribute; of the position, the mean."""
    if name == "position":
        mean = float((chances * np.arange(POSITIONS)).sum() / max(float(chances.sum()), 1e-6))
        return f"{mean / (POSITIONS - 1):.2f}"
    return (GRADES if name == "grade" else SEGMENTS)[int(np.argmax(chances))]


def vector(target: str, chances: Mapping[str, np.ndarray]) -> np.ndarray:
    """A record as the network reads it: target, grade, segment, position, ``[LENGTH]`` float32. Only the attribute of
    the target's study counts."""
    wanted = np.eye(len(CLASSES), dtype=np.float32)[CLASSES.index(target)]
    own = FIELD_OF[STUDY_OF[target]]
    parts = [np.asarray(chances[name], np.float32) if name == own and name in chances
             else np.zeros(count, np.float32) for name, count in SIZES.items()]
    return np.concatenate([wanted, *parts])


def _number(word: str) -> int | None:
    word = re.sub(r"[ab]$", "", word) if re.match(r"(\d|[iv]+)[ab]$", word) else word
    return _ROMAN.get(word, int(word) if word.isdigit() else None)


def checked(name: str, value: str) -> str:
    """An attribute's value in its one form.

    Raises:
        PromptError: for an unknown name or value.
    """
    name, word = name.strip().lower(), value.strip().lower()
    allowed: tuple[str, ...]
    if name == "grade":
        number = _number(word)
        word = word if number is None or number > 4 else "high" if number > 2 else "low"
        allowed = GRADES
    elif name == "segment":
        word, allowed = str(_number(word) or word), SEGMENTS
    elif name == "position":
        told = re.fullmatch(r"(\d+) ?(?:/|of) ?(\d+)|(\d+) ?%|(0?\.\d+|[01](?:\.0*)?)", word)
        where = None if told is None else (
            (int(told[1]) - 1) / max(int(told[2]) - 1, 1) if told[1] else int(told[3]) / 100 if told[3]
            else float(told[4]))
        where = _PLACES.get(word, where)
        if where is None or not 0 <= where <= 1:
            raise PromptError(complain("value of the attribute position", value,
                                       "0 to 1, 12/40, 30 % or upper, middle, lower"))
        return f"{where:.3f}"
    else:
        raise PromptError(complain("attribute", name, ", ".join(SIZES)))
    if word not in allowed:
        raise PromptError(complain(f"value of the attribute {name}", value, ", ".join(allowed)))
    return word


def _target(words: list[str]) -> str:
    """The target that words name: the longest known phrase, typing errors forgiven."""
    best, length = "", 0.0
    for phrase, name in _PHRASES.items():
        parts = phrase.split()
        for n in range(len(words) - len(parts) + 1):
            here = words[n:n + len(parts)]
            same = [difflib.SequenceMatcher(None, a, b).ratio() if len(b) > 4 and a[0] == b[0] else float(a == b)
                    for a, b in zip(here, parts)]
            score = len(parts) + min(same) / 2
            if min(same) >= 0.8 and score > length:
                best, length = name, score
    return best


def read_request(text: str) -> Record:
    """What a free request asks for: the structure, and values of grade, segment and slice position.

    Raises:
        UnclearTextError: for exceptions, and for text that names neither a structure nor an attribute, with examples.
    """
    words = re.findall(r"\d*\.?\d+[ab]?|[^\W\d_]+|[%/]", text.lower())
    words = [fold(word).replace("tumor", "tumour") if word[0].isalpha() else word for word in words]
    plain = " ".join(words)
    if cut := _EXCEPT.intersection(words):
        raise UnclearTextError(f'"{text}": a request names what is wanted; "{min(cut)}" is not understood. What is '
                               "wanted?", _EXAMPLES)
    found = Record(_target(words))
    for name, pattern in (("grade", r"\b(high|low)[ -]grade|grade (\w+)"), ("segment", r"\b(?:segment|s) ?(\w+)"),
                          ("position", r"(?:slice|period(?: of)?|position) (\d+ ?(?:/|of) ?\d+|\d+ ?%|0?\.\d+|[01]\b)|"
                                       r"\b(uppermost|upper|top|middle|lower|lowermost|bottom) (?:slice|third|part)")):
        for told in (one for match in re.finditer(pattern, plain) for one in match.groups() if one):
            try:
                found = replace(found, **{name: checked(name, told)})
                break
            except PromptError:
                continue  # other words follow: "segment of the liver"
    if "glioblastoma" in plain:
        found = replace(found, grade=found.grade or "high", target=found.target or "whole tumour")
    if found == Record():
        raise UnclearTextError(f'"{text}" names nothing that is known here. Which structure: {", ".join(CLASSES)}?',
                               _EXAMPLES)
    return found


def temporal_sentence(organ: str, position: float, steps: int = 20) -> str:
    """The prompt of TP-UNet (Wang et al., 2024, section III-A): modality, organ and the slice's share of the scan."""
    step = int(round(position * steps))
    return f"this is an mri of the {organ} with a segmentation period of {step} of {steps}"
