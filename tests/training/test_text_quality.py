"""Training of the judge: damaged masks, the loss, a step; scenes that are imaged in one way."""
import numpy as np
import pytest
import torch

from promptzoo.core.errors import PromptZooError
from promptzoo.core.seeding import generator
from promptzoo.data.anatomy import torso
from promptzoo.data.anatomy.lesions import FINDINGS
from promptzoo.data.anatomy.names import ALL_STRUCTURES
from promptzoo.networks.text_quality import TextQuality
from promptzoo.training import anatomy_sources
from promptzoo.training.imaged_scenes import ImagedScenes
from promptzoo.training.phrases import Phrases
from promptzoo.training.text_quality import MaskScenes, QualityLoss, damaged, judged

SMALL = {"channels": (8, 8, 16, 16), "features": 8, "frozen_encoder": True}


def scenes(imaging, classes=ALL_STRUCTURES, targets=6):
    return ImagedScenes(imaging, length=2, phrases=Phrases(classes), targets=targets, seed=88, size=(32, 32, 32),
                        voxels=1500, boxes=False)


def test_damaged_masks():
    """Some are as they were, most are not; none is empty where the truth is not."""
    mask = np.zeros((24, 24, 24), bool)
    mask[6:16, 6:16, 6:16] = True
    found = [damaged(mask, generator(n)) for n in range(30)]
    same = sum(np.array_equal(one, mask) for one in found)
    assert 0 < same < 15 and all(one.dtype == bool for one in found) and sum(one.any() for one in found) > 26


def test_loss_wants_the_right_order():
    text = torch.nn.functional.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    dice = torch.tensor([0.1, 0.4, 0.7, 0.95])
    loss = QualityLoss()
    assert loss(dice, dice, text) < 1e-3 < loss(dice.flip(0), dice, text)
    off = 0.1 * torch.eye(4)
    assert loss(dice + off[0], dice, text) > 4 * loss(dice - off[3], dice, text), "bad masks weigh more"


def test_a_step_of_the_judge(monkeypatch):
    """Estimates of true and of other masks are drawn towards the truth; only the judge has gradients."""
    monkeypatch.setattr(anatomy_sources, "torso", lambda seed, absent=None: torso(seed % 10, 6.0, absent))
    torch.manual_seed(6)
    network = TextQuality(**SMALL)
    items = MaskScenes(scenes("lacking"), network, 1, 30)
    optimiser = torch.optim.Adam(network.quality.parameters(), 0.01)
    losses = []
    for n in range(30):
        item = items[n]
        estimate, dice, opinion = judged(network, item)
        assert opinion.shape == item["label"].shape and ((dice >= 0) & (dice <= 1)).all()
        loss = QualityLoss()(estimate, dice, item["text"])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert network.head.controller[0].weight.grad is None
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:8]), losses


def test_torsos_imaged_in_one_way(monkeypatch):
    """Findings are classes like others; PET becomes grey values, too."""
    body = torso(88, 6.0)
    monkeypatch.setattr(anatomy_sources, "torso", lambda seed: body)
    made = scenes("ct", (*ALL_STRUCTURES, *FINDINGS))
    source = made.source(0, generator(3))
    assert source.imaging == "ct" and set(FINDINGS) <= source.known and source.names[-3:] == tuple(FINDINGS)
    item = scenes("pet")[0]
    assert item["image"][0].min() >= -1 and item["image"][0].max() <= 1 and item["image"][0].std() > 0.1
    with pytest.raises(PromptZooError, match="imaging"):
        scenes("thermography")
