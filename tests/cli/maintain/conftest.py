"""A complete bundle of empty configs and one small weight tensor: what offline verification looks at."""
import json

import pytest
import torch

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"


@pytest.fixture
def metadata():
    """Metadata that passes both schemas."""
    return {
        "schema": SCHEMA, "name": "Interactive refinement 2D", "version": "0.1.0", "changelog": {"0.1.0": "first"},
        "monai_version": "1.6.1", "pytorch_version": "2.13.0", "numpy_version": "1.26.4",
        "required_packages_version": {}, "task": "refine", "description": "Refines.", "authors": "promptzoo",
        "copyright": "promptzoo", "network_data_format": {"inputs": {}, "outputs": {}},
        "promptzoo": {
            "schema_version": 1, "family": "interactive-refinement", "task": "segmentation", "prompts": ["point"],
            "dimensions": 2, "space": "RAS", "not_for": ["Nothing medical."],
            "weights": {"kind": "shipped", "file": "models/model.pt", "bytes_max": 4096, "trained_on": "phantoms",
                        "licence": "Apache-2.0"},
            "systems": {"pe-med": "works"}, "inference": {"predictor": "promptzoo.inference.Predictor"}}}


@pytest.fixture
def bundle_path(tmp_path, metadata):
    """A folder ``bundles/interactive_refinement_2d`` with every required file, under a folder with a changelog."""
    path = tmp_path / "bundles" / "interactive_refinement_2d"
    for folder in ("configs/variants", "docs", "models"):
        (path / folder).mkdir(parents=True)
    for name in ("train", "inference", "evaluate", "multi_gpu_train", "inference_trt", "variants/pe-med"):
        (path / "configs" / f"{name}.json").write_text('{"device": "cpu"}')
    (path / "configs" / "metadata.json").write_text(json.dumps(metadata))
    (path / "docs" / "README.md").write_text("# Refinement\nIt is not a medical device.\n")
    (path / "docs" / "data_license.txt").write_text("Procedural images, Apache-2.0.\n")
    (path / "docs" / "results.json").write_text('{"click": {"command": "promptzoo bench x", "dice": [0.5, 0.6]}}')
    (path / "LICENSE").write_text("Apache License 2.0\n")
    (path / "large_files.yml").write_text("large_files: []\n")
    torch.save({"weight": torch.zeros(4)}, path / "models" / "model.pt")
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n### Added\n- Everything.\n")
    return path
