"""Students have the teacher's outputs at less cost, start from its decoder, and export."""
import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from promptzoo.core.errors import BundleError
from promptzoo.engines import compile_module
from promptzoo.networks.efficient_sam import EfficientSam
from promptzoo.networks.sam import PromptableSam
from promptzoo.networks.students import LightPyramid
from promptzoo.networks.warm_start import start_from

SMALL = {"widths": [8, 8, 16, 16, 16], "depths": [1, 1, 1, 1]}


def flops(module, side=256):
    """Floating-point operations of a pass."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        module.eval()(torch.zeros(1, 1, side, side))
    return counter.get_total_flops()


@pytest.mark.parametrize("scan", ["", "raster", "axial"])
@pytest.mark.parametrize("side", [64, 96])
def test_outputs_are_those_of_the_teacher(scan, side):
    teacher = PromptableSam(size=64, channels=(8, 8, 16, 16, 16), hidden=32).eval()
    student = EfficientSam(size=64, hidden=32, student={**SMALL, "scan": scan}).eval()
    image = torch.randn(2, 1, side, side)
    with torch.inference_mode():
        shapes = [[t.shape for t in network.image_encoder(image)] for network in (teacher, student)]
        assert shapes[0] == shapes[1] and student(image).shape == image.shape


def test_the_default_student_is_much_cheaper():
    teacher, student = PromptableSam().image_encoder, LightPyramid()
    count = [sum(p.numel() for p in m.parameters()) for m in (teacher, student)]
    assert count[1] < 0.6 * count[0] and flops(student) < 0.35 * flops(teacher)


def test_it_starts_with_the_decoder_of_the_base_and_nothing_of_its_encoder(tmp_path):
    base = PromptableSam(size=64, channels=(8, 8, 16, 16, 16), hidden=32)
    torch.save(base.state_dict(), tmp_path / "base.pt")
    fresh = EfficientSam(size=64, hidden=32, student=SMALL)
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    started = start_from(fresh, str(tmp_path / "base.pt")).state_dict()
    for name, value in started.items():
        wanted = before[name] if name.startswith("image_encoder.") else base.state_dict()[name]
        assert torch.equal(value, wanted), name


@pytest.mark.parametrize("scan", ["", "raster", "axial"])
def test_encoders_export(scan):
    torch.manual_seed(0)
    encoder = LightPyramid(**SMALL, hidden=32, scan=scan).eval()
    image = torch.randn(1, 1, 64, 64)
    compiled = compile_module(encoder, (image,), engine="openvino", precision="fp32", mask_outputs=(), use_cache=False)
    assert compiled.name == "openvino"
    many = torch.randn(3, 1, 64, 64)
    with torch.inference_mode():
        wanted = encoder(many)
    for found, other in zip(compiled(many.numpy()), wanted):
        np.testing.assert_allclose(found, other.numpy(), atol=2e-4)


def test_levels_that_cannot_be():
    with pytest.raises(BundleError, match="levels of LightPyramid"):
        LightPyramid(widths=(8, 8))
