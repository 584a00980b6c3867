"""Images whose masks a record decides."""
import numpy as np
import pytest

from promptzoo.data.synthesis.clinical import GRADES, STUDIES, TARGETS, organ_at, scenes


@pytest.fixture(scope="module")
def drawn():
    """Six scenes of each study."""
    return {study: scenes(6, study, 96, 5) for study in STUDIES}


def test_scenes(drawn):
    """Images are finite, always the same, and have something to ask for."""
    for study, some in drawn.items():
        again = scenes(1, study, 96, 5)[0]
        assert np.array_equal(again.image, some[0].image) and again.record == some[0].record
        for scene in some:
            assert scene.image.shape == (96, 96) and scene.image.dtype == np.float32 and np.isfinite(scene.image).all()
            assert any(scene.truth(target).any() for target in TARGETS[study])


def test_the_grade_decides(drawn):
    """The same image has an enhancing part and a small core in a high grade, none and a large core in a low one."""
    seen = set()
    for scene in drawn[STUDIES[0]]:
        masks = {(t, g): scene.truth(t, {"grade": g}).sum() for t in TARGETS[scene.study] for g in GRADES}
        assert masks["enhancing tumour", "high"] > 0 == masks["enhancing tumour", "low"]
        assert masks["tumour core", "high"] < masks["tumour core", "low"] == masks["whole tumour", "high"]
        seen.add(scene.record["grade"])
    assert seen == set(GRADES)


def test_the_segment_decides(drawn):
    """Segments do not overlap; the largest lesion lies in the recorded one; all lesions lie in some segment."""
    for scene in drawn[STUDIES[1]]:
        each = [scene.truth("liver lesion", {"segment": n}) for n in "12345678"]
        assert np.sum(each, 0).max() == 1 and np.array_equal(np.any(each, 0), scene.layers["lesions"])
        assert scene.truth("liver lesion").sum() == max(one.sum() for one in each)


def test_the_position_decides(drawn):
    """Loops at one place are another organ in another slice."""
    assert [organ_at("left flank", p) for p in (0.1, 0.5)] == ["stomach", "large bowel"]
    assert [organ_at("front", p) for p in (0.1, 0.5, 0.9)] == ["stomach", "large bowel", "small bowel"]
    for scene in drawn[STUDIES[2]]:
        low, high = (scene.truth("stomach", {"position": p}) for p in ("0.1", "0.9"))
        assert not high.any() and low.any() == (scene.layers["left flank"] | scene.layers["front"]).any()


def test_a_click_chooses(drawn):
    """A click on a glomerulus leaves the others out."""
    for scene in drawn[STUDIES[3]]:
        whole = scene.truth("glomerulus")
        at = tuple(np.argwhere(whole)[0])
        one = scene.truth("glomerulus", click=at)
        assert one[at] and not (one & ~whole).any() and len(np.unique(scene.clicks[one])) == 1
        assert (scene.truth("nuclei") & ~scene.truth("glomerular tuft")).sum() == 0
