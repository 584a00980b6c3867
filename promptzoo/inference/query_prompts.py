"""Class prompts answered by queries that predict the prompts of a slice: they prompt the frozen decoder and can be
edited."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from promptzoo.core.errors import BundleError, complain
from promptzoo.inference.auto_finder import Found, PromptFinder
from promptzoo.inference.auto_maps import NO_POINTS, Candidate
from promptzoo.inference.auto_predictor import AutoPromptPredictor
from promptzoo.inference.auto_prompts import AutoPrompt
from promptzoo.inference.auto_tiles import AutoParts, Tile
from promptzoo.inference.classes import CT_LIMITS, slice_view, slice_window
from promptzoo.inference.looks import as_chance
from promptzoo.inference.monai_inferer import Part
from promptzoo.inference.sam import Arrays, SamParts, SamSegmenter
from promptzoo.inference.sam_inferer import SAM_KINDS, SamInferer
from promptzoo.inference.state import EncodedImage
from promptzoo.networks.auto_prompt import HEAD_STRIDE
from promptzoo.networks.query_prompts import QUERY_STRIDE


@dataclass(frozen=True)
class QuerySettings:
    """Which of the predicted prompts are given to the decoder.

    Args:
        least: probability of the class from which a query counts.
        box, centre, mask: whether its box, its centre and its mask become prompts.
        margin: added to each face of a box, as a fraction of its side.

    Raises:
        BundleError: if none of them does.
    """

    least: float = 0.5
    box: bool = True
    centre: bool = True
    mask: bool = True
    margin: float = 0.0

    def __post_init__(self) -> None:
        if not (self.box or self.centre or self.mask):
            raise BundleError(complain("prompts of queries", "none", "box, centre, mask or several of them"))


class QueryFinder(PromptFinder):
    """Asks the queries of a whole slice for one class and lets the decoder answer their prompts.

    Args:
        segmenter, parts: see :class:`PromptFinder`; ``propose`` gives chances of the classes, masks, centres and boxes.
        queries: which predictions become prompts.
        classes: names, in the order of the queries' classes.
    """

    def __init__(self, segmenter: SamSegmenter, parts: AutoParts, queries: QuerySettings,
                 classes: Sequence[str]) -> None:
        super().__init__(segmenter, parts, AutoPrompt())
        self.queries, self.classes = queries, tuple(classes)

    def tiles(self, image: np.ndarray, spacing: np.ndarray) -> list[Tile]:
        """The whole slice as the one window."""
        window = slice_window(image.shape, spacing, self.segmenter.settings.window)
        view = slice_view(image, window, False)
        low = np.full(2, -0.5)
        return [Tile(window, low, low + image.shape, view, self.segmenter.encoded(view))]

    def named(self, image: np.ndarray, spacing: Sequence[float], name: str) -> list[Found]:
        """The objects of a class on a slice ``[H, W]``, surest first."""
        tile = self.tiles(image, np.asarray(spacing, dtype=float))[0]
        told = self.parts.propose(*(part[None] for part in tile.encoded.parts))
        chances, masks, centres, boxes = (part[0] for part in told)
        found = []
        for number in np.argsort(-chances[:, self.classes.index(name)]):
            score = float(chances[number, self.classes.index(name)])
            if score >= self.queries.least and chances[number].argmax() == self.classes.index(name):
                found.append(self._candidate(score, masks[number], centres[number], boxes[number]))
        return self._apart(self.answers(tile, found, image.shape))

    def _candidate(self, score: float, mask: np.ndarray, centre: np.ndarray, box: np.ndarray) -> Candidate:
        """The prompts of one query."""
        cell = np.array(np.unravel_index(centre.argmax(), centre.shape))
        at = (cell + 0.5) * QUERY_STRIDE - 0.5
        coarse = torch.from_numpy(np.ascontiguousarray(mask))[None, None]
        drawn = F.interpolate(coarse, scale_factor=QUERY_STRIDE // HEAD_STRIDE, mode="bilinear")[0, 0].numpy()
        grow = self.queries.margin * (box[2:] - box[:2])
        faces = (box[:2] - grow, np.maximum(box[2:] + grow, box[:2] + 1.0))
        return Candidate(score, at, at[None] if self.queries.centre else NO_POINTS,
                         box=faces if self.queries.box else None,
                         mask=as_chance(drawn) >= 0.5 if self.queries.mask and (drawn >= 0).any() else None)


class QueryPredictor(AutoPromptPredictor):
    """An :class:`AutoPromptPredictor` whose queries know several classes; of volumes all slices are looked at."""

    finder: QueryFinder
    all_slices = True

    def found_on(self, state: EncodedImage, image: np.ndarray, spacing: Sequence[float], name: str) -> list[Found]:
        """See :meth:`AutoPromptPredictor.found_on`."""
        return self.finder.named(image, spacing, name)

    def shown(self, state: EncodedImage, image: np.ndarray) -> np.ndarray:
        """A slice, of CT with black and white as in training."""
        return np.clip(image, *CT_LIMITS) if state.hounsfield else image


class QueryInferer(SamInferer):
    """:class:`SamInferer` that also takes class prompts, answered by queries.

    Args:
        classes: names of the queries' classes.
        queries: arguments of :class:`QuerySettings`.
        others: arguments of :class:`SamInferer`.
    """

    def __init__(self, classes: Sequence[str], queries: Mapping[str, Any] | None = None, **others: Any) -> None:
        super().__init__(**others)
        self.classes, self.queries = tuple(classes), QuerySettings(**(queries or {}))

    def predictor(self, network: AutoParts, name: str = "queries", engine: str = "torch"  # type: ignore[override]
                  ) -> QueryPredictor:
        """The predictor with these settings around a plain or compiled network."""
        segmenter = SamSegmenter(network, self.settings, self.embedding_mb << 20)
        return QueryPredictor(network.decode, 2, self.settings, self.calibration, name, engine, SAM_KINDS | {"class"},
                              segmenter=segmenter, classes=self.classes,
                              finder=QueryFinder(segmenter, network, self.queries, self.classes))

    def wrap(self, network: Any) -> AutoParts:
        """A torch network as what :meth:`predictor` takes."""
        plain, place, forward = SamParts.of(network), next(network.parameters()).device, QueryForward(network)

        def propose(*encoded: np.ndarray) -> Arrays:
            network.eval()
            with torch.inference_mode():
                return [part.float().cpu().numpy() for part in
                        forward(*(torch.from_numpy(part).to(place) for part in encoded))]

        return AutoParts(plain.encode, plain.decode, propose)

    def parts(self, network: Any) -> dict[str, Part]:
        """Image encoder, decoder and queries, which engines compile apart."""
        found = super().parts(network)
        encoded = found["mask_decoder"].example[:4]
        return {**found, "prompt_head": Part(QueryForward(network).eval(), tuple(torch.clone(e) for e in encoded), ())}

    def assemble(self, compiled: Mapping[str, Any]) -> AutoParts:
        """The compiled parts as what :meth:`predictor` takes."""
        return AutoParts(compiled["image_encoder"], compiled["mask_decoder"], compiled["prompt_head"])


class QueryForward(torch.nn.Module):
    """The queries as engines compile them: encoder outputs to chances of the classes, masks, centres and boxes."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, *encoded: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """See :meth:`promptzoo.networks.query_prompts.QueryPrompts.forward`."""
        told, *others = self.network.propose(*encoded)
        return (self.network.prompt_head.chances(told), *others)
