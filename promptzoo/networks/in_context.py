"""Finished cases as the prompt for the next image: a trained network that sees a query beside any number of templates.

Wu et al., "One-Prompt to Segment All Medical Images", CVPR 2024 (abstract and public description): one template image
with a click, box, scribble or mask; query tokens attend to template tokens in stacked decoder blocks, and template
features weighted by the prompt gate the query. Butoi et al., "UniverSeg: Universal Medical Image Segmentation", ICCV
2023, section 3.2: a query interacts with each support through one convolution over both, and the results are averaged,
so that the number of supports is free. Wu et al., 2024 ("meta-driven visual prompt selection", title and a line of
summary): a small learned network says which finished cases to show.

What is ours: the encoder is the frozen one of ``sam_box_finetune``; where a query is like the masked and the unmasked
parts of the templates is found by attention on its features as they are, and given to the decoder as maps (the prior
masks of PFENet: Tian et al., TPAMI 2020); prompts on the query itself enter through the same channels.
"""
from __future__ import annotations

from typing import Sequence

import torch
import torch.nn.functional as F
from monai.networks.blocks.dynunet_block import UnetResBlock
from torch import nn

from promptzoo.networks.example_selector import Selector
from promptzoo.networks.sam import PyramidEncoder
from promptzoo.networks.text_guided import NORM, Attend, places
from promptzoo.prompts.encoders.context import CONTEXT_CHANNELS

Maps = Sequence[torch.Tensor]
"""Four outputs of :class:`promptzoo.networks.sam.PyramidEncoder`, coarse to fine."""

_CHANNEL = {name: n for n, name in enumerate(CONTEXT_CHANNELS)}
_PRIORS = 4
"""Maps of likeness: at two scales, of places near by and of all places."""


def inside_outside(prompts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How surely each pixel is known to be inside and outside, ``[B, 1, S, S]`` each, from prompt maps
    ``[B, 9, S, S]``."""
    part = {name: prompts[:, n:n + 1] for name, n in _CHANNEL.items()}
    boxed = part["box"].amax((2, 3), keepdim=True)
    inside = torch.cat([part["previous"], part["point+"], part["scribble+"], part["lasso"].clamp(min=0),
                        part["box_shape"].clamp(min=0) * boxed], 1).amax(1, keepdim=True)
    outside = torch.cat([part["dense"] * (1 - part["previous"]), part["point-"], part["scribble-"],
                         boxed * (1 - part["box"])], 1).amax(1, keepdim=True)
    return inside, outside


class Likeness(nn.Module):
    """Where a query is like the inside of the templates rather than the outside: attention on features as they are.

    Two heads: one looks everywhere, the other rather at the same place of the image. Temperatures and reach are all
    that is learned.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor([2.5, 2.5]))
        self.reach = nn.Parameter(torch.tensor([-4.0, 1.5]))

    def forward(self, query: torch.Tensor, template: torch.Tensor, inside: torch.Tensor, outside: torch.Tensor
                ) -> torch.Tensor:
        """``query`` ``[B, C, h, w]``, ``template`` ``[B, N, C, h, w]``, ``inside`` and ``outside`` ``[B, N, 1, h, w]``;
        share of the inside ``[B, 2, h, w]``."""
        batch, count, width, rows, columns = template.shape
        both = torch.cat([query[:, None], template], 1)
        mean, deviation = both.mean((1, 3, 4), keepdim=True), both.std((1, 3, 4), keepdim=True) + 1e-5
        both = F.normalize((both - mean) / deviation, dim=2)
        likeness = torch.einsum("bcq,bnct->bqnt", both[:, 0].flatten(2), both[:, 1:].flatten(3))
        at = torch.stack(torch.meshgrid(torch.linspace(-1, 1, rows, device=query.device),
                                        torch.linspace(-1, 1, columns, device=query.device), indexing="ij"), -1)
        away = ((at.reshape(-1, 1, 2) - at.reshape(1, -1, 2)) ** 2).sum(-1)[None, :, None]
        known = torch.log(inside + outside + 1e-3).flatten(2)[:, None]
        share = (inside / (inside + outside + 1e-3)).flatten(1)
        maps = []
        for n in range(2):
            logits = likeness * self.sharpness[n].exp() - away * self.reach[n].exp() + known
            chance = torch.softmax(logits.flatten(2), -1)
            maps.append((chance @ share[..., None])[..., 0].reshape(batch, rows, columns))
        return torch.stack(maps, 1)


class CrossConvolution(nn.Module):
    """One convolution over a query and each template, then the mean over the templates (UniverSeg's cross block).

    Args:
        query, template: their features.
        width: features of the result.
    """

    def __init__(self, query: int, template: int, width: int) -> None:
        super().__init__()
        self.query, self.template = nn.Conv2d(query, width, 3, padding=1), nn.Conv2d(template, width, 3, padding=1)
        self.norm, self.out = nn.GroupNorm(8, width), nn.Conv2d(width, width, 1)

    def forward(self, query: torch.Tensor, template: torch.Tensor) -> torch.Tensor:
        """``[B, query, h, w]`` and ``[B, N, template, h, w]`` to ``[B, width, h, w]``."""
        pairs = self.query(query)[:, None] + self.template(template.flatten(0, 1)).unflatten(0, template.shape[:2])
        seen = F.gelu(self.norm(pairs.flatten(0, 1))).unflatten(0, template.shape[:2])
        return self.out(seen.mean(1))


class PromptBlock(nn.Module):
    """A block of the decoder: query tokens look at each other and at the templates', which also gate them.

    Args:
        width: features of the tokens, a multiple of 16.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.itself, self.template = Attend(width, width, 4), Attend(width, width, 4)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.gate = nn.Linear(2 * width, 2 * width)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.cross = CrossConvolution(width, width, width)

    def forward(self, query: torch.Tensor, template: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
        """``query`` ``[B, C, h, w]``, ``template`` ``[B, N, C, h, w]``, ``pooled`` ``[B, 2 C]`` (inside and outside of
        the templates); ``[B, C, h, w]``."""
        batch, width, rows, columns = query.shape
        where = places(rows, columns, width).to(query)
        tokens = query.flatten(2).transpose(1, 2)
        normed = self.norms[0](tokens) + where
        tokens = tokens + self.itself(normed, normed, normed)
        shown = (template.flatten(3).transpose(2, 3) + where).flatten(1, 2)
        tokens = tokens + self.template(self.norms[1](tokens) + where, shown, shown)
        scale, bias = self.gate(pooled)[:, None].chunk(2, -1)
        tokens = tokens * (1 + scale) + bias
        tokens = tokens + self.mlp(self.norms[2](tokens))
        value = tokens.transpose(1, 2).reshape(query.shape)
        return value + self.cross(value, template)


class InContextNet(nn.Module):
    """Query, templates, and what is meant on them, to a mask.

    Args:
        channels, hidden, fine: see :class:`promptzoo.networks.sam.PyramidEncoder`.
        width: features of the tokens, a multiple of 32.
        blocks: of the decoder.
    """

    def __init__(self, channels: Sequence[int] = (24, 48, 80, 112, 144), hidden: int = 128, fine: int = 12,
                 width: int = 96, blocks: int = 2) -> None:
        super().__init__()
        self.image_encoder = PyramidEncoder(channels, hidden, fine)
        self.image_encoder.requires_grad_(False)
        told, second, first, half = len(CONTEXT_CHANNELS), hidden // 4, hidden // 8, width // 2
        self.likeness = nn.ModuleList([Likeness(), Likeness()])
        self.prompt = nn.Sequential(nn.Conv2d(told, 24, 4, stride=4), nn.GELU(), nn.Conv2d(24, width, 3, 2, 1))
        self.features = nn.Conv2d(hidden + second, width, 1)
        self.mixed = UnetResBlock(2, width, width, 3, 1, NORM)
        self.enter = nn.Conv2d(width + _PRIORS, width, 1)
        self.blocks = nn.ModuleList(PromptBlock(width) for _ in range(blocks))
        self.cross = CrossConvolution(first, first + 2, 16)
        self.up = nn.Conv2d(width, half, 1)
        self.join = nn.Conv2d(half + first + 16 + 2 + _PRIORS + told, half, 1)
        self.middle = UnetResBlock(2, half, half, 3, 1, NORM)
        self.last = nn.Conv2d(half, 16, 1)
        self.out = nn.Sequential(nn.Conv2d(16 + fine, 16, 3, padding=1), nn.GELU(), nn.Conv2d(16, 1, 3, padding=1))
        nn.init.constant_(self.out[-1].bias, -1.0)  # type: ignore[arg-type]
        self.selector = Selector()

    def tuned(self) -> list[nn.Parameter]:
        """The parameters to train for masks: all but those of encoder and selector."""
        fixed = {id(one) for part in (self.image_encoder, self.selector) for one in part.parameters()}
        return [one for one in self.parameters() if id(one) not in fixed]

    def decode(self, query: Maps, asked: torch.Tensor, templates: Maps, shown: torch.Tensor) -> torch.Tensor:
        """Segment queries beside their templates.

        Args:
            query: maps of the encoder, ``[B, …]`` each.
            asked: prompts on the queries ``[B, 9, S, S]``, see
                :func:`promptzoo.prompts.encoders.context.context_maps`; zeros for none.
            templates: maps of the encoder, ``[B, N, …]`` each; N is free.
            shown: what is meant on the templates, ``[B, N, 9, S, S]``.

        Returns:
            Logits ``[B, 1, S/2, S/2]``.
        """
        embedding, second, first, fine = query
        count = shown.shape[:2]
        inside, outside = inside_outside(shown.flatten(0, 1))
        priors = []
        for step, one, theirs, part in ((16, embedding, templates[0], self.likeness[0]),
                                        (8, second, templates[1], self.likeness[1])):
            known = [F.avg_pool2d(value, step).unflatten(0, count) for value in (inside, outside)]
            priors.append(F.interpolate(part(one, theirs, *known), size=second.shape[2:], mode="bilinear"))
        prior = torch.cat(priors, 1)
        value = self.enter(torch.cat([self._tokens(embedding, second, asked), prior * 2 - 1], 1))
        flat = [one.flatten(0, 1) for one in templates]
        keys = self._tokens(flat[0], flat[1], shown.flatten(0, 1)).unflatten(0, count)
        pooled = torch.cat([_pooled(keys, F.avg_pool2d(one, 8).unflatten(0, count)) for one in (inside, outside)], 1)
        for block in self.blocks:
            value = block(value, keys, pooled)
        return self._sharp(value, prior, first, fine, asked, templates[2],
                           [F.avg_pool2d(one, 4).unflatten(0, count) for one in (inside, outside)])

    def _tokens(self, embedding: torch.Tensor, second: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        """Features and prompts of images at an eighth of the resolution, ``[B, width, S/8, S/8]``."""
        coarse = F.interpolate(embedding, size=second.shape[2:], mode="bilinear")
        both = torch.cat([F.group_norm(coarse, 1), F.group_norm(second, 1)], 1)
        return self.mixed(self.features(both) + self.prompt(prompts))

    def _sharp(self, value: torch.Tensor, prior: torch.Tensor, first: torch.Tensor, fine: torch.Tensor,
               asked: torch.Tensor, templates: torch.Tensor, known: Sequence[torch.Tensor]) -> torch.Tensor:
        """From an eighth of the resolution to half of it."""
        size = first.shape[2:]
        mine = F.group_norm(first, 1)
        theirs = F.group_norm(templates.flatten(0, 1), 1).unflatten(0, templates.shape[:2])
        alike = [(F.normalize(mine, dim=1) * F.normalize(_pooled(theirs, one), dim=1)[..., None, None]
                  ).sum(1, keepdim=True) for one in known]
        crossed = self.cross(mine, torch.cat([theirs, *known], 2))
        parts = [F.interpolate(one, size=size, mode="bilinear") for one in (self.up(value), prior)]
        value = self.middle(self.join(torch.cat([*parts, mine, crossed, *alike, F.avg_pool2d(asked, 4)], 1)))
        value = F.interpolate(self.last(value), size=fine.shape[2:], mode="bilinear")
        return self.out(torch.cat([value, fine], 1))

    def select(self, query: torch.Tensor, template: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
        """Scores ``[B, 1]`` of templates for queries, from embeddings ``[B, hidden, S/16, S/16]`` and prompt maps
        ``[B, 9, S, S]``; higher is better."""
        return self.selector(query, template, F.avg_pool2d(inside_outside(shown)[0], 16))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Segment images ``[B, 1, S, S]`` in [-1, 1], each beside itself with its middle marked, as a network must have
        an answer to an image alone: logits ``[B, 1, S/2, S/2]``."""
        maps = self.image_encoder(image)
        shown = image.new_zeros(len(image), len(CONTEXT_CHANNELS), *image.shape[2:])
        rows, columns = (slice(3 * n // 8, 5 * n // 8) for n in image.shape[2:])
        shown[:, _CHANNEL["previous"], rows, columns] = 1
        shown[:, _CHANNEL["dense"]] = 1
        return self.decode(maps, torch.zeros_like(shown), [one[:, None] for one in maps], shown[:, None])


def _pooled(features: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mean of features ``[B, N, C, h, w]`` under weights ``[B, N, 1, h, w]`` over all templates, ``[B, C]``."""
    return (features * weight).sum((1, 3, 4)) / (weight.sum((1, 3, 4)) + 1e-3)
