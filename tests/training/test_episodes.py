"""Episodes: images of one task with what is told about them."""
import numpy as np
import pytest
import torch

from promptzoo.core.errors import PromptZooError
from promptzoo.prompts.encoders.context import CONTEXT_CHANNELS
from promptzoo.training.episode_sources import HELD_OUT, Sources, edged
from promptzoo.training.episodes import Episodes, told
from promptzoo.training.in_context import examples_of, soft_dice

QUICK = {"shapes": 0.6, "studies": 0.4}


def test_episodes_are_the_same_every_time():
    """Items repeat bit by bit; the same task comes back framed in another way."""
    first, again = (Episodes(8, tasks=2, images=3, size=64, kinds=QUICK, seed=4) for _ in range(2))
    one, other = first[1], again[1]
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert one["image"].shape == one["label"].shape == (3, 1, 64, 64)
    assert one["shown"].shape == one["asked"].shape == (3, len(CONTEXT_CHANNELS), 64, 64)
    assert torch.isfinite(one["image"]).all() and one["image"].abs().max() <= 1
    assert not torch.equal(one["image"], first[3]["image"])
    with pytest.raises(IndexError):
        first[8]


def test_structures_that_are_held_out_are_never_asked_for(monkeypatch):
    """The sources are asked for them by name alone."""
    source, rng = Sources(5, 64), np.random.default_rng(0)
    asked = set()
    scene = Sources.studies.__globals__["clinical"]

    def noted(*args):
        found = scene(*args)
        truth = type(found).truth
        monkeypatch.setattr(type(found), "truth", lambda self, name, *a: asked.add(name) or truth(self, name, *a))
        return found

    monkeypatch.setitem(Sources.studies.__globals__, "clinical", noted)
    for _ in range(40):
        source.draw("studies", rng, 1)
        monkeypatch.undo()
        monkeypatch.setitem(Sources.studies.__globals__, "clinical", noted)
    assert len(asked) >= 5 and not asked & set(HELD_OUT)
    assert source.draw("studies", np.random.default_rng(1), 2, "glomerulus") is not None


@pytest.mark.parametrize("how", ["mask", "box", "click", "scribble", ""])
def test_what_is_told_lies_where_the_mask_is(how):
    mask = np.zeros((48, 48), bool)
    mask[10:30, 20:40] = True
    maps = dict(zip(CONTEXT_CHANNELS, told(mask, how, np.random.default_rng(2))))
    assert any(one.any() for one in maps.values()) == bool(how)
    assert maps["dense"].all() == (how == "mask") and np.array_equal(maps["previous"] > 0, mask & (how == "mask"))
    for name in ("point+", "scribble+"):
        assert not (maps[name] == 1)[~mask].any()
    for name in ("point-", "scribble-"):
        assert not (maps[name] == 1)[mask].any()


def test_every_image_is_a_query_beside_others_of_its_episode():
    order = examples_of(3, 4, 2, np.random.default_rng(0))
    assert order.shape == (12, 2)
    for query, examples in enumerate(order):
        assert query not in examples and len(set(examples)) == 2 and {int(n) // 4 for n in examples} == {query // 4}


def test_edges_and_dice():
    mask = np.zeros((20, 20), bool)
    mask[5:15, 5:15] = True
    assert edged(mask)[5, 8] and not edged(mask)[10, 10]
    label = torch.from_numpy(mask)[None, None]
    assert soft_dice(label.float() * 40 - 20, label)[0] > 0.99 > 0.6 > soft_dice(torch.zeros(1, 1, 20, 20), label)[0]


def test_unusable_episodes_are_refused():
    for wrong in ({"images": 1}, {"tasks": 0}, {"kinds": {"dreams": 1.0}}):
        with pytest.raises(PromptZooError, match="episodes"):
            Episodes(4, **wrong)
