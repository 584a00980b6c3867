"""What all promptable networks of the interactive-refinement family have in common: how they are called."""
from __future__ import annotations

import torch
from torch import nn

from promptzoo.core.errors import BundleError, complain
from promptzoo.prompts.encoders.maps import PROMPT_CHANNELS


class PromptedNetwork(nn.Module):
    """A network over one fused tensor: image, prompt maps, prior masks.

    Subclasses implement :meth:`decode`.

    Args:
        prior_channels: dense context channels behind the prompt maps.
    """

    def __init__(self, prior_channels: int = 0) -> None:
        super().__init__()
        self.prior_channels = prior_channels
        self.prompt_channels = len(PROMPT_CHANNELS) + prior_channels

    def forward(self, image: torch.Tensor, prompts: torch.Tensor | None = None, with_quality: bool = False
                ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Segment a window.

        Args:
            image: ``[B, 1, H, W]`` or ``[B, 1, D, H, W]`` intensities in [-1, 1].
            prompts: ``[B, len(PROMPT_CHANNELS) + prior_channels, *S]`` prompt maps; without the prior channels, no
                prior is known; None for no prompt at all.
            with_quality: return the estimated Dice too; training goes this way, so that data-parallel wrappers see it.

        Returns:
            Logits ``[B, 1, *S]``; with ``with_quality`` also estimated-Dice logits ``[B, 1]``.

        Raises:
            BundleError: for another number of prompt channels.
        """
        given = len(PROMPT_CHANNELS) if prompts is None else prompts.shape[1]
        if given not in (self.prompt_channels, self.prompt_channels - self.prior_channels):
            raise BundleError(complain("prompt channels", given, f"{self.prompt_channels}"))
        parts = [image] if prompts is None else [image, prompts]
        missing = self.prompt_channels - (0 if prompts is None else given)
        if missing:
            parts.append(image.new_zeros((image.shape[0], missing, *image.shape[2:])))
        logits, quality = self.decode(torch.cat(parts, 1))
        return (logits, quality) if with_quality else logits

    def decode(self, fused: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Fused input ``[B, 1 + P, *S]`` to logits ``[B, 1, *S]`` and estimated-Dice logits ``[B, 1]``."""
        raise NotImplementedError
