"""Every variant overlay trains and segments, as its base does."""
import json
import math
from dataclasses import replace
from pathlib import Path

import nibabel
import pytest

from promptzoo.networks.deltas import read_file


@pytest.mark.slow
def test_variants_run(bundle, workflow, small_training, case, phantom, tmp_path):
    """One epoch with the overlay on train.json writes weights with which the overlay on inference.json segments."""
    for system, overlay in bundle.variants().items():
        name = f"variants/{overlay.stem}"
        if _answers_only(overlay):
            _segments(bundle, workflow, case, phantom, name, tmp_path / "output" / system, {})
            continue
        asked = _asked(bundle, overlay, case, phantom, tmp_path)
        train = workflow("train", name, kind="train", **small_training)
        train.initialize()
        assert train.check_properties() == [], system
        train.run()
        train.finalize()
        written = next((file for suffix in (".pt", ".safetensors")
                        if (file := tmp_path / "ckpt" / f"{system}{suffix}").is_file()), None)
        assert written is not None, f"{system} wrote no {system}.pt or .safetensors: the overlay sets no weights_name"
        assert all(math.isfinite(float(value.double().sum())) for value in read_file(written)[0].values()), system

        _segments(bundle, workflow, asked, phantom, name, tmp_path / "output" / system, {"weights": str(written)})


def _answers_only(overlay):
    """Whether an overlay changes only how the bundle's own weights are asked or studied."""
    return all(key.startswith(("inferer", "study")) for key in json.loads(overlay.read_text()))


def _asked(bundle, overlay, case, phantom, folder):
    """The case with a prompt for a class that the overlay knows, if it has classes of its own."""
    own = json.loads(overlay.read_text()).get("inferer", {}).get("classes")
    if bundle.prompts[0] != "class" or not isinstance(own, list):
        return case
    prompts = folder / "data" / f"{overlay.stem}.prompts.json"
    prompts.write_text(json.dumps(replace(phantom, class_name=own[0]).prompts("class").to_json()))
    return {**case, "prompts": str(prompts)}


def _segments(bundle, workflow, case, phantom, name, folder, weights):
    inference = workflow("inference", name, kind="inference", **{**case, **weights, "output_dir": str(folder)})
    inference.initialize()
    assert inference.check_properties() == [], name
    inference.run()
    inference.finalize()
    masks = sorted(Path(folder).rglob("*.nii.gz"))
    assert masks, f"{name} wrote no mask"
    assert (*nibabel.load(masks[0]).shape, 1)[:3] == phantom.volume.grid.shape


def test_variant_weights(bundle, workflow):
    """An overlay names weights of its own, which are not larger than a bundle may ship; a working one has them.

    An overlay that only asks in another way uses those of the bundle.
    """
    for system, overlay in bundle.variants().items():
        if _answers_only(overlay):
            continue
        parser = workflow("inference", f"variants/{overlay.stem}", kind="inference").parser
        weights = Path(str(parser.get_parsed_content("weights")))
        assert weights.name != bundle.weights_path.name and weights.parent == bundle.path / "models", system
        if weights.is_file():
            assert weights.stat().st_size <= bundle.weights.get("bytes_max", 10_000_000), system
        else:
            assert bundle.systems.get(system) != "works", f"{system} works, but {weights.name} is missing"
