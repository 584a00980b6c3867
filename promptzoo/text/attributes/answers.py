"""Answers to questions about a picture: by image statistics (offline) or by a question-answering network."""
from __future__ import annotations

import colorsys
from collections import Counter
from typing import Any, Protocol, Sequence

import numpy as np
from skimage.filters import threshold_otsu
from skimage.measure import label, regionprops

from promptzoo.data.synthesis.attribute_words import COLOURS, GROUPS, meaning, tokens
from promptzoo.text.attributes.knowledge import hugging_face, not_there

QUESTIONS = {"colour": "What is the color of these {name}?", "shape": "What is the shape of these {name}?",
             "location": "Where is this {name} located?", "size": "What is the size of these {name}?"}
"""What is asked, as in the public code of MIU-VL."""

LONGEST = 160
"""Pictures are looked at in this size."""


class Answers(Protocol):
    """Answers questions about pictures."""

    name: str

    def ask(self, picture: np.ndarray, attribute: str, name: str, regions: np.ndarray | None, k: int,
            seen: Any = None) -> list[tuple[str, float]]:
        """At most ``k`` words with their share.

        Args:
            picture: ``[rows, columns, 3]`` in [0, 1].
            attribute: key of :data:`QUESTIONS`.
            name: of what is asked about.
            regions: boxes ``[n, 4]`` in pixels where the thing may be, or None.
            k: most words.
            seen: what a detector sees in the picture, or None.
        """


class PictureStatistics:
    """Colour, shape, size and place of what stands out from the ground. No network, and it does not know any name:
    without regions it speaks of whatever stands out most."""

    name = "image statistics"

    def ask(self, picture: np.ndarray, attribute: str, name: str, regions: np.ndarray | None, k: int,
            seen: Any = None) -> list[tuple[str, float]]:
        """See :class:`Answers`; no answer where nothing stands out."""
        step = max(1, int(np.ceil(max(picture.shape[:2]) / LONGEST)))
        small = picture[::step, ::step]
        inside = _standing_out(small, None if regions is None or not len(regions) else np.asarray(regions) / step)
        if attribute == "colour":
            votes = Counter(dict(zip(*np.unique(colour_words(small[inside]), return_counts=True))))
        else:
            votes = Counter()
            longest = max(small.shape[:2])
            for part in regionprops(label(inside)):
                if part.area >= 6:
                    for word in _told(part, attribute, (small.shape[0], small.shape[1]), longest):
                        votes[word] += part.area if attribute == "location" else 1
        total = sum(votes.values())
        return [(str(word), count / total) for word, count in votes.most_common(k)]


def colour_words(pixels: np.ndarray) -> np.ndarray:
    """The colour word nearest to each pixel ``[n, 3]``, by distance to the middle of each word's range."""
    names = sorted(COLOURS)
    middles = []
    for name in names:
        hue, saturation, value = (float(np.mean(span)) for span in COLOURS[name])
        middles.append(colorsys.hsv_to_rgb(hue % 1, 0.0 if name in ("black", "white", "grey") else saturation, value))
    distance = ((pixels[:, None] - np.array(middles)[None]) ** 2).sum(-1)
    return np.array(names)[distance.argmin(1)] if len(pixels) else np.array([], dtype="<U6")


def _standing_out(picture: np.ndarray, regions: np.ndarray | None) -> np.ndarray:
    """Mask of what differs from the commonest colour; with regions, of that inside them."""
    coarse = np.floor(picture * 7.999).astype(int) @ np.array([64, 8, 1])
    ground = picture[coarse == np.bincount(coarse.ravel()).argmax()].mean(0)
    distance = np.sqrt(((picture - ground) ** 2).sum(-1))
    flat = distance.max() < 0.05
    inside = np.zeros(distance.shape, bool) if flat else distance > threshold_otsu(distance)
    if regions is None:
        return inside
    within = np.zeros(inside.shape, bool)
    for x0, y0, x1, y1 in np.rint(regions).astype(int):
        within[max(0, y0):max(y1, y0 + 1), max(0, x0):max(x1, x0 + 1)] = True
    return inside & within if (inside & within).any() else within


def _told(part: Any, attribute: str, shape: tuple[int, int], longest: int) -> Sequence[str]:
    """Words for one connected part."""
    top, left, bottom, right = part.bbox
    if attribute == "size":
        extent = max(bottom - top, right - left) / longest
        return ("small" if extent < 0.11 else "large" if extent > 0.24 else "medium",)
    if attribute == "shape":
        ratio = part.axis_major_length / max(part.axis_minor_length, 1.0)
        if part.solidity < 0.85:
            return ("ring" if part.euler_number < 1 else "irregular",)
        return ("elongated" if ratio > 2.2 else "oval" if ratio > 1.35 else "square" if part.extent > 0.9 else "round",)
    if attribute == "location":
        down, across = part.centroid[0] / shape[0], part.centroid[1] / shape[1]
        words = [word for word, where in (("left", across), ("right", 1 - across), ("upper", down), ("lower", 1 - down))
                 if where < 0.38]
        return words or ["central"]
    return ()


class QuestionNetwork:
    """A question-answering network of transformers (BLIP or ViLT), from a local folder or the hub's cache.

    Args:
        source: folder or name.

    Raises:
        NotFoundError: if it cannot be loaded.
    """

    name = "question answering"

    def __init__(self, source: str) -> None:
        transformers = hugging_face("a question-answering network")
        try:
            kind = transformers.AutoConfig.from_pretrained(source).model_type
            self.blip = kind == "blip"
            network = (transformers.BlipForQuestionAnswering if self.blip
                       else transformers.ViltForQuestionAnswering)
            self.processor = transformers.AutoProcessor.from_pretrained(source)
            self.model = network.from_pretrained(source).eval()
        except (OSError, ValueError, KeyError) as error:
            raise not_there("question-answering network", source, error) from error

    def ask(self, picture: np.ndarray, attribute: str, name: str, regions: np.ndarray | None, k: int,
            seen: Any = None) -> list[tuple[str, float]]:
        """See :class:`Answers`; regions are not used, and answers that are no word of the attribute are dropped."""
        import torch
        from PIL import Image

        if attribute not in QUESTIONS:
            return []
        shown = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))
        given = self.processor(shown, QUESTIONS[attribute].format(name=name), return_tensors="pt")
        with torch.inference_mode():
            if self.blip:
                spoken = self.model.generate(**given, max_new_tokens=8)
                said = [(self.processor.decode(spoken[0], skip_special_tokens=True), 1.0)]
            else:
                chance = torch.sigmoid(self.model(**given).logits[0].float())
                said = [(self.model.config.id2label[n], float(chance[n])) for n in chance.argsort(descending=True)
                        .tolist()[:50]]
        words = [(meaning(word), share) for text, share in said for word in tokens(text)]
        kept = {word: share for word, share in reversed(words) if word in GROUPS[attribute]}
        return sorted(((str(w), s) for w, s in kept.items()), key=lambda entry: -entry[1])[:k]
