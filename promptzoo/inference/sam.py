"""Inference of SAM-like networks: an image window is encoded once and kept, every prompt on it costs a decode."""
from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Callable, Sequence

import numpy as np
import torch

from promptzoo.inference.object_prompts import ObjectPrompts
from promptzoo.inference.resample import Window, normalise
from promptzoo.inference.zoom import Look, ZoomSegmenter, ZoomSettings, as_chance, keep_promises, resample_look
from promptzoo.prompts.encoders.tokens import sam_prompt

Arrays = Sequence[np.ndarray]
LEVEL = 2.0 ** 0.5
"""Ratio of the sides of neighbouring window sizes: windows are taken from a grid, so that prompts near each other share
an encoding."""
GRID_STEPS = 8
"""Positions of windows per side."""


@dataclass(frozen=True, eq=False)
class SamParts:
    """The two halves of a SAM-like network as plain callables.

    Args:
        encode: windows ``[B, 1, S, S]`` to the encoder's outputs.
        decode: encoder outputs, points, labels and dense maps to the outputs of
            :meth:`promptzoo.networks.sam.PromptableSam.decode`.
    """

    encode: Callable[[np.ndarray], Arrays]
    decode: Callable[..., Arrays]

    @classmethod
    def of(cls, network: Any, device: torch.device | str | None = None) -> "SamParts":
        """Those of a torch network."""
        place = torch.device(device) if device is not None else next(network.parameters()).device

        def call(function: Callable[..., Any], *inputs: np.ndarray) -> Arrays:
            network.eval()
            with torch.inference_mode():
                return [out.float().cpu().numpy() for out in function(*(torch.from_numpy(i).to(place) for i in inputs))]

        return cls(lambda images: call(network.image_encoder, images), lambda *inputs: call(network.decode, *inputs))


class Encodings:
    """Encoded windows by content, least recently used first to go; safe to use from several threads.

    Args:
        limit_bytes: most memory held.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes, self.nbytes = limit_bytes, 0
        self._entries: OrderedDict[bytes, list[np.ndarray]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, views: Sequence[np.ndarray], encode: Callable[[np.ndarray], Arrays]) -> list[list[np.ndarray]]:
        """The encodings of windows ``[S, S]``; those not known are made in one call."""
        keys = [hashlib.blake2b(view.tobytes(), digest_size=16).digest() for view in views]
        with self._lock:
            known = {key: self._entries[key] for key in keys if key in self._entries}
            for key in known:
                self._entries.move_to_end(key)
        missing = [n for n, key in enumerate(keys) if key not in known and key not in keys[:n]]
        if missing:
            made = encode(np.stack([views[n] for n in missing])[:, None])
            for place, n in enumerate(missing):
                known[keys[n]] = [np.ascontiguousarray(part[place]) for part in made]
            with self._lock:
                self._keep({keys[n]: known[keys[n]] for n in missing})
        return [known[key] for key in keys]

    def _keep(self, fresh: dict[bytes, list[np.ndarray]]) -> None:
        for key, parts in fresh.items():
            if key not in self._entries:
                self._entries[key] = parts
                self.nbytes += sum(part.nbytes for part in parts)
        while self.nbytes > self.limit_bytes and self._entries:
            _, parts = self._entries.popitem(last=False)
            self.nbytes -= sum(part.nbytes for part in parts)


class SamSegmenter(ZoomSegmenter):
    """Segments one object on a slice with a SAM-like network.

    Args:
        parts: the network.
        settings: how windows are chosen.
        limit_bytes: most memory for encoded windows.
    """

    def __init__(self, parts: SamParts, settings: ZoomSettings, limit_bytes: int = 128 << 20) -> None:
        super().__init__(parts.decode, settings)
        self.parts, self.encodings = parts, Encodings(limit_bytes)

    def _window(self, low: np.ndarray, high: np.ndarray, margin: float, spacing: np.ndarray,
                shape: Sequence[int]) -> Window:
        """The smallest window of the grid that serves; see :meth:`ZoomSegmenter._window`."""
        side = max(float(((high - low) * spacing).max()) * margin, self.settings.min_side_px * float(spacing.min()))
        whole = float((np.asarray(shape) * spacing).max())
        steps = np.floor(np.log(max(whole / side, 1.0)) / np.log(LEVEL) + 1e-6)
        snapped = whole / LEVEL ** steps
        pitch = snapped / GRID_STEPS / spacing
        centre = np.round((low + high) / 2 / pitch) * pitch
        half = snapped / 2 / spacing
        return super()._window(centre - half, centre + half, 1.0, spacing, shape)

    def _look(self, image: np.ndarray, windows: Sequence[Window], prompts: ObjectPrompts,
              last: Look | None) -> list[Look]:
        views = [normalise(window.sample(image)) for window in windows]
        encoded = self.encodings.get(views, self.parts.encode)
        told = []
        for window, view in zip(windows, views):
            prior = None
            if last is not None:
                prior = last.probability if window == last.window else resample_look(last, window)
            elif prompts.prior is not None:
                prior = window.sample(prompts.prior)
            told.append(sam_prompt(prompts.in_window(window, prior), view))
        inputs = [np.stack([entry[n] for entry in encoded]) for n in range(len(encoded[0]))]
        inputs += [np.stack([getattr(t, name) for t in told]) for name in ("points", "labels", "dense")]
        logits, ious = self.network(*inputs)[:2]
        history = () if last is None else last.history
        return [Look(window, keep_promises(as_chance(logits[n, 0]), prompts, window), dice_of_iou(float(ious[n, 0])),
                     history + (f"{window.step[0]:.2f}",)) for n, window in enumerate(windows)]


def dice_of_iou(iou: float) -> float:
    """Dice of masks with this intersection over union."""
    iou = min(max(iou, 0.0), 1.0)
    return 2 * iou / (1 + iou)
