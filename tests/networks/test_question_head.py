"""The question answerer's network: objects of a token map, attention by the name, masks."""
import numpy as np
import pytest
import torch

from promptzoo.data.synthesis.attribute_questions import ANSWERS
from promptzoo.networks.open_vocabulary import EXTRA
from promptzoo.networks.question_head import MOST_OBJECTS, PLACE, QuestionHead, grounded, objects_of


@pytest.fixture
def tokens():
    """A map of 8 x 10 with two objects; the picture fills 6 x 10 of it."""
    told = np.full((EXTRA + 4, 8, 10), -5, np.float32)
    told[1:EXTRA] = 0
    told[0, 2, 3], told[0, 4, 7], told[0, 7, 1] = 2, 1, 9
    told[EXTRA:, 2, 3], told[EXTRA:, 4, 7] = [1, 0, 0, 0], [0, 1, 0, 0]
    return told


def test_objects_are_peaks_inside_the_picture(tokens):
    seen = objects_of(tokens, 48, 80)
    assert len(seen) <= MOST_OBJECTS and seen.shape[1] == PLACE + 4 and (np.diff(seen[:, 0]) <= 0).all()
    assert seen[:2, 0].tolist() == [2, 1], "the strongest lies beside the picture"
    assert seen[0, 1:5] == pytest.approx([28 / 80, 20 / 48, 16 / 80, 16 / 80])
    assert grounded(seen[:2], np.array([0, 3, 0, 0])).tolist() == [2, 4]


def test_what_the_name_fits_counts_and_rows_without_an_object_do_not(tokens):
    torch.manual_seed(0)
    network = QuestionHead(4, 16, 64).eval()
    seen = torch.from_numpy(objects_of(tokens, 48, 80)[:2])[None]
    there = torch.tensor([[True, True]])
    with torch.inference_mode():
        first, second = (network(seen, torch.tensor([fits]), there, ["What color is it?"])
                         for fits in ([40.0, 0.0], [0.0, 40.0]))
        alone = network(seen[:, :1], torch.tensor([[40.0]]), there[:, :1], ["What color is it?"])
        padded = network(torch.cat([seen, 9 * torch.ones_like(seen)], 1), torch.tensor([[40.0, 0, 50, 50]]),
                         torch.tensor([[True, True, False, False]]), ["What color is it?"])
        other = network(seen, torch.tensor([[40.0, 0.0]]), there, ["Where?"])
    assert first.shape == (1, len(ANSWERS)) and first.exp().sum() == pytest.approx(1, abs=1e-4)
    assert not torch.allclose(first, second, atol=1e-3)
    assert torch.allclose(first, alone, atol=1e-4) and torch.allclose(first, padded, atol=1e-4)
    assert not torch.allclose(first, other, atol=1e-3)
