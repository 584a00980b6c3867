"""Text towers of transformers: BERT-like (PubMedBERT, CXR-BERT …) and the text half of CLIP."""
from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from promptzoo.core.autoload import mend_imports
from promptzoo.core.errors import NotFoundError, PromptZooError, complain
from promptzoo.core.optional import require
from promptzoo.text.towers.cxr_bert import CxrBert, is_cxr_bert
from promptzoo.text.towers.protocol import unit

POOLS = ("auto", "projection", "cls", "mean")


class TransformersTower:
    """A text model of transformers with its tokenizer.

    Args:
        model: takes ``input_ids`` and ``attention_mask``.
        tokenizer: of the model.
        name: tells towers with different vectors apart.
        pool: ``projection``: the model's own text vector (CLIP's ``text_embeds``, CXR-BERT's
            ``cls_projected_embedding``); ``cls``: the first token's; ``mean``: the mean over tokens; ``auto``: the
            first of ``projection``, the pooled output of CLIP, ``cls`` that the model has.
        most_tokens: longer texts are cut.

    Raises:
        PromptZooError: for an unknown pool, or ``projection`` where the model has none.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str, pool: str = "auto", most_tokens: int = 77) -> None:
        if pool not in POOLS:
            raise PromptZooError(complain("pooling of the text tower", pool, ", ".join(POOLS)))
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        self.pool, self.most_tokens = pool, most_tokens
        self.dim = int(self._vectors(["a"]).shape[1])

    @classmethod
    def load(cls, source: str | Path, pool: str = "auto", offline: bool | None = None) -> "TransformersTower":
        """From a local folder as ``save_pretrained`` writes it, or by a name of the hub.

        Args:
            source: the folder, or the name.
            pool: see :class:`TransformersTower`.
            offline: whether only files on this machine are used, the hub's cache included. Default: True, unless
                ``$HF_HUB_OFFLINE`` is ``0``. Code that comes with a model is never run.

        Raises:
            NotFoundError: if there are no such files.
            PromptZooError: if the model is not a text model.
        """
        mend_imports()  # transformers imports torchvision
        transformers = require("transformers", "A text tower of transformers")
        if offline is None:
            offline = os.environ.get("HF_HUB_OFFLINE", "1") not in ("0", "false", "")
        place = Path(source).expanduser()
        where = str(place) if place.is_dir() else str(source)
        if place.is_dir() and is_cxr_bert(place):
            tokenizer = transformers.BertTokenizerFast.from_pretrained(where)
            return cls(CxrBert.load(place), tokenizer, f"transformers:{place.name}", pool, 256)
        try:
            config = transformers.AutoConfig.from_pretrained(where, local_files_only=offline)
            tokenizer = transformers.AutoTokenizer.from_pretrained(where, local_files_only=offline)
            model = _class(transformers, config).from_pretrained(where, local_files_only=offline)
        except (OSError, ValueError) as error:
            raise NotFoundError(complain("text model", f"{source} ({' '.join(str(error).split())[:120]})",
                                         "a folder with config.json, weights and tokenizer, or a model in the hub's "
                                         "cache", "Set HF_HUB_OFFLINE=0 where there is a network")) from error
        most = min(77 if config.model_type.startswith("clip") else 256, _most(tokenizer, config))
        return cls(model, tokenizer, f"transformers:{place.name}", pool, most)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors ``[N, dim]`` float32 of length 1, in the order of the texts."""
        if not len(texts):
            return np.zeros((0, self.dim), np.float32)
        return unit(np.concatenate([self._vectors(list(texts[n:n + 64])) for n in range(0, len(texts), 64)]))

    def _vectors(self, texts: list[str]) -> np.ndarray:
        import torch

        tokens = self.tokenizer(texts, padding=True, truncation=True, max_length=self.most_tokens, return_tensors="pt")
        tokens = {k: v.to(self.model.device) for k, v in tokens.items() if k in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            return self._pooled(self.model(**tokens), tokens["attention_mask"]).float().cpu().numpy()

    def _pooled(self, answer: Any, mask: Any) -> Any:
        own = next((answer[key] for key in ("text_embeds", "cls_projected_embedding") if key in answer), None)
        if self.pool == "projection" and own is None:
            raise PromptZooError(complain("pooling of the text tower", "projection",
                                          "cls, mean or auto for this model"))
        if self.pool in ("auto", "projection") and own is not None:
            return own
        if self.pool == "auto" and "CLIP" in type(self.model).__name__:
            return answer["pooler_output"]
        states = answer["last_hidden_state"]
        if self.pool == "mean":
            weights = mask[..., None].to(states.dtype)
            return (states * weights).sum(1) / weights.sum(1).clamp(min=1)
        return states[:, 0]


def _class(transformers: Any, config: Any) -> Any:
    """The class that reads the text half of a model."""
    if config.model_type in ("clip", "clip_text_model"):
        return transformers.CLIPTextModelWithProjection
    return transformers.AutoModel


def _most(tokenizer: Any, config: Any) -> int:
    """Tokens that the model takes."""
    text = getattr(config, "text_config", config)
    return min(int(tokenizer.model_max_length), int(getattr(text, "max_position_embeddings", 512)))
