"""Training of networks that a sentence guides: scenes with sentences on a part of their opacities, and the steps."""
from __future__ import annotations

from typing import Any, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss
from monai.utils.enums import CommonKeys
from torch import nn
from torch.utils.data import Dataset

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.seeding import generator
from promptzoo.data.synthesis.chest import Opacity, chest
from promptzoo.inference.resample import normalise
from promptzoo.text.ngrams import bags
from promptzoo.text.reports import CELLS, SIDES, SIZES, ZONES, Cell, Report, bank, clause_bank, words_of
from promptzoo.training.binary import BinaryEvaluation, full_size
from promptzoo.training.step import optimise

FINDINGS = ("opacity", "consolidation", "infection", "infected area", "infiltrate", "lesion", "patch", "pneumonia")


def ordered(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """Parts of the lungs in the order of :data:`CELLS`, each once."""
    return tuple(cell for cell in CELLS if cell in set(cells))


def report_of(opacities: Sequence[Opacity], cells: Sequence[Cell] = CELLS) -> Report:
    """What a radiologist would write of those opacities that lie in some parts of the lungs."""
    named = [one for one in opacities if (one.zone, one.side) in cells]
    sizes = {one.size for one in named}
    return Report(ordered([(one.zone, one.side) for one in named]), sizes.pop() if len(sizes) == 1 else "")


def truth_of(opacities: Sequence[Opacity], cells: Sequence[Cell], size: int) -> np.ndarray:
    """The opacities in some parts of the lungs, as one mask ``[size, size]``."""
    mask = np.zeros((size, size), bool)
    for one in opacities:
        mask |= one.mask if (one.zone, one.side) in cells else False
    return mask


def _misspelt(text: str, rng: np.random.Generator) -> str:
    at = int(rng.integers(1, max(2, len(text) - 1)))
    return text[:at] + (text[at + 1:] if rng.random() < 0.5 else text[at] + text[at:])


def ask(opacities: Sequence[Opacity], rng: np.random.Generator) -> tuple[str, tuple[Cell, ...]]:
    """A sentence about an image, and the parts of the lungs that it names; no text (empty) means everywhere."""
    there, kind = ordered([(one.zone, one.side) for one in opacities]), rng.random()
    if kind < 0.07:
        return "", CELLS
    if kind < 0.32:
        return _report_text(report_of(opacities), rng), there
    if kind < 0.6 and there:
        some = ordered([there[int(n)] for n in rng.permutation(len(there))[:int(rng.integers(1, len(there) + 1))]])
        return _report_text(report_of(opacities, some), rng), some
    if kind < 0.72:
        side = SIDES[int(rng.integers(2))]
        cells = ordered([(zone, side) for zone in ZONES])
        word = ("{side} lung", "all {side} lung", "the {side} side", "{finding} of the {side} lung")[rng.integers(4)]
        return word.format(side=side, finding=FINDINGS[rng.integers(len(FINDINGS))]), cells
    if kind < 0.78:
        zone = ZONES[int(rng.integers(3))]
        word = ("{zone} lungs", "bilateral {zone} {finding}", "both {zone} zones")[rng.integers(3)]
        return (word.format(zone=zone, finding=FINDINGS[rng.integers(len(FINDINGS))]),
                ordered([(zone, side) for side in SIDES]))
    cells = [CELLS[int(rng.integers(6))]] if rng.random() < 0.5 or not there else [there[int(rng.integers(len(there)))]]
    word = ("{zone} {side} lung", "{side} {zone} {lobe}", "{finding} in the {zone} {side} lung",
            "{finding} in the {side} {zone} {lobe}", "one infected area, {zone} {side} lung")[rng.integers(5)]
    lobe = ("lobe", "zone", "field", "lung")[rng.integers(4)]
    text = word.format(zone=cells[0][0], side=cells[0][1], lobe=lobe, finding=FINDINGS[rng.integers(len(FINDINGS))])
    return text, ordered(cells)


def _report_text(report: Report, rng: np.random.Generator) -> str:
    clauses = report.clauses
    keep = ((0, 1, 2), (0, 1, 2), (0, 2), (1, 2), (2,))[rng.integers(5)]
    return ", ".join(clauses[n] for n in keep)


class SentenceScenes(Dataset):
    """Procedural chest radiographs with sentences; item ``n`` is always the same.

    Args:
        length: number of images.
        sentences: per image.
        size: side of the image in pixels.
        buckets, words: of the bags of n-grams, see :func:`promptzoo.text.ngrams.bags`.
        seed: seed of the dataset.

    Raises:
        PromptZooError: for an empty dataset.
    """

    def __init__(self, length: int, sentences: int = 4, size: int = 192, buckets: int = 1024, words: int = 24,
                 seed: int = 0) -> None:
        if length < 1:
            raise PromptZooError(complain("number of scenes", length, "1 or more"))
        self.length, self.sentences, self.size, self.seed = length, sentences, size, seed
        self.buckets, self.words, self._bank = buckets, words, [report.cells for report in bank()]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """One image and K sentences on it.

        Returns:
            ``image`` ``[1, 1, S, S]`` float32 in [-1, 1]; ``bags`` ``[K, words, buckets]``; ``label`` ``[K, 1, S, S]``
            bool, what each sentence names; ``whole`` ``[1, 1, S, S]`` bool, all opacities; ``report`` ``[1]``, index of
            the whole report in the bank; ``attributes`` ``[1, 2]``, number (0, 1, more) and largest size (0 for none).

        Raises:
            IndexError: beyond the last scene.
        """
        if not 0 <= index < self.length:
            raise IndexError(f"scene {index} of {self.length}")
        rng = generator(self.seed, index)
        image, opacities = chest(rng, self.size)
        asked = [ask(opacities, rng) for _ in range(self.sentences)]
        told = [words_of(_misspelt(text, rng) if text and rng.random() < 0.06 else text) for text, _ in asked]
        truth = np.stack([truth_of(opacities, cells, self.size) for _, cells in asked])[:, None]
        whole = report_of(opacities)
        largest = max((1 + SIZES.index(one.size) for one in opacities), default=0)
        return {"image": torch.from_numpy(normalise(image))[None, None],
                "bags": torch.from_numpy(bags(told, self.words, self.buckets)),
                "label": torch.from_numpy(truth), "report": torch.tensor([self._bank.index(whole.cells)]),
                "whole": torch.from_numpy(truth_of(opacities, CELLS, self.size))[None, None],
                "attributes": torch.tensor([[min(len(opacities), 2), largest]])}


class SentenceLoss(DiceCELoss):
    """Dice over the batch, and cross entropy."""

    def __init__(self) -> None:
        super().__init__(sigmoid=True, batch=True)


class SentenceUpdate:
    """``iteration_update`` of ``monai.engines.SupervisedTrainer``: Dice and cross entropy of what each sentence names,
    and cross entropy of the retrieval over the clauses of the bank, a scale each.

    Args:
        amp: use bfloat16 autocast.
        clip_norm: bound of the gradient norm.
        retrieval: weight of the retrieval's loss.
    """

    def __init__(self, amp: bool = True, clip_norm: float = 1.0, retrieval: float = 0.15) -> None:
        self.amp, self.clip_norm, self.retrieval = amp, clip_norm, retrieval
        self._scales, index = clause_bank()
        self._index = torch.tensor(index)

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Train on images and their sentences; returns image, label, pred, the loss, the Dice of the sentences and the
        share of clauses that were retrieved, coarse to fine."""
        device = engine.state.device
        image, label = batchdata["image"].to(device), batchdata["label"].to(device)
        given = batchdata["bags"].to(device)
        network = engine.network.train()
        plain = getattr(network, "module", network)
        with torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=self.amp):
            with torch.no_grad():
                maps = plain.image_encoder(image)
            each = [one.repeat_interleave(len(given) // len(image), 0) for one in maps]
            logits = plain.decode(given, *each)
            with torch.no_grad():  # the retrieval learns from the decoder, not the decoder from it
                plainly = plain.features(torch.zeros_like(given[:len(image)]), *maps)
            seen = plain.retrieval(*plainly).float()
        loss = engine.loss_function(full_size(logits, label), label)
        wanted, right = self._index.to(device)[batchdata["report"].to(device)], []
        for n, clauses in enumerate(self._scales):
            known = bags([words_of(clause) for clause in clauses], plain.length, plain.buckets)
            scores = seen[:, n] @ plain.clauses(torch.from_numpy(known).to(device)).T
            loss = loss + self.retrieval * F.cross_entropy(scores, wanted[:, n])
            right.append(float((scores.argmax(1) == wanted[:, n]).float().mean()))
        optimise(engine, loss, self.clip_norm)
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: label, CommonKeys.PRED: logits,
                CommonKeys.LOSS: float(loss.detach()), "dice_per_round": [mean_dice(logits, label), *right]}


def mean_dice(logits: torch.Tensor, label: torch.Tensor) -> float:
    """Mean Dice of the sentences that name something."""
    found = full_size(logits.detach(), label) > 0
    overlap, total = (found & label).flatten(1).sum(1), found.flatten(1).sum(1) + label.flatten(1).sum(1)
    there = label.flatten(1).any(1)
    return float((2 * overlap / total.clamp(min=1))[there].mean()) if there.any() else 1.0


class SentenceEvaluation(BinaryEvaluation):
    """Every sentence on its image: ``pred`` and ``label`` ``[B * K, 1, S, S]``."""

    def logits(self, network: nn.Module, image: torch.Tensor, batchdata: dict[str, torch.Tensor]) -> torch.Tensor:
        """The image is encoded once for all of its sentences."""
        given = batchdata["bags"].to(image.device)
        return network.decode(given, *(one.repeat_interleave(len(given) // len(image), 0)
                                       for one in network.image_encoder(image)))
