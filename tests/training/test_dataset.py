"""Endless procedural data: item n is always the same, sizes follow their schedule."""
import pytest
import torch

from promptzoo.core.errors import PromptZooError
from promptzoo.training.dataset import ProceduralDataset, concatenate


@pytest.mark.parametrize("dims", [2, 3])
def test_item(dims):
    item = ProceduralDataset(dims, length=3, targets_per_scene=2, size=32, seed=4)[1]
    image, label = item["image"], item["label"]
    assert image.shape == label.shape == (2, 1) + (32,) * dims
    assert image.dtype == torch.float32 and label.dtype == torch.bool
    assert -1 <= image.min() and image.max() <= 1
    assert all(0 < mask.float().mean() < 1 for mask in label)


@pytest.mark.parametrize("dims", [2, 3])
def test_item_depends_on_seed_and_index_alone(dims):
    """Not on what was asked before, nor by whom: that is what makes workers and restarts harmless."""
    first = ProceduralDataset(dims, 4, 2, 32, seed=4)
    second = ProceduralDataset(dims, 4, 2, 32, seed=4)
    second[0], second[3]
    a, b = first[2], second[2]
    assert torch.equal(a["image"], b["image"]) and torch.equal(a["label"], b["label"])
    assert not torch.equal(a["image"], first[1]["image"])
    assert not torch.equal(a["image"], ProceduralDataset(dims, 4, 2, 32, seed=5)[2]["image"])


def test_workers_give_the_same_batches():
    data = ProceduralDataset(2, 4, 2, 32, seed=1)
    alone, helped = (torch.utils.data.DataLoader(data, batch_size=2, num_workers=n, collate_fn=concatenate,
                                                 multiprocessing_context="spawn" if n else None) for n in (0, 1))
    for one, other in zip(alone, helped, strict=True):
        assert one["image"].shape == (4, 1, 32, 32)
        assert torch.equal(one["image"], other["image"]) and torch.equal(one["label"], other["label"])


def test_sizes_follow_one_another():
    """Equal parts of the dataset in the order given; the last size comes last."""
    data = ProceduralDataset(2, 8, 1, (32, 32, 40, 48))
    assert [data[n]["image"].shape[-1] for n in range(8)] == [32] * 4 + [40] * 2 + [48] * 2


def test_length():
    data = ProceduralDataset(2, 3, 1, 32)
    assert len(data) == 3
    for index in (3, -1):
        with pytest.raises(IndexError):
            data[index]


@pytest.mark.parametrize("sizes", [(4, 1, 1), (2, 0, 1), (2, 1, 0)])
def test_unusable_sizes(sizes):
    with pytest.raises(PromptZooError, match="procedural dataset"):
        ProceduralDataset(*sizes)
