"""Task tokens in a transformer decoder, with or without a prior of where the structures of a task lie."""
from __future__ import annotations

from typing import Sequence

import torch
import torch.nn.functional as F
from monai.networks.blocks import TransformerBlock
from monai.networks.blocks.dynunet_block import UnetBasicBlock
from monai.networks.blocks.unetr_block import UnetrUpBlock
from torch import nn

from promptzoo.networks.task_prompts import NORM, Pyramid, TaskNetwork, fitted, headed


class TokenPromptNet(TaskNetwork):
    """A vision transformer on convolutional features whose decoder is given the token of a task.

    Luo et al. (2023), as far as the catalog tells: a trainable vector of the task enters the transformer decoder
    together with the encoder's features. Here the token is one more in the self-attention of the decoder's blocks, what
    became of it scales the features, and convolutions with the finer maps of the stem lead back to the image.

    With ``prior`` (after MOFO, a universal ultrasound segmenter with task prompt and anatomical prior, of which the
    title is known) a task also has a map per channel of where its structures lie, which joins the decoder's features;
    :meth:`learn_priors` sets the maps to mean masks.

    Args:
        present, channels, classes: see :class:`TaskNetwork`; ``channels`` are those of the stem, the last at 1/8.
        width: of the tokens.
        blocks: of encoder and decoder.
        heads: of the attention.
        side: cells of positions and priors along each side.
        prior: whether tasks have maps of where their structures lie.
    """

    def __init__(self, present: Sequence[int], channels: Sequence[int] = (24, 48, 80), classes: int = 3,
                 width: int = 96, blocks: Sequence[int] = (3, 2), heads: int = 4, side: int = 16,
                 prior: bool = False) -> None:
        super().__init__(present, channels, classes)
        tasks, deep = len(present), list(channels[::-1])
        self.side, self.width, self.finest, self.prior = side, width, channels[0], prior
        self.image_encoder = Pyramid(channels)
        self.embed = nn.Conv2d(channels[-1], width, 1)
        self.positions = nn.Parameter(0.02 * torch.randn(1, width, side, side))
        self.encoder, self.decoder = (nn.ModuleList(TransformerBlock(width, 2 * width, heads) for _ in range(count))
                                      for count in blocks)
        self.tokens = nn.Parameter(torch.randn(tasks, width))
        self.gain = nn.Linear(width, 2 * width)
        self.join = UnetBasicBlock(2, width + channels[-1] + classes * prior, channels[-1], 3, 1, NORM)
        self.ups = nn.ModuleList(UnetrUpBlock(2, a, b, 3, 2, NORM) for a, b in zip(deep, deep[1:]))
        self.head = nn.Conv2d(channels[0], 1 + classes, 1)
        self.priors = nn.Parameter(torch.zeros(tasks, classes, side, side)) if prior else None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Lengths of a row's parts: channels there are, token, priors, head."""
        return self.classes, self.width, self.classes * self.side ** 2 * self.prior, self.finest + 1

    def learn_priors(self, labels: torch.Tensor, tasks: torch.Tensor) -> None:
        """Set the priors to the mean masks, -1 to 1, of labels ``[N, 1, *S]`` (channels of tasks ``[N]``)."""
        if self.priors is None:
            return
        shares = torch.stack([(labels == 1 + n).float().mean(1) for n in range(self.classes)], 1)
        shares = F.adaptive_avg_pool2d(shares, self.side)
        with torch.no_grad():
            for task in range(len(self.priors)):
                if (tasks == task).any():
                    self.priors[task] = 2 * shares[tasks == task].mean(0) - 1

    def rows(self) -> torch.Tensor:
        """See :meth:`TaskNetwork.rows`."""
        maps = [self.priors.flatten(1)] if self.priors is not None else []
        return torch.cat([self.present, self.tokens, *maps, self.tokens.new_zeros(len(self.tokens), self.sizes[-1])], 1)

    def fresh(self) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`TaskNetwork.fresh`; it begins as the mean of the tasks, its prior of channel 1 alone."""
        row, ends = self.rows().detach().mean(0), torch.tensor(self.sizes).cumsum(0)
        row[:self.classes] = torch.arange(self.classes) < 1
        place = torch.arange(len(row))
        idle = (place >= ends[1] + self.side ** 2) & (place < ends[2])
        row[idle] = -1
        return row, (place >= self.classes) & ~idle

    def encode(self, image: torch.Tensor, modality: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        """See :meth:`TaskNetwork.encode`; the tokens of the image come last, as a map."""
        maps = self.image_encoder(image)
        value = self.embed(maps[-1])
        value = value + fitted(self.positions, value.shape[2:])
        flat = value.flatten(2).transpose(1, 2)
        for block in self.encoder:
            flat = block(flat)
        return (*maps, flat.transpose(1, 2).reshape(value.shape))

    def decode(self, prompt: torch.Tensor, *maps: torch.Tensor) -> torch.Tensor:
        """See :meth:`TaskNetwork.decode`."""
        _, token, prior, own = prompt.split(self.sizes, 1)
        value = self.features(token, maps, prior if self.prior else None)
        return self.used(headed(self.head(value), value, own), prompt)

    def features(self, token: torch.Tensor, maps: Sequence[torch.Tensor], prior: torch.Tensor | None = None
                 ) -> torch.Tensor:
        """Features ``[B, F, S/2, S/2]`` of tokens ``[B, width]``, maps, and priors ``[B, numbers]``."""
        seen = maps[-1]
        flat = torch.cat([token[:, None], seen.flatten(2).transpose(1, 2)], 1)
        for block in self.decoder:
            flat = block(flat)
        scale, shift = self.gain(flat[:, 0]).chunk(2, 1)
        value = flat[:, 1:].transpose(1, 2).reshape(seen.shape) * (1 + scale[..., None, None]) + shift[..., None, None]
        parts = [value, maps[-2]]
        if prior is not None:
            parts.append(fitted(prior.reshape(-1, self.classes, self.side, self.side), value.shape[2:]))
        value = self.join(torch.cat(parts, 1))
        for up, skip in zip(self.ups, maps[-3::-1]):
            value = up(value, skip)
        return value
