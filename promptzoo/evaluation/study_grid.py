"""The grid of a prompt study: which prompts are simulated from a mask, how many, and how far off.

An entry of a grid is an object whose lists are multiplied out: ``{"kind": "points", "count": [1, 3], "place":
["centre", "random"]}`` is four conditions. Everything random is drawn from the seed, the case's id and the condition's
name, so that a condition gives the same prompts in any grid and beside any other cases.
"""
from __future__ import annotations

import zlib
from dataclasses import dataclass, fields
from itertools import product
from typing import Any, Mapping, Sequence

import numpy as np

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.seeding import generator

KINDS = ("points", "box", "box+points", "mask", "everything")
PLACES = ("centre", "random", "border", "error")
BOX_CLICKS = 2
"""A box is drawn from corner to corner: it counts as two clicks."""


@dataclass(frozen=True)
class Condition:
    """One way of prompting.

    Args:
        kind: one of :data:`KINDS`. ``everything``: one click at the centre picks among all that a grid of points finds.
        count: positive points.
        place: of the positive points. ``centre``: the deepest voxel, then the deepest that is also far from those
            before; ``random``: anywhere in the object; ``border``: near its outside; ``error``: one after the other at
            the centre of the largest error of the answer so far (positive or negative, as the error is).
        negative: further points outside the object, in its box grown by a quarter.
        enlarge: growth of each side of the box, as a fraction of its length; negative shrinks.
        shift: way that the box is moved along each axis, as a fraction of its length, with random signs.
        jitter: standard deviation of each side's own shift, as a fraction of the box's length.
        parts: 0 prompts the object as a whole; ``n`` prompts its ``n`` largest connected parts: a point in each, or a
            box around each, whose masks are joined.
        damage: for ``mask``: ``eroded``, ``dilated`` or ``shifted`` by ``amount`` of the object's depth.
        amount: see ``damage``.
        draws: how often the random prompts are drawn.

    Raises:
        PromptZooError: for an unknown kind or place, and numbers out of range.
    """

    kind: str
    count: int = 0
    place: str = "centre"
    negative: int = 0
    enlarge: float = 0.0
    shift: float = 0.0
    jitter: float = 0.0
    parts: int = 0
    damage: str = ""
    amount: float = 0.0
    draws: int = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise PromptZooError(complain("kind of a study condition", self.kind, ", ".join(KINDS)))
        if self.place not in PLACES:
            raise PromptZooError(complain("place of points", self.place, ", ".join(PLACES)))
        if self.damage not in ("", "eroded", "dilated", "shifted"):
            raise PromptZooError(complain("damage of a mask", self.damage, "eroded, dilated, shifted or nothing"))
        low = 1 if "points" in self.kind else 0
        if self.count < low or min(self.negative, self.shift, self.jitter, self.parts, self.amount) < 0 \
                or self.enlarge <= -0.5 or self.draws < 1:
            raise PromptZooError(complain("numbers of a study condition", self.name, f"count from {low}, enlarge above "
                                          "-0.5, draws from 1, others from 0"))

    @property
    def name(self) -> str:
        """Short and unique within a grid, for example ``3 points random, 2 negative`` or ``box +10%``."""
        words = []
        if self.kind in ("box", "box+points"):
            words.append("box" if not self.enlarge else f"box {100 * self.enlarge:+g}%")
            words += [f"{word} {100 * value:g}%" for word, value in (("shifted", self.shift), ("jitter", self.jitter))
                      if value]
        if "points" in self.kind:
            text = f"{self.count} point{'s' if self.count > 1 else ''} {self.place}"
            words = [f"{words[0]} + {text}", *words[1:]] if words else [text]
        if self.kind in ("mask", "everything"):
            words.append(self.kind if not self.damage else f"mask {self.damage} {100 * self.amount:g}%")
        if self.negative:
            words.append(f"{self.negative} negative")
        if self.parts:
            words.append(f"{self.parts} largest part{'s' if self.parts > 1 else ''}")
        return ", ".join(words)

    @property
    def random(self) -> bool:
        """Whether the generator has a say."""
        return bool(self.negative or self.shift or self.jitter or self.damage == "shifted"
                    or ("points" in self.kind and self.place in ("random", "border")))

    @property
    def noisy(self) -> bool:
        """Whether it is a prompt gone wrong, rather than one that a person could be advised to give."""
        return bool(self.shift or self.jitter or self.place in ("random", "border") or self.enlarge < 0)

    @property
    def clicks(self) -> int | None:
        """What it costs a person, a box counting :data:`BOX_CLICKS`; None for a mask, which nobody clicks."""
        if self.kind == "mask":
            return None
        if self.kind == "everything":
            return 1
        count = max(1, self.parts) if self.kind == "points" and self.parts else self.count
        return count + self.negative + (BOX_CLICKS * max(1, self.parts) if "box" in self.kind else 0)

    @property
    def needs(self) -> frozenset[str]:
        """Kinds of prompt that a predictor must take."""
        return {"points": frozenset({"point"}), "box": frozenset({"box"}), "box+points": frozenset({"box", "point"}),
                "mask": frozenset({"mask"}), "everything": frozenset({"point"})}[self.kind]


def expand(entries: Sequence[Mapping[str, Any]]) -> list[Condition]:
    """The conditions of a grid, in order, each once.

    Raises:
        PromptZooError: for an empty grid, an unknown key, a value of the wrong type, or what :class:`Condition` raises.
    """
    known = {field.name: field.default for field in fields(Condition)}
    if not isinstance(entries, (list, tuple)) or not entries:
        raise PromptZooError(complain("grid of a study", entries, "a list of conditions"))
    found: dict[str, Condition] = {}
    for entry in entries:
        if not isinstance(entry, Mapping) or set(entry) - set(known) or "kind" not in entry:
            raise PromptZooError(complain("condition of a study", entry, f"an object with kind and {', '.join(known)}"))
        choices = [value if isinstance(value, (list, tuple)) else [value] for value in entry.values()]
        for values in product(*choices):
            for key, value in zip(entry, values):
                numeric = key in known and not isinstance(known[key], str) and key != "kind"
                if numeric != (isinstance(value, (int, float)) and not isinstance(value, bool)):
                    raise PromptZooError(complain(f"{key} of a study condition", value, "a number" if numeric else
                                                  "a word"))
            condition = Condition(**dict(zip(entry, values)))
            found.setdefault(condition.name, condition)
    return list(found.values())


def draw_of(seed: int, case_id: str, condition: Condition, draw: int = 0) -> np.random.Generator:
    """The generator of one draw of a condition on a case."""
    return generator(seed, zlib.crc32(case_id.encode()), zlib.crc32(condition.name.encode()), draw)


DEFAULT_GRID: tuple[Mapping[str, Any], ...] = (
    {"kind": "points", "count": [1, 3, 5, 10], "place": ["centre", "random", "error"]},
    {"kind": "points", "count": [1, 3], "place": "border"},
    {"kind": "points", "count": 1, "negative": 1},
    {"kind": "points", "count": 3, "negative": 3},
    {"kind": "box", "enlarge": [0, 0.05, 0.1, 0.2]},
    {"kind": "box", "shift": [0.1, 0.2]},
    {"kind": "box", "jitter": [0.05, 0.1, 0.2]},
    {"kind": "box+points", "count": 1, "place": "centre"},
    {"kind": "box+points", "count": [1, 3], "place": "error"},
    {"kind": "mask", "damage": ["eroded", "shifted"], "amount": 0.25},
    {"kind": "everything"},
)
"""What is studied where nothing else is asked for."""
