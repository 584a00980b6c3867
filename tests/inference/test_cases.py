"""Image and prompt files as the input of a bundle's inference."""
import json

import nibabel
import numpy as np
import pytest

from promptzoo.core.errors import ImageError, PromptError
from promptzoo.inference.cases import LoadVolumed, PreparePrompts, prompt_cases
from promptzoo.prompts.types import Point, PromptSet

PROMPTS = PromptSet((Point((1.5, 2, 0), object_id=2),))


@pytest.fixture
def image(tmp_path):
    """A NIfTI file of 3 x 4 x 2 voxels, far from the origin, with a flipped axis."""
    path = tmp_path / "scan.nii.gz"
    affine = np.array([[-2.0, 0, 0, 900], [0, 1, 0, -5], [0, 0, 3, 7], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(np.arange(24, dtype=np.float32).reshape(3, 4, 2), affine), path)
    return path


def test_prompts_as_file_or_text(tmp_path, image):
    document = json.dumps(PROMPTS.to_json())
    path = tmp_path / "prompts.json"
    path.write_text(document)
    for given in (document, "  \n" + document, str(path)):
        (case,) = prompt_cases(str(image), given)
        assert case["image"] == str(image) and PromptSet.from_json(case["prompts"]) == PROMPTS


def test_no_image_no_case():
    assert prompt_cases("", "") == []


@pytest.mark.parametrize("prompts, message", [
    ("", "prompts: got nothing; allowed: a JSON file or JSON text.*--prompts FILE.json"),
    ("missing.json", "prompts: got missing.json"),
    ("{", "prompt set is not JSON"),
    ('{"schema_version": 9}', "prompt set schema_version: got 9"),
])
def test_unusable_prompts(image, prompts, message):
    with pytest.raises(PromptError, match=message):
        prompt_cases(str(image), prompts)


def test_missing_image(tmp_path):
    with pytest.raises(ImageError, match="image: got .*none.nii; allowed: an existing file or DICOM folder"):
        prompt_cases(str(tmp_path / "none.nii"), "{}")


def test_image_becomes_a_tensor_with_its_affine(image):
    loaded = LoadVolumed(["image"])({"image": str(image), "prompts": "{}"})
    tensor = loaded["image"]
    assert tuple(tensor.shape) == (1, 3, 4, 2) and loaded["prompts"] == "{}"
    np.testing.assert_array_equal(np.asarray(tensor[0]), np.arange(24).reshape(3, 4, 2))
    np.testing.assert_array_equal(tensor.affine.numpy(), nibabel.load(image).affine)
    assert tensor.meta["filename_or_obj"] == str(image)


def test_prompts_become_a_keyword_of_the_inferer():
    import torch

    image = torch.zeros(1, 1, 3, 4, 2, dtype=torch.float64)
    inputs, label, args, kwargs = PreparePrompts()({"image": image, "prompts": ("{}",)}, device="cpu")
    assert inputs.shape == image.shape and label is None and args == () and kwargs == {"prompts": ["{}"]}
