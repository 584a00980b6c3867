"""Windows of real images for training: which rows, and what the windows hold."""
import csv

import nibabel
import numpy as np
import pytest
import torch

from promptzoo.core.errors import ImageError, PromptZooError
from promptzoo.evaluation.datalist import Datalist
from promptzoo.training.dataset import ProceduralDataset
from promptzoo.training.real import OpenRows, usable_rows

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


@pytest.fixture
def datalist(tmp_path):
    """A bright and a dark ball in a volume, a disc on an image, and a row whose licence forbids training."""
    grid = np.indices((40, 36, 24))
    bright = ((grid - np.array([12, 14, 10])[:, None, None, None]) ** 2).sum(0) <= 64
    dark = ((grid - np.array([28, 22, 14])[:, None, None, None]) ** 2).sum(0) <= 36
    image = np.random.default_rng(0).normal(100, 5, bright.shape) + 150.0 * bright - 80.0 * dark
    flat, disc = image[:, :, 10:11], bright[:, :, 10:11]
    for name, array in (("scan", image), ("labels", bright + 2 * dark), ("slice", flat), ("disc", disc),
                        ("secret", np.full((30, 30, 1), 7.0)), ("secret_mask", np.ones((30, 30, 1)))):
        nibabel.save(nibabel.Nifti1Image(np.asarray(array, np.float32), AFFINE), tmp_path / f"{name}.nii.gz")
    path = tmp_path / "list.csv"
    with path.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["id", "task", "image", "mask", "label_value", "modality", "licence_class"])
        rows.writerow(["bright", "seg3d", "scan.nii.gz", "labels.nii.gz", 1, "MR", "open"])
        rows.writerow(["dark", "seg3d", "scan.nii.gz", "labels.nii.gz", 2, "MR", "open"])
        rows.writerow(["disc", "seg2d", "slice.nii.gz", "disc.nii.gz", 1, "MR", "open"])
        rows.writerow(["secret", "seg2d", "secret.nii.gz", "secret_mask.nii.gz", 1, "MR", "nc"])
    return path


def test_only_open_rows_are_used(datalist):
    assert [row.id for row in usable_rows(Datalist.read(datalist))] == ["bright", "dark", "disc"]
    assert len(OpenRows(2, datalist).pictures) == 2
    assert len(OpenRows(3, datalist).pictures) == 1, "a 3D network learns nothing from one slice"
    datalist.write_text(datalist.read_text().replace(",open", ",nc"))
    with pytest.raises(PromptZooError, match="rows to train on .*procedural images alone"):
        OpenRows(2, datalist)


@pytest.mark.parametrize("dims", [2, 3])
def test_windows_show_the_object(dims, datalist):
    """Inside and outside of the mask differ as they do in the image, whatever the contrast was made to."""
    source, differences = OpenRows(dims, datalist), []
    for seed in range(12):
        for image, mask in source.sample(np.random.default_rng(seed), 32, 3):
            assert image.shape == mask.shape == (32,) * dims and image.dtype == np.float32 and mask.dtype == bool
            assert -1 <= image.min() < image.max() <= 1 and 0.0 < mask.mean() <= 0.65
            differences.append(abs(image[mask].mean() - image[~mask].mean()))
    assert len(differences) >= 30 and np.quantile(differences, 0.1) > 0.1


def test_windows_depend_on_the_generator_alone(datalist):
    first, second = OpenRows(2, datalist), OpenRows(2, datalist)
    second.sample(np.random.default_rng(9), 32)
    for one, other in zip(first.sample(np.random.default_rng(1), 32), second.sample(np.random.default_rng(1), 32),
                          strict=True):
        assert np.array_equal(one[0], other[0]) and np.array_equal(one[1], other[1])


def test_an_empty_mask_is_told(datalist):
    datalist.write_text(datalist.read_text().replace("labels.nii.gz,2,", "labels.nii.gz,5,"))
    with pytest.raises(ImageError, match="mask of dark"):
        OpenRows(3, datalist)


def test_the_dataset_mixes_them_in(datalist):
    """About the asked share of the scenes is real; without a datalist nothing changes."""
    mixed, plain = (ProceduralDataset(2, 40, 1, 32, seed=2, datalist=path) for path in (str(datalist), ""))
    pure = ProceduralDataset(2, 40, 1, 32, seed=2)
    assert all(torch.equal(plain[n]["image"], pure[n]["image"]) for n in range(3))
    real = ProceduralDataset(2, 40, 1, 32, seed=2, datalist=str(datalist), real_share=1.0)
    shared = sum(torch.equal(mixed[n]["image"], real[n]["image"]) for n in range(40))
    assert 8 <= shared <= 24
