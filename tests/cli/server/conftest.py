"""A service without networks: its predictors mark a cube around every positive click."""
import json

import numpy as np
import pytest

from promptzoo.cli.server.service import PromptService
from promptzoo.core.geometry import Grid
from promptzoo.core.protocols import ObjectPrediction, Prediction
from promptzoo.data.nifti import write_nifti


def metadata(dimensions, prompts=("point", "box", "scribble", "mask")):
    """The least metadata of a bundle."""
    return {"version": "0.1.0", "name": "x", "promptzoo": {
        "schema_version": 1, "family": "interactive-refinement", "task": "segmentation", "prompts": list(prompts),
        "dimensions": dimensions, "space": "RAS", "not_for": ["anything"],
        "weights": {"kind": "shipped", "file": "models/model.pt", "trained_on": "nothing", "licence": "Apache-2.0"}}}


@pytest.fixture
def bundles(tmp_path):
    """A folder with the bundles ``clicks_2d`` and ``clicks_3d``."""
    for dimensions in (2, 3):
        folder = tmp_path / "bundles" / f"clicks_{dimensions}d"
        (folder / "configs").mkdir(parents=True)
        (folder / "models").mkdir()
        (folder / "models" / "model.pt").write_bytes(b"weights")
        (folder / "configs" / "metadata.json").write_text(json.dumps(metadata(dimensions)))
    return tmp_path / "bundles"


class CubePredictor:
    """Marks 3 x 3 x 3 voxels around every positive click, and keeps what was marked before."""

    def __init__(self, name):
        self.name, self.prompt_kinds = name, frozenset({"point", "box", "scribble", "mask"})
        self.encoded, self.decoded = 0, []

    def encode(self, volume):
        """The volume, counted."""
        self.encoded += 1
        return type("State", (), {"nbytes": volume.data.nbytes, "grid": volume.grid})()

    def decode(self, state, prompts, previous=None):
        """The cubes."""
        self.decoded.append((prompts, previous))
        voxel, found = prompts.to_voxel(state.grid), []
        for info in voxel.objects:
            probability = np.zeros(state.grid.shape, np.float32)
            for point in voxel.of("point", info.object_id):
                if point.positive:
                    at = [int(round(v)) for v in point.position]
                    probability[tuple(slice(max(0, v - 1), v + 2) for v in at)] = 0.9
            if previous is not None:
                probability = np.maximum(probability, 0.5 * previous[info.object_id].full_probability())
            found.append(ObjectPrediction(info.object_id, state.grid, (0, 0, 0), probability, 0.8))
        return Prediction(state.grid, tuple(found), 0.01, "cubes")


@pytest.fixture
def service(bundles):
    """The service; ``service.made`` holds its predictors by name."""
    made = {}

    def load(path, engine):
        made[path.name] = CubePredictor(path.name)
        return made[path.name]

    found = PromptService(bundles, load=load)
    found.made = made
    return found


@pytest.fixture
def image_file(tmp_path):
    """A NIfTI file of 12 x 14 x 10 voxels."""
    grid = Grid((12, 14, 10), np.diag([-1.0, 1.5, 2.0, 1.0]))
    write_nifti(tmp_path / "image.nii.gz", np.random.default_rng(0).normal(size=grid.shape).astype(np.float32), grid)
    return tmp_path / "image.nii.gz"
