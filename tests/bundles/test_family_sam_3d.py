"""Honest small checks of sam-3d (families.md, section 6) on the shipped weights."""
import numpy as np
import pytest
import torch

from promptzoo.core.geometry import Grid
from promptzoo.core.seeding import generator
from promptzoo.core.volume import Volume
from promptzoo.data.phantoms import inner_point, torso_ct
from promptzoo.data.synthesis import Procedural3D
from promptzoo.evaluation.slicewise import SliceWise
from promptzoo.inference import load_predictor
from promptzoo.prompts import Point, PromptSet
from promptzoo.prompts.simulators import clicks

SEED = 740_003
"""No training uses this seed."""
ORGANS = ("liver", "spleen", "kidney right", "kidney left", "aorta", "inferior vena cava")
COUNT, CLICKS = 6, 3


def _dice(first, second):
    total = first.sum() + second.sum()
    return 1.0 if total == 0 else 2.0 * (first & second).sum() / total


@pytest.fixture(scope="module")
def clicked():
    """Per organ of a procedural torso: its mask and the answer to one click in it."""
    volume, labels, names = torso_ct(1, (128, 96, 64), (3.0, 3.0, 4.0))
    masks = {name: labels == value for value, name in names.items()}
    predictor = load_predictor("sam_3d", engine="torch")
    state = predictor.encode(volume)
    return masks, {name: predictor.decode(state, PromptSet((Point(inner_point(masks[name]), space="voxel"),))
                                          ).objects[0].mask for name in ORGANS}


def test_a_click_on_another_organ_returns_that_organ(bundle, clicked):
    """Each answer fits the clicked organ far better than the best of the other organs, on the mean (0.35 and 0.14)."""
    masks, answers = clicked
    own = [_dice(answers[name], masks[name]) for name in ORGANS]
    best = [max(_dice(answers[name], mask) for other, mask in masks.items() if other != name) for name in ORGANS]
    assert np.mean(own) > 0.28 and np.mean(own) > 1.8 * np.mean(best), f"{np.mean(own):.3f} against {np.mean(best):.3f}"
    for name, other in (("liver", "kidney left"), ("kidney left", "liver")):
        assert _dice(answers[name], masks[name]) > 0.45 and _dice(answers[name], masks[other]) < 0.1, name


def _coherence(mask):
    """Mean Dice of the masks of neighbouring axial slices."""
    pairs = [(mask[..., k], mask[..., k + 1]) for k in range(mask.shape[2] - 1)]
    return np.mean([_dice(*pair) for pair in pairs if pair[0].any() or pair[1].any()])


def test_masks_do_not_flicker_from_slice_to_slice(bundle, clicked):
    """Neighbouring slices agree nearly as well as those of the truth (0.79 and 0.85)."""
    masks, answers = clicked
    found, true = (np.mean([_coherence(group[name]) for name in ORGANS]) for group in (answers, masks))
    assert found > true - 0.12, f"{found:.3f} against {true:.3f}"


def _scenes():
    source, found = Procedural3D(64, SEED), []
    for n in range(COUNT):
        image, mask = source.sample(generator(SEED, n), 1)[0]
        found.append((Volume(100 * image, Grid(image.shape, np.eye(4))), mask))
    return found


def _curve(predictor, volume, mask):
    """Dice after each click, the first inside the object, later ones in the largest error."""
    state, prompts, answer, found = predictor.encode(volume), (), None, []
    now = np.zeros(mask.shape, dtype=bool)
    for n in range(CLICKS):
        place = clicks.next_click(mask & ~now, now & ~mask, generator(1, n))
        if place is not None:
            prompts = (*prompts, Point(tuple(map(float, place[0])), bool(place[1]), 1, "voxel"))
            answer = predictor.decode(state, PromptSet(prompts), answer)
            now = answer.objects[0].mask
        found.append(_dice(now, mask))
    return found


def test_it_beats_slice_wise_sam_at_equal_clicks(bundle, predictor):
    """One click counts once, on whatever slice it lies; the 2D bundle carries its masks from slice to slice.

    Weights 0.1.0: 0.395, 0.565, 0.596 against 0.324, 0.353, 0.367 after one, two and three clicks, without the 2D
    bundle's ``box_prior``.
    """
    flat = SliceWise(load_predictor("sam_box_finetune", engine="torch"))
    scenes = _scenes()
    ours, theirs = (np.mean([_curve(p, *scene) for scene in scenes], 0) for p in (predictor, flat))
    assert (ours > theirs).all() and ours[-1] > theirs[-1] + 0.1, f"{np.round(ours, 3)} against {np.round(theirs, 3)}"


def test_an_encoding_serves_all_clicks_on_its_window(bundle, predictor, phantom):
    """The second click on the same window costs no encoding."""
    calls, parts = [], predictor.segmenter.parts
    counted = type(parts)(lambda images: calls.append(len(images)) or parts.encode(images), parts.decode)
    volume = Volume(np.flip(phantom.volume.data, 0).copy(), phantom.volume.grid)  # earlier images are remembered
    at = tuple(map(float, np.argwhere(np.flip(phantom.mask, 0)).mean(0).round()))
    predictor.segmenter.parts = counted
    try:
        state = predictor.encode(volume)
        prompts = PromptSet((Point(at, space="voxel"),))
        first = predictor.decode(state, prompts)
        encoded = sum(calls)
        predictor.decode(state, prompts)
        again = sum(calls)
        predictor.decode(state, PromptSet((*prompts.prompts, Point((1.0, 1.0, 1.0), False, space="voxel"))), first)
    finally:
        predictor.segmenter.parts = parts
    assert encoded == again >= 1 and sum(calls) - again <= 2


@pytest.mark.xfail(strict=True, reason="weights 0.1.0: the logits move by 0.002; 250 iterations taught the network to "
                                       "read prompts from the dense maps it inherited, not from its tokens")
def test_the_click_s_place_reaches_the_answer_through_its_token_alone(bundle, predictor):
    """With the maps left out, the 3D point token and the features seen at it still say which object is meant."""
    from promptzoo.inference.loader import load_network

    network, _ = load_network(bundle)
    image = torch.full((1, 1, 64, 64, 64), -0.5)
    image[..., 8:24, 8:24, 8:24], image[..., 40:56, 40:56, 40:56] = 0.5, 0.5
    points, labels = torch.zeros(1, 16, 3), torch.full((1, 16), -1.0)
    labels[0, 0], changes = 1.0, []
    with torch.inference_mode():
        encoded = network.image_encoder(image)
        for at in (15.5, 47.5):
            points[0, 0] = at
            changes.append(network.decode(*encoded, points, labels, torch.zeros(1, 12, 32, 32, 32))[0])
    assert float((changes[0] - changes[1]).abs().max()) > 0.05
