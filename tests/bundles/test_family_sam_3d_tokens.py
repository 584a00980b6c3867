"""Honest small checks of sam-med3d (families.md, section 6) on its weights: clicks are tokens and nothing else."""
import numpy as np
import pytest
import torch

from promptzoo.core.bundles import get_bundle
from promptzoo.core.geometry import Grid
from promptzoo.core.seeding import generator
from promptzoo.core.volume import Volume
from promptzoo.data.phantoms import inner_point, torso_ct
from promptzoo.data.synthesis import Procedural3D
from promptzoo.evaluation.metrics import dice
from promptzoo.evaluation.slicewise import SliceWise
from promptzoo.inference import load_predictor
from promptzoo.inference.loader import load_network
from promptzoo.prompts import Point, PromptSet
from promptzoo.prompts.encoders.tokens import DENSE_CHANNELS, MASK_CHANNELS
from promptzoo.prompts.simulators import clicks

SEED = 740_003
"""No training uses this seed."""
ORGANS = ("liver", "spleen", "kidney right", "kidney left", "aorta", "inferior vena cava")


@pytest.fixture(scope="module")
def network():
    """The network of the variant."""
    return load_network(get_bundle("sam_3d"), "sam-med3d")[0].eval()


@pytest.fixture(scope="module")
def tokens_only():
    """The variant's predictor."""
    return load_predictor("sam_3d", engine="torch", variant="sam-med3d")


def test_the_click_s_place_reaches_the_answer_through_its_token_alone(network):
    """Two bright cubes: the token says which is meant."""
    image = torch.full((1, 1, 48, 48, 48), -0.5)
    cubes = [torch.zeros(48, 48, 48, dtype=torch.bool) for _ in range(2)]
    cubes[0][6:18, 6:18, 6:18], cubes[1][30:42, 30:42, 30:42] = True, True
    image[0, 0, cubes[0] | cubes[1]] = 0.5
    points, labels, seen = torch.zeros(1, 16, 3), torch.full((1, 16), -1.0), []
    labels[0, 0] = 1.0
    with torch.inference_mode():
        encoded = network.image_encoder(image)
        for at in (11.5, 35.5):
            points[0, 0] = at
            seen.append(network.decode(*encoded, points, labels, torch.zeros(1, 12, 24, 24, 24))[0][0, 0] > 0)
    for n, mask in enumerate(seen):
        own, other = (float(mask[cube].float().mean()) for cube in (cubes[n], cubes[1 - n]))
        assert own > 0.5 > other + 0.2, (n, own, other)


def test_maps_of_clicks_and_boxes_are_not_read(network):
    """The answer is the same whatever they hold; that of an earlier mask is read."""
    with torch.inference_mode():
        encoded = network.image_encoder(torch.randn(1, 1, 48, 48, 48, generator=torch.Generator().manual_seed(0)))
        points, labels = torch.full((1, 16, 3), 20.0), torch.full((1, 16), -1.0)
        labels[0, 0], empty = 1.0, torch.zeros(1, 12, 24, 24, 24)
        full = torch.ones_like(empty)
        full[:, list(MASK_CHANNELS)] = 0
        told, same = (network.decode(*encoded, points, labels, dense)[0] for dense in (empty, full))
        mask = empty.clone()
        mask[:, DENSE_CHANNELS.index("previous"), 8:16, 8:16, 8:16] = 1.0
        other = network.decode(*encoded, points, labels, mask)[0]
    assert torch.equal(told, same) and float((other - told).abs().max()) > 0.5


def test_a_click_on_another_organ_returns_that_organ(tokens_only):
    """Measured, mean over six organs of a procedural torso: 0.387 of the clicked organ, 0.045 of the best other."""
    volume, labels, names = torso_ct(1, (128, 96, 64), (3.0, 3.0, 4.0))
    masks = {name: labels == value for value, name in names.items()}
    state, own, best = tokens_only.encode(volume), [], []
    for name in ORGANS:
        click = PromptSet((Point(inner_point(masks[name]), space="voxel"),))
        found = tokens_only.decode(state, click).objects[0].mask
        own.append(dice(found, masks[name]))
        best.append(max(dice(found, mask) for other, mask in masks.items() if other != name))
    assert np.mean(own) > 0.3 and np.mean(own) > 3 * np.mean(best), (own, best)


def test_it_beats_slice_wise_sam_at_equal_clicks(tokens_only):
    """Measured on six drawn volumes after one, two and three clicks: 0.404, 0.500, 0.518; slice-wise
    0.324, 0.353, 0.367."""
    source, flat = Procedural3D(64, SEED), SliceWise(load_predictor("sam_box_finetune", engine="torch"))
    curves = {"tokens": [], "slices": []}
    for n in range(6):
        image, mask = source.sample(generator(SEED, n), 1)[0]
        volume = Volume(100 * image, Grid(image.shape, np.eye(4)))
        for name, predictor in (("tokens", tokens_only), ("slices", flat)):
            curves[name].append(_curve(predictor, volume, mask))
    ours, theirs = (np.mean(curves[name], 0) for name in ("tokens", "slices"))
    assert (ours > theirs).all() and ours[-1] > theirs[-1] + 0.05, (ours, theirs)


def _curve(predictor, volume, mask, count=3):
    """Dice after each click, the first inside the object, later ones in the largest error."""
    state, prompts, answer, found = predictor.encode(volume), (), None, []
    now = np.zeros(mask.shape, dtype=bool)
    for n in range(count):
        place = clicks.next_click(mask & ~now, now & ~mask, generator(1, n))
        if place is not None:
            prompts = (*prompts, Point(tuple(map(float, place[0])), bool(place[1]), 1, "voxel"))
            answer = predictor.decode(state, PromptSet(prompts), answer)
            now = answer.objects[0].mask
        found.append(dice(now, mask))
    return found
