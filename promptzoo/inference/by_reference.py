"""What all predictors share that make prompts of finished cases."""
from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any, Protocol, Sequence

import numpy as np

from promptzoo.core.protocols import ObjectPrediction, Prediction
from promptzoo.inference.interactive import InteractivePredictor
from promptzoo.inference.reference_cases import written
from promptzoo.inference.state import EncodedImage
from promptzoo.prompts.types import PromptSet, ReferencePrompt


class Made(Protocol):
    """Prompts made for an object, in world space and empty if none could be made; how like the cases are to the image;
    and why there are none."""

    prompts: PromptSet
    similarity: float
    reason: str


class ByReference(InteractivePredictor):
    """An :class:`InteractivePredictor` whose objects may have reference prompts, which become others first."""

    carried = False
    """Whether what was made for a volume is carried through its slices."""

    def depends_on(self, prompts: PromptSet) -> str:
        """What of the finished cases may change: their files and when these were written."""
        return written(prompts)

    def propose(self, state: EncodedImage, references: Sequence[ReferencePrompt]) -> Made:
        """Prompts for an object that references speak of."""
        raise NotImplementedError

    def decode(self, state: EncodedImage, prompts: PromptSet, previous: Prediction | None = None) -> Prediction:
        """Segment all objects of a prompt set, see :meth:`InteractivePredictor.decode`.

        Objects with references carry ``info["generated"]``, the prompts that were made as JSON of a prompt set, and
        ``info["similarity"]``; where no case is like the image, an empty mask and ``info["reason"]``. Own prompts of
        the same object are added.
        """
        named = {p.object_id for p in prompts.of("reference")}
        if not named:
            return super().decode(state, prompts, previous)
        started = time.perf_counter()
        world = prompts.check_on(state.source, self.prompt_kinds).to_world(state.source)
        answers = []
        for info in world.objects:
            own = world.for_object(info.object_id)
            plain = replace(own, prompts=tuple(p for p in own.prompts if p.kind != "reference"))
            if info.object_id not in named:
                answers.append(super().decode(state, plain, previous).objects[0])
                continue
            answers.append(self.referred(state, info.object_id, own.of("reference"), plain, previous))
        return Prediction(state.source, tuple(answers), time.perf_counter() - started, self.engine)

    def referred(self, state: EncodedImage, object_id: int, references: Sequence[ReferencePrompt], plain: PromptSet,
                 previous: Prediction | None) -> ObjectPrediction:
        """The answer for an object with references, beside which ``plain`` are its other prompts, in world space."""
        made = self.propose(state, references)
        told: dict[str, Any] = {"similarity": round(made.similarity, 4)}
        if made.reason and not len(plain):
            return self.nothing(state, object_id, {**told, "reason": made.reason})
        asked = replace(plain, prompts=made.prompts.prompts + plain.prompts)
        if self.carried:
            asked = replace(asked, through_slices=not state.canonical.is_2d)
        answer = super().decode(state, asked, previous).objects[0]
        told |= {"generated": json.dumps(made.prompts.to_json())} if len(made.prompts) else {"note": made.reason}
        return replace(answer, info={**answer.info, **told})

    @staticmethod
    def nothing(state: EncodedImage, object_id: int, info: dict[str, Any]) -> ObjectPrediction:
        """An empty mask and why it is empty."""
        return ObjectPrediction(object_id, state.source, (0, 0, 0), np.zeros((1, 1, 1), np.float32), 0.0, info=info)
