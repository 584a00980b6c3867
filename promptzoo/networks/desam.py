"""SAM-like networks for poor prompts: a mask decoder that does not see the prompt, and boxes that are corrected first.

Gao et al., "DeSAM: Decoupled Segment Anything Model for Generalizable Medical Image Segmentation", MICCAI 2024 (code:
github.com/yifangao112/DeSAM): the prompt branch of SAM's decoder predicts the IoU and a mask embedding (in the public
code the image embedding as it leaves the two-way transformer); a U-shaped branch over the features of the frozen
encoder takes that embedding in at its deepest level, through a block with channel attention, and alone makes the mask.
For the correction of boxes see :mod:`promptzoo.networks.box_refiner`.
"""
from __future__ import annotations

from typing import Sequence

import torch
import torch.nn.functional as F
from monai.networks.blocks.dynunet_block import UnetResBlock
from monai.networks.blocks.squeeze_and_excitation import ResidualSELayer
from monai.networks.blocks.unetr_block import UnetrUpBlock
from torch import nn

from promptzoo.networks.box_refiner import BoxRefiner
from promptzoo.networks.sam import STRIDE, PromptableSam
from promptzoo.prompts.encoders.tokens import DENSE_CHANNELS

WIDTHS = (2, 4, 8)
"""The U's features at strides 8, 4 and 2: the embedding's features divided by these."""


class DecoupledDecoder(nn.Module):
    """The prompt-decoupled branch: a U over the encoder's features, with the mask embedding at its bottom.

    Args:
        hidden: features of the embedding, a multiple of 64.
        fine: features at half resolution.
    """

    def __init__(self, hidden: int, fine: int) -> None:
        super().__init__()
        norm = ("group", {"num_groups": 8})
        widths = [hidden, *(hidden // n for n in WIDTHS)]
        self.deep = UnetResBlock(2, hidden, hidden, 3, 1, norm)
        self.fuse = nn.Sequential(UnetResBlock(2, 2 * hidden, hidden, 3, 1, norm), ResidualSELayer(2, hidden, r=8))
        self.skips = nn.ModuleList(nn.Conv2d(n, width, 1) for n, width in zip((hidden // 4, hidden // 8, fine),
                                                                              widths[1:]))
        self.ups = nn.ModuleList(UnetrUpBlock(2, before, width, 3, 2, norm, res_block=True)
                                 for before, width in zip(widths, widths[1:]))
        self.heads = nn.ModuleList(nn.Conv2d(width, 1, 1) for width in widths[2:])

    def forward(self, embedding: torch.Tensor, s1: torch.Tensor, s0: torch.Tensor, fine: torch.Tensor,
                token: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Masks.

        Args:
            embedding, s1, s0, fine: outputs of the encoder.
            token: mask embedding ``[B, hidden, S/16, S/16]`` of the prompt branch.

        Returns:
            Logits ``[B, 1, S/2, S/2]`` and, for deep supervision, ``[B, 1, S/4, S/4]``.
        """
        value, found = self.fuse(torch.cat([token, self.deep(embedding)], 1)), []
        for up, skip, features in zip(self.ups, self.skips, (s1, s0, fine)):
            value = up(value, skip(features))
            found.append(value)
        return self.heads[1](found[2]), self.heads[0](found[1])


class NoiseRobustSam(PromptableSam):
    """A :class:`PromptableSam` that expects poor prompts.

    Args:
        size, channels, hidden, fine, layers, candidates: see :class:`PromptableSam`.
        decoupled: masks come from :class:`DecoupledDecoder`, one per prompt; False keeps the decoder of SAM.
        refine_box: has a :class:`BoxRefiner`, see :meth:`correct`.
    """

    def __init__(self, size: int = 256, channels: Sequence[int] = (24, 48, 80, 112, 144), hidden: int = 128,
                 fine: int = 12, layers: int = 2, candidates: int = 3, decoupled: bool = True,
                 refine_box: bool = True) -> None:
        super().__init__(size, channels, hidden, fine, layers, candidates)
        self.decoupled = DecoupledDecoder(hidden, fine) if decoupled else None
        if decoupled:
            decoder = self.mask_decoder
            decoder.upscale_conv1 = decoder.upscale_conv2 = decoder.upscale_layer_norm = nn.Identity()
            decoder.output_hypernetworks_mlps, self.refine = nn.ModuleList(), nn.Identity()
        pooled = hidden + hidden // 4 + hidden // 8 + fine + len(DENSE_CHANNELS)
        self.box_refiner = BoxRefiner(pooled) if refine_box else None

    def decode(self, embedding: torch.Tensor, s1: torch.Tensor, s0: torch.Tensor, fine: torch.Tensor,
               points: torch.Tensor, labels: torch.Tensor, dense: torch.Tensor
               ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Masks for prompts on encoded windows, see :meth:`PromptableSam.decode`; the decoupled decoder has one mask
        per prompt: ``[B, 1, S, S]``, its IoU ``[B, 1]``, ``[B, 1, S/4, S/4]`` and the IoU again."""
        if self.decoupled is None:
            return super().decode(embedding, s1, s0, fine, points, labels, dense)
        side = STRIDE * embedding.shape[-1]
        token, iou = self._mask_embedding(embedding, points, labels, dense)
        half, quarter = self.decoupled(embedding, s1, s0, fine, token)
        return F.interpolate(half, size=(side, side), mode="bilinear"), iou, quarter, iou

    def _mask_embedding(self, embedding: torch.Tensor, points: torch.Tensor, labels: torch.Tensor,
                        dense: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The prompt branch: image embedding after the two-way transformer, and predicted IoU ``[B, 1]``."""
        decoder, batch = self.mask_decoder, embedding.shape[0]
        tokens = self._tokens(embedding, points, labels)
        own = torch.cat([decoder.obj_score_token.weight, decoder.iou_token.weight, decoder.mask_tokens.weight], 0)
        queries, keys = decoder.transformer(
            point_embeddings=torch.cat([own[None, None].expand(batch, -1, -1, -1), tokens], 2),
            image_embeddings=embedding + self.prompt_encoder.mask_embed(F.avg_pool2d(dense, 2)),
            image_positional_embeddings=self._places(embedding).expand(batch, -1, -1, -1), attention_similarity=None)
        iou = decoder.iou_prediction_head(queries[:, 0, 1])[:, :1]
        return keys.transpose(2, 3).reshape(embedding.shape), iou

    def correct(self, embedding: torch.Tensor, s1: torch.Tensor, s0: torch.Tensor, fine: torch.Tensor,
                dense: torch.Tensor, box: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Corrected boxes; see :meth:`BoxRefiner.forward`.

        Args:
            embedding, s1, s0, fine: outputs of the encoder.
            dense: dense maps of the prompts, the given box among them.
            box: faces ``[B, 4]`` (row low, column low, row high, column high) in pixels of the window.
        """
        return self.box_refiner([embedding, s1, s0, fine, dense], box, STRIDE * embedding.shape[-1])


class BoxForward(nn.Module):
    """The correction of boxes as engines compile it: :meth:`NoiseRobustSam.correct` without the coarse mask."""

    def __init__(self, network: NoiseRobustSam) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor]:
        """See :meth:`NoiseRobustSam.correct`."""
        return (self.network.correct(*inputs)[0],)
