"""RT Structure Sets: voxel-exact round trips, holes, and what planning systems read."""
import json

import numpy as np
import pydicom
import pytest

from promptzoo.core.errors import ImageError
from promptzoo.core.geometry import Grid
from promptzoo.data.io import read_image, write_mask
from promptzoo.data.rtstruct import STORAGE, outlines, read_rtstruct, write_rtstruct

from .test_dicom import GEOMETRIES, REAL, real, write_series


@pytest.fixture
def labels():
    """Two regions, one with a hole that touches it at a corner, over several slices."""
    found = np.zeros((7, 6, 5), np.uint8)
    found[1:6, 1:5, 1:4] = 3
    found[2:4, 2:4, 2] = 0
    found[0, 0, 0] = found[6, 5, 4] = 7
    return found


@pytest.mark.parametrize("name", GEOMETRIES)
def test_round_trip_is_voxel_exact(tmp_path, labels, name):
    write_series(tmp_path / "ct", GEOMETRIES[name])
    grid = read_image(tmp_path / "ct").grid
    write_mask(tmp_path / "a.rtstruct.dcm", labels, grid, names={3: "liver", 7: "dots"}, reference=tmp_path / "ct",
               provenance={"session": "s1"})
    found, own, names = read_rtstruct(tmp_path / "a.rtstruct.dcm", tmp_path / "ct")
    assert own.same_space(grid) and names == {3: "liver", 7: "dots"}
    assert np.array_equal(found, labels)
    [maker] = pydicom.dcmread(tmp_path / "a.rtstruct.dcm").ContributingEquipmentSequence
    assert json.loads(maker.ContributionDescription) == {"session": "s1"}


def test_what_a_planning_system_reads(tmp_path, labels):
    write_series(tmp_path / "ct", GEOMETRIES["axial"])
    write_rtstruct(tmp_path / "rs.dcm", labels, read_image(tmp_path / "ct").grid, tmp_path / "ct", names={3: "liver"})
    found = pydicom.dcmread(tmp_path / "rs.dcm")
    assert (found.SOPClassUID, found.Modality, found.PatientID, found.StudyInstanceUID) == (STORAGE, "RTSTRUCT", "P1",
                                                                                            "1.2.3")
    assert [roi.ROIName for roi in found.StructureSetROISequence] == ["liver", "object 7"]
    known = {pydicom.dcmread(path).SOPInstanceUID for path in (tmp_path / "ct").iterdir()}
    for region in found.ROIContourSequence:
        for outline in region.ContourSequence:
            assert outline.ContourGeometricType == "CLOSED_PLANAR"
            assert outline.ContourImageSequence[0].ReferencedSOPInstanceUID in known
            assert len(outline.ContourData) == 3 * outline.NumberOfContourPoints >= 9
    assert len(found.RTROIObservationsSequence) == 2


def test_outlines_run_between_voxels():
    mask = np.zeros((4, 5), bool)
    mask[1, 2] = True
    [outline] = outlines(mask)
    assert sorted(map(tuple, outline)) == [(0.5, 2.0), (1.0, 1.5), (1.0, 2.5), (1.5, 2.0)]


def test_what_cannot_be_written_or_read(tmp_path, labels):
    write_series(tmp_path / "ct", GEOMETRIES["axial"])
    grid = read_image(tmp_path / "ct").grid
    with pytest.raises(ImageError, match="empty mask"):
        write_rtstruct(tmp_path / "x.dcm", labels * 0, grid, tmp_path / "ct")
    other = Grid(grid.shape, grid.affine + np.diag([0.5, 0, 0, 0]))
    with pytest.raises(ImageError):
        write_rtstruct(tmp_path / "x.dcm", labels, other, tmp_path / "ct")
    with pytest.raises(ImageError, match="RT Structure Set"):
        read_rtstruct(next((tmp_path / "ct").iterdir()), tmp_path / "ct")


@real
def test_a_structure_set_of_a_clinic_is_read():
    folder = REAL / "ibsi1_ct_rtstruct"
    [path] = [p for p in folder.glob("*.dcm") if pydicom.dcmread(p, stop_before_pixels=True).Modality == "RTSTRUCT"]
    labels, grid, names = read_rtstruct(path, folder)
    assert names and labels.any() and labels.shape == grid.shape
