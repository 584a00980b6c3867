"""Images in the world."""
import numpy as np
import pytest

from promptzoo.core.errors import ImageError
from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume

GRID = Grid((3, 4, 2), np.diag([1.0, 2.0, 3.0, 1.0]))


def test_intensities_become_contiguous_float32():
    source = np.arange(24, dtype=np.int16).reshape(2, 4, 3).T
    volume = Volume(source, GRID, {"modality": "CT"})
    assert volume.data.dtype == np.float32 and volume.data.flags.c_contiguous
    np.testing.assert_array_equal(volume.data, source)
    assert volume.meta["modality"] == "CT"


def test_array_must_fit_the_grid():
    with pytest.raises(ImageError, match=r"image array does not fit its grid: got \[3, 4\]; allowed: \(3, 4, 2\)"):
        Volume(np.zeros((3, 4)), GRID)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_finite_value(value):
    with pytest.raises(ImageError, match="image without a finite value: got all NaN or infinite; allowed: finite"):
        Volume(np.full(GRID.shape, value), GRID)


def test_nan_becomes_the_lowest_intensity():
    data = np.full(GRID.shape, 5.0)
    data[0, 0, 0], data[1, 1, 1] = np.nan, -2.0
    volume = Volume(data, GRID)
    assert volume.data[0, 0, 0] == -2.0 and np.isfinite(volume.data).all()
    assert np.isnan(data[0, 0, 0])  # the caller's array stays


def test_content_hash_tells_intensities_and_geometry_apart():
    data = np.arange(24.0).reshape(GRID.shape)
    first = Volume(data, GRID).content_hash
    assert len(first) == 64 and first == Volume(data.copy(), Grid(GRID.shape, GRID.affine), {"a": 1}).content_hash
    other = data.copy()
    other[2, 3, 1] += 1
    assert Volume(other, GRID).content_hash != first
    assert Volume(data, Grid(GRID.shape, np.diag([1.0, 2.0, 3.5, 1.0]))).content_hash != first
    flat = Grid((3, 8, 1), GRID.affine)
    assert Volume(data.reshape(flat.shape), flat).content_hash != first
