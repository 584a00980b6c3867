"""Honest small checks of tavp (reference-prompt-training-free) on its shipped weights."""
import nibabel
import numpy as np
import pytest
import torch

from promptzoo.core.bundles import get_bundle
from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.inference import load_predictor
from promptzoo.inference.loader import load_network
from promptzoo.prompts import PromptSet, ReferencePrompt
from promptzoo.training.radiographs import SPACING_MM, radiograph

HELD_OUT = 977_000_021
"""No training saw any radiograph; the settings were chosen on others."""
AFFINE = np.diag([*SPACING_MM, 1.0])
LUNGS, RIGHT, LEFT = 0, 1, 2


def asked(predictor, image, references):
    """The mask ``[x, z]`` of an image after finished cases."""
    volume = Volume(image[:, None], Grid((image.shape[0], 1, image.shape[1]), AFFINE))
    return predictor.decode(predictor.encode(volume), PromptSet(references)).objects[0].mask[:, 0]


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Function ``structure -> three reference prompts``, and three other radiographs."""
    folder = tmp_path_factory.mktemp("cases")
    for n in range(3):
        image, masks = radiograph(HELD_OUT + n)
        nibabel.save(nibabel.Nifti1Image(image[:, None], AFFINE), folder / f"{n}.nii.gz")
        for structure in (LUNGS, RIGHT, LEFT):
            nibabel.save(nibabel.Nifti1Image(masks[structure][:, None].astype(np.uint8), AFFINE),
                         folder / f"{n}_{structure}.nii.gz")

    def finished(structure):
        return tuple(ReferencePrompt(str(folder / f"{n}.nii.gz"), str(folder / f"{n}_{structure}.nii.gz"))
                     for n in range(3))

    return finished, [radiograph(HELD_OUT + 3 + n) for n in range(3)]


def test_a_few_cases_adapt_the_prompts_to_a_new_domain(cases, dice):
    """Three radiographs, a domain that training never saw: the prompts adapted to them beside the same prompts as they
    were trained, and beside matching alone. Measured 0.942, 0.867 and 0.890."""
    references, pictures = cases
    predictor = load_predictor("reference_prompt_training_free", engine="torch", variant="tavp")
    matching = load_predictor("reference_prompt_training_free", engine="torch")
    plain = load_predictor("reference_prompt_training_free", engine="torch", variant="tavp")
    plain.adapting = type(plain.adapting)(steps=0)
    before = {name: value.clone() for name, value in predictor.torch_network.state_dict().items()}
    means = [np.mean([dice(asked(one, image, references(LUNGS)), masks[LUNGS]) for image, masks in pictures])
             for one in (predictor, plain, matching)]
    print(means)
    assert means[0] > means[1] + 0.03 and means[0] > means[2] + 0.02, means
    after = predictor.torch_network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before), "the shared network learned"
    for image, masks in pictures[:1]:
        right = asked(plain, image, references(RIGHT))
        assert dice(right, masks[RIGHT]) > dice(right, masks[LEFT]) + 0.5, "the masks of the cases do not decide"


def test_the_base_is_untouched():
    """Only fusion and prompts are in the delta; clicks are answered by the base bit for bit."""
    network, _ = load_network(get_bundle("reference_prompt_training_free"), "tavp")
    base, _ = load_network(get_bundle("sam_box_finetune"))
    own, theirs = network.state_dict(), base.state_dict()
    assert {name.split(".")[0] for name in own.keys() - theirs.keys()} == {"task"}
    assert all(torch.equal(own[name], theirs[name]) for name in theirs)
    tuned = sum(parameter.numel() for parameter in network.tuned())
    assert tuned < 0.12 * sum(parameter.numel() for parameter in base.parameters()), tuned
