"""Mask decoder of SAM-Med3D, and the whole network; see :mod:`promptzoo.networks.public.sam3d`."""
from __future__ import annotations

from typing import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from promptzoo.core.errors import BundleError, complain
from promptzoo.networks.public.sam3d import CELL, ChannelNorm, Encoder3d, Mlp, Prompts3d


class TokenAttention(nn.Module):
    """Attention between ``[B, N, width]`` and ``[B, M, width]``, within ``width / shrink`` features."""

    def __init__(self, width: int, heads: int, shrink: int = 1) -> None:
        super().__init__()
        inner, self.heads = width // shrink, heads
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, inner) for _ in range(3))
        self.out_proj = nn.Linear(inner, width)

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """``[B, N, width]``."""
        parts = [layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer, x in (
            (self.q_proj, query), (self.k_proj, key), (self.v_proj, value))]
        return self.out_proj(F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2))


class TwoWayLayer(nn.Module):
    """Tokens among themselves, tokens to the image, an MLP, the image to the tokens."""

    def __init__(self, width: int, heads: int, hidden: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = TokenAttention(width, heads)
        self.cross_attn_token_to_image = TokenAttention(width, heads, 2)
        self.cross_attn_image_to_token = TokenAttention(width, heads, 2)
        self.mlp = Mlp(width, hidden, nn.ReLU)
        self.norm1, self.norm2, self.norm3, self.norm4 = (nn.LayerNorm(width) for _ in range(4))

    def forward(self, tokens: torch.Tensor, cells: torch.Tensor, own: torch.Tensor, places: torch.Tensor
                ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens ``[B, N, width]`` and cells ``[B, M, width]``, changed; ``own`` and ``places`` say which they are."""
        if self.first:
            tokens = self.norm1(self.self_attn(tokens, tokens, tokens))
        else:
            tokens = self.norm1(tokens + self.self_attn(tokens + own, tokens + own, tokens))
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + own, cells + places, cells))
        tokens = self.norm3(tokens + self.mlp(tokens))
        return tokens, self.norm4(cells + self.cross_attn_image_to_token(cells + places, tokens + own, tokens))


class TwoWay(nn.Module):
    """The two-way transformer: ``layers`` of :class:`TwoWayLayer` and a last look of the tokens at the image."""

    def __init__(self, width: int, heads: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayLayer(width, heads, hidden, n == 0) for n in range(layers))
        self.final_attn_token_to_image = TokenAttention(width, heads, 2)
        self.norm_final_attn = nn.LayerNorm(width)

    def forward(self, own: torch.Tensor, cells: torch.Tensor, places: torch.Tensor
                ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens ``[B, N, width]`` and cells ``[B, M, width]`` after all layers."""
        tokens = own
        for layer in self.layers:
            tokens, cells = layer(tokens, cells, own, places)
        last = self.final_attn_token_to_image(tokens + own, cells + places, cells)
        return self.norm_final_attn(tokens + last), cells


class Perceptron(nn.Module):
    """Three linear layers with ReLU between them."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(width, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, out)])

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """``[..., width]`` to ``[..., out]``."""
        return self.layers[2](F.relu(self.layers[1](F.relu(self.layers[0](value)))))


class Decoder3d(nn.Module):
    """Mask decoder: one mask for prompts that leave no doubt, three candidates else.

    Args:
        width: features.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.transformer = TwoWay(width, 8, 2048, 2)
        self.iou_token, self.mask_tokens = nn.Embedding(1, width), nn.Embedding(4, width)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose3d(width, width // 4, 2, stride=2), ChannelNorm(width // 4), nn.GELU(),
            nn.ConvTranspose3d(width // 4, width // 8, 2, stride=2), nn.GELU())
        self.output_hypernetworks_mlps = nn.ModuleList(Perceptron(width, width, width // 8) for _ in range(4))
        self.iou_prediction_head = Perceptron(width, 256, 4)

    def forward(self, embedding: torch.Tensor, places: torch.Tensor, tokens: torch.Tensor, dense: torch.Tensor
                ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits ``[B, 4, *4 cells]`` of all masks and their predicted IoU ``[B, 4]``.

        Args:
            embedding, dense: ``[B, width, *cells]``.
            places: ``[1, width, *cells]``.
            tokens: ``[B, N, width]``.
        """
        batch = len(tokens)
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])[None].expand(batch, -1, -1)
        cells = (embedding + dense).expand(batch, *embedding.shape[1:])
        found, keys = self.transformer(torch.cat([own, tokens], 1), cells.flatten(2).transpose(1, 2),
                                       places.flatten(2).transpose(1, 2))
        fine = self.output_upscaling(keys.transpose(1, 2).reshape(cells.shape))
        weights = torch.stack([mlp(found[:, 1 + n]) for n, mlp in enumerate(self.output_hypernetworks_mlps)], 1)
        return torch.einsum("bmc,bcxyz->bmxyz", weights, fine), self.iou_prediction_head(found[:, 0])


class PublicSam3d(nn.Module):
    """SAM-Med3D.

    Args:
        size: side of the cube in voxels.
        width, depth, heads, whole, window: of the encoder, see :class:`Encoder3d`.
        out: features of embedding and tokens, a multiple of 24.

    Raises:
        BundleError: for sizes that do not fit.
    """

    def __init__(self, size: int = 128, width: int = 768, depth: int = 12, heads: int = 12,
                 whole: Sequence[int] = (2, 5, 8, 11), window: int = 14, out: int = 384) -> None:
        super().__init__()
        if size % CELL or width % heads or out % 24:
            raise BundleError(complain("sizes of PublicSam3d", [size, width, heads, out], f"a cube in multiples of "
                                       f"{CELL}, a width in multiples of the heads, an embedding in multiples of 24"))
        self.size, self.mask_side = size, size // 4
        self.image_encoder = Encoder3d(size, width, depth, heads, whole, window, out)
        self.prompt_encoder = Prompts3d(out, size)
        self.mask_decoder = Decoder3d(out)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits ``[B, 1, *S/4]`` for cubes ``[B, 1, S, S, S]`` with one point in the middle."""
        middle = image.new_full((len(image), 1, 3), self.size / 2)
        return self.decode(*self.image_encoder(image), middle, torch.ones_like(middle[..., 0]))[0]

    def decode(self, embedding: torch.Tensor, points: torch.Tensor, labels: torch.Tensor,
               masks: torch.Tensor | None = None, candidates: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """Masks for points on an encoded cube.

        Args:
            embedding: output of :attr:`image_encoder`.
            points, labels: see :meth:`Prompts3d.tokens`.
            masks: logits ``[B, 1, S/4, S/4, S/4]`` to start from, or None.
            candidates: the three candidates, or the single mask.

        Returns:
            Logits ``[B, C, S/4, S/4, S/4]`` and predicted IoU ``[B, C]``.
        """
        encoder = self.prompt_encoder
        logits, ious = self.mask_decoder(embedding, encoder.places(embedding), encoder.tokens(points, labels),
                                         encoder.dense(masks, embedding))
        chosen = slice(1, None) if candidates else slice(0, 1)
        return logits[:, chosen], ious[:, chosen]
