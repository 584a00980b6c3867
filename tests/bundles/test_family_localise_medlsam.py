"""Honest small checks of medlsam (localise-then-segment) on its shipped weights."""
import numpy as np
import pytest
import torch

from promptzoo.cli.maintain.measure_localise import SEED, bounds, box_iou, finished
from promptzoo.core.bundles import get_bundle
from promptzoo.core.seeding import generator
from promptzoo.data.phantoms import head_mr
from promptzoo.inference import load_predictor
from promptzoo.inference.body_places import cells_of
from promptzoo.inference.loader import load_network
from promptzoo.inference.medlam import patches_at
from promptzoo.networks.medlam import CELL_MM, distance_mm
from promptzoo.prompts import PromptSet
from promptzoo.training.organs import ORGANS, torso

from .torsos import references, volume

ASKED = ("liver", "kidney left", "aorta")


@pytest.fixture(scope="module")
def predictor():
    """The variant on plain torch."""
    return load_predictor("localise_then_segment", engine="torch", variant="medlsam")


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Files of two finished torsos, and a new one: data, labels, spacing."""
    return finished(tmp_path_factory.mktemp("finished")), torso(SEED + 2)


def test_the_latent_coordinate_tells_distances(predictor, cases):
    """Distances between random places of a torso that training never saw, beside the guess that none are apart.
    Measured 20 and 179 mm."""
    data, _, spacing = cases[1]
    cells = cells_of(data, spacing)
    places = generator(SEED).uniform(0.1, 0.9, (2, 24, 3)) * (np.array(cells.data.shape) - 1)
    with torch.inference_mode():
        told = distance_mm(*(predictor.locator(patches_at(cells, one)) for one in places)).numpy()
    true = (np.round(places[1]) - np.round(places[0])) * CELL_MM
    off, guess = np.linalg.norm(told - true, axis=1).mean(), np.linalg.norm(true, axis=1).mean()
    print(off, guess)
    assert off < 0.3 * guess


def test_boxes_come_by_themselves(predictor, cases, dice):
    """IoU of the boxes above that of boxes of the right size in the middle; the left kidney is segmented in its box."""
    names, (data, labels, spacing) = cases
    state, ious = predictor.encode(volume(data, spacing)), []
    for organ in ASKED:
        truth = labels == ORGANS.index(organ) + 1
        box = predictor.propose(state, references(names, organ)).prompts.to_voxel(state.canonical).of("box")[0]
        true = bounds(truth)
        half, middle = (true[1] - true[0]) / 2, np.asarray(truth.shape) / 2
        ious.append((box_iou((np.array(box.low), np.array(box.high)), true),
                     box_iou((middle - half, middle + half), true)))
    print(ious)
    assert np.min(ious, 0)[0] > 0.3 and np.mean(ious, 0)[0] > np.mean(ious, 0)[1] + 0.15, ious
    answer = predictor.decode(state, PromptSet(references(names, "kidney left"))).objects[0]
    assert dice(answer.mask, labels == ORGANS.index("kidney left") + 1) > 0.5


def test_unlike_volumes_get_a_warning(predictor, cases):
    """Upside down, another part of the body, noise: the agents do not meet, so there is no box and a reason."""
    names, (data, _, spacing) = cases
    noise = np.random.default_rng(0).normal(0, 300, data.shape).astype(np.float32)
    for strange in (volume(data[:, :, ::-1], spacing), head_mr(3)[0], volume(noise, spacing)):
        answer = predictor.decode(predictor.encode(strange), PromptSet(references(names, "liver"))).objects[0]
        assert not answer.mask.any() and "too unlike the finished cases" in answer.info["reason"]


def test_only_the_locator_is_trained():
    """The promptable network is the base's, bit for bit."""
    own = load_network(get_bundle("localise_then_segment"), "medlsam")[0].state_dict()
    base = load_network(get_bundle("interactive_refinement_3d"))[0].state_dict()
    assert {name.split(".")[0] for name in own.keys() - base.keys()} == {"locator"}
    assert all(torch.equal(own[name], base[name]) for name in base)
