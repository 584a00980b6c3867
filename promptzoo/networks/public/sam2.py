"""SAM 2.1 on single images with published weights: Ravi et al., "SAM 2: Segment anything in images and videos", 2024.

All parts are those of ``transformers``; checked against the authors' code (github.com/facebookresearch/sam2,
Apache-2.0). The memory that tracks objects through videos is left out.
"""
from __future__ import annotations

from typing import Any, Sequence

import torch
from torch import nn

from promptzoo.networks.public.sam import Prompted, modules_of

TINY = {"blocks": (1, 2, 7, 2), "attend": (5, 7, 9)}


class PublicSam2(Prompted):
    """SAM 2.1 with a Hiera of 96 features.

    Args:
        size: side of the image in pixels.
        blocks: blocks per stage; ``(1, 2, 7, 2)`` is tiny, ``(1, 2, 11, 2)`` small.
        attend: blocks that attend over the whole image; ``(5, 7, 9)`` tiny, ``(7, 10, 13)`` small.

    Raises:
        MissingDependencyError: without ``transformers``.
    """

    pad_boxes = True

    def __init__(self, size: int = 1024, blocks: Sequence[int] = TINY["blocks"],
                 attend: Sequence[int] = TINY["attend"]) -> None:
        super().__init__()
        modeling, configuration = modules_of("sam2")
        backbone = configuration.Sam2HieraDetConfig(
            image_size=[size, size], blocks_per_stage=list(blocks), global_attention_blocks=list(attend))
        vision = configuration.Sam2VisionConfig(
            backbone_config=backbone, backbone_feature_sizes=[[size // n, size // n] for n in (4, 8, 16)])
        prompts = configuration.Sam2PromptEncoderConfig(image_size=size)
        decoder = configuration.Sam2MaskDecoderConfig()
        for config in (backbone, vision, decoder):
            config._attn_implementation = "sdpa"
        self.size, self.mask_side = size, size // 4
        mask_decoder = modeling.Sam2MaskDecoder(decoder)
        self.image_encoder = Sam2Encoder(modeling.Sam2VisionModel(vision), mask_decoder)
        self.prompt_encoder = modeling.Sam2PromptEncoder(prompts)
        self.mask_decoder = mask_decoder

    def point_table(self) -> torch.Tensor:
        """See :meth:`Prompted.point_table`."""
        return self.prompt_encoder.point_embed.weight

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits ``[B, 3, S/4, S/4]`` of the candidates for an image ``[B, 3, S, S]`` without a prompt."""
        none = image.new_zeros(image.shape[0], 0, 2)
        return self.decode(*self.image_encoder(image), none, none[..., 0])[0]

    def decode(self, embedding: torch.Tensor, s1: torch.Tensor, s0: torch.Tensor, points: torch.Tensor,
               labels: torch.Tensor, masks: torch.Tensor | None = None, candidates: bool = True
               ) -> tuple[torch.Tensor, torch.Tensor]:
        """Masks for prompts on an encoded image.

        Args:
            embedding, s1, s0: outputs of :attr:`image_encoder`.
            points, labels, masks, candidates: see :meth:`promptzoo.networks.public.sam.PublicSam.decode`; without
                candidates an unstable single mask is replaced by the best of the three.

        Returns:
            Logits ``[B, C, S/4, S/4]`` and predicted IoU ``[B, C]``.
        """
        logits, ious = self.mask_decoder(
            image_embeddings=embedding, image_positional_embeddings=self.places(embedding),
            sparse_prompt_embeddings=self.tokens(points, labels), dense_prompt_embeddings=self.dense(masks, embedding),
            multimask_output=candidates, high_resolution_features=[s0, s1])[:2]
        return logits[:, 0], ious[:, 0]


class Sam2Encoder(nn.Module):
    """Hiera, its neck and the decoder's own convolutions of the fine features.

    Args:
        vision: ``Sam2VisionModel``.
        decoder: ``Sam2MaskDecoder``; its ``conv_s0`` and ``conv_s1`` move here, as they run once per image.
    """

    def __init__(self, vision: Any, decoder: Any) -> None:
        super().__init__()
        self.vision = vision
        self.conv_s0, self.conv_s1 = decoder.conv_s0, decoder.conv_s1
        del decoder.conv_s0, decoder.conv_s1
        self.no_memory_embedding = nn.Parameter(torch.zeros(1, 1, vision.config.fpn_hidden_size))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Image ``[B, 3, S, S]`` to ``[B, 256, S/16, S/16]``, ``[B, 64, S/8, S/8]`` and ``[B, 32, S/4, S/4]``."""
        s0, s1, embedding = self.vision(image, return_dict=True).fpn_hidden_states
        return embedding + self.no_memory_embedding[0, 0, :, None, None], self.conv_s1(s1), self.conv_s0(s0)
