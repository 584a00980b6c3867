"""Peers on images where they must work."""
import numpy as np
import pytest

from promptzoo.core.errors import NotFoundError, PromptError
from promptzoo.core.optional import available
from promptzoo.core.protocols import Predictor
from promptzoo.evaluation.baselines import BASELINES, make_baseline
from promptzoo.evaluation.protocols import run_case
from promptzoo.prompts.types import Box, Lasso, Point, PromptSet

needs_cut = pytest.mark.skipif(not available("numpymaxflow"), reason="numpymaxflow comes with the extra 'label'")


@pytest.mark.parametrize("name", [n if n != "graph-cut" else pytest.param(n, marks=needs_cut) for n in BASELINES])
def test_all_keep_the_protocol(name, make_case):
    peer, case = make_baseline(name), make_case(noise=0.1)
    assert isinstance(peer, Predictor) and peer.name == name
    prompts = PromptSet((Box((8, 8, 0), (38, 30, 1), 1, "voxel"), Point((22, 19, 0), True, 2, "voxel"),
                         Point((2, 2, 0), False, 2, "voxel"))).to_world(case.grid)
    first, second = (peer.decode(peer.encode(case.volume), prompts) for _ in range(2))
    assert [o.object_id for o in first.objects] == [1, 2] and first[1].mask.shape == case.grid.shape
    assert np.array_equal(first.labelmap(), second.labelmap())
    with pytest.raises(PromptError, match="not taken"):
        peer.decode(case.volume, PromptSet((Lasso(np.eye(3)),)))


def test_unknown_name():
    with pytest.raises(NotFoundError, match="random-walker"):
        make_baseline("grabcut")


@pytest.mark.parametrize("shape, center, radii", [
    ((48, 40, 1), (22, 19, 0), (12.4, 9.4, 1)), ((30, 1, 50), (14, 0, 25), (9.4, 1, 20.4)),
    ((30, 40, 20), (15, 20, 9), (9.4, 13.4, 6.4))])
def test_ellipse_in_the_box_of_an_ellipse(shape, center, radii, make_case):
    """Radii just short of half a voxel more, so that the tips are not single voxels."""
    case = make_case(shape, center, radii)
    dice = {name: run_case(case, make_baseline(name), "box", box_style="tight")[0].dice[0]
            for name in ("ellipse", "rectangle")}
    assert dice["ellipse"] >= 0.97
    assert dice["rectangle"] < 0.9


def test_ellipse_from_clicks_lies_on_the_click(make_case):
    trial, = run_case(make_case(), make_baseline("ellipse"), "clicks", 1)
    assert trial.mask[22, 19, 0] and 0 < trial.mask.sum() < 400


@pytest.mark.parametrize("name", ["random-walker", pytest.param("graph-cut", marks=needs_cut)])
def test_seeded_methods_on_a_noisy_disk(name, make_case):
    trial, = run_case(make_case(noise=0.15), make_baseline(name), "clicks", 4)
    assert trial.dice[-1] >= 0.9
    assert run_case(make_case(noise=0.15), make_baseline(name), "box")[0].dice[0] >= 0.9


@pytest.mark.parametrize("name", ["random-walker", pytest.param("graph-cut", marks=needs_cut)])
def test_seeded_methods_in_a_volume(name, make_case):
    case = make_case((70, 40, 24), (30, 20, 12), (14, 10, 6), (1, 1, 2), noise=0.1)
    trial, = run_case(case, make_baseline(name), "box+clicks", 2)
    assert trial.dice[-1] >= 0.9


@pytest.mark.parametrize("name", ["random-walker", pytest.param("graph-cut", marks=needs_cut)])
@pytest.mark.parametrize("value", [True, False])
def test_clicks_are_obeyed(name, value, make_case):
    case, peer = make_case(noise=0.1), make_baseline(name)
    place = (22, 19, 0) if not value else (3, 3, 0)
    prompts = PromptSet((Point((20, 17, 0), True, 1, "voxel"), Point(place, value, 1, "voxel")))
    assert peer.decode(peer.encode(case.volume), prompts)[1].mask[place] == value


def test_nothing_positive_gives_nothing(make_case):
    case = make_case()
    prompts = PromptSet((Point((1, 1, 0), False, 1, "voxel"),))
    for name in ("ellipse", "rectangle", "random-walker"):
        assert not make_baseline(name).decode(case.volume, prompts)[1].mask.any()
