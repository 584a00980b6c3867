"""Scenes that are encoded once: what they hold, that they are kept, in memory and in files."""
import numpy as np
import pytest
import torch

from promptzoo.core.errors import PromptZooError
from promptzoo.data.anatomy.names import ALL_STRUCTURES
from promptzoo.networks.text_universal import TextUniversal
from promptzoo.training.anatomy_scenes import AnatomyScenes
from promptzoo.training.kept_scenes import KeptScenes
from promptzoo.training.phrases import Phrases
from promptzoo.training.text_universal import KnownClassLoss, drawn_logits

CHANNELS = (8, 8, 16, 16)


@pytest.fixture(scope="module")
def scenes():
    phrases = Phrases(ALL_STRUCTURES, "numbered")
    return AnatomyScenes(1, phrases, 5, seed=77, size=(32, 32, 32), voxels=900, boxes=False, procedural_share=0)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    made = TextUniversal(CHANNELS, features=8, head="classes", frozen_encoder=True,
                         head_options={"classes": len(ALL_STRUCTURES), "hidden": 2})
    torch.nn.init.normal_(made.head.rows, std=0.05)
    return made


class Counted(torch.nn.Module):
    """An encoder that counts."""

    def __init__(self, network):
        super().__init__()
        self.image_encoder, self.calls = self, 0
        self.inner = [network.image_encoder]
        self.nothing = torch.nn.Parameter(torch.zeros(1), requires_grad=False)

    def parameters(self, recurse=True):
        return iter([self.nothing])

    def forward(self, image):
        self.calls += 1
        return self.inner[0](image)


def test_encoded_once_and_asked_anew(scenes, network, tmp_path):
    """A second item about a view costs no encoder; words and structures are drawn anew; files hold the same."""
    counted = Counted(network)
    kept = KeptScenes(scenes, counted, 1, 6, str(tmp_path))
    items = [kept[n] for n in range(6)]
    assert counted.calls == 1
    assert all(torch.equal(items[0]["voxels"], item["voxels"]) for item in items)
    assert len({item["text"].numpy().tobytes() for item in items}) == 6
    again = KeptScenes(scenes, counted, 1, 6, str(tmp_path))[3]
    assert counted.calls == 1
    assert all(torch.equal(value, again[name]) for name, value in items[3].items())
    label = (kept.kept(0).structure.ravel()[kept.kept(0).chosen][None] > 0).any()
    assert label and items[0]["label"].shape == (5, items[0]["voxels"].shape[1])


def test_a_class_learns_its_own_row(scenes, network):
    """The loss of an item moves the rows of the classes asked for, and no other."""
    item = KeptScenes(scenes, network, 1, 1)[0]
    logits, features = drawn_logits(network, item)
    assert logits.shape == item["label"].shape and not features.requires_grad
    KnownClassLoss()(logits, item["label"], item["weight"]).backward()
    moved = network.head.rows.grad.abs().sum(1) > 0
    asked = np.flatnonzero(item["text"][:, 128:].sum(0).numpy())
    assert set(np.flatnonzero(moved.numpy())) == set(asked)


def test_what_cannot_be_kept(scenes, network):
    with pytest.raises(PromptZooError, match="frozen"):
        KeptScenes(scenes, TextUniversal(CHANNELS, features=8), 1, 1)
    with pytest.raises(PromptZooError, match="views"):
        KeptScenes(scenes, network, 0, 1)
    with pytest.raises(IndexError):
        KeptScenes(scenes, network, 1, 1)[1]
