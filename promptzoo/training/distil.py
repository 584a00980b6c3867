"""Distillation of a promptable network's image encoder into a lighter one.

MobileSAM (Zhang et al., 2023, section 3.2) and LiteMedSAM train a small encoder to give the embedding of a large one,
and tune it with the decoder afterwards. Here the first part of the iterations regresses all outputs of the teacher's
encoder, the rest trains on prompts as :class:`promptzoo.training.sam.SamUpdate` does.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from ignite.engine import Engine
from monai.utils.enums import CommonKeys
from torch import nn

from promptzoo.core.bundles import get_bundle
from promptzoo.core.errors import BundleError, complain
from promptzoo.core.seeding import generator
from promptzoo.inference.loader import load_network
from promptzoo.training.annotator import WindowAnnotator
from promptzoo.training.sam import SamUpdate
from promptzoo.training.step import optimise


def teacher_of(bundle: str, beside: str = "", variant: str | None = None) -> nn.Module:
    """The network of any promptable bundle with an ``image_encoder``, frozen, with its weights.

    Args:
        bundle: name of the teacher.
        beside: path of a bundle in whose folder's neighbourhood the teacher is looked for first.
        variant: variant overlay of the teacher.

    Raises:
        NotFoundError: for an unknown bundle or variant.
        BundleError: if its weights do not fit, or it has no ``image_encoder``.
    """
    near = Path(beside).resolve().parent / bundle
    network = load_network(get_bundle(near if beside and near.is_dir() else bundle), variant)[0]
    if not hasattr(network, "image_encoder"):
        raise BundleError(complain("teacher", bundle, "a bundle whose network has an image_encoder"))
    return network.eval().requires_grad_(False)


def regression_loss(found: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor],
                    cosine: float = 1.0) -> torch.Tensor:
    """Mean over outputs of the squared error in units of the teacher's variance, plus one minus the cosine of cells.

    Args:
        found: the student's outputs ``[B, C, h, w]``.
        wanted: the teacher's, of the same shapes.
        cosine: weight of the cosine term.

    Raises:
        BundleError: for outputs of other number or shape.
    """
    shapes = [tuple(t.shape) for t in found], [tuple(t.shape) for t in wanted]
    if shapes[0] != shapes[1]:
        raise BundleError(complain("outputs of the student", shapes[0], f"those of the teacher, {shapes[1]}"))
    total = found[0].new_zeros((), dtype=torch.float32)
    for own, other in zip(found, wanted):
        own, other = own.float(), other.float()
        total = total + F.mse_loss(own, other) / other.var().clamp(min=1e-6)
        total = total + cosine * (1 - F.cosine_similarity(own, other, dim=1)).mean()
    return total / len(found)


def varied(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Windows ``[B, 1, S, S]`` in [-1, 1], each turned, zoomed, recoloured and made noisy at random.

    One scene gives several windows of the same picture; a teacher labels any change of them for nothing.
    """
    found = []
    for image in images:
        turned = torch.rot90(image, int(rng.integers(4)), (1, 2))
        turned = turned.flip(2) if rng.random() < 0.5 else turned
        side = turned.shape[-1]
        part = int(side * rng.uniform(0.4, 1.0))
        low = rng.integers(0, side - part + 1, 2)
        if rng.random() < 0.6:
            crop = turned[None, :, low[0]:low[0] + part, low[1]:low[1] + part]
            turned = F.interpolate(crop, size=(side, side), mode="bilinear", align_corners=False)[0]
        value = (turned.clamp(-1, 1) + 1) / 2
        value = value ** float(np.exp(rng.normal(0, 0.3)))
        value = 1 - value if rng.random() < 0.25 else value
        noise = float(rng.uniform(0, 0.08)) if rng.random() < 0.4 else 0.0
        noise_map = torch.from_numpy(rng.standard_normal(value.shape).astype(np.float32)).to(value.device)
        found.append((value + noise * noise_map).clamp(0, 1) * 2 - 1)
    return torch.stack(found)


class DistilUpdate(SamUpdate):
    """``iteration_update`` of ``monai.engines.SupervisedTrainer``: the teacher's encoder first, prompts afterwards.

    Args:
        teacher: see :func:`teacher_of`.
        annotator, rounds, seed, amp, clip_norm: of the second part, see :class:`SamUpdate`.
        regressed: iterations of the first part.
        cosine: see :func:`regression_loss`.
        train_decoder: False keeps the teacher's prompt encoder and decoder as they are in the second part.
    """

    def __init__(self, teacher: nn.Module, annotator: WindowAnnotator, regressed: int, cosine: float = 1.0,
                 train_decoder: bool = True, rounds: Sequence[float] = (0.3, 0.35, 0.35), seed: int = 0,
                 amp: bool = True, clip_norm: float = 1.0) -> None:
        super().__init__(annotator, rounds, seed, amp, clip_norm)
        self.teacher, self.regressed, self.cosine = teacher, regressed, cosine
        self.train_decoder = train_decoder

    def __call__(self, engine: Engine, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Train on a batch of windows; returns what :meth:`SamUpdate.__call__` returns; no Dice in the first part."""
        bare = getattr(engine.network, "module", engine.network)
        if engine.state.iteration > self.regressed:
            for name, parameter in bare.named_parameters():
                parameter.requires_grad_(self.train_decoder or name.startswith("image_encoder."))
            return super().__call__(engine, batchdata)
        rng, device = generator(self.seed, int(engine.state.iteration)), engine.state.device
        image = varied(batchdata["image"].to(device, dtype=torch.float32), rng)
        image = image.contiguous(memory_format=torch.channels_last)
        self.teacher.to(device)
        engine.network.train()
        with torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=self.amp):
            with torch.no_grad():
                wanted = self.teacher.image_encoder(image)
            found = bare.image_encoder(image)
        loss = regression_loss(found, wanted, self.cosine)
        optimise(engine, loss, self.clip_norm, bare)
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: batchdata["label"], CommonKeys.PRED: None,
                CommonKeys.LOSS: float(loss.detach()), "dice_per_round": []}
