"""Queries that predict prompts, what they are trained towards, and their loss."""
import numpy as np
import pytest
import torch

from promptzoo.core.errors import BundleError
from promptzoo.inference.query_prompts import QuerySettings
from promptzoo.networks.query_prompts import QueryLayer, QueryPromptSam
from promptzoo.networks.sam import PromptableSam
from promptzoo.training.query_prompts import QueryLoss, objects_of, semantic

SMALL = {"size": 64, "channels": [8, 8, 16, 16, 16], "hidden": 32}


def _labels():
    labels = np.zeros((64, 64), np.int64)
    labels[8:24, 12:40], labels[40:56, 44:60] = 1, 3
    return labels


def _network(queries):
    torch.manual_seed(0)
    return QueryPromptSam(3, queries, 16, **SMALL).eval()


@pytest.mark.parametrize("queries, wanted", [(0, (3, 1)), (5, (5, 4))])
def test_queries_predict_prompts_and_change_nothing_else(queries, wanted):
    ours, base = _network(queries), PromptableSam(**SMALL).eval()
    base.load_state_dict({k: v for k, v in ours.state_dict().items() if not k.startswith("prompt_head")})
    image = torch.randn(2, 1, 64, 64)
    with torch.inference_mode():
        assert torch.equal(ours(image), base(image))
        told = ours.propose(*ours.image_encoder(image))
    kinds, masks, centres, boxes = told
    assert kinds.shape == (2, *wanted) and boxes.shape == (2, wanted[0], 4)
    assert masks.shape == centres.shape == (2, wanted[0], 16, 16)
    chances = ours.prompt_head.chances(kinds)
    assert chances.shape == (2, wanted[0], 3) and (chances >= 0).all() and (chances.sum(2) <= 1 + 1e-5).all()
    assert semantic(ours.prompt_head, told).shape == (2, 4, 16, 16)


def test_the_written_out_layer_is_torch_s():
    torch.manual_seed(0)
    ours, theirs = QueryLayer(16).eval(), torch.nn.TransformerDecoderLayer(16, 4, 32, 0.0, batch_first=True).eval()
    theirs.load_state_dict(ours.state_dict())
    queries, seen = torch.randn(2, 3, 16), torch.randn(2, 9, 16)
    assert torch.allclose(ours(queries, seen), theirs(queries, seen), atol=1e-6)


def test_the_objects_of_a_slice():
    first, second = objects_of(_labels())
    assert (first["kind"], second["kind"]) == (0, 2)
    assert first["box"].tolist() == [7.5, 11.5, 23.5, 39.5] and first["mask"].sum() == 4 * 7
    assert second["mask"].reshape(-1)[second["centre"]] == 1
    assert objects_of(np.zeros((64, 64), np.int64)) == []


def _perfect(labels, order, count):
    """Answers of ``count`` queries of which the first in ``order`` know the objects."""
    found = objects_of(labels)
    kinds, masks = torch.full((1, count, 4), -6.0), torch.full((1, count, 16, 16), -6.0)
    kinds[..., 0] = 6
    centres, boxes = torch.zeros(1, count, 16, 16), torch.zeros(1, count, 4)
    for query, entry in zip(order, found):
        kinds[0, query, 0], kinds[0, query, 1 + entry["kind"]] = -6, 6
        masks[0, query] = torch.from_numpy(12 * entry["mask"] - 6)
        centres[0, query].view(-1)[entry["centre"]] = 20
        boxes[0, query] = torch.from_numpy(entry["box"])
    return kinds, masks, centres, boxes


def test_free_queries_are_matched_in_any_order():
    head, loss, truth = _network(5).prompt_head, QueryLoss(), [objects_of(_labels())]
    losses = [float(loss(head, _perfect(_labels(), order, 5), truth)) for order in ((0, 1), (4, 2))]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4) and losses[0] < 0.1
    swapped = _perfect(_labels(), (0, 1), 5)
    assert float(loss(head, (swapped[0].flip(1), *swapped[1:]), truth)) > 1


def test_queries_of_a_class_answer_for_it_alone():
    head, loss, truth = _network(0).prompt_head, QueryLoss(), [objects_of(_labels())]
    kinds, *others = _perfect(_labels(), (0, 2), 3)
    present = torch.tensor([[[6.0], [-6.0], [6.0]]])
    assert float(loss(head, (present, *others), truth)) < 0.1
    wrong = [part.roll(1, 1) for part in others]
    assert float(loss(head, (present, *wrong), truth)) > 1
    assert float(loss(head, (-present, *others), truth)) > 1


def test_a_slice_without_objects_trains_the_class_alone():
    head = _network(0).prompt_head
    told = [part.clone().requires_grad_() for part in _perfect(np.zeros((64, 64), np.int64), (), 3)]
    told[0] = torch.full((1, 3, 1), 2.0, requires_grad=True)
    QueryLoss()(head, told, [[]]).backward()
    assert told[0].grad.abs().min() > 0 and not told[1].grad.any()


def test_some_prompt_must_be_given():
    with pytest.raises(BundleError, match="box, centre, mask"):
        QuerySettings(box=False, centre=False, mask=False)
