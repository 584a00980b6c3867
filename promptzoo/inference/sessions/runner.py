"""Answers to sessions, live and in replay by the same rule.

The answer to a state is that of its last step, and a step is ``decode(prompts, previous = the answer of the step
before)``; see :mod:`promptzoo.inference.sessions.state` for the steps. It depends on nothing else, so an undo shows
exactly the earlier mask, and what was dropped from memory is computed again from the log, bit for bit, as long as the
bundle version and the engine are the same.

Where an answer depends on files as well (finished cases, learned prompts), a predictor has ``depends_on(prompts) ->
str``, which changes with them; answers under another value are not used.
"""
from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import Any, Callable

from promptzoo.core.errors import BundleError, ConflictError, PromptZooError, complain
from promptzoo.core.protocols import Prediction, Predictor
from promptzoo.core.volume import Volume
from promptzoo.inference.sessions.session import Session
from promptzoo.inference.sessions.state import SessionState, Step
from promptzoo.prompts.types import PromptSet

Key = tuple[str, ...]


class SessionRunner:
    """Answers of steps, kept in memory within bounds; safe to use from several threads.

    Sessions with the same prompts on the same image share their answers. The answer used last is always kept, so that
    the next prompt costs one decode even where a single answer is larger than the bound.

    Args:
        limit_bytes: most memory held by answers.
        idle_s: answers not used for so long are dropped at the next call, or by :meth:`expire`.
        clock: monotonic seconds.

    Raises:
        PromptZooError: for bounds below 0.
    """

    def __init__(self, limit_bytes: int = 256 << 20, idle_s: float = 1800.0,
                 clock: Callable[[], float] = time.monotonic) -> None:
        if limit_bytes < 0 or idle_s < 0:
            raise PromptZooError(complain("bounds of the session memory", [limit_bytes, idle_s], "at least 0"))
        self.limit_bytes, self.idle_s, self._clock = limit_bytes, idle_s, clock
        self._kept: OrderedDict[Key, tuple[Prediction, float]] = OrderedDict()
        self._lock = threading.Lock()
        self._bytes = 0

    def answer(self, session: Session, predictor: Predictor, encode: Callable[[], Any], upto: int | None = None,
               state: SessionState | None = None) -> Prediction:
        """The answer to a session.

        Args:
            session: whose log counts.
            predictor: of the session's bundle.
            encode: gives the encoded image; called only if something must be decoded.
            upto: answer to the state after this event instead of the last.
            state: the state, if the caller has it; ``upto`` is not used then.

        Returns:
            Masks of the objects that have prompts; no objects if there is nothing to segment.

        Raises:
            BundleError: if the predictor is of another bundle.
            PromptError: if the bundle does not take the prompts.
        """
        if predictor.name != session.info.bundle:
            raise BundleError(complain("predictor of the session", predictor.name, session.info.bundle))
        state = session.state(upto) if state is None else state
        scope = (session.info.image_hash, session.info.bundle, session.info.bundle_version,
                 str(getattr(predictor, "engine", "")), _files(predictor, state.prompts))
        self.expire()
        steps = state.steps
        found, prediction = self._recall([(*scope, step.key) for step in steps])
        if not steps and not predictor.prompt_kinds:  # a bundle that segments without being prompted
            found, prediction = self._recall([(*scope, "")])
            return prediction if found else self._keep((*scope, ""), predictor.decode(encode(), PromptSet()))
        encoded = encode() if any(step.dropped is None for step in steps[found:]) else None
        for step in steps[found:]:
            prediction = take_step(step, predictor, encoded, prediction)
            if prediction is not None:
                self._keep((*scope, step.key), prediction)
        return Prediction(session.info.grid, (), 0.0, "none") if prediction is None else prediction

    def expire(self) -> int:
        """Drop answers that were not used for ``idle_s``.

        Returns:
            How many.
        """
        dropped, oldest = 0, self._clock() - self.idle_s
        with self._lock:
            while self._kept and next(iter(self._kept.values()))[1] < oldest:
                self._drop_oldest()
                dropped += 1
        return dropped

    def forget(self) -> None:
        """Drop everything."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0

    def held_bytes(self) -> int:
        """Memory that the answers hold."""
        with self._lock:
            return self._bytes

    def _recall(self, keys: list[Key]) -> tuple[int, Prediction | None]:
        """How many steps are answered by memory, and the answer to the last of them."""
        with self._lock:
            for number in range(len(keys), 0, -1):
                if keys[number - 1] in self._kept:
                    prediction = self._kept[keys[number - 1]][0]
                    self._kept[keys[number - 1]] = (prediction, self._clock())
                    self._kept.move_to_end(keys[number - 1])
                    return number, prediction
        return 0, None

    def _keep(self, key: Key, prediction: Prediction) -> Prediction:
        with self._lock:
            if key in self._kept:
                self._bytes -= nbytes(self._kept.pop(key)[0])
            self._kept[key] = (prediction, self._clock())
            self._bytes += nbytes(prediction)
            while self._bytes > self.limit_bytes and len(self._kept) > 1:
                self._drop_oldest()
        return prediction

    def _drop_oldest(self) -> None:
        _, (prediction, _) = self._kept.popitem(last=False)
        self._bytes -= nbytes(prediction)


def take_step(step: Step, predictor: Predictor, encoded: Any, before: Prediction | None) -> Prediction | None:
    """The answer to one step of a session, given the answer to the step before; None before anything was decoded."""
    if step.dropped is not None:
        return _without(before, step.dropped)
    return predictor.decode(encoded, step.prompts, before if before is not None and before.objects else None)


def _files(predictor: Predictor, prompts: PromptSet) -> str:
    """What the predictor says of the files behind its answer; nothing for those that need none."""
    told = getattr(predictor, "depends_on", None)
    return "" if told is None else str(told(prompts))


def nbytes(prediction: Prediction) -> int:
    """Memory that a prediction holds."""
    return sum(entry.probability.nbytes for entry in prediction.objects)


def _without(prediction: Prediction | None, object_id: int) -> Prediction | None:
    if prediction is None:
        return None
    left = tuple(entry for entry in prediction.objects if entry.object_id != object_id)
    return Prediction(prediction.grid, left, 0.0, prediction.engine)


def replay(session: Session, predictor: Predictor, volume: Volume, upto: int | None = None) -> Prediction:
    """Compute the answer to a session from its log alone, bit for bit the one that was given live.

    Args:
        session: the log.
        predictor: of the session's bundle, version and engine.
        volume: the session's image.
        upto: the answer after this event instead of the last.

    Raises:
        ConflictError: if the image is another one.
        BundleError: if the predictor is of another bundle.
    """
    if volume.content_hash != session.info.image_hash:
        raise ConflictError(complain("image of the session", volume.content_hash, session.info.image_hash,
                                     "Choose the image that the session was made on"))
    return SessionRunner(0).answer(session, predictor, lambda: predictor.encode(volume), upto)
