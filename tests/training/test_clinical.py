"""Scenes with records, and their loss."""
import pytest
import torch

from promptzoo.core.errors import PromptZooError
from promptzoo.data.synthesis.clinical import STUDIES
from promptzoo.text.records import CLASSES, LENGTH
from promptzoo.training.clinical import ClinicalScenes, RecordLoss, _with_predicted


def test_items():
    data = ClinicalScenes(8, 3, 64, buckets=64, words=16, seed=9)
    items = [data[n] for n in range(8)]
    assert torch.equal(data[3]["record"], items[3]["record"])
    for n, item in enumerate(items):
        assert item["image"].shape == (1, 1, 64, 64) and item["label"].shape == (3, 1, 64, 64)
        assert item["record"].shape == (3, LENGTH) and item["click"].shape == (3, 1, 16, 16)
        assert item["bags"].shape == (3, 16, 64) and int(item["attributes"][0, 0]) == n % 4
        assert (item["record"][:, :len(CLASSES)].sum(1) == 1).all()
        assert (int(item["attributes"][0, 1]) >= 0) == (n % 4 == 0)
    assert any(item["click"].any() for item in items[3::4]) and not any(item["click"].any() for item in items[0::4])
    with pytest.raises(IndexError):
        data[8]
    with pytest.raises(PromptZooError):
        ClinicalScenes(0)


def test_loss_knows_empty_masks():
    loss, nothing = RecordLoss(), torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    assert loss(torch.full((1, 1, 8, 8), -9.0), nothing) < 0.01 < loss(torch.full((1, 1, 8, 8), 2.0), nothing)


def test_some_records_hold_what_is_predicted():
    """The last of three records of a brain holds the heads' answer; those of liver segments never do."""
    truth = torch.tensor([[STUDIES.index("brain tumour MR"), 1, -1, -1], [STUDIES.index("liver CT"), -1, 2, -1]])
    told = [torch.zeros(2, 4), torch.tensor([[3.0, 0.0]] * 2), torch.zeros(2, 8), torch.zeros(2, 8)]
    record = _with_predicted(torch.zeros(6, LENGTH), told, truth, 3, 1.0, 7)
    start = len(CLASSES)
    assert torch.allclose(record[2, start:start + 2], told[1][0].softmax(0)) and record.sum() == pytest.approx(1.0)
