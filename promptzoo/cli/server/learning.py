"""Training on corrected cases over HTTP: start it, see how far it is, cancel it, and go back to an earlier version."""
from __future__ import annotations

import threading
import time
from typing import Any, Callable, Mapping, Optional, Protocol

from fastapi import APIRouter
from pydantic import BaseModel, Field

from promptzoo.core.bundles import BundleInfo
from promptzoo.core.errors import ConflictError, NotFoundError, complain
from promptzoo.core.versions import Versions

PREFIX = "/promptzoo/learning"
POLL_S = 1.0
"""How often the server looks whether another version is in use."""


class Trainer(Protocol):
    """Runs trainings in a process of their own."""

    def start(self, bundle: str, settings: Mapping[str, Any]) -> None:
        """Start one. Raises ConflictError if one runs."""

    def cancel(self) -> bool:
        """End the one that runs; whether one did."""

    def corrected(self) -> int:
        """Images with a final label."""


class TrainBody(BaseModel):
    """How long a training may take."""

    iterations: Optional[int] = Field(None, ge=1, le=100_000, description="Steps of the optimiser.")
    minutes: Optional[float] = Field(None, gt=0, le=24 * 60, description="It ends after that long at the latest.")


class UseBody(BaseModel):
    """A version to use."""

    number: int = Field(ge=0, description="0 is the version that came with promptzoo.")


class VersionView(BaseModel):
    """One version of a bundle."""

    number: int
    version: str
    made: str = ""
    cases: int = Field(0, description="Corrected cases that it was trained on.")
    before: Optional[float] = Field(None, description="Mean Dice on the cases held back of the version before.")
    after: Optional[float] = Field(None, description="The same of this version.")


class LearningView(BaseModel):
    """What a bundle has learned, and what it is learning."""

    bundle: str
    version: str = Field(description="Served now.")
    current: int = Field(description="Number of the version in use.")
    versions: list[VersionView]
    corrected: int = Field(description="Images with a final label, which it can be trained on.")
    progress: dict[str, Any] = Field(description="`state`: idle, starting, comparing, training, done, failed or "
                                                 "interrupted; `iteration` and `of` while it trains; `accepted` and "
                                                 "`gain` when done.")
    last: Optional[dict[str, Any]] = Field(None, description="The last training, whether it was kept or not.")


def learning_router(trainable: Callable[[], Mapping[str, BundleInfo]], served: Callable[[str], BundleInfo],
                    renew: Callable[[], Any], trainer: Trainer) -> APIRouter:
    """The routes.

    Args:
        trainable: bundles, as they came, that can be trained.
        served: a bundle in the version that is served.
        renew: serve the versions in use now.
        trainer: see there.
    """
    router = APIRouter(prefix=PREFIX, tags=["learning"])

    def versions(bundle: str) -> Versions:
        known = trainable()
        if bundle not in known:
            raise NotFoundError(complain("bundle to train", bundle, ", ".join(known) or "none"))
        return Versions(known[bundle])

    def view(bundle: str) -> LearningView:
        found = versions(bundle)
        history, progress = found.history(), found.progress()
        return LearningView(bundle=bundle, version=served(bundle).version, current=found.current,
                            versions=[_view(found, number) for number in found.numbers()], progress=progress,
                            corrected=trainer.corrected(), last=history[-1] if history else None)

    @router.get("")
    def every() -> list[LearningView]:
        """All bundles that can be trained."""
        return [view(name) for name in trainable()]

    @router.get("/{bundle}")
    def one(bundle: str) -> LearningView:
        """One bundle."""
        return view(bundle)

    @router.post("/{bundle}/training", status_code=202)
    def start(bundle: str, body: TrainBody = TrainBody()) -> LearningView:
        """Train a bundle on the corrected cases in the background; used only if better on cases held back."""
        found = versions(bundle)
        if found.progress()["state"] in ("starting", "comparing", "training"):
            raise ConflictError(complain(f"training of {bundle}", "one runs already", "one at a time",
                                         "Wait for it, or cancel it"))
        if trainer.corrected() < 2:
            raise ConflictError(complain("corrected cases", trainer.corrected(), "at least 2: one is held back to "
                                         "compare on", "Save the labels of more images"))
        trainer.start(bundle, {name: value for name, value in body.model_dump().items() if value is not None})
        return view(bundle)

    @router.delete("/{bundle}/training")
    def cancel(bundle: str) -> LearningView:
        """Cancel the training; the version in use stays."""
        versions(bundle)
        if not trainer.cancel():
            raise ConflictError(complain(f"training of {bundle}", "none runs", "one that runs"))
        return view(bundle)

    @router.put("/{bundle}/version")
    def use(bundle: str, body: UseBody) -> LearningView:
        """Use a version; sessions that began with another go on with that."""
        versions(bundle).use(body.number)
        renew()
        return view(bundle)

    @router.post("/{bundle}/rollback")
    def roll_back(bundle: str) -> LearningView:
        """Use the version again that was in use before."""
        versions(bundle).roll_back()
        renew()
        return view(bundle)

    return router


def _view(versions: Versions, number: int) -> VersionView:
    told = versions.record(number)
    return VersionView(number=number, version=versions.info(number).version, made=str(told.get("made", "")),
                       cases=len(told.get("cases", ())), before=(told.get("before") or {}).get("score"),
                       after=(told.get("after") or {}).get("score"))


def keep_renewing(renew: Callable[[], Any], sign: Callable[[], Any], pause_s: float = POLL_S) -> threading.Thread:
    """Call ``renew`` whenever ``sign``, which is cheap, is another one; in a thread that ends with the process."""
    seen = sign()

    def run() -> None:
        nonlocal seen
        while True:
            time.sleep(pause_s)
            if (now := sign()) != seen:
                seen = now
                renew()

    thread = threading.Thread(target=run, name="renewal", daemon=True)
    thread.start()
    return thread
