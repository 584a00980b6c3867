"""A bundle that takes words, for tests of the text bar: names of tissues, found by their CT numbers."""
import json

import numpy as np
import torch

from promptzoo.core.protocols import ObjectPrediction, Prediction
from promptzoo.prompts.types import Box, PromptSet

TISSUES = {"bone": (250.0, 3000.0), "air": (-2000.0, -700.0)}


class WordPredictor:
    """Marks the tissue that a class or text prompt names.

    Args:
        name: of the bundle.
        engine: what it says it runs on.
    """

    def __init__(self, name, engine):
        self.name, self.engine, self.prompt_kinds = name, engine, frozenset({"text", "class"})

    def encode(self, volume):
        """The volume itself."""
        return type("State", (), {"nbytes": volume.data.nbytes, "grid": volume.grid, "data": volume.data})()

    def decode(self, state, prompts, previous=None):
        """Voxels within the range of the tissue; nothing for other words."""
        found = []
        for info in prompts.objects:
            words = [p.text for p in prompts.of("text", info.object_id)]
            words += [p.name for p in prompts.of("class", info.object_id)]
            low, high = next((TISSUES[t] for t in TISSUES for w in words if t in w.lower()), (np.inf, -np.inf))
            probability = ((state.data >= low) & (state.data <= high)).astype(np.float32)
            told = {"generated": json.dumps(boxes_in(probability, state.grid))} if probability.any() else {}
            found.append(ObjectPrediction(info.object_id, state.grid, (0, 0, 0), probability, 0.9, info=told))
        return Prediction(state.grid, tuple(found), 0.01, self.engine)


def boxes_in(probability, grid):
    """The boxes of both halves of a mask along its first axis, as a detector proposes them."""
    halves, middle = [], probability.shape[0] // 2
    for number, part in enumerate((slice(0, middle), slice(middle, None)), 1):
        at = np.argwhere(probability[part]) + (part.start, 0, 0)
        halves.append(Box(tuple(at.min(0)), tuple(at.max(0) + 1), number, "voxel"))
    return PromptSet(tuple(halves)).to_world(grid).to_json()


class WordInferer:
    """What ``inferer`` of the bundle's configuration makes."""

    def wrap(self, network):
        """The network has no part in it."""
        return network

    def predictor(self, network, name, engine):
        """The predictor."""
        return WordPredictor(name, engine)


def write_bundle(folder):
    """Write the bundle ``words_3d`` below a folder."""
    bundle = folder / "words_3d"
    for part in ("configs", "models"):
        (bundle / part).mkdir(parents=True)
    torch.save(torch.nn.Linear(1, 1).state_dict(), bundle / "models" / "model.pt")
    (bundle / "configs" / "inference.json").write_text(json.dumps({
        "bundle_root": ".", "weights": "$@bundle_root + '/models/model.pt'",
        "network_def": {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 1},
        "inferer": {"_target_": "tests.apps.words.WordInferer"}}))
    (bundle / "configs" / "metadata.json").write_text(json.dumps({
        "version": "0.1.0", "name": "Tissues by name", "promptzoo": {
            "schema_version": 1, "family": "text-universal-seg", "task": "segmentation", "prompts": ["text", "class"],
            "dimensions": 3, "space": "RAS", "not_for": ["anything"],
            "weights": {"kind": "shipped", "file": "models/model.pt", "trained_on": "nothing", "licence": "Apache-2.0"},
            "label": {"type": "segmentation", "labels": list(TISSUES)}}}))
    return bundle
