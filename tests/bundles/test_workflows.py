"""The configs run: one epoch of training on tiny data; inference on a NIfTI, also with the TensorRT overlay."""
import logging
import math
import warnings
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from promptzoo.inference.loader import load_weights


def test_train(bundle, workflow, small_training, tmp_path):
    """One epoch of the bundle's own training writes a checkpoint that fits its network."""
    train = workflow("train", kind="train", **small_training)
    train.initialize()
    train.run()
    train.finalize()
    trainer = train.parser.get_parsed_content("train::trainer")
    assert trainer.state.epoch == 1 and trainer.state.iteration >= 1
    written = sorted(f for suffix in ("*.pt", "*.safetensors") for f in (tmp_path / "ckpt").rglob(suffix))
    assert written, "training wrote no checkpoint under ckpt_dir"
    network = train.parser.get_parsed_content("network_def")
    load_weights(network, written[0], bundle.name)
    assert all(math.isfinite(float(v.double().sum())) for v in network.state_dict().values())


def test_evaluate(bundle, workflow, small_training):
    """The evaluation overlay scores the weights of the bundle."""
    shipped = {**small_training, "ckpt_dir": str(bundle.path / "models")}
    evaluate = workflow("train", "evaluate", kind="train", **shipped)
    evaluate.initialize()
    evaluate.run()
    evaluate.finalize()
    evaluator = evaluate.parser.get_parsed_content("validate::evaluator")
    assert evaluator.state.iteration >= 1 and evaluator.state.metrics
    assert all(math.isfinite(value) for value in evaluator.state.metrics.values())


def _masks(case, phantom, dice, bundle):
    written = sorted(Path(case["output_dir"]).rglob("*.nii.gz"))
    assert written, "inference wrote no mask under output_dir"
    mask, grid = nibabel.load(written[0]), phantom.volume.grid
    assert np.allclose(mask.affine, grid.affine, atol=1e-3), f"affine of the mask: {mask.affine.tolist()}"
    # A slice may come back as a 2D image; a fourth axis is one that viewers do not expect of a mask.
    assert mask.ndim <= 3 and (*mask.shape, 1)[:3] == grid.shape, f"shape of the mask: {mask.shape}"
    if bundle.weights["kind"] == "shipped" and bundle.prompts[0] != "class":
        assert dice(mask.get_fdata().reshape(grid.shape) > 0, phantom.mask) > 0.3


def test_inference(bundle, workflow, case, phantom, dice):
    """inference.json segments a NIfTI from prompts onto its own grid."""
    inference = workflow("inference", kind="inference", **case)
    inference.initialize()
    inference.run()
    inference.finalize()
    _masks(case, phantom, dice, bundle)


def test_inference_trt(bundle, workflow, case, phantom, dice, caplog, capfd):
    """The TensorRT overlay gives the same result where there is no TensorRT, and says so."""
    if torch.cuda.is_available():
        pytest.skip("with a CUDA device the overlay compiles; the tests marked gpu cover it")
    with caplog.at_level(logging.INFO), warnings.catch_warnings(record=True) as warned:
        inference = workflow("inference", "inference_trt", kind="inference", **case)
        inference.initialize()
        inference.run()
        inference.finalize()
    said = caplog.text + "".join(capfd.readouterr()) + " ".join(str(w.message) for w in warned)
    assert "tensorrt" in said.lower()  # MONAI's own logger prints; it does not propagate
    _masks(case, phantom, dice, bundle)
