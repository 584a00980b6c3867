"""Procedural images: reproducible from a generator alone, of the promised shapes, ranges and sizes."""
import random

import numpy as np
import pytest
from PIL import Image

from promptzoo.data.synthesis import Procedural2D, Procedural3D
from promptzoo.data.synthesis.__main__ import contact_sheet, main, samples
from promptzoo.data.synthesis.targets import AREA_2D, AREA_3D, AREA_MOST

SOURCES = {2: lambda seed=0: Procedural2D(48, seed), 3: lambda seed=0: Procedural3D(32, seed)}
SEEDS = range(6)


@pytest.fixture(scope="module")
def sources():
    """A generator of each dimension, made once."""
    return {dims: make() for dims, make in SOURCES.items()}


@pytest.fixture(scope="module")
def scenes(sources):
    """A few scenes of each dimension."""
    return {dims: [source.sample(np.random.default_rng(seed)) for seed in SEEDS] for dims, source in sources.items()}


def same(first, second):
    """Whether two lists of samples hold the same bits."""
    return len(first) == len(second) and all(
        np.array_equal(a, b) for pair in zip(first, second) for a, b in zip(*pair))


@pytest.mark.parametrize("dims", [2, 3])
def test_seeds(dims, sources, scenes):
    """Another source of the same seed draws the same bits, whatever was drawn before and the global state is."""
    fresh = SOURCES[dims]()
    np.random.seed(3)
    random.seed(3)
    state = np.random.get_state()[1].copy(), random.getstate()
    for seed in reversed(SEEDS[:3]):
        assert same(fresh.sample(np.random.default_rng(seed)), scenes[dims][seed])
    np.testing.assert_array_equal(np.random.get_state()[1], state[0])
    assert random.getstate() == state[1]
    np.random.seed(4)
    random.seed(4)
    assert same(sources[dims].sample(np.random.default_rng(0)), scenes[dims][0])


@pytest.mark.parametrize("dims", [2, 3])
def test_other_seeds_differ(dims, scenes):
    images = [found[0][0] for found in scenes[dims]]
    assert not any(np.array_equal(a, b) for n, a in enumerate(images) for b in images[:n])


def test_the_seed_of_the_banks_counts_in_2d(scenes):
    assert not all(same(SOURCES[2](1).sample(np.random.default_rng(s)), scenes[2][s]) for s in SEEDS[:3])


@pytest.mark.parametrize("dims, size, least", [(2, 48, AREA_2D), (3, 32, AREA_3D)])
def test_shapes_types_ranges_and_areas(dims, size, least, scenes):
    for found in scenes[dims]:
        for image, mask in found:
            assert image.shape == mask.shape == (size,) * dims
            assert image.dtype == np.float32 and mask.dtype == bool
            assert np.isfinite(image).all() and image.min() >= -1 and image.max() <= 1 and np.ptp(image) > 0.2
            assert least <= mask.mean() <= AREA_MOST
            assert image.flags.c_contiguous and mask.flags.c_contiguous


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("wanted", [1, 2, 5])
def test_number_of_targets(dims, wanted, sources):
    counts = [len(sources[dims].sample(np.random.default_rng(seed), wanted)) for seed in range(4)]
    assert 1 <= min(counts) and max(counts) <= wanted
    if wanted == 1:
        assert counts == [1] * 4


@pytest.mark.parametrize("dims", [2, 3])
def test_bad_arguments(dims, sources):
    with pytest.raises(ValueError, match="window size: got 31; allowed: at least 32 pixels"):
        (Procedural2D if dims == 2 else Procedural3D)(31)
    with pytest.raises(ValueError, match="number of targets: got 0; allowed: at least 1"):
        sources[dims].sample(np.random.default_rng(0), 0)


def test_contact_sheet_of_slices(tmp_path):
    tiles = samples(3, 32, 7, three_d=True)
    assert all(image.shape == mask.shape == (32, 32) and mask.any() for image, mask in tiles)
    path = contact_sheet(tmp_path / "a" / "sheet.png", tiles, columns=2)
    with Image.open(path) as picture:
        assert picture.size == (320, 320)
        colours = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    assert (colours[:, 1] > colours[:, 0] + 60).any()  # green outlines


def test_contact_sheet_command(tmp_path, capsys):
    for name in ("one.png", "two.png"):
        main(["--out", str(tmp_path / name), "--three-d", "--size", "32", "--count", "1", "--seed", "2"])
    assert capsys.readouterr().out.split() == [str(tmp_path / "one.png"), str(tmp_path / "two.png")]
    assert np.array_equal(*(np.asarray(Image.open(tmp_path / name)) for name in ("one.png", "two.png")))


@pytest.mark.parametrize("wrong", [["--seed", "-1"], ["--count", "0"]])
def test_contact_sheet_refuses(wrong, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path / "x.png"), *wrong])
    assert "--seed must be at least 0 and --count at least 1" in capsys.readouterr().err
