"""A frozen vision-language segmenter that only learned prompts adapt: textual, visual or joint, to a chosen depth.

Adhikari et al., "TuneVLSeg: Prompt tuning benchmark for vision-language segmentation models", ACCV 2024, and its public
code (``naamiinepal/tunevlseg``, ``src/models/core_models/coop``): context vectors join the words and are replaced
behind each layer down to the prompt's depth (CoOp, made deep); visual tokens do the same in the vision encoder (VPT);
or visual tokens are made of the textual ones by a projection per layer (MaPLe).

What is ours: the frozen segmenter is :class:`promptzoo.networks.text_guided.TextGuided` in the place of CLIPSeg and
CRIS. Its language branch has three places for prompts (the embedding and two convolutions), its vision branch six (five
levels of a convolutional encoder and the embedding), where the tokens are the cells of a coarse map that is added, and
their mean scales the features.
"""
from __future__ import annotations

from typing import Any, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from promptzoo.core.errors import BundleError, complain
from promptzoo.networks.sam import PyramidEncoder
from promptzoo.networks.text_guided import TextGuided, Words

KINDS = ("text", "vision", "joint")
SIDE = 2
"""Cells per side of a visual prompt; their number is that of the tokens."""
TOKENS = SIDE * SIDE
WORD_PLACES = 3
"""Places for prompts in the language branch."""


class Learner(nn.Module):
    """The learned prompts; all that is trained.

    Args:
        kind: ``text``, ``vision`` or ``joint``.
        depth: places with prompts, from the input on, in each branch that has them.
        words: features of the words.
        levels: features of the places of the vision branch.
        between: features between textual and visual tokens.

    Raises:
        BundleError: for another kind or depth.
    """

    def __init__(self, kind: str, depth: int, words: int, levels: Sequence[int], between: int = 16) -> None:
        super().__init__()
        if kind not in KINDS or not 1 <= depth <= len(levels):
            raise BundleError(complain("learned prompts", [kind, depth], f"{', '.join(KINDS)}; depth 1 to "
                                       f"{len(levels)}"))
        self.kind, self.depth, self.prompted = kind, depth, True
        if kind == "vision":
            self.visual = nn.ParameterList(torch.zeros(TOKENS, width) for width in levels[:depth])
        else:
            places = min(depth, WORD_PLACES) if kind == "text" else depth
            self.contexts = nn.Parameter(0.02 * torch.randn(places, TOKENS, words))
        if kind == "joint":
            self.project = nn.ModuleList(nn.Sequential(nn.Linear(words, between), nn.Linear(between, width))
                                         for width in levels[:depth])
            for one in self.project:
                nn.init.zeros_(one[1].weight)
                nn.init.zeros_(one[1].bias)

    def textual(self) -> Sequence[torch.Tensor]:
        """Context vectors ``[TOKENS, words]`` per place of the language branch; none while ``prompted`` is off."""
        return () if self.kind == "vision" or not self.prompted else tuple(self.contexts)

    def tokens(self, place: int) -> torch.Tensor | None:
        """Visual tokens ``[TOKENS, width]`` at a place of the vision branch, if it has any."""
        if self.kind == "text" or not self.prompted or place >= self.depth:
            return None
        return self.visual[place] if self.kind == "vision" else self.project[place](self.contexts[place])


class PromptedWords(Words):
    """:class:`Words` whose last places hold learned context vectors; sentences leave them empty.

    Args:
        learner: whose vectors they are; it stays a part of the network alone.
        buckets, width: see :class:`Words`.
    """

    def __init__(self, learner: Learner, buckets: int, width: int) -> None:
        super().__init__(buckets, width)
        self.__dict__["learner"] = learner

    def forward(self, bags: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`Words.forward`; behind layer ``n`` the last places hold the learner's vectors of that place."""
        there = (bags.sum(2) > 0).to(bags.dtype)
        contexts = self.learner.textual()
        if len(contexts):
            there = torch.cat([there[:, :-TOKENS], torch.ones_like(there[:, :TOKENS])], 1)
        value = _placed(contexts, 0, self.norms[0](self.embed(bags)) * there[..., None])
        for number, (near, norm) in enumerate(zip(self.near, self.norms[1:]), 1):
            value = norm(value + F.gelu(near(value.transpose(1, 2)).transpose(1, 2))) * there[..., None]
            value = _placed(contexts, number, value)
        return value, there


def _placed(contexts: Sequence[torch.Tensor], layer: int, value: torch.Tensor) -> torch.Tensor:
    """Words ``[B, L, width]`` with the vectors of a layer, if it has any, in their last places."""
    if layer >= len(contexts):
        return value
    return torch.cat([value[:, :-TOKENS], contexts[layer].expand(len(value), -1, -1)], 1)


class PromptedEncoder(PyramidEncoder):
    """:class:`PyramidEncoder` with visual prompts behind its first levels.

    Args:
        learner: whose prompts they are; it stays a part of the network alone.
        channels, hidden, fine: see :class:`PyramidEncoder`.
    """

    def __init__(self, learner: Learner, channels: Sequence[int], hidden: int, fine: int) -> None:
        super().__init__(channels, hidden, fine)
        self.__dict__["learner"] = learner

    def adapt(self, place: int, features: torch.Tensor) -> torch.Tensor:
        """Features of a level with its tokens ``[TOKENS, width]``, as a coarse map and, by their mean, as a scale."""
        tokens = self.learner.tokens(place)
        if tokens is None:
            return features
        cells = tokens.T.reshape(1, -1, SIDE, SIDE)
        spread = F.interpolate(cells, size=features.shape[2:], mode="bilinear", align_corners=True)
        return features * (1 + tokens.mean(0)[:, None, None]) + spread


class PromptTunedGuided(TextGuided):
    """A frozen :class:`TextGuided` with learned prompts.

    Args:
        kind, depth: see :class:`Learner`.
        channels, hidden, fine, width, buckets, length: see :class:`TextGuided`.
    """

    def __init__(self, kind: str = "joint", depth: int = 6, channels: Sequence[int] = (24, 48, 80, 112, 144),
                 hidden: int = 128, fine: int = 12, width: int = 96, buckets: int = 1024, **others: Any) -> None:
        super().__init__(channels, hidden, fine, width, buckets, **others)
        learner = Learner(kind, depth, width, (*channels, hidden))
        self.image_encoder = PromptedEncoder(learner, channels, hidden, fine)
        self.words = PromptedWords(learner, buckets, width)
        self.requires_grad_(False)
        self.learner = learner
