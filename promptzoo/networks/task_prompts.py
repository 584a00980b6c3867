"""One network for many tasks with the same few output channels: a learned prompt says which task is meant."""
from __future__ import annotations

from typing import Sequence

import torch
import torch.nn.functional as F
from monai.networks.blocks.dynunet_block import UnetBasicBlock, UnetResBlock
from monai.networks.blocks.unetr_block import UnetrUpBlock
from torch import nn

NORM = ("GROUP", {"num_groups": 8})
ABSENT = -30.0
"""Logit of channels that a task does not use."""


class Router(nn.Sequential):
    """A small network that tells from an image which tasks apply: ``[B, 1, S, S]`` to logits ``[B, tasks]``."""

    def __init__(self, tasks: int, width: int = 16) -> None:
        super().__init__(
            nn.AvgPool2d(2), UnetBasicBlock(2, 1, width, 3, 2, NORM), UnetBasicBlock(2, width, 2 * width, 3, 2, NORM),
            UnetBasicBlock(2, 2 * width, 2 * width, 3, 2, NORM), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
            nn.Linear(8 * width, tasks))

    def query(self, image: torch.Tensor) -> torch.Tensor:
        """What the last layer sees of images ``[B, 1, S, S]``: ``[B, F]``."""
        for layer in list(self)[:-1]:
            image = layer(image)
        return image


class Pyramid(nn.Module):
    """Residual blocks of halving resolution: ``[B, 1, S, S]`` to one map per entry of ``channels``, from S/2 on."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        sides = [1, *channels]
        self.blocks = nn.ModuleList(UnetResBlock(2, a, b, 3, 2, NORM) for a, b in zip(sides, sides[1:]))

    def forward(self, image: torch.Tensor, *priors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """See the class; ``priors`` are added to the first maps."""
        maps: list[torch.Tensor] = []
        for n, block in enumerate(self.blocks):
            value = block(maps[-1] if maps else image)
            maps.append(value + priors[n] if n < len(priors) else value)
        return tuple(maps)


class TaskNetwork(nn.Module):
    """What the networks of the family have in common: tasks are rows of numbers, and a decoder is told one.

    A row begins with one number per channel that says whether the task has it. The other numbers of all tasks together
    are what a subclass makes of its parameters in :meth:`rows`; a row of a new structure (:meth:`fresh`) is all that is
    tuned when a structure is added, with everything else frozen.

    Args:
        present: per task, the number of its structures.
        channels: features per level, at 1/2, 1/4, … of the image's side.
        classes: channels beside the background.
    """

    modal = False
    """Whether the encoder is told the modality."""

    def __init__(self, present: Sequence[int], channels: Sequence[int], classes: int) -> None:
        super().__init__()
        self.router, self.classes = Router(len(present)), classes
        here = torch.arange(classes)[None] < torch.tensor(list(present))[:, None]
        self.register_buffer("present", here.float(), persistent=False)

    def rows(self) -> torch.Tensor:
        """The prompts of all tasks, ``[tasks, numbers]``."""
        raise NotImplementedError

    def fresh(self) -> tuple[torch.Tensor, torch.Tensor]:
        """A row for one new structure in channel 1 before it is tuned, and which of its numbers are to be tuned."""
        raise NotImplementedError

    def encode(self, image: torch.Tensor, modality: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        """Images ``[B, 1, S, S]`` in [-1, 1] to maps; ``modality`` is ``[B, M]``, one per row, for modal networks."""
        raise NotImplementedError

    def decode(self, prompt: torch.Tensor, *maps: torch.Tensor) -> torch.Tensor:
        """Rows ``[B, numbers]`` and maps to logits ``[B, 1 + classes, S/2, S/2]``."""
        raise NotImplementedError

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Segment images for the task that the router finds likeliest.

        Args:
            image: ``[B, 1, S, S]`` in [-1, 1].

        Returns:
            Logits ``[B, 1 + classes, S/2, S/2]``.
        """
        task = self.router(image).argmax(1)
        modality = self.modality_of(task) if self.modal else None
        return self.decode(self.rows()[task], *self.encode(image, modality))

    def modality_of(self, task: torch.Tensor) -> torch.Tensor:
        """One-hot modalities ``[B, M]`` of tasks ``[B]``."""
        raise NotImplementedError

    def used(self, logits: torch.Tensor, prompt: torch.Tensor) -> torch.Tensor:
        """Logits with :data:`ABSENT` in the channels that the rows do not have."""
        here = prompt[:, :self.classes, None, None]
        return torch.cat([logits[:, :1], logits[:, 1:] * here + ABSENT * (1 - here)], 1)


class UniversalPromptNet(TaskNetwork):
    """A universal prompt at the bottleneck that is split into one map per task.

    UniSeg (Ye et al., MICCAI 2023, and its code): a learned tensor of the size of the bottleneck, one channel per
    task, is concatenated with the bottleneck's features; a fusion block makes one map per task of both; the map of the
    task at hand is concatenated with the features at the start of the decoder. Here in 2D. Of the fusion block's three
    convolutions the last is 1 by 1, so that the map of a task is one row of its weights: choosing the map is choosing
    the row. A new structure is a row, an addition to the fusion block's hidden maps (its share of the universal
    prompt), and an addition to the head of channel 1.

    Args:
        present, channels, classes: see :class:`TaskNetwork`.
        hidden: channels within the fusion block.
        side: cells of the universal prompt along each side.
    """

    def __init__(self, present: Sequence[int], channels: Sequence[int] = (24, 48, 80, 128), classes: int = 3,
                 hidden: int = 32, side: int = 8) -> None:
        super().__init__(present, channels, classes)
        tasks = len(present)
        self.hidden, self.side, self.width = hidden, side, channels[0]
        self.image_encoder = Pyramid(channels)
        self.universal = nn.Parameter(torch.randn(1, tasks, side, side))
        self.fuse = nn.Sequential(UnetBasicBlock(2, channels[-1] + tasks, hidden, 3, 1, NORM))
        self.split = nn.Parameter(torch.randn(tasks, hidden) / hidden ** 0.5)
        self.offset = nn.Parameter(torch.zeros(tasks))
        deep = list(channels[::-1])
        self.ups = nn.ModuleList(UnetrUpBlock(2, a + (n == 0), b, 3, 2, NORM)
                                 for n, (a, b) in enumerate(zip(deep, deep[1:])))
        self.head = nn.Conv2d(channels[0], 1 + classes, 1)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Lengths of a row's parts: channels there are, weights and offset of the map, hidden maps, head."""
        return self.classes, self.hidden, 1, self.hidden * self.side ** 2, self.width + 1

    def rows(self) -> torch.Tensor:
        """See :meth:`TaskNetwork.rows`."""
        rest = self.split.new_zeros(len(self.split), sum(self.sizes[3:]))
        return torch.cat([self.present, self.split, self.offset[:, None], rest], 1)

    def fresh(self) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`TaskNetwork.fresh`; it begins as the mean of the tasks."""
        row = self.rows().detach().mean(0)
        row[:self.classes] = torch.arange(self.classes) < 1
        return row, torch.arange(len(row)) >= self.classes

    def encode(self, image: torch.Tensor, modality: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        """See :meth:`TaskNetwork.encode`."""
        return tuple(self.image_encoder(image))

    def task_map(self, prompt: torch.Tensor, deepest: torch.Tensor) -> torch.Tensor:
        """The maps ``[B, 1, h, w]`` of rows, from the deepest features ``[B, C, h, w]``."""
        weights, offset, hidden = prompt.split(self.sizes, 1)[1:4]
        place = deepest.shape[2:]
        universal = fitted(self.universal, place) + 0 * deepest[:, :1]  # any batch, also in an exported graph
        value = self.fuse(torch.cat([deepest, universal], 1))
        value = value + fitted(hidden.reshape(-1, self.hidden, self.side, self.side), place)
        return (value * weights[..., None, None]).sum(1, keepdim=True) + offset[..., None, None]

    def decode(self, prompt: torch.Tensor, *maps: torch.Tensor) -> torch.Tensor:
        """See :meth:`TaskNetwork.decode`."""
        value = torch.cat([maps[-1], self.task_map(prompt, maps[-1])], 1)
        for up, skip in zip(self.ups, maps[-2::-1]):
            value = up(value, skip)
        return self.used(headed(self.head(value), value, prompt[:, -self.width - 1:]), prompt)


class ModalPromptNet(UniversalPromptNet):
    """The same with a prompt per modality at the start of the encoder.

    MedUniSeg (Ye et al., 2024, arXiv 2410.05905): prompts of the modality become priors (MMap) at the start of the
    encoding, the universal task prompt becomes a prior (FUSE) at its end. Here the prior of a modality is its prompt,
    spread over the image and convolved, added to the first two maps of the encoder.

    Args:
        modalities: the number of each task's modality.
        depth: channels of the modalities' prompts.
        others: see :class:`UniversalPromptNet`.
    """

    modal = True

    def __init__(self, present: Sequence[int], modalities: Sequence[int], depth: int = 4,
                 channels: Sequence[int] = (24, 48, 80, 128), **others: int) -> None:
        super().__init__(present, channels, **others)
        count = max(modalities) + 1
        self.register_buffer("kinds", F.one_hot(torch.tensor(list(modalities)), count).float(), persistent=False)
        self.modal_prompts = nn.Parameter(torch.randn(count, depth, self.side, self.side))
        self.modal_maps = nn.ModuleList(nn.Conv2d(depth, width, 3, padding=1) for width in channels[:2])

    def modality_of(self, task: torch.Tensor) -> torch.Tensor:
        """See :meth:`TaskNetwork.modality_of`."""
        return self.kinds[task]

    def encode(self, image: torch.Tensor, modality: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        """See :meth:`TaskNetwork.encode`; without a modality, their mean."""
        if modality is None:
            modality = self.kinds.new_full((len(image), self.kinds.shape[1]), 1 / self.kinds.shape[1])
        prompt = torch.einsum("bm,mdhw->bdhw", modality, self.modal_prompts)
        priors = [conv(fitted(prompt, [n // scale for n in image.shape[2:]]))
                  for conv, scale in zip(self.modal_maps, (2, 4))]
        return tuple(self.image_encoder(image, *priors))


def headed(logits: torch.Tensor, features: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """Logits ``[B, 1 + C, h, w]`` to whose channel 1 a head of the rows' own is added.

    Args:
        features: ``[B, F, h, w]``.
        own: its weights and offset, ``[B, F + 1]``.
    """
    more = (features * own[:, :-1, None, None]).sum(1, keepdim=True) + own[:, -1:, None, None]
    return torch.cat([logits[:, :1], logits[:, 1:2] + more, logits[:, 2:]], 1)


def fitted(value: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Maps on another grid; as they are where it is theirs."""
    return value if tuple(value.shape[2:]) == tuple(size) else F.interpolate(value, size=tuple(size), mode="bilinear")
