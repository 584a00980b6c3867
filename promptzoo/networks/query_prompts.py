"""A SAM-like network whose prompts are predicted by learned queries that look at the image.

Wahd et al., "Sam2Rad: A segmentation model for medical images with learnable prompts", 2024 (abstract): object queries
attend to the features of the frozen image encoder and predict prompts (box, points, mask) for the frozen decoder.
Xie et al., "MaskSAM: Towards auto-prompt SAM with mask classification for volumetric medical image segmentation", 2024
(abstract): a prompt generator gives auxiliary class tokens, masks and boxes, which prompt SAM and carry the class.
What is ours: the form of the generator. A query makes two kernels on a small feature pyramid, for a mask and for a
centre; the faces of its box are mean positions along the mask's profiles, as in
:mod:`promptzoo.networks.box_refiner`.
"""
from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from promptzoo.networks.sam import PromptableSam

QUERY_STRIDE = 4
"""Window pixels per side of a cell of the queries' maps."""


class FeaturePyramid(nn.Module):
    """Features of one width at stride 4 from three of the encoder's outputs.

    Args:
        hidden: features of the embedding.
        width: features made.
    """

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.context = nn.Sequential(nn.Conv2d(hidden, width, 1), nn.GroupNorm(8, width), nn.GELU(),
                                     nn.Conv2d(width, width, 3, padding=2, dilation=2), nn.GroupNorm(8, width),
                                     nn.GELU())
        self.sides = nn.ModuleList([nn.Conv2d(hidden // 4, width, 1), nn.Conv2d(hidden // 8, width, 1)])
        self.merge = nn.ModuleList(nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(8, width),
                                                 nn.GELU()) for _ in range(2))

    def forward(self, embedding: torch.Tensor, s1: torch.Tensor, s0: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features at stride 16 ``[B, width, S/16, S/16]`` and at stride 4 ``[B, width, S/4, S/4]``."""
        deep = value = self.context(embedding)
        for part, side, merge in zip((s1, s0), self.sides, self.merge):
            value = merge(F.interpolate(value, size=part.shape[2:], mode="bilinear") + side(part))
        return deep, value


class QueryLayer(nn.TransformerDecoderLayer):
    """torch's decoder layer, written out: of its own forms exporters trace another than they run.

    Args:
        width: features.
        heads: of attention.
    """

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__(width, heads, 2 * width, 0.0, batch_first=True)

    def forward(self, queries: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Queries ``[B, N, width]`` that looked at each other and at features ``[B, M, width]``."""
        queries = self.norm1(queries + _attended(self.self_attn, queries, queries))
        queries = self.norm2(queries + _attended(self.multihead_attn, queries, seen))
        return self.norm3(queries + self.linear2(F.relu(self.linear1(queries))))


def _attended(layer: nn.MultiheadAttention, queries: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """What an attention layer says, ``[B, N, width]``."""
    parts = [F.linear(value, weight, bias).unflatten(2, (layer.num_heads, -1)).transpose(1, 2) for value, weight, bias
             in zip((queries, seen, seen), layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3))]
    return layer.out_proj(F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2))


class QueryPrompts(nn.Module):
    """Learned queries that attend to an image's features and predict prompts of objects.

    Args:
        hidden: features of the encoder's embedding.
        classes: number of classes.
        queries: number of queries; 0 for one per class, which then is about that class and says whether it is there.
        width: features of queries and maps, a multiple of 8.
        layers: of attention.
    """

    def __init__(self, hidden: int, classes: int, queries: int = 0, width: int = 48, layers: int = 2) -> None:
        super().__init__()
        self.assigned, self.classes = not queries, classes
        self.pyramid = FeaturePyramid(hidden, width)
        self.queries = nn.Parameter(torch.randn(queries or classes, width))
        self.places = nn.Conv2d(hidden, width, 1)
        self.layers = nn.ModuleList(QueryLayer(width) for _ in range(layers))
        self.kernels = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 2 * width + 2))
        self.kind = nn.Sequential(nn.Linear(width + 2, width), nn.GELU(),
                                  nn.Linear(width, 1 if self.assigned else classes + 1))
        self.faces = nn.Sequential(nn.Conv1d(2, 16, 5, padding=2), nn.GELU(), nn.Conv1d(16, 2, 5, padding=2))

    def forward(self, embedding: torch.Tensor, s1: torch.Tensor, s0: torch.Tensor, fine: torch.Tensor,
                places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Prompts of windows.

        Args:
            embedding, s1, s0, fine: outputs of the encoder; the last is not used.
            places: position code of the embedding's cells ``[1, hidden, S/16, S/16]``.

        Returns:
            Logits of the class ``[B, N, 1]`` (that the query's own is there) or ``[B, N, 1 + classes]`` (none first);
            logits of masks and of centres ``[B, N, S/4, S/4]``; boxes ``[B, N, 4]``, faces (row low, column low, row
            high, column high) in pixels of the window.
        """
        deep, value = self.pyramid(embedding, s1, s0)
        seen = (deep + self.places(places)).flatten(2).transpose(1, 2)
        queries = self.queries[None].expand(len(embedding), -1, -1)
        for layer in self.layers:
            queries = layer(queries, seen)
        made = self.kernels(queries)
        width = value.shape[1]
        masks, centres = (torch.einsum("bnc,bchw->bnhw", one[..., :-1], value) / width ** 0.5 + one[..., -1:, None]
                          for one in made.split(width + 1, 2))
        chance = torch.sigmoid(masks)
        told = torch.stack([chance.amax((2, 3)), chance.mean((2, 3))], 2)
        return self.kind(torch.cat([queries, told], 2)), masks, centres, self._boxes(chance.detach())

    def _boxes(self, chance: torch.Tensor) -> torch.Tensor:
        """Faces ``[B, N, 4]`` from masks ``[B, N, h, w]``."""
        found = []
        for axis in (3, 2):
            profile = torch.stack([chance.amax(axis), chance.mean(axis)], 2).flatten(0, 1)
            at = torch.arange(profile.shape[2], device=chance.device, dtype=chance.dtype)
            along = (torch.softmax(self.faces(profile), 2) * at).sum(2) + 0.5
            found.append(QUERY_STRIDE * along.unflatten(0, chance.shape[:2]) - 0.5)
        return torch.stack([found[0][..., 0], found[1][..., 0], found[0][..., 1], found[1][..., 1]], 2)

    def chances(self, told: torch.Tensor) -> torch.Tensor:
        """Probability ``[B, N, classes]`` that a query is about an object of each class, from the class logits."""
        if not self.assigned:
            return told.softmax(2)[..., 1:]
        return torch.sigmoid(told) * torch.eye(self.classes, device=told.device, dtype=told.dtype)


class QueryPromptSam(PromptableSam):
    """:class:`PromptableSam` with :class:`QueryPrompts`; images and prompts are answered as there.

    Args:
        classes, queries, width: see :class:`QueryPrompts`.
        others: arguments of :class:`PromptableSam`.
    """

    def __init__(self, classes: int, queries: int = 0, width: int = 48, **others: Any) -> None:
        super().__init__(**others)
        self.prompt_head = QueryPrompts(self.hidden, classes, queries, width)

    def propose(self, embedding: torch.Tensor, s1: torch.Tensor, s0: torch.Tensor, fine: torch.Tensor
                ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Prompts of encoded windows, see :meth:`QueryPrompts.forward`."""
        return self.prompt_head(embedding, s1, s0, fine, self._places(embedding))
