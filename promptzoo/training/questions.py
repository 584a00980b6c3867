"""Training of the question answerer on procedural scenes, over a detector that stays as it is."""
from __future__ import annotations

from typing import Any, Mapping

import numpy as np
import torch
from monai.utils.enums import CommonKeys
from torch.utils.data import Dataset

from promptzoo.core.seeding import generator
from promptzoo.data.synthesis.attribute_questions import ANSWERS, SPOKEN, WAYS, question
from promptzoo.data.synthesis.attribute_scenes import AttributeScenes
from promptzoo.data.synthesis.attribute_words import Described
from promptzoo.networks.question_head import MOST_OBJECTS, QuestionHead, grounded, objects_of
from promptzoo.text.attributes.answers import QUESTIONS
from promptzoo.training.detector import network_picture
from promptzoo.training.step import optimise

BLOCK = 8


class QuestionDataset(Dataset):
    """Questions about procedural scenes: ``objects``, ``fits``, ``there``, ``question``, ``target`` ``[answers]``.

    A target says which answers hold, each as often as the objects meant have it.

    Args:
        network: the detector; pictures are encoded once and kept.
        length: number of items; item ``n`` is always the same.
        scenes: number of pictures.
        size: side of the pictures in pixels.
        seed: of all draws.
    """

    def __init__(self, network: Any, length: int, scenes: int = 2000, size: int = 256, seed: int = 0
                 ) -> None:
        self.network, self.length, self.seed = network.eval(), length, seed
        self.count, self.size, self.scenes = max(1, scenes), size, AttributeScenes(size, seed)
        self._kept: dict[int, tuple[np.ndarray, list[Described]]] = {}

    def __len__(self) -> int:
        return self.length

    def scene(self, number: int) -> tuple[np.ndarray, list[Described]]:
        """What the detector sees in scene ``number``, ``[n, 5 + dim]``, and its objects."""
        if number not in self._kept:
            numbers = range(number // BLOCK * BLOCK, min(number // BLOCK * BLOCK + BLOCK, self.count))
            drawn = [self.scenes.sample(generator(self.seed, one)) for one in numbers]
            pictures = torch.stack([network_picture(picture) for picture, _ in drawn])
            device = next(self.network.parameters()).device
            with torch.inference_mode(), torch.autocast(device.type, dtype=torch.bfloat16):
                tokens = self.network.image_encoder(pictures.to(device)).float().cpu().numpy()
            for one, own, (_, objects) in zip(numbers, tokens, drawn):
                self._kept[one] = objects_of(own, self.size, self.size), objects
        return self._kept[number]

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = generator(self.seed, 3, index)
        while True:
            seen, objects = self.scene(int(rng.integers(self.count)))
            asked = question(rng, objects)
            if asked is not None and len(seen):
                break
        attribute, name, target = asked
        ways = (*WAYS, QUESTIONS.get(attribute, WAYS[0]))
        with torch.inference_mode():
            vector = self.network.text_encoder([name])[0].float().cpu().numpy()
        count = min(len(seen), MOST_OBJECTS)
        held = np.zeros((MOST_OBJECTS, seen.shape[1]), np.float32)
        held[:count] = seen[:count]
        fits = np.zeros(MOST_OBJECTS, np.float32)
        fits[:count] = grounded(seen[:count], vector)
        return {"objects": held, "fits": fits, "there": np.arange(MOST_OBJECTS) < count,
                "question": ways[int(rng.integers(len(ways)))].format(what=SPOKEN[attribute], name=name),
                "target": target.astype(np.float32)}


def question_head(detector: Any) -> QuestionHead:
    """A fresh question answerer that knows the detector's vectors of its answers."""
    device = next(detector.parameters()).device
    with torch.inference_mode():
        words = detector.text_encoder(ANSWERS).float()
    network = QuestionHead(words.shape[1])
    network.words.copy_(words.cpu().clone())
    return network.to(device)


class QuestionUpdate:
    """``iteration_update`` of ``monai.engines.SupervisedTrainer``: cross-entropy against the shares of the answers.

    Args:
        clip_norm: bound of the gradient norm.
    """

    def __init__(self, clip_norm: float = 5.0) -> None:
        self.clip_norm = clip_norm

    def __call__(self, engine: Any, batchdata: Mapping[str, Any]) -> dict[str, Any]:
        """Train on a batch of :class:`QuestionDataset`."""
        network, device = engine.network.train(), engine.state.device
        chance = network(*(batchdata[key].to(device) for key in ("objects", "fits", "there")), batchdata["question"])
        loss = -(batchdata["target"].to(device) * chance).sum(1).mean()
        optimise(engine, loss, self.clip_norm)
        return {CommonKeys.LOSS: float(loss.detach()), "dice_per_round": []}
