"""A small bundle folder, written file by file."""
import json

import pytest


@pytest.fixture
def block():
    """A valid promptzoo block."""
    return {
        "schema_version": 1,
        "family": "interactive-refinement",
        "task": "segmentation",
        "prompts": ["point", "box"],
        "dimensions": 2,
        "space": "RAS",
        "weights": {"kind": "shipped", "file": "models/model.pt", "trained_on": "procedural images", "licence": "MIT"},
        "not_for": ["Not a medical device."],
        "systems": {"pe-med": "works", "khor-ctv": "planned"},
        "inference": {"predictor": "promptzoo.inference.Predictor", "args": {}},
    }


@pytest.fixture
def write_bundle(block):
    """Function ``(folder, name, variants, **block changes) -> path`` that writes metadata and empty overlays."""

    def write(folder, name="toy", variants=("pe-med",), **changes):
        path = folder / name
        (path / "configs" / "variants").mkdir(parents=True)
        document = {"version": "0.1.0", "name": "A toy", "promptzoo": {**block, **changes}}
        (path / "configs" / "metadata.json").write_text(json.dumps(document))
        for variant in variants:
            (path / "configs" / "variants" / f"{variant}.json").write_text("{}")
        return path

    return write
