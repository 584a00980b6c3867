"""Learning a structure as a prompt of a frozen encoder, from a handful of corrected cases, on a CPU in a minute."""
from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.seeding import generator
from promptzoo.core.volume import Volume
from promptzoo.inference.classes import slice_view, slice_window
from promptzoo.inference.state import EncodedImage
from promptzoo.networks.prompt_tuned import LearnedPrompt
from promptzoo.training.organs import nearest, varied

Encode = Callable[[np.ndarray], Sequence[np.ndarray]]
CASES = (1, 20)
"""Fewest and most cases that a prompt is learned from."""


@dataclass(frozen=True, eq=False)
class Taught:
    """A corrected case in canonical order.

    Args:
        name: for messages.
        image, mask: slices ``[n, *S]``, intensities and bool.
        spacing: of a slice, millimetres.
        hounsfield: whether the intensities are Hounsfield units.
    """

    name: str
    image: np.ndarray
    mask: np.ndarray
    spacing: np.ndarray
    hounsfield: bool

    @classmethod
    def of(cls, name: str, volume: Volume, mask: np.ndarray) -> "Taught":
        """From an image and a mask ``[i, j, k]`` on its grid.

        Raises:
            PromptZooError: if the mask is empty.
        """
        if not mask.any():
            raise PromptZooError(complain(f"mask of {name}", "no voxel", "an object", "Leave the case out"))
        state = EncodedImage.of(volume)
        axis = int(np.argmin(state.data.shape)) if state.canonical.is_2d else 2
        image, own = (np.ascontiguousarray(np.moveaxis(a, axis, 0)) for a in (state.data, state.move.array(mask)))
        return cls(name, image, own, np.delete(np.asarray(state.canonical.spacing_mm), axis), state.hounsfield)

    def few(self, there: int, away: int, rng: np.random.Generator) -> list[int]:
        """Slices to learn from: ``there`` with the object, evenly over it, and ``away`` without, at random."""
        inside = self.mask.any((1, 2))
        with_it, without = np.flatnonzero(inside), np.flatnonzero(~inside)
        at = np.unique(np.linspace(0, len(with_it) - 1, min(there, len(with_it))).round().astype(int))
        return [*with_it[at].tolist(), *rng.permutation(without)[:away].tolist()]


@dataclass(frozen=True)
class Learning:
    """How a prompt is learned.

    Args:
        tokens, sets: see :class:`promptzoo.networks.prompt_tuned.LearnedPrompt`.
        iterations, batch, rate: steps, views per step, and the highest learning rate.
        views: encoded views of all slices together.
        there, away: slices of a volume with and without the object.
        apart: weight of the penalty on sets that are alike.
        window: side of the network's window.
        seed: of all draws.
    """

    tokens: int = 8
    sets: int = 3
    iterations: int = 400
    batch: int = 4
    rate: float = 1e-2
    views: int = 96
    there: int = 10
    away: int = 4
    apart: float = 0.1
    window: int = 256
    seed: int = 0


@dataclass(frozen=True)
class Form:
    """What a prompt of a bundle is made of; the default is sets of tokens on the maps of a frozen encoder.

    Args:
        make: a prompt before it is learned, from the settings and the encoded views: a module that gives logits
            ``[B, sets, h, w]`` of them, with a method ``alike() -> penalty``.
        takes: how many of the encoder's outputs it is given.
        finest: the number of that whose cells its logits have.
    """

    make: Callable[[Learning, Sequence[torch.Tensor]], nn.Module] = lambda settings, maps: LearnedPrompt(
        settings.tokens, settings.sets, maps[0].shape[1])
    takes: int = 3
    finest: int = 2


@dataclass(frozen=True, eq=False)
class Learned:
    """A prompt and how it came about: training loss at the end, seconds for encoding and altogether."""

    prompt: nn.Module
    loss: float
    seconds_encoding: float
    seconds: float


def prompt_loss(sets: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """0.8 soft Dice + 0.4 cross entropy of each set of tokens: logits ``[B, sets, h, w]``, label ``[B, 1, h, w]``."""
    label = label.expand_as(sets)
    chance = torch.sigmoid(sets)
    both = (chance * label).sum((2, 3))
    dice = 1 - (2 * both + 1) / (chance.sum((2, 3)) + label.sum((2, 3)) + 1)
    return 0.8 * dice.mean() + 0.4 * F.binary_cross_entropy_with_logits(sets, label)


def view_of(image: np.ndarray, mask: np.ndarray, spacing: np.ndarray, hounsfield: bool, size: int,
            rng: np.random.Generator | None) -> tuple[np.ndarray, np.ndarray]:
    """A slice ``[*S]`` and its mask as the network sees them, ``[size, size]``; moved, stretched and varied by
    ``rng``."""
    scale, shift = np.ones(2), np.zeros(2)
    if rng is not None:
        scale = np.exp(rng.uniform(-0.35, 0.25)) * np.exp(rng.uniform(-0.12, 0.12, 2))
        shift = rng.uniform(-0.12, 0.12, 2)
    window = slice_window(image.shape, spacing, size, scale, shift)
    view = slice_view(image, window, hounsfield)
    return view if rng is None else varied(view, rng), nearest(window, mask.astype(np.uint8))


def learn_prompt(encode: Encode, cases: Sequence[Taught], settings: Learning = Learning(),
                 report: Callable[[int, int, str], None] = lambda done, total, name: None, form: Form = Form()
                 ) -> Learned:
    """Learn one structure on a frozen encoder, which is only asked, never changed.

    Args:
        encode: windows ``[B, 1, S, S]`` float32 to the encoder's outputs.
        cases: 1 to 20 corrected cases.
        settings: how.
        report: told ``(done, total, "")``.
        form: of the prompt.

    Raises:
        PromptZooError: for another number of cases.
    """
    if not CASES[0] <= len(cases) <= CASES[1]:
        raise PromptZooError(complain("cases to learn a prompt from", len(cases), f"{CASES[0]} to {CASES[1]}",
                                      "With more, fine-tune a bundle instead"))
    started = time.perf_counter()
    maps, labels = _views(encode, cases, settings, form)
    encoded = time.perf_counter() - started
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        prompt = form.make(settings, maps)
    rng = generator(settings.seed, len(cases))
    optimiser = torch.optim.AdamW(prompt.parameters(), lr=settings.rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.rate, total_steps=settings.iterations + 1,
                                                   pct_start=0.1)
    losses = []
    for step in range(settings.iterations):
        chosen = torch.from_numpy(rng.integers(len(labels), size=settings.batch))
        loss = prompt_loss(prompt(*(one[chosen] for one in maps)), labels[chosen])
        optimiser.zero_grad(set_to_none=True)
        (loss + settings.apart * prompt.alike()).backward()
        nn.utils.clip_grad_norm_(prompt.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
        report(step + 1, settings.iterations, "")
    return Learned(prompt.requires_grad_(False).eval(), float(np.mean(losses[-20:])), encoded,
                   time.perf_counter() - started)


def _views(encode: Encode, cases: Sequence[Taught], settings: Learning, form: Form
           ) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Encoded views, ``[N, …]`` per output, and their masks ``[N, 1, h, w]`` in [0, 1]."""
    slices = [(case, k) for n, case in enumerate(cases)
              for k in case.few(settings.there, settings.away, generator(settings.seed, n, 1))]
    found: list[list[np.ndarray]] = [[] for _ in range(form.takes)]
    labels = []
    each = max(1, settings.views // len(slices) - 1)
    for number, (case, k) in enumerate(slices):
        for turn in range(each + 1):
            rng = generator(settings.seed, number, turn) if turn else None
            view, mask = view_of(case.image[k], case.mask[k], case.spacing, case.hounsfield, settings.window, rng)
            labels.append(mask.astype(np.float32)[None])
            for kept, part in zip(found, encode(view[None, None])[:form.takes]):
                kept.append(np.asarray(part[0], np.float32))
    maps = [torch.from_numpy(np.stack(parts)) for parts in found]
    label = F.interpolate(torch.from_numpy(np.stack(labels)), size=maps[form.finest].shape[2:], mode="area")
    return maps, label


def dice_on(encode: Encode, prompt: nn.Module, case: Taught, window: int = 256, form: Form = Form()) -> float:
    """Dice of a prompt's answer on all slices of a case, on the network's pixels."""
    both = total = 0
    for image, mask in zip(case.image, case.mask):
        view, truth = view_of(image, mask, case.spacing, case.hounsfield, window, None)
        with torch.inference_mode():
            maps = [torch.from_numpy(np.asarray(part, np.float32)) for part in encode(view[None, None])[:form.takes]]
            logits = prompt(*maps).mean(1, keepdim=True)
        found = F.interpolate(logits, size=truth.shape, mode="bilinear")[0, 0].numpy() >= 0
        both, total = both + int((found & (truth > 0)).sum()), total + int(found.sum()) + int((truth > 0).sum())
    return 2 * both / total if total else 1.0


def held_out(encode: Encode, cases: Sequence[Taught], settings: Learning = Learning(),
             folds: int = 2, form: Form = Form()) -> dict[str, Any] | None:
    """Dice on cases that were not learned from: each fold is learned without its cases and measured on them.

    Returns:
        ``{"cases": n, "dice": mean, "dice_least": lowest}``; None for a single case.
    """
    if len(cases) < 2:
        return None
    found = []
    for fold in range(folds):
        kept = [case for n, case in enumerate(cases) if n % folds != fold]
        prompt = learn_prompt(encode, kept, settings, form=form).prompt
        found += [dice_on(encode, prompt, case, settings.window, form)
                  for n, case in enumerate(cases) if n % folds == fold]
    return {"cases": len(found), "dice": round(float(np.mean(found)), 4), "dice_least": round(min(found), 4)}
