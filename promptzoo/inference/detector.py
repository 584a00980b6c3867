"""Phrases to boxes on one picture: letterbox, peaks of the score maps, suppression, fusion of captions."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Sequence

import numpy as np
import torch
from scipy import ndimage

from promptzoo.inference.box_fusion import Boxes, fused, suppressed
from promptzoo.inference.picture import Picture
from promptzoo.networks.open_vocabulary import STRIDE, boxes_of, phrase_logits

PAD = 0.0
"""Grey beside the picture in the network's square."""
MOST_PEAKS = 100


@dataclass(frozen=True, eq=False)
class DetectorParts:
    """A detector's parts, plain or compiled.

    Args:
        image_encoder: ``[1, 3, S, S]`` float32 to a sequence whose first entry is ``[1, 5 + dim, S/8, S/8]``.
        text_encoder: texts to unit vectors ``[N, dim]`` float32.
    """

    image_encoder: Callable[[np.ndarray], Sequence[np.ndarray]]
    text_encoder: Callable[[Sequence[str]], np.ndarray]

    @classmethod
    def of(cls, network: Any) -> "DetectorParts":
        """Those of a torch network."""
        device = next(network.parameters()).device

        def encode(image: np.ndarray) -> Sequence[np.ndarray]:
            network.eval()
            with torch.inference_mode():
                return (network.image_encoder(torch.from_numpy(image).to(device)).float().cpu().numpy(),)

        return cls(encode, text_part(network))


def text_part(network: Any) -> Callable[[Sequence[str]], np.ndarray]:
    """The text encoder of a torch network on arrays."""

    def encode(texts: Sequence[str]) -> np.ndarray:
        network.eval()
        with torch.inference_mode():
            return network.text_encoder(list(texts)).float().cpu().numpy()

    return encode


@dataclass(frozen=True)
class DetectorSettings:
    """How boxes are read off.

    Args:
        size: side of the network's square in pixels.
        threshold: score from which a box counts as found.
        least: score below which a box is not even listed.
        nms: boxes of one caption that share more than this are one.
        fusion: IoU from which boxes of different captions are one.
        finest: small pictures are enlarged at most this much.
    """

    size: int = 320
    threshold: float = 0.3
    least: float = 0.05
    nms: float = 0.5
    fusion: float = 0.55
    finest: float = 2.0


def squared(picture: np.ndarray, settings: DetectorSettings) -> tuple[np.ndarray, float]:
    """A picture ``[rows, columns, 3]`` in [0, 1] at the top left of the network's square, and its scale.

    Returns:
        ``[1, 3, S, S]`` float32 in [-1, 1], network pixels per picture pixel.
    """
    rows, columns = picture.shape[:2]
    scale = min(settings.size / max(rows, columns), settings.finest)
    wanted = (max(1, round(rows * scale)), max(1, round(columns * scale)))
    tensor = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32))[None]
    small = torch.nn.functional.interpolate(tensor, size=wanted, mode="bilinear", antialias=scale < 1)
    square = np.full((1, 3, settings.size, settings.size), PAD, np.float32)
    square[..., :wanted[0], :wanted[1]] = small.numpy() * 2 - 1
    return square, scale


class Detector:
    """Boxes of phrases on token maps.

    Args:
        parts: plain or compiled.
        settings: see there.
    """

    def __init__(self, parts: DetectorParts, settings: DetectorSettings) -> None:
        self.parts, self.settings = parts, settings

    def tokens(self, picture: Picture) -> tuple[np.ndarray, float]:
        """Token map ``[5 + dim, h, w]`` of a picture and its scale."""
        square, scale = squared(picture.rgb, self.settings)
        return np.asarray(self.parts.image_encoder(square)[0][0], np.float32), scale

    def scores(self, tokens: np.ndarray, scale: float, shape: Sequence[int], texts: Sequence[str]) -> np.ndarray:
        """Score maps ``[P, h, w]`` of texts, 0 beside the picture of ``shape`` (rows, columns)."""
        vectors = torch.from_numpy(np.asarray(self.parts.text_encoder(texts), np.float32))
        logits = phrase_logits(torch.from_numpy(tokens)[None], vectors[None])[0]
        chance = torch.sigmoid(logits).numpy()
        rows, columns = (int(np.ceil(n * scale / STRIDE)) for n in shape[:2])
        chance[:, rows:], chance[:, :, columns:] = 0, 0
        return chance

    def boxes(self, tokens: np.ndarray, scale: float, shape: Sequence[int], texts: Sequence[str]) -> list[Boxes]:
        """Boxes of each text in pixels of the picture, overlapping ones suppressed."""
        sides = boxes_of(torch.from_numpy(tokens)[None])[0].numpy()
        limit = np.array([shape[1], shape[0]] * 2, float)
        found = []
        for chance in self.scores(tokens, scale, shape, texts):
            peak = (chance >= self.settings.least) & (chance == ndimage.maximum_filter(chance, 3, mode="constant"))
            at = np.argwhere(peak)
            at = at[np.argsort(-chance[peak], kind="stable")[:MOST_PEAKS]]
            boxes = np.clip(sides[:, at[:, 0], at[:, 1]].T / scale, 0, limit)
            keep = (boxes[:, 2:] - boxes[:, :2] > 0.5).all(1)
            one = Boxes.of(boxes[keep], chance[at[:, 0], at[:, 1]][keep])
            found.append(suppressed(one, self.settings.nms))
        return found

    def fused(self, sets: Sequence[Boxes], weights: Sequence[float] | None = None) -> Boxes:
        """One set of boxes out of those of several captions."""
        return sets[0] if len(sets) == 1 else fused(sets, weights, self.settings.fusion)
