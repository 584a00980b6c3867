"""Metrics against cases worked out by hand."""
import numpy as np
import pytest

from promptzoo.core.errors import PromptZooError
from promptzoo.evaluation import metrics


def slab(start, stop, shape=(20, 20, 20), axis=0):
    mask = np.zeros(shape, dtype=bool)
    np.moveaxis(mask, axis, 0)[start:stop] = True
    return mask


@pytest.mark.parametrize("a, b, dice, iou", [
    ([0, 0, 0], [0, 0, 0], 1.0, 1.0), ([1, 0, 0], [0, 0, 0], 0.0, 0.0), ([0, 0, 0], [0, 1, 0], 0.0, 0.0),
    ([1, 1, 0], [1, 1, 0], 1.0, 1.0), ([1, 1, 0], [0, 1, 1], 0.5, 1 / 3), ([1, 0, 0], [0, 0, 1], 0.0, 0.0)])
def test_overlap_by_hand(a, b, dice, iou):
    assert metrics.dice(np.array(a), np.array(b)) == pytest.approx(dice)
    assert metrics.iou(np.array(a), np.array(b)) == pytest.approx(iou)


def test_overlap_counts_beyond_small_integers():
    big = np.ones((70, 70), dtype=np.uint8)  # 4900 voxels: sums in uint8 would wrap
    assert metrics.dice(big, big) == 1.0


@pytest.mark.parametrize("function", [metrics.dice, metrics.iou])
def test_overlap_refuses_other_shapes(function):
    with pytest.raises(PromptZooError, match="masks of different shape"):
        function(np.zeros((3, 3)), np.zeros((3, 4)))


def test_bounding_box():
    mask = np.zeros((5, 6, 7), dtype=bool)
    assert metrics.bounding_box(mask) is None
    mask[1:3, 4, 2:7] = True
    assert metrics.bounding_box(mask) == (slice(1, 3), slice(4, 5), slice(2, 7))


def test_surface_dice_empty_masks():
    empty, full = np.zeros((4, 4, 4), bool), slab(1, 3, (4, 4, 4))
    assert metrics.surface_dice(empty, empty, (1, 1, 1)) == 1.0
    assert metrics.surface_dice(empty, full, (1, 1, 1)) == 0.0
    assert metrics.surface_dice(full, empty, (1, 1, 1)) == 0.0


def test_surface_dice_uses_the_spacing_of_the_axis():
    """A rod shifted by one voxel along an axis of 3 mm lies 3 mm off: outside 2 mm, inside 3 mm."""
    rod = np.zeros((30, 12, 12), bool)
    rod[:, 5, 5] = True
    moved = np.roll(rod, 1, axis=1)
    tight, loose = ((metrics.surface_dice(moved, rod, (1, 3, 1), tolerance_mm=t)) for t in (1.4, 3.0))
    assert loose == pytest.approx(1.0)
    assert tight < 0.8
    assert metrics.surface_dice(moved, rod, (1, 1, 3), tolerance_mm=1.0) == pytest.approx(1.0)


def test_surface_dice_of_parallel_planes():
    """Slabs of 20 x 20 from 5 to 10 and from 5 to 13: the end faces are 3 mm apart.

    Near (2 mm) of the short one: the shared face 400, its rim 80 x 5, and of the end face what is within 2 mm of the
    other's rim, 400 - 16 x 16. Of the long one: the shared face and its rim up to 12. Edges are rounded off by the
    surface elements, hence the tolerance.
    """
    a, b = slab(5, 10), slab(5, 13)
    near = (400 + 400 + 400 - 256) + (400 + 80 * 7)
    assert metrics.surface_dice(a, b, (1, 1, 1), 2.0) == pytest.approx(near / (800 + 80 * 5 + 800 + 80 * 8), abs=0.03)
    assert metrics.surface_dice(a, b, (1, 1, 1), tolerance_mm=3.0) == pytest.approx(1.0)
    assert metrics.surface_dice(a, b, (0.5, 1, 1), tolerance_mm=1.5) == pytest.approx(1.0)
    assert metrics.surface_dice(a, b, (2, 1, 1), tolerance_mm=3.0) < 0.95


def test_single_slice_is_compared_by_its_contour():
    """A square of 20 mm, one side moved by 4 mm; faces above and below the slice must not count.

    Missed at 2 mm: the old side but for 2 mm at each corner, the new side, and half of the two new stretches of 4 mm.
    """
    a = np.zeros((30, 30, 1), bool)
    a[5:25, 5:25] = True
    b = a.copy()
    b[5:25, 25:29] = True  # one side moved by 4
    value = metrics.surface_dice(b, a, (1, 1, 5), tolerance_mm=2)
    assert value == pytest.approx(1 - (16 + 20 + 2 * 2) / (80 + 88), abs=0.03)
    assert value == pytest.approx(metrics.surface_dice(b[..., 0], a[..., 0], (1, 1), 2))


def test_one_voxel_and_one_row():
    one = np.zeros((9, 9, 9), bool)
    one[4, 4, 4] = True
    assert metrics.surface_dice(one, one, (1, 1, 1), 0.0) == 1.0
    assert metrics.surface_dice(np.roll(one, 1, 0), one, (1, 1, 1)) == 1.0
    assert metrics.surface_dice(np.roll(one, 4, 0), one, (1, 1, 1)) == 0.0
    row = np.zeros((1, 9, 1), bool)
    row[0, 3:5] = True
    assert metrics.surface_dice(row, row, (1, 1, 1)) == 1.0


@pytest.mark.parametrize("shape, spacing", [((18, 24, 12), (1.0, 1.5, 3.0)), ((30, 36), (1.0, 2.5))])
def test_surface_dice_equals_monai(shape, spacing):
    """The same surface elements as google-deepmind/surface-distance, through MONAI's implementation."""
    torch = pytest.importorskip("torch")
    from monai.metrics import compute_surface_dice
    from scipy.ndimage import gaussian_filter
    rng = np.random.default_rng(3)
    a = gaussian_filter(rng.normal(size=shape), 3) > 0
    b = gaussian_filter(a + 0.3 * rng.normal(size=shape), 2) > 0.45
    pair = [torch.tensor(np.stack([~m, m])[None]) for m in (a, b)]
    for tolerance in (1.0, 2.0):
        want = compute_surface_dice(*pair, [tolerance], spacing=spacing, use_subvoxels=True)
        assert metrics.surface_dice(a, b, spacing, tolerance) == pytest.approx(float(want), abs=1e-5)


def test_surface_of_reference_is_reusable():
    a, b = slab(5, 10), slab(6, 12)
    assert metrics.surface_dice(a, metrics.Surface(b, (1, 2, 1)), (1, 2, 1)) == metrics.surface_dice(a, b, (1, 2, 1))


def test_surface_dice_refuses_nonsense():
    with pytest.raises(PromptZooError, match="spacing"):
        metrics.surface_dice(slab(1, 2), slab(1, 2), (1, 1))
    with pytest.raises(PromptZooError, match="tolerance"):
        metrics.surface_dice(slab(1, 2), slab(1, 2), (1, 1, 1), -1)


def test_nsd_is_zero_at_low_dice():
    a = slab(5, 10)
    assert metrics.gated_nsd(a, a, (1, 1, 1), 0.2) == 0.0
    assert metrics.gated_nsd(a, a, (1, 1, 1), 0.21) == 1.0


@pytest.mark.parametrize("values, before, expected", [
    ([0.5, 0.9, 0.95], 0.0, 2), ([0.5, 0.6], 0.0, 3), ([0.1], 0.95, 0), ([], 0.2, 1), ([0.95, 0.2], 0.0, 1)])
def test_number_of_clicks(values, before, expected):
    assert metrics.number_of_clicks(values, before=before) == expected


def test_auc_over_five_clicks_has_maximum_four():
    assert metrics.click_auc([1.0] * 5) == 4.0
    assert metrics.click_auc([0.0, 0.2, 0.4, 0.6, 0.8]) == pytest.approx(1.6)
    assert metrics.click_auc([1.0] * 5 + [0.0] * 5) == 4.0
    assert metrics.click_auc([1.0] * 4) is None


def test_calibration_by_hand():
    """Two bins: estimates .05 (true .25) and .95, .95 (true .85, .95): gaps .2 and .05, weights 1/3 and 2/3."""
    block = metrics.calibration([0.05, 0.95, 0.95, None], [0.25, 0.85, 0.95, 0.0])
    assert block["n"] == 3
    assert block["ece"] == pytest.approx(0.2 / 3 + 0.05 * 2 / 3)
    assert metrics.expected_calibration_error([1.0], [1.0]) == 0.0
    assert metrics.rank_correlation([0.1, 0.2, 0.3], [1, 2, 30]) == pytest.approx(1.0)
    assert metrics.rank_correlation([0.1, 0.2, 0.3], [3, 2, 1]) == pytest.approx(-1.0)
    assert metrics.rank_correlation([0.1, 0.1], [3, 2]) is None
    assert metrics.calibration([None], [0.5]) == {"n": 0, "ece": None, "spearman": None, "mean_estimated": None,
                                                  "mean_true": None}
