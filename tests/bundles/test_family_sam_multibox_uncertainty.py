"""Honest small checks of sam-multibox-uncertainty (families.md, section 4) on the weights of its base."""
import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import rankdata, spearmanr

from promptzoo.core.seeding import generator
from promptzoo.core.volume import Volume
from promptzoo.inference import load_predictor

from .scenes import box_of, scenes

COUNT = 30


@pytest.fixture(scope="module")
def held_out():
    """Images that training never saw, with boxes that are a little off, as a person's are."""
    rng = generator(11, 0)
    return [(volume, mask, box_of(mask, 0.08, rng=rng)) for volume, mask in scenes(COUNT)]


@pytest.fixture(scope="module")
def answers(held_out):
    """What the bundle answers to each of them."""
    predictor = load_predictor("sam_multibox_uncertainty", engine="torch")
    return [predictor.decode(predictor.encode(volume), prompts).objects[0] for volume, _, prompts in held_out]


def _auroc(score, positive):
    ranks, count = rankdata(score), positive.sum()
    return (ranks[positive].sum() - count * (count + 1) / 2) / (count * (~positive).sum())


def _entropy(answer):
    """Mean uncertainty (bits) within the dilated mask; 0 for an empty mask."""
    around = ndimage.binary_dilation(answer.mask, iterations=3)
    return float(answer.uncertainty()[around].mean()) if around.any() else 0.0


def test_the_map_shows_where_the_mask_is_wrong(bundle, answers, held_out):
    found = []
    for answer, (_, mask, _) in zip(answers, held_out):
        wrong = answer.mask ^ mask
        if wrong.any():
            found.append(_auroc(answer.uncertainty().ravel(), wrong.ravel()))
    assert np.mean(found) > 0.75, f"{np.mean(found):.3f}"


def test_the_number_follows_the_true_dice(bundle, answers, held_out, dice):
    correlation = spearmanr([a.estimated_dice for a in answers],
                            [dice(a.mask, mask) for a, (_, mask, _) in zip(answers, held_out)])[0]
    assert correlation > 0.2, f"{correlation:.3f}"


def test_noise_raises_uncertainty(bundle, predictor, answers, held_out):
    rng, raised = generator(12, 0), []
    for clean, (volume, _, prompts) in zip(answers, held_out[:20]):
        noisy = Volume(volume.data + rng.normal(0, 60, volume.data.shape).astype(np.float32), volume.grid)
        raised.append(_entropy(predictor.decode(predictor.encode(noisy), prompts).objects[0]) - _entropy(clean))
    assert np.mean(raised) > 0 and np.mean(np.array(raised) > 0) >= 0.6, np.round(np.mean(raised), 4)


def test_one_encoding_serves_all_boxes(bundle, predictor, held_out):
    volume, _, prompts = held_out[0]
    calls, parts = [], predictor.segmenter.parts
    counted = type(parts)(lambda images: calls.append(len(images)) or parts.encode(images), parts.decode)
    predictor.segmenter.parts = counted
    try:  # an image of its own: earlier ones are remembered
        predictor.decode(predictor.encode(Volume(np.flip(volume.data, 0).copy(), volume.grid)), prompts)
    finally:
        predictor.segmenter.parts = parts
    assert 1 <= sum(calls) <= 3


def test_medsam_u_moves_the_box_to_less_uncertainty(bundle, held_out, dice):
    """The refined box never has less agreement, and masks do not become worse on average."""
    plain, moved = (load_predictor(bundle.path, engine="torch", variant=name) for name in ("sam-u", "medsam-u"))
    agreement, quality = [], []
    for volume, mask, prompts in held_out[:6]:
        first, second = (p.decode(p.encode(volume), prompts).objects[0] for p in (plain, moved))
        agreement.append(second.estimated_dice - first.estimated_dice)
        quality.append(dice(second.mask, mask) - dice(first.mask, mask))
    assert np.mean(agreement) >= -0.02 and np.mean(quality) >= -0.03, (np.mean(agreement), np.mean(quality))
