"""Every engine that is installed answers as torch does."""
import numpy as np
import pytest

from promptzoo.core.optional import available

ENGINES = {"openvino": "openvino", "onnxruntime": "onnxruntime"}
# fp32 engines reorder sums and fuse layers: probabilities differ in the fourth digit, a voxel at 0.5 may flip.
PROBABILITY_TOLERANCE = 5e-3
DICE_LEAST = 0.995


@pytest.mark.parametrize("engine", ENGINES)
def test_export(bundle, predictor, phantom, dice, engine):
    if not available(ENGINES[engine]):
        pytest.skip(f"{engine} is not installed")
    from promptzoo.inference import load_predictor

    compiled = load_predictor(bundle.path, engine=engine, precision="fp32")
    prompts = phantom.prompts(bundle.prompts[0])
    ours = compiled.decode(compiled.encode(phantom.volume), prompts)
    torchs = predictor.decode(predictor.encode(phantom.volume), prompts)
    assert ours.engine.startswith(engine)
    for one, other in zip(ours.objects, torchs.objects, strict=True):
        difference = np.abs(one.full_probability() - other.full_probability()).max()
        assert difference < PROBABILITY_TOLERANCE and dice(one.mask, other.mask) >= DICE_LEAST
