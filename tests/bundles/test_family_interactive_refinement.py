"""The honest small check of the family interactive-refinement, on the shipped weights and on those of its variants.

Procedural windows of a seed that no training uses. A session begins with a click in the middle of the object; every
further click falls into the middle of the largest error (the protocol's rule). The window is held still, so that one
interaction is one pass of the network and the zoom plays no part. Numbers beside a threshold were measured on these
windows when the weights were made.

A variant whose weights are not there yet is skipped; one that the metadata calls working must pass.
"""
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from promptzoo.cli.maintain.verify import bundle_folders
from promptzoo.core.bundles import get_bundle
from promptzoo.core.geometry import Grid
from promptzoo.core.seeding import generator
from promptzoo.core.volume import Volume
from promptzoo.inference.loader import load_network, load_predictor, read_bundle_config
from promptzoo.inference.monai_inferer import TorchNetwork
from promptzoo.inference.object_prompts import ObjectPrompts
from promptzoo.inference.zoom import ZoomSegmenter, ZoomSettings
from promptzoo.prompts import Point, PromptSet
from promptzoo.prompts.encoders import WindowPrompts, prompt_maps
from promptzoo.prompts.simulators.clicks import centre_of_largest_error, depth
from promptzoo.training.context import SimulatedContext
from promptzoo.training.dataset import ProceduralDataset

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
SEED = 20260
SIDES, COUNTS, CLICKS = {2: 96, 3: 48}, {2: 40, 3: 8}, {2: 10, 3: 5}
GOAL, DROP = 0.90, 0.02

LEAST_SAVED = 0.5
"""Clicks to 0.90 Dice that the memory of the previous mask must save on average."""
GOAL_DROPS, MOST_DROPS = 0.05, 0.15
"""Share of correct further clicks that may lower Dice by more than 0.02: the goal, and a guard against getting worse.
The shipped weights miss the goal: 0.089 in 2D, 0.125 in 3D."""
LEAST_OBEYED = 0.9
"""Share of negative clicks on the mask that the network itself obeys, at the very voxel."""
LEAST_PRIOR_GAIN = 0.05
"""What the priors of khor-ctv must add to the Dice of the first mask."""


def _cases():
    """``(bundle folder, variant or "")`` of everything in the family that has weights of its own."""
    found = []
    for folder in bundle_folders(BUNDLES):
        info = get_bundle(folder)
        if info.family == "interactive-refinement":
            found += [(folder, name) for name in ("", *info.variants())]
    return found


def _name(case):
    return f"{case[0].name}-{case[1] or 'base'}"


VARIANTS = [case for case in _cases() if case[1]]


@dataclass(frozen=True, eq=False)
class Model:
    """A network with its weights and the settings of its bundle."""

    folder: Path
    variant: str
    dims: int
    network: TorchNetwork
    settings: ZoomSettings
    priors: tuple

    def still(self):
        """A segmenter whose window is the whole array of side ``SIDES[dims]``, whatever is prompted."""
        side = SIDES[self.dims]
        settings = replace(self.settings, window=side, min_side_px=side, click_scales=(1.0,), max_passes=1,
                           overhang=1.0)
        return ZoomSegmenter(self.network, settings, len(self.priors))

    def raw(self, image, prompts):
        """What the network alone says of a whole window: probability ``[*S]``."""
        fused = np.concatenate([image[None], prompt_maps(prompts, image),
                                np.zeros((len(self.priors), *image.shape), np.float32)])
        return 1 / (1 + np.exp(-self.network(fused[None].astype(np.float32))[0][0, 0]))


@cache
def _model(folder, variant):
    info = get_bundle(folder)
    parser = read_bundle_config(info, variant or None)
    if not Path(str(parser.get_parsed_content("weights"))).is_file():
        working = "works" in info.systems.values() if not variant else info.systems.get(variant) == "works"
        return "missing" if working else None
    network, parser = load_network(info, variant or None)
    inferer = parser.get_parsed_content("inferer")
    return Model(folder, variant, info.dimensions, TorchNetwork(network), inferer.settings, inferer.priors)


@pytest.fixture(params=_cases(), ids=_name)
def model(request):
    """Every network of the family whose weights are there."""
    found = _model(*request.param)
    if found is None:
        pytest.skip(f"the weights of {_name(request.param)} are not trained yet; its metadata does not say works")
    assert found != "missing", f"the metadata says that {_name(request.param)} works, but its weights are missing"
    return found


@cache
def windows(dims):
    """Images ``[n, *S]`` in [-1, 1] and masks ``[n, *S]`` bool."""
    data = ProceduralDataset(dims, COUNTS[dims], targets_per_scene=1, size=SIDES[dims], seed=SEED)
    items = [data[n] for n in range(len(data))]
    return (np.concatenate([i["image"][:, 0].numpy() for i in items]),
            np.concatenate([i["label"][:, 0].numpy() for i in items]))


def dice(first, second):
    """Dice of two masks."""
    return 2 * (first & second).sum() / max(1, first.sum() + second.sum())


class Session:
    """Clicks on one window."""

    def __init__(self, truth):
        self.truth, self.clicks = truth, ([], [])

    def click(self, mask):
        """Click into the middle of the largest error; whether there was one."""
        found = centre_of_largest_error(self.truth & ~mask, mask & ~self.truth)
        if found is not None:
            self.clicks[not found[1]].append(found[0])
        return found is not None

    def points(self):
        """Positive and negative clicks ``[n, d]``."""
        return [np.array(c, float).reshape(-1, self.truth.ndim) for c in self.clicks]

    def prompts(self, previous=None, context=()):
        """What a segmenter is told."""
        nothing = np.zeros((0, self.truth.ndim))
        return ObjectPrompts(*self.points(), None, nothing, nothing, (), previous, tuple(context))


@cache
def series(model, memory):
    """Dice ``[n, clicks]`` after each click, and whether a click was made ``[n, clicks]``."""
    segmenter, curves, clicked = model.still(), [], []
    for image, truth in zip(*windows(model.dims)):
        session, previous, curve, made = Session(truth), None, [], []
        for _ in range(CLICKS[model.dims]):
            mask = np.zeros_like(truth) if previous is None else previous >= 0.5
            made.append(session.click(mask))
            known = previous if memory and mask.any() else None
            previous = segmenter(image, (1.0,) * model.dims, session.prompts(known)).probability
            curve.append(dice(previous >= 0.5, truth))
        curves.append(curve)
        clicked.append(made)
    return np.array(curves), np.array(clicked)


def clicks_needed(curve):
    """Mean number of clicks to the goal; one more than the session has where it is not reached."""
    reached = curve >= GOAL
    return float(np.where(reached.any(1), reached.argmax(1) + 1, curve.shape[1] + 1).mean())


def share_of_drops(curve, clicked):
    """Share of further clicks that lower Dice by more than the allowance."""
    fell = (np.diff(curve, axis=1) < -DROP) & clicked[:, 1:]
    return float(fell.sum() / max(1, clicked[:, 1:].sum()))


def _not_yet_in_3d(model, request, reason):
    """The 3D weights are undertrained; strict, so that better weights bring this up again."""
    if model.dims == 3:
        request.applymarker(pytest.mark.xfail(strict=True, reason=reason))


def test_memory_saves_clicks(model, record_property, request):
    """Clicks to 0.90 Dice, against the same network from which the previous mask is withheld."""
    _not_yet_in_3d(model, request, "weights 0.2.0: 5.6 clicks with memory, 6.0 without")
    kept, withheld = (clicks_needed(series(model, memory)[0]) for memory in (True, False))
    record_property("clicks", [kept, withheld])
    assert kept <= withheld - LEAST_SAVED, f"with memory {kept:.2f} clicks, without {withheld:.2f}"


def test_correct_clicks_do_not_hurt(model, record_property, request):
    """The goal of the family, on the share of correct further clicks that lower Dice."""
    if not model.variant:
        request.applymarker(pytest.mark.xfail(strict=True, reason="weights 0.2.0: 8.9 % in 2D, 12.5 % in 3D"))
    share = share_of_drops(*series(model, True))
    record_property("drops", share)
    assert share <= GOAL_DROPS, f"{share:.1%} of the further clicks lower Dice by more than {DROP}"


def test_correct_clicks_rarely_hurt(model):
    """Short of the goal, no weights may be clearly worse than the first ones."""
    assert share_of_drops(*series(model, True)) <= MOST_DROPS


def test_more_clicks_are_better(model):
    """The mean Dice after the last click is well above that after the first."""
    curve = series(model, True)[0].mean(0)
    assert curve[-1] >= curve[0] + 0.05, curve.round(3).tolist()


def test_network_obeys_negative_clicks(model, record_property):
    """The deepest place of the first mask away from the click is denied: the network itself takes it away."""
    obeyed = []
    for image, truth in zip(*windows(model.dims)):
        session = Session(truth)
        session.click(np.zeros_like(truth))
        first = model.raw(image, WindowPrompts(model.dims, session.points()[0]))
        gap = sum((g - c) ** 2 for g, c in zip(np.indices(truth.shape, sparse=True), session.clicks[0][0])) > 64
        inner = depth(first > 0.5) * gap
        if inner.max() >= 2:
            place = np.unravel_index(int(inner.argmax()), truth.shape)
            told = WindowPrompts(model.dims, session.points()[0], np.array([place], float), previous=first)
            obeyed.append(model.raw(image, told)[place] < 0.5)
    share = float(np.mean(obeyed))
    record_property("obeyed", share)
    assert len(obeyed) >= COUNTS[model.dims] // 3 and share >= LEAST_OBEYED, f"{share:.1%} of {len(obeyed)} obeyed"


def _two_balls(dims):
    """A volume with two bright balls, and their masks."""
    shape = (96, 80, 1) if dims == 2 else (64, 48, 40)
    grid = np.indices(shape)
    middle = shape[2] // 2
    masks = [sum((g - c) ** 2 for g, c in zip(grid, centre)) < 12 ** 2
             for centre in ((20, 22, middle), (shape[0] - 20, 24, middle))]
    noise = generator(SEED).normal(0, 8, shape)
    return Volume(100 + 90 * (masks[0] | masks[1]) + noise, Grid(shape, np.diag([1.0, 1.0, 1.0, 1.0]))), masks


@cache
def _predictor(folder, variant):
    return load_predictor(folder, engine="torch", variant=variant or None)


def test_two_objects_in_one_call(model, request):
    """Two objects clicked in one call give two masks, each of its own ball."""
    _not_yet_in_3d(model, request, "weights 0.2.0: one mask leaks into the other ball (Dice 0.90)")
    volume, masks = _two_balls(model.dims)
    predictor = _predictor(model.folder, model.variant)
    points = [Point(tuple(np.argwhere(mask).mean(0)), True, n + 1, "voxel") for n, mask in enumerate(masks)]
    answer = predictor.decode(predictor.encode(volume), PromptSet(tuple(points)))
    assert [entry.object_id for entry in answer.objects] == [1, 2]
    for entry, own, other in zip(answer.objects, masks, reversed(masks)):
        assert dice(entry.mask, own) > 0.8 and not (entry.mask & other).any()


def test_negative_click_removes_that_place(model):
    """In the predictor, always: the clicked voxel and its neighbours leave the mask, most of the rest stays."""
    volume, (mask, _) = _two_balls(model.dims)
    predictor = _predictor(model.folder, model.variant)
    state, centre = predictor.encode(volume), np.argwhere(mask).mean(0)
    first = PromptSet((Point(tuple(centre), True, 1, "voxel"),))
    before = predictor.decode(state, first)
    place = (centre + (0, 7, 0)).astype(int)
    after = predictor.decode(state, first.adding(Point(tuple(place), False, 1, "voxel")), before)
    assert before.objects[0].mask[tuple(place)] and not after.objects[0].mask[tuple(place)]
    assert after.objects[0].mask[tuple(centre.astype(int))]


@pytest.mark.parametrize("model", [c for c in VARIANTS if c[1] == "khor-ctv"], ids=_name, indirect=True)
def test_removing_the_prior_lowers_the_first_mask(model, record_property):
    """The first click with and without what is known of target and avoided structures."""
    segmenter, context, scores = model.still(), SimulatedContext(model.priors, dropout=0.0), []
    for n, (image, truth) in enumerate(zip(*windows(model.dims))):
        session = Session(truth)
        session.click(np.zeros_like(truth))
        looks = [segmenter(image, (1.0,) * model.dims, session.prompts(context=known))
                 for known in (context(truth, generator(SEED, n)), ())]
        scores.append([dice(look.probability >= 0.5, truth) for look in looks])
    told, untold = np.mean(scores, 0)
    record_property("first_mask", [float(told), float(untold)])
    assert told >= untold + LEAST_PRIOR_GAIN, f"with priors {told:.3f}, without {untold:.3f}"


@pytest.mark.parametrize("model", [c for c in VARIANTS if c[1] == "pe-med"], ids=_name, indirect=True)
def test_first_mask_is_fed_back_before_it_is_shown(model):
    """The last window is answered twice, and the gates have learned to differ from 1."""
    volume, masks = _two_balls(model.dims)
    predictor = _predictor(model.folder, model.variant)
    point = Point(tuple(np.argwhere(masks[0]).mean(0)), True, 1, "voxel")
    looks = predictor.decode(predictor.encode(volume), PromptSet((point,))).objects[0].info["windows"][0]
    assert len(looks) >= 2 and looks[-1] == looks[-2]
    assert all(gate.mix[-1].weight.abs().max() > 1e-3 for gate in model.network.network.attention)
