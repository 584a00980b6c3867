"""Warm starts: what a client asked before on an image, and what it was answered.

A request continues a conversation only if it holds all prompts of an earlier request and more; then the earlier
answer is the mask to refine. Everything else starts anew, so that the same request gives the same mask. Going back
(undo) finds the earlier answer itself.
"""
from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Hashable

from promptzoo.core.protocols import Prediction
from promptzoo.prompts.types import PromptSet

Turn = tuple[PromptSet, Prediction]


def extends(later: PromptSet, earlier: PromptSet) -> bool:
    """Whether ``later`` holds every prompt of ``earlier``, on the same objects, and at least one more."""
    left = list(later.prompts)
    for prompt in earlier.prompts:
        if prompt not in left:
            return False
        left.remove(prompt)
    return bool(left) and {o.object_id for o in earlier.objects} <= {o.object_id for o in later.objects}


def nbytes(prediction: Prediction) -> int:
    """Memory that a prediction holds."""
    return sum(entry.probability.nbytes for entry in prediction.objects)


class Conversations:
    """Turns by client, image and bundle, bounded in bytes; the conversation that rested longest is dropped first.

    Args:
        limit_bytes: most memory held by the answers.
    """

    def __init__(self, limit_bytes: int = 256 << 20) -> None:
        self.limit_bytes = limit_bytes
        self._turns: OrderedDict[Hashable, list[Turn]] = OrderedDict()
        self._lock = threading.Lock()

    def forget(self, key: Hashable) -> None:
        """Drop a conversation."""
        with self._lock:
            self._turns.pop(key, None)

    def recall(self, key: Hashable, prompts: PromptSet) -> tuple[Prediction | None, Prediction | None]:
        """What helps to answer ``prompts``.

        Returns:
            The answer given to the very same prompts, or None; and the answer to refine, or None.
        """
        with self._lock:
            turns = list(self._turns.get(key, ()))
        for asked, answer in turns:
            if asked == prompts:
                return answer, None
        before = [turn for turn in turns if extends(prompts, turn[0])]
        return None, max(before, key=lambda turn: len(turn[0]))[1] if before else None

    def record(self, key: Hashable, prompts: PromptSet, answer: Prediction) -> None:
        """Remember an answer; turns that ``prompts`` does not continue are dropped, for the client went another way."""
        with self._lock:
            turns = [turn for turn in self._turns.pop(key, []) if extends(prompts, turn[0])]
            self._turns[key] = [*turns, (prompts, answer)]
            while self._turns and self.held_bytes() > self.limit_bytes:
                oldest = next(iter(self._turns))
                self._turns[oldest].pop(0)
                if not self._turns[oldest]:
                    del self._turns[oldest]

    def held_bytes(self) -> int:
        """Memory that the answers hold."""
        return sum(nbytes(answer) for turns in self._turns.values() for _, answer in turns)
