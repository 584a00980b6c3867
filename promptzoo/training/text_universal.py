"""Training of text-driven volume networks on bodies of which only some structures are labelled."""
from __future__ import annotations

from typing import Any, Sequence

import torch
import torch.nn.functional as F
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys
from torch import nn

from promptzoo.training.kept_scenes import features_of
from promptzoo.training.step import mixed_precision, optimise


def first(items: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Collate function for scenes of different sizes: one scene is a batch, its classes are."""
    return items[0]


class KnownClassLoss(nn.Module):
    """Dice and balanced binary cross entropy per class (inside and outside weigh the same: without that, many small
    classes end in predicting nothing), over the classes that a scene brings.

    Liu et al., CLIP-driven universal model, ICCV 2023, section 3.3: what is not labelled is not asked for, so that
    partially labelled images can be mixed; classes that are known to be absent have empty targets.

    Args:
        smooth: voxels added to both sides of the Dice.
        entropy_weight: of the balanced cross entropy.
        rival_weight: of the cross entropy between the classes of a scene, with 0 as the logit of none of them.
    """

    def __init__(self, smooth: float = 4.0, entropy_weight: float = 0.5, rival_weight: float = 1.0) -> None:
        super().__init__()
        self.smooth, self.entropy_weight, self.rival_weight = smooth, entropy_weight, rival_weight

    def forward(self, logits: torch.Tensor, label: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Mean over classes, of logits and labels ``[C, N]``; ``weight`` ``[N]`` says for how many voxels each stands.
        """
        chance = torch.sigmoid(logits)
        overlap, total = (chance * label * weight).sum(1), ((chance + label) * weight).sum(1)
        dice = 1 - (2 * overlap + self.smooth) / (total + self.smooth)
        entropy = F.binary_cross_entropy_with_logits(logits, label, reduction="none") * weight
        inside, outside = label * weight, (1 - label) * weight
        balanced = ((entropy * label).sum(1) / inside.sum(1).clamp(min=self.smooth)
                    + (entropy * (1 - label)).sum(1) / outside.sum(1).clamp(min=self.smooth))
        every = torch.cat([torch.zeros_like(logits[:1]), logits])
        target = torch.where(label.any(0), 1 + label.argmax(0), 0)
        rivals = (F.cross_entropy(every.T, target, reduction="none") * weight).sum() / weight.sum()
        return (dice + self.entropy_weight * balanced).mean() + self.rival_weight * rivals


def per_class_dice(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Dice ``[at most C]`` of the classes that are there."""
    found, wanted = logits > 0, label > 0.5
    there = wanted.sum(1) > 0
    return (2.0 * (found & wanted).sum(1) / (found.sum(1) + wanted.sum(1)).clamp(min=1))[there]


def to_device(batch: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    """A scene of :class:`promptzoo.training.anatomy_scenes.AnatomyScenes` with a batch axis on its image, or one of
    :class:`promptzoo.training.kept_scenes.KeptScenes`, which has none."""
    moved = {key: value.to(device) for key, value in batch.items()}
    if "image" in moved:
        moved["image"] = moved["image"][None].contiguous(memory_format=torch.channels_last_3d)
    return moved


class DenseNames(nn.Module):
    """All classes at once, linearly from the voxel features: a second task that the encoder learns from, with its own
    weights, which are not shipped.

    Args:
        features: channels of the voxel features.
        classes: number of classes beside none of them.
        weight: of this task.
    """

    def __init__(self, features: int, classes: int, weight: float = 0.5) -> None:
        super().__init__()
        self.linear, self.weight = nn.Linear(features, classes + 1), weight

    def forward(self, features: torch.Tensor, classes: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Loss of features ``[F, N]``, classes ``[N]`` (-1: not known) and what each voxel stands for ``[N]``."""
        spread = weight.clamp(max=float(weight.mean()))
        entropy = F.cross_entropy(self.linear(features.T).float(), classes, reduction="none", ignore_index=-1)
        return self.weight * (entropy * spread).sum() / (spread * (classes >= 0)).sum().clamp(min=1)


class TextUpdate:
    """``iteration_update`` of ``monai.engines.SupervisedTrainer``.

    Args:
        amp: use bfloat16 autocast.
        clip_norm: bound of the gradient norm.
        auxiliary: second task, or None.
        own_weight: of the loss that a head has of its own (``own_loss``).
    """

    def __init__(self, amp: bool = True, clip_norm: float = 1.0, auxiliary: DenseNames | None = None,
                 own_weight: float = 0.2) -> None:
        self.amp, self.clip_norm, self.auxiliary, self.own_weight = amp, clip_norm, auxiliary, own_weight

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Train on a scene; returns image, label, pred (logits of the drawn voxels), the loss and the mean Dice."""
        scene, network = to_device(batchdata, engine.state.device), engine.network
        network.train()
        with mixed_precision(scene.get("image", scene["text"]), self.amp and "image" in scene):
            inner = getattr(network, "module", network)
            logits, features = drawn_logits(inner, scene)
            second = (self.auxiliary(features, scene["classes"], scene["weight"])
                      if self.auxiliary is not None and features.requires_grad else 0.0)
            if hasattr(inner.head, "own_loss"):
                second = second + self.own_weight * inner.head.own_loss(features, scene["classes"])
        loss = engine.loss_function(logits, scene["label"], scene["weight"]) + second
        optimise(engine, loss, self.clip_norm)
        dice = per_class_dice(logits.detach(), scene["label"])
        return {CommonKeys.IMAGE: scene.get("image"), CommonKeys.LABEL: scene["label"], CommonKeys.PRED: logits,
                CommonKeys.LOSS: float(loss.detach()), "dice_per_round": [float(dice.mean()) if len(dice) else 1.0]}


def drawn_logits(network: Any, scene: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits ``[C, N]`` float32 and features ``[F, N]`` of the drawn voxels; a frozen encoder gets no gradients."""
    if "voxels" in scene:
        picked, scales = features_of(scene)
    else:
        with torch.set_grad_enabled(torch.is_grad_enabled()
                                    and any(p.requires_grad for p in network.image_encoder.parameters())):
            voxels, *scales = network.image_encoder(scene["image"])
        picked = voxels.flatten(2)[:, :, scene["chosen"]][..., None, None]
    text = network.head.read(scene["text"]) if hasattr(network.head, "read") else scene["text"]
    logits = network.head(text, scene["spatial"][..., None, None], picked, *scales).flatten(1).float()
    return logits, picked[0].flatten(1)


class TextEvaluation:
    """``iteration_update`` of ``monai.engines.SupervisedEvaluator``; classes are the batch.

    Args:
        amp: use bfloat16 autocast.
    """

    def __init__(self, amp: bool = False) -> None:
        self.amp = amp

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Evaluate a scene: ``pred`` and ``label`` ``[C, 1, N]``, 0 and 1."""
        scene, network = to_device(batchdata, engine.state.device), engine.network
        network.eval()
        with torch.inference_mode(), torch.autocast(scene["image"].device.type, dtype=torch.bfloat16,
                                                    enabled=self.amp):
            logits, _ = drawn_logits(network, scene)
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        return {CommonKeys.IMAGE: scene["image"], CommonKeys.LABEL: scene["label"][:, None],
                CommonKeys.PRED: (logits > 0)[:, None].float()}
