"""A small network of the SAM kind: an image encoder that runs once, and a decoder that runs per prompt.

Prompt tokens and two-way mask decoder are those of ``transformers`` (SAM 2: Ravi et al., 2024, section 4, with its
high-resolution features; candidates and predicted IoU as in SAM: Kirillov et al., ICCV 2023, section 3). What is ours:
the encoder is a residual convolutional pyramid; every point token also carries the image's features at the point
(visual sampler of 3DSAM-adapter, Gong et al., 2024); a light head sharpens the chosen mask at half the window's
resolution.
"""
from __future__ import annotations

from typing import Sequence

import torch
import torch.nn.functional as F
from monai.networks.blocks.dynunet_block import UnetResBlock
from torch import nn

from promptzoo.core.autoload import mend_imports
from promptzoo.core.errors import BundleError, complain
from promptzoo.core.optional import require
from promptzoo.prompts.encoders.tokens import DENSE_CHANNELS, TOKENS

STRIDE = 16
"""Window pixels per side of an embedding cell."""

_SHAPES = [DENSE_CHANNELS.index(name) for name in ("previous", "lasso")]


class PyramidEncoder(nn.Module):
    """Residual convolutional image encoder with SAM 2's three outputs and a fine one.

    Args:
        channels: features per level; level ``n`` works at ``1 / 2 ** (n + 1)`` of the resolution; five levels.
        hidden: features of the embedding, a multiple of 16.
        fine: features at half the resolution.
    """

    def __init__(self, channels: Sequence[int], hidden: int, fine: int) -> None:
        super().__init__()
        norm = ("group", {"num_groups": 8})
        before = [channels[0], *channels[:-1]]
        self.stem = nn.Conv2d(1, channels[0], 4, stride=2, padding=1)
        self.levels = nn.ModuleList(UnetResBlock(2, before[n], width, 3, 1 if n == 0 else 2, norm)
                                    for n, width in enumerate(channels))
        self.middle = UnetResBlock(2, channels[-1], channels[-1], 3, 1, norm)
        self.top, self.side = nn.Conv2d(channels[4], hidden, 1), nn.Conv2d(channels[3], hidden, 1)
        self.neck = UnetResBlock(2, hidden, hidden, 3, 1, norm)
        self.down = nn.ModuleList([nn.Conv2d(hidden, channels[2], 1), nn.Conv2d(channels[2], channels[1], 1)])
        self.merge = nn.ModuleList(UnetResBlock(2, channels[n], channels[n], 3, 1, norm) for n in (2, 1))
        self.s1, self.s0 = nn.Conv2d(channels[2], hidden // 4, 1), nn.Conv2d(channels[1], hidden // 8, 1)
        self.fine = nn.Conv2d(channels[0], fine, 1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Encode windows.

        Args:
            image: ``[B, 1, S, S]`` intensities in [-1, 1].

        Returns:
            Embedding ``[B, hidden, S/16, S/16]``, features ``[B, hidden/4, S/8, S/8]``, ``[B, hidden/8, S/4, S/4]`` and
            ``[B, fine, S/2, S/2]``.
        """
        features, value = [], self.stem(image)
        for n, level in enumerate(self.levels):
            value = self.adapt(n, level(value))
            features.append(value)
        return self.merged(features)

    def merged(self, features: Sequence[torch.Tensor]
               ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """The encoder's outputs from the features of its five levels."""
        top = F.interpolate(self.top(self.middle(features[4])), size=features[3].shape[2:], mode="nearest")
        embedding = self.adapt(len(self.levels), self.neck(top + self.side(features[3])))
        second = self.merge[0](features[2] + F.interpolate(self.down[0](embedding), size=features[2].shape[2:]))
        first = self.merge[1](features[1] + F.interpolate(self.down[1](second), size=features[1].shape[2:]))
        return embedding, self.s1(second), self.s0(first), self.fine(features[0])

    def adapt(self, place: int, features: torch.Tensor) -> torch.Tensor:
        """What a derived encoder makes of the features of level ``place``, or, beyond the last, of the embedding."""
        return features


class PromptableSam(nn.Module):
    """SAM-like promptable network for 2D windows.

    Args:
        size: side of the window in pixels, a multiple of 32; windows of other multiples of 32 work too.
        channels: features per level of the encoder, five multiples of 8.
        hidden: features of tokens and embedding, a multiple of 32.
        fine: features at half resolution.
        layers: two-way transformer layers of the decoder.
        candidates: masks offered for an ambiguous prompt.

    Raises:
        BundleError: for sizes that do not fit.
        MissingDependencyError: without ``transformers``.
    """

    def __init__(self, size: int = 256, channels: Sequence[int] = (24, 48, 80, 112, 144), hidden: int = 128,
                 fine: int = 12, layers: int = 2, candidates: int = 3) -> None:
        super().__init__()
        if size % 32 or len(channels) != 5 or any(c % 8 for c in channels) or hidden % 32:
            raise BundleError(complain("sizes of PromptableSam", [size, list(channels), hidden], "a window and hidden "
                                       "features in multiples of 32, five levels in multiples of 8"))
        mend_imports()  # transformers imports torchvision; a vendored package has no entry point that does it
        modeling = require("transformers.models.sam2.modeling_sam2", "SAM-like networks")
        configuration = require("transformers.models.sam2.configuration_sam2", "SAM-like networks")
        self.size, self.hidden = size, hidden
        self.image_encoder = PyramidEncoder(channels, hidden, fine)
        prompt = configuration.Sam2PromptEncoderConfig(hidden_size=hidden, image_size=size, patch_size=STRIDE,
                                                       mask_input_channels=64)
        decoder = configuration.Sam2MaskDecoderConfig(
            hidden_size=hidden, mlp_dim=4 * hidden, num_hidden_layers=layers, num_attention_heads=8,
            num_multimask_outputs=candidates, iou_head_hidden_dim=hidden, dynamic_multimask_via_stability=False)
        decoder._attn_implementation = "sdpa"
        self.prompt_encoder = modeling.Sam2PromptEncoder(prompt)
        self.prompt_encoder.mask_embed.conv1 = nn.Conv2d(
            len(DENSE_CHANNELS), self.prompt_encoder.mask_embed.mask_input_channels, 2, stride=2)
        self.prompt_encoder.no_mask_embed = nn.Identity()  # an empty dense map says the same
        self.mask_decoder = modeling.Sam2MaskDecoder(decoder)
        self.mask_decoder.conv_s0 = self.mask_decoder.conv_s1 = nn.Identity()  # the encoder's outputs have their width
        self.sampler = nn.Linear(hidden, hidden)
        self.refine = nn.Sequential(nn.Conv2d(1 + fine + len(DENSE_CHANNELS), 16, 3, padding=1), nn.GELU(),
                                    nn.Conv2d(16, 16, 3, padding=1), nn.GELU(), nn.Conv2d(16, 1, 3, padding=1))
        nn.init.zeros_(self.refine[-1].weight)
        nn.init.zeros_(self.refine[-1].bias)

    def forward(self, image: torch.Tensor, points: torch.Tensor | None = None, labels: torch.Tensor | None = None,
                dense: torch.Tensor | None = None) -> torch.Tensor:
        """Segment windows.

        Args:
            image: ``[B, 1, S, S]`` in [-1, 1].
            points, labels, dense: see :class:`promptzoo.prompts.encoders.tokens.SamPrompt`, with a batch axis in front;
                None for no prompt.

        Returns:
            Logits ``[B, 1, S, S]``.
        """
        batch, side = image.shape[0], image.shape[-1] // 2
        points = image.new_zeros(batch, TOKENS, 2) if points is None else points
        labels = image.new_full((batch, TOKENS), -1.0) if labels is None else labels
        dense = image.new_zeros(batch, len(DENSE_CHANNELS), side, side) if dense is None else dense
        return self.decode(*self.image_encoder(image), points, labels, dense)[0]

    def inherited(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Weights of the encoder of an ``InteractiveUNet`` as this one's: of its stem only the image's channel."""
        found, name = dict(state), "image_encoder.stem.weight"
        if name in found:
            found[name] = found[name][:, :1]
        return found

    def decode(self, embedding: torch.Tensor, s1: torch.Tensor, s0: torch.Tensor, fine: torch.Tensor,
               points: torch.Tensor, labels: torch.Tensor, dense: torch.Tensor
               ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Masks for prompts on encoded windows.

        Args:
            embedding, s1, s0, fine: outputs of the encoder.
            points, labels, dense: as in :meth:`forward`.

        Returns:
            Logits ``[B, 1, S, S]`` of the chosen mask, its predicted IoU ``[B, 1]``, logits ``[B, 1 + C, S/4, S/4]`` of
            all (the first for prompts that leave no doubt, then the candidates) and their predicted IoU ``[B, 1 + C]``.
        """
        side = STRIDE * embedding.shape[-1]
        tokens = self._tokens(embedding, points, labels)
        places = self._places(embedding)
        masks, ious = self._masks(embedding, places, tokens, self.prompt_encoder.mask_embed(F.avg_pool2d(dense, 2)),
                                  s0, s1)
        few = (labels >= 0).sum(1, keepdim=True) <= 1
        shapes = dense[:, _SHAPES].abs().flatten(1).amax(1, keepdim=True)
        doubt = (few & (shapes < 1e-6)).to(masks.dtype)
        best = F.one_hot(ious[:, 1:].argmax(1), ious.shape[1] - 1).to(masks.dtype)
        choice = torch.cat([1 - doubt, doubt * best], 1)
        chosen = (masks * choice[:, :, None, None]).sum(1, keepdim=True)
        low = F.interpolate(chosen, size=fine.shape[2:], mode="bilinear")
        sharp = low + self.refine(torch.cat([low / 10, fine, dense], 1))
        logits = F.interpolate(sharp, size=(side, side), mode="bilinear")
        return logits, (ious * choice).sum(1, keepdim=True), masks, ious

    def _tokens(self, embedding: torch.Tensor, points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Prompt tokens ``[B, 1, TOKENS, hidden]``: place, kind, and the image's features at the place."""
        scaled = (points + 0.5) * (self.size / (STRIDE * embedding.shape[-1])) - 0.5  # the encoder knows one size
        tokens = self.prompt_encoder._embed_points(scaled[:, None], labels[:, None].long(), pad=False)
        seen = self.sampler(sample_features(embedding, (points + 0.5) / STRIDE - 0.5))
        return tokens + ((labels >= 0)[..., None].to(seen.dtype) * seen)[:, None]

    def _places(self, embedding: torch.Tensor) -> torch.Tensor:
        """Position code of the embedding's cells ``[1, hidden, h, w]``."""
        height, width = embedding.shape[2:]
        rows = (torch.arange(height, device=embedding.device, dtype=embedding.dtype) + 0.5) / height
        columns = (torch.arange(width, device=embedding.device, dtype=embedding.dtype) + 0.5) / width
        grid = torch.stack([columns[None].expand(height, width), rows[:, None].expand(height, width)], -1)
        return self.prompt_encoder.shared_embedding(grid[None])[0].permute(2, 0, 1)[None]

    def _masks(self, embedding: torch.Tensor, places: torch.Tensor, tokens: torch.Tensor, dense: torch.Tensor,
               s0: torch.Tensor, s1: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """All masks of the decoder and their predicted IoU; what ``Sam2MaskDecoder.forward`` does before it picks."""
        decoder = self.mask_decoder
        own = torch.cat([decoder.obj_score_token.weight, decoder.iou_token.weight, decoder.mask_tokens.weight], 0)
        queries, value = self._attended(embedding, places, own, tokens, dense, s0, s1)
        weights = torch.stack([decoder.output_hypernetworks_mlps[n](queries[:, 2 + n])
                               for n in range(decoder.num_mask_tokens)], 1)
        return torch.einsum("bnc,bchw->bnhw", weights, value), decoder.iou_prediction_head(queries[:, 1])

    def _attended(self, embedding: torch.Tensor, places: torch.Tensor, own: torch.Tensor, tokens: torch.Tensor | None,
                  dense: torch.Tensor, s0: torch.Tensor, s1: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The two-way transformer: the decoder's own tokens ``[N, hidden]``, then those of the prompts
        ``[B, 1, T, hidden]``, to queries ``[B, N + T, hidden]``; features ``[B, hidden/8, S/4, S/4]``."""
        decoder = self.mask_decoder
        queries, keys = self._looked(embedding, places, own, tokens, dense)
        value = decoder.activation(decoder.upscale_layer_norm(decoder.upscale_conv1(keys) + s1))
        return queries, decoder.activation(decoder.upscale_conv2(value) + s0)

    def _looked(self, embedding: torch.Tensor, places: torch.Tensor, own: torch.Tensor, tokens: torch.Tensor | None,
                dense: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Queries ``[B, N + T, hidden]`` and the embedding after they looked at each other."""
        batch, queries = embedding.shape[0], own[None, None].expand(embedding.shape[0], -1, -1, -1)
        queries = queries if tokens is None else torch.cat([queries, tokens], 2)
        queries, keys = self.mask_decoder.transformer(
            point_embeddings=queries, image_embeddings=embedding + dense,
            image_positional_embeddings=places.expand(batch, -1, -1, -1), attention_similarity=None)
        return queries[:, 0], keys.transpose(2, 3).reshape(embedding.shape)


def sample_features(features: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Bilinear features ``[B, C, h, w]`` at continuous cell positions ``[B, N, 2]`` (column, row), ``[B, N, C]``; as
    sums, which every exporter knows."""
    height, width = features.shape[2:]
    columns = torch.arange(width, device=points.device, dtype=points.dtype)
    rows = torch.arange(height, device=points.device, dtype=points.dtype)
    across = torch.relu(1 - (points[..., :1].clamp(0, width - 1) - columns).abs())
    along = torch.relu(1 - (points[..., 1:].clamp(0, height - 1) - rows).abs())
    return torch.einsum("bnh,bnw,bchw->bnc", along, across, features.to(points.dtype))


class DecoderForward(nn.Module):
    """The decoder as engines compile it: encoder outputs and prompts in, :meth:`PromptableSam.decode` out."""

    def __init__(self, network: PromptableSam) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """See :meth:`PromptableSam.decode`."""
        return self.network.decode(*inputs)
