"""Anatomical phantoms: the structures that they promise, where they belong, and intensities that follow tissues."""
import numpy as np
import pytest

from promptzoo.core.errors import PromptZooError
from promptzoo.core.seeding import generator
from promptzoo.data.anatomy import head, knee, render_ct, render_random, torso
from promptzoo.data.anatomy.names import ALL_STRUCTURES, STRUCTURES, absent_elsewhere
from promptzoo.data.anatomy.tissues import CT_RANGES, NUMBER
from promptzoo.text.lexicon import Lexicon

MAKERS = {"torso": (torso, 7.0), "head": (head, 3.5), "knee": (knee, 4.0)}


@pytest.fixture(scope="module", params=MAKERS)
def whole(request):
    """A phantom from which nothing was taken out."""
    make, spacing = MAKERS[request.param]
    return make(3, spacing, absent=())


def centre(body, name):
    at = np.argwhere(body.mask(name))
    assert len(at), name
    return at.mean(0) * body.spacing_mm


def test_names(whole):
    """Every structure promised is there, and only those; the lexicon knows them all."""
    sexed = {"prostate", "uterus"}
    assert set(whole.present()) - sexed == set(STRUCTURES[whole.region]) - sexed
    assert all(name in Lexicon.load() for name in ALL_STRUCTURES)


def test_sides(whole):
    """The first axis runs to the patient's right: of each pair, the right one lies at higher indices."""
    for name in whole.present():
        if name.endswith("_left"):
            other = name.removesuffix("left") + "right"
            assert centre(whole, other)[0] > centre(whole, name)[0] + 3, name


def test_places():
    """Head is up, front is front, the liver is on the right, the spleen on the left."""
    body = torso(1, 7.0, absent=())
    x, y, z = ({n: centre(body, n)[a] for n in body.present()} for a in range(3))
    assert x["liver"] > x["stomach"] > x["spleen"] and x["inferior_vena_cava"] > x["aorta"]
    assert y["liver"] > y["spine"] and y["urinary_bladder"] > y["sacrum"]
    assert z["heart"] > z["liver"] > z["colon"] > z["urinary_bladder"] > z["prostate"]


def test_absent():
    """What was taken out is nowhere, and its neighbours stay."""
    body = torso(1, 8.0, absent=("spleen", "gallbladder"))
    assert not body.mask("spleen").any() and not body.mask("gallbladder").any() and body.mask("liver").any()
    assert "patella" in absent_elsewhere("torso") and "femur" not in absent_elsewhere("torso")


def test_seeds():
    """A seed is a body; another seed another one."""
    one, same, other = knee(5, 5.0), knee(5, 5.0), knee(6, 5.0)
    assert np.array_equal(one.structure, same.structure) and one.spacing_mm == same.spacing_mm
    assert one.spacing_mm != other.spacing_mm and not np.array_equal(one.structure, other.structure)


def test_intensities():
    """CT keeps the tissues apart in Hounsfield units; a random contrast keeps air and compact bone dark."""
    tissue = torso(2, 8.0).tissue
    ct = render_ct(tissue, generator(1))
    for name in ("air", "lung", "fat", "cortical"):
        inside = ct[tissue == NUMBER[name]]
        assert CT_RANGES[name][0] - 120 < np.median(inside) < CT_RANGES[name][1] + 120, name
    contrasts = [render_random(tissue, generator(seed)) for seed in range(4)]
    assert all(np.median(c[tissue == NUMBER["air"]]) < 0.3 * np.percentile(c, 95) for c in contrasts)
    liver_brighter = {bool(np.median(c[tissue == NUMBER["liver"]]) > np.median(c[tissue == NUMBER["fat"]]))
                      for c in contrasts}
    assert liver_brighter == {True, False}


def test_voxel_size():
    with pytest.raises(PromptZooError, match="voxel size of a phantom"):
        torso(0, 0.1)
