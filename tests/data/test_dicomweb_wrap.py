"""Files of other formats as DICOM series: geometry by hand, values, identifiers, the voxel mapping."""
from io import BytesIO

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from PIL import Image

from promptzoo.core.errors import GeometryError, NotFoundError
from promptzoo.core.geometry import LPS_TO_RAS, Grid
from promptzoo.data.dicom import read_dicom
from promptzoo.data.dicomweb import wrapped
from promptzoo.data.dicomweb.query import Query
from promptzoo.data.dicomweb.store import DicomStore
from promptzoo.data.dicomweb.voxels import voxel_map
from promptzoo.data.dicomweb.wrap import encoding_of
from promptzoo.data.io import read_image, read_labels, write_mask
from promptzoo.data.phantoms import torso_ct

SHAPE = (4, 5, 3)
T = np.deg2rad(20)
POSITION_TOLERANCE_MM = 1e-4
"""Decimal strings of 16 characters and float32 affines of NIfTI."""


def ras(i, j, k, origin=(10, 20, 30)):
    """RAS affine from the steps of three axes in mm."""
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = np.array([i, j, k], float).T, origin
    return affine


# name: affine; axis of columns, rows, slices; slices turned; ImageOrientationPatient and first position in LPS, by hand
BY_HAND = {
    "axial": (ras((2, 0, 0), (0, 3, 0), (0, 0, 4)), (0, 1, 2), False, (-1, 0, 0, 0, -1, 0), (-10, -20, 30)),
    "reversed": (ras((2, 0, 0), (0, 3, 0), (0, 0, -4)), (0, 1, 2), True, (-1, 0, 0, 0, -1, 0), (-10, -20, 22)),
    "left-handed": (ras((-2, 0, 0), (0, 3, 0), (0, 0, 4)), (0, 1, 2), True, (1, 0, 0, 0, -1, 0), (-10, -20, 38)),
    "dicom-like": (ras((-2, 0, 0), (0, -3, 0), (0, 0, 4)), (0, 1, 2), False, (1, 0, 0, 0, 1, 0), (-10, -20, 30)),
    "sagittal": (ras((0, 2, 0), (0, 0, 3), (4, 0, 0)), (0, 1, 2), False, (0, -1, 0, 0, 0, 1), (-10, -20, 30)),
    "coronal": (ras((2, 0, 0), (0, 0, 3), (0, 4, 0)), (0, 1, 2), True, (-1, 0, 0, 0, 0, 1), (-10, -28, 30)),
    "anisotropic": (ras((0.5, 0, 0), (0, 0.75, 0), (0, 0, 7)), (0, 1, 2), False, (-1, 0, 0, 0, -1, 0), (-10, -20, 30)),
    "oblique": (ras((2 * np.cos(T), 2 * np.sin(T), 0), (-3 * np.sin(T), 3 * np.cos(T), 0), (0, 0, 4)), (0, 1, 2), False,
                (-np.cos(T), -np.sin(T), 0, np.sin(T), -np.cos(T), 0), (-10, -20, 30)),
    "tilted": (ras((2, 0, 0), (0, 3, 0), (0, 1, 4)), (0, 1, 2), False, (-1, 0, 0, 0, -1, 0), (-10, -20, 30)),
    "sheared in plane": (ras((2, 1, 0), (0, 3, 0), (0, 0, 4)), (0, 2, 1), True,
                         (-2 / 5 ** 0.5, -1 / 5 ** 0.5, 0, 0, 0, 1), (-10, -32, 30)),
}


def numbered(shape=SHAPE):
    """Every voxel another value, some of them negative."""
    return (np.arange(np.prod(shape)).reshape(shape) * 7 - 100).astype(np.int16)


def nifti(path, data, affine):
    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def headers(store, link):
    return [pydicom.dcmread(BytesIO(b"".join(store.file(one))))
            for one in store.instances(link.study_uid, link.series_uid)]


@pytest.mark.parametrize("name", BY_HAND)
def test_geometry_by_hand(name, tmp_path):
    affine, order, turned, orientation, first = BY_HAND[name]
    data = numbered()
    nifti(tmp_path / "studies" / "case.nii.gz", data, affine)
    store = DicomStore(tmp_path / "studies")
    link = store.link("case")
    assert link.voxels.move.order == order
    assert link.voxels.move.flips == (False, False, turned)
    slices = headers(store, link)
    assert [s.InstanceNumber for s in slices] == list(range(1, SHAPE[order[2]] + 1))
    np.testing.assert_allclose(slices[0].ImageOrientationPatient, orientation, atol=1e-6)
    np.testing.assert_allclose(slices[0].ImagePositionPatient, first, atol=POSITION_TOLERANCE_MM)
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    np.testing.assert_allclose(slices[0].PixelSpacing, (steps[order[1]], steps[order[0]]), rtol=1e-6)
    for number, dataset in enumerate(slices):  # every corner of every slice, by the formula of PS3.3 C.7.6.2.1.1
        k = SHAPE[order[2]] - 1 - number if turned else number
        for column, row in ((0, 0), (SHAPE[order[0]] - 1, 0), (0, SHAPE[order[1]] - 1), (1, 2)):
            index = np.empty(3)
            index[list(order)] = column, row, k
            cosines = np.array(dataset.ImageOrientationPatient, float).reshape(2, 3)
            place = (np.array(dataset.ImagePositionPatient, float) + cosines[0] * dataset.PixelSpacing[1] * column
                     + cosines[1] * dataset.PixelSpacing[0] * row)
            wanted = (LPS_TO_RAS @ affine @ [*index, 1])[:3]
            np.testing.assert_allclose(place, wanted, atol=POSITION_TOLERANCE_MM)
            intensity = dataset.pixel_array[row, column] * dataset.RescaleSlope + dataset.RescaleIntercept
            assert intensity == data[tuple(index.astype(int))]


@pytest.mark.parametrize("name", BY_HAND)
def test_readers_see_the_series_as_the_voxel_map_says(name, tmp_path):
    affine, data = BY_HAND[name][0], numbered()
    nifti(tmp_path / "studies" / "case.nii.gz", data, affine)
    store = DicomStore(tmp_path / "studies")
    link = store.link("case")
    folder = store.export(link.series_uid, tmp_path / "out")
    volume = read_dicom(folder)
    assert volume.grid.same_space(link.voxels.series)
    assert np.array_equal(volume.data, link.voxels.array_to_series(data))
    assert np.array_equal(link.voxels.array_to_image(volume.data), data)
    if name not in ("tilted", "sheared in plane"):  # ITK has no shear
        image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
        assert np.array_equal(sitk.GetArrayFromImage(image).transpose(2, 1, 0), volume.data)
        far = tuple(int(n) - 1 for n in volume.data.shape)
        place = np.array(image.TransformIndexToPhysicalPoint(far)) * (-1, -1, 1)
        np.testing.assert_allclose(place, volume.grid.to_world(far), atol=1e-3)


@pytest.mark.parametrize("name", BY_HAND)
def test_voxel_indices_go_both_ways(name):
    voxels = voxel_map(Grid(SHAPE, BY_HAND[name][0]))
    index = np.array([[0, 0, 0], [3, 4, 2], [1.25, 2, 0.5]])
    there = voxels.to_series(index)
    np.testing.assert_array_equal(voxels.to_image(there), index)
    np.testing.assert_allclose(voxels.series.to_world(there), voxels.image.to_world(index), atol=1e-9)
    marked = np.zeros(SHAPE, bool)
    marked[3, 1, 2] = True
    assert [list(i) for i in np.argwhere(voxels.array_to_series(marked))] == [list(voxels.to_series([3, 1, 2]))]
    steps = voxels.series.directions
    assert np.cross(steps[:, 0], steps[:, 1]) @ steps[:, 2] > 0


def test_shear_in_every_plane_is_refused_and_listed(tmp_path):
    affine = ras((2, 1, 0.5), (0, 3, 1), (0, 0, 4))
    with pytest.raises(GeometryError, match="sheared in every plane.*Resample"):
        voxel_map(Grid(SHAPE, affine))
    nifti(tmp_path / "case.nii", numbered(), affine)
    store = DicomStore(tmp_path)
    assert store.search("study", Query({})) == []
    assert "sheared" in store.skipped["case.nii"]
    with pytest.raises(NotFoundError, match="sheared"):
        store.link("case")


@pytest.mark.parametrize("shape, stacked", [((1, 5, 4), 0), ((5, 1, 4), 1), ((5, 4, 1), 2), ((1, 1, 4), 1)])
def test_one_slice_lies_across_the_axis_of_one_voxel(shape, stacked):
    move = voxel_map(Grid(shape, np.diag([2.0, 3.0, 4.0, 1.0]))).move
    assert move.order[2] == stacked


@pytest.mark.parametrize("values, expected", [
    ([-1024, 0, 3071], ("<i2", "1", "0")), ([0, 255], ("<i2", "1", "0")), ([0, 65535], ("<u2", "1", "0")),
    ([-40000, 20000], ("<u2", "1", "-40000")), ([100000, 100001], ("<u2", "1", "100000")),
    ([2.5, 2.5], ("<u2", "1.0", "2.5")), ([0, 0.5, 1.5], ("<u2", "0.5", "0.0"))])
def test_encoding_of_whole_and_regular_values(values, expected):
    assert encoding_of(np.array(values, dtype=np.float32)) == expected


@pytest.mark.parametrize("kind, tolerance_steps", [("scaled", 0.02), ("real", 0.5001)])
def test_real_values_come_back_within_the_step(kind, tolerance_steps, tmp_path):
    rng = np.random.default_rng(1)
    data = rng.normal(size=(20, 21, 22)).astype(np.float32)
    if kind == "scaled":
        data = (np.round(data * 1000) * 0.0123 + 4.56).astype(np.float32)
    nifti(tmp_path / "case.nii.gz", data, np.eye(4))
    store = DicomStore(tmp_path)
    link = store.link("case")
    back = link.voxels.array_to_image(read_dicom(store.export(link.series_uid, tmp_path / ".out")).data)
    step = float(headers(store, link)[0].RescaleSlope)
    assert np.abs(back - data).max() <= tolerance_steps * step
    assert kind == "real" or step == pytest.approx(0.0123, rel=1e-4)


def test_ct_in_hounsfield_units_is_exact(tmp_path):
    volume = torso_ct(1, (48, 40, 28), (8.0, 8.0, 10.0))[0]
    hu = np.round(volume.data).astype(np.int16)
    nifti(tmp_path / "ct.nii.gz", hu, volume.grid.affine)
    store = DicomStore(tmp_path)
    link = store.link("ct")
    first = headers(store, link)[0]
    assert (first.Modality, first.SOPClassUID.name) == ("CT", "CT Image Storage")
    assert (first.RescaleSlope, first.RescaleIntercept, first.RescaleType) == (1, 0, "HU")
    back = link.voxels.array_to_image(read_dicom(store.export(link.series_uid, tmp_path / ".out")).data)
    assert np.array_equal(back, hu)


def test_pictures_become_one_secondary_capture(tmp_path):
    rng = np.random.default_rng(2)
    colour = rng.integers(0, 255, (5, 7, 3), dtype=np.uint8)  # rows, columns
    Image.fromarray(colour).save(tmp_path / "colour.png")
    Image.fromarray(colour[..., 0]).save(tmp_path / "grey.png")
    store = DicomStore(tmp_path)
    for name in ("colour", "grey"):
        link = store.link(name)
        dataset, = headers(store, link)
        assert dataset.SOPClassUID.name == "Secondary Capture Image Storage" and dataset.Modality == "OT"
        assert np.array_equal(dataset.pixel_array, colour if name == "colour" else colour[..., 0])
        assert list(dataset.ImageOrientationPatient) == [1, 0, 0, 0, 1, 0]  # upright
        assert list(link.voxels.to_series([6, 4, 0])) == [6, 4, 0]
        assert read_dicom(store.export(link.series_uid, tmp_path / f".{name}")).data.shape == (7, 5, 1)


def test_identifiers_follow_content_and_name(tmp_path):
    for folder, name, data in (("a", "x", numbered()), ("b", "x", numbered()), ("c", "y", numbered()),
                               ("d", "x", numbered() + 1)):
        nifti(tmp_path / folder / f"{name}.nii", data, np.eye(4))
    a, b, c, d = (DicomStore(tmp_path / folder).link(name) for folder, name in zip("abcd", "xxyx"))
    assert (a.study_uid, a.series_uid) == (b.study_uid, b.series_uid)
    assert len({a.series_uid, c.series_uid, d.series_uid, a.study_uid, c.study_uid, d.study_uid}) == 6
    assert max(len(link.series_uid) for link in (a, b, c, d)) <= 64
    again = DicomStore(tmp_path / "a")  # from the kept plans
    assert again.link("x").series_uid == a.series_uid and again.image_of(a.series_uid) == "x"


def test_volumes_are_read_once_and_bounded(tmp_path, monkeypatch):
    for number in range(3):
        nifti(tmp_path / f"v{number}.nii", numbered((16, 16, 16)) + number, np.eye(4))
    store = DicomStore(tmp_path, cache_bytes=2 * 16 ** 3 * 2)
    store.refresh()
    read = []
    monkeypatch.setattr(wrapped, "read_image", lambda path: read.append(path.name) or read_image(path))
    for _ in range(2):
        for number in range(2):
            link = store.link(f"v{number}")
            for one in store.instances(link.study_uid):
                list(store.frames(one, [1])[1])
    assert read == ["v0.nii", "v1.nii"]
    link = store.link("v2")
    list(store.file(store.instances(link.study_uid)[0]))
    assert read == ["v0.nii", "v1.nii", "v2.nii"] and store._pixels.held_bytes == 2 * 16 ** 3 * 2


def test_a_volume_changed_behind_the_index_is_refused(tmp_path):
    path = nifti(tmp_path / "v.nii", numbered(), np.eye(4))
    store = DicomStore(tmp_path, rescan_s=1000)
    link = store.link("v")
    one = store.instances(link.study_uid)[0]
    nifti(path, numbered((5, 5, 5)), np.eye(4))
    with pytest.raises(NotFoundError, match="changed or is gone"):
        list(store.frames(one, [1])[1])
    store.refresh(force=True)
    assert store.link("v").study_uid != link.study_uid


@pytest.mark.parametrize("name", ["left-handed", "oblique", "sagittal"])
def test_a_mask_of_the_image_becomes_a_seg_in_its_study_and_back(name, tmp_path):
    path = nifti(tmp_path / "studies" / "case.nii.gz", numbered(), BY_HAND[name][0])
    store = DicomStore(tmp_path / "studies")
    link = store.link("case")
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:3, 2, 0], mask[0, 0, 2] = 1, 2
    folder = store.export(link.series_uid, tmp_path / "source")
    write_mask(tmp_path / "seg.dcm", mask, read_image(path).grid, names={1: "liver", 2: "spleen"}, reference=folder)
    instance, new = store.store((tmp_path / "seg.dcm").read_bytes(), link.study_uid)
    assert new and instance.study_uid == link.study_uid
    assert instance.path == tmp_path / "studies" / "labels" / "dicom" / f"{instance.sop_uid}.dcm"
    modalities = [s["00080060"]["Value"][0] for s in store.search("series", Query({}), link.study_uid)]
    assert sorted(modalities) == ["MR", "SEG"]
    back, _, names = read_labels(instance.path, reference=read_image(path).grid)
    assert np.array_equal(back, mask) and names == {1: "liver", 2: "spleen"}
