"""The list of work: which image an annotator gets next, with the reason, and scores made while nobody clicks."""
from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Generator, Sequence

import numpy as np

from promptzoo.active_learning.ledger import Ledger
from promptzoo.active_learning.scores import Scored
from promptzoo.active_learning.strategies import STRATEGIES, USUAL_CLICKS, Pool, choose
from promptzoo.cli.server.work import WorkQueue
from promptzoo.core.errors import BusyError, PromptZooError

logger = logging.getLogger(__name__)
Steps = Callable[[str], Generator[None, None, Scored]]
"""Image id to the steps that score it."""


@dataclass(frozen=True)
class Cases:
    """The images of the server.

    Args:
        todo: ids without a final label, in the order of the list.
        done: ids with one.
        key: under which scores are kept: who scores what.
        usual_clicks: prompts that an object took on average.
    """

    todo: Sequence[str] = ()
    done: Sequence[str] = ()
    key: str = ""
    usual_clicks: float = USUAL_CLICKS


@dataclass(eq=False)
class Worklist:
    """Gives out images: never one with a final label, and never one that somebody else has.

    Args:
        ledger: who has what, and scores.
        cases: the images now.
        want: called with the cases when scores are missing.
        rng: of random choices.
    """

    ledger: Ledger
    cases: Callable[[], Cases]
    want: Callable[[Cases], None] = lambda cases: None
    rng: np.random.Generator = field(default_factory=np.random.default_rng)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def next(self, strategy: str, user: str = "") -> dict[str, Any]:
        """The next image for a user.

        Returns:
            ``id`` (None if there is nothing to give) and ``reason``.

        Raises:
            NotFoundError: for an unknown strategy.
        """
        with self._lock:
            cases = self.cases()
            taken = self.ledger.taken()
            self.ledger.give_back([image for image in cases.done if image in taken])
            free = [image for image in cases.todo if image not in taken]
            known = self.ledger.scores(cases.key, [*cases.todo, *cases.done])
            if strategy in STRATEGIES and STRATEGIES[strategy].needs_scores and len(known) < len(free):
                self.want(cases)
            pool = Pool(free, {i: known[i] for i in free if i in known}, [known[i] for i in cases.done if i in known],
                        self.rng, cases.usual_clicks)
            chosen = choose(strategy, pool)
            if chosen is not None and self.ledger.assign(chosen[0], user):
                return {"id": chosen[0], "reason": chosen[1]}
            own = [image for image in cases.todo if taken.get(image) == user]
            if own:
                return {"id": own[0], "reason": "given to you before and not saved yet; nothing else is left"}
            return {"id": None, "reason": "the images that are left are with others" if cases.todo else
                    "every image has a final label"}


class Scorer:
    """Scores images in the background, a step at a time and only while nobody else uses the device.

    Args:
        steps: see :data:`Steps`.
        ledger: keeps the scores.
        queue: of the device.
        pause_s: how long it stays away while the queue is busy.
    """

    def __init__(self, steps: Steps, ledger: Ledger, queue: WorkQueue, pause_s: float = 0.05) -> None:
        self._steps, self._ledger, self._queue, self._pause_s = steps, ledger, queue, pause_s
        self._news = threading.Condition()
        self._wanted: Cases | None = None
        self._failed: set[tuple[str, str]] = set()
        self._thread: threading.Thread | None = None

    def want(self, cases: Cases) -> None:
        """Score what is not scored yet; soon, and not in the calling thread."""
        with self._news:
            self._wanted = cases
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="scoring", daemon=True)
                self._thread.start()
            self._news.notify_all()

    def _run(self) -> None:
        while True:
            with self._news:
                while self._wanted is None:
                    self._news.wait()
                cases, self._wanted = self._wanted, None
            for image in [*cases.done, *cases.todo]:
                if self._wanted is not None:
                    break  # the list is newer
                if (cases.key, image) not in self._failed and not self._ledger.scores(cases.key, [image]):
                    self._score(cases.key, image)

    def _score(self, key: str, image: str) -> None:
        steps = self._steps(image)
        try:
            while True:
                while self._queue.busy:
                    time.sleep(self._pause_s)
                try:
                    self._queue.call(lambda: _advance(steps))
                except _Done as end:
                    self._ledger.keep(key, end.scored)
                    return
                except BusyError:
                    time.sleep(self._pause_s)
        except PromptZooError as error:
            logger.warning("image %s cannot be scored: %s", image, error)
        except Exception:  # a defect must not end the scores of all later images
            logger.exception("image %s cannot be scored", image)
        self._failed.add((key, image))


class _Done(Exception):
    """The steps of an image ended."""

    def __init__(self, scored: Scored) -> None:
        super().__init__(scored.image)
        self.scored = scored


def _advance(steps: Generator[None, None, Scored]) -> None:
    try:
        next(steps)
    except StopIteration as end:
        raise _Done(end.value) from None
