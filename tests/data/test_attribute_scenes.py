"""Attribute scenes are what their words say, and phrases mean the objects that they should."""
import numpy as np
import pytest

from promptzoo.core.errors import ImageError, NotFoundError
from promptzoo.core.seeding import generator
from promptzoo.data.coco_boxes import read_coco
from promptzoo.data.synthesis.attribute_scenes import DOMAINS, AttributeScenes, colour_of
from promptzoo.data.synthesis.attribute_words import COLOURS, Described, changed, match, phrase_for


@pytest.fixture(scope="module")
def scenes():
    return AttributeScenes(96, 3)


@pytest.mark.parametrize("domain", DOMAINS)
def test_scenes_repeat_and_boxes_hold_something(scenes, domain):
    seen = 0
    for n in range(4):
        (picture, objects), (again, _) = (scenes.sample(generator(4, n), domain) for _ in range(2))
        assert np.array_equal(picture, again)
        assert picture.shape == (96, 96, 3) and picture.dtype == np.float32
        assert 0 <= picture.min() and picture.max() <= 1
        for one in objects:
            x0, y0, x1, y1 = one.box
            assert 0 <= x0 < x1 <= 96 and 0 <= y0 < y1 <= 96 and not one.true & one.open
            seen += 1
    assert seen > 3


def test_a_scene_too_small_is_refused():
    with pytest.raises(ValueError, match="at least 64"):
        AttributeScenes(32)


def test_drawn_colours_are_told_apart():
    from promptzoo.text.attributes.answers import colour_words

    rng = generator(1)
    right = [colour_words(colour_of(rng, name)[None])[0] == name for name in COLOURS for _ in range(20)]
    assert np.mean(right) > 0.8


RED = Described((0, 0, 10, 10), frozenset({"red", "round", "cell", "object", "small"}), frozenset({"pink", "oval"}))
BLUE = Described((20, 20, 60, 60), frozenset({"blue", "square", "cell", "object", "large"}), frozenset())


@pytest.mark.parametrize("phrase, meant", [
    ("cell", [1, 1]), ("red cell", [1, 0]), ("a tiny circle", [1, 0]), ("pink cell", [-1, 0]),
    ("Big, blue SHAPE!", [0, 1]), ("red square", [0, 0]),
    ("xyzzy", [1, 1]), ("green cell", [0, 0]), ("oval red cell", [-1, 0])])
def test_a_phrase_is_a_conjunction(phrase, meant):
    assert match(phrase, [RED, BLUE]).tolist() == meant


def test_made_phrases_mean_their_object_and_changed_ones_do_not():
    rng = generator(2)
    true = [match(phrase_for(rng, one), [one])[0] for one in (RED, BLUE) for _ in range(50)]
    false = [match(changed(rng, one), [one])[0] for one in (RED, BLUE) for _ in range(50)]
    assert all(v == 1 for v in true) and np.mean([v == 0 for v in false]) > 0.9


def test_coco_files_are_read_and_bad_ones_refused(tmp_path):
    file = tmp_path / "boxes.json"
    file.write_text('{"categories": [{"id": 7, "name": "RBC"}], "images": [{"id": 1, "file_name": "img/a.jpg", '
                    '"width": 64, "height": 48, "split": "test"}, {"id": 2, "file_name": "img/b.jpg", "width": 8, '
                    '"height": 8}], "annotations": [{"image_id": 1, "category_id": 7, "bbox": [50, 40, 30, 4]}, '
                    '{"image_id": 1, "category_id": 7, "bbox": [5, 5, 0, 4]}]}')
    first, second = read_coco(file)
    assert first.boxes.tolist() == [[50, 40, 64, 44]] and first.names == ("RBC",) and first.split == "test"
    assert first.path == tmp_path / "img" / "a.jpg" and first.size == (64, 48)
    assert second.boxes.shape == (0, 4) and second.split == ""
    file.write_text('{"images": [{}]}')
    with pytest.raises(ImageError, match="COCO"):
        read_coco(file)
    with pytest.raises(NotFoundError):
        read_coco(tmp_path / "none.json")
