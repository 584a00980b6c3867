"""Phantoms: same bits from the same seed, organs where they belong, and sample studies that read back."""
import csv
import functools

import numpy as np
import pytest

from promptzoo.core.errors import PromptZooError
from promptzoo.data import phantoms
from promptzoo.data.io import read_image, read_mask
from promptzoo.data.phantom_shapes import capsule, ellipsoid, smooth_max, smooth_min, smooth_noise, tilted, tube
from promptzoo.data.phantoms import head_mr, inner_point, microscopy_nuclei, torso_ct, ultrasound_cyst

SMALL_TORSO = {"shape": (96, 72, 56), "spacing_mm": (4.0, 4.0, 5.0)}
SMALL_HEAD = {"shape": (66, 82, 60), "spacing_mm": (2.8, 2.8, 3.0)}
SMALL = {"torso": functools.partial(torso_ct, **SMALL_TORSO), "head": functools.partial(head_mr, **SMALL_HEAD),
         "ultrasound": functools.partial(ultrasound_cyst, shape=(96, 80)),
         "nuclei": functools.partial(microscopy_nuclei, shape=(96, 80))}


@pytest.fixture(scope="module")
def torso():
    return SMALL["torso"](3)


@pytest.fixture(scope="module")
def head():
    return SMALL["head"](3)


def middle(volume, labels, value):
    """World centre of a label, RAS mm."""
    return volume.grid.to_world(np.argwhere(labels == value)).mean(axis=0)


@pytest.mark.parametrize("kind", SMALL)
def test_a_seed_gives_the_same_bits(kind):
    first = SMALL[kind](5)
    np.random.seed(0)
    np.random.random(7)
    again, other = SMALL[kind](5), SMALL[kind](6)
    assert first[0].content_hash == again[0].content_hash and np.array_equal(first[1], again[1])
    assert first[0].content_hash != other[0].content_hash and not np.array_equal(first[1], other[1])


@pytest.mark.parametrize("kind", SMALL)
def test_labels_and_names_agree(kind):
    volume, labels, names = SMALL[kind](4)
    assert labels.shape == volume.grid.shape and labels.dtype == np.uint8
    assert set(names) == set(np.unique(labels)) - {0}
    assert volume.meta["modality"] in ("CT", "MR", "US", "microscopy")


def test_torso_is_in_hounsfield_units(torso):
    volume, labels, names = torso
    mean = {name: float(volume.data[labels == value].mean()) for value, name in names.items()}
    assert 80 < mean["liver"] < 130 and 90 < mean["spleen"] < 140 and 120 < mean["kidney left"] < 200
    assert mean["aorta"] > 140 and mean["lung left"] < -650 and mean["spine"] > 200
    assert volume.data.min() >= -1024 and volume.data.max() <= 3071
    assert np.array_equal(volume.data, np.round(volume.data))
    assert abs(np.median(volume.data[:4]) + 1000) < 30  # air around the body


def test_organs_lie_where_they_belong(torso):
    volume, labels, names = torso
    place = {name: middle(volume, labels, value) for value, name in names.items()}
    assert volume.grid.axis_codes == ("L", "P", "S")
    assert place["liver"][0] > 25 and place["spleen"][0] < -60  # x grows to the right
    assert place["kidney right"][0] > 30 and place["kidney left"][0] < -30
    assert place["spine"][1] < -30 and place["stomach"][1] > 0  # y grows to the front
    assert place["lung right"][2] > place["liver"][2] > place["kidney right"][2]  # z grows to the head
    assert {"liver", "spleen", "kidney right", "kidney left", "aorta", "stomach", "gallbladder"} <= set(names.values())


def test_torso_without_some_organs():
    volume, labels, names = torso_ct(0, (40, 30, 24), (8.0, 8.0, 3.0))
    assert set(names) == set(np.unique(labels)) - {0} and volume.grid.shape == (40, 30, 24)


def test_head_contrast(head):
    volume, labels, names = head
    mean = {name: float(volume.data[labels == value].mean()) for value, name in names.items()}
    assert mean["white matter"] > mean["gray matter"] + 50 > mean["ventricles"] + 100
    place = {name: middle(volume, labels, value) for value, name in names.items()}
    assert place["tumor"][0] < -15 and place["eye right"][0] > 15 and place["cerebellum"][1] < -25
    assert volume.grid.axis_codes == ("R", "A", "S") and volume.data.min() >= 0


def test_flat_phantoms():
    volume, labels, names = ultrasound_cyst(1)
    assert volume.grid.shape == (384, 320, 1) and names == {1: "cyst", 2: "nodule"}
    inside, around = volume.data[labels == 1].mean(), volume.data[labels == 0].mean()
    assert inside < 0.5 * around
    volume, labels, names = microscopy_nuclei(1)
    assert len(names) > 20 and volume.data[labels > 0].mean() > 2 * volume.data[labels == 0].mean()


@pytest.mark.parametrize("make, message", [
    (lambda: torso_ct(0, (10, 40, 40)), r"phantom shape: got \[10, 40, 40\]; allowed: at least 24"),
    (lambda: head_mr(0, (40, 40, 40), (1, 0, 1)), "phantom spacing.*positive millimetres"),
    (lambda: ultrasound_cyst(0, pixel_mm=-1.0), "phantom spacing"),
    (lambda: microscopy_nuclei(0, (20, 40)), "phantom shape"),
    (lambda: torso_ct(-1), "seed: got .*non-negative"),
    (lambda: inner_point(np.zeros((3, 3, 3), bool)), "inner point of an empty mask")])
def test_what_is_refused(make, message):
    with pytest.raises(PromptZooError, match=message):
        make()


def test_inner_point():
    mask = np.zeros((9, 9, 9), bool)
    mask[2:7, 1:6, 3:8] = True
    assert inner_point(mask) == (4, 3, 5)
    flat = np.zeros((9, 9, 1), bool)
    flat[0:5, 2:7] = True
    assert inner_point(flat) == (2, 4, 0)
    one = np.zeros((4, 4, 4), bool)
    one[3, 0, 2] = True
    assert inner_point(one) == (3, 0, 2)


def test_sample_studies(tmp_path, monkeypatch):
    for name, kind in (("torso_ct", "torso"), ("head_mr", "head"), ("ultrasound_cyst", "ultrasound"),
                       ("microscopy_nuclei", "nuclei")):
        monkeypatch.setattr(phantoms, name, SMALL[kind])
    records = phantoms.write_sample_studies(tmp_path / "studies", seed=2)
    assert sorted(p.name for p in (tmp_path / "studies").iterdir()) == [
        "head_mr.nii.gz", "nuclei.png", "torso_ct.nii.gz", "ultrasound_cyst.nii.gz"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [".studies_truth", "studies"]
    for record, kind in zip(records, SMALL):
        volume, labels, names = SMALL[kind](2)
        image, (mask, grid) = read_image(record["image"]), read_mask(record["mask"])
        assert image.grid == grid == volume.grid and np.array_equal(mask, labels) and record["names"] == names
        assert np.array_equal(image.data, volume.data)
        for value, name in names.items():
            assert labels[tuple(record["clicks"][name])] == value
    index = tmp_path / ".studies_truth" / "index.csv"
    with index.open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == sum(len(r["names"]) for r in records)
    for row in rows:
        assert (index.parent / row["image"]).is_file() and (index.parent / row["mask"]).is_file()
        assert read_mask(index.parent / row["mask"], int(row["label_value"]))[0].any()
    chosen = phantoms.write_sample_studies(tmp_path / "again", tmp_path / "truth", seed=2)
    assert (tmp_path / "truth" / "index.csv").is_file() and len(chosen) == 4
    same = [(tmp_path / d / "torso_ct.nii.gz").read_bytes() for d in ("studies", "again")]
    assert same[0] == same[1]


# the drawing tools, by hand

def at(shape, *points):
    x, y, z = (np.array(c, dtype=np.float32) for c in zip(*points))
    return shape(x, y, z)


def test_distances_by_hand():
    assert np.allclose(at(ellipsoid((1, 0, 0), (5, 5, 5)), (1, 0, 7), (6, 0, 0), (1, 4, 0)), (2, 0, -1), atol=1e-5)
    cylinder = ellipsoid((0, 0, 0), (3, 3, np.inf))
    assert np.allclose(at(cylinder, (5, 0, 900), (0, 1, -900)), (2, -2), atol=1e-5)
    assert np.allclose(at(capsule((0, 0, 0), (10, 0, 0), 1, 3), (5, 6, 0), (-4, 0, 0), (13, 0, 0)), (4, 3, 0))
    assert np.allclose(at(capsule((2, 2, 2), (2, 2, 2), 1), (2, 2, 5)), 2)
    assert np.allclose(at(tube([(0, 0, 0), (10, 0, 0), (10, 10, 0)], (1, 1, 1)), (0, 5, 0), (10, 14, 0)), (4, 3))
    lying = tilted((0, 0, 0), (2, 4, 8), np.pi / 2, 0.0)  # the long axis turned into x
    assert np.allclose(at(lying, (8, 0, 0), (0, 4, 0), (0, 0, 2)), 0, atol=1e-4)


def test_smooth_union():
    a, b = np.array([0.0, 1.0, 9.0]), np.array([0.0, 6.0, 1.0])
    assert np.allclose(smooth_min(a, b, 4.0), (-1.0, 1.0, 1.0)) and np.allclose(smooth_max(a, b, 4.0), (1.0, 6.0, 9.0))


def test_smooth_noise():
    rng = np.random.default_rng(0)
    field = smooth_noise((40, 30, 20), (8, 8, 4), rng)
    assert field.shape == (40, 30, 20) and abs(field.mean()) < 1e-4 and field.std() == pytest.approx(1, abs=1e-3)
    for axis, least in ((0, 0.95), (1, 0.95), (2, 0.85)):
        line = np.moveaxis(field, axis, 0)
        assert np.corrcoef(line[:-1].ravel(), line[1:].ravel())[0, 1] > least
