"""Text towers of open_clip: CLIP of many sizes, BiomedCLIP; the package is optional (extra ``models``)."""
from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from promptzoo.core.autoload import mend_imports
from promptzoo.core.errors import NotFoundError, complain
from promptzoo.core.optional import require
from promptzoo.text.towers.protocol import unit

BIOMEDCLIP = "hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"


class OpenClipTower:
    """The text half of an open_clip model.

    Args:
        model: has ``encode_text``.
        tokenizer: texts to token ids ``[N, L]``.
        name: tells towers with different vectors apart.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        self.dim = int(self._vectors(["a"]).shape[1])

    @classmethod
    def load(cls, model: str = BIOMEDCLIP, pretrained: str | None = None) -> "OpenClipTower":
        """By open_clip's own names.

        Args:
            model: an architecture (``ViT-B-16``), ``hf-hub:OWNER/NAME`` or ``local-dir:FOLDER``.
            pretrained: weights of an architecture: a tag, or the path of a file.

        Raises:
            MissingDependencyError: if open_clip is not installed.
            NotFoundError: if there is no such model, or its files cannot be read or fetched.
        """
        mend_imports()  # open_clip imports torchvision
        open_clip = require("open_clip", "A text tower of open_clip", "models")
        try:
            network = open_clip.create_model(model, pretrained=pretrained)
            tokenizer = open_clip.get_tokenizer(model)
        except (OSError, RuntimeError, ValueError) as error:
            raise NotFoundError(complain("open_clip model", f"{model} ({' '.join(str(error).split())[:120]})",
                                         "a name of open_clip.list_models(), hf-hub:… or local-dir:…",
                                         "Without a network give a local file or folder")) from error
        return cls(network, tokenizer, f"open_clip:{model}" + (f"@{pretrained}" if pretrained else ""))

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors ``[N, dim]`` float32 of length 1, in the order of the texts."""
        if not len(texts):
            return np.zeros((0, self.dim), np.float32)
        return unit(np.concatenate([self._vectors(list(texts[n:n + 64])) for n in range(0, len(texts), 64)]))

    def _vectors(self, texts: list[str]) -> np.ndarray:
        import torch

        with torch.inference_mode():
            place = next(self.model.parameters()).device
            return self.model.encode_text(self.tokenizer(texts).to(place)).float().cpu().numpy()
