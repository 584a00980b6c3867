"""A detector that learns from its own boxes: pseudo labels, and a student that keeps to them."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from promptzoo.core.errors import PromptZooError
from promptzoo.evaluation.detection_protocol import scene_volume
from promptzoo.inference.detector import Boxes
from promptzoo.inference.picture import Picture
from promptzoo.networks.open_vocabulary import OpenVocabularyDetector
from promptzoo.training.self_training import pseudo_labels, self_trained


class Teacher:
    """Finds one sure box and one that is not, in pictures that are bright."""

    def encode(self, volume):
        return SimpleNamespace(picture=Picture.of(volume))

    def find(self, state, text):
        n = 2 if state.picture.rgb.mean() > 0.5 else 0
        return Boxes(np.array([[4.0, 4, 20, 20], [30, 30, 40, 44]])[:n], np.array([0.6, 0.2])[:n]), []


def volumes(*levels):
    """Grey pictures, 48 rows and 64 columns."""
    return [scene_volume(np.full((48, 64, 3), level, np.float32)) for level in levels]


def test_sure_boxes_are_the_labels_and_pictures_without_one_stay(tmp_path):
    cases = pseudo_labels(Teacher(), volumes(0.8, 0.2), "nucleus", 0.3, tmp_path)
    assert [case.names for case in cases] == [("nucleus",), ()] and cases[0].boxes.tolist() == [[4, 4, 20, 20]]
    assert cases[0].size == (64, 48) and np.asarray(Image.open(cases[0].path)).shape == (48, 64, 3)
    assert len(pseudo_labels(Teacher(), volumes(0.8), "nucleus", 0.1, tmp_path)[0].boxes) == 2


def test_a_student_is_a_changed_copy_and_repeats():
    torch.manual_seed(0)
    network = OpenVocabularyDetector(64, (8, 8, 16, 16, 16), 16, 16, 64)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first, boxes = self_trained(network, Teacher(), volumes(0.8, 0.2), "nucleus", 2, seed=3)
    again, _ = self_trained(network, Teacher(), volumes(0.8, 0.2), "nucleus", 2, seed=3)
    assert boxes == 1 and all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    changed = [name for name, value in first.state_dict().items() if not torch.equal(value, before[name])]
    assert changed and all(torch.equal(again.state_dict()[name], first.state_dict()[name]) for name in changed)


def test_a_teacher_that_finds_nothing_teaches_nothing():
    with pytest.raises(PromptZooError, match="--threshold"):
        self_trained(None, Teacher(), volumes(0.1, 0.2), "nucleus", 2)
