"""DICOM series and segmentations: geometry by hand on synthetic series, and on real ones where they are at hand."""
import json
import logging
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from promptzoo.core.errors import ImageError, NotFoundError
from promptzoo.core.geometry import LPS_TO_RAS, Grid, grid_with_codes
from promptzoo.data.anatomy_codes import _ABNORMAL, _ANATOMY, ABNORMAL, ANATOMICAL, SIDES, TISSUE, codes_of
from promptzoo.data.dicom import choose_series, find_series, read_dicom
from promptzoo.data.dicom_provenance import provenance_text, read_provenance
from promptzoo.data.dicom_seg_read import seg_record
from promptzoo.data.io import read_image, read_labels, read_mask, write_mask

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "dicom"
real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real series in {REAL}")

CT, MR, ENHANCED_CT, DX = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.2.1",
                           "1.2.840.10008.5.1.4.1.1.1.1")


def lps(rows_along, columns_along, spacing=(0.8, 1.25, 3.0), origin=(-20.0, -30.0, 40.0), slices_along=None):
    """LPS affine from (column, row, slice) indices: direction of growing columns, of growing rows, spacings, origin."""
    x, y = np.asarray(rows_along, float), np.asarray(columns_along, float)
    z = np.cross(x, y) if slices_along is None else np.asarray(slices_along, float)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([x, y, z], axis=1) * spacing
    affine[:3, 3] = origin
    return affine


T = np.deg2rad(15)
GEOMETRIES = {
    "axial": lps((1, 0, 0), (0, 1, 0)),
    "reversed": lps((-1, 0, 0), (0, 1, 0)),  # the normal points to the feet
    "sagittal": lps((0, 1, 0), (0, 0, -1)),
    "oblique": lps((np.cos(T), np.sin(T), 0), (-np.sin(T) * np.cos(T), np.cos(T) ** 2, -np.sin(T))),
}
SHAPE = (7, 6, 5)  # columns, rows, slices


def dataset(sop_class=CT, **values):
    """A small valid image dataset."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = sop_class
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    data.PatientID, data.PatientName, data.PatientBirthDate, data.PatientSex = "P1", "Test^Phantom", "", "O"
    data.StudyInstanceUID, data.StudyID, data.AccessionNumber, data.StudyDate, data.StudyTime = "1.2.3", "1", "", "", ""
    data.ReferringPhysicianName, data.Modality, data.SeriesInstanceUID, data.SeriesNumber = "", "CT", "1.2.3.4", 1
    data.FrameOfReferenceUID, data.PositionReferenceIndicator, data.Manufacturer = "1.2.3.9", "", "test"
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit = 15
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    for key, value in values.items():
        setattr(data, key, value)
    return data


def put(data, pixels, path):
    """Store pixels ``[rows, columns]`` or ``[frames, rows, columns]`` and write the file."""
    data.Rows, data.Columns = pixels.shape[-2:]
    data.PixelData = np.ascontiguousarray(pixels, np.uint16).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return data


def positions(affine, slices):
    return [(affine @ [0, 0, k, 1])[:3] for k in range(slices)]


def write_series(folder, affine, stored=None, order=None, names="{:03d}.dcm", places=None, **values):
    """A classic series; ``stored`` is ``[column, row, slice]``, file ``n`` holds slice ``order[n]``."""
    stored = np.random.default_rng(1).integers(0, 4000, SHAPE) if stored is None else stored
    places = positions(affine, stored.shape[2]) if places is None else places
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    cosines = affine[:3, :3] / steps
    for n, k in enumerate(range(stored.shape[2]) if order is None else order):
        data = dataset(InstanceNumber=n + 1, ImagePositionPatient=[f"{v:.6f}" for v in places[k]],
                       ImageOrientationPatient=[f"{v:.9f}" for v in (*cosines[:, 0], *cosines[:, 1])],
                       PixelSpacing=[steps[1], steps[0]], SliceThickness=steps[2], RescaleSlope=1,
                       RescaleIntercept=-1024)
        for key, value in values.items():
            setattr(data, key, value(k) if callable(value) else value)
        put(data, stored[:, :, k].T, folder / names.format(n))
    return stored


@pytest.fixture
def blob():
    """Two objects on the test grid, labels 3 and 7; the outer slices are empty."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:4, 2:5, 1:3], labels[5, 0:2, 2:4] = 3, 7
    return labels


# images

@pytest.mark.parametrize("name", GEOMETRIES)
def test_geometry_and_order(tmp_path, name):
    affine = GEOMETRIES[name]
    stored = write_series(tmp_path / "s", affine, order=[3, 0, 4, 2, 1])
    volume = read_image(tmp_path / "s")
    assert np.array_equal(volume.data, stored - 1024.0)
    assert volume.grid == Grid(SHAPE, LPS_TO_RAS @ affine)
    assert volume.meta["modality"] == "CT" and volume.meta["frame_of_reference_uid"] == "1.2.3.9"
    uids = {pydicom.dcmread(f).SOPInstanceUID: f.name for f in (tmp_path / "s").iterdir()}
    assert [uids[u] for u in volume.meta["sop_instance_uids"]] == [f"00{n}.dcm" for n in (1, 4, 3, 0, 2)]


def test_axial_by_hand(tmp_path):
    write_series(tmp_path / "s", GEOMETRIES["axial"])
    grid = read_image(tmp_path / "s").grid
    assert grid.axis_codes == ("L", "P", "S") and np.allclose(grid.spacing_mm, (0.8, 1.25, 3.0))
    assert np.allclose(grid.to_world((2, 1, 4)), (-(-20 + 1.6), -(-30 + 1.25), 40 + 12))


def test_other_axis_codes_by_hand(tmp_path):
    for name, codes in (("reversed", ("R", "P", "I")), ("sagittal", ("P", "I", "R"))):
        write_series(tmp_path / name, GEOMETRIES[name])  # sagittal: (0, 1, 0) x (0, 0, -1) = (-1, 0, 0) in LPS: right
        assert read_image(tmp_path / name).grid.axis_codes == codes


def test_each_slice_has_its_own_scaling(tmp_path):
    stored = np.full(SHAPE, 10)
    write_series(tmp_path / "s", GEOMETRIES["axial"], stored, RescaleSlope=lambda k: k + 1,
                 RescaleIntercept=lambda k: -k)
    assert read_image(tmp_path / "s").data[0, 0].tolist() == [10, 19, 28, 37, 46]


def test_monochrome1_is_inverted(tmp_path):
    stored = write_series(tmp_path / "s", GEOMETRIES["axial"], PhotometricInterpretation="MONOCHROME1",
                          RescaleIntercept=0)
    volume = read_image(tmp_path / "s")
    assert volume.meta["inverted"] and np.array_equal(volume.data, stored.max() + stored.min() - stored)


def test_tilted_gantry_is_a_shear(tmp_path):
    affine = lps((1, 0, 0), (0, 1, 0), slices_along=(0, 0.3, 1))
    stored = write_series(tmp_path / "s", affine)
    volume = read_image(tmp_path / "s")
    assert np.array_equal(volume.data, stored - 1024.0) and volume.grid == Grid(SHAPE, LPS_TO_RAS @ affine)
    labels = (stored > 3000) * 1
    path = write_mask(tmp_path / "seg.dcm", labels, volume.grid, reference=tmp_path / "s")
    assert np.array_equal(read_labels(path, reference=tmp_path / "s")[0], labels)


def test_one_file_is_one_slice(tmp_path):
    stored = write_series(tmp_path / "s", GEOMETRIES["axial"])
    volume = read_image(tmp_path / "s" / "003.dcm")
    assert volume.grid.shape == (7, 6, 1) and np.array_equal(volume.data[..., 0], stored[..., 3] - 1024.0)
    assert np.allclose(volume.grid.spacing_mm, (0.8, 1.25, 3.0))
    assert np.allclose(volume.grid.to_world((0, 0, 0)), (20, 30, 49))
    (tmp_path / "s" / "003.dcm").rename(tmp_path / "nosuffix")
    assert read_image(tmp_path / "nosuffix").grid == volume.grid


def test_image_without_position(tmp_path):
    put(dataset(DX, Modality="DX", ImagerPixelSpacing=[0.2, 0.3]), np.arange(12).reshape(3, 4), tmp_path / "x.dcm")
    grid = read_image(tmp_path / "x.dcm").grid
    assert grid.shape == (4, 3, 1) and grid.axis_codes == ("L", "P", "S")
    assert np.allclose(grid.spacing_mm, (0.3, 0.2, 1))


def test_repeated_files_localizers_and_foreign_files_are_ignored(tmp_path):
    folder = tmp_path / "s"
    stored = write_series(folder, GEOMETRIES["axial"])
    (folder / "copy.dcm").write_bytes((folder / "001.dcm").read_bytes())
    (folder / "notes.txt").write_text("hello")
    scout = dataset(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], ImagePositionPatient=[0, 0, 0],
                    ImageOrientationPatient=[0, 1, 0, 0, 0, -1], PixelSpacing=[1, 1])
    put(scout, np.zeros((9, 9)), folder / "scout.dcm")
    put(dataset(Modality="RTDOSE"), np.zeros((50, 50)), folder / "dose.dcm")
    assert np.array_equal(read_image(folder).data, stored - 1024.0)


def test_enhanced_multiframe(tmp_path):
    affine, stored = GEOMETRIES["oblique"], np.random.default_rng(2).integers(0, 999, SHAPE)
    path, order = tmp_path / "e.dcm", [2, 0, 1, 4, 3]
    write_enhanced(path, affine, stored, order)
    volume = read_image(path)
    assert volume.grid == Grid(SHAPE, LPS_TO_RAS @ affine)
    assert np.array_equal(volume.data, stored * (np.arange(5) + 1.0) - 7)
    assert volume.meta["frame_numbers"] == (2, 3, 1, 5, 4)
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:4, 1:3, 1:3] = 2
    seg = write_mask(tmp_path / "seg.dcm", labels, volume.grid, reference=path)
    assert np.array_equal(read_mask(seg, reference=path)[0], labels)
    frames = pydicom.dcmread(seg).PerFrameFunctionalGroupsSequence
    sources = [f.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber for f in frames]
    assert sorted(sources) == [1, 3]  # slices 1 and 2 lie in stored frames 3 and 1


def write_enhanced(path, affine, stored, order):
    """An enhanced CT whose frame ``n`` holds slice ``order[n]`` with slope ``slice + 1`` and intercept -7."""
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    cosines = affine[:3, :3] / steps

    def sequence(**values):
        item = Dataset()
        for key, value in values.items():
            setattr(item, key, value)
        return [item]

    data = dataset(ENHANCED_CT, NumberOfFrames=stored.shape[2], InstanceNumber=1)
    shared, frames = Dataset(), []
    shared.PixelMeasuresSequence = sequence(PixelSpacing=[steps[1], steps[0]], SliceThickness=steps[2])
    shared.PlaneOrientationSequence = sequence(
        ImageOrientationPatient=[f"{v:.9f}" for v in (*cosines[:, 0], *cosines[:, 1])])
    for k in order:
        item = Dataset()
        item.PlanePositionSequence = sequence(ImagePositionPatient=[f"{v:.6f}" for v in positions(affine, 5)[k]])
        item.PixelValueTransformationSequence = sequence(RescaleSlope=k + 1, RescaleIntercept=-7, RescaleType="US")
        frames.append(item)
    data.SharedFunctionalGroupsSequence, data.PerFrameFunctionalGroupsSequence = [shared], frames
    put(data, stored[:, :, order].transpose(2, 1, 0), path)


# images that need a choice, or cannot be used

def test_several_volumes(tmp_path):
    folder, affine = tmp_path / "s", GEOMETRIES["axial"]
    early = write_series(folder, affine, np.full(SHAPE, 5), names="a{}.dcm", TemporalPositionIdentifier=1)
    late = write_series(folder, affine, np.full(SHAPE, 9), names="b{}.dcm", TemporalPositionIdentifier=2)
    with pytest.raises(ImageError, match=r"s holds 2 volumes.*Choose one: 's#t=0' … '#t=1'"):
        read_image(folder)
    assert np.array_equal(read_image(f"{folder}#t=0").data, early - 1024.0)
    volume = read_image(folder, frame=1)
    assert np.array_equal(volume.data, late - 1024.0)
    with pytest.raises(ImageError, match="volume index for s: got 2"):
        read_image(folder, frame=2)
    seg = write_mask(tmp_path / "seg.dcm", late > 0, volume.grid, reference=f"{folder}#t=1")
    named = {i.ReferencedSOPInstanceUID for i in pydicom.dcmread(seg).ReferencedSeriesSequence[0]
             .ReferencedInstanceSequence}
    assert named == set(volume.meta["sop_instance_uids"])


def test_cine_needs_a_choice(tmp_path):
    data = dataset("1.2.840.10008.5.1.4.1.1.3.1", Modality="US", NumberOfFrames=3)
    put(data, np.arange(3)[:, None, None] + np.zeros((3, 4, 5)), tmp_path / "cine.dcm")
    with pytest.raises(ImageError, match="holds 3 images without position"):
        read_image(tmp_path / "cine.dcm")
    assert (read_image(f"{tmp_path / 'cine.dcm'}#t=2").data == 2).all()


@pytest.mark.parametrize("places, message", [
    ([0, 3, 6, 12, 15], r"slices are missing: got 1 behind \[-20.0, -30.0, 46.0\] mm; allowed: a slice every 3 mm"),
    ([0, 3, 6, 9.2, 12], r"slices are not evenly spaced: got 2.8 to 3.2 mm.*equal to 1%"),
    ([0, 3, 6, 6, 9], r"positions occur unequally often: got 1 to 2 images per position.*46.0\] mm")])
def test_uneven_stacks(tmp_path, places, message):
    where = [np.array([-20.0, -30, 40 + z]) for z in places]
    write_series(tmp_path / "s", GEOMETRIES["axial"], places=where)
    with pytest.raises(ImageError, match=message):
        read_image(tmp_path / "s")


def test_rounded_positions_are_accepted(tmp_path):
    where = [np.array([-20.0, -30, 40 + z]) for z in (0, 3.01, 6, 8.99, 12)]
    write_series(tmp_path / "s", GEOMETRIES["axial"], places=where)
    assert read_image(tmp_path / "s").grid.spacing_mm[2] == pytest.approx(3.0)


def test_images_that_do_not_stack(tmp_path):
    write_series(tmp_path / "s", GEOMETRIES["axial"])
    write_series(tmp_path / "s", GEOMETRIES["sagittal"], names="x{}.dcm")
    with pytest.raises(ImageError, match="images of one series do not form a stack.*folders of their own"):
        read_image(tmp_path / "s")


def test_mixed_series(tmp_path):
    folder = tmp_path / "s"
    write_series(folder / "big", GEOMETRIES["axial"], SeriesInstanceUID="1.2.1", SeriesDescription="thin")
    small = write_series(folder / "small", GEOMETRIES["axial"], np.ones((7, 6, 3)), SeriesInstanceUID="1.2.2",
                         Modality="PT")
    volume = read_image(folder)
    assert volume.meta["series_uid"] == "1.2.1" and volume.meta["other_series"] == ("PT 3 x 7 x 6 1.2.2",)
    assert [s.uid for s in find_series(folder)] == ["1.2.1", "1.2.2"]
    assert np.array_equal(read_dicom(folder, series_uid="1.2.2").data, small - 1024.0)
    with pytest.raises(NotFoundError, match="series in s: got 9.9; allowed: CT 'thin' 5 x 7 x 6 1.2.1; PT"):
        choose_series(folder, "9.9")
    write_series(folder / "equal", GEOMETRIES["axial"], SeriesInstanceUID="1.2.3")
    with pytest.raises(ImageError, match="several equally large series: got CT 'thin'.*1.2.3.*series_uid"):
        read_image(folder)


def test_folders_without_images(tmp_path):
    with pytest.raises(ImageError, match="no DICOM image in .*: got 0 file"):
        read_image(tmp_path)
    (tmp_path / "a.txt").write_text("no")
    put(dataset("1.2.840.10008.5.1.4.1.1.66.4", Modality="SEG"), np.ones((2, 2)), tmp_path / "seg.dcm")
    with pytest.raises(ImageError, match="1 file.s., only SEG.*read_mask"):
        read_image(tmp_path)
    with pytest.raises(NotFoundError, match="DICOM file or folder"):
        find_series(tmp_path / "nowhere")


def test_pixels_that_are_not_there(tmp_path):
    write_series(tmp_path / "s", GEOMETRIES["axial"])
    data = pydicom.dcmread(tmp_path / "s" / "002.dcm")
    data.PixelData = data.PixelData[:20]
    data.save_as(tmp_path / "s" / "002.dcm")
    with pytest.raises(ImageError, match="cannot decode the pixels of 002.dcm.*Explicit VR Little Endian"):
        read_image(tmp_path / "s")


# segmentations

@pytest.mark.parametrize("name", GEOMETRIES)
def test_seg_returns_voxel_exact(tmp_path, blob, name):
    write_series(tmp_path / "s", GEOMETRIES[name], order=[4, 1, 0, 3, 2])
    grid = read_image(tmp_path / "s").grid
    path = write_mask(tmp_path / "out" / "seg.dcm", blob, grid, names={3: "Liver", 7: "kidney left"},
                      reference=tmp_path / "s")
    labels, found, names = read_labels(path, reference=tmp_path / "s")
    assert found == grid and np.array_equal(labels, blob) and names == {3: "Liver", 7: "kidney left"}
    own, cropped, _ = read_labels(path)  # without reference: the slices that the file holds
    assert own.shape == (7, 6, 3) and cropped.same_space(Grid((7, 6, 3), grid.affine @ np.array(
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]])))
    assert np.array_equal(own, blob[:, :, 1:4])
    mask, _ = read_mask(path, 7, reference=grid)
    assert np.array_equal(mask, blob == 7)


def test_seg_holds_exactly_the_segments_present(tmp_path, blob):
    write_series(tmp_path / "s", GEOMETRIES["axial"])
    volume = read_image(tmp_path / "s")
    path = write_mask(tmp_path / "seg.dcm", blob, volume.grid, reference=tmp_path / "s",
                      names={1: "spleen", 3: "Liver", 7: "kidney left"}, provenance={"clicks": 2})
    data = pydicom.dcmread(path)
    assert data.Modality == "SEG" and data.SegmentationType == "BINARY"
    assert [s.SegmentNumber for s in data.SegmentSequence] == [1, 2]
    liver, kidney = data.SegmentSequence
    assert liver.SegmentLabel == "Liver" and liver.SegmentedPropertyTypeCodeSequence[0].CodeValue == "10200004"
    kind = kidney.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodeValue, kind.CodeMeaning) == ("64033007", "Kidney")
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert kidney.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "123037004"
    assert data.NumberOfFrames == 4  # two slices per object, empty ones left out
    assert data.StudyInstanceUID == "1.2.3" and data.FrameOfReferenceUID == "1.2.3.9" and data.PatientID == "P1"
    wanted = {1: volume.meta["sop_instance_uids"][1:3], 2: volume.meta["sop_instance_uids"][2:4]}
    for number, uids in wanted.items():
        named = [f.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
                 for f in data.PerFrameFunctionalGroupsSequence
                 if f.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number]
        assert sorted(named) == sorted(uids)
    assert seg_record(data) == {"label_values": [3, 7], "names": {"3": "Liver", "7": "kidney left"}, "clicks": 2}
    assert json.loads((tmp_path / "seg.json").read_text())["clicks"] == 2
    assert not [element for element in data.iterall() if element.tag.is_private]


def test_a_long_record_keeps_what_tells_most():
    record = {"label_values": [3], "session": "abc", "prompts": ["x" * 20000], "digest": "d"}
    text = provenance_text(record)
    assert read_provenance(text) == {"label_values": [3], "session": "abc", "digest": "d", "left_out": ["prompts"]}
    assert len(provenance_text({"names": {str(n): "y" * 40 for n in range(99)}, "session": "abc"}, 1024)) <= 1024
    assert read_provenance("of others") == {} and read_provenance(provenance_text({"é": 1})) == {"é": 1}


def test_seg_of_a_mask_in_another_axis_order(tmp_path, blob):
    write_series(tmp_path / "s", GEOMETRIES["oblique"])
    grid = read_image(tmp_path / "s").grid
    move, other = grid_with_codes(grid, ("S", "R", "A"))
    path = write_mask(tmp_path / "seg.dcm", move.array(blob), other, reference=tmp_path / "s")
    assert np.array_equal(read_mask(path, reference=tmp_path / "s")[0], blob)


def test_boolean_mask_and_unknown_names(tmp_path, blob):
    write_series(tmp_path / "s", GEOMETRIES["axial"])
    grid = read_image(tmp_path / "s").grid
    path = write_mask(tmp_path / "seg.dcm", blob > 0, grid, reference=tmp_path / "s")
    labels, _, names = read_labels(path, reference=tmp_path / "s")
    assert np.array_equal(labels, blob > 0) and names == {1: "object 1"}
    path = write_mask(tmp_path / "u.dcm", blob, grid, reference=tmp_path / "s", names={3: "肝臓", 7: "Rand\\x" * 20})
    names = read_labels(path)[2]
    assert names[3] == "肝臓" and len(names[7]) == 64


def test_patient_names_survive(tmp_path, blob):
    write_series(tmp_path / "s", GEOMETRIES["axial"], SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jürgen")
    path = write_mask(tmp_path / "u.dcm", blob, read_image(tmp_path / "s").grid, reference=tmp_path / "s",
                      names={3: "肝臓"})
    assert str(pydicom.dcmread(path).PatientName) == "Müller^Jürgen"


def test_seg_that_cannot_be_written(tmp_path, blob):
    write_series(tmp_path / "s", GEOMETRIES["axial"])
    grid = read_image(tmp_path / "s").grid
    with pytest.raises(ImageError, match="empty mask for DICOM SEG: got no voxel marked.*nii.gz"):
        write_mask(tmp_path / "seg.dcm", np.zeros(SHAPE, bool), grid, reference=tmp_path / "s")
    with pytest.raises(NotFoundError, match="image or mask file: got .*nowhere"):
        write_mask(tmp_path / "seg.dcm", blob, grid, reference=tmp_path / "nowhere")
    with pytest.raises(ImageError, match="mask is not aligned with the image"):
        write_mask(tmp_path / "seg.dcm", blob, Grid(SHAPE, np.diag([2.0, 2, 2, 1])), reference=tmp_path / "s")
    write_series(tmp_path / "s" / "more", GEOMETRIES["sagittal"], SeriesInstanceUID="1.2.77")
    with pytest.raises(ImageError, match=r"no series in s has the grid of the mask.*1.2.77.*7 x 6 x 5 voxels"):
        write_mask(tmp_path / "seg.dcm", blob, Grid(SHAPE, np.diag([2.0, 2, 2, 1])), reference=tmp_path / "s")
    assert not (tmp_path / "seg.dcm").exists()


def test_seg_finds_its_series_in_a_mixed_folder(tmp_path, blob):
    folder = tmp_path / "s"
    coarse = lps((1, 0, 0), (0, 1, 0), spacing=(1.6, 2.5, 3.0))
    write_series(folder / "a", GEOMETRIES["axial"], np.zeros((20, 20, 5)), SeriesInstanceUID="1.2.1")
    write_series(folder / "b", GEOMETRIES["axial"], SeriesInstanceUID="1.2.2")  # shares voxel centres with a
    write_series(folder / "c", coarse, SeriesInstanceUID="1.2.3")
    for uid in ("1.2.2", "1.2.3"):
        grid = read_image(folder, series_uid=uid).grid
        path = write_mask(tmp_path / "seg.dcm", blob, grid, reference=folder)
        assert pydicom.dcmread(path).ReferencedSeriesSequence[0].SeriesInstanceUID == uid
        labels, found, _ = read_labels(path, reference=folder)
        assert found == grid and np.array_equal(labels, blob)
    path = write_mask(tmp_path / "seg.dcm", blob, read_image(folder, series_uid="1.2.2").grid, reference=folder,
                      series_uid="1.2.1")
    assert pydicom.dcmread(path).ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.1"


def test_seg_on_sloppy_headers(tmp_path, blob, caplog):
    with pydicom.config.disable_value_validation():
        write_series(tmp_path / "s", GEOMETRIES["axial"], StudyID="a study id of more than 16 characters")
        for file in (tmp_path / "s").iterdir():
            data = pydicom.dcmread(file)
            del data.PatientBirthDate, data.FrameOfReferenceUID, data.AccessionNumber
            data.SpecificCharacterSet = ""
            data.save_as(file)
    grid = read_image(tmp_path / "s").grid
    with caplog.at_level(logging.WARNING):
        path = write_mask(tmp_path / "seg.dcm", blob, grid, reference=tmp_path / "s")
    assert "shortened in the SEG: StudyID" in caplog.text
    assert np.array_equal(read_mask(path, reference=tmp_path / "s")[0], blob)
    assert pydicom.dcmread(path).StudyID == "a study id of mo"


def test_seg_on_an_image_without_position(tmp_path):
    data = dataset(DX, Modality="DX", ImagerPixelSpacing=[0.2, 0.3])
    del data.FrameOfReferenceUID
    put(data, np.arange(12).reshape(3, 4), tmp_path / "x.dcm")
    grid = read_image(tmp_path / "x.dcm").grid
    labels = np.zeros(grid.shape, np.uint8)
    labels[1:3, 1, 0], labels[0, 0, 0] = 4, 2
    path = write_mask(tmp_path / "seg.dcm", labels, grid, reference=tmp_path / "x.dcm")
    assert np.array_equal(read_labels(path, reference=tmp_path / "x.dcm")[0], labels)
    assert np.array_equal(read_labels(path)[0], labels)


def test_files_that_are_no_segmentation(tmp_path):
    write_series(tmp_path / "s", GEOMETRIES["axial"])
    with pytest.raises(ImageError, match="DICOM SEG in s: got none; allowed: one DICOM SEG file"):
        read_mask(tmp_path / "s")


def test_codes_are_those_of_the_standard():
    from pydicom.sr._concepts_dict import concepts

    known = {code for entries in concepts["SCT"].values() for code in entries}
    for table in (_ABNORMAL, _ANATOMY, SIDES, {"": ANATOMICAL, "a": ABNORMAL, "b": TISSUE}):
        assert {code for code, _ in table.values()} <= known
    assert codes_of("Left kidney tumour") == (ABNORMAL, ("108369006", "Neoplasm"), SIDES["left"])
    assert codes_of("lung upper lobe right")[1:] == (("39607008", "Lung"), SIDES["right"])
    assert codes_of("something else") == (TISSUE, TISSUE, None)


# real series

@real
def test_real_ct_agrees_with_dcmqi():
    folder = REAL / "dcmqi_ct3_seg"
    labels, grid, names = read_labels(folder / "liver.dcm", reference=folder)
    mask, other = read_mask(folder / "liver_seg.nrrd")
    assert grid == other and np.array_equal(labels, mask) and names == {1: "Liver"}


@real
def test_real_ct_agrees_with_nifti():
    ct = read_image(REAL / "sts002_ct_mr_pet_rtstruct")
    nifti = read_image(REAL.parent / "ibsi_sts" / "STS_002_CT_image.nii.gz")
    assert ct.meta["modality"] == "CT" and len(ct.meta["other_series"]) == 2
    assert np.array_equal(onto(nifti, ct.grid), ct.data)


def onto(volume, grid):
    from promptzoo.data.arrays import onto_grid

    return onto_grid(volume.data, volume.grid, grid)


@real
@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_real_series_carry_segmentations(tmp_path, modality):
    folder = REAL / "sts002_ct_mr_pet_rtstruct"
    uid = next(s.uid for s in find_series(folder) if s.modality == modality)
    volume = read_image(folder, series_uid=uid)
    labels = (volume.data > np.percentile(volume.data, 97)).astype(np.uint8)
    path = write_mask(tmp_path / "seg.dcm", labels, volume.grid, reference=folder)
    found, grid, _ = read_labels(path, reference=folder)
    assert grid == volume.grid and np.array_equal(found, labels)


@real
@pytest.mark.parametrize("name, shape", [
    ("highdicom/dx_image.dcm", (211, 169, 1)), ("pydicom_data/eCT_Supplemental.dcm", (512, 512, 2)),
    ("pydicom_data/gdcm-US-ALOKA-16.dcm", (640, 480, 1)), ("lungmask", (512, 512, 2))])
def test_real_single_files(name, shape):
    volume = read_image(REAL / name)
    assert volume.grid.shape == shape and np.isfinite(volume.data).all() and np.ptp(volume.data) > 0
