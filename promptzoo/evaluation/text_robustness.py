"""How robust the reading of text prompts is: the same thing asked for in many ways, and texts that must be refused."""
from __future__ import annotations

from collections import defaultdict
from typing import Any, Callable, Iterable, Mapping, Sequence

import numpy as np

from promptzoo.evaluation.text_variants import KINDS, STRANGE, Variant, variants
from promptzoo.text.lexicon import Concept, Lexicon, Resolution, class_for, resolve

RIGHT, REFUSED, FLIPPED = "right", "refused", "flipped"
SHOWN = 8
"""Examples of each kind that are kept."""


def judged(variant: Variant, found: Resolution, known: Sequence[str] | None = None) -> str:
    """What became of a text.

    Args:
        variant: the text, and what it must give.
        found: how it was read.
        known: class names of a bundle; concepts without a class count as refused.

    Returns:
        ``right``; ``refused`` (a question, or nothing that is known); or ``flipped``: something else is wanted.
    """
    wanted = {m.concept.id for m in found.wanted if known is None or class_for(m.concept, known) is not None}
    if not wanted:
        return RIGHT if variant.wanted is None or variant.allowed else REFUSED
    return RIGHT if wanted == {variant.wanted} else FLIPPED


def study_reading(lexicon: Lexicon, known: Sequence[str] | None = None, tower: Any = None,
                  concepts: Iterable[Concept] | None = None, limit: int | None = None, seed: int = 0, most: int = 3,
                  progress: Callable[[int, int, str], None] = lambda done, total, name: None) -> dict[str, Any]:
    """Ask for concepts in many ways.

    Args:
        lexicon: what texts are read with.
        known: class names of a bundle; None: every concept may be wanted.
        tower: as for ``resolve``.
        concepts: what is asked for; default: all of the lexicon, or those that are known.
        limit: at most this many concepts, drawn with the seed.
        seed: of all draws.
        most: texts of a kind per concept.
        progress: told how far it is.

    Returns:
        ``kinds``: per kind :func:`rates`; ``spread``: over concepts; ``settings``.
    """
    chosen = list(lexicon.concepts if concepts is None else concepts)
    if limit is not None and limit < len(chosen):
        rng = np.random.default_rng([seed, 3])
        chosen = [chosen[n] for n in sorted(rng.choice(len(chosen), limit, replace=False))]
    outcomes: list[tuple[Variant, str, list[str]]] = []
    shares: dict[str, float] = {}
    for done, concept in enumerate(chosen):
        own = [_asked(v, lexicon, known, tower) for v in variants(concept, lexicon, seed, most)]
        shares[concept.id] = float(np.mean([how == RIGHT for _, how, _ in own]))
        outcomes += own
        progress(done + 1, len(chosen), concept.name)
    strange = [Variant("absent", text, None) for text in STRANGE]
    if known is not None:
        missing = [c for c in lexicon.concepts if c.side is None and not _is_known(c, known, lexicon)]
        strange += [Variant("absent", c.name, None) for c in missing[::max(1, len(missing) // 60)]]
    outcomes += [_asked(v, lexicon, known, tower) for v in strange]
    return {"concepts": len(chosen), "texts": len(outcomes), "kinds": rates(outcomes), "spread": spread(shares),
            "settings": {"seed": seed, "most": most, "limit": limit, "tower": getattr(tower, "name", None)}}


def _asked(variant: Variant, lexicon: Lexicon, known: Sequence[str] | None, tower: Any
           ) -> tuple[Variant, str, list[str]]:
    found = resolve(variant.text, lexicon, known, tower)
    return variant, judged(variant, found, known), [m.concept.id for m in found.wanted]


def _is_known(concept: Concept, known: Sequence[str], lexicon: Lexicon) -> bool:
    from promptzoo.text.lexicon.known import known_of

    return bool(known_of(tuple(known), lexicon).cover(concept))


def rates(outcomes: Iterable[tuple[Variant, str, list[str]]]) -> dict[str, Any]:
    """Per kind of text: how many, and the shares that were right, refused and flipped; with examples of the latter."""
    groups: dict[str, list[tuple[Variant, str, list[str]]]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome[0].kind].append(outcome)
    told: dict[str, Any] = {}
    for kind in (k for k in KINDS if k in groups):
        own = groups[kind]
        shares = {how: share(o == how for _, o, _ in own) for how in (RIGHT, REFUSED, FLIPPED)}
        told[kind] = {"n": len(own), **shares}
        for how in (FLIPPED, REFUSED):
            examples = [{"text": v.text, "wanted": v.wanted, "got": got} for v, o, got in own if o == how][:SHOWN]
            if examples:
                told[kind][f"examples_{how}"] = examples
    return told


def spread(shares: Mapping[str, float]) -> dict[str, Any]:
    """How the share of right readings differs between concepts, and the worst of them."""
    values = np.array(list(shares.values()))
    worst = sorted(shares.items(), key=lambda s: (s[1], s[0]))[:SHOWN]
    return {"mean": round(float(values.mean()), 4), "std": round(float(values.std()), 4),
            "lowest": {name: round(share, 4) for name, share in worst}}


def study_forgotten(lexicon: Lexicon, held: Mapping[str, Mapping[str, str]], tower: Any) -> dict[str, Any]:
    """Read words that the lexicon is made to forget, with and without a tower that was not trained on them either.

    Args:
        lexicon: what texts are read with, less these words.
        held: by kind: ids of concepts by phrase.
        tower: as for ``resolve``.

    Returns:
        By kind, ``with_tower`` and ``without``: shares right, refused and flipped, and ``offered``: the share of
        questions that have the concept among their candidates.
    """
    less = lexicon.without(phrase for pairs in held.values() for phrase in pairs)
    told: dict[str, Any] = {}
    for kind, pairs in held.items():
        told[kind] = {"n": len(pairs)}
        for name, helper in (("with_tower", tower), ("without", None)):
            found = [(Variant(kind, text, own), resolve(text, less, tower=helper)) for text, own in pairs.items()]
            hows = [judged(variant, resolution) for variant, resolution in found]
            offered = [v.wanted in [m.concept.id for m in r.candidates] for v, r in found if r.question is not None]
            told[kind][name] = {**{how: share(h == how for h in hows) for how in (RIGHT, REFUSED, FLIPPED)},
                                "offered": share(offered)}
    return told


def share(values: Iterable[bool]) -> float | None:
    """Share of what is true, None of nothing."""
    found = list(values)
    return round(float(np.mean(found)), 4) if found else None
