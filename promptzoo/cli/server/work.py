"""Heavy work off the event loop: one queue per device, first come first served, bounded."""
from __future__ import annotations

import asyncio
import math
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable, TypeVar

from promptzoo.core.errors import BusyError, PromptZooError, complain

Result = TypeVar("Result")
FIRST_GUESS_S = 1.0
"""Assumed length of a job before one was measured."""


class WorkQueue:
    """Runs jobs one after the other in a thread of its own.

    Args:
        device: whose queue it is, for messages and metrics.
        bound: most jobs that may wait; the one that runs does not count.

    Raises:
        PromptZooError: for a bound below 0.
    """

    def __init__(self, device: str = "cpu", bound: int = 32) -> None:
        if bound < 0:
            raise PromptZooError(complain("bound of the queue", bound, "a number of requests, at least 0"))
        self.device, self.bound = device, bound
        self._pool = ThreadPoolExecutor(1, f"work-{device}")
        self._lock = threading.Lock()
        self._pending = 0
        self._mean_s = FIRST_GUESS_S

    @property
    def waiting(self) -> int:
        """Jobs that wait for the one that runs."""
        with self._lock:
            return max(0, self._pending - 1)

    @property
    def busy(self) -> bool:
        """Whether a job runs or waits."""
        with self._lock:
            return self._pending > 0

    def submit(self, job: Callable[[], Result]) -> "Future[Result]":
        """Queue a job; cancelling its future before its turn drops it.

        Raises:
            BusyError: if ``bound`` jobs wait already; it carries the seconds after which trying again makes sense.
        """
        with self._lock:
            if self._pending > self.bound:
                seconds = math.ceil(self._pending * self._mean_s)
                raise BusyError(complain(f"requests that wait for {self.device}", self._pending - 1,
                                         f"at most {self.bound}", f"Try again in {max(1, seconds)} s"), seconds)
            self._pending += 1
        future: Future[Result] = self._pool.submit(self._timed, job)
        future.add_done_callback(self._done)
        return future

    async def run(self, job: Callable[[], Result]) -> Result:
        """Await a job on the event loop, which stays free; when the awaiting client leaves, a waiting job is dropped.

        Raises:
            BusyError: see :meth:`submit`. What the job raises is raised here.
        """
        return await asyncio.wrap_future(self.submit(job))

    def call(self, job: Callable[[], Result]) -> Result:
        """Wait for a job in the calling thread, which must not be that of the queue.

        Raises:
            BusyError: see :meth:`submit`. What the job raises is raised here.
        """
        return self.submit(job).result()

    def close(self) -> None:
        """Drop what waits and let the running job end."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _timed(self, job: Callable[[], Result]) -> Result:
        started = time.perf_counter()
        try:
            return job()
        finally:
            with self._lock:
                self._mean_s += 0.2 * (time.perf_counter() - started - self._mean_s)

    def _done(self, _: Future) -> None:
        with self._lock:
            self._pending -= 1
