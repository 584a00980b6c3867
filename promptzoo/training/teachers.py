"""Teaching a bundle a structure from a few corrected cases: slice by slice, or in whole volumes."""
from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Callable, Sequence

import numpy as np

from promptzoo.core.bundles import BundleInfo
from promptzoo.core.errors import BundleError, complain
from promptzoo.core.volume import Volume
from promptzoo.evaluation.metrics import dice
from promptzoo.inference.class_heads import ClassHeadInferer
from promptzoo.inference.loader import load_network
from promptzoo.prompts.types import ClassPrompt, PromptSet
from promptzoo.training.class_heads import Extending, extended
from promptzoo.training.prompt_tuning import Learned, Learning, Taught, held_out, learn_prompt
from promptzoo.training.task_tuning import teaching

Report = Callable[[int, int, str], None]
Case = tuple[str, Volume, np.ndarray]
"""Name, image, and mask ``[i, j, k]`` bool on its grid."""


@dataclass(frozen=True)
class SliceTeacher:
    """Teaches a prompt of a network for slices.

    Args:
        parts: encoder, form of the prompts, settings; see :func:`promptzoo.training.task_tuning.teaching`.
        base: SHA-256 of the frozen weights.
    """

    parts: tuple[Any, Any, Learning]
    base: str | None

    def learn(self, name: str, cases: Sequence[Case], report: Report = lambda done, total, name: None) -> Learned:
        """What is learned from cases."""
        encode, form, settings = self.parts
        return learn_prompt(encode, [Taught.of(*case) for case in cases], settings, report, form)

    def held_out(self, name: str, cases: Sequence[Case]) -> dict[str, Any] | None:
        """Dice on cases that were not learned from; None for a single one."""
        encode, form, settings = self.parts
        return held_out(encode, [Taught.of(*case) for case in cases], settings, form=form)


@dataclass(frozen=True)
class VolumeTeacher:
    """Teaches a head of its own to a network for volumes; see :func:`promptzoo.training.class_heads.extended`.

    Args:
        network, predictor: of the same weights.
        settings: how.
    """

    network: Any
    predictor: Any
    settings: Extending

    @property
    def base(self) -> str | None:
        """SHA-256 of the frozen weights."""
        return str(self.predictor.base_sha256)

    def learn(self, name: str, cases: Sequence[Case], report: Report = lambda done, total, name: None) -> Learned:
        """What is learned from cases."""
        started = time.perf_counter()
        row, loss = extended(self.network, self.predictor, name, [case[1:] for case in cases], self.settings, report)
        return Learned(row, loss, 0.0, time.perf_counter() - started)

    def held_out(self, name: str, cases: Sequence[Case]) -> dict[str, Any] | None:
        """Dice on cases that were not learned from, in two folds; None for a single one."""
        if len(cases) < 2:
            return None
        found, key = [], name.replace(" ", "_")
        for fold in (0, 1):
            row = self.learn(name, [case for n, case in enumerate(cases) if n % 2 != fold]).prompt
            self.predictor.extend({key: row.told()[0].numpy()})
            found += [self.scored(key, case) for n, case in enumerate(cases) if n % 2 == fold]
        return {"cases": len(found), "dice": round(float(np.mean(found)), 4), "dice_least": round(min(found), 4)}

    def scored(self, name: str, case: Case) -> float:
        """Dice of a class of the predictor on a case."""
        _, volume, mask = case
        answer = self.predictor.answered(self.predictor.encoded(volume), PromptSet((ClassPrompt(name),)))
        return float(dice(answer.objects[0].mask, mask))


def teacher_for(info: BundleInfo, engine: str, seed: int, variant: str | None) -> SliceTeacher | VolumeTeacher:
    """Who teaches a bundle.

    Args:
        info: a bundle that learns.
        engine: for the encoder, where the prompt does not reach into the network.
        seed: of all draws.
        variant: system id of a variant overlay; None for the bundle itself.

    Raises:
        BundleError: if only a variant of the bundle learns, and another one is asked for.
    """
    learns = info.block.get("extra", {}).get("learns")
    if isinstance(learns, str):
        if variant != learns:
            raise BundleError(complain(f"what of {info.name} to teach", variant or "the bundle itself",
                                       f"--variant {learns}"))
        network, parser = load_network(info, variant)
        inferer: ClassHeadInferer = parser.get_parsed_content("inferer")
        return VolumeTeacher(network, inferer.predictor(inferer.wrap(network), info.name), Extending(seed=seed))
    encode, form, settings, base = teaching(info, engine, Learning(seed=seed), variant)
    return SliceTeacher((encode, form, settings), base)
