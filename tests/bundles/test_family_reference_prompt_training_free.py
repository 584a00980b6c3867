"""Honest small checks of reference-prompt-training-free (families.md, section 10) on the shipped weights."""
import json

import nibabel
import numpy as np
import pytest

from promptzoo.cli.maintain.measure_reference import copied
from promptzoo.core.errors import NotFoundError, PromptError
from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.inference import load_predictor
from promptzoo.inference.loader import load_network
from promptzoo.inference.reference_cases import ROOT_VARIABLE
from promptzoo.prompts import Point, PromptSet, ReferencePrompt
from promptzoo.training.radiographs import SPACING_MM, radiograph

HELD_OUT = 977_000_011
LUNGS, RIGHT, LEFT = 0, 1, 2
GRID = np.diag([SPACING_MM[0], SPACING_MM[1], SPACING_MM[2], 1.0])


def volume(image):
    """A radiograph ``[x, z]`` as an image."""
    return Volume(image[:, None], Grid((image.shape[0], 1, image.shape[1]), GRID))


def framed(image, masks):
    """The same radiograph with another frame: a tenth is cut off at one side and below."""
    cut = image.shape[0] // 10, image.shape[1] // 12
    return image[cut[0]:, cut[1]:].copy(), [mask[cut[0]:, cut[1]:].copy() for mask in masks]


@pytest.fixture(scope="module")
def pictures():
    """Four procedural radiographs: images and masks; the first is the finished case."""
    return [radiograph(HELD_OUT + n) for n in range(4)]


@pytest.fixture(scope="module")
def finished(pictures, tmp_path_factory):
    """Function ``structure -> reference prompt`` of the first radiograph."""
    folder = tmp_path_factory.mktemp("finished")
    image, masks = pictures[0]
    nibabel.save(nibabel.Nifti1Image(image[:, None], GRID), folder / "image.nii.gz")
    labels = masks[RIGHT].astype(np.uint8) + 2 * masks[LEFT].astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(labels[:, None], GRID), folder / "labels.nii.gz")
    return lambda structure: ReferencePrompt(str(folder / "image.nii.gz"), str(folder / "labels.nii.gz"), structure)


def answered(predictor, image, *prompts):
    """The answer for object 1."""
    return predictor.decode(predictor.encode(volume(image)), PromptSet(prompts)).objects[0]


def test_the_mask_of_the_reference_decides(bundle, predictor, pictures, finished, dice):
    """The same image and reference with the other lung masked: the answer is the other lung."""
    for image, masks in pictures[1:]:
        for wanted, other in ((RIGHT, LEFT), (LEFT, RIGHT)):
            mask = answered(predictor, image, finished(wanted)).mask[:, 0]
            assert dice(mask, masks[wanted]) > dice(mask, masks[other]) + 0.3


def test_better_than_random_points_and_than_a_copied_mask(bundle, pictures, finished, dice):
    """Mean Dice of every working variant on images framed in another way, beside as many random points in the copied
    rectangle and the copy itself."""
    for variant in (name for name, state in bundle.systems.items() if state == "works"):
        predictor = load_predictor(bundle.path, engine="torch", variant=variant)
        scores = {"answer": [], "copy": [], "random": []}
        rng = np.random.default_rng(5)
        for image, masks in (framed(*picture) for picture in pictures[1:]):
            copy = copied(pictures[0][1][RIGHT], masks[RIGHT].shape)
            at = np.argwhere(copy)
            points = [Point((float(x), 0.0, float(z)), True, 1, "voxel")
                      for x, z in rng.integers(at.min(0), at.max(0) + 1, (6, 2))]
            for name, mask in (("answer", answered(predictor, image, finished(RIGHT)).mask[:, 0]), ("copy", copy),
                               ("random", answered(predictor, image, *points).mask[:, 0])):
                scores[name].append(dice(mask, masks[RIGHT]))
        mean = {name: float(np.mean(values)) for name, values in scores.items()}
        assert mean["answer"] > mean["random"] + 0.05 and mean["answer"] > mean["copy"], (variant, mean)


def test_nothing_is_trained(bundle):
    """The network is the base's, tensor by tensor."""
    base, _ = load_network(type(bundle)("sam_box_finetune", bundle.path.parent / "sam_box_finetune", {}))
    own, theirs = load_network(bundle)[0].state_dict(), base.state_dict()
    assert own.keys() == theirs.keys() and all((own[name] == theirs[name]).all() for name in own)


def test_the_prompts_are_shown_and_can_be_edited(bundle, predictor, pictures, finished):
    """What was placed comes back as a prompt set that gives the same mask; a click more changes the answer."""
    image, masks = pictures[1]
    first = answered(predictor, image, finished(RIGHT))
    made = PromptSet.from_json(json.loads(first.info["generated"]))
    assert {p.positive for p in made.of("point")} == {True, False} and len(made.of("point", 1)) >= 2
    again = predictor.decode(predictor.encode(volume(image)), made).objects[0]
    assert np.array_equal(first.mask, again.mask)
    at = np.argwhere(first.mask[:, 0])[len(np.argwhere(first.mask[:, 0])) // 2]
    click = Point((float(at[0]), 0.0, float(at[1])), False, 1, "voxel")
    assert not answered(predictor, image, finished(RIGHT), click).mask[at[0], 0, at[1]]


def test_unlike_images_are_refused(bundle, predictor, pictures, finished):
    """Noise, and a radiograph on its side, get an empty mask and the reason, or a similarity that is much lower."""
    noise = np.random.default_rng(0).normal(0, 50, pictures[1][0].shape).astype(np.float32)
    refused = answered(predictor, noise, finished(RIGHT))
    assert not refused.mask.any() and "too unlike the reference" in refused.info["reason"]
    turned = answered(predictor, np.rot90(pictures[1][0]).copy(), finished(RIGHT))
    assert turned.info["similarity"] < answered(predictor, pictures[1][0], finished(RIGHT)).info["similarity"] - 0.1


def test_files_of_a_reference(bundle, predictor, pictures, finished, monkeypatch, tmp_path):
    """A missing file, a missing label, and, in a server, a file outside its studies are told in one line."""
    good = finished(RIGHT)
    for wrong, error, words in ((ReferencePrompt("/nowhere.nii.gz", good.mask), NotFoundError, "nowhere"),
                                (ReferencePrompt(good.image, good.mask, 7), PromptError, "label 7")):
        with pytest.raises(error, match=words):
            answered(predictor, pictures[1][0], wrong)
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    with pytest.raises(PromptError, match="among the studies"):
        answered(predictor, pictures[1][0], good)


def test_a_volume_is_answered_from_its_most_similar_slice(bundle, predictor, tmp_path, dice):
    """Liver of a procedural torso, from another one; carried through the slices."""
    from promptzoo.training.organs import ORGANS, torso

    cases = [torso(HELD_OUT + n) for n in range(2)]
    data, labels, spacing = cases[0]
    affine = np.diag([*spacing, 1.0])
    wanted = ORGANS.index("liver") + 1
    nibabel.save(nibabel.Nifti1Image(data, affine), tmp_path / "i.nii.gz")
    nibabel.save(nibabel.Nifti1Image(labels, affine), tmp_path / "m.nii.gz")
    data, labels, spacing = cases[1]
    prompt = ReferencePrompt(str(tmp_path / "i.nii.gz"), str(tmp_path / "m.nii.gz"), wanted)
    volume_ = Volume(data, Grid(data.shape, np.diag([*spacing, 1.0])))
    answer = predictor.decode(predictor.encode(volume_), PromptSet((prompt,))).objects[0]
    assert dice(answer.mask, labels == wanted) > 0.4
