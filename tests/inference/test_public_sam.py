"""Public weights through a predictor: where prompts and masks lie, what is encoded when, and one real network."""
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from promptzoo.core.errors import ImageError, PromptError
from promptzoo.core.geometry import Grid, grid_with_codes
from promptzoo.core.volume import Volume
from promptzoo.inference.public_sam import PublicParts, on_screen, predictor_of, shown
from promptzoo.networks.public.catalog import get_public
from promptzoo.networks.public.loading import build, fill
from promptzoo.prompts import Box, MaskPrompt, Point, PromptSet

SIDE = 64


class Marking(torch.nn.Module):
    """A network that keeps its image and answers with the box, or a disc around the first point, in its own pixels."""

    def __init__(self, size, dimensions=2, side=SIDE):
        super().__init__()
        self.size, self.mask_side, self.dimensions = size, side, dimensions
        self.encoded, self.asked = 0, []

    def image_encoder(self, image):
        """The image itself."""
        self.encoded += 1
        return (image,)

    def decode(self, image, points, labels, masks=None, candidates=True):
        """Logits of 10 inside and -10 outside."""
        self.asked.append((points[0].numpy(), labels[0].tolist(), masks, candidates))
        axes = [(torch.arange(self.mask_side) + 0.5) * self.size / self.mask_side - 0.5] * self.dimensions
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
        if self.dimensions == 2:
            grid = grid.flip(-1)  # (x, y)
        if 2 in labels[0]:
            low, high = points[0][labels[0] == 2][0], points[0][labels[0] == 3][0]
            inside = ((grid >= low - 0.5) & (grid <= high + 0.5)).all(-1)
        else:
            inside = ((grid - points[0][0]) ** 2).sum(-1) <= (0.1 * self.size) ** 2
        logits = torch.where(inside, 10.0, -10.0)[None, None]
        return (logits.repeat(1, 3, *[1] * self.dimensions) if candidates else logits), torch.tensor([[0.2, 0.8, 0.5]])[
            :, :3 if candidates else 1]


def marked(name):
    """A predictor of public weights around a marking network."""
    weights = get_public(name)
    side = weights.preprocessing["size"] if name == "lite-medsam" else SIDE  # its masks are as large as its image
    network = Marking(weights.preprocessing["size"], weights.dimensions, side)
    return predictor_of(weights, PublicParts.of(network)), network


def image(shape=(96, 80, 3), codes=None):
    """Noise on slices of anisotropic voxels, in RAS or another order."""
    grid = Grid(shape, np.diag([0.7, 0.9, 5.0, 1.0]))
    data = np.random.default_rng(0).normal(100, 20, shape).astype(np.float32)
    if codes is None:
        return Volume(data, grid)
    move, turned = grid_with_codes(grid, codes)
    return Volume(np.ascontiguousarray(move.array(data)), turned)


def box(i, j, k=1, size=(20, 30), object_id=1):
    """A box on a slice."""
    return Box((i, j, k), (i + size[0], j + size[1], k + 1), object_id, "voxel")


@pytest.mark.parametrize("name", ["sam-vit-b", "sam2.1-tiny", "medsam", "sam-med2d", "lite-medsam"])
def test_a_mask_fills_its_box_and_nothing_else(name):
    predictor, _ = marked(name)
    volume = image()
    answer = predictor.decode(predictor.encode(volume), PromptSet((box(30, 40),))).objects[0]
    at = np.argwhere(answer.mask)
    pixel = max(volume.grid.shape) / SIDE
    assert set(at[:, 2]) == {1}
    assert np.abs(at.min(0)[:2] - (30, 40)).max() <= pixel + 1 and np.abs(at.max(0)[:2] - (49, 69)).max() <= pixel + 1
    assert (answer.estimated_dice is None) == (name == "medsam")


@pytest.mark.parametrize("codes", [("L", "P", "S"), ("S", "R", "A"), ("P", "I", "L")])
def test_the_same_anatomy_in_every_axis_order(codes):
    predictor, _ = marked("lite-medsam")
    plain, turned = image(), image(codes=codes)
    world = PromptSet((box(30, 40),)).to_world(plain.grid)
    first = predictor.decode(predictor.encode(plain), world).objects[0]
    second = predictor.decode(predictor.encode(turned), world).objects[0]
    move, _ = grid_with_codes(plain.grid, codes)
    assert first.mask.any() and np.array_equal(move.inverse_array(second.mask), first.mask)


def test_slices_are_shown_as_to_a_reader():
    """Right of the patient (the last of a RAS axis) on the left, front (the last) on top."""
    slice_ = np.arange(6).reshape(2, 3)
    assert shown(slice_).tolist() == [[5, 2], [4, 1], [3, 0]]
    assert on_screen(np.array([[1.0, 2.0], [0.0, 0.0]]), slice_.shape).tolist() == [[0, 0], [1, 2]]


def test_boxes_are_first_and_last_pixels():
    """Voxels 30 … 49 of 96 are columns 95 - 49 = 46 … 65, voxels 40 … 69 of 80 rows 10 … 39; the scale is 256 / 96."""
    predictor, network = marked("lite-medsam")
    predictor.decode(predictor.encode(image((96, 80, 1))), PromptSet((box(30, 40, 0),)))
    places, labels, masks, candidates = network.asked[0]
    assert labels == [2, 3] and masks is None and candidates is False
    assert places.tolist() == [[122, 26], [173, 104]], "46, 10, 65 and 39, scaled and cut to whole pixels"


def test_a_slice_is_encoded_once():
    predictor, network = marked("sam-vit-b")
    state = predictor.encode(image())
    assert network.encoded == 0, "slices of a volume wait for their first prompt"
    many = PromptSet(tuple(box(4 * n, 3 * n, object_id=n + 1) for n in range(12)))
    answer = predictor.decode(state, many)
    assert len(answer.objects) == 12 and network.encoded == 1
    predictor.decode(state, PromptSet((box(4, 4), Point((10.0, 10.0, 1.0), False, 1, "voxel"))), answer)
    assert network.encoded == 1
    predictor.decode(state, PromptSet((box(4, 4, 2),)))
    assert network.encoded == 2
    flat, network = marked("sam-vit-b")
    flat.encode(image((96, 80, 1)))
    assert network.encoded == 1, "the only slice is encoded when the image opens"


def test_candidates_and_masks_to_start_from():
    predictor, network = marked("sam-vit-b")
    state = predictor.encode(image())
    one = PromptSet((Point((30.0, 40.0, 1.0), True, 1, "voxel"),))
    first = predictor.decode(state, one)
    assert network.asked[-1][3] is True and first.objects[0].estimated_dice == pytest.approx(2 * 0.8 / 1.8)
    two = PromptSet((*one.prompts, Point((60.0, 40.0, 1.0), False, 1, "voxel")))
    predictor.decode(state, two, first)
    places, labels, masks, candidates = network.asked[-1]
    assert labels == [1, 0] and candidates is False and masks.shape == (1, 1, SIDE, SIDE)
    assert masks.max() > 7 and masks.min() < -7
    mask = np.zeros((96, 80, 3), bool)
    mask[10:30, 20:50, 1] = True
    predictor.decode(state, PromptSet((MaskPrompt(mask, image().grid, 1),)))
    assert network.asked[-1][1] == [2, 3] and network.asked[-1][2] is not None, "a mask goes with its box"


def test_weights_for_boxes_refuse_points():
    predictor, _ = marked("medsam")
    with pytest.raises(PromptError, match="point"):
        predictor.decode(predictor.encode(image()), PromptSet((Point((1.0, 1.0, 1.0), True, 1, "voxel"),)))


def test_intensities_reach_the_network_as_published():
    predictor, _ = marked("medsam")
    ct = Volume(np.array([[[-1000.0], [-160]], [[40], [500]]]), Grid((2, 2, 1), np.eye(4)), {"modality": "CT"})
    assert predictor.encode(ct).data.ravel().tolist() == [0, 0, 127, 255]
    picture = Volume(np.full((2, 2, 1), 200.0), Grid((2, 2, 1), np.eye(4)), {"format": "raster"})
    assert predictor.encode(picture).data.max() == 200, "an 8-bit picture stays as it is"


def test_clicks_in_3d():
    """A disc of 0.1 * 128 voxels of 1.5 mm around the click; a second click is on the same cube."""
    predictor, network = marked("sam-med3d")
    grid = Grid((100, 90, 60), np.diag([1.0, 1.0, 3.0, 1.0]))
    volume = Volume(np.random.default_rng(0).normal(100, 20, grid.shape), grid)
    state = predictor.encode(volume)
    click = Point((50.0, 40.0, 30.0), True, 1, "voxel")
    first = predictor.decode(state, PromptSet((click,)))
    assert network.asked[0][0] == pytest.approx(np.array([[64.0, 64, 64]]))
    assert not network.asked[0][2].any(), "zeros to start from, as the authors do"
    at = np.argwhere(first.objects[0].mask) - (50, 40, 30)
    radius_mm = np.abs(at * (1, 1, 3)).max(0)
    assert (radius_mm > 14).all() and (radius_mm < 24).all(), radius_mm  # 12.8 voxels of 1.5 mm
    predictor.decode(state, PromptSet((click, Point((60.0, 40.0, 30.0), False, 1, "voxel"))), first)
    places, labels, masks, _ = network.asked[1]
    assert network.encoded == 1 and labels == [1, 0] and masks.max() > 0
    assert places[1] == pytest.approx([64 + 10 / 1.5, 64, 64], abs=1e-4)
    with pytest.raises(ImageError, match="a volume"):
        predictor.encode(image((96, 80, 1)))


def test_litemedsam_itself_answers_twice_the_same():
    """The whole way with the real network at its real resolution and random tensors of the published layout."""
    path = Path(__file__).parents[1] / "networks" / "public" / "published.py"
    spec = importlib.util.spec_from_file_location("published", path)
    published = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(published)
    weights = get_public("lite-medsam")
    network = build(weights)
    fill(network, published.random_state(published.tiny_vit(1, 0)), weights.layout["keys"], "lite-medsam")
    predictor = predictor_of(weights, PublicParts.of(network))
    state = predictor.encode(image((96, 80, 1)))
    first, second = (predictor.decode(state, PromptSet((box(30, 40, 0),))).objects[0] for _ in range(2))
    assert first.probability.shape == (96, 80, 1) and np.isfinite(first.probability).all()
    assert np.ptp(first.probability) > 0.1 and np.array_equal(first.probability, second.probability)
