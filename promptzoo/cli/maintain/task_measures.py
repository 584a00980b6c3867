"""What task prompts do, on procedural images that no training saw; see :mod:`promptzoo.cli.maintain.measure_tasks`."""
from __future__ import annotations

from typing import Any, Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from promptzoo.core.geometry import Grid
from promptzoo.core.seeding import generator
from promptzoo.core.volume import Volume
from promptzoo.data.tasks import Task
from promptzoo.evaluation.metrics import dice
from promptzoo.inference.task_prompts import TaskPredictor
from promptzoo.prompts.types import AttributePrompt, ClassPrompt, PromptSet
from promptzoo.training.prompt_tuning import Learning, Taught, dice_on, learn_prompt, view_of
from promptzoo.training.task_prompts import Drawn, draw
from promptzoo.training.task_tuning import tuning

SEED = 977_000
"""No training draws from this seed and those after it."""

NEW = {"spleen": "liver and stomach CT", "heart": "chest radiograph"}
"""Structures that no task has, and the task whose images show them."""


def drawn(task: str, count: int, bodies: int = 0, first: int = 0) -> list[Drawn]:
    """Images for a task that no training saw, of ``bodies`` patients (of half as many as images for 0), the first of
    them number ``first``."""
    bodies = bodies or max(1, count // 2)
    return [draw(task, generator(SEED, first, n), SEED + first + n % bodies, 1) for n in range(count)]


def volume(one: Drawn) -> Volume:
    """A drawn image as a volume of one slice."""
    return Volume(one.image[..., None], Grid((*one.image.shape, 1), np.diag([*one.spacing, 1.0, 1.0])))


def told(predictor: TaskPredictor, state: Any, names: Iterable[str] = (), task: str = "") -> Any:
    """The answer to structures and a task, each of which may be left out."""
    prompts = [*(ClassPrompt(name) for name in names), *([AttributePrompt("task", task)] if task else [])]
    return predictor.decode(state, PromptSet(tuple(prompts))).objects[0]


def there(one: Drawn, task: Task) -> np.ndarray:
    """All structures of a task together in an image, ``[*S]`` bool."""
    return np.any([one.masks[name] for name in task.structures], 0)


def same_images(predictor: TaskPredictor, task: Task) -> list[Task]:
    """The tasks that are asked of the same images: those of CT for one another, else those of the same modality."""
    alike = [one for one in predictor.tasks if one.modality == task.modality]
    return alike if task.modality in ("CT", "ultrasound") else [task]


def right_and_wrong(predictor: TaskPredictor, count: int) -> dict[str, dict[str, float]]:
    """Per task the mean Dice of its structures under its own prompt and under the others of :func:`same_images`, where
    the answer of channel ``n`` is scored against structure ``n``; for other tasks under the next one's."""
    found: dict[str, dict[str, float]] = {}
    for number, task in enumerate(predictor.tasks):
        others = [t for t in same_images(predictor, task) if t != task] or [
            predictor.tasks[(number + 1) % len(predictor.tasks)]]
        right, wrong = [], []
        for one in drawn(task.name, count):
            state = predictor.encode(volume(one))
            right += list(_by_channel(predictor, state, one, task, task).values())
            for other in others:
                wrong += list(_by_channel(predictor, state, one, task, other).values())
        found[task.name] = {"right": mean(right), "wrong": mean(wrong)}
    return found


def _by_channel(predictor: TaskPredictor, state: Any, one: Drawn, task: Task, under: Task) -> dict[str, float]:
    """Dice of each structure of a task that is there, of what the same channel gives under a task."""
    found = {}
    for n, name in enumerate(task.structures):
        if one.masks[name].sum() < 30 or n >= len(under.structures):
            continue
        answer = told(predictor, state, [under.structures[n]], under.name)
        found[name] = dice(answer.mask[..., 0], one.masks[name])
    return found


def switched(predictor: TaskPredictor, count: int) -> np.ndarray:
    """Dice of what each CT task (rows) finds with what each of them (columns) labels in the same slices."""
    tasks = [task for task in predictor.tasks if task.modality == "CT"]
    scores = np.zeros((len(tasks), len(tasks), 2))
    for shown in tasks:
        for one in drawn(shown.name, count):
            state = predictor.encode(volume(one))
            truths = [there(one, task) for task in tasks]
            for row, task in enumerate(tasks):
                mask = told(predictor, state, (), task.name).mask[..., 0]
                for column, truth in enumerate(truths):
                    if truths[row].sum() >= 30 and truth.sum() >= 30:
                        scores[row, column] += dice(mask, truth), 1
    return scores[..., 0] / np.maximum(scores[..., 1], 1)


def routed(predictor: TaskPredictor, count: int) -> dict[str, float]:
    """Share of images whose likeliest task applies to them, and of structures that several tasks have for which the
    right task is taken."""
    applies, names = [], []
    for task in predictor.tasks:
        for one in drawn(task.name, count):
            if not there(one, task).any():
                continue
            state = predictor.encode(volume(one))
            likeliest = predictor.tasks[int(predictor.seen(state).chances.argmax())]
            applies.append(likeliest.modality == task.modality and (
                likeliest == task or task.modality == "CT" and there(one, likeliest).any()))
            for name in task.structures:
                if sum(name in other.structures for other in predictor.tasks) > 1:
                    names.append(told(predictor, state, [name]).info["task"] == task.name)
    return {"task applies": mean(applies), "same name, right task": mean(names), "images": len(applies)}


def alike(predictor: TaskPredictor, network: Any, count: int = 3) -> np.ndarray:
    """Correlation of tasks: of what their prompts make of the same images of all tasks, ``[tasks, tasks]``."""
    answers: list[list[np.ndarray]] = [[] for _ in predictor.tasks]
    with torch.inference_mode():
        for task in predictor.tasks:
            for one in drawn(task.name, count):
                view = torch.from_numpy(predictor.seen(predictor.encode(volume(one))).views[:1])
                view = view.expand(len(predictor.tasks), -1, -1, -1)
                kinds = torch.from_numpy(predictor.parts.modalities) if network.modal else None
                maps = network.task_map(torch.from_numpy(predictor.parts.rows), network.encode(view, kinds)[-1])
                for own, found in zip(answers, maps):
                    own.append(found.numpy().ravel())
    return np.corrcoef([np.concatenate(one) for one in answers])


def grouped(matrix: np.ndarray, tasks: Sequence[Task]) -> dict[str, float]:
    """Mean correlation of different tasks of one modality, and of tasks of different ones."""
    pairs = [(matrix[a, b], tasks[a].modality == tasks[b].modality) for a in range(len(tasks)) for b in range(a)]
    return {"one modality": mean([v for v, same in pairs if same]), "two": mean([v for v, same in pairs if not same])}


def cases(structure: str, count: int, bodies: int = 3, first: int = 0, least: int = 40) -> list[Taught]:
    """Images that show a structure which no task has, as corrected cases; see :func:`drawn`."""
    found: list[Taught] = []
    for one in drawn(NEW[structure], 12 * count, bodies, first):
        mask = one.masks.get(structure)
        if mask is not None and mask.sum() >= least and len(found) < count:
            found.append(Taught.of(str(len(found)), volume(one), mask[..., None]))
    return found


def taught(network: Any, structure: str, count: int, tests: int, settings: Learning = Learning(),
           bodies: tuple[int, int] = (3, 6), window: int = 128) -> tuple[nn.Module, dict[str, float]]:
    """The prompt of a new structure, tuned with the network frozen; its Dice beside the best that any channel of any
    task gives, and what was tuned. Learned from ``count`` images of some patients, scored on ``tests`` of others."""
    encode, form, own = tuning(network, settings, window)
    learned = learn_prompt(encode, cases(structure, count, bodies[0]), own, form=form)
    held_out = cases(structure, tests, bodies[1], bodies[0])
    tuned = mean([dice_on(encode, learned.prompt, case, own.window, form) for case in held_out])
    numbers = sum(p.numel() for p in learned.prompt.parameters())
    told = {"frozen": best_channel(network, encode, held_out, own.window), "tuned": tuned, "cases": count,
            "held out": len(held_out), "numbers": numbers, "seconds": round(learned.seconds, 1),
            "share": round(numbers / sum(p.numel() for p in network.parameters()), 5)}
    return learned.prompt, told


def best_channel(network: Any, encode: Any, every: Sequence[Taught], window: int) -> float:
    """Mean Dice of cases of one slice, of that channel of that task that comes nearest."""
    scores = []
    with torch.inference_mode():
        rows = network.rows()
        for case in every:
            view, truth = view_of(case.image[0], case.mask[0], case.spacing, case.hounsfield, window, None)
            maps = [torch.from_numpy(one).expand(len(rows), *one.shape[1:]) for one in encode(view[None, None])]
            logits = F.interpolate(network.decode(rows, *maps), size=truth.shape, mode="bilinear")
            found = F.one_hot(logits.argmax(1), logits.shape[1])[..., 1:].permute(0, 3, 1, 2).flatten(0, 1).numpy()
            scores.append([dice(one > 0, truth > 0) for one in found])
    return mean([float(np.mean(scores, 0).max())])


def mean(values: Iterable[float]) -> float:
    """Their mean to four digits; not a number for none."""
    values = list(values)
    return round(float(np.mean(values)), 4) if values else float("nan")
