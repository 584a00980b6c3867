"""Images are encoded while a person still looks at them: in the background, bounded, and given up when they leave."""
from __future__ import annotations

import logging
import threading
import time
from typing import Callable, Iterator

from fastapi import APIRouter
from pydantic import BaseModel, Field

from promptzoo.cli.server.viewer import PREFIX
from promptzoo.cli.server.work import WorkQueue
from promptzoo.core.errors import BusyError, PromptZooError

logger = logging.getLogger(__name__)
Steps = Callable[[str, str], Iterator[None]]
"""Image id and bundle name to the work, in steps of a second or so; what it raises ends it."""


class Preparation:
    """Does in advance what the first prompt on an image needs.

    Its steps go through the queue of the device one at a time, and only while nobody else waits there, so that they
    delay a prompt by one step at most.

    Args:
        steps: the work.
        queue: of the device.
        most: images that may wait; the oldest is dropped beyond.
        pause_s: how long it stays away while the queue is busy.
    """

    def __init__(self, steps: Steps, queue: WorkQueue, most: int = 4, pause_s: float = 0.05) -> None:
        self._steps, self._queue, self.most, self.pause_s = steps, queue, most, pause_s
        self._wanted: dict[tuple[str, str], None] = {}
        self._done: dict[tuple[str, str], str] = {}
        self._news = threading.Condition()
        self._worker: threading.Thread | None = None

    def want(self, image: str, bundle: str) -> str:
        """Prepare an image, the one wanted last first; returns its :meth:`state`."""
        with self._news:
            if self._done.pop((image, bundle), "") == "ready":
                self._done[image, bundle] = "ready"  # now the youngest
            else:
                self._wanted.pop((image, bundle), None)
                self._wanted[image, bundle] = None
                while len(self._wanted) > self.most:
                    del self._wanted[next(iter(self._wanted))]
            if self._worker is None:
                self._worker = threading.Thread(target=self._run, name="preparation", daemon=True)
                self._worker.start()
            self._news.notify_all()
        return self.state(image, bundle)

    def drop(self, image: str) -> None:
        """Give an image up, with all bundles; what is encoded already stays in the cache as long as there is room."""
        with self._news:
            for key in [key for key in self._wanted if key[0] == image]:
                del self._wanted[key]

    def state(self, image: str, bundle: str) -> str:
        """``waiting``, ``ready``, ``dropped``, or what went wrong."""
        with self._news:
            return "waiting" if (image, bundle) in self._wanted else self._done.get((image, bundle), "dropped")

    def _run(self) -> None:
        while True:
            with self._news:
                while not self._wanted:
                    self._news.wait()
                key = next(reversed(self._wanted))
            try:
                end = "ready" if self._finished(key) else ""
            except PromptZooError as error:
                end = str(error)
            except Exception:  # a defect must not end the preparation of all later images
                logger.exception("image %s cannot be prepared for %s", *key)
                end = "failed, see the log of the server"
            with self._news:
                if end:
                    self._wanted.pop(key, None)
                    self._done[key] = end
                    while len(self._done) > 256:
                        del self._done[next(iter(self._done))]

    def _finished(self, key: tuple[str, str]) -> bool:
        """Work through the steps; False if the image was given up, or another is wanted first."""
        steps = self._steps(*key)
        while True:
            with self._news:
                if not self._wanted or key != next(reversed(self._wanted)):
                    return False
            if self._queue.busy:
                time.sleep(self.pause_s)
                continue
            try:
                if self._queue.call(lambda: next(steps, self)) is self:
                    return True
            except BusyError:
                time.sleep(self.pause_s)


class WantedImage(BaseModel):
    """An image that a person looks at."""

    image: str = Field(min_length=1, description="Id of the image, as the server lists its images.")
    bundle: str = Field("auto", description="Who will answer; auto: the bundle that fits the image.")


class PreparationView(BaseModel):
    """How far it is."""

    image: str
    state: str = Field(description="waiting, ready, dropped, or what went wrong.")


def preparation_router(preparation: Preparation) -> APIRouter:
    """Routes by which a viewer says which image is open."""
    router = APIRouter(prefix=f"{PREFIX}/prepare", tags=["viewer"])

    @router.post("", status_code=202)
    def want(body: WantedImage) -> PreparationView:
        """Encode an image in the background, so that the first prompt is answered sooner."""
        return PreparationView(image=body.image, state=preparation.want(body.image, body.bundle))

    @router.get("")
    def state(image: str, bundle: str = "auto") -> PreparationView:
        """How far an image is."""
        return PreparationView(image=image, state=preparation.state(image, bundle))

    @router.delete("", status_code=204)
    def drop(image: str) -> None:
        """The image was closed."""
        preparation.drop(image)

    return router
