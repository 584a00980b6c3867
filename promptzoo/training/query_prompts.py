"""Training of queries that predict prompts, with the SAM-like network around them frozen."""
from __future__ import annotations

from typing import Any, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from torch import nn

from promptzoo.networks.query_prompts import QUERY_STRIDE, QueryPrompts
from promptzoo.training.binary import full_size
from promptzoo.training.classes import ClassUpdate, class_dice
from promptzoo.training.step import optimise

LEAST_CELLS = 2.0
"""Size from which an object counts, in cells of the queries' maps."""


def objects_of(label: np.ndarray) -> list[dict[str, Any]]:
    """The classes of a label map ``[S, S]``, each as one object.

    Returns:
        Per class that is there: ``kind`` (0 for label 1 …), ``mask`` ``[S/4, S/4]`` float32, ``box`` faces ``[4]`` and
        ``centre``, the flat index of its deepest cell.
    """
    side, found = label.shape[0] // QUERY_STRIDE, []
    for value in np.unique(label[label > 0]):
        whole = label == value
        mask = whole.reshape(side, QUERY_STRIDE, side, QUERY_STRIDE).mean((1, 3), dtype=np.float32)
        if mask.sum() < LEAST_CELLS:
            continue
        rows, columns = (np.flatnonzero(whole.any(axis)) for axis in (1, 0))
        box = np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1], np.float32) - 0.5
        deep = ndimage.distance_transform_edt(np.pad(mask >= 0.5, 1))[1:-1, 1:-1] + mask
        found.append({"kind": int(value) - 1, "mask": mask, "box": box, "centre": int(deep.argmax())})
    return found


class QueryLoss(nn.Module):
    """Class, mask, box and centre of queries against the objects of an image.

    Queries that are one per class answer for their class. Others are matched to objects at the least total cost
    (bipartite matching: Carion et al., DETR, 2020), as in MaskSAM; those left over should say that nothing is there.

    Args:
        kind_weight, box_weight, centre_weight: weights beside the mask's Dice and cross entropy.
        none_weight: weight of queries that are left over, in the cross entropy of the class.
    """

    def __init__(self, kind_weight: float = 1.0, box_weight: float = 2.0, centre_weight: float = 0.1,
                 none_weight: float = 0.2) -> None:
        super().__init__()
        self.kind_weight, self.box_weight, self.centre_weight = kind_weight, box_weight, centre_weight
        self.none_weight = none_weight

    def forward(self, head: QueryPrompts, told: Sequence[torch.Tensor], truth: Sequence[Sequence[dict[str, Any]]]
                ) -> torch.Tensor:
        """Scalar loss.

        Args:
            head: made the answers.
            told: class logits, masks, centres and boxes, see :meth:`QueryPrompts.forward`.
            truth: per image what :func:`objects_of` says.
        """
        kinds, masks, centres, boxes = (part.float() for part in told)
        device = kinds.device
        pairs = [(n, query, entry) for n, found in enumerate(truth)
                 for query, entry in self._paired(head, kinds[n], masks[n], found)]
        if head.assigned:
            wanted = torch.zeros_like(kinds[..., 0])
            for n, query, _ in pairs:
                wanted[n, query] = 1
            loss = self.kind_weight * F.binary_cross_entropy_with_logits(kinds[..., 0], wanted)
        else:
            classes = torch.zeros(kinds.shape[:2], dtype=torch.long, device=device)
            for n, query, entry in pairs:
                classes[n, query] = 1 + entry["kind"]
            weight = torch.ones(kinds.shape[2], device=device)
            weight[0] = self.none_weight
            loss = self.kind_weight * F.cross_entropy(kinds.flatten(0, 1), classes.flatten(), weight)
        if not pairs:
            return loss + 0.0 * (masks.sum() + centres.sum() + boxes.sum())
        images, queries = (torch.tensor([pair[place] for pair in pairs], device=device) for place in (0, 1))
        drawn = torch.from_numpy(np.stack([pair[2]["mask"] for pair in pairs])).to(device)
        faces = torch.from_numpy(np.stack([pair[2]["box"] for pair in pairs])).to(device)
        deepest = torch.tensor([pair[2]["centre"] for pair in pairs], device=device)
        loss = loss + _mask_cost(masks[images, queries], drawn).mean()
        side = QUERY_STRIDE * masks.shape[-1]
        loss = loss + self.box_weight * (boxes[images, queries] - faces).abs().mean() / side * 4
        return loss + self.centre_weight * F.cross_entropy(centres[images, queries].flatten(1), deepest)

    @staticmethod
    def _paired(head: QueryPrompts, kinds: torch.Tensor, masks: torch.Tensor, found: Sequence[dict[str, Any]]
                ) -> list[tuple[int, dict[str, Any]]]:
        """Query and object of one image."""
        if head.assigned or not found:
            return [(entry["kind"], entry) for entry in found]
        with torch.no_grad():
            chance = kinds.softmax(1)[:, 1:]
            drawn = torch.from_numpy(np.stack([entry["mask"] for entry in found])).to(masks.device)
            cost = torch.stack([_mask_cost(masks, one[None].expand_as(masks)) for one in drawn], 1)
            cost = cost - 2 * chance[:, [entry["kind"] for entry in found]]
        return [(int(query), found[n]) for query, n in zip(*linear_sum_assignment(cost.cpu().numpy()))]


def _mask_cost(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Dice and balanced cross entropy ``[N]`` of masks ``[N, h, w]``."""
    chance, weight = torch.sigmoid(logits), 1 + 4 * wanted
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, weight, reduction="none").mean((1, 2))
    overlap = (2 * (chance * wanted).sum((1, 2)) + 1) / ((chance + wanted).sum((1, 2)) + 1)
    return 1 - overlap + 2 * entropy


def semantic(head: QueryPrompts, told: Sequence[torch.Tensor]) -> torch.Tensor:
    """Logits ``[B, 1 + classes, h, w]`` of classes, masks weighed by what their queries are (mask classification)."""
    chance = torch.einsum("bnc,bnhw->bchw", head.chances(told[0].float()), torch.sigmoid(told[1].float()))
    return torch.cat([torch.full_like(chance[:, :1], 0.5), chance], 1)


class QueryUpdate(ClassUpdate):
    """``iteration_update`` of ``monai.engines.SupervisedTrainer``, for ``QueryPromptSam``; arguments as there."""

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Train on slices; returns image, label, pred (class logits), the loss and the mean Dice of the classes."""
        network = getattr(engine.network, "module", engine.network)
        image = batchdata["image"].to(engine.state.device, dtype=torch.float32)
        label = batchdata["label"].to(engine.state.device)
        network.train()
        with torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=self.amp):
            with torch.no_grad():
                encoded = network.image_encoder(image.contiguous(memory_format=torch.channels_last))
            told = network.propose(*encoded)
        truth = [objects_of(one[0]) for one in batchdata["label"].cpu().numpy()]
        loss = engine.loss_function(network.prompt_head, told, truth)
        optimise(engine, loss, self.clip_norm, network.prompt_head)
        logits = full_size(semantic(network.prompt_head, [part.detach() for part in told]), label)
        dice = class_dice(logits, label)
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: label, CommonKeys.PRED: logits,
                CommonKeys.LOSS: float(loss.detach()), "dice_per_round": [float(dice.mean()) if len(dice) else 1.0]}


class QueryEvaluation:
    """``iteration_update`` of ``monai.engines.SupervisedEvaluator``: the queries' own masks, by class."""

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Evaluate slices: ``pred`` and ``label`` ``[B, 1, S, S]``, whether anything is there."""
        network = getattr(engine.network, "module", engine.network)
        image = batchdata["image"].to(engine.state.device, dtype=torch.float32)
        label = batchdata["label"].to(engine.state.device)
        network.eval()
        with torch.inference_mode():
            found = full_size(semantic(network.prompt_head, network.propose(*network.image_encoder(image))), label)
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: (label > 0).float(),
                CommonKeys.PRED: (found.argmax(1, keepdim=True) > 0).float()}
