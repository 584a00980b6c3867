"""How well attributes are answered: by the cloze in sentences held out, and by questions on scenes held out."""
from __future__ import annotations

from typing import Any, Iterable

import numpy as np

from promptzoo.core.seeding import generator
from promptzoo.data.synthesis.attribute_questions import ANSWERS, HELD_OUT_WAYS, SPOKEN, commonest, question
from promptzoo.data.synthesis.attribute_scenes import AttributeScenes
from promptzoo.evaluation.detection_protocol import HELD_OUT_SEED, scene_volume
from promptzoo.text.attributes.answers import PictureStatistics
from promptzoo.text.attributes.facts import HELD_OUT_WAYS as HELD_OUT_SENTENCES
from promptzoo.text.attributes.facts import Fact, cloze_way, facts
from promptzoo.text.attributes.knowledge import MaskedLanguageCloze


def measure_cloze(cloze: MaskedLanguageCloze, limit: int = 400, seed: int = 0) -> dict[str, dict[str, float]]:
    """How often the likeliest of an attribute's words is a typical one, in sentences that no training saw.

    ``ways``: the concepts' own names in :data:`promptzoo.text.attributes.facts.HELD_OUT_WAYS`; ``names``: names whose
    sentences about the attribute were held out, in the sentences of the cloze. Beside each the ``majority`` answer, the
    commonest word of all facts of the attribute.

    Args:
        cloze: the model.
        limit: most facts of each kind, drawn with the seed.
        seed: of the draw.

    Returns:
        Per kind ``n``, ``accuracy`` and ``majority``.
    """
    known = facts()
    commonest, rng = _commonest(known), generator(seed, 41)
    told = {}
    for kind, chosen in (("ways", [f for f in known if f.first]), ("names", [f for f in known if f.held_out])):
        drawn = [chosen[int(n)] for n in rng.permutation(len(chosen))[:limit]]
        answers = []
        for n, fact in enumerate(drawn):
            way = HELD_OUT_SENTENCES[n % len(HELD_OUT_SENTENCES)] if kind == "ways" else cloze_way(fact.attribute)
            allowed = {word for other in known if other.attribute == fact.attribute for word in other.words}
            answers.append(next(w for w, _ in cloze.chances(fact.said(way, cloze.mask)) if w in allowed))
        right = [word in fact.words for word, fact in zip(answers, drawn)]
        usual = [commonest[fact.attribute] in fact.words for fact in drawn]
        told[kind] = {"n": len(drawn), "accuracy": round(float(np.mean(right)), 4),
                      "majority": round(float(np.mean(usual)), 4)}
    return told


def _commonest(known: Iterable[Fact]) -> dict[str, str]:
    """The word that is typical most often, per attribute."""
    counts: dict[str, dict[str, int]] = {}
    for fact in known:
        for word in fact.words:
            mine = counts.setdefault(fact.attribute, {})
            mine[word] = mine.get(word, 0) + 1
    return {attribute: max(mine, key=lambda word: mine[word]) for attribute, mine in counts.items()}


def measure_answers(predictor: Any, count: int = 60, seed: int = HELD_OUT_SEED, each: int = 4
                    ) -> dict[str, dict[str, float]]:
    """How often an answer about a held-out procedural scene is the commonest one among the objects meant.

    Args:
        predictor: of a detection bundle; its way of answering is measured, in ways of asking that no training saw, and
            image statistics beside it.
        count: scenes.
        seed: of the scenes.
        each: questions tried per scene.

    Returns:
        Per attribute, and for ``all``, ``n``, ``accuracy``, ``statistics`` and ``majority``: the best that one and the
        same word gets for each attribute on these very questions.
    """
    scenes, statistics, own = AttributeScenes(256, seed), PictureStatistics(), predictor.builder.answers
    hits: dict[str, list[tuple[bool, bool]]] = {}
    constant: dict[str, list[np.ndarray]] = {}
    for number in range(count):
        rng = generator(seed, number)
        picture, objects = scenes.sample(rng)
        asked = [one for one in (question(rng, objects) for _ in range(each)) if one is not None]
        state = predictor.encode(scene_volume(picture)) if asked else None
        for attribute, name, shares in asked:
            best = commonest(shares)
            way = HELD_OUT_WAYS[int(rng.integers(len(HELD_OUT_WAYS)))].format(what=SPOKEN[attribute], name="{name}")
            said = (own.answer(predictor.seen(state), attribute, name, way, 1),
                    statistics.ask(picture, attribute, name, predictor.regions(state, name), 1))
            hits.setdefault(attribute, []).append(tuple(bool(one) and bool(best[ANSWERS.index(one[0][0])])
                                                        for one in said))  # type: ignore[arg-type]
            constant.setdefault(attribute, []).append(best)
    told = {attribute: (len(rows), *np.mean(rows, 0).tolist(), float(np.mean(constant[attribute], 0).max()))
            for attribute, rows in sorted(hits.items())}
    whole = np.average([row[1:] for row in told.values()], 0, weights=[row[0] for row in told.values()])
    told["all"] = (sum(row[0] for row in told.values()), *whole.tolist())
    return {attribute: {"n": row[0], **{key: round(value, 4) for key, value in zip(
        ("accuracy", "statistics", "majority"), row[1:])}} for attribute, row in told.items()}
