"""How well a text tower finds concepts: words that it was not trained on, typing errors, sides, and nonsense."""
from __future__ import annotations

from typing import Any, Callable, Iterable, Mapping, Sequence

import numpy as np

from promptzoo.evaluation.text_variants import STRANGE
from promptzoo.text.lexicon import Concept, Lexicon
from promptzoo.text.lexicon.spelling import fold
from promptzoo.text.towers import TextTower


class Index:
    """Phrases of a lexicon as vectors.

    Args:
        tower: of the vectors.
        phrases: phrases by concept id; what is held out is not among them.
    """

    def __init__(self, tower: TextTower, phrases: Mapping[str, Sequence[str]]) -> None:
        self.tower = tower
        pairs = [(concept, phrase) for concept, own in phrases.items() for phrase in own]
        self.ids = np.array([concept for concept, _ in pairs])
        self.vectors = tower([phrase for _, phrase in pairs])

    def ranked(self, texts: Sequence[str], most: int = 5) -> list[list[tuple[str, float]]]:
        """For each text the concepts with the nearest phrase, and its cosine."""
        answers = []
        for row in self.tower(texts) @ self.vectors.T:
            found: dict[str, float] = {}
            for n in np.argsort(-row, kind="stable")[:most * 40]:
                found.setdefault(str(self.ids[n]), float(row[n]))
                if len(found) == most:
                    break
            answers.append(list(found.items()))
        return answers


def accuracy(index: Index, queries: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Share of texts whose own concept is the nearest, and among the five nearest.

    Args:
        index: of phrases without the queries.
        queries: text and id of its concept.
    """
    ranks = [[c for c, _ in found] for found in index.ranked([text for text, _ in queries])]
    first = [bool(r) and r[0] == told for r, (_, told) in zip(ranks, queries)]
    five = [told in r for r, (_, told) in zip(ranks, queries)]
    return {"n": len(queries), "top1": round(float(np.mean(first)), 4), "top5": round(float(np.mean(five)), 4)}


def retrieval(tower: TextTower, lexicon: Lexicon, phrases: Mapping[str, Sequence[str]],
              queries: Mapping[str, Sequence[tuple[str, str]]]) -> dict[str, Any]:
    """Everything that is reported of a tower.

    Args:
        tower: what is measured.
        lexicon: the concepts.
        phrases: what is in the index, by concept id.
        queries: by kind: texts and ids of their concepts.

    Returns:
        Per kind :func:`accuracy`; ``sides``: share of side questions answered with that side, and cosines of left to
        right; ``strange``: the largest cosine of each text that means nothing, as quantiles.
    """
    index = Index(tower, phrases)
    told: dict[str, Any] = {kind: accuracy(index, pairs) for kind, pairs in queries.items()}
    told["sides"] = sides(index, lexicon)
    top = [found[0][1] for found in index.ranked(STRANGE, 1)]
    own = [found[0][1] for found in index.ranked([t for pairs in queries.values() for t, _ in pairs], 1)]
    told["strange"] = {"n": len(STRANGE), "cosine_median": _rounded(np.median(top)), "cosine_max": _rounded(max(top)),
                       "cosine_median_of_the_queries_above": _rounded(np.median(own))}
    return told


def sides(index: Index, lexicon: Lexicon) -> dict[str, Any]:
    """Whether left and right are told apart.

    Args:
        index: of all phrases.
        lexicon: its lateral concepts are asked for as ``NAME on the left`` and ``NAME, right side``.
    """
    pairs = [lexicon.sides(c) for c in lexicon.concepts if lexicon.sides(c)]
    vectors = [index.tower([c.name for c in pair]) for pair in pairs]
    cosines = [float(v[0] @ v[1]) for v in vectors]
    asked = [(text.format(fold(lexicon.whole(c).name if lexicon.whole(c) else c.name)), c.id)
             for pair in pairs for c, text in zip(pair, ("{} on the left", "{} right side"))]
    answers = index.ranked([text for text, _ in asked], 1)
    right = [found[0][0].endswith(told.rsplit("_", 1)[1]) for found, (_, told) in zip(answers, asked)]
    return {"n": len(asked), "same_side": _rounded(np.mean(right)), "cosine_mean": _rounded(np.mean(cosines)),
            "cosine_max": _rounded(max(cosines))}


def plain(concepts: Iterable[Concept], change: Callable[[str], str]) -> list[tuple[str, str]]:
    """Names of concepts without a side, changed, with their ids; names that did not change are left out."""
    found = [(change(c.name), c) for c in concepts if c.side is None]
    return [(text, c.id) for text, c in found if text != fold(c.name)]


def _rounded(value: Any) -> float:
    return round(float(value), 4)
