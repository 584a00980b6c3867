"""One network for many tasks: which task is meant is told, follows from the structure, or is read off the image."""
from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from typing import Any, Iterator, Mapping, Sequence
from weakref import WeakKeyDictionary

import numpy as np
from scipy.special import expit, softmax

from promptzoo.core.errors import PromptError, complain
from promptzoo.core.learned import learned_prompts, stamp
from promptzoo.core.protocols import ObjectPrediction, Prediction
from promptzoo.data.tasks import Task, named
from promptzoo.inference.classes import ClassPredictor, slice_view, unknown_class
from promptzoo.inference.state import EncodedImage
from promptzoo.inference.task_parts import Seen, TaskParts, load_row
from promptzoo.inference.zoom import BATCH
from promptzoo.prompts.types import AttributePrompt, ClassPrompt, ObjectInfo, PromptSet
from promptzoo.text.wording import read_wording

ATTRIBUTE, UNLIKELY, KEPT = "task", 0.05, 6
"""Name of the attribute; chance below which a task is called unlikely; answers kept per image."""


@dataclass(frozen=True)
class Ask:
    """What one object asks for: channels by task (a name for what was learned), the same to be cut out, a note."""

    wanted: Mapping[int | str, tuple[int, ...]]
    without: Mapping[int | str, tuple[int, ...]]
    names: tuple[str, ...]
    told: bool
    note: str = ""


class TaskPredictor(ClassPredictor):
    """Answers class, text and attribute prompts, slice by slice on volumes.

    A structure that only one task has is asked of that task. Where several have it, and where nothing is named, the
    attribute ``task`` decides, and without it the router, whose choice is shown and can be overridden.

    Args:
        parts: the network.
        tasks: in the order of the network's rows.
        window: side of the network's window.
        name, engine: for the answer.
        base_sha256: of the weights; prompts learned on others are not known.
    """

    prompt_kinds = frozenset({"class", "text", "attribute"})

    def __init__(self, parts: TaskParts, tasks: Sequence[Task], window: int, name: str = "tasks",
                 engine: str = "torch", base_sha256: str | None = None) -> None:
        names = tuple(dict.fromkeys(name for task in tasks for name in task.structures))
        super().__init__(parts.encode, names, window, name, engine)
        self.parts, self.tasks, self.base_sha256 = parts, tuple(tasks), base_sha256
        self._images: WeakKeyDictionary[EncodedImage, Seen] = WeakKeyDictionary()

    def depends_on(self, prompts: PromptSet) -> str:
        """What of the learned prompts that are asked for may change: their files and when these were written."""
        asked = {_plain(prompt.name) for prompt in prompts.of("class")} - set(self.classes)
        return stamp(asked, self.name, self.base_sha256)

    def decode(self, state: EncodedImage, prompts: PromptSet, previous: Prediction | None = None) -> Prediction:
        """One mask per object; several structures of one object are joined.

        ``info["task"]`` says which task was taken, ``info["source"]`` whether it was given, ``info["chances"]`` what
        the router thinks of the three likeliest, ``info["generated"]`` the prompts to edit. An empty prompt set, and an
        object with a task alone, ask for all structures of the task.

        Args:
            state: result of :meth:`encode`.
            prompts: class, text and attribute prompts.
            previous: not used: the answer depends on image and prompts alone.

        Raises:
            PromptError: for other kinds of prompt, unknown structures, tasks and attributes, and structures that the
                given task does not have.
            UnclearTextError: for text that is not understood, or means nothing that the network knows.
        """
        started = time.perf_counter()
        prompts.check_on(state.source, self.prompt_kinds)
        answers = []
        for info in prompts.objects or (ObjectInfo(1),):
            own = prompts.for_object(info.object_id) if prompts.objects else prompts
            answers.append(self._answered(state, info.object_id, self.ask(state, own)))
        return Prediction(state.source, tuple(answers), time.perf_counter() - started, self.engine)

    def ask(self, state: EncodedImage, prompts: PromptSet) -> Ask:
        """What prompts ask of an image; see :meth:`decode` for what is raised."""
        given = [self._task(prompt) for prompt in prompts.of("attribute")]
        if len(set(given)) > 1:
            raise PromptError(complain("tasks of one object", ", ".join(self.tasks[n].name for n in given), "one",
                                       "Make them objects of their own"))
        task = given[0] if given else None
        read = [read_wording(prompt.text, self.classes) for prompt in prompts.of("text")]
        names = [_plain(prompt.name) for prompt in prompts.of("class")]
        names = list(dict.fromkeys(names + [name for one in read for name in one.classes]))
        cut = [name for one in read for name in one.without]
        if not names:
            task = int(self.seen(state).chances.argmax()) if task is None else task
            names = list(self.tasks[task].structures)
        note = "; ".join(one.note for one in read if one.note)
        return Ask(self._grouped(state, names, task), self._grouped(state, cut, task), tuple(names), bool(given), note)

    def _task(self, prompt: AttributePrompt) -> int:
        if _plain(prompt.name) != ATTRIBUTE:
            raise PromptError(complain(f"attribute for {self.name}", prompt.name, ATTRIBUTE))
        return named(prompt.value, self.tasks)

    def _grouped(self, state: EncodedImage, names: Sequence[str], given: int | None
                 ) -> dict[int | str, tuple[int, ...]]:
        """Channels of structures by the task that they are asked of."""
        found: dict[int | str, tuple[int, ...]] = {}
        for name in names:
            having = [n for n, task in enumerate(self.tasks) if name in task.structures]
            if not having:
                learned = learned_prompts(self.name, self.base_sha256)
                if name not in learned:
                    raise unknown_class(self.name, name, (*self.classes, *learned))
                found[name] = (1,)
                continue
            if given is not None and given not in having:
                raise PromptError(complain(f"structure of {self.tasks[given].name}", name,
                                           ", ".join(self.tasks[given].structures), "Or name another task, or none"))
            task = given if given is not None else having[0] if len(having) == 1 else max(
                having, key=lambda n: float(self.seen(state).chances[n]))
            found[task] = (*found.get(task, ()), 1 + self.tasks[task].structures.index(name))
        return found

    def ahead(self, state: EncodedImage) -> Iterator[None]:
        """Look at all slices, some per step: the views, what the router says, the maps for the likeliest task."""
        if state in self._images:
            return
        axis, window = self._slices(state)
        views = np.stack([slice_view(one, window, state.hounsfield)[None] for one in np.moveaxis(state.data, axis, 0)])
        chances = []
        for start in range(0, len(views), BATCH):
            chances.append(expit(self.parts.route(views[start:start + BATCH])))
            yield
        seen = Seen(views, np.concatenate(chances).mean(0))
        for _ in self._encoded(seen, self._modality(seen, int(seen.chances.argmax()))):
            yield
        self._images[state] = seen

    def seen(self, state: EncodedImage) -> Seen:
        """What is known of an image, kept as long as the encoded image."""
        for _ in self.ahead(state):
            pass
        return self._images[state]

    def _modality(self, seen: Seen, task: int | str) -> int:
        """The number of a task's modality; for what was learned that of the likeliest task; 0 where none is told."""
        if self.parts.modalities is None:
            return 0
        return int(self.parts.modalities[int(seen.chances.argmax()) if isinstance(task, str) else task].argmax())

    def _encoded(self, seen: Seen, modality: int) -> Iterator[None]:
        """Maps of all slices under a modality, some slices per step."""
        if modality in seen.maps:
            return
        found: list[tuple[np.ndarray, ...]] = []
        kinds = None if self.parts.modalities is None else np.eye(self.parts.modalities.shape[1], dtype=np.float32)
        for start in range(0, len(seen.views), BATCH):
            views = seen.views[start:start + BATCH]
            told = None if kinds is None else kinds[[modality] * len(views)]
            maps = [np.asarray(one, np.float16) for one in self.network(views, told)]
            found += [tuple(one[n] for one in maps) for n in range(len(views))]
            yield
        seen.maps[modality] = found

    def row(self, task: int | str) -> np.ndarray:
        """The prompt ``[numbers]`` of a task, or of a structure that was learned."""
        if not isinstance(task, str):
            return self.parts.rows[task]
        return load_row(learned_prompts(self.name, self.base_sha256)[task], self.parts.fresh)

    def chances(self, state: EncodedImage, task: int | str) -> np.ndarray:
        """Probabilities of all channels under a task, ``[n, 1 + C, S/2, S/2]``; kept for the last few tasks."""
        seen = self.seen(state)
        key = task if not isinstance(task, str) else (task, stamp([task], self.name, self.base_sha256))
        if key not in seen.logits:
            modality, row = self._modality(seen, task), self.row(task)
            for _ in self._encoded(seen, modality):
                pass
            maps, found = seen.maps[modality], []
            for start in range(0, len(maps), BATCH):
                some = [np.stack(one).astype(np.float32) for one in zip(*maps[start:start + BATCH])]
                rows = np.repeat(row[None].astype(np.float32), len(some[0]), 0)
                found.append(softmax(np.asarray(self.parts.decode(rows, *some), np.float32), 1))
            seen.logits[key] = np.concatenate(found).astype(np.float16)
            while len(seen.logits) > KEPT:
                seen.logits.popitem(last=False)
        return seen.logits[key]

    def _chance(self, values: Any, channels: Sequence[int], cut: Sequence[int]) -> np.ndarray:
        return np.asarray(values, np.float32)

    def _answered(self, state: EncodedImage, object_id: int, ask: Ask) -> ObjectPrediction:
        seen = self.seen(state)
        chance = np.max([self.chances(state, task)[:, list(channels)].astype(np.float32).sum(1)
                         for task, channels in ask.wanted.items()], 0)
        for task, channels in ask.without.items():
            other = self.chances(state, task)[:, list(channels)].astype(np.float32).sum(1)
            chance = np.where(other > chance, 0, chance)
        tasks = [task if isinstance(task, str) else self.tasks[task].name for task in ask.wanted]
        unlikely = [self.tasks[t].name for t in ask.wanted if not isinstance(t, str) and seen.chances[t] < UNLIKELY]
        note = "; ".join([*([ask.note] if ask.note else []),
                          *(f"the image does not look like {name}" for name in unlikely)])
        answer = self._answer(state, object_id, [], [], note, list(np.minimum(chance, 1)))
        edit: list[Any] = [ClassPrompt(name, object_id) for name in ask.names]
        if len(tasks) == 1 and not isinstance(next(iter(ask.wanted)), str):
            edit.append(AttributePrompt(ATTRIBUTE, tasks[0], object_id))
        best = np.argsort(-seen.chances)[:3]
        info = {**answer.info, "classes": list(ask.names), "task": ", ".join(tasks),
                "source": "given" if ask.told else "predicted",
                "chances": {self.tasks[n].name: round(float(seen.chances[n]), 3) for n in best},
                "generated": json.dumps(PromptSet(tuple(edit)).to_json())}
        if "reason" in info:
            info["reason"] = f"not found: {', '.join(ask.names)} (task {info['task']})"
        return replace(answer, info=info)


def _plain(name: str) -> str:
    """A name in lower case with single spaces."""
    return " ".join(name.lower().replace("_", " ").split())
