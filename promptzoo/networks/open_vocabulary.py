"""A small open-vocabulary detector: image tokens that each say a box, a vector and how object-like they are.

The structure is that of OWL-ViT (Minderer et al., ECCV 2022, section 3.1): every image token is a candidate, its class
score is the product of its vector with the vector of a text. A convolutional pyramid stands in the place of the ViT,
for speed on a CPU; tokens lie at stride 8, and boxes are distances to the four sides (FCOS, Tian et al., ICCV 2019).
"""
from __future__ import annotations

from typing import Sequence

import torch
import torch.nn.functional as F
from monai.networks.blocks.dynunet_block import UnetResBlock
from torch import nn

from promptzoo.networks.box_looks import BoxLooks
from promptzoo.networks.phrase_encoder import PhraseEncoder

STRIDE = 8
"""Pixels per side of a token."""
EXTRA = 5
"""Channels before the vector: objectness, then distances from the token's centre to left, top, right, bottom."""


class TokenEncoder(nn.Module):
    """Pictures to token maps.

    Args:
        widths: features at strides 2, 4, 8, 16 and 32.
        width: features of the pyramid and the heads.
        dim: of the vectors.
        looks: features of :class:`promptzoo.networks.box_looks.BoxLooks`, which adds to the vectors; 0 for none.
    """

    def __init__(self, widths: Sequence[int] = (24, 40, 80, 144, 208), width: int = 96, dim: int = 128, looks: int = 0
                 ) -> None:
        super().__init__()
        a, b, c, d, e = widths
        self.stem = nn.Sequential(nn.Conv2d(3, a, 3, 2, 1, bias=False), nn.BatchNorm2d(a), nn.SiLU(inplace=True))

        def stage(below: int, own: int, blocks: int) -> nn.Sequential:
            return nn.Sequential(*(UnetResBlock(2, below if n == 0 else own, own, 3, 2 if n == 0 else 1, "batch")
                                   for n in range(blocks)))

        self.stages = nn.ModuleList([stage(a, b, 1), stage(b, c, 2), stage(c, d, 2), stage(d, e, 1)])
        self.side = nn.ModuleList(nn.Conv2d(w, width, 1) for w in (c, d, e))
        self.merge = UnetResBlock(2, width, width, 3, 1, "batch")
        self.tell = UnetResBlock(2, width + 2, width, 3, 1, "batch")
        self.boxes = nn.Conv2d(width, EXTRA, 3, padding=1)
        self.words = nn.Conv2d(width, dim, 1)
        self.looks = BoxLooks(dim, looks) if looks else None
        with torch.no_grad():  # objects are rare, and about four tokens wide
            self.boxes.weight.mul_(0.1)
            self.boxes.bias.copy_(torch.tensor([-4.0, 0.7, 0.7, 0.7, 0.7]))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Token maps.

        Args:
            image: ``[B, 3, H, W]`` in [-1, 1]; sides are multiples of 32.

        Returns:
            ``[B, 5 + dim, H/8, W/8]``: objectness logit, logarithms of four distances in tokens, the vector.
        """
        value, levels = self.stem(image), []
        for stage in self.stages:
            value = stage(value)
            levels.append(value)
        value = self.side[2](levels[3])
        for side, level in ((self.side[1], levels[2]), (self.side[0], levels[1])):
            value = side(level) + F.interpolate(value, scale_factor=2.0, mode="nearest")
        value = self.merge(value)
        rows, columns = value.shape[2:]
        down = torch.linspace(-1, 1, rows, device=value.device, dtype=value.dtype).view(1, 1, -1, 1)
        right = torch.linspace(-1, 1, columns, device=value.device, dtype=value.dtype).view(1, 1, 1, -1)
        nothing = torch.zeros_like(value[:, :1])  # carries the batch, which engines leave open
        where = torch.cat([nothing + down, nothing + right], 1)
        value = self.tell(torch.cat([value, where], 1))
        boxes, words = self.boxes(value), self.words(value)
        if self.looks is not None:
            words = words + self.looks(image, boxes_of(boxes.detach()))
        return torch.cat([boxes, words], 1)


class OpenVocabularyDetector(nn.Module):
    """Pictures and phrases to scores and boxes.

    Args:
        size: side of the square pictures that it works on, a multiple of 32.
        widths, width, dim, looks: see :class:`TokenEncoder`.
        buckets: see :class:`promptzoo.networks.phrase_encoder.PhraseEncoder`.
    """

    def __init__(self, size: int = 320, widths: Sequence[int] = (24, 40, 80, 144, 208), width: int = 96,
                 dim: int = 128, buckets: int = 4096, looks: int = 0) -> None:
        super().__init__()
        self.size, self.dim = size, dim
        self.image_encoder = TokenEncoder(widths, width, dim, looks)
        self.text_encoder = PhraseEncoder(dim, buckets)

    def forward(self, image: torch.Tensor, texts: torch.Tensor | None = None) -> torch.Tensor:
        """Token maps, or scores of phrases.

        Args:
            image: ``[B, 3, H, W]`` in [-1, 1].
            texts: vectors ``[P, dim]``, the same phrases for all pictures.

        Returns:
            Without texts the token maps ``[B, 5 + dim, H/8, W/8]``; with them logits ``[B, P, H/8, W/8]``.
        """
        tokens = self.image_encoder(image)
        return tokens if texts is None else phrase_logits(tokens, texts.expand(len(image), -1, -1))


def phrase_logits(tokens: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Logits ``[B, P, h, w]`` of phrases ``[B, P, dim]`` at token maps ``[B, 5 + dim, h, w]``."""
    score = torch.einsum("bphw,bnp->bnhw", tokens[:, EXTRA:].float(), texts.float())
    return score + tokens[:, :1].float()


def boxes_of(tokens: torch.Tensor) -> torch.Tensor:
    """Boxes ``[B, 4, h, w]`` as ``x0, y0, x1, y1`` in pixels of the network's picture."""
    rows, columns = tokens.shape[2:]
    distance = tokens[:, 1:EXTRA].float().clamp(-4, 4).exp() * STRIDE
    x = ((torch.arange(columns, device=tokens.device) + 0.5) * STRIDE).view(1, 1, -1)
    y = ((torch.arange(rows, device=tokens.device) + 0.5) * STRIDE).view(1, -1, 1)
    left, top, right, bottom = distance.unbind(1)
    return torch.stack([x - left, y - top, x + right, y + bottom], 1)
