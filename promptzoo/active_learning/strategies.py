"""Strategies: each chooses an image of a pool and says why.

Sources: entropy and disagreement are uncertainty sampling (Settles, "Active Learning Literature Survey", 2009, sections
3.1 and 3.2) with the prompts as the committee; ``coreset`` is the greedy k-centre of Sener and Savarese (ICLR 2018);
``badge`` follows Ash et al. (ICLR 2020) with the gradient's size times the image's embedding in place of the gradient
of the last layer; ``clasp`` is after ClaSP PE (Lüth et al., 2025), from general knowledge of it: a class in turn, then
the logarithm of the entropy with Gumbel noise that shrinks from round to round; ``foreground`` is like the
foreground-aware random baseline of nnActive.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Mapping, Sequence

import numpy as np

from promptzoo.active_learning.scores import Scored
from promptzoo.core.errors import NotFoundError, complain

FOREGROUND_SHARE = 2 / 3
"""How often the foreground-aware random strategy insists on an image in which something was found."""
USUAL_CLICKS = 5.0


@dataclass(frozen=True, eq=False)
class Pool:
    """What there is to choose from.

    Args:
        images: ids, in the order of the list.
        scores: of those that are scored already, by id.
        done: scores of images with a label.
        rng: of random choices.
        usual_clicks: prompts that an object took on average.
    """

    images: Sequence[str]
    scores: Mapping[str, Scored] = field(default_factory=dict)
    done: Sequence[Scored] = ()
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    usual_clicks: float = USUAL_CLICKS

    @property
    def scored(self) -> list[Scored]:
        """Scores of the images to choose from, in their order."""
        return [self.scores[image] for image in self.images if image in self.scores]


Choice = tuple[str, str]
"""Image id and reason."""


@dataclass(frozen=True)
class Strategy:
    """A way to choose.

    Args:
        description: for people.
        choose: chooses from a pool that is not empty; from the scored images if it ``needs_scores``.
        needs_scores: whether unscored images cannot be chosen.
    """

    description: str
    choose: Callable[[Pool], Choice]
    needs_scores: bool = True


def choose(name: str, pool: Pool) -> Choice | None:
    """The image that a strategy chooses, and why; None from an empty pool.

    Raises:
        NotFoundError: for an unknown strategy.
    """
    if name not in STRATEGIES:
        raise NotFoundError(complain("strategy", name, ", ".join(STRATEGIES)))
    if not pool.images:
        return None
    strategy = STRATEGIES[name]
    if strategy.needs_scores and not pool.scored:
        image, _ = _random(pool)
        return image, "no image is scored yet, so it was drawn at random"
    image, reason = strategy.choose(pool)
    missing = len(pool.images) - len(pool.scored)
    if strategy.needs_scores and missing:
        reason += f"; {missing} images are not scored yet"
    return image, reason


def expected_clicks(estimated_dice: float, usual: float) -> float:
    """Prompts that an image will take: the usual number at an estimated Dice of 0.5, one at 1."""
    return 1 + 2 * (max(usual, 1.0) - 1) * (1 - estimated_dice)


def _first(pool: Pool) -> Choice:
    return pool.images[0], "the first of the list without a final label"


def _random(pool: Pool) -> Choice:
    return pool.images[int(pool.rng.integers(len(pool.images)))], f"drawn at random from {len(pool.images)}"


def _foreground(pool: Pool) -> Choice:
    found = [one.image for one in pool.scored if one.mean("found") > 0 and one.estimated_dice >= 0.3]
    if found and pool.rng.random() < FOREGROUND_SHARE:
        return found[int(pool.rng.integers(len(found)))], f"drawn from {len(found)} images in which something was found"
    image, reason = _random(pool)
    return image, f"{reason}, whether anything was found there or not"


def _highest(pool: Pool, values: Sequence[float]) -> tuple[Scored, float]:
    place = int(np.argmax(values))
    return pool.scored[place], float(values[place])


def _entropy(pool: Pool) -> Choice:
    one, value = _highest(pool, [s.mean("entropy") for s in pool.scored])
    return one.image, f"the bundle is least sure here: {value:.2f} bits per voxel, {_rank(pool)}"


def _disagreement(pool: Pool) -> Choice:
    one, value = _highest(pool, [s.mean("disagreement") for s in pool.scored])
    return one.image, f"moved prompts lead to the most different masks: Dice {1 - value:.2f} among them, {_rank(pool)}"


def _coreset(pool: Pool) -> Choice:
    vectors = np.stack([s.embedding for s in pool.scored])
    if not pool.done:
        place = int(np.argmin(np.linalg.norm(vectors - vectors.mean(0), axis=1)))
        return pool.scored[place].image, f"the most typical image, {_rank(pool)}"
    one, value = _highest(pool, _nearest(vectors, np.stack([s.embedding for s in pool.done])))
    return one.image, f"the least like what is labelled: distance {value:.2f} from the nearest of {len(pool.done)}"


def _badge(pool: Pool) -> Choice:
    gradients = np.stack([s.mean("doubt") * s.embedding for s in pool.scored])
    if pool.done:
        known = np.stack([s.mean("doubt") * s.embedding for s in pool.done])
        chance = _nearest(gradients, known) ** 2
        chance[chance < 1e-9] = 0.0  # rounding
    else:
        chance = (gradients ** 2).sum(-1)
    total = float(chance.sum())
    place = int(pool.rng.choice(len(chance), p=chance / total)) if total > 0 else 0
    one, share = pool.scored[place], chance[place] / total if total else 1
    return one.image, f"uncertain ({one.mean('doubt'):.2f}), unlike what is labelled; drawn with chance {share:.2f}"


def _clasp(pool: Pool) -> Choice:
    names = sorted({name for one in pool.scored for name in one.seen})
    labelled = {name: sum(name in one.seen for one in pool.done) for name in names}
    name = min(names, key=lambda n: (labelled[n], pool.rng.random()))
    having = [one for one in pool.scored if name in one.seen]
    sharpness = 1.0 + len(pool.done)
    noisy = [np.log(max(one.seen[name].entropy, 1e-6)) + pool.rng.gumbel() / sharpness for one in having]
    chosen = having[int(np.argmax(noisy))]
    return chosen.image, (f"the turn of {name}: {chosen.seen[name].entropy:.2f} bits per voxel, drawn with noise that "
                          f"shrinks with every label")


def _clicks(pool: Pool) -> Choice:
    costs = [expected_clicks(s.estimated_dice, pool.usual_clicks) for s in pool.scored]
    one, value = _highest(pool, [s.mean("entropy") / cost for s, cost in zip(pool.scored, costs)])
    cost = expected_clicks(one.estimated_dice, pool.usual_clicks)
    return one.image, f"most to learn per prompt: {one.mean('entropy'):.2f} bits for about {cost:.1f} prompts"


def _nearest(vectors: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Distance of each vector ``[N, D]`` from the nearest of those known ``[M, D]``."""
    squared = (vectors ** 2).sum(1)[:, None] - 2 * vectors @ known.T + (known ** 2).sum(1)[None]
    return np.sqrt(np.clip(squared.min(1), 0, None))


def _rank(pool: Pool) -> str:
    return f"first of {len(pool.scored)}"


STRATEGIES: dict[str, Strategy] = {
    "first": Strategy("In the order of the list", _first, False),
    "random": Strategy("At random", _random, False),
    "foreground": Strategy("At random, two times of three where something was found", _foreground, False),
    "entropy": Strategy("Where the bundle is least sure", _entropy),
    "disagreement": Strategy("Where moved prompts lead to the most different masks", _disagreement),
    "coreset": Strategy("What is least like the labelled images", _coreset),
    "badge": Strategy("Uncertain and unlike the labelled images, drawn at random", _badge),
    "clasp": Strategy("Structures in turn, uncertain images of each, with shrinking noise", _clasp),
    "clicks": Strategy("Most to learn for the fewest expected prompts", _clicks),
}
"""Every strategy by name."""
