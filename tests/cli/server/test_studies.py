"""Folders of studies: flat ones as they are, others as a view in the cache."""
import os

import numpy as np
import pytest

from promptzoo.cli.server.studies import LABELS, LISTING, prepare_studies
from promptzoo.core.errors import NotFoundError
from promptzoo.core.geometry import Grid
from promptzoo.data.io import read_image
from promptzoo.data.nifti import write_nifti

pydicom = pytest.importorskip("pydicom")
UID = "1.2.826.0.1.3680043.10.511.3.1"


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMPTZOO_CACHE", str(tmp_path / "cache"))


def put_image(path):
    """A small NIfTI file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(path, np.arange(60, dtype=np.int16).reshape(3, 4, 5), Grid((3, 4, 5), np.diag([1.0, 2, 3, 1])))


def put_series(folder, uid=UID, slices=4, modality="CT", suffix=".dcm"):
    """An oblique series; pixel value = 100 * slice + 10 * row + column - 1000."""
    folder.mkdir(parents=True, exist_ok=True)
    cosines = np.array([[0.8, 0.6, 0], [-0.6, 0.8, 0]])
    for number in range(slices):
        data = pydicom.Dataset()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"{uid}.{number + 1}"
        data.SeriesInstanceUID, data.StudyInstanceUID, data.Modality = uid, "1.2.3", modality
        data.Rows, data.Columns, data.InstanceNumber = 5, 6, slices - number
        data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit, data.RescaleSlope, data.RescaleIntercept = 15, 1, -1000
        data.PixelSpacing, data.SliceThickness = [0.7, 0.9], 2.5
        data.ImageOrientationPatient = [*cosines[0], *cosines[1]]
        data.ImagePositionPatient = [10.0, -20.0, 2.5 * number]
        rows, columns = np.indices((5, 6))
        data.PixelData = (100 * number + 10 * rows + columns).astype(np.uint16).tobytes()
        data.save_as(folder / f"slice{(number * 3) % slices}{suffix}", enforce_file_format=True)


def test_a_flat_folder_is_used_as_it_is(tmp_path):
    put_image(tmp_path / "st" / "a.nii.gz")
    (tmp_path / "st" / "notes.txt").write_text("x")
    put_image(tmp_path / "st" / LABELS / "final" / "a.nii.gz")
    studies = prepare_studies(tmp_path / "st")
    assert studies.folder == studies.source and list(studies.images) == ["a"]


def test_sub_folders_and_clashing_names_get_a_view(tmp_path):
    for name in ("a.nii.gz", "a.nii", "deep/er/a.nii.gz", "with space.nii.gz"):
        put_image(tmp_path / "st" / name)
    studies = prepare_studies(tmp_path / "st")
    assert sorted(studies.images) == ["a", "a_2", "deep_er_a", "with_space"]
    assert read_image(studies.folder / "deep_er_a.nii.gz").grid.shape == (3, 4, 5)
    assert (studies.folder / LABELS).resolve() == studies.source / LABELS
    assert (studies.folder / LISTING).is_symlink()


@pytest.mark.parametrize("suffix", [".dcm", ""])
def test_a_dicom_series_becomes_a_nifti_file_of_the_same_geometry(tmp_path, suffix):
    put_series(tmp_path / "st" / "ct", suffix=suffix)
    put_image(tmp_path / "st" / "b.nii.gz")
    studies = prepare_studies(tmp_path / "st")
    assert sorted(studies.images) == [UID, "b"] and not studies.skipped
    converted, original = read_image(studies.folder / f"{UID}.nii.gz"), read_image(tmp_path / "st" / "ct")
    assert np.array_equal(converted.data, original.data) and converted.grid.same_space(original.grid)
    assert converted.data[2, 1, 3] == 300 + 10 + 2 - 1000
    assert not list((studies.folder / ".dicom").glob("*/"))


def test_a_second_start_converts_nothing_and_notices_changes(tmp_path):
    put_series(tmp_path / "st" / "one")
    put_series(tmp_path / "st" / "two", UID + ".9")
    folder = prepare_studies(tmp_path / "st").folder
    target = folder / f"{UID}.nii.gz"
    before = target.stat().st_mtime_ns
    assert len(prepare_studies(tmp_path / "st").images) == 2 and target.stat().st_mtime_ns == before
    put_series(tmp_path / "st" / "one", slices=5)
    prepare_studies(tmp_path / "st")
    assert read_image(target).grid.shape == (6, 5, 5)
    for file in (tmp_path / "st" / "one").iterdir():
        file.unlink()
    assert list(prepare_studies(tmp_path / "st").images) == [UID + ".9"] and not target.exists()


def test_what_is_no_image_is_left_out_and_a_broken_series_is_reported(tmp_path):
    put_series(tmp_path / "st" / "seg", UID + ".1", modality="SEG")
    put_series(tmp_path / "st" / "gap", UID + ".2", slices=7)
    (tmp_path / "st" / "gap" / "slice2.dcm").unlink()
    put_series(tmp_path / "st" / "good", UID + ".3")
    (tmp_path / "st" / "broken.dcm").write_bytes(b"not dicom")
    studies = prepare_studies(tmp_path / "st")
    assert list(studies.images) == [UID + ".3"] and list(studies.skipped) == [UID + ".2"]
    assert prepare_studies(tmp_path / "st").skipped == studies.skipped


def test_a_folder_that_nobody_may_write_stays_untouched(tmp_path):
    put_image(tmp_path / "st" / "a.nii.gz")
    os.chmod(tmp_path / "st", 0o555)
    studies = prepare_studies(tmp_path / "st")
    os.chmod(tmp_path / "st", 0o755)
    assert studies.folder != studies.source and not (tmp_path / "st" / LABELS).exists()
    assert list(studies.images) == ["a"]


def test_no_such_folder(tmp_path):
    with pytest.raises(NotFoundError, match="studies folder"):
        prepare_studies(tmp_path / "none")
