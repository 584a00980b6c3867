"""Strategies choose what they promise, and say why."""
import numpy as np
import pytest

from promptzoo.active_learning.scores import Scored, Seen
from promptzoo.active_learning.strategies import STRATEGIES, Pool, choose, expected_clicks
from promptzoo.core.errors import NotFoundError


def scored(image, entropy=0.5, disagreement=0.2, estimate=0.7, found=1.0, at=(1.0, 0.0), names=("liver",), doubt=0.2):
    """Scores of an image."""
    return Scored(image, {name: Seen(entropy, disagreement, estimate, found, doubt) for name in names},
                  np.asarray(at, np.float32))


def pool(*images, done=(), seed=0, **more):
    """A pool of scored images."""
    return Pool([one.image for one in images], {one.image: one for one in images}, done, np.random.default_rng(seed),
                **more)


PLAIN = [scored("a"), scored("b", entropy=0.9, disagreement=0.1), scored("c", disagreement=0.6, at=(0.0, 1.0))]


@pytest.mark.parametrize("name, image, words", [
    ("first", "a", "first of the list"), ("entropy", "b", "0.90 bits"), ("disagreement", "c", "Dice 0.40"),
])
def test_the_choice_and_its_reason(name, image, words):
    chosen, reason = choose(name, pool(*PLAIN))
    assert chosen == image and words in reason


def test_coreset_goes_where_nothing_is_labelled():
    assert choose("coreset", pool(*PLAIN, done=[scored("x")]))[0] == "c"
    assert choose("coreset", pool(*PLAIN))[0] in "ab", "the most typical one first"


def test_badge_wants_doubt_and_difference():
    images = [scored("sure", doubt=0.0), scored("same", doubt=0.2), scored("other", doubt=0.3, at=(0.0, 1.0))]
    seen = [choose("badge", pool(*images, done=[scored("x", doubt=0.2)], seed=seed))[0] for seed in range(40)]
    assert seen.count("other") > seen.count("sure") and "same" not in seen, "what is labelled has chance 0"


def test_clasp_takes_structures_in_turn():
    images = [scored("l", names=("liver",)), scored("s", names=("spleen",), entropy=0.1)]
    assert choose("clasp", pool(*images, done=[scored("x", names=("liver",))]))[0] == "s"
    sharp = [scored("x", names=("liver",))] * 200
    many = [scored("low", 0.2), scored("high", 0.8)]
    assert {choose("clasp", pool(*many, done=sharp, seed=seed))[0] for seed in range(20)} == {"high"}
    assert {choose("clasp", pool(*many, seed=seed))[0] for seed in range(20)} == {"low", "high"}, "noise at first"


def test_clicks_weighs_what_is_learned_against_what_it_costs():
    dear, cheap = scored("dear", entropy=0.8, estimate=0.1), scored("cheap", entropy=0.6, estimate=0.9)
    chosen, reason = choose("clicks", pool(dear, cheap, usual_clicks=6.0))
    assert chosen == "cheap" and "for about 2.0 prompts" in reason
    assert expected_clicks(0.5, 6.0) == 6.0 and expected_clicks(1.0, 6.0) == 1.0


def test_foreground_prefers_images_with_something_in_them():
    images = [scored("empty", found=0.0, estimate=0.1), scored("full")]
    seen = [choose("foreground", pool(*images, seed=seed))[0] for seed in range(300)]
    assert 0.75 < seen.count("full") / 300 < 0.92  # 2/3 + 1/6


def test_unscored_images():
    nothing = Pool(["a", "b"], rng=np.random.default_rng(0))
    for name in STRATEGIES:
        image, reason = choose(name, nothing)
        assert image in "ab" and ("no image is scored yet" in reason) == STRATEGIES[name].needs_scores
    some = Pool(["a", "b"], {"b": PLAIN[1]}, rng=np.random.default_rng(0))
    assert choose("entropy", some) == ("b", "the bundle is least sure here: 0.90 bits per voxel, first of 1; 1 images "
                                            "are not scored yet")


def test_nothing_to_choose_and_no_such_strategy():
    assert choose("entropy", Pool([])) is None
    with pytest.raises(NotFoundError, match="got worst; allowed: first, random"):
        choose("worst", Pool(["a"]))


def test_random_choices_follow_the_seed():
    for name in ("random", "foreground", "badge", "clasp"):
        assert len({choose(name, pool(*PLAIN, seed=7)) for _ in range(3)}) == 1
