"""Scores of images, the places that prompts for them come from, and the ledger that keeps both."""
import threading

import numpy as np
import pytest

from promptzoo.active_learning.ledger import Ledger
from promptzoo.active_learning.places import Place
from promptzoo.active_learning.scores import Scored, score
from promptzoo.core.geometry import Grid
from promptzoo.core.protocols import ObjectPrediction, Prediction
from promptzoo.core.volume import Volume


class Threshold:
    """Marks what is bright in the box; unsure of what is grey."""

    name, prompt_kinds = "threshold", frozenset({"box"})

    def encode(self, volume):
        """The volume."""
        return volume

    def decode(self, state, prompts, previous=None):
        """Probability = intensity inside the box."""
        box = prompts.to_voxel(state.grid).prompts[0]
        chance = np.zeros(state.grid.shape, np.float32)
        part = tuple(slice(max(0, round(float(a))), round(float(b))) for a, b in zip(box.low, box.high))
        chance[part] = state.data[part]
        return Prediction(state.grid, (ObjectPrediction(1, state.grid, (0, 0, 0), chance, 0.8),), 0.0, "x")


def test_places_are_the_same_anatomy_in_any_orientation():
    grid = Grid((20, 30, 10), np.diag([1.0, 1.0, 3.0, 1.0]))
    mask = np.zeros(grid.shape, bool)
    mask[2:6, 3:9, 4:6] = True
    place = Place.of(mask, grid)
    assert place.low == (0.1, 0.1, 0.4) and place.high == pytest.approx((0.3, 0.3, 0.6))
    flipped = Grid((20, 30, 10), np.diag([-1.0, -1.0, 3.0, 1.0]))
    box = place.prompt(flipped, 3).to_voxel(flipped).prompts[0]
    assert np.allclose(box.low, (14, 21, 4)) and np.allclose(box.high, (18, 27, 6))
    assert Place.of(mask[::-1, ::-1], flipped) == place
    assert Place.of(~mask & mask, grid) is None and Place.mean([]) == Place()
    flat = place.prompt(grid, 2).to_voxel(grid).prompts[0]
    assert (flat.low[2], flat.high[2]) == (4, 5), "a 2D bundle is asked on a slice"
    for seed in range(20):
        place.prompt(grid, 3, np.random.default_rng(seed), 0.5).check_on(grid)


def scored(data, seed=0):
    """Scores of an image ``[i, j, 1]``."""
    volume = Volume(data.astype(np.float32), Grid(data.shape, np.eye(4)))
    return score("x", volume, Threshold(), 2, {"disc": Place()}, lambda v: np.ones(4, np.float32) / 2,
                 np.random.default_rng(seed))


def test_scores_tell_sure_from_unsure():
    data = np.zeros((32, 32, 1))
    data[12:20, 12:20] = 0.99
    sure, grey = scored(data), scored(np.where(data > 0, 0.55, 0))
    empty = scored(np.zeros_like(data))
    assert sure.mean("entropy") < 0.2 < 0.9 < grey.mean("entropy")
    assert sure.mean("doubt") < grey.mean("doubt") and empty.mean("found") == 0 == empty.mean("entropy")
    wide = scored(np.full((32, 32, 1), 0.99))
    assert wide.mean("disagreement") > sure.mean("disagreement"), "the answer follows the box where nothing else tells"
    assert scored(data).to_json() == sure.to_json(), "the same seed, the same scores"
    again = Scored.from_json(sure.to_json())
    assert again.seen == sure.seen and again.estimated_dice == 0.8 and np.array_equal(again.embedding, sure.embedding)


@pytest.fixture
def ledger(tmp_path):
    """A ledger with a clock that stands still."""
    now = [0.0]
    found = Ledger(tmp_path / "work.sqlite", lease_s=100, clock=lambda: now[0])
    found.now = now
    return found


def test_an_image_is_given_once_until_the_lease_ends(ledger):
    ledger.now[0] = 1000
    assert ledger.assign("a", "anna") and not ledger.assign("a", "bert") and not ledger.assign("a", "anna")
    assert ledger.taken() == {"a": "anna"}
    ledger.now[0] = 1101
    assert ledger.taken() == {} and ledger.assign("a", "bert")
    ledger.give_back(["a"])
    assert ledger.assign("a", "anna")


def test_threads_never_get_the_same_image(ledger):
    ledger.now[0] = 1000
    got = []

    def work(user):
        got.extend(n for n in range(50) if ledger.assign(str(n), user))

    threads = [threading.Thread(target=work, args=(str(n),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(50))


def test_scores_are_kept_under_their_key(ledger, tmp_path):
    one = scored(np.eye(8)[..., None])
    ledger.keep("v1", one)
    assert ledger.scores("v1", ["x", "y"])["x"].seen == one.seen and ledger.scores("v2", ["x"]) == {}
    assert list(Ledger(tmp_path / "work.sqlite").scores("v1", ["x"])) == ["x"], "after a restart too"
    ledger.keep("v2", one)
    assert ledger.scores("v1", ["x"]) == {} and list(ledger.scores("v2", ["x"])) == ["x"]
