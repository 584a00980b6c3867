"""Segmentation tasks: partially labelled sets of images, each with its own structures in the same few channels."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

from promptzoo.core.errors import BundleError, PromptError, complain


@dataclass(frozen=True)
class Task:
    """One task.

    Args:
        name: as the attribute ``task`` of a prompt says it.
        modality: what makes the images.
        structures: what is labelled; structure ``n`` is channel ``1 + n`` of a network.
    """

    name: str
    modality: str
    structures: tuple[str, ...]


TASKS = (
    Task("chest CT", "CT", ("lung right", "lung left")),
    Task("liver and stomach CT", "CT", ("liver", "stomach")),
    Task("kidneys and aorta CT", "CT", ("kidney right", "kidney left", "aorta")),
    Task("chest radiograph", "X-ray", ("lung right", "lung left")),
    Task("nuclei", "microscopy", ("nuclei",)),
    Task("heart MR", "MR", ("left ventricle", "myocardium", "right ventricle")),
    Task("brain tumour MR", "MR", ("oedema", "necrotic tumour core", "enhancing tumour")),
    Task("laryngoscopy", "endoscopy", ("glottis", "vocal folds")),
    Task("apical echo", "ultrasound", ("left ventricle", "left atrium")),
    Task("short-axis echo", "ultrasound", ("left ventricle", "myocardium")),
    Task("fetal head ultrasound", "ultrasound", ("fetal head",)),
    Task("kidney ultrasound", "ultrasound", ("kidney", "renal sinus")),
    Task("soft tissue ultrasound", "ultrasound", ("cyst", "nodule")),
)
"""All tasks that procedural images are made for; a network knows some of them."""

CHANNELS = 3
"""Most structures of a task: the channels that all tasks share, beside the background."""

MODALITIES = tuple(dict.fromkeys(task.modality for task in TASKS))


def chosen(names: Sequence[str]) -> tuple[Task, ...]:
    """Tasks by name; all of them for no names.

    Raises:
        BundleError: for an unknown name.
    """
    known = {task.name: task for task in TASKS}
    if wrong := [name for name in names if name not in known]:
        raise BundleError(complain("task", ", ".join(wrong), ", ".join(known)))
    return tuple(known[name] for name in names) or TASKS


def named(value: str, tasks: Sequence[Task]) -> int:
    """The number of the task that a person names, in any case and spacing.

    Raises:
        PromptError: for an unknown one.
    """
    names = [task.name.lower() for task in tasks]
    wanted = " ".join(value.lower().replace("_", " ").split())
    if wanted not in names:
        raise PromptError(complain("task", value, ", ".join(task.name for task in tasks)))
    return names.index(wanted)
