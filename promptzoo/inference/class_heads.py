"""Text prompts for a network with a head per class, to which a person adds classes."""
from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from promptzoo.core.errors import BundleError, complain
from promptzoo.core.learned import learned_prompts, stamp
from promptzoo.core.protocols import Prediction
from promptzoo.core.volume import Volume
from promptzoo.inference.monai_inferer import Part
from promptzoo.inference.state import EncodedImage
from promptzoo.inference.text_inferer import Halves, TextInferer
from promptzoo.inference.text_universal import UniversalPredictor
from promptzoo.prompts.types import PromptSet


def read_row(path: Path) -> np.ndarray:
    """What the head is told of a class that was added, ``[T + numbers]`` float32.

    Raises:
        BundleError: if the file holds none.
    """
    try:
        state = load_file(str(path))
        return np.concatenate([state["text"], state["row"]]).astype(np.float32)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise BundleError(complain("learned class", f"{path}: {str(error).splitlines()[0]}",
                                   "a file that promptzoo learn wrote")) from error


class ClassHeadPredictor(UniversalPredictor):
    """A predictor whose classes have heads of their own; those that a person added are looked up at every request.

    Liu et al., "Universal and extensible language-vision models …", 2024. Classes that were there before one was added
    are answered bit for bit as before: what is a class's own is told to the head with the question.

    Args:
        shipped: what the head is told of the bundle's own classes and, last, of boxes without a name,
            ``[C + 1, T + numbers]``.
        base_sha256: of the weights; classes learned on others are not known.
        given: arguments of :class:`UniversalPredictor`, without ``vectors``.
    """

    def __init__(self, shipped: np.ndarray, base_sha256: str | None, encoder: Any, head: Any, classes: Sequence[str],
                 **given: Any) -> None:
        super().__init__(encoder, head, shipped[:-1], classes, **given)
        self.own, self.shipped, self.base_sha256 = self.classes, shipped, base_sha256
        self._rows: dict[tuple[Path, int], np.ndarray] = {}

    @property
    def nameless(self) -> np.ndarray:
        """See :attr:`UniversalPredictor.nameless`."""
        return self.shipped[-1]

    def depends_on(self, prompts: PromptSet) -> str:
        """What of the added classes that are asked for may change: their files and when these were written."""
        asked = {" ".join(prompt.name.lower().replace("_", " ").split()) for prompt in prompts.of("class")}
        added = {name.replace("_", " ") for name in self.classes[len(self.own):]} if prompts.of("text") else set()
        return stamp(asked | added, self.name, self.base_sha256)

    def encode(self, volume: Volume) -> EncodedImage:
        """See :meth:`UniversalPredictor.encode`."""
        self.renew()
        return self.encoded(volume)

    def decode(self, state: EncodedImage, prompts: PromptSet, previous: Prediction | None = None) -> Prediction:
        """See :meth:`UniversalPredictor.decode`."""
        self.renew()
        return self.answered(state, prompts)

    def encoded(self, volume: Volume) -> EncodedImage:
        """:meth:`encode` without a look at what was added."""
        return super().encode(volume)

    def answered(self, state: EncodedImage, prompts: PromptSet) -> Prediction:
        """:meth:`decode` without a look at what was added."""
        return super().decode(state, prompts)

    def renew(self) -> None:
        """Know the classes that are added by now, and no others."""
        known = learned_prompts(self.name, self.base_sha256)
        keys = {name: (path, path.stat().st_mtime_ns) for name, path in known.items()}
        self._rows = {key: self._rows.get(key, np.empty(0)) for key in keys.values()}
        for key, row in self._rows.items():
            if not len(row):
                self._rows[key] = read_row(key[0])
        self.extend({name.replace(" ", "_"): self._rows[key] for name, key in keys.items()})

    def extend(self, rows: Mapping[str, np.ndarray]) -> None:
        """Be the bundle's own classes and some others.

        Args:
            rows: by name, see :func:`read_row`.
        """
        self.classes = (*self.own, *rows)
        self.vectors = np.concatenate([self.shipped[:-1], *(row[None] for row in rows.values())])


class ClassHeadInferer(TextInferer):
    """Inferer of networks with a head per class.

    Args:
        classes, settings, overlap: see :class:`TextInferer`.
        weights: the weights that added classes belong to.
    """

    def __init__(self, classes: Sequence[str], settings: Mapping[str, Any] | None = None, weights: str = "",
                 overlap: str = "probability") -> None:
        super().__init__(classes, "tower", settings, overlap)
        self.weights, self._rows = Path(weights), np.zeros((len(classes) + 1, 1), np.float32)

    def vectors(self) -> np.ndarray:
        """Text vectors and rows of the classes and, last, of boxes without a name, ``[C + 1, T + numbers]`` float32."""
        words = super().vectors()
        return np.concatenate([np.pad(words, ((0, 1), (0, 0))), self._rows], 1)

    def predictor(self, network: Halves, name: str = "text_universal", engine: str = "torch"  # type: ignore[override]
                  ) -> ClassHeadPredictor:
        """The predictor around the two halves of a plain or compiled network."""
        sha = hashlib.sha256(self.weights.read_bytes()).hexdigest() if self.weights.is_file() else None
        return ClassHeadPredictor(self.vectors(), sha, *network, classes=self.classes, settings=self.settings,
                                  name=name, engine=engine)

    def wrap(self, network: Any) -> Halves:
        """See :meth:`TextInferer.wrap`."""
        self._rows = network.head.rows.detach().float().cpu().numpy()
        return super().wrap(network)

    def parts(self, network: Any) -> dict[str, Part]:
        """See :meth:`TextInferer.parts`."""
        self._rows = network.head.rows.detach().float().cpu().numpy()
        return super().parts(network)
