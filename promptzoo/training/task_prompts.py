"""Training of one network for many tasks: partially labelled procedural images, drawn in balance, and the steps."""
from __future__ import annotations

from functools import lru_cache
from typing import Any, Sequence

import numpy as np
import torch
from monai.engines.utils import IterationEvents
from monai.losses import DiceCELoss
from monai.networks import one_hot
from monai.utils.enums import CommonKeys
from torch import nn
from torch.utils.data import Dataset

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.seeding import generator
from promptzoo.data.phantom_planar import ultrasound
from promptzoo.data.synthesis.cine import cine
from promptzoo.data.synthesis.clinical_brain import brain
from promptzoo.data.synthesis.echo import VIEWS, echo
from promptzoo.data.synthesis.larynx import larynx
from promptzoo.data.synthesis.nuclei import ProceduralNuclei
from promptzoo.data.tasks import CHANNELS, Task, chosen
from promptzoo.inference.classes import slice_view, slice_window
from promptzoo.training.binary import full_size
from promptzoo.training.classes import ClassLoss, ClassUpdate, class_dice
from promptzoo.training.organs import ORGANS, nearest, torso, varied
from promptzoo.training.radiographs import SPACING_MM, radiograph
from promptzoo.training.step import optimise

SIDE, LEAST_PIXELS = 128, 12
"""Pixels per side of images that are drawn flat; pixels from which on a structure counts as there."""

SHOWN = 0.85
"""Share of slices of a torso that are drawn for a structure of their task, one like the other."""

TURNED = ("nuclei", "heart MR", "brain tumour MR", "laryngoscopy")
"""Tasks whose images may lie in any of eight ways."""

_torso = lru_cache(maxsize=128)(torso.__wrapped__)
_radiograph = lru_cache(maxsize=128)(radiograph.__wrapped__)
_cine = lru_cache(maxsize=256)(cine)
_nuclei = lru_cache(maxsize=8)(ProceduralNuclei)


class Drawn:
    """One image and what is labelled in it by any task.

    Args:
        image: ``[*S]`` in canonical order.
        spacing: of its pixels, millimetres.
        masks: structures by name, ``[*S]`` bool.
        hounsfield: whether the image is in Hounsfield units.
    """

    def __init__(self, image: np.ndarray, masks: dict[str, np.ndarray], spacing: Sequence[float] = (1.0, 1.0),
                 hounsfield: bool = False) -> None:
        self.image, self.masks, self.hounsfield = image, masks, hounsfield
        self.spacing = np.asarray(spacing, float)

    def label(self, task: Task) -> np.ndarray:
        """The label map ``[*S]`` uint8 of a task, 0 for the background."""
        label = np.zeros(self.image.shape, np.uint8)
        for n, name in enumerate(task.structures):
            label[self.masks[name]] = 1 + n
        return label


def draw(name: str, rng: np.random.Generator, seed: int, bodies: int) -> Drawn:
    """An image for the task called ``name``; of CT, cine MR and radiographs from a pool of ``bodies`` that ``seed``
    makes."""
    number = (1_000_003 * seed + int(rng.integers(bodies))) % 2 ** 31
    if name.endswith("CT"):
        data, labels, spacing = _torso(number)
        masks = {organ: labels == 1 + n for n, organ in enumerate(ORGANS)}
        here = np.flatnonzero(masks[str(rng.choice(chosen([name])[0].structures))].sum((0, 1)) >= LEAST_PIXELS)
        k = int(rng.choice(here)) if len(here) and rng.random() < SHOWN else int(rng.integers(data.shape[2]))
        return Drawn(data[..., k], {organ: mask[..., k] for organ, mask in masks.items()}, spacing[:2], True)
    if name == "chest radiograph":
        image, masks = _radiograph(number)
        image = np.log1p(image) if rng.random() < 0.5 else image
        found = dict(zip(("lungs", "lung right", "lung left", "heart"), masks))
        return Drawn(image, found, (SPACING_MM[0], SPACING_MM[2]))
    own = int(rng.integers(2 ** 31))
    if name == "nuclei":
        image, labels = _nuclei(SIDE, seed).sample(rng)
        return _picture(name, image, {"nuclei": labels > 0}, rng)
    if name == "heart MR":
        images, labels = _cine(number)
        k = int(rng.integers(images.shape[2]))
        return _picture(name, images[..., k], {s: labels[..., k] == 1 + n for n, s in enumerate(
            ("left ventricle", "myocardium", "right ventricle"))}, rng)
    if name == "brain tumour MR":
        scene = brain(rng, SIDE)
        solid, rim = scene.layers["solid"], scene.layers["rim"]
        return _picture(name, scene.image, {"oedema": scene.layers["halo"] & ~solid, "enhancing tumour": rim,
                                            "necrotic tumour core": solid & ~rim}, rng)
    if name == "laryngoscopy":
        image, labels = larynx(own, SIDE)
        return _picture(name, image, {"glottis": labels == 1, "vocal folds": labels >= 2}, rng)
    if name == "soft tissue ultrasound":
        frame, found = ultrasound((SIDE, SIDE), own)
        return _picture(name, frame.T, {"cyst": found.T == 1, "nodule": found.T == 2}, rng)
    if name in VIEWS:
        image, labels = echo(own, name, SIDE)
        return _picture(name, image, {s: labels == 1 + n for n, s in enumerate(VIEWS[name])}, rng)
    raise PromptZooError(complain("task to draw images for", name, "one of promptzoo.data.tasks.TASKS"))


def _picture(name: str, image: np.ndarray, masks: dict[str, np.ndarray], rng: np.random.Generator) -> Drawn:
    """A picture's rows and columns in canonical order, mirrored or turned where its task allows."""
    turns, mirrored = (int(rng.integers(4)) if name in TURNED else 0), bool(rng.integers(2))

    def moved(array: np.ndarray) -> np.ndarray:
        array = np.rot90(array[::-1, ::-1].T, turns)
        return np.ascontiguousarray(array[::-1] if mirrored else array)

    return Drawn(moved(image), {key: moved(mask) for key, mask in masks.items()})


class TaskScenes(Dataset):
    """Images with the labels of one task each, every task as often as the others; item ``n`` is always the same.

    Args:
        length: number of scenes.
        tasks: names; all for none. See :data:`promptzoo.data.tasks.TASKS`.
        images: per scene.
        size: side of what the network sees, in pixels.
        seed: seed of the dataset; different seeds share no view.
        bodies: torsos, radiographs and hearts that there are.
        patients: seed of these; None for ``seed``.

    Raises:
        PromptZooError: for an empty dataset.
    """

    def __init__(self, length: int, tasks: Sequence[str] = (), images: int = 10, size: int = 128, seed: int = 0,
                 bodies: int = 60, patients: int | None = None) -> None:
        if length < 1 or images < 1:
            raise PromptZooError(complain("scenes and images of each", [length, images], "1 or more of both"))
        self.length, self.images, self.size, self.seed, self.bodies = length, images, size, seed, bodies
        self.tasks, self.patients = chosen(tasks), seed if patients is None else patients

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Scene ``index``.

        Returns:
            ``image`` ``[T, 1, S, S]`` float32 in [-1, 1], ``label`` ``[T, 1, S, S]`` int64 (channels of the task),
            ``task`` ``[T]`` int64 and ``applies`` ``[T, tasks]`` float32: tasks with a structure in the image.

        Raises:
            IndexError: beyond the last scene.
        """
        if not 0 <= index < self.length:
            raise IndexError(f"scene {index} of {self.length}")
        found = [self.view(index * self.images + n) for n in range(self.images)]
        images, labels, tasks, applies = (np.stack(one) for one in zip(*found))
        return {"image": torch.from_numpy(images[:, None]), "label": torch.from_numpy(labels[:, None].astype(np.int64)),
                "task": torch.from_numpy(tasks), "applies": torch.from_numpy(applies)}

    def view(self, number: int) -> tuple[np.ndarray, np.ndarray, int, np.ndarray]:
        """Image ``number`` as the network sees it, its label, its task and which tasks apply."""
        rng, task = generator(self.seed, number), number % len(self.tasks)
        found = draw(self.tasks[task].name, rng, self.patients, self.bodies)
        scale = np.exp(rng.uniform(-0.25, 0.2)) * np.exp(rng.uniform(-0.08, 0.08, 2))
        window = slice_window(found.image.shape, found.spacing, self.size, scale, rng.uniform(-0.08, 0.08, 2))
        image = varied(slice_view(found.image, window, found.hounsfield), rng)
        applies = [all(name in found.masks for name in one.structures)
                   and (one.name.endswith("CT") == self.tasks[task].name.endswith("CT"))
                   and (one.modality == self.tasks[task].modality)
                   and sum(int(nearest(window, found.masks[name]).sum()) for name in one.structures) >= LEAST_PIXELS
                   for one in self.tasks]
        applies[task] |= not self.tasks[task].name.endswith("CT")
        return image, nearest(window, found.label(self.tasks[task])), task, np.asarray(applies, np.float32)


class TaskLoss(nn.Module):
    """Dice and cross entropy over the shared channels, and binary cross entropy of the router.

    Args:
        routing: weight of the router.
        pooled: whether Dice is that of a channel in all images together, in which small structures of one task hardly
            count beside large ones of another; else that of each image.
    """

    def __init__(self, routing: float = 0.5, pooled: bool = False) -> None:
        super().__init__()
        self.routing = routing
        self.masks = ClassLoss() if pooled else DiceCELoss(to_onehot_y=True, softmax=True, smooth_nr=1.0, smooth_dr=1.0,
                                                           lambda_dice=0.8, lambda_ce=0.4)

    def forward(self, logits: torch.Tensor, label: torch.Tensor, routes: torch.Tensor, applies: torch.Tensor
                ) -> torch.Tensor:
        """Logits ``[B, 1 + C, *S]``, label ``[B, 1, *S]`` int64, routes and applies ``[B, tasks]``."""
        told = nn.functional.binary_cross_entropy_with_logits(routes, applies)
        return self.masks(logits, label) + self.routing * told


class TaskUpdate(ClassUpdate):
    """:class:`promptzoo.training.classes.ClassUpdate` with each image under the prompt of its task."""

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Train on images; returns image, label, pred (logits), the loss and the mean Dice of the channels."""
        image, label, task, applies = (batchdata[key].to(engine.state.device)
                                       for key in ("image", "label", "task", "applies"))
        network = getattr(engine.network, "module", engine.network).train()
        with torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=self.amp):
            logits, routes = under_task(network, image, task), network.router(image)
        logits = full_size(logits, label)
        loss = engine.loss_function(logits, label, routes.float(), applies)
        optimise(engine, loss, self.clip_norm, network)
        dice = class_dice(logits.detach(), label)
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: label, CommonKeys.PRED: logits,
                CommonKeys.LOSS: float(loss.detach()), "dice_per_round": [float(dice.mean()) if len(dice) else 1.0]}


class TaskEvaluation:
    """``iteration_update`` of ``monai.engines.SupervisedEvaluator``; pred and label are one-hot without background."""

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Evaluate images under the prompts of their tasks: ``pred`` and ``label`` ``[B, C, *S]``."""
        image, label, task = (batchdata[key].to(engine.state.device) for key in ("image", "label", "task"))
        with torch.inference_mode():
            logits = full_size(under_task(engine.network.eval(), image, task), label)
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        found = one_hot(logits.argmax(1, keepdim=True), 1 + CHANNELS)
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: one_hot(label, 1 + CHANNELS)[:, 1:],
                CommonKeys.PRED: found[:, 1:]}


def with_priors(network: Any, dataset: TaskScenes, scenes: int = 20) -> Any:
    """A network whose priors are the mean masks of the first scenes of a dataset; see
    :class:`promptzoo.networks.task_tokens.TokenPromptNet`."""
    found = [dataset[n] for n in range(min(scenes, len(dataset)))]
    network.learn_priors(*(torch.cat([one[key] for one in found]) for key in ("label", "task")))
    return network


def under_task(network: Any, image: torch.Tensor, task: torch.Tensor) -> torch.Tensor:
    """Logits ``[B, 1 + C, S/2, S/2]`` of images ``[B, 1, S, S]`` under the prompts of tasks ``[B]``."""
    modality = network.modality_of(task) if network.modal else None
    return network.decode(network.rows()[task], *network.encode(image, modality))
