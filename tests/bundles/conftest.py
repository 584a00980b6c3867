"""The contract over all bundles: which tests see which bundle, and the small data that they run on.

A test with the argument ``bundle`` runs once per folder of ``bundles/``. The part of its name after ``test_`` is the
name under which a bundle may be excused from it, in the ``exemptions`` of its own metadata and with a reason; there is
no list of exceptions here. Tests of ``test_family_<family>.py`` (dashes as underscores) run for the bundles of that
family only: there live the honest small checks of ``catalog/families.md``.
"""
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest

from promptzoo.cli.maintain.verify import bundle_folders
from promptzoo.core.bundles import get_bundle
from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.prompts import (
    AttributePrompt,
    Box,
    ClassPrompt,
    Lasso,
    MaskPrompt,
    Point,
    PromptSet,
    ReferencePrompt,
    Scribble,
    TextPrompt,
)

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
SIZES = {2: (96, 80, 1), 3: (48, 44, 32)}
SPACINGS_MM = {2: (0.7, 0.7, 1.0), 3: (1.0, 1.2, 2.0)}


def pytest_generate_tests(metafunc):
    """Give every test with the argument ``bundle`` the bundles that it is about."""
    if "bundle" not in metafunc.fixturenames:
        return
    folders = bundle_folders(BUNDLES) if BUNDLES.is_dir() else []
    module = metafunc.module.__name__.rpartition(".")[2]
    if module.startswith("test_family_"):
        family = module.removeprefix("test_family_").replace("_", "-")
        folders = [f for f in folders if get_bundle(f).family == family]
    metafunc.parametrize("bundle", folders, ids=[f.name for f in folders], indirect=True)


@pytest.fixture
def bundle(request):
    """The bundle under test; skips the test if the bundle's own metadata excuses it, with the reason given there."""
    info = get_bundle(request.param)
    reason = info.exemptions.get(request.function.__name__.removeprefix("test_"))
    if reason is not None:
        pytest.skip(f"{info.name} is excused by its metadata: {reason}")
    return info


@pytest.fixture(autouse=True)
def _process_as_before(monkeypatch):
    """Undo what workflows do to the process: the bundle on sys.path, seeds and deterministic algorithms of torch."""
    from monai.utils import set_determinism

    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("PROMPTZOO_REFERENCES", raising=False)
    yield
    set_determinism(None)


@dataclass(frozen=True)
class Phantom:
    """An image with one bright ellipse, the mask of the ellipse, and prompts that mean it; the first class of a bundle
    stands for its class prompts, ``extra.attribute`` of its metadata for its attributes."""

    volume: Volume
    mask: np.ndarray
    class_name: str = "ellipse"
    attribute: tuple = ("side", "left")

    def prompt(self, kind, object_id=1):
        """One prompt of ``kind``, or a failure that says what to add for a new kind."""
        inside = np.argwhere(self.mask)
        centre = inside[np.abs(inside - inside.mean(0)).sum(1).argmin()]
        level = inside[inside[:, 2] == centre[2]]
        low, high = level.min(0), level.max(0)
        if kind == "point":
            return Point(tuple(centre), True, object_id, "voxel")
        if kind == "box":
            return Box(tuple(inside.min(0)), tuple(inside.max(0) + 1), object_id, "voxel")
        if kind == "scribble":
            row = level[level[:, 1] == centre[1]]
            return Scribble(row[len(row) // 4:-len(row) // 4], True, object_id, "voxel")
        if kind == "lasso":
            corners = [(low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1])]
            return Lasso([(i, j, centre[2]) for i, j in corners], True, object_id, "voxel")
        if kind == "mask":
            shrunk = self.mask & np.roll(self.mask, 3, 0) & np.roll(self.mask, -3, 0)
            return MaskPrompt(shrunk, self.volume.grid, object_id)
        if kind == "text":
            return TextPrompt(self.class_name, object_id)
        if kind == "class":
            return ClassPrompt(self.class_name, object_id)
        if kind == "attribute":
            return AttributePrompt(*self.attribute, object_id)
        if kind == "reference":
            return self._reference(object_id)
        return pytest.fail(f"the contract suite has no example of the prompt kind {kind}: add one in {__file__}")

    def _reference(self, object_id):
        """The phantom itself as a finished case."""
        folder = Path(tempfile.mkdtemp(dir=os.environ["PROMPTZOO_CACHE"]))  # removed with it
        for name, data in (("image", self.volume.data), ("mask", self.mask.astype(np.uint8))):
            nibabel.save(nibabel.Nifti1Image(data, self.volume.grid.affine), folder / f"{name}.nii.gz")
        return ReferencePrompt(str(folder / "image.nii.gz"), str(folder / "mask.nii.gz"), 1, object_id)

    def prompts(self, *kinds):
        """A set with one prompt of each kind, for object 1."""
        return PromptSet(tuple(self.prompt(kind) for kind in kinds))


def make_phantom(dimensions, class_name="ellipse", attribute=("side", "left")):
    """A :class:`Phantom` of 2 or 3 dimensions, with anisotropic voxels and noise from a fixed seed."""
    shape, spacing = SIZES[dimensions], SPACINGS_MM[dimensions]
    centre = np.array(shape) * (0.45, 0.55, 0.5)
    radii = np.array([0.25, 0.2, 0.3]) * shape
    offset = (np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1) + 0.5 - centre) / radii
    mask = (offset[..., :dimensions] ** 2).sum(-1) <= 1
    noise = np.random.default_rng(7).normal(0, 8, shape)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-30.0, 12.0, 5.0)
    return Phantom(Volume(100 + 80 * mask + noise, Grid(shape, affine)), mask, class_name, attribute)


@pytest.fixture
def phantom(bundle):
    """The phantom of the bundle's dimensions."""
    labels = bundle.label.get("labels", []) if {"class", "text"} & set(bundle.prompts) else []
    told = tuple(bundle.block.get("extra", {}).get("attribute", ("side", "left")))
    return make_phantom(bundle.dimensions, *(labels[:1] or ["ellipse"]), told)


_predictors = {}


@pytest.fixture
def predictor(bundle):
    """The bundle's predictor on plain torch; made once per bundle and process."""
    from promptzoo.inference import load_predictor

    if bundle.name not in _predictors:
        _predictors[bundle.name] = load_predictor(bundle.path, engine="torch")
    return _predictors[bundle.name]


def dice(first, second):
    """Dice of two masks; 1 for two empty ones."""
    total = first.sum() + second.sum()
    return 1.0 if total == 0 else 2.0 * (first & second).sum() / total


@pytest.fixture(name="dice")
def dice_fixture():
    """The function ``dice(first, second)``."""
    return dice


@pytest.fixture
def case(bundle, phantom, tmp_path):
    """Config ids that point ``inference.json`` at a NIfTI of the phantom, prompts for its ellipse, and tmp_path."""
    image, prompts = tmp_path / "data" / "case.nii.gz", tmp_path / "data" / "case.prompts.json"
    image.parent.mkdir()
    nibabel.save(nibabel.Nifti1Image(phantom.volume.data, phantom.volume.grid.affine), image)
    prompts.write_text(json.dumps(phantom.prompts(bundle.prompts[0]).to_json()))
    return {"image": str(image), "prompts": str(prompts), "output_dir": str(tmp_path / "output"),
            **bundle.contract.get("inference_overrides", {})}


@pytest.fixture
def small_training(bundle, tmp_path):
    """Overrides that make training tiny and write to tmp_path; the bundle's ``contract`` block names the sizes."""
    return {"ckpt_dir": str(tmp_path / "ckpt"), **bundle.contract.get("train_overrides", {}),
            "train::trainer::max_epochs": 1}


@pytest.fixture
def workflow(bundle, tmp_path):
    """Function ``(*configs, kind, **overrides) -> ConfigWorkflow`` on the bundle's own configs."""
    from monai.bundle import ConfigWorkflow

    def make(*configs, kind, **overrides):
        files = [str(bundle.config(name)) for name in configs]
        places = {"bundle_root": str(bundle.path), "output_dir": str(tmp_path / "output")}
        return ConfigWorkflow(files, workflow_type=kind, logging_file=False, **{**places, **overrides})

    return make
