"""Promptable networks of the SAM kind for volumes: an image encoder that runs once per window, a decoder per prompt.

Native 3D (SAM-Med3D: Wang et al., "SAM-Med3D", 2023, section 3: 3D encoder, 3D position code of points, 3D convolutions
of masks, 3D two-way transformer) or inflated from a 2D network (see :mod:`promptzoo.networks.inflated`). A point token
carries the image's features at the point beside its place, and learned global queries go with the tokens (visual
sampler of 3DSAM-adapter: Gong et al., 2024, section 3.3); a light decoder merges all levels of the encoder (same,
section 3.4). Two-way transformer: ``transformers`` (SAM 2). What is ours: residual convolutions instead of a vision
transformer, and dense prompt maps (the likeness to prompted intensities among them) that meet the image's features at
half the window's resolution.
"""
from __future__ import annotations

import math
from typing import Any, Sequence

import torch
import torch.nn.functional as F
from monai.networks.blocks.dynunet_block import UnetResBlock
from torch import nn

from promptzoo.core.autoload import mend_imports
from promptzoo.core.errors import BundleError, complain
from promptzoo.core.optional import require
from promptzoo.networks.interactive_unet import QualityHead
from promptzoo.prompts.encoders.tokens import DENSE_CHANNELS, MASK_CHANNELS, TOKENS

EMBEDDING_STRIDE = 8
"""Window voxels per side of a cell of the image embedding."""

NORM = ("group", {"num_groups": 8})
_LABELS = 4
_POOLED = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))


class Neck(nn.Module):
    """The image embedding from the encoder's third to fifth level; the part that all encoders share.

    Args:
        channels: features per level.
        hidden: features of the embedding.
    """

    def __init__(self, channels: Sequence[int], hidden: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv3d(width, hidden, 1) for width in channels[2:])
        self.norm = nn.GroupNorm(8, hidden)

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Features of all levels to ``[B, hidden, *S / 8]``."""
        size = features[2].shape[2:]
        return self.norm(sum(F.interpolate(side(value), size=size, mode="nearest")
                             for side, value in zip(self.lateral, features[2:])))


class VolumeEncoder(nn.Module):
    """Residual 3D image encoder.

    Args:
        channels: features per level; level ``n`` works at ``1 / 2 ** (n + 1)`` of the resolution; five levels.
        hidden: features of the embedding.
        fine: features at full resolution.
    """

    def __init__(self, channels: Sequence[int], hidden: int, fine: int) -> None:
        super().__init__()
        before = [channels[0], *channels[:-1]]
        self.stem = nn.Conv3d(1, channels[0], 4, stride=2, padding=1)
        self.levels = nn.ModuleList(UnetResBlock(3, before[n], width, 3, 1 if n == 0 else 2, NORM)
                                    for n, width in enumerate(channels))
        self.neck = Neck(channels, hidden)
        self.full = nn.Conv3d(1, fine, 3, padding=1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Encode windows.

        Args:
            image: ``[B, 1, i, j, k]`` intensities in [-1, 1].

        Returns:
            Features per level ``[B, channels[n], *S / 2 ** (n + 1)]``, the embedding ``[B, hidden, *S / 8]`` and
            ``[B, fine, *S]``.
        """
        features, value = [], self.stem(image)
        for level in self.levels:
            value = level(value)
            features.append(value)
        return (*features, self.neck(features), self.full(image))


class PromptTokens(nn.Module):
    """Points and box corners as tokens: 3D Fourier code of the place, kind, and the image's features there.

    Args:
        hidden: features of a token, even.
        queries: learned global queries that go before the points.
    """

    def __init__(self, hidden: int, queries: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(3, hidden // 2))
        self.kinds = nn.Parameter(0.1 * torch.randn(_LABELS + 1, hidden))
        self.sampler = nn.Linear(hidden, hidden)
        self.queries = nn.Parameter(0.1 * torch.randn(queries, hidden))

    def code(self, places: torch.Tensor) -> torch.Tensor:
        """Fourier code ``[..., hidden]`` of places ``[..., 3]`` in [0, 1]."""
        angle = 2 * math.pi * ((2 * places - 1) @ self.frequencies.to(places.dtype))
        return torch.cat([angle.sin(), angle.cos()], -1)

    def grid(self, embedding: torch.Tensor) -> torch.Tensor:
        """Code of the embedding's cells ``[1, hidden, i, j, k]``."""
        lines = [(torch.arange(n, device=embedding.device, dtype=torch.float32) + 0.5) / n for n in embedding.shape[2:]]
        places = torch.stack(torch.meshgrid(*lines, indexing="ij"), -1)
        return self.code(places).permute(3, 0, 1, 2)[None]

    def forward(self, embedding: torch.Tensor, points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Tokens of prompts.

        Args:
            embedding: ``[B, hidden, i, j, k]``.
            points: ``[B, N, 3]`` continuous window voxels ``(i, j, k)``, voxel centres at integers.
            labels: ``[B, N]`` as SAM numbers them; -1 for padding.

        Returns:
            ``[B, queries + N, hidden]``.
        """
        sides = torch.tensor(embedding.shape[2:], device=points.device, dtype=points.dtype) * EMBEDDING_STRIDE
        told = (labels >= 0)[..., None].to(points.dtype)
        kind = F.one_hot(labels.long() + 1, _LABELS + 1).to(points.dtype) @ self.kinds.to(points.dtype)
        seen = self.sampler(sample_volume(embedding, (points + 0.5) / EMBEDDING_STRIDE - 0.5))
        own = kind + told * (self.code((points + 0.5) / sides) + seen)
        return torch.cat([self.queries.to(own.dtype)[None].expand(own.shape[0], -1, -1), own], 1)


class DensePrompts(nn.Module):
    """Prompt maps joined with the image's first features; a residual pyramid of their own brings them to the others.

    Args:
        channels: features per level of the encoder.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.first = nn.Conv3d(len(DENSE_CHANNELS), channels[0], 3, padding=1, bias=False)
        self.levels = nn.ModuleList(UnetResBlock(3, channels[n], channels[n + 1], 3, 2, NORM) for n in range(3))
        self.lateral = nn.ModuleList(nn.Conv3d(channels[n + 1], channels[n + 1], 1) for n in range(3))
        for lateral in self.lateral:
            nn.init.zeros_(lateral.weight)
            nn.init.zeros_(lateral.bias)

    def forward(self, features: Sequence[torch.Tensor], dense: torch.Tensor) -> list[torch.Tensor]:
        """Features of the first four levels, with the maps ``[B, 12, *S / 2]`` in them."""
        joined = [features[0] + self.first(dense.to(features[0].dtype))]
        value = joined[0]
        for level, lateral, feature in zip(self.levels, self.lateral, features[1:]):
            value = level(value)
            joined.append(value + lateral(feature))
        return joined


class MultiLevelDecoder(nn.Module):
    """From features of all levels to a mask, with the dynamic weights of a mask token (SAM's hypernetwork) beside.

    Args:
        channels: features per level of the encoder.
        hidden: features of tokens.
        fine: features at full resolution.
    """

    def __init__(self, channels: Sequence[int], hidden: int, fine: int) -> None:
        super().__init__()
        steps = range(len(channels) - 1)
        self.reduce = nn.ModuleList(nn.Conv3d(channels[n + 1], channels[n], 1) for n in steps)
        self.blocks = nn.ModuleList(UnetResBlock(3, channels[n], channels[n], 3, 1, NORM) for n in steps)
        self.attended = nn.Conv3d(hidden, channels[2], 1)
        self.weights = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, channels[0]))
        self.lift, self.told = nn.Conv3d(channels[0], fine, 1), nn.Conv3d(len(DENSE_CHANNELS), fine, 1, bias=False)
        self.act = nn.LeakyReLU(0.01)
        self.head = nn.Sequential(nn.Conv3d(fine, fine, 3, padding=1), nn.LeakyReLU(0.01), nn.Conv3d(fine, 1, 1))
        for last in (self.attended, self.told, self.weights[-1]):
            for parameter in last.parameters():
                nn.init.zeros_(parameter)

    def forward(self, features: Sequence[torch.Tensor], attended: torch.Tensor, token: torch.Tensor,
                fine: torch.Tensor, dense: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode.

        Args:
            features: of all levels, with the prompts in them.
            attended: the embedding after the transformer, ``[B, hidden, *S / 8]``.
            token: the mask token, ``[B, hidden]``.
            fine: the image's features at full resolution, ``[B, fine, *S]``.
            dense: prompt maps ``[B, 12, *S / 2]``.

        Returns:
            Logits ``[B, 1, *S]`` and the last level's features ``[B, channels[0], *S / 2]``.
        """
        value = features[-1]
        for n in range(len(self.blocks) - 1, -1, -1):
            skip = features[n] if n != 2 else features[n] + self.attended(attended)
            value = self.blocks[n](F.interpolate(self.reduce[n](value), size=skip.shape[2:], mode="nearest") + skip)
        broad = torch.einsum("bc,bcijk->bijk", self.weights(token).to(value.dtype), value)[:, None]
        lifted, told, broad = (F.interpolate(part, size=fine.shape[2:], mode="nearest")
                               for part in (self.lift(value), self.told(dense.to(value.dtype)), broad))
        return self.head(lifted + self.act(fine + told)) + broad, value


class PromptableVolume(nn.Module):
    """SAM-like promptable network for 3D windows.

    Args:
        channels: features per level of the encoder, five multiples of 8.
        hidden: features of tokens and embedding, a multiple of 8.
        fine: features at full resolution.
        layers: two-way transformer layers.
        queries: global queries of the visual sampler.
        maps: False for clicks and boxes by their tokens alone, as published; of the dense maps only masks are read.

    Raises:
        BundleError: for sizes that do not fit.
        MissingDependencyError: without ``transformers``.
    """

    def __init__(self, channels: Sequence[int] = (24, 48, 80, 112, 144), hidden: int = 96, fine: int = 8,
                 layers: int = 2, queries: int = 8, maps: bool = True) -> None:
        super().__init__()
        if len(channels) != 5 or any(c % 8 for c in (*channels, hidden)):
            raise BundleError(complain("sizes of PromptableVolume", [list(channels), hidden],
                                       "five levels and hidden features in multiples of 8"))
        self.channels, self.hidden, self.fine, self.maps = tuple(channels), hidden, fine, maps
        self.image_encoder = self.encoder()
        self.tokens = PromptTokens(hidden, queries)
        self.own = nn.Parameter(0.1 * torch.randn(2, hidden))
        self.transformer = _two_way(hidden, layers)
        self._look_for_the_like()
        self.dense = DensePrompts(channels)
        self.mask_decoder = MultiLevelDecoder(channels, hidden, fine)
        self.quality, self.quality_token = QualityHead(channels[0], hidden), nn.Linear(hidden, 1)
        nn.init.zeros_(self.quality_token.weight)
        nn.init.zeros_(self.quality_token.bias)

    @torch.no_grad()
    def _look_for_the_like(self) -> None:
        """Begin with attention to what is near and looks alike: queries and keys are turned in the same way, and the
        visual sampler hands on what it sees. From random projections the tokens are not listened to for long."""
        for module in self.transformer.modules():
            if hasattr(module, "q_proj"):
                nn.init.orthogonal_(module.q_proj.weight)
                module.k_proj.weight.copy_(module.q_proj.weight)
                for projection in (module.q_proj, module.k_proj):
                    nn.init.zeros_(projection.bias)
        nn.init.eye_(self.tokens.sampler.weight)
        nn.init.zeros_(self.tokens.sampler.bias)

    def encoder(self) -> nn.Module:
        """The image encoder."""
        return VolumeEncoder(self.channels, self.hidden, self.fine)

    def forward(self, image: torch.Tensor, points: torch.Tensor | None = None, labels: torch.Tensor | None = None,
                dense: torch.Tensor | None = None) -> torch.Tensor:
        """Segment windows.

        Args:
            image: ``[B, 1, i, j, k]`` in [-1, 1], sides multiples of 32.
            points: ``[B, N, 3]`` continuous voxels ``(i, j, k)``.
            labels: ``[B, N]``, see :data:`promptzoo.prompts.encoders.tokens.PADDING` and its neighbours.
            dense: ``[B, 12, *S / 2]`` prompt maps. None for no prompt, each.

        Returns:
            Logits ``[B, 1, i, j, k]``.
        """
        batch, half = image.shape[0], [n // 2 for n in image.shape[2:]]
        points = image.new_zeros(batch, TOKENS, 3) if points is None else points
        labels = image.new_full((batch, TOKENS), -1.0) if labels is None else labels
        dense = image.new_zeros(batch, len(DENSE_CHANNELS), *half) if dense is None else dense
        return self.decode(*self.image_encoder(image), points, labels, dense)[0]

    def decode(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Masks for prompts on encoded windows.

        Args:
            inputs: the encoder's outputs, then points, labels and dense maps as in :meth:`forward`.

        Returns:
            Logits ``[B, 1, *S]`` and the predicted IoU ``[B, 1]``.
        """
        *encoded, points, labels, dense = inputs
        features, embedding, fine = encoded[:-2], encoded[-2], encoded[-1]
        dense = dense if self.maps else without_places(dense)
        tokens, attended = self.attend(embedding, points, labels)
        joined = [*self.dense(features, dense), features[-1]]
        logits, value = self.mask_decoder(joined, attended, tokens[:, 0], fine, dense)
        return logits, self.predicted_iou(logits, value, attended, tokens[:, 1])

    def attend(self, embedding: torch.Tensor, points: torch.Tensor, labels: torch.Tensor
               ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens ``[B, 2 + queries + N, hidden]`` (mask, quality, queries, prompts) and the embedding ``[B, hidden,
        *S / 8]`` after they looked at each other."""
        tokens = self.tokens(embedding, points, labels)
        own = self.own.to(tokens.dtype)[None].expand(tokens.shape[0], -1, -1)
        places = self.tokens.grid(embedding).to(embedding.dtype).expand_as(embedding)
        tokens, keys = self.transformer(
            point_embeddings=torch.cat([own, tokens], 1)[:, None], image_embeddings=embedding,
            image_positional_embeddings=places, attention_similarity=None)
        return tokens[:, 0], keys.transpose(2, 3).reshape(embedding.shape)

    def predicted_iou(self, logits: torch.Tensor, value: torch.Tensor, attended: torch.Tensor,
                      token: torch.Tensor) -> torch.Tensor:
        """Predicted IoU ``[B, 1]`` of a mask, from what it covers and what its token says."""
        dice = torch.sigmoid(self.quality(logits, value, attended) + self.quality_token(token.detach().float()))
        return dice / (2 - dice)

    def inherited(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Weights of an early-fusion ``InteractiveUNet`` in 3D as this one's; others stay as they are.

        Its first convolution is divided: the image's channel stays, the prompt channels move to the dense prompts,
        where they meet maps of half the resolution (sums over the voxels that a coarse voxel holds); its next levels
        serve both the image alone and the image with the prompts.
        """
        found, stem = dict(state), state.get("image_encoder.stem.weight")
        if stem is None or stem.dim() != 5 or stem.shape[1] != 1 + len(DENSE_CHANNELS):
            return found
        found["image_encoder.stem.weight"] = stem[:, :1]
        pooled = torch.tensor(_POOLED, dtype=torch.float32)
        found["dense.first.weight"] = torch.einsum("ocijk,xi,yj,zk->ocxyz", stem[:, 1:].float(), pooled, pooled, pooled)
        for n in range(3):
            found.update((name.replace(f"image_encoder.levels.{n + 1}.", f"dense.levels.{n}."), value)
                         for name, value in state.items() if name.startswith(f"image_encoder.levels.{n + 1}."))
        full = state["full.0.weight"]
        found["image_encoder.full.weight"], found["image_encoder.full.bias"] = full[:, :1], state["full.0.bias"]
        for name, value in state.items():
            kind, _, rest = name.partition(".")
            if kind in ("reduce", "lift", "head"):
                found[f"mask_decoder.{name}"] = value
            elif kind == "decoder":
                found[f"mask_decoder.blocks.{rest}"] = value
        return found


def _two_way(hidden: int, layers: int) -> Any:
    """The two-way transformer of ``transformers``' SAM 2 at this size."""
    mend_imports()  # transformers imports torchvision; a vendored package has no entry point that does it
    modeling = require("transformers.models.sam2.modeling_sam2", "SAM-like networks")
    configuration = require("transformers.models.sam2.configuration_sam2", "SAM-like networks")
    config = configuration.Sam2MaskDecoderConfig(
        hidden_size=hidden, mlp_dim=4 * hidden, num_hidden_layers=layers, num_attention_heads=4)
    config._attn_implementation = "sdpa"
    return modeling.Sam2TwoWayTransformer(config)


def without_places(dense: torch.Tensor) -> torch.Tensor:
    """Dense maps ``[B, 12, *S / 2]`` with masks only: what a token says of clicks and boxes is zero in them."""
    kept = dense.new_zeros(dense.shape[1])
    kept[list(MASK_CHANNELS)] = 1.0
    return dense * kept[:, None, None, None]


def sample_volume(features: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Trilinear features ``[B, C, i, j, k]`` at continuous cell positions ``[B, N, 3]`` (i, j, k), ``[B, N, C]``; as
    products, which every exporter knows."""
    along = []
    for axis, size in enumerate(features.shape[2:]):
        cells = torch.arange(size, device=points.device, dtype=points.dtype)
        along.append(torch.relu(1 - (points[..., axis:axis + 1].clamp(0, size - 1) - cells).abs()))
    weight = along[0][..., :, None, None] * along[1][..., None, :, None] * along[2][..., None, None, :]
    return weight.flatten(2) @ features.to(points.dtype).flatten(2).transpose(1, 2)
