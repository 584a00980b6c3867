"""Training of the n-gram text tower: names of a concept together, others apart.

Supervised contrastive loss over several views per concept (Khosla et al., NeurIPS 2020, equation 2, L_out).
"""
from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from promptzoo.core.seeding import generator
from promptzoo.text.lexicon import Concept, Lexicon
from promptzoo.text.lexicon.spelling import bag, stems
from promptzoo.text.towers.ngrams import features
from promptzoo.text.typos import mistyped

TEMPLATES = ("the {}", "segment the {}", "find the {}", "show me the {}", "{} please", "{} in this image",
             "a computed tomography of the {}", "a magnetic resonance image of the {}", "a picture of the {}",
             "an image of a {}", "outline of the {}", "a photo of a {}")
"""Sentences around a phrase that do not change what it means."""
KINDS = {"anatomy": "structure", "finding": "lesion", "cell": "cell", "object": "object"}
HELD = ("synonyms", "everyday")


@dataclass(frozen=True)
class Split:
    """Phrases of concepts, and those kept for measuring.

    Args:
        train: phrases by concept id.
        held: by kind (``synonyms``, ``everyday``): phrase and id of its concept.
    """

    train: Mapping[str, tuple[str, ...]]
    held: Mapping[str, tuple[tuple[str, str], ...]]


def split(lexicon: Lexicon, seed: int = 0, every: int = 3) -> Split:
    """Hold one synonym and one everyday word of every third concept out, on both sides of a lateral one.

    A phrase is held out only where the concept keeps others, and if it means this concept alone.

    Args:
        lexicon: the concepts.
        seed: of the draw.
        every: one concept in this many gives a held-out word of a kind.
    """
    rng = generator(seed, 11)
    owners = Counter(key for c in lexicon.concepts for key in {bag(stems(p)) for p in c.phrases})
    held: dict[str, list[tuple[str, str]]] = {kind: [] for kind in HELD}
    for concept in lexicon.concepts:
        if concept.side is not None:
            continue
        for kind in HELD:
            chosen = [p for p in getattr(concept, kind) if owners[bag(stems(p))] == 1]
            if rng.random() < 1 / every and chosen and len(concept.phrases) > 2:
                phrase = chosen[rng.integers(len(chosen))]
                if bag(stems(phrase)) != bag(stems(concept.name)):  # a name is never taken out of the training
                    held[kind].append((phrase, concept.id))
    return without(lexicon, {kind: tuple(pairs) for kind, pairs in held.items()})


def without(lexicon: Lexicon, held: Mapping[str, Sequence[tuple[str, str]]]) -> Split:
    """All phrases but those held out, in any order and spelling, with and without a side.

    Args:
        lexicon: the concepts.
        held: by kind: phrases and ids of their concepts.
    """
    less = lexicon.without(phrase for pairs in held.values() for phrase, _ in pairs)
    train = {concept.id: concept.phrases for concept in less.concepts}
    return Split(train, {kind: tuple(pairs) for kind, pairs in held.items()})


def described(concept: Concept, rng: np.random.Generator, name: str = "") -> str:
    """A sentence from typical attributes: ``small bean shaped structure, back of the abdomen``."""
    told = {k: v[rng.integers(len(v))] for k, v in concept.attributes.items() if v and k != "modality"}
    words = [told.get(k, "") for k in ("size", "colour", "shape", "texture") if rng.random() < 0.7]
    side = concept.side or ""
    parts = (*words, name or f"{side} {KINDS[concept.kind]}", "in the", told.get("location", ""))
    return " ".join(part for part in parts if part)


def view(concept: Concept, phrases: Sequence[str], telling: bool, rng: np.random.Generator) -> str:
    """One augmented text of a concept.

    Args:
        concept: whose.
        phrases: its words.
        telling: whether its attributes tell it from all other concepts.
        rng: draws.
    """
    text = phrases[0] if rng.random() < 0.25 else phrases[rng.integers(len(phrases))]
    way = rng.random()
    if way < 0.06 and telling:
        return described(concept, rng)
    if way < 0.18:
        text = described(concept, rng, text)
    elif way < 0.40:
        text = TEMPLATES[rng.integers(len(TEMPLATES))].format(text)
    if rng.random() < 0.4:
        text = mistyped(text, rng, 1 + int(rng.random() < 0.3))
    return text


class Network(nn.Module):
    """The tower as a torch module; the tensors are named as ``NgramTower`` wants them.

    Args:
        buckets, width, hidden, dim: rows and columns of the table, width of the hidden layer, length of a vector.
    """

    def __init__(self, buckets: int, width: int, hidden: int, dim: int) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(buckets, width, mode="sum")
        nn.init.normal_(self.bag.weight, std=0.02)
        self.hidden, self.out = nn.Linear(width, hidden), nn.Linear(hidden, dim)

    def forward(self, rows: torch.Tensor, offsets: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """Rows of all texts ``[K]``, where each begins ``[N]`` and how many it has ``[N]``, to vectors ``[N, D]``."""
        summed = self.bag(rows, offsets) / counts.float().sqrt()[:, None]
        return functional.normalize(self.out(functional.relu(self.hidden(summed))), dim=-1)

    def tensors(self, used: np.ndarray) -> dict[str, np.ndarray]:
        """Weights in float16; rows of the table that no training text used are zero."""
        table = self.bag.weight.detach().numpy() * used[:, None]
        told = {"table": table, **{k: v.detach().numpy() for k, v in self.state_dict().items() if k != "bag.weight"}}
        return {key: np.ascontiguousarray(value, np.float16) for key, value in told.items()}


def contrast(vectors: torch.Tensor, labels: torch.Tensor, temperature: float = 0.07) -> torch.Tensor:
    """Supervised contrastive loss of unit vectors ``[N, D]`` with concepts ``[N]``; each concept has two or more."""
    logits = vectors @ vectors.T / temperature
    logits = logits.masked_fill(torch.eye(len(labels), dtype=torch.bool), -1e4)
    same = (labels[:, None] == labels[None]).float().fill_diagonal_(0)
    return -((logits - logits.logsumexp(1, keepdim=True)) * same).sum(1).div(same.sum(1).clamp(min=1)).mean()


def train(lexicon: Lexicon, parts: Split, steps: int = 1800, families: int = 96, views: int = 3, buckets: int = 8192,
          width: int = 128, hidden: int = 256, dim: int = 128, rate: float = 4e-3, drop: float = 0.0, seed: int = 0,
          report: Callable[[int, float], None] = lambda step, loss: None) -> dict[str, np.ndarray]:
    """Train a tower.

    Args:
        lexicon, parts: concepts, and which phrases to train on.
        steps: optimiser steps, with the rate falling as a cosine.
        families: concepts per step; of a lateral one the pair, the left and the right are in the same step.
        views: texts per concept.
        buckets, width, hidden, dim: of the network.
        rate: of Adam.
        drop: share of the n-grams of a text that are left out in a step.
        seed: of everything.
        report: told the step and its loss.

    Returns:
        The tensors of an ``NgramTower``, float16.
    """
    torch.manual_seed(seed)
    rng = generator(seed, 12)
    told = Counter(_signature(c) for c in lexicon.concepts)
    groups = [[c, *lexicon.sides(c)] for c in lexicon.concepts if lexicon.whole(c) is None]
    number = {c.id: n for n, c in enumerate(lexicon.concepts)}
    network, used = Network(buckets, width, hidden, dim), np.zeros(buckets, np.float32)
    optimizer = torch.optim.Adam(network.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        chosen = [c for n in rng.choice(len(groups), families, replace=False) for c in groups[n]]
        texts = [view(c, parts.train[c.id], told[_signature(c)] == 1, rng) for c in chosen for _ in range(views)]
        rows, offsets, counts = batch(texts, buckets, rng, drop)
        used[rows] = 1
        vectors = network(torch.from_numpy(rows), torch.from_numpy(offsets), torch.from_numpy(counts))
        loss = contrast(vectors, torch.tensor([number[c.id] for c in chosen]).repeat_interleave(views))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        report(step, loss.item())
    return network.tensors(used)


def batch(texts: Sequence[str], buckets: int, rng: np.random.Generator | None = None, drop: float = 0.0
          ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of all texts in a line, where each begins, and how many it has.

    Args:
        texts: any.
        buckets: rows of the table.
        rng, drop: share of the rows that are left out at random; at least one of a text stays.
    """
    each = [features(text, buckets) or [0] for text in texts]
    if rng is not None and drop > 0:
        each = [[row for row, kept in zip(rows, rng.random(len(rows)) >= drop) if kept] or rows[:1] for rows in each]
    counts = np.array([len(rows) for rows in each])
    return np.array([row for rows in each for row in rows]), np.cumsum(counts) - counts, counts


def _signature(concept: Concept) -> tuple[Any, ...]:
    return concept.kind, concept.side, tuple(sorted((k, v) for k, v in concept.attributes.items() if k != "modality"))
