"""Published preprocessing, against numbers worked out by hand."""
import numpy as np
import pytest

from promptzoo.networks.public.catalog import get_public
from promptzoo.networks.public.preprocess import (
    Frame,
    area_weights,
    centred_cube,
    litemedsam,
    longest_side,
    medsam,
    prepared,
    sam,
    sam2,
    sam_med2d,
    to_bytes,
    z_normalised,
)

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def test_ct_is_windowed_to_bytes():
    """Level 40 and width 400: -160 is black, 240 white, 40 half way: 200 / 400 * 255 = 127.5, cut to 127."""
    found = to_bytes(np.array([-1000.0, -160, 0, 40, 240, 3000]), True)
    assert found.tolist() == [0, 0, 102, 127, 255, 255]


def test_other_images_are_cut_at_percentiles_of_what_is_not_zero():
    """Of 1 … 201 the 0.5th percentile is 2 and the 99.5th 200: 101 is half way; zeros stay black."""
    data = np.concatenate([np.zeros(50), np.arange(1, 202)])
    found = to_bytes(data, False)
    assert found[:50].max() == 0
    # 0 is below the lower percentile, so that black is 2 here: (101 - 2) / 198 * 255 = 127.5
    assert (found[50], found[51], found[150], found[249], found[250]) == (0, 0, 127, 255, 255)
    assert to_bytes(np.full((2, 2), 7.0), False).max() == 0


@pytest.mark.parametrize("shape, inner", [((512, 256), (1024, 512)), ((300, 301), (1021, 1024)), ((3, 2), (1024, 683))])
def test_the_longest_side(shape, inner):
    """300 * 1024 / 301 = 1020.6; 2 * 1024 / 3 = 682.67: rounded half up."""
    assert longest_side(*shape, 1024) == inner


def test_sam_normalises_before_it_pads():
    """A grey of 100: (100 - 123.675) / 58.395 = -0.40543 in red; below it zeros, not the colour of black."""
    image, frame = sam(np.full((2, 4), 100.0), 8, MEAN, STD)
    assert image.shape == (3, 8, 8) and image.dtype == np.float32
    assert image[:, 0, 0] == pytest.approx([-0.40543, -0.28501, -0.06153], abs=1e-5)
    assert frame.inner == (4, 8) and np.ptp(image[:, :4], (1, 2)).max() == 0 and not image[:, 4:].any()


def test_sam2_squashes_and_normalises():
    """Black and white columns: 0 and 1, less 0.485, over 0.229."""
    image, frame = sam2(np.array([[0.0, 255.0]] * 4), 2, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert image[0] == pytest.approx(np.array([[-2.11790, 2.24891]] * 2), abs=1e-4)
    assert frame.places(np.array([[1.0, 2.0]])).tolist() == [[1.0, 1.0]]


def test_medsam_goes_from_zero_to_one():
    image, frame = medsam(np.kron([[10.0, 20.0], [30.0, 60.0]], np.ones((8, 8))), 8)
    assert image.shape == (3, 8, 8) and (image.min(), image.max()) == (0, 1)
    assert (image[0] == image[2]).all() and image[0, 0, 0] == pytest.approx(0, abs=0.03)
    assert image[0, 0, -1] == pytest.approx(0.2, abs=0.03)  # (20 - 10) / (60 - 10)
    assert frame.places(np.array([4.0, 12.0])).tolist() == [2.0, 6.0]


def test_areas_are_averaged():
    """Three pixels to two: each new one covers one and a half; two to three: the middle one is half of each."""
    assert area_weights(3, 2) == pytest.approx(np.array([[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]]))
    assert area_weights(2, 3) == pytest.approx(np.array([[1, 0], [0.5, 0.5], [0, 1]]))
    assert area_weights(4, 2).tolist() == [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]


def test_litemedsam_averages_scales_and_pads():
    """Means over 2 x 2: 1 and 3 above, 5 and 9 below; then (v - 1) / 8, beside them zeros."""
    picture = np.kron([[1.0, 3.0], [5.0, 9.0], [1.0, 1.0], [1.0, 1.0]], np.ones((2, 2)))
    image, frame = litemedsam(picture, 4)
    assert image[1].tolist() == [[0, 0.25, 0, 0], [0.5, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert frame.inner == (4, 2)
    assert frame.places(np.array([[3.0, 7.0]])).tolist() == [[1.0, 3.0]], "1.5 and 3.5, cut to whole pixels"


def test_sam_med2d_takes_the_nearest_pixels():
    """Rows 0, 1, 3 and 4 of 6: floor(n * 6 / 4)."""
    image, _ = sam_med2d(np.arange(6.0)[:, None] * np.ones((1, 4)), 4, (0, 0, 0), (1, 1, 1))
    assert image[0, :, 0].tolist() == [0, 1, 3, 4]


def test_masks_come_back_as_published():
    """SAM: over the whole square, then its inner part; LiteMedSAM: the inner part of the small mask."""
    logits = np.where(np.arange(4)[:, None] < 2, 5.0, -5.0) * np.ones((1, 4))  # above in, below out
    over = Frame(8, (4, 8), (4, 8), steps="frame").chance(logits)
    assert over.shape == (4, 8) and (over[:3] > 0.5).all() and 0.5 < over[3].max() < over[0].min()
    inner = Frame(4, (6, 12), (2, 4), whole=True, steps="inner").chance(logits)
    assert inner.shape == (6, 12) and (inner > 0.99).all()
    direct = Frame(8, (4, 6), (8, 8)).chance(logits)
    assert direct.shape == (4, 6) and (direct[:2] > 0.5).all() and (direct[2:] < 0.5).all()
    # Between logits of 5 and -5 the logit is 0 and the chance a half either way; elsewhere they differ.
    chance = Frame(8, (8, 8), (8, 8), steps="chance").chance(logits)
    assert chance[4, 0] == pytest.approx(0.25 / (1 + np.exp(-5.0)) + 0.75 / (1 + np.exp(5.0)), abs=1e-5)


def test_a_mask_to_start_from_lies_where_the_image_lies():
    mask = np.zeros((8, 4))
    mask[:4] = 1
    small = Frame(16, (8, 4), (16, 8), steps="frame").low_resolution(mask, 4)
    assert small.shape == (4, 4) and small[:, 2:].max() == 0
    assert small[0, :2] == pytest.approx([1, 1], abs=0.02) and small[3, :2] == pytest.approx([0, 0], abs=0.02)


def test_every_2d_description_prepares_a_picture():
    picture = np.rint(np.random.default_rng(0).uniform(0, 255, (40, 60)))
    for name in ("sam-vit-b", "sam2.1-tiny", "medsam", "sam-med2d", "mobile-sam", "lite-medsam"):
        how = get_public(name).preprocessing
        image, frame = prepared(picture, how)
        assert image.shape == (3, how["size"], how["size"]) and image.dtype == np.float32 and frame.original == (40, 60)


def test_a_cube_has_its_centre_in_the_middle_and_zeros_outside():
    data = np.arange(24.0).reshape(2, 3, 4) + 1
    cube, start = centred_cube(data, np.array([0, 1.2, 3]), 4)
    assert start.tolist() == [-2, -1, 1] and cube[2, 2, 2] == data[0, 1, 3]
    assert cube.sum() == data[:, :, 1:].sum() and not cube[:2].any()


def test_z_normalisation_looks_at_voxels_above_zero():
    """Of 2, 4 and 6 the mean is 4 and the standard deviation 2 (over n - 1); others are moved along."""
    found = z_normalised(np.array([-10.0, 0, 2, 4, 6], np.float32))
    assert found.tolist() == [-7, -2, -1, 0, 1]
    assert z_normalised(np.zeros(3, np.float32)).tolist() == [0, 0, 0]
