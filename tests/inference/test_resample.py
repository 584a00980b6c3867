"""Windows of an image and their way back, by hand."""
import numpy as np
import pytest

from promptzoo.core.errors import GeometryError
from promptzoo.inference.resample import Window, normalise

FLOAT32_TOLERANCE = 1e-5


def identity(shape):
    """The window that is the image."""
    return Window((0.0,) * len(shape), (1.0,) * len(shape), tuple(shape))


@pytest.fixture
def image():
    """A textured volume."""
    return np.random.default_rng(0).random((7, 8, 9)).astype(np.float32)


def test_around_by_hand():
    """8 pixels over 16 voxels around index 10: steps of 2, pixel centres from 3 to 17, faces at 2 and 18."""
    window = Window.around((10.0, 5.0), (16.0, 4.0), (8, 8))
    assert window.step == (2.0, 0.5) and window.origin == (3.0, 3.25) and window.shape == (8, 8)
    assert window.low.tolist() == [2, 3] and window.high.tolist() == [18, 7]
    assert window.to_window(np.array([[3.0, 3.25], [17.0, 6.75]])).tolist() == [[0, 0], [7, 7]]


@pytest.mark.parametrize("sides", [(0.0, 3.0), (3.0, -1.0)])
def test_sides_must_be_positive(sides):
    with pytest.raises(GeometryError, match=r"window sides: got \[.*\]; allowed: positive numbers of voxels"):
        Window.around((1.0, 1.0), sides, (4, 4))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_identity(image, dims):
    image = image[(0,) * (3 - dims)]
    window = identity(image.shape)
    sampled = window.sample(image)
    np.testing.assert_array_equal(sampled, image)
    assert sampled.dtype == np.float32 and sampled.flags.c_contiguous
    offset, back = window.restore(sampled, image.shape)
    assert offset == (0,) * dims
    np.testing.assert_array_equal(back, image)


def test_shift_by_whole_voxels(image):
    np.testing.assert_array_equal(Window((2.0, 1.0, 3.0), (1.0,) * 3, (4, 5, 6)).sample(image), image[2:6, 1:6, 3:9])


def test_shift_by_half_a_voxel_averages_neighbours():
    window = Window((0.5,), (1.0,), (4,))
    np.testing.assert_allclose(window.sample(np.array([0, 10, 20, 60, 80.0])), (5, 15, 40, 70))


def test_beyond_the_image_the_edge_is_repeated():
    sampled = Window((-2.0, -2.0), (1.0, 1.0), (6, 6)).sample(np.array([[1, 2], [3, 4.0]]))
    assert sampled[0].tolist() == [1, 1, 1, 2, 2, 2] and sampled[-1].tolist() == [3, 3, 3, 4, 4, 4]
    far = Window((50.0,), (1.0,), (3,)).sample(np.array([1.0, 2.0]))
    assert far.tolist() == [2, 2, 2]


def test_downsampling_by_two_weighs_neighbours_by_a_triangle():
    """Window pixel 1 at index 2.5: voxels 1 … 4 at distances 1.5, 0.5, 0.5, 1.5 weigh 1, 3, 3, 1 eighths."""
    image = np.array([0, 8, 0, 0, 16, 0, 0, 0.0])
    sampled = Window((0.5,), (2.0,), (4,)).sample(image)
    assert sampled[1] == pytest.approx((1 * 8 + 1 * 16) / 8)
    assert sampled[2] == pytest.approx(3 * 16 / 8)


@pytest.mark.parametrize("step", [0.3, 1.0, 1.7, 4.0])
def test_constants_stay_constant(step):
    window = Window.around((3.0, 4.0, 5.0), (5 * step,) * 3, (5, 5, 5))
    np.testing.assert_allclose(window.sample(np.full((7, 8, 9), 3.5)), 3.5, rtol=FLOAT32_TOLERANCE)
    _, back = window.restore(np.full((5, 5, 5), 0.25, np.float32), (7, 8, 9))
    np.testing.assert_allclose(back, 0.25, rtol=FLOAT32_TOLERANCE)


def test_upsampling_a_ramp_is_linear():
    image = np.arange(10.0)[:, None] + np.zeros((10, 4))
    window = Window((2.0, 0.0), (0.25, 1.0), (9, 4))
    np.testing.assert_allclose(window.sample(image)[:, 1], 2 + 0.25 * np.arange(9), atol=FLOAT32_TOLERANCE)


@pytest.mark.parametrize("step", [(1.0, 1.0, 1.0), (2.0, 1.0, 0.5), (0.5, 1.5, 3.0)])
def test_restore_is_the_inverse_for_linear_images(step):
    """Values linear in the index come back exactly away from the outermost half pixel and the image's edges."""
    shape = (20, 20, 24)
    i, j, k = np.indices(shape)
    image = 2.0 * i - j + 0.5 * k
    window = Window((3.0, 4.0, 5.0), step, (6, 5, 4))
    exact = (2 * (3 + step[0] * np.arange(6))[:, None, None] - (4 + step[1] * np.arange(5))[:, None]
             + 0.5 * (5 + step[2] * np.arange(4)))
    np.testing.assert_allclose(window.sample(image), exact, atol=1e-4)
    offset, back = window.restore(exact, shape)
    centres = [np.arange(o, o + n) for o, n in zip(offset, back.shape)]
    inner = [(c >= o) & (c <= o + s * (n - 1)) for c, o, s, n in zip(centres, window.origin, step, window.shape)]
    assert all(keep.any() for keep in inner)
    full = tuple(slice(o, o + n) for o, n in zip(offset, back.shape))
    np.testing.assert_allclose(back[np.ix_(*inner)], image[full][np.ix_(*inner)], atol=1e-4)


def test_restore_covers_the_voxels_whose_centres_are_inside():
    """Faces at 2.5 and 10.5: voxels 3 … 10; beyond the outermost pixel centres the values stay."""
    offset, back = Window((3.5,), (2.0,), (4,)).restore(np.array([0, 10, 20, 30.0]), (30,))
    assert offset == (3,)
    np.testing.assert_allclose(back, (0, 2.5, 7.5, 12.5, 17.5, 22.5, 27.5, 30))


def test_restore_is_cut_at_the_image():
    offset, back = Window((-3.0, 4.0), (1.0, 1.0), (5, 5)).restore(np.arange(25.0).reshape(5, 5), (10, 6))
    assert offset == (0, 4)
    np.testing.assert_array_equal(back, [[15, 16], [20, 21]])


def test_restore_of_a_window_beside_the_image_is_empty():
    offset, back = Window((20.0,), (1.0,), (4,)).restore(np.ones(4), (10,))
    assert back.size == 0
    assert Window((-20.0,), (1.0,), (4,)).restore(np.ones(4), (10,))[1].size == 0


def test_windows_of_one_pixel():
    assert Window((2.0,), (1.0,), (1,)).sample(np.arange(5.0)).tolist() == [2]
    offset, back = Window((2.0,), (3.0,), (1,)).restore(np.array([7.0]), (5,))
    assert offset == (1,) and back.tolist() == [7, 7, 7]
    assert Window((0.0,), (0.25,), (4,)).sample(np.array([5.0])).tolist() == [5] * 4  # an image of one slice


def test_integer_images_are_sampled_as_float():
    sampled = Window((0.5,), (1.0,), (1,)).sample(np.array([1, 2], np.int16))
    assert sampled.dtype == np.float32 and sampled[0] == 1.5


def test_normalise_maps_the_percentiles_to_minus_one_and_one():
    values = np.linspace(0, 1000, 1001)
    view = normalise(values.reshape(7, 11, 13))
    assert view.dtype == np.float32 and view.min() == -1 and view.max() == 1
    assert view.ravel()[500] == pytest.approx(0, abs=1e-3)
    assert (view.ravel()[:5] == -1).all() and (view.ravel()[-5:] == 1).all()
    assert (normalise(np.full((4, 4), 7.0)) == -1).all()
