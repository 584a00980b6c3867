"""Training of the open-vocabulary detector on procedural scenes, and on real pictures with boxes."""
from __future__ import annotations

from typing import Any, Mapping, Sequence

import numpy as np
import torch
from monai.utils.enums import CommonKeys
from torch.utils.data import Dataset

from promptzoo.core.seeding import generator
from promptzoo.data.synthesis.attribute_scenes import AttributeScenes
from promptzoo.data.synthesis.attribute_words import SPOKEN, SYNONYMS, Described, changed, match, phrase_for
from promptzoo.networks.open_vocabulary import STRIDE
from promptzoo.training.detector_targets import targets, word_loss
from promptzoo.training.step import optimise


class SceneDataset(Dataset):
    """Procedural attribute scenes with phrases: ``image`` ``[3, S, S]`` in [-1, 1], ``texts`` (one per line), targets.

    Args:
        length: number of items; item ``n`` is always the same.
        size: side of the pictures in pixels, a multiple of 32.
        seed: of all draws.
        phrases: per picture; the first is always "object".
        views: items that share a scene, each with its own phrases and exposure.
        confuse: share of wrong phrases whose wrong word is true of another object of the scene.
    """

    def __init__(self, length: int, size: int = 256, seed: int = 0, phrases: int = 16, views: int = 1,
                 confuse: float = 0.0) -> None:
        self.length, self.size, self.seed, self.phrases, self.views = length, size, seed, phrases, max(1, views)
        self.confuse = confuse
        self.scenes: AttributeScenes | None = None
        self._kept: dict[int, tuple[np.ndarray, list[Described]]] = {}

    def __len__(self) -> int:
        return self.length

    def scene(self, index: int) -> tuple[np.ndarray, list[Described]]:
        """Picture ``[S, S, 3]`` in [0, 1] and objects of item ``index``, before its view."""
        if self.scenes is None:
            self.scenes = AttributeScenes(self.size, self.seed)
        block, views = index // (64 * self.views), self.views
        number = block * 64 + index % 64
        if number not in self._kept:
            if len(self._kept) >= 64 * (2 if views > 1 else 1):
                self._kept.pop(next(iter(self._kept)))
            self._kept[number] = self.scenes.sample(generator(self.seed, number))
        return self._kept[number]

    def __getitem__(self, index: int) -> dict[str, Any]:
        picture, objects = self.scene(index)
        rng = generator(self.seed, 7, index)
        if self.views > 1:
            picture = exposed(rng, picture)
        texts = ["object", *(self._phrase(rng, objects) for _ in range(self.phrases - 1))]
        meant = np.stack([match(text, objects) for text in texts])
        boxes = np.array([one.box for one in objects], float).reshape(-1, 4)
        said = np.array([[word_state(one, SYNONYMS.get(word, word)) for word in SPOKEN] for one in objects], np.int8)
        return {"image": network_picture(picture), "texts": "\n".join(texts), "boxes": boxes_field(boxes, meant),
                "words": boxes_field(boxes, said.reshape(len(objects), len(SPOKEN)).T),
                **targets(boxes, meant, self.size // STRIDE)}

    def _phrase(self, rng: np.random.Generator, objects: Sequence[Described]) -> str:
        draw = rng.random()
        if objects and draw < 0.9:
            one = objects[int(rng.integers(len(objects)))]
            if draw < 0.6:
                return phrase_for(rng, one)
            return changed(rng, one, objects if self.confuse and rng.random() < self.confuse else ())
        words = ("red", "blue", "purple", "green", "round", "square", "star", "large", "small", "cell", "polyp",
                 "nodule", "mole", "striped", "yellow", "ring")
        return " ".join(str(w) for w in rng.choice(words, int(rng.integers(1, 4)), replace=False))


def word_state(one: Described, word: str) -> int:
    """1 if a word is true of an object, -1 if it is open, else 0."""
    return 1 if word in one.true else -1 if word in one.open else 0


def network_picture(picture: np.ndarray) -> torch.Tensor:
    """``[H, W, 3]`` in [0, 1] to ``[3, H, W]`` float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1), dtype=np.float32) * 2 - 1)


def exposed(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """A picture under another light: small changes that leave the names of its colours."""
    gain = np.exp(rng.normal(0, 0.05, 3) + rng.normal(0, 0.06))
    return np.clip(picture * gain + rng.normal(0, 0.02), 0, 1).astype(np.float32)


MOST_BOXES = 64


def boxes_field(boxes: np.ndarray, meant: np.ndarray) -> np.ndarray:
    """Boxes and what each phrase says of them in one array of fixed size: ``[64, 4 + P]``, unused rows are -2."""
    field = np.full((MOST_BOXES, 4 + len(meant)), -2, np.float32)
    count = min(len(boxes), MOST_BOXES)
    field[:count, :4], field[:count, 4:] = boxes[:count], meant[:, :count].T
    return field


FROZEN = ("image_encoder.stem", "image_encoder.stages.0", "image_encoder.stages.1")
"""Early parts, which later stages of a training leave as they are."""


def later_parts(network: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The parameters of a detector outside :data:`FROZEN`; those inside take no gradients from now on."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not name.startswith(FROZEN))
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


LAST = ("image_encoder.tell", "image_encoder.boxes", "image_encoder.words", "image_encoder.looks", "text_encoder")
"""What reads the finished features: the parts that ``configs/train_looks.json`` trains."""


def trained_parts(network: torch.nn.Module, names: Sequence[str] = LAST) -> list[torch.nn.Parameter]:
    """The parameters whose names begin with one of ``names``; all others take no gradients from now on."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(tuple(names)))
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


class DetectorUpdate:
    """``iteration_update`` of ``monai.engines.SupervisedTrainer`` for the detector.

    Args:
        amp: use bfloat16 autocast.
        clip_norm: bound of the gradient norm.
        frozen_norm: keep the running statistics of batch normalisation, for few or very like pictures.
    """

    def __init__(self, amp: bool = True, clip_norm: float = 10.0, frozen_norm: bool = False) -> None:
        self.amp, self.clip_norm, self.frozen_norm = amp, clip_norm, frozen_norm

    def __call__(self, engine: Any, batchdata: Mapping[str, Any]) -> dict[str, Any]:
        """Train on a batch; returns image, label (heat), pred (token maps) and losses."""
        network, device = engine.network, engine.state.device
        network.train()
        if self.frozen_norm:
            for module in network.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.eval()
        loss, tokens = detector_loss(network, engine.loss_function, batchdata, device, self.amp)
        optimise(engine, loss, self.clip_norm)
        return {CommonKeys.IMAGE: batchdata["image"], CommonKeys.LABEL: batchdata["heat"],
                CommonKeys.PRED: tokens.detach(), CommonKeys.LOSS: float(loss.detach()), "dice_per_round": []}


def detector_loss(network: Any, loss_function: Any, batch: Mapping[str, Any], device: Any, amp: bool
                  ) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of a batch of :class:`SceneDataset` and the token maps ``[B, 5 + dim, h, w]``."""
    bare = getattr(network, "module", network)
    image = batch["image"].to(device, dtype=torch.float32).contiguous(memory_format=torch.channels_last)
    texts = [text.split("\n") for text in batch["texts"]]
    vectors = bare.text_encoder([one for told in texts for one in told]).view(len(texts), len(texts[0]), -1)
    with torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=amp):
        tokens = bare.image_encoder(image)
    wanted = {key: batch[key].to(device) for key in ("heat", "counts", "box", "reach")}
    loss = loss_function(tokens.float(), vectors, wanted)
    if loss_function.word_weight and "words" in batch:
        words = word_loss(tokens.float(), bare.text_encoder(SPOKEN), batch["words"].to(device))
        loss = loss + loss_function.word_weight * words
    return loss, tokens
