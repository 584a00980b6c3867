"""Honest small checks of localise-then-segment (families.md, section 7) on the shipped weights."""
import json

import numpy as np
import pytest

from promptzoo.cli.maintain.measure_localise import ASKED, SEED, bounds, box_iou, finished
from promptzoo.prompts import Point, PromptSet
from promptzoo.training.organs import ORGANS, torso

from .torsos import references, volume


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Files of two finished torsos, and a new one: data, labels, spacing."""
    return finished(tmp_path_factory.mktemp("finished")), torso(SEED + 2)


def test_boxes_come_by_themselves(bundle, predictor, cases, dice):
    """Box IoU above that of a box of the right size in the middle; the middle is near; the voted mask fits."""
    names, (data, labels, spacing) = cases
    state, ious = predictor.encode(volume(data, spacing)), []
    for organ in ASKED:
        truth = labels == ORGANS.index(organ) + 1
        place = predictor.propose(state, references(names, organ))
        box, true = place.prompts.to_voxel(state.canonical).of("box")[0], bounds(truth)
        half, middle = (true[1] - true[0]) / 2, np.asarray(truth.shape) / 2
        ious.append((box_iou((np.array(box.low), np.array(box.high)), true),
                     box_iou((middle - half, middle + half), true)))
        off = np.linalg.norm((np.add(box.low, box.high) - np.add(*true)) / 2 * spacing)
        assert off < 30 and dice(place.voted, truth) > 0.4, organ
    assert np.min(ious, 0)[0] > 0.35 and np.mean(ious, 0)[0] > np.mean(ious, 0)[1] + 0.2, ious


def test_the_answer_and_its_prompts(bundle, predictor, cases, dice):
    """The left kidney without a click; what was placed comes back, gives the same mask, and can be edited."""
    names, (data, labels, spacing) = cases
    truth = labels == ORGANS.index("kidney left") + 1
    state = predictor.encode(volume(data, spacing))
    answer = predictor.decode(state, PromptSet(references(names, "kidney left"))).objects[0]
    assert dice(answer.mask, truth) > 0.7
    made = PromptSet.from_json(json.loads(answer.info["generated"]))
    assert made.kinds == {"box", "point", "mask"}
    assert np.array_equal(predictor.decode(state, made).objects[0].mask, answer.mask)
    at = np.argwhere(answer.mask)[answer.mask.sum() // 2]
    away = Point(tuple(state.source.to_world(at)), False, 1)
    assert not predictor.decode(state, made.adding(away)).objects[0].mask[tuple(at)]


def test_unlike_volumes_get_a_warning(bundle, predictor, cases):
    """Upside down, another part of the body, noise: an empty mask and the reason, no guess."""
    from promptzoo.data.phantoms import head_mr

    names, (data, _, spacing) = cases
    noise = np.random.default_rng(0).normal(0, 100, data.shape).astype(np.float32)
    for strange in (volume(data[:, :, ::-1], spacing), head_mr(3)[0], volume(noise, spacing)):
        answer = predictor.decode(predictor.encode(strange), PromptSet(references(names, "liver"))).objects[0]
        assert not answer.mask.any() and "too unlike the finished cases" in answer.info["reason"]
