"""Answers to questions about a picture from the objects that the detector sees in it."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Sequence

import numpy as np
import torch

from promptzoo.core.errors import NotFoundError, complain
from promptzoo.data.synthesis.attribute_questions import ANSWERS, ASKED, asked_name
from promptzoo.data.synthesis.attribute_words import GROUPS
from promptzoo.networks.deltas import fill
from promptzoo.networks.question_head import QuestionHead, grounded
from promptzoo.text.attributes.answers import QUESTIONS


@dataclass(frozen=True, eq=False)
class Seen:
    """What a detector sees in a picture.

    Args:
        objects: of :func:`promptzoo.networks.question_head.objects_of`.
        text_encoder: texts to the detector's vectors ``[N, dim]``.
    """

    objects: np.ndarray
    text_encoder: Callable[[Sequence[str]], np.ndarray]


class ObjectAnswers:
    """The shipped question answerer; it is loaded at the first question.

    Args:
        weights: of :class:`promptzoo.networks.question_head.QuestionHead`.

    Raises:
        NotFoundError: if there is no such file.
    """

    name = "objects of the detector"

    def __init__(self, weights: str) -> None:
        if not Path(weights).is_file():
            raise NotFoundError(complain("weights of the question answerer", weights, "an existing file"))
        self.weights = weights
        self._network: QuestionHead | None = None

    @property
    def network(self) -> QuestionHead:
        """The network in eval mode."""
        if self._network is None:
            network = QuestionHead()
            fill(network, Path(self.weights))
            self._network = network.eval()
        return self._network

    def ask(self, picture: np.ndarray, attribute: str, name: str, regions: np.ndarray | None, k: int,
            seen: Seen | None = None) -> list[tuple[str, float]]:
        """See :class:`promptzoo.text.attributes.answers.Answers`; no answer without objects."""
        if seen is None or not len(seen.objects) or attribute not in ASKED:
            return []
        return self.answer(seen, attribute, asked_name(name, attribute), QUESTIONS[attribute], k)

    def answer(self, seen: Seen, attribute: str, name: str, question: str, k: int) -> list[tuple[str, float]]:
        """At most ``k`` words of an attribute for a name in a question with the slot ``{name}``."""
        objects = torch.from_numpy(seen.objects)[None]
        fits = torch.from_numpy(grounded(seen.objects, seen.text_encoder([name])[0]).astype(np.float32))[None]
        with torch.inference_mode():
            told = self.network(objects, fits, torch.ones_like(fits, dtype=torch.bool), [question.format(name=name)])
        words = [(word, share) for word, share in zip(ANSWERS, told[0].exp().tolist()) if word in GROUPS[attribute]]
        return sorted(words, key=lambda one: -one[1])[:k]
