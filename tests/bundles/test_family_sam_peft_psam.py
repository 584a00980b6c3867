"""Honest small checks of psam (sam-peft) on its shipped delta."""
import numpy as np
import torch

from promptzoo.core.bundles import get_bundle
from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.inference import load_predictor
from promptzoo.inference.loader import load_network
from promptzoo.training.radiographs import RadiographWindows

from .stacks import prompted

HELD_OUT = 880_007
"""No training uses this seed."""


def test_learned_prompts_help_where_they_were_trained():
    """Boxes on held-out procedural radiographs, beside the base with the same boxes: measured 0.881 against 0.866."""
    base = load_predictor("sam_box_finetune", engine="torch")
    predictor = load_predictor(get_bundle("sam_peft").path, engine="torch", variant="psam")
    windows, pairs = RadiographWindows(10, 3, 128, seed=HELD_OUT), []
    for n in range(len(windows)):
        for image, label in zip(windows[n]["image"].numpy(), windows[n]["label"].numpy()):
            pairs.append((Volume(100 * image[0][..., None], Grid((128, 128, 1), np.eye(4))), label[0]))
    before, after = (prompted(one, pairs).mean() for one in (base, predictor))
    print(before, after)
    assert after > before + 0.005, f"{after:.3f} against {before:.3f}"


def test_the_base_is_back_without_the_learned_prompts():
    network, _ = load_network(get_bundle("sam_peft"), "psam")
    plain, _ = load_network(get_bundle("sam_box_finetune"))
    image = RadiographWindows(1, 1, 128, seed=HELD_OUT)[0]["image"]
    with torch.inference_mode():
        assert not torch.equal(network(image), plain(image))
        network.image_encoder.prompted = False
        assert torch.equal(network(image), plain(image))
