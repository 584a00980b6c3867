"""The published layouts at full width, with random tensors, in our networks; answers as the authors' code gives them.

``reference.json`` holds a few numbers of what the authors' code (commits in ``published.py``) answers with the same
random tensors, images and prompts: full width; the ViTs and Hieras on smaller images, SAM-Med3D with three blocks.
"""
import json
import pickle
from pathlib import Path

import pytest
import torch

from promptzoo.core.errors import BundleError
from promptzoo.networks.public.catalog import get_public
from promptzoo.networks.public.keys import from_sam2, unwrapped
from promptzoo.networks.public.loading import build, fill, load_public, read_state

REFERENCE = json.loads(Path(__file__).with_name("reference.json").read_text())
# The same sums in another order: differences of 1e-5 of the spread were seen.
TOLERANCE = 2e-4


def shapes_of(published, name, **small):
    """The published layout of ``name``."""
    return {"sam-vit-b": published.sam_vit_b, "medsam": published.sam_vit_b, "mobile-sam": published.tiny_vit,
            "sam-med2d": lambda size=256: published.sam_vit_b(size, True),
            "lite-medsam": lambda: published.tiny_vit(1, 0), "sam-med3d": published.sam_med3d,
            "sam2.1-tiny": lambda **_: published.sam2(7), "sam2.1-small": lambda **_: published.sam2(11)}[name](**small)


@pytest.mark.parametrize("name", ["sam-vit-b", "sam2.1-tiny", "sam2.1-small", "sam-med2d", "sam-med3d", "mobile-sam",
                                  "lite-medsam"])
def test_the_published_layout_loads_strictly(published, name):
    """Every tensor in its published shape; MedSAM has the layout of SAM ViT-B."""
    weights, shapes = get_public(name), shapes_of(published, name)
    state = published.random_state(shapes)
    wrapper = weights.layout["wrapper"]
    network = build(weights, empty=True)
    fill(network, unwrapped({wrapper: state} if wrapper else state, wrapper, name), weights.layout["keys"], name)
    own = network.state_dict()
    assert not any(value.is_meta for value in own.values())
    used = sum(value.numel() for value in shapes_state(name, state).values())
    assert sum(value.numel() for value in own.values()) == used
    assert not any(parameter.requires_grad for parameter in network.parameters()) and not network.training


def shapes_state(name, state):
    """The tensors that are used: all, but those of SAM 2 that track through films."""
    return from_sam2(state) if name.startswith("sam2") else state


@pytest.mark.parametrize("name, size", [("sam-vit-b", 64), ("sam-med2d", 64), ("lite-medsam", 256),
                                        ("sam2.1-tiny", 128), ("sam2.1-small", 128)])
def test_answers_are_those_of_the_authors_code(published, name, size):
    weights = get_public(name)
    changes = {} if name == "lite-medsam" else {"size": size}
    network = build(weights, empty=True, **changes)
    fill(network, published.random_state(shapes_of(published, name, **changes)), weights.layout["keys"], name)
    image, points, labels, box, mask = published.example(size, network.mask_side)
    corners = torch.tensor([[2, 3]])
    cases = {"point": (points[:, :1], labels[:, :1], None), "box": (box, corners, None),
             "all": (torch.cat([points, box], 1), torch.cat([labels, corners], 1), mask)}
    with torch.inference_mode():
        encoded = network.image_encoder(image)
        found = {f"{case}, {'three' if many else 'one'}": published.digest(*network.decode(*encoded, *told, many))
                 for case, told in cases.items() for many in (True, False)}
    agree(found, REFERENCE[name])


def test_answers_in_3d_are_those_of_the_authors_code(published):
    weights = get_public("sam-med3d")
    network = build(weights, empty=True, size=64, depth=3, whole=(2,), window=3)
    fill(network, published.random_state(published.sam_med3d(64, 3, 3)), "same", "sam-med3d")
    cube, points, labels, mask = published.example_3d(64)
    with torch.inference_mode():
        encoded = network.image_encoder(cube)
        found = {f"{case}, {'three' if many else 'one'}": published.digest(*network.decode(*encoded, *told, many))
                 for case, told in {"point": (points[:, :1], labels[:, :1], None),
                                    "points and mask": (points, labels, mask)}.items() for many in (True, False)}
    agree(found, REFERENCE["sam-med3d"])


def agree(found, expected):
    """Compare digests."""
    assert found.keys() == expected.keys()
    for case, numbers in expected.items():
        for kind in ("logits", "ious", "std"):
            assert found[case][kind] == pytest.approx(numbers[kind], abs=TOLERANCE * max(1, numbers["std"])), case


def test_mobile_sam_runs(published):
    """MobileSAM at a quarter of its resolution, for which the authors' code has no answer."""
    weights = get_public("mobile-sam")
    network = build(weights, size=256)
    fill(network, published.random_state(published.tiny_vit()), weights.layout["keys"], "mobile-sam")
    with torch.inference_mode():
        logits = network(published.example(256, 64)[0])
    assert logits.shape == (1, 3, 64, 64) and torch.isfinite(logits).all() and logits.std() > 0.1


@pytest.fixture
def tiny(published):
    """Weights, their network without memory, and a state that fits."""
    weights = get_public("lite-medsam")
    return weights, build(weights, empty=True), published.random_state(published.tiny_vit(1, 0))


def test_wrong_tensors_are_named(tiny):
    weights, network, state = tiny
    state["image_encoder.neck.4.weight"] = state.pop("image_encoder.neck.2.weight")
    state["mask_decoder.iou_token.weight"] = torch.zeros(1, 128)
    with pytest.raises(BundleError, match=r"1 missing \(image_encoder.neck.2.weight\); 1 unknown "
                                          r"\(image_encoder.neck.4.weight\); 1 of another shape .*iou_token"):
        fill(network, state, "tiny", "lite.pth")


def test_files_are_read_without_their_code(tiny, tmp_path):
    weights, _, state = tiny
    path = tmp_path / "lite.pth"
    torch.save(state, path)
    network = load_public(weights, path)
    assert torch.equal(network.image_encoder.neck[2].weight, state["image_encoder.neck.2.weight"])
    torch.save({"model": {f"module.{k}": v for k, v in state.items()}}, path, _use_new_zipfile_serialization=False)
    assert read_state(path, "model").keys() == state.keys()
    for content, words in ((b"no weights", "needs no code"), (pickle.dumps(print), "needs no code")):
        path.write_bytes(content)
        with pytest.raises(BundleError, match=words):
            read_state(path, None)
    torch.save({"epoch": 3}, path)
    with pytest.raises(BundleError, match="epoch.*alone or under 'model'"):
        read_state(path, "model")
    with pytest.raises(BundleError, match="existing file"):
        read_state(tmp_path / "nothing.pth", None)
