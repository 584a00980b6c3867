"""Training under clinical records: scenes with true and open records, and the steps."""
from __future__ import annotations

from typing import Any, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys
from torch import nn
from torch.utils.data import Dataset

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.seeding import generator
from promptzoo.data.synthesis.clinical import SEGMENTS, STUDIES, TARGETS, ClinicalScene, clinical
from promptzoo.inference.clinical import click_map
from promptzoo.inference.resample import normalise
from promptzoo.text.ngrams import bags
from promptzoo.text.records import CLASSES, FIELD_OF, SIZES, chances_of, temporal_sentence, vector
from promptzoo.training.classes import full_size
from promptzoo.training.sentences import mean_dice
from promptzoo.training.step import optimise

OPEN_SHARE, WRONG_CLICK_SHARE = 0.1, 0.1


class ClinicalScenes(Dataset):
    """Procedural images with records; item ``n`` is always the same, studies take turns.

    Args:
        length: number of images.
        asks: masks asked for per image.
        size: side of the image in pixels.
        studies: kinds of study.
        buckets, words: of the bags of n-grams of sentences, see :func:`promptzoo.text.ngrams.bags`.
        seed: seed of the dataset.

    Raises:
        PromptZooError: for an empty dataset.
    """

    def __init__(self, length: int, asks: int = 3, size: int = 128, studies: Sequence[str] = STUDIES,
                 buckets: int = 512, words: int = 20, seed: int = 0) -> None:
        if length < 1:
            raise PromptZooError(complain("number of scenes", length, "1 or more"))
        self.length, self.asks, self.size, self.studies, self.seed = length, asks, size, tuple(studies), seed
        self.buckets, self.words = buckets, words

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """One image and K masks that are asked for.

        Returns:
            ``image`` ``[1, 1, S, S]`` float32 in [-1, 1]; ``record`` ``[K, LENGTH]``, true or open; ``bags`` ``[K,
            words, buckets]``, sentences that tell target and position; ``click`` ``[K, 1, S/4, S/4]``; ``label`` ``[K,
            1, S, S]`` bool; ``attributes`` ``[1, 4]`` int64, study, grade, segment and position step, -1 where there is
            none.

        Raises:
            IndexError: beyond the last scene.
        """
        if not 0 <= index < self.length:
            raise IndexError(f"scene {index} of {self.length}")
        rng = generator(self.seed, index)
        scene = clinical(rng, self.size, self.studies[index % len(self.studies)])
        records, told, clicks, truth = [], [], [], []
        for _ in range(self.asks):
            names = TARGETS[scene.study]
            target = names[0] if "segment" in scene.record and rng.random() < 0.5 else str(rng.choice(names))
            record = dict(scene.record)
            if "segment" in record and rng.random() < 0.85:
                there = np.unique(scene.layers["segments"][scene.layers["lesions"]])
                record["segment"] = str(rng.choice(there)) if rng.random() < 0.7 else str(rng.choice(SEGMENTS))
            at = _clicked(scene, target, rng)
            is_open = rng.random() < (OPEN_SHARE if "segment" not in record else 0.3)
            if is_open and "segment" in record:
                target, record["segment"] = "liver lesion", ""  # all lesions: what a single segment is a part of
            records.append(vector(target, {} if is_open else {n: chances_of(n, v) for n, v in record.items()}))
            told.append(temporal_sentence(target, float(record.get("position", 0))).split() if not is_open else [])
            clicks.append(click_map(at, self.size))
            truth.append(scene.truth(target, record, at))
        steps = {name: int(chances_of(name, value).argmax()) for name, value in scene.record.items()}
        return {"image": torch.from_numpy(normalise(scene.image))[None, None],
                "record": torch.from_numpy(np.stack(records)), "click": torch.from_numpy(np.stack(clicks)),
                "bags": torch.from_numpy(bags(told, self.words, self.buckets)),
                "label": torch.from_numpy(np.stack(truth))[:, None],
                "attributes": torch.tensor([[STUDIES.index(scene.study), *(steps.get(n, -1) for n in SIZES)]])}


def _clicked(scene: ClinicalScene, target: str, rng: np.random.Generator) -> tuple[int, int] | None:
    """A click on a slide, mostly on a part that has the target; None half of the time."""
    if scene.clicks is None or rng.random() < 0.5:
        return None
    mask = scene.clicks > 0 if rng.random() < WRONG_CLICK_SHARE else scene.truth(target)
    parts = np.unique(scene.clicks[mask & (scene.clicks > 0)])
    if not len(parts):
        return None
    place = np.argwhere(scene.clicks == rng.choice(parts))
    return tuple(int(n) for n in place[int(rng.integers(len(place)))])  # type: ignore[return-value]


class RecordLoss(nn.Module):
    """Dice of each mask, with a few pixels added on both sides so that empty ones count, and cross entropy."""

    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Logits ``[B, 1, H, W]``, label of that size or larger."""
        label = F.interpolate(label.float(), size=logits.shape[2:], mode="area")
        chance = torch.sigmoid(logits.float())
        overlap, total = (chance * label).flatten(1).sum(1), (chance + label).flatten(1).sum(1)
        dice = 1 - (2 * overlap + 2) / (total + 2)
        return dice.mean() + F.binary_cross_entropy_with_logits(logits.float(), label)


class RecordUpdate:
    """``iteration_update`` of ``monai.engines.SupervisedTrainer``: the masks' loss and cross entropy of the attributes.

    All masks but the last of each image are decoded under the given record; the last, now and then, under the
    attribute that the network predicts.

    Args:
        clip_norm: bound of the gradient norm.
        attributes: weight of the attributes' loss.
        predicted: share of the last masks that are decoded under predicted attributes.
    """

    def __init__(self, clip_norm: float = 1.0, attributes: float = 0.5, predicted: float = 0.5) -> None:
        self.clip_norm, self.attributes, self.predicted = clip_norm, attributes, predicted

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Train on images; returns image, label, pred, the loss, the Dice and the share of right attributes."""
        device = engine.state.device
        image, label, truth, click, record = (batchdata[name].to(device) for name in (
            "image", "label", "attributes", "click", "record"))
        network = engine.network.train()
        plain = getattr(network, "module", network)
        with torch.no_grad():
            maps = plain.image_encoder(image)[:3]
        told = plain.attributes(*maps)
        asks = len(record) // len(image)
        record = _with_predicted(record, told, truth, asks, self.predicted, int(engine.state.iteration))
        logits = plain.decode(record, click, *(one.repeat_interleave(asks, 0) for one in maps))
        loss = engine.loss_function(logits, label)
        right = []
        for n, one in enumerate(told):
            there = truth[:, n] >= 0
            if there.any():
                loss = loss + self.attributes * F.cross_entropy(one[there], truth[there, n])
            right.append(float((one.argmax(1) == truth[:, n])[there].float().mean()) if there.any() else 1.0)
        optimise(engine, loss, self.clip_norm)
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: label, CommonKeys.PRED: logits,
                CommonKeys.LOSS: float(loss.detach()), "dice_per_round": [mean_dice(logits, label), *right]}


def _with_predicted(record: torch.Tensor, told: Sequence[torch.Tensor], truth: torch.Tensor, asks: int, share: float,
                    iteration: int) -> torch.Tensor:
    """Records ``[B * K, LENGTH]`` of which some last ones hold what the heads say; never those of liver segments, which
    are asked for freely."""
    record, start = record.clone(), len(CLASSES)
    rng = generator(iteration, 0xAE)
    for name, logits in zip(SIZES, told[1:]):
        for image in range(len(truth)):
            own = FIELD_OF[STUDIES[int(truth[image, 0])]]
            if own == name and name != "segment" and rng.random() < share:
                record[image * asks + asks - 1, start:start + SIZES[name]] = logits[image].detach().softmax(0)
        start += SIZES[name]
    return record


class RecordEvaluation:
    """``iteration_update`` of ``monai.engines.SupervisedEvaluator``; ``pred`` and ``label`` are binary."""

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Evaluate images under their records: ``pred`` and ``label`` ``[B * K, 1, S, S]``."""
        device = engine.state.device
        image, label = batchdata["image"].to(device), batchdata["label"].to(device)
        network = engine.network.eval()
        with torch.inference_mode():
            maps = network.image_encoder(image)[:3]
            maps = [one.repeat_interleave(len(label) // len(image), 0) for one in maps]
            logits = full_size(_decoded(network, batchdata, maps, device), label)
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: label.float(), CommonKeys.PRED: (logits > 0).float()}


def _decoded(network: Any, batch: Mapping[str, torch.Tensor], maps: Sequence[torch.Tensor], device: torch.device
             ) -> torch.Tensor:
    if hasattr(network, "words"):
        return network.decode(batch["bags"].to(device), *maps)
    return network.decode(batch["record"].to(device), batch["click"].to(device), *maps)
