"""The network for poor prompts: shapes, what the mask may see, corrected boxes, engines."""
import numpy as np
import pytest
import torch

from promptzoo.core.errors import BundleError
from promptzoo.engines import compile_module
from promptzoo.inference.robust_box import RobustBoxInferer
from promptzoo.networks.box_refiner import BoxRefiner, _weights
from promptzoo.networks.desam import NoiseRobustSam
from promptzoo.networks.sam import PromptableSam
from promptzoo.networks.warm_start import start_from

from .test_sam import prompt

SMALL = {"size": 64, "channels": (8, 16, 16, 24, 24), "hidden": 64}


def make(**options):
    """A small network in eval mode, with a correction that is not the identity."""
    torch.manual_seed(0)
    network = NoiseRobustSam(**SMALL, **options).eval()
    if network.box_refiner is not None:
        torch.nn.init.normal_(network.box_refiner.faces[-1].weight, std=0.5)
    return network


@pytest.fixture(scope="module")
def network():
    """Decoupled, with the correction of boxes."""
    return make()


@pytest.mark.parametrize("side", [64, 96])
def test_shapes(network, side):
    image = torch.randn(2, 1, side, side)
    box = torch.tensor([[10.0, 20.0, 40.0, 50.0]]).repeat(2, 1)
    with torch.inference_mode():
        encoded = network.image_encoder(image)
        points, labels, dense = prompt(side=side)
        logits, iou, masks, ious = network.decode(*encoded, points, labels, dense)
        moved, coarse = network.correct(*encoded, dense, box)
    assert logits.shape == (2, 1, side, side) and masks.shape == (2, 1, side // 4, side // 4)
    assert iou.shape == ious.shape == (2, 1) and bool(((iou >= 0) & (iou <= 1)).all())
    assert moved.shape == (2, 4) and coarse.shape == (2, 1, 24, 24)
    assert bool((moved[:, 2:] > moved[:, :2]).all())


def test_the_mask_branch_sees_the_prompt_through_the_embedding_alone(network, monkeypatch):
    """With the embedding held still, other prompts give the same mask; without, another."""
    image = torch.randn(1, 1, 64, 64)
    points, labels, dense = prompt(1)
    with torch.inference_mode():
        encoded = network.image_encoder(image)
        given = (points, labels, dense), (points.flip(2), labels, torch.rand_like(dense))
        free = [network.decode(*encoded, *one)[0] for one in given]
        held = network._mask_embedding(encoded[0], *given[0])
        monkeypatch.setattr(network, "_mask_embedding", lambda *_: held)
        still = [network.decode(*encoded, *one)[0] for one in given]
    assert torch.equal(*still) and not torch.allclose(*free, atol=1e-4)


def test_what_is_switched_off_is_not_there():
    plain = make(decoupled=False, refine_box=False)
    base = PromptableSam(**SMALL)
    start_from_state = plain.load_state_dict(base.state_dict())
    assert not start_from_state.missing_keys and not start_from_state.unexpected_keys
    names = set(make().state_dict())
    assert not any(name.startswith(("refine.", "mask_decoder.upscale", "mask_decoder.output_hyper")) for name in names)
    assert any(name.startswith("decoupled.") for name in names)


def test_the_base_is_taken_over(tmp_path):
    base = PromptableSam(**SMALL)
    torch.save(base.state_dict(), tmp_path / "base.pt")
    network = start_from(make(), str(tmp_path / "base.pt"))
    for name, value in network.image_encoder.state_dict().items():
        assert torch.equal(value, base.image_encoder.state_dict()[name]), name


def test_an_untrained_correction_leaves_boxes_nearly_alone():
    torch.manual_seed(0)
    refiner, box = BoxRefiner(3), torch.tensor([[8.0, 12.0, 40.0, 30.0]])
    moved, _ = refiner([torch.randn(1, 3, 16, 16)], box, 64)
    assert float((moved - box).abs().max()) < 0.5


def test_pooling_weights_by_hand():
    """Places a cell apart are linear interpolation; two cells apart, a triangle of half-width two; borders repeat."""
    at = torch.tensor([[1.5, 5.5, 9.5]])  # pixels of a map of stride 4: cells 0, 1, 2
    assert torch.allclose(_weights(at, 4.0, 4)[0], torch.eye(4)[:3])
    assert torch.allclose(_weights(at + 2, 4.0, 4)[0, 0], torch.tensor([0.5, 0.5, 0.0, 0.0]))
    wide = _weights(torch.tensor([[-20.0, -12.0]]), 4.0, 4)[0, 0]
    assert torch.allclose(wide, torch.tensor([2 / 3, 1 / 3, 0.0, 0.0]))


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(BundleError, match="multiples of 4"):
        BoxRefiner(3, cells=10)


@pytest.mark.parametrize("decoupled", [True, False])
def test_openvino_answers_as_torch_part_by_part(decoupled):
    inferer, network = RobustBoxInferer({"window": 64}), make(decoupled=decoupled)
    parts = inferer.parts(network)
    assert set(parts) == {"image_encoder", "mask_decoder", "box_refiner"}
    for name, part in parts.items():
        compiled = compile_module(part.module, part.example, engine="openvino", precision="fp32",
                                  mask_outputs=part.masks)
        with torch.inference_mode():
            wanted = part.module(*part.example)
        for ours, other in zip(compiled(*(i.numpy() for i in part.example)), wanted, strict=True):
            assert np.abs(ours - other.numpy()).max() < 2e-3 * max(1.0, float(other.abs().max())), name


def test_parts_without_correction(network):
    assert set(RobustBoxInferer({"window": 64}, passes=0).parts(network)) == {"image_encoder", "mask_decoder"}
