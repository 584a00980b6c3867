"""Open-vocabulary detectors with public weights, by transformers: Grounding DINO, OWL-ViT, OWLv2."""
from __future__ import annotations

from typing import Any, Sequence

import numpy as np
import torch
from PIL import Image

from promptzoo.core.errors import NotFoundError, complain
from promptzoo.core.volume import Volume
from promptzoo.inference.box_fusion import Boxes, suppressed
from promptzoo.inference.detector import Detector, DetectorParts, DetectorSettings
from promptzoo.inference.detector_predictor import DetectionPredictor, DetectionState, picture_key
from promptzoo.inference.picture import Picture
from promptzoo.text.attributes.builder import PromptBuilder
from promptzoo.text.attributes.knowledge import hugging_face

KINDS = ("grounding-dino", "owlvit", "owlv2")
"""Values of ``model_type`` in the configurations that are taken."""


class PublicDetector(DetectionPredictor):
    """A detector of transformers as the predictor of our own: same prompts, same answers.

    Args:
        source: local folder with ``config.json``, weights, tokenizer and image processor, or a name on a hub.
        builder: makes captions; None takes texts as they are.
        settings: ``threshold``, ``least``, ``nms`` and ``fusion``; the picture's size is the processor's own.

    Raises:
        NotFoundError: if it cannot be loaded, or is of another kind.
    """

    def __init__(self, source: str, builder: PromptBuilder | None = None, settings: DetectorSettings | None = None
                 ) -> None:
        transformers = hugging_face("a detector with public weights")
        try:
            kind = transformers.AutoConfig.from_pretrained(source).model_type
            if kind not in KINDS:
                raise NotFoundError(complain("kind of detector", kind, ", ".join(KINDS)))
            self.processor = transformers.AutoProcessor.from_pretrained(source)
            self.model = transformers.AutoModelForZeroShotObjectDetection.from_pretrained(source).eval()
        except (OSError, ValueError, KeyError) as error:
            raise NotFoundError(complain(
                "detector with public weights", source, "a local folder of transformers (Grounding DINO, OWL-ViT or "
                "OWLv2), or a name on a hub that is reachable",
                f"{type(error).__name__}: {str(error).splitlines()[0][:120]}")) from error
        self.grounding = kind == "grounding-dino"
        parts = DetectorParts(lambda image: (), lambda texts: np.zeros((len(texts), 0), np.float32))
        super().__init__(Detector(parts, settings or DetectorSettings()), builder or PromptBuilder(), (), kind,
                         "transformers")

    def encode(self, volume: Volume) -> DetectionState:
        """The picture; these networks read picture and text together.

        Raises:
            ImageError: for a volume of several slices.
        """
        picture = Picture.of(volume)
        return DetectionState(picture, np.zeros((0,), np.float32), 1.0, picture_key(picture))

    def unknown(self, text: str) -> str | None:
        """None: the vocabulary is open."""
        return None

    def lint(self, state: DetectionState, text: str) -> list[tuple[str, float]]:
        """As :meth:`DetectionPredictor.lint`, one pass of the network per word."""
        from promptzoo.text.attributes.builder import lint

        return lint(lambda texts: [float(one.scores.max(initial=0.0)) for one in self._ask(state, texts)], text)

    def _ask(self, state: DetectionState, texts: Sequence[str]) -> list[Boxes]:
        fresh = [text for text in dict.fromkeys(texts) if text not in state.asked]
        for text in fresh:
            state.asked[text] = self._run(state, text)
        return [state.asked[text] for text in texts]

    def _run(self, state: DetectionState, text: str) -> Boxes:
        """Boxes of one text. Grounding DINO wants lower case and a full stop at the end."""
        shown = Image.fromarray((state.picture.rgb * 255).round().astype(np.uint8))
        asked: Any = f"{text.lower().rstrip('.')}." if self.grounding else [[text]]
        given = self.processor(images=shown, text=asked, return_tensors="pt")
        with torch.inference_mode():
            answer = self.model(**given)
        settings, sizes = self.detector.settings, [shown.size[::-1]]
        if self.grounding:
            told = self.processor.post_process_grounded_object_detection(
                answer, given["input_ids"], threshold=settings.least, text_threshold=settings.least,
                target_sizes=sizes)[0]
        else:
            told = self.processor.post_process_grounded_object_detection(answer, threshold=settings.least,
                                                                         target_sizes=sizes)[0]
        limit = np.array([*shown.size, *shown.size], float)
        boxes = np.clip(told["boxes"].float().numpy(), 0, limit)
        keep = (boxes[:, 2:] - boxes[:, :2] > 0.5).all(1)
        return suppressed(Boxes.of(boxes[keep], told["scores"].float().numpy()[keep]), settings.nms)
