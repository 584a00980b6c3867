"""Bundles as a service: predictors loaded once, images encoded once, answers from prompts."""
from __future__ import annotations

import difflib
import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Collection, Iterator, Mapping

from promptzoo.cli.choice import choose_bundle
from promptzoo.cli.server.conversation import Conversations
from promptzoo.cli.server.images import ImageIndex, OpenImage
from promptzoo.core.bundles import BundleInfo, current_pointer, find_bundles, get_shipped, in_use
from promptzoo.core.errors import NotFoundError, PromptZooError, complain
from promptzoo.core.geometry import Grid
from promptzoo.core.locations import bundles_dir, versions_dir
from promptzoo.core.protocols import Prediction, Predictor
from promptzoo.core.versions import Versions
from promptzoo.inference import load_predictor
from promptzoo.inference.state import StateCache
from promptzoo.prompts.types import PromptSet

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Answer:
    """What the service says to one prompt set.

    Args:
        bundle: who answered.
        prediction: the masks; without objects if there was nothing to segment.
        prompts: what was asked.
        reason: why the mask is empty; empty if it is not.
        seconds: ``image`` (read and encode), ``decode``, ``total``.
        warm_start: whether an earlier answer was refined.
    """

    bundle: BundleInfo
    prediction: Prediction
    prompts: PromptSet
    reason: str
    seconds: Mapping[str, float]
    warm_start: bool = False


def is_ready(bundle: BundleInfo) -> bool:
    """Whether the bundle has the weights that its metadata names (or needs none)."""
    return bundle.weights_path is None or bundle.weights_path.is_file()


def in_serving_order(bundles: Collection[BundleInfo]) -> list[BundleInfo]:
    """3D before 2D, then by name: clients preselect the first of a type, and most studies are volumes."""
    return sorted(bundles, key=lambda bundle: (-bundle.dimensions, bundle.name))


class PromptService:
    """Answers prompts with the bundles of a folder; safe to use from several threads.

    Args:
        bundles_folder: default :func:`promptzoo.core.locations.bundles_dir`.
        engine: engine of all predictors, ``auto`` or a name.
        cache_bytes: most memory held by encoded images.
        load: makes a predictor from a bundle's path and the engine.

    Attributes:
        heard: called with every :class:`Answer`, for metrics.
    """

    def __init__(self, bundles_folder: str | Path | None = None, engine: str = "auto", cache_bytes: int = 512 << 20,
                 load: Callable[..., Predictor] = load_predictor) -> None:
        self.bundles = {bundle.name: bundle for bundle in in_serving_order(find_bundles(bundles_folder))}
        self.folder = bundles_folder
        self.engine = engine
        self.images = ImageIndex()
        self.states = StateCache(cache_bytes)
        self.conversations = Conversations()
        self.heard: Callable[[Answer], None] = lambda answer: None
        self._load = load
        self._predictors: dict[tuple[str, str], Predictor] = {}
        self._locks = {name: threading.Lock() for name in self.bundles}

    def bundle(self, name: str, version: str = "") -> BundleInfo:
        """A bundle, in the version in use or in another one that is kept here.

        Raises:
            NotFoundError: if there is no such bundle or version.
        """
        bundle = self.bundles.get(name)
        if bundle is None:
            close = difflib.get_close_matches(name, self.bundles, n=1)
            raise NotFoundError(complain("bundle", name, ", ".join(self.bundles) or "none",
                                         f"Did you mean {close[0]}?" if close else ""))
        if version in ("", bundle.version):
            return bundle
        shipped = get_shipped(name, self.folder)
        found = shipped if shipped.version == version else None
        if found is None and versions_dir() is not None:
            found = Versions(shipped).find(version)
        if found is None:
            raise NotFoundError(complain(f"version of bundle {name}", version, f"{bundle.version}, or one kept here"))
        return found

    def predictor(self, name: str, version: str = "") -> Predictor:
        """The predictor of a bundle, loaded at the first call.

        Args:
            name: of the bundle.
            version: see :meth:`bundle`; of versions not in use the one asked for last stays loaded.

        Raises:
            NotFoundError: if there is no such bundle or version, or its weights are missing.
            BundleError, EngineError: if it cannot be loaded.
        """
        bundle = self.bundle(name, version)
        if not is_ready(bundle):
            raise NotFoundError(complain(f"weights of bundle {name}", f"no file {bundle.weights.get('file')}",
                                         "an existing file", "Train it or fetch its weights, see its docs/README.md"))
        key = (name, bundle.version)
        with self._locks[name]:
            if key not in self._predictors:
                started = time.perf_counter()
                fresh = self._load(bundle.path, self.engine)
                for other in [k for k in self._predictors if k[0] == name and k[1] != self.bundles[name].version]:
                    del self._predictors[other]
                self._predictors[key] = fresh
                logger.info("bundle %s %s loaded in %.1f s", *key, time.perf_counter() - started)
            return self._predictors[key]

    def version_sign(self) -> tuple[int, ...]:
        """Another one whenever another version of some bundle was put into use."""
        files = (current_pointer(Path(self.folder or bundles_dir()) / name) for name in self.bundles)
        return tuple(file.stat().st_mtime_ns if file is not None and file.is_file() else 0 for file in files)

    def renew(self) -> list[str]:
        """Serve the versions in use now; a new one is loaded before it takes the place of the old one.

        Returns:
            Names of the bundles that changed. One that cannot be loaded stays as it was, with a logged error.
        """
        changed = []
        for name, bundle in list(self.bundles.items()):
            present = in_use(get_shipped(name, self.folder))
            if present.version == bundle.version:
                continue
            try:
                if (name, bundle.version) in self._predictors:
                    self.predictor(name, present.version)
            except PromptZooError as error:
                logger.error("bundle %s stays %s: %s cannot be loaded: %s", name, bundle.version, present.version,
                             error)
                continue
            self.bundles[name] = present
            changed.append(name)
            logger.info("bundle %s: %s instead of %s", name, present.version, bundle.version)
        return changed

    def preload(self) -> None:
        """Load every bundle that is ready and stands alone; one that fails is logged and left for its first request to
        report. Those derived from another are loaded when they are asked for: all together they fill the memory."""
        for name, bundle in self.bundles.items():
            try:
                if is_ready(bundle) and "base" not in bundle.weights:
                    self.predictor(name)
            except PromptZooError as error:
                logger.error("bundle %s cannot be loaded: %s", name, error)
            except Exception:  # a defect must not end the thread before the other bundles are loaded
                logger.exception("bundle %s cannot be loaded", name)

    def choose(self, grid: Grid, kinds: Collection[str] = (), classes: Collection[str] = (),
               texts: Collection[str] = ()) -> BundleInfo:
        """The bundle for an image and prompts, see :func:`promptzoo.cli.choice.choose_bundle`."""
        return choose_bundle(grid, kinds, self.bundles.values(), classes, texts)

    def preparing(self, path: Path, bundle: str = "auto") -> Iterator[None]:
        """What the first prompt on an image needs, step by step: read it, load the bundle, encode, and what the bundle
        computes whatever the prompt (``ahead`` of its predictor, an iterator of steps, if it has one).

        Args:
            path: of the image.
            bundle: name; ``auto`` for the one that fits the image.

        Raises:
            PromptZooError: if image or bundle cannot be used.
        """
        image = self.images.open(path)
        yield
        name = self.choose(image.grid).name if bundle == "auto" else bundle
        version = self.bundle(name).version
        predictor = self.predictor(name, version)
        key = (image.content_hash, name, version)
        yield
        with self._locks[name]:
            state = self.states.get(key, lambda: predictor.encode(image.take_volume()))
        yield
        for _ in getattr(predictor, "ahead", lambda state: ())(state):
            yield

    def answer(self, image: OpenImage, prompts: PromptSet, bundle: BundleInfo,
               client: str | None = None, forget: bool = False) -> Answer:
        """Segment.

        Args:
            image: what to segment.
            prompts: what is meant, in world space or the image's own voxels.
            bundle: who shall do it.
            client: who asks; a client that extends its earlier prompts has its earlier mask refined. None: no memory.
            forget: drop what the client asked before on this image.

        Raises:
            PromptError: if the prompts do not fit the image or the bundle.
            NotFoundError, BundleError, EngineError: if the bundle cannot be used.
            ImageError: if the image cannot be read any more.
        """
        started = time.perf_counter()
        prompts.check_on(image.grid, bundle.prompts)
        if not prompts.prompts and bundle.prompts:
            reason = f"no prompt was given: {bundle.name} segments what you mark with a {' or '.join(bundle.prompts)}"
            return Answer(bundle, Prediction(image.grid, (), 0.0, "none"), prompts, reason, {"total": 0.0})
        predictor = self.predictor(bundle.name, bundle.version)
        names = tuple((o.object_id, o.name) for o in prompts.objects)
        key = (client, image.content_hash, bundle.name, bundle.version, names)
        if forget:
            self.conversations.forget(key)
        same, before = self.conversations.recall(key, prompts) if client else (None, None)
        with self._locks[bundle.name]:
            state = self.states.get((image.content_hash, bundle.name, bundle.version),
                                    lambda: predictor.encode(image.take_volume()))
            encoded = time.perf_counter()
            prediction = same or predictor.decode(state, prompts, before)
        if client and same is None:
            self.conversations.record(key, prompts, prediction)
        ended = time.perf_counter()
        seconds = {"image": encoded - started, "decode": ended - encoded, "total": ended - started}
        answer = Answer(bundle, prediction, prompts, _reason(prediction), seconds, before is not None)
        self.heard(answer)
        return answer


def _reason(prediction: Prediction) -> str:
    """Why no voxel is marked; empty if one is."""
    if any((entry.probability >= entry.threshold).any() for entry in prediction.objects):
        return ""
    told: list[Any] = [entry.info.get("reason") for entry in prediction.objects if entry.info.get("reason")]
    return str(told[0]) if told else "the network found nothing at the prompts"
