"""Training of the detector: targets, the loss, a step that learns, and few shots."""
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import default_collate

from promptzoo.core.errors import PromptZooError
from promptzoo.data.coco_boxes import BoxCase
from promptzoo.networks.open_vocabulary import EXTRA, OpenVocabularyDetector
from promptzoo.training.detector import FROZEN, SceneDataset, detector_loss
from promptzoo.training.detector_shots import BoxDataset, few_shot
from promptzoo.training.detector_targets import DetectionLoss, gaussians, targets

BOXES = np.array([[8.0, 8, 24, 40], [40, 40, 56, 56]])


def test_a_gaussian_peaks_at_the_token_of_the_centre():
    bells = gaussians(BOXES, 8)
    assert bells[0, 3, 2] == 1 and bells[1, 6, 6] == 1 and (bells == 1).sum() == 2
    assert bells[0, 4, 2] > bells[0, 3, 3], "it follows the sides of the box"


def test_targets_belong_to_phrases_and_open_objects_do_not_count():
    told = targets(BOXES, np.array([[1, 0], [0, -1], [0, 0]]), 8)
    assert told["heat"][0, 3, 2] == 1 and told["heat"][0, 6, 6] < 1e-9 and not told["heat"][1:].any()
    assert told["counts"][1, 6, 6] == 0 and told["counts"][0].all() and told["counts"][2].all()
    assert told["box"][:, 3, 2].tolist() == BOXES[0].tolist() and told["reach"][3, 2] == 1


def test_the_loss_is_small_for_the_right_answer_only():
    told = {k: torch.from_numpy(v)[None] for k, v in targets(BOXES, np.array([[1, 0], [0, 1]]), 8).items()}
    tokens, texts = torch.zeros(1, EXTRA + 2, 8, 8), torch.eye(2)[None]
    tokens[:, 0] = -9
    tokens[0, EXTRA, 3, 2] = tokens[0, EXTRA + 1, 6, 6] = 18
    for box, y, x in zip(torch.tensor(BOXES, dtype=torch.float32), (3, 6), (2, 6)):
        centre = torch.tensor([8 * x + 4.0, 8 * y + 4.0]).repeat(2)
        tokens[0, 1:EXTRA, y, x] = torch.log((centre - box).abs() / 8)
    loss = DetectionLoss(0.0)
    assert loss(tokens, texts, told) < 0.05 < loss(tokens, texts.flip(1), told)
    near = {**told, "reach": told["reach"] * (told["reach"] == 1)}
    assert DetectionLoss(1.0)(tokens, texts, near) - loss(tokens, texts, near) < 0.01


def test_items_repeat_and_a_few_steps_learn():
    data = SceneDataset(64, 64, 5, phrases=6, views=2)
    first = data[3]
    assert np.array_equal(first["heat"], SceneDataset(64, 64, 5, phrases=6, views=2)[3]["heat"])
    assert first["image"].shape == (3, 64, 64) and first["texts"].split("\n")[0] == "object"
    assert torch.equal(data[3]["image"], first["image"]) and not torch.equal(data[67 % 64]["image"], data[4]["image"])
    torch.manual_seed(0)
    network = OpenVocabularyDetector(64, (8, 8, 16, 16, 16), 16, 16, 64).train()
    batch, loss_function = default_collate([data[n] for n in range(4)]), DetectionLoss()
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    losses = []
    for _ in range(12):
        loss, _ = detector_loss(network, loss_function, batch, "cpu", False)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


@pytest.fixture
def cases(tmp_path):
    """One picture of 80 x 64 with a red and a blue square."""
    pixels = np.full((64, 80, 3), 200, np.uint8)
    pixels[8:24, 8:24], pixels[32:56, 40:64] = (220, 20, 20), (20, 20, 220)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return [BoxCase("a", tmp_path / "a.png", (80, 64), "train", np.array([[8.0, 8, 24, 24], [40, 32, 64, 56]]),
                    ("red", "blue"))]


def test_views_keep_boxes_on_their_objects(cases):
    data = BoxDataset(cases, {"red": "red square", "blue": "blue square"}, 12, 96)
    seen = 0
    for n in range(12):
        item = data[n]
        for phrase, channel in ((0, 0), (1, 2)):
            for y, x in np.argwhere(item["heat"][phrase] == 1):
                pixel = item["image"][:, int(y * 8 + 4), int(x * 8 + 4)]
                seen += 1
                assert pixel.argmax() == channel, (n, phrase, pixel)
    assert seen >= 12


def test_a_class_that_is_not_trained_does_not_count(cases):
    item = BoxDataset(cases, {"red": "red square"}, 1, 96)[0]
    assert (item["counts"] == 0).any() and (item["heat"] == 1).sum() == 1


def test_few_shots_change_the_late_parts_alone(cases):
    torch.manual_seed(0)
    network = OpenVocabularyDetector(64, (8, 8, 16, 16, 16), 16, 16, 64)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    tuned = few_shot(network, cases, {"red": "red square"}, 2, batch=1, amp=False, size=64).state_dict()
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    moved = {k for k, v in tuned.items() if not torch.equal(v, before[k])}
    assert "image_encoder.words.weight" in moved and "text_encoder.grams.weight" in moved
    assert not [k for k in moved if k.startswith(FROZEN) or "running" in k]
    with pytest.raises(PromptZooError, match="at least one"):
        few_shot(network, [], {"red": "red"}, 1)
