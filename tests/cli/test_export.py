"""``promptzoo export`` and the shipped bundles through the whole command line."""
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from promptzoo.cli.choice import weights_present
from promptzoo.cli.doctor import centre_prompt, phantom
from promptzoo.core.bundles import find_bundles

SHIPPED = [info for info in find_bundles() if info.weights["kind"] == "shipped" and weights_present(info)]
CLICKABLE = [info for info in SHIPPED if info.task == "segmentation" and "point" in info.prompts]
KINDS = {(info.dimensions, info.task, info.prompts[0]): info for info in reversed(SHIPPED)}
"""One bundle of each kind; tests/bundles/test_engines.py converts all of them."""
DICE_LEAST = 0.7


@pytest.fixture
def small_network(monkeypatch):
    """A network of one convolution in place of a bundle's."""
    import torch

    from promptzoo.inference.monai_inferer import Part

    class Network(torch.nn.Module):
        """Two outputs, as the exporters expect of a promptable network."""

        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Conv2d(2, 1, 3, padding=1)

        def forward(self, fused):
            """Logits and a number per item."""
            logits = self.layer(fused)
            return logits, logits.mean((1, 2, 3))[:, None]

    monkeypatch.setattr("promptzoo.cli.export.network_parts",
                        lambda bundle, variant: {"network": Part(Network().eval(), (torch.zeros(1, 2, 16, 16),))})


def test_export(run, bundles, small_network):
    said = run("export", "flat_2d", "--engine", "openvino", "--out", "deep/out").stdout
    assert "flat_2d.xml" in said and "flat_2d.bin" in said and "agrees" in said and "batch x 2 x 16 x 16" in said
    note = json.loads(Path("deep/out/export.json").read_text())
    assert note["engine"] == "openvino" and note["parity"]
    told = json.loads(run("export", "flat_2d", "--engine", "torch", "--out", "other", "--json").stdout)
    assert told["bundle"] == "flat_2d" and told["files"][0]["name"] == "flat_2d.pt2" and told["folder"] == "other"


@pytest.mark.parametrize("arguments, code, message", [
    (["nope"], 4, "bundle: got nope"),
    (["flat_2d", "--variant", "nope"], 4, "variant of bundle flat_2d"),
    (["flat_2d", "--engine", "abacus"], 5, "unknown engine: got abacus"),
    (["flat_2d", "--engine", "torch", "--precision", "int8"], 5, "precision of a torch export"),
])
def test_errors(run, bundles, small_network, arguments, code, message):
    result = run("export", *arguments, code=code)
    assert message in result.stderr and len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("info", CLICKABLE, ids=lambda info: info.name)
def test_a_shipped_bundle_from_the_command_line(run, info, tmp_path):
    volume, mask = phantom(info.dimensions)
    nibabel.save(nibabel.Nifti1Image(volume.data, volume.grid.affine), tmp_path / "phantom.nii.gz")
    place = centre_prompt(mask, volume.grid, "point").prompts[0].position
    told = json.loads(run(
        "segment", tmp_path / "phantom.nii.gz", "--bundle", info.name, "--point", ",".join(f"{v:.3f}" for v in place),
        "--space", "world", "--engine", "torch", "--out", "mask.nii.gz", "--json").stdout)
    found = np.asarray(nibabel.load("mask.nii.gz").dataobj) == 1
    assert 2 * (found & mask).sum() / (found.sum() + mask.sum()) >= DICE_LEAST
    assert told["bundle"]["weights"]["sha256"] and told["objects"][0]["estimated_dice"] > 0.5
    assert told["engine"].startswith("torch")


@pytest.mark.parametrize("info", KINDS.values(), ids=lambda info: info.name)
def test_a_shipped_bundle_is_exported(run, info):
    told = json.loads(run("export", info.name, "--engine", "openvino", "--out", "out", "--json").stdout)
    for note in told.get("parts", {"network": told}).values():
        assert note["parity"] and note["files"]
        assert all(Path(note["folder"], f["name"]).stat().st_size == f["bytes"] for f in note["files"])
