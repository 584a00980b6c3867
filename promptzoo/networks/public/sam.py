"""SAM and its kin with published weights: Kirillov et al., "Segment Anything", ICCV 2023.

Prompt encoder, mask decoder and ViT are those of ``transformers``; checked against the authors' code
(github.com/facebookresearch/segment-anything, Apache-2.0). SAM-Med2D (Cheng et al., 2023; github.com/OpenGVLab/
SAM-Med2D, Apache-2.0) adds an adapter to every block of the ViT. MobileSAM and LiteMedSAM put a TinyViT in its place.
"""
from __future__ import annotations

from typing import Any, Mapping

import torch
from torch import nn

from promptzoo.core.autoload import mend_imports
from promptzoo.core.optional import require

FEATURE = "public weights of SAM-like networks"
CELLS = 16
"""Pixels of the network's image per side of an embedding cell of the ViT."""


def modules_of(family: str) -> tuple[Any, Any]:
    """Modeling and configuration modules of a ``transformers`` family (``sam``, ``sam2``).

    Raises:
        MissingDependencyError: without ``transformers``.
    """
    mend_imports()  # transformers imports torchvision
    root = f"transformers.models.{family}"
    return require(f"{root}.modeling_{family}", FEATURE), require(f"{root}.configuration_{family}", FEATURE)


class Prompted(nn.Module):
    """What SAM and SAM 2 share: prompts become tokens, tokens ask the decoder.

    Attributes:
        size: side of the network's image in pixels.
        mask_side: side of the low-resolution masks that go in and come out.
        pad_boxes: whether the token "not a point" is also added to prompts with a box (SAM 2).
    """

    size: int
    mask_side: int
    pad_boxes: bool
    prompt_encoder: Any
    mask_decoder: Any

    def point_table(self) -> torch.Tensor:
        """Embeddings ``[4, hidden]`` of the labels: background, foreground, first and second corner of a box."""
        raise NotImplementedError

    def tokens(self, points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Prompt tokens.

        Args:
            points: ``[B, N, 2]`` (x, y) in pixels of the network's image, pixel centres at integers.
            labels: ``[B, N]`` 0 background, 1 foreground, 2 and 3 corners of a box, -1 not a point.

        Returns:
            ``[B, 1, N, hidden]``, with one token more where the authors add "not a point"; none without a prompt.
        """
        if not points.shape[1]:
            return points.new_zeros(len(points), 1, 0, self.prompt_encoder.hidden_size)
        boxed = bool((labels >= 2).any())
        if self.pad_boxes or not boxed:
            points, labels = nn.functional.pad(points, (0, 0, 0, 1)), nn.functional.pad(labels, (0, 1), value=-1)
        encoder, labels = self.prompt_encoder, labels.long()[:, None, :, None]
        places = encoder.shared_embedding((points + 0.5)[:, None], (self.size, self.size))
        kinds = self.point_table()[labels[..., 0].clamp(min=0)]
        return torch.where(labels < 0, encoder.not_a_point_embed.weight, places + kinds)

    def dense(self, masks: torch.Tensor | None, embedding: torch.Tensor) -> torch.Tensor:
        """The dense prompt ``[B, hidden, h, w]`` of mask logits ``[B, 1, mask_side, mask_side]``, or of no mask."""
        if masks is not None:
            return self.prompt_encoder.mask_embed(masks)
        return self.prompt_encoder.no_mask_embed.weight[:, :, None, None].expand_as(embedding)

    def places(self, embedding: torch.Tensor) -> torch.Tensor:
        """Position code of the embedding's cells ``[B, hidden, h, w]``."""
        height, width = embedding.shape[2:]
        rows = (torch.arange(height, device=embedding.device) + 0.5) / height
        columns = (torch.arange(width, device=embedding.device) + 0.5) / width
        grid = torch.stack([columns[None].expand(height, width), rows[:, None].expand(height, width)], -1)
        return self.prompt_encoder.shared_embedding(grid[None])[0].permute(2, 0, 1)[None].expand_as(embedding)


class PublicSam(Prompted):
    """SAM with a ViT-B or another image encoder.

    Args:
        size: side of the image in pixels.
        vision: arguments of ``SamVisionConfig`` for the ViT; the defaults are ViT-B.
        adapters: whether every block has SAM-Med2D's adapter.
        tiny: arguments of :class:`promptzoo.networks.public.tiny_vit.TinyViT`; takes the place of the ViT.

    Raises:
        MissingDependencyError: without ``transformers``.
    """

    pad_boxes = False

    def __init__(self, size: int = 1024, vision: Mapping[str, Any] | None = None, adapters: bool = False,
                 tiny: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        modeling, configuration = modules_of("sam")
        config = configuration.SamVisionConfig(image_size=size, **(vision or {}))
        config._attn_implementation = "sdpa"
        cells = size // CELLS
        if tiny is None:
            self.image_encoder: nn.Module = VisionEncoder(modeling.SamVisionEncoder(config), adapters)
        else:
            from promptzoo.networks.public.tiny_vit import TinyViT

            self.image_encoder = TinyViT(size, **tiny)
            cells = self.image_encoder.cells
        self.size, self.mask_side = size, 4 * cells
        prompts = configuration.SamPromptEncoderConfig(image_size=size, patch_size=size // cells)
        decoder = configuration.SamMaskDecoderConfig(layer_norm_eps=1e-5)  # as torch's LayerNorm in the authors' code
        decoder._attn_implementation = "sdpa"
        self.prompt_encoder = modeling.SamPromptEncoder(
            configuration.SamConfig(vision_config=config, prompt_encoder_config=prompts))
        self.mask_decoder = modeling.SamMaskDecoder(decoder)

    def point_table(self) -> torch.Tensor:
        """See :meth:`Prompted.point_table`."""
        return torch.cat([entry.weight for entry in self.prompt_encoder.point_embed])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits ``[B, 3, mask_side, mask_side]`` of the candidates for an image ``[B, 3, S, S]`` without a prompt."""
        none = image.new_zeros(image.shape[0], 0, 2)
        return self.decode(*self.image_encoder(image), none, none[..., 0])[0]

    def decode(self, embedding: torch.Tensor, points: torch.Tensor, labels: torch.Tensor,
               masks: torch.Tensor | None = None, candidates: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """Masks for prompts on an encoded image.

        Args:
            embedding: output of :attr:`image_encoder`.
            points, labels: see :meth:`Prompted.tokens`.
            masks: logits ``[B, 1, mask_side, mask_side]`` to start from, or None.
            candidates: three masks for an ambiguous prompt, or the single one.

        Returns:
            Logits ``[B, C, mask_side, mask_side]`` and predicted IoU ``[B, C]``.
        """
        logits, ious = self.mask_decoder(
            image_embeddings=embedding, image_positional_embeddings=self.places(embedding),
            sparse_prompt_embeddings=self.tokens(points, labels),
            dense_prompt_embeddings=self.dense(masks, embedding), multimask_output=candidates)
        return logits[:, 0], ious[:, 0]


class VisionEncoder(nn.Module):
    """SAM's ViT as a module with tensors in and tensors out; its parameters keep their names.

    Args:
        vision: ``SamVisionEncoder``.
        adapters: whether every block has SAM-Med2D's adapter beside its MLP.
    """

    def __init__(self, vision: Any, adapters: bool = False) -> None:
        super().__init__()
        self.patch_embed, self.pos_embed = vision.patch_embed, vision.pos_embed
        self.layers, self.neck = vision.layers, vision.neck
        if adapters:
            for layer in self.layers:
                layer.mlp = Adapted(layer.mlp, vision.config.hidden_size)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor]:
        """Image ``[B, 3, S, S]`` to its embedding ``[B, 256, S/16, S/16]``."""
        value = self.patch_embed(image) + self.pos_embed
        for layer in self.layers:
            value = layer(value)
        return (self.neck(value),)


class Adapted(nn.Module):
    """An MLP and SAM-Med2D's adapter beside it, both on the normalised input (section 3.2 of the paper).

    The adapter weighs channels by their mean over the image, goes through half the resolution and back, and is
    normalised with its input added.

    Args:
        mlp: the block's own MLP.
        width: features.
        ratio: hidden features of the channel weights per feature.
    """

    def __init__(self, mlp: nn.Module, width: int, ratio: float = 0.25) -> None:
        super().__init__()
        hidden = int(width * ratio)
        self.mlp, self.norm = mlp, nn.LayerNorm(width)
        self.channel = nn.Sequential(nn.Linear(width, hidden, bias=False), nn.ReLU(),
                                     nn.Linear(hidden, width, bias=False), nn.Sigmoid())
        self.spatial = nn.Sequential(nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False), nn.ReLU(),
                                     nn.ConvTranspose2d(width, width, 4, stride=2, padding=1, bias=False), nn.ReLU())

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """``[B, h, w, width]`` to the same shape; ``h`` and ``w`` even."""
        weighed = value * self.channel(value.mean((1, 2)))[:, None, None]
        spatial = self.spatial(weighed.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.mlp(value) + self.norm(value + spatial)
