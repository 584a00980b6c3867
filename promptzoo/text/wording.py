"""What a text prompt asks of a bundle: classes that it knows."""
from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Iterable

from promptzoo.core.errors import UnclearTextError
from promptzoo.prompts.types import ObjectInfo, PromptSet, TextPrompt
from promptzoo.prompts.types.prompt_set import Prompt
from promptzoo.text.lexicon import Match, class_for, resolve
from promptzoo.text.towers import TextTower, load_tower


@dataclass(frozen=True)
class Wording:
    """A text, read for somebody who knows certain classes.

    Args:
        classes: names of the classes that are wanted, as they were given.
        names: the same in plain English: ``left kidney``.
        without: classes that are to be left out of them.
        missing: what is wanted, too, in plain English, but is none of the classes.
        matches: how each of ``classes`` was understood.
    """

    classes: tuple[str, ...]
    names: tuple[str, ...]
    without: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    matches: tuple[Match, ...] = ()

    @property
    def note(self) -> str:
        """What a person should know of the reading; empty if the text said just that."""
        told = [f'"{m.phrase}" was read as {m.concept.name}' for m in self.matches if m.how in ("fuzzy", "embedding")]
        if self.missing:
            told.append(f"not among the classes here: {', '.join(self.missing)}")
        return "; ".join(told)


@cache
def _tower() -> TextTower:
    return load_tower()


def read_wording(text: str, known: Iterable[str]) -> Wording:
    """Read a text for somebody who knows certain classes.

    Args:
        text: a name, a list or a sentence.
        known: names of classes, in any spelling.

    Raises:
        UnclearTextError: for text that is unknown or ambiguous, with the question and the candidates; for text that is
            understood, if none of it is known here.
    """
    known = tuple(known)
    found = resolve(text, known=known, tower=_tower())
    if found.question is not None:
        raise UnclearTextError(found.question, [match.concept.name for match in found.candidates])
    pairs = [(match, class_for(match.concept, known)) for match in found.wanted]
    missing = tuple(match.concept.name for match, name in pairs if name is None)
    here = {name: match for match, name in pairs if name is not None}
    if not here:
        names = [name.replace("_", " ") for name in known]
        raise UnclearTextError(f'"{text}": {", ".join(missing)} is understood, but is none of the classes here. '
                               f"Known are {', '.join(names) or 'none'}. What should be found?", names)
    cut = [class_for(match.concept, known) for match in found.excluded]
    return Wording(tuple(here), tuple(match.concept.name for match in here.values()),
                   tuple(name for name in cut if name is not None), missing, tuple(here.values()))


def separate(prompts: PromptSet, known: Iterable[str]) -> tuple[PromptSet, list[str]]:
    """A prompt set in which every text asks for one class, and its object is named after it.

    A text that asks for several (``both kidneys``) becomes a prompt for each; all but the first get new objects. Other
    prompts stay as they are, and so do objects with names of their own.

    Args:
        prompts: in any space.
        known: names of the classes; none for a bundle that reads its texts itself: they stay as they are. See
            ``BundleInfo.spoken_classes``.

    Returns:
        The prompt set, and what a person should know of how the texts were read.

    Raises:
        UnclearTextError: see :func:`read_wording`.
    """
    known = tuple(known)
    if not known or not prompts.of("text"):
        return prompts, []
    notes: list[str] = []
    taken = {info.object_id for info in prompts.objects}
    parts: list[Prompt] = []
    infos = {info.object_id: info for info in prompts.objects}
    for prompt in prompts.prompts:
        if not isinstance(prompt, TextPrompt):
            parts.append(prompt)
            continue
        told = read_wording(prompt.text, known)
        notes += [told.note] if told.note else []
        cut = f" without {' and '.join(told.without)}" if told.without else ""
        for place, name in enumerate(told.names):
            number = prompt.object_id if place == 0 else next(n for n in range(1, 65536) if n not in taken)
            taken.add(number)
            parts.append(TextPrompt(name + cut, number))
            info = infos.get(number, ObjectInfo(number))
            infos[number] = replace(info, name=name) if info.name in ("", prompt.text.strip()) else info
    return PromptSet(tuple(parts), tuple(infos[n] for n in sorted(infos)), prompts.through_slices), notes
