"""What the lexicon holds, and what resolving a text gives."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Mapping

How = Literal["exact", "normalised", "fuzzy", "embedding"]
Side = Literal["left", "right"]


@dataclass(frozen=True)
class Concept:
    """One structure, finding, cell or object that a person may name.

    Args:
        id: snake case, the side last: ``kidney_left``.
        name: plain English, as people type it: ``left kidney``.
        synonyms, latin, abbreviations, everyday: other words for it.
        side: ``left`` or ``right``; None where there is only one, or where both are meant.
        parent: id of what it is a part or a kind of.
        region: name of the file that it comes from: ``head``, ``chest`` …
        attributes: typical ``colour``, ``shape``, ``texture``, ``size``, ``location``, ``modality``.
        codes: ``snomed`` (SNOMED CT), ``fma``, ``radlex``; only where they are sure.
        kind: ``anatomy``, ``finding``, ``cell`` or ``object``.
        group: whether it stands for any of its children, as *vertebra* does.
        parts: ids of the concepts that make up the whole of it.
    """

    id: str
    name: str
    synonyms: tuple[str, ...] = ()
    latin: tuple[str, ...] = ()
    abbreviations: tuple[str, ...] = ()
    everyday: tuple[str, ...] = ()
    side: Side | None = None
    parent: str | None = None
    region: str = ""
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    codes: Mapping[str, str] = field(default_factory=dict, hash=False)
    kind: str = "anatomy"
    group: bool = False
    parts: tuple[str, ...] = ()

    @property
    def phrases(self) -> tuple[str, ...]:
        """All words for it, the name first."""
        return tuple(dict.fromkeys((self.name, *self.synonyms, *self.latin, *self.abbreviations, *self.everyday)))


@dataclass(frozen=True)
class Match:
    """A concept that a part of a text means.

    Args:
        concept: what is meant.
        phrase: the words of the text that were read so.
        how: ``exact`` (as stated), ``normalised`` (another number, order, spelling), ``fuzzy`` (typing errors
            corrected) or ``embedding`` (nearest by a text tower).
        confidence: in [0, 1].
    """

    concept: Concept
    phrase: str
    how: How
    confidence: float


@dataclass(frozen=True)
class Resolution:
    """What a text asks for.

    Args:
        wanted: what to find; empty where there is a question.
        excluded: what to leave out.
        question: what to ask the person, a sentence, where the text is unknown or ambiguous.
        candidates: what the person may have meant, the likeliest first.
    """

    wanted: tuple[Match, ...] = ()
    excluded: tuple[Match, ...] = ()
    question: str | None = None
    candidates: tuple[Match, ...] = ()
