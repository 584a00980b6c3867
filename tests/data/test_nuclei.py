"""Procedural nuclei."""
import numpy as np
import pytest

from promptzoo.data.synthesis.nuclei import LEAST_PIXELS, ProceduralNuclei


@pytest.fixture(scope="module")
def source():
    return ProceduralNuclei(96, seed=3)


def test_the_same_seed_gives_the_same_image(source):
    first, second = (source.sample(np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first[0], second[0]) and np.array_equal(first[1], second[1])
    assert first[0].shape == first[1].shape == (96, 96) and 0 <= first[0].min() and first[0].max() <= 1


@pytest.mark.parametrize("bright", (True, False))
def test_nuclei_are_brighter_or_darker_and_numbered(source, bright):
    signs = []
    for n in range(6):
        image, labels = source.sample(np.random.default_rng([7, n]), empty=False, bright=bright)
        sizes = np.bincount(labels.ravel())[1:]
        assert len(sizes) and (sizes >= LEAST_PIXELS).all()
        signs.append(image[labels > 0].mean() - image[labels == 0].mean())
    assert all(s > 0.05 for s in signs) if bright else all(s < -0.05 for s in signs), signs


def test_images_without_nuclei(source):
    image, labels = source.sample(np.random.default_rng(1), empty=True)
    assert not labels.any() and image.std() > 0


def test_some_nuclei_touch(source):
    touching = 0
    for n in range(8):
        _, labels = source.sample(np.random.default_rng([9, n]), empty=False)
        right, down = labels[:, 1:] * labels[:, :-1], labels[1:] * labels[:-1]
        touching += int(((right > 0) & (labels[:, 1:] != labels[:, :-1])).any()
                        or ((down > 0) & (labels[1:] != labels[:-1])).any())
    assert touching >= 4


def test_bad_size():
    with pytest.raises(ValueError, match="16"):
        ProceduralNuclei(16)
