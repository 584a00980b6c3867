"""The configs run: one epoch of training on tiny data; inference on a NIfTI, also with the TensorRT overlay."""
import json
import logging
import math
import warnings

import nibabel
import pytest
import torch


def test_train(bundle, workflow, tmp_path):
    """One epoch of the bundle's own training writes a checkpoint that fits its network."""
    train = workflow("train", kind="train", **{"ckpt_dir": str(tmp_path / "ckpt"), "train::trainer::max_epochs": 1})
    train.initialize()
    train.run()
    train.finalize()
    trainer = train.parser.get_parsed_content("train::trainer")
    assert trainer.state.epoch == 1 and trainer.state.iteration >= 1
    written = sorted((tmp_path / "ckpt").rglob("*.pt"))
    assert written, "training wrote no checkpoint under ckpt_dir"
    state = torch.load(written[0], map_location="cpu", weights_only=True)
    network = train.parser.get_parsed_content("network_def")
    network.load_state_dict(state.get("model", state), strict=True)
    assert all(math.isfinite(float(v.double().sum())) for v in network.state_dict().values())


@pytest.fixture
def case(bundle, phantom, tmp_path):
    """Places of a NIfTI image and of prompts for its ellipse."""
    image, prompts = tmp_path / "data" / "case.nii.gz", tmp_path / "data" / "case.prompts.json"
    image.parent.mkdir()
    nibabel.save(nibabel.Nifti1Image(phantom.volume.data, phantom.volume.grid.affine), image)
    prompts.write_text(json.dumps(phantom.prompts(bundle.prompts[0]).to_json()))
    return {"image": image, "prompts": prompts, "dataset": image.parent, "output": tmp_path / "output"}


def _masks(case, phantom, dice, bundle):
    written = sorted(case["output"].rglob("*.nii.gz"))
    assert written, "inference wrote no mask under output_dir"
    mask = nibabel.load(written[0])
    grid = phantom.volume.grid
    assert mask.shape[:3] == grid.shape and abs(mask.affine - grid.affine).max() < 1e-3
    if bundle.weights["kind"] == "shipped":
        assert dice(mask.get_fdata().reshape(grid.shape) > 0, phantom.mask) > 0.3


def test_inference(bundle, workflow, case, phantom, dice):
    """inference.json segments a NIfTI from prompts onto its own grid."""
    inference = workflow("inference", kind="inference", places=case)
    inference.initialize()
    inference.run()
    inference.finalize()
    _masks(case, phantom, dice, bundle)


def test_inference_trt(bundle, workflow, case, phantom, dice, caplog):
    """The TensorRT overlay gives the same result where there is no TensorRT, and says so."""
    if torch.cuda.is_available():
        pytest.skip("with a CUDA device the overlay compiles; the tests marked gpu cover it")
    with caplog.at_level(logging.INFO), warnings.catch_warnings(record=True) as warned:
        inference = workflow("inference", "inference_trt", kind="inference", places=case)
        inference.initialize()
        inference.run()
        inference.finalize()
    assert "tensorrt" in (caplog.text + " ".join(str(w.message) for w in warned)).lower()
    _masks(case, phantom, dice, bundle)
