"""CXR-BERT's layout without running the code that comes with its weights.

A BERT whose first token goes through a projection head (Boecking et al., "Making the Most of Text Semantics to Improve
Biomedical Vision-Language Processing", ECCV 2022, section 2.1). Its files name the model type ``cxr-bert``, which
transformers does not know.
"""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Mapping

import torch
from torch import nn
from torch.nn import functional

from promptzoo.core.errors import BundleError, NotFoundError, complain
from promptzoo.core.optional import require

TYPE = "cxr-bert"


class ProjectionHead(nn.Module):
    """Linear, GELU, layer norm, linear: ``[N, hidden]`` to ``[N, projection]``."""

    def __init__(self, hidden: int, projection: int) -> None:
        super().__init__()
        self.dense_to_hidden = nn.Linear(hidden, projection)
        self.LayerNorm = nn.LayerNorm(projection, eps=1e-12)
        self.dense_to_output = nn.Linear(projection, projection)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """First token's state to the vector that texts are compared by."""
        return self.dense_to_output(self.LayerNorm(functional.gelu(self.dense_to_hidden(states))))


class CxrBert(nn.Module):
    """The text model: a BERT, and the head on its first token.

    Args:
        config: a ``BertConfig``.
        projection: length of a vector.
    """

    def __init__(self, config: Any, projection: int) -> None:
        super().__init__()
        self.config = config
        self.bert = require("transformers", "CXR-BERT").BertModel(config, add_pooling_layer=False)
        self.cls_projection_head = ProjectionHead(config.hidden_size, projection)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def forward(self, **tokens: torch.Tensor) -> dict[str, torch.Tensor]:
        """``last_hidden_state`` ``[N, L, hidden]`` and ``cls_projected_embedding`` ``[N, projection]``."""
        states = self.bert(**tokens).last_hidden_state
        return {"last_hidden_state": states, "cls_projected_embedding": self.cls_projection_head(states[:, 0])}

    @classmethod
    def load(cls, folder: Path) -> "CxrBert":
        """From a folder with ``config.json`` and ``model.safetensors`` or ``pytorch_model.bin``.

        Raises:
            NotFoundError: if there are no weights.
            BundleError: if weights are missing for a part of the model.
        """
        told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        transformers = require("transformers", "CXR-BERT")
        model = cls(transformers.BertConfig(**{k: v for k, v in told.items() if k != "model_type"}),
                    int(told.get("projection_size", 128)))
        weights = {k: v for k, v in _weights(folder).items() if k.startswith(("bert.", "cls_projection_head."))}
        missing = [key for key in model.load_state_dict(weights, strict=False).missing_keys
                   if not key.endswith("position_ids")]
        if missing:
            raise BundleError(complain(f"weights of {folder.name}", f"without {', '.join(missing[:3])}",
                                       "bert.* and cls_projection_head.*"))
        return model.eval()


def is_cxr_bert(folder: Path) -> bool:
    """Whether a folder holds a model of this kind."""
    config = folder / "config.json"
    return config.is_file() and json.loads(config.read_text(encoding="utf-8")).get("model_type") == TYPE


def _weights(folder: Path) -> Mapping[str, torch.Tensor]:
    if (folder / "model.safetensors").is_file():
        from safetensors.torch import load_file

        return load_file(folder / "model.safetensors")
    if (folder / "pytorch_model.bin").is_file():
        return torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)
    raise NotFoundError(complain("weights", str(folder), "model.safetensors or pytorch_model.bin in it"))
