"""What the sessions' endpoints do, without HTTP: changes of a session, and the answers to them."""
from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Collection, Mapping, Protocol

import numpy as np

from promptzoo.cli.server.images import ImageIndex, OpenImage
from promptzoo.core.bundles import BundleInfo
from promptzoo.core.errors import ConflictError, NotFoundError, PromptError, complain
from promptzoo.core.geometry import Grid
from promptzoo.core.protocols import Prediction, Predictor
from promptzoo.inference.sessions import (
    Event,
    Session,
    SessionRunner,
    SessionState,
    SessionStore,
    label_digest,
    replay,
)
from promptzoo.inference.state import StateCache

logger = logging.getLogger(__name__)


class Serving(Protocol):
    """What is needed of :class:`promptzoo.cli.server.service.PromptService`."""

    bundles: Mapping[str, BundleInfo]
    images: ImageIndex
    states: StateCache

    def bundle(self, name: str, version: str = "") -> BundleInfo:
        """A bundle, in the version in use or in another one that is kept here."""

    def predictor(self, name: str, version: str = "") -> Predictor:
        """The predictor of a bundle."""

    def choose(self, grid: Grid, kinds: Collection[str] = (), classes: Collection[str] = (),
               texts: Collection[str] = ()) -> BundleInfo:
        """The bundle that fits an image and prompts."""


NOTHING = "the network found nothing at the prompts"


@dataclass(frozen=True, eq=False)
class Look:
    """A session with the answer to one of its states.

    Args:
        session, state: whose answer it is.
        prediction: the masks.
        labels: the label map ``[i, j, k]`` uint16 under the state's overlap rule.
        digest: of the label map.
        seconds: ``answer`` (image and decodes), ``total``.
    """

    session: Session
    state: SessionState
    prediction: Prediction
    labels: np.ndarray
    digest: str
    seconds: Mapping[str, float]

    @property
    def reason(self) -> str:
        """Why no voxel is marked, or which objects have none; empty if all have some."""
        if not self.state.given:
            return "no prompt was given"
        empty = [entry for entry in self.prediction.objects if not entry.mask.any()]
        if not empty:
            return "" if self.labels.any() else NOTHING
        told = [str(entry.info.get("reason") or NOTHING) for entry in empty]
        if not self.labels.any():
            return told[0]
        return "; ".join(f"object {entry.object_id}: {why}" for entry, why in zip(empty, told))


class SessionDesk:
    """Sessions of a service.

    Args:
        service: bundles, images and encoded states.
        store: where sessions are kept.
        find_image: path of the image of an id; raises NotFoundError for one that is not served.
        runner: keeps answers in memory.
    """

    def __init__(self, service: Serving, store: SessionStore, find_image: Callable[[str], Path],
                 runner: SessionRunner | None = None) -> None:
        self.service, self.store, self.find_image = service, store, find_image
        self.runner = SessionRunner() if runner is None else runner

    def create(self, image: str, bundle: str = "auto", user: str = "", kinds: Collection[str] = (),
               texts: Collection[str] = ()) -> Session:
        """Begin a session; ``auto`` takes a bundle that fits the image, takes these kinds of prompt and knows what
        these texts name.

        Raises:
            UnclearTextError: if no bundle does.
            NotFoundError: if there is no such image or bundle, or none that fits.
            ImageError: if the image cannot be read.
        """
        opened = self.service.images.open(self.find_image(image))
        choose = self.service.choose
        chosen = choose(opened.grid, kinds, (), texts) if bundle == "auto" else self.service.bundle(bundle)
        return self.store.create(image, opened.content_hash, user, chosen.name, chosen.version, opened.grid)

    def restore(self, document: Mapping[str, Any], image: str, user: str = "", present_bundle: bool = False) -> Session:
        """Make a session from an export, see :meth:`SessionStore.restore`; ``present_bundle`` takes its version here.

        Raises:
            PromptZooError: if the document is no export.
            NotFoundError: if image or bundle is not here.
            ConflictError: if the image is another one.
        """
        opened, version = self.service.images.open(self.find_image(image)), None
        named = document.get("bundle")
        if present_bundle and isinstance(named, Mapping):
            version = self.service.bundle(str(named.get("name"))).version
        return self.store.restore(document, image, user, opened.content_hash, version)

    def add(self, session: Session, prompts: Any, objects: Any, expected: int | None,
            through_slices: bool | None = None) -> Look:
        """Add prompts that the session's bundle takes, and answer. Raises like :meth:`Session.add`."""
        prompts.check_on(session.info.grid, self._present_bundle(session).prompts)
        return self.change(session, lambda: session.add(prompts.prompts, objects, expected, through_slices))

    def change(self, session: Session, write: Callable[[], Event]) -> Look:
        """Write an event, answer the new state and record the answer.

        Nothing is written if bundle or image cannot be used. Prompts that turn out to be unusable only when they are
        decoded are undone, so that the session stays usable.

        Raises:
            ConflictError: if someone else wrote first, or image or bundle changed since the session was made.
            NotFoundError: if the bundle, its weights or the image are not here.
            PromptError: if the bundle refuses the prompts.
        """
        self._predictor(self._present_bundle(session))
        self._image(session)
        event = write()
        try:
            return self.look(session, event.sequence)
        except PromptError:
            if event.kind in ("prompts", "through_slices", "redo"):
                try:
                    session.undo(event.sequence)
                except ConflictError:
                    logger.info("session %s: refused prompts stay, another tab wrote already", session.id)
            raise

    def look(self, session: Session, upto: int | None = None) -> Look:
        """The answer to the present state, or to the one after event ``upto``; recorded if it is the first.

        Raises:
            ConflictError: if image or bundle changed since the session was made.
            NotFoundError: if the image, the bundle or the event is not there.
        """
        started = time.perf_counter()
        bundle, state = self._present_bundle(session), session.state(upto)
        predictor = self._predictor(bundle)
        key = (session.info.image_hash, bundle.name, bundle.version)

        def encode() -> Any:
            return self.service.states.get(key, lambda: predictor.encode(self._image(session).take_volume()))

        prediction = self.runner.answer(session, predictor, encode, state=state)
        answered = time.perf_counter()
        labels = prediction.labelmap(state.overlap)
        digest = label_digest(labels)
        seconds = {"answer": answered - started, "total": time.perf_counter() - started}
        if state.changed:
            session.record_answer(state.changed, digest, {entry.object_id: _plain(entry.estimated_dice)
                                                          for entry in prediction.objects},
                                  round(seconds["total"], 4), prediction.engine)
        return Look(session, state, prediction, labels, digest, seconds)

    def again(self, session: Session, upto: int | None = None) -> Look:
        """The answer computed anew from image and log, with nothing kept in memory. Raises like :meth:`look`."""
        started = time.perf_counter()
        bundle, state = self._present_bundle(session), session.state(upto)
        prediction = replay(session, self._predictor(bundle), self._image(session).take_volume(), state.sequence)
        labels = prediction.labelmap(state.overlap)
        seconds = {"total": time.perf_counter() - started}
        return Look(session, state, prediction, labels, label_digest(labels), seconds)

    def _predictor(self, bundle: BundleInfo) -> Predictor:
        return self.service.predictor(bundle.name, bundle.version)

    def _present_bundle(self, session: Session) -> BundleInfo:
        """The bundle of a session in the session's version, which may be an older one that is still here."""
        present = self.service.bundle(session.info.bundle)
        try:
            return self.service.bundle(present.name, session.info.bundle_version)
        except NotFoundError as error:
            raise ConflictError(complain(
                f"version of bundle {present.name}", present.version,
                f"{session.info.bundle_version}, as in the session",
                "Export the session and import it with present_bundle to go on with the installed version")) from error

    def _image(self, session: Session) -> OpenImage:
        image = self.service.images.open(self.find_image(session.info.image_id))
        if image.content_hash != session.info.image_hash:
            raise ConflictError(complain("image of the session", f"{image.content_hash}, it changed since",
                                         session.info.image_hash, "Begin a new session on the changed image"))
        return image


def _plain(value: Any) -> float | None:
    return None if value is None else round(float(value), 4)
