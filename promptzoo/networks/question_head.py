"""A small network that answers questions about a picture from what a detector saw.

Bottom-up and top-down attention (Anderson et al., CVPR 2018, section 3.2): candidates of the detector are the objects,
and the question weighs them. Each object answers for itself, and the answers are added up by weight, so that what most
of the objects are comes first.
"""
from __future__ import annotations

from typing import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import nn

from promptzoo.data.synthesis.attribute_questions import ANSWERS
from promptzoo.networks.open_vocabulary import EXTRA, STRIDE, boxes_of
from promptzoo.networks.phrase_encoder import PhraseEncoder

MOST_OBJECTS = 32
PLACE = 5
"""Numbers before the vector: objectness, centre (0 to 1 across and down), width and height (of the longer side)."""


def objects_of(tokens: np.ndarray, rows: float, columns: float) -> np.ndarray:
    """The likeliest objects of a token map.

    Args:
        tokens: ``[5 + dim, h, w]`` of :class:`promptzoo.networks.open_vocabulary.TokenEncoder`.
        rows, columns: size of the shown picture in pixels of the network's, at its top left.

    Returns:
        ``[n, 5 + dim]`` float32, most objectness first, at most 32: numbers of :data:`PLACE`, then the vector.
    """
    own = tokens[:, :int(np.ceil(rows / STRIDE)), :int(np.ceil(columns / STRIDE))]
    peak = own[0] == ndimage.maximum_filter(own[0], 3, mode="nearest")
    at = np.argwhere(peak)
    at = at[np.argsort(-own[0][peak], kind="stable")[:MOST_OBJECTS]]
    sides = boxes_of(torch.from_numpy(np.ascontiguousarray(own))[None])[0].numpy()
    left, top, right, bottom = sides[:, at[:, 0], at[:, 1]]
    side = max(rows, columns)
    place = [own[0, at[:, 0], at[:, 1]], (left + right) / 2 / columns, (top + bottom) / 2 / rows,
             (right - left) / side, (bottom - top) / side]
    return np.concatenate([np.stack(place, 1), own[EXTRA:, at[:, 0], at[:, 1]].T], 1).astype(np.float32)


def grounded(objects: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """How well a phrase fits each object, as the detector scores it: logits ``[n]`` of its vector ``[dim]``."""
    return objects[:, PLACE:] @ vector + objects[:, 0]


class QuestionHead(nn.Module):
    """Objects and questions to answers: every object gives its own answer, and the question says how much each counts.

    Args:
        dim: of the detector's vectors.
        width: features.
        buckets: of the hashed n-grams of questions.
    """

    words: torch.Tensor

    def __init__(self, dim: int = 128, width: int = 96, buckets: int = 1024) -> None:
        super().__init__()
        self.question = PhraseEncoder(64, buckets)
        self.register_buffer("words", torch.zeros(len(ANSWERS), dim))
        self.see = nn.Sequential(nn.Linear(PLACE + dim + len(ANSWERS), width), nn.SiLU(), nn.Linear(width, width),
                                 nn.SiLU())
        self.seek, self.weigh = nn.Linear(64, width), nn.Linear(width, 1)
        self.trust = nn.Parameter(torch.tensor(1.0))
        self.read = nn.Linear(64, width)
        self.answer = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, len(ANSWERS)))

    def forward(self, objects: torch.Tensor, fits: torch.Tensor, there: torch.Tensor, questions: Sequence[str]
                ) -> torch.Tensor:
        """Logarithms of the chances of :data:`ANSWERS`, ``[B, answers]``.

        Args:
            objects: ``[B, n, 5 + dim]``.
            fits: logits ``[B, n]`` of the name that is asked about, see :func:`grounded`.
            there: ``[B, n]`` bool, False for rows that are no object.
            questions: one per picture.
        """
        asked, named = self.question(questions), objects[..., PLACE:] @ self.words.T
        seen = self.see(torch.cat([objects, named], -1))
        weight = self.weigh(seen * self.seek(asked)[:, None])[..., 0] + self.trust * fits
        share = torch.log_softmax(weight.masked_fill(~there, -1e4), 1)
        each = self.answer(torch.cat([seen, seen * self.read(asked)[:, None]], -1))
        return torch.logsumexp(share[..., None] + torch.log_softmax(each, -1), 1)
