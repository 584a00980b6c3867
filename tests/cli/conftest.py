"""Fake bundles and a fake predictor, so that commands run end to end without a network."""
import json

import nibabel
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from promptzoo.core.protocols import ObjectPrediction, Prediction

KINDS = ["point", "box", "scribble", "lasso", "mask"]
RADIUS_VOX = 4.0


def block(dimensions, **changes):
    """The promptzoo block of a fake bundle."""
    return {
        "schema_version": 1, "family": "interactive-refinement", "task": "segmentation", "prompts": KINDS,
        "dimensions": dimensions, "space": "RAS", "not_for": ["Nothing medical."],
        "weights": {"kind": "shipped", "file": "models/model.pt", "trained_on": "phantoms", "licence": "Apache-2.0"},
        **changes}


@pytest.fixture
def make_bundle(tmp_path, monkeypatch):
    """A function that adds a bundle to the folder of bundles of this test: ``make_bundle(name, dimensions, …)``."""
    folder = tmp_path / "bundles"
    folder.mkdir()
    monkeypatch.setenv("PROMPTZOO_BUNDLES", str(folder))
    monkeypatch.setenv("PROMPTZOO_CACHE", str(tmp_path / "cache"))

    def make(name, dimensions, weights=True, results=None, **changes):
        path = folder / name
        for part in ("configs/variants", "models", "docs"):
            (path / part).mkdir(parents=True)
        metadata = {"version": "0.1.0", "name": name.title(), "description": "Fake.",
                    "promptzoo": block(dimensions, **changes)}
        (path / "configs" / "metadata.json").write_text(json.dumps(metadata))
        (path / "configs" / "variants" / "pe-med.json").write_text("{}")
        if weights:
            (path / "models" / "model.pt").write_bytes(b"weights")
        if results is not None:
            (path / "docs" / "results.json").write_text(json.dumps(results))
        return path

    return make


@pytest.fixture
def bundles(make_bundle):
    """A fake 2D and a fake 3D bundle; returns their folder."""
    return [make_bundle(f"flat_{d}d" if d == 2 else "solid_3d", d) for d in (2, 3)][0].parent


class FakePredictor:
    """Balls of ``RADIUS_VOX`` around points and strokes, filled boxes, hulls of outlines, masks as they are."""

    def __init__(self, name="fake"):
        self.name, self.prompt_kinds, self.seen = name, frozenset(KINDS), []

    def encode(self, volume):
        """The volume itself."""
        return volume

    def decode(self, state, prompts, previous=None):
        """Paint the prompts."""
        prompts.check_on(state.grid, self.prompt_kinds)
        self.seen.append(prompts)
        answers = [ObjectPrediction(o.object_id, state.grid, (0, 0, 0), self.paint(state, prompts, o.object_id), 0.9)
                   for o in prompts.objects]
        return Prediction(state.grid, tuple(answers), 0.01, "fake fp32")

    def paint(self, volume, prompts, object_id):
        """Probability of one object."""
        grid = volume.grid
        places = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), -1)
        result = np.zeros(grid.shape, np.float32)
        for prompt in prompts.for_object(object_id).to_voxel(grid).prompts:
            if prompt.kind == "mask":
                result[prompt.mask] = 1
            elif prompt.kind == "box":
                result[((places >= prompt.low) & (places < prompt.high)).all(-1)] = 1
            elif prompt.kind == "lasso":
                inside = (places >= prompt.points.min(0) - 0.5) & (places <= prompt.points.max(0) + 0.5)
                result[inside.all(-1)] = float(prompt.positive)
            elif prompt.kind in ("point", "scribble"):
                for point in np.atleast_2d(prompt.position if prompt.kind == "point" else prompt.points):
                    near = ((places - point) ** 2).sum(-1) <= RADIUS_VOX ** 2
                    result[near] = float(prompt.positive)
        return result


@pytest.fixture
def predictor(monkeypatch):
    """The fake predictor, which every command loads; ``.asked`` holds the arguments of ``load_predictor``."""
    fake = FakePredictor()
    fake.asked = []

    def load(*arguments, **names):
        fake.asked.append((arguments, names))
        return fake

    monkeypatch.setattr("promptzoo.inference.load_predictor", load)
    return fake


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function that runs ``promptzoo`` with arguments in an empty folder and returns the result."""
    from promptzoo.cli.app import app

    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def run_(*arguments, code=0):
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        assert result.exit_code == code, (result.exit_code, result.output, result.exception)
        return result

    return run_


@pytest.fixture
def volume_file(tmp_path):
    """A NIfTI of 40 x 36 x 20 anisotropic voxels in LPS order, and its affine."""
    affine = np.array([[-1.5, 0, 0, 30], [0, -1.0, 0, -12], [0, 0, 2.0, 100], [0, 0, 0, 1.0]])
    path = tmp_path / "scan.nii.gz"
    data = np.random.default_rng(0).normal(100, 10, (40, 36, 20)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(data, affine), path)
    return path


@pytest.fixture
def picture_file(tmp_path):
    """A grey PNG of 48 columns and 32 rows."""
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 48)).astype(np.uint8)).save(path)
    return path


def labels_of(path):
    """The voxels of a mask NIfTI."""
    return np.asarray(nibabel.load(path).dataobj)


@pytest.fixture(name="labels_of")
def labels_of_fixture():
    """The function ``labels_of(path)``."""
    return labels_of


@pytest.fixture
def series_folder(tmp_path):
    """A CT series of six slices of 24 columns and 20 rows."""
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset

    folder, study, series = tmp_path / "series", pydicom.uid.generate_uid(), pydicom.uid.generate_uid()
    folder.mkdir()
    for k in range(6):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
        meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        values = dict(
            SOPClassUID=meta.MediaStorageSOPClassUID, SOPInstanceUID=meta.MediaStorageSOPInstanceUID, Modality="CT",
            StudyInstanceUID=study, SeriesInstanceUID=series, FrameOfReferenceUID=study, PatientID="phantom",
            PatientName="", PatientBirthDate="", PatientSex="", StudyID="", StudyDate="", StudyTime="",
            AccessionNumber="", ReferringPhysicianName="", SeriesNumber=1, InstanceNumber=k + 1, Rows=20, Columns=24,
            PixelSpacing=[0.8, 0.7], SliceThickness=2.5, ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            ImagePositionPatient=[-10, 5, 30 + 2.5 * k], SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2",
            BitsAllocated=16, BitsStored=16, HighBit=15, PixelRepresentation=1, RescaleSlope=1, RescaleIntercept=-1024,
            PixelData=np.full((20, 24), 1000 + k, np.int16).tobytes())
        dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        for name, value in values.items():
            setattr(dataset, name, value)
        dataset.save_as(folder / f"{5 - k}.dcm", enforce_file_format=True)
    return folder
