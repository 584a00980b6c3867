"""Class prompts for a frozen encoder: the structures that a bundle ships, and those that a person taught it."""
from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

import numpy as np
import torch
from monai.inferers import Inferer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from scipy.special import expit
from torch import nn

from promptzoo.core.errors import BundleError, complain
from promptzoo.core.learned import KEY, header, learned_prompts, stamp
from promptzoo.core.protocols import ObjectPrediction
from promptzoo.inference.classes import ClassInferer, ClassPredictor
from promptzoo.inference.monai_inferer import Part
from promptzoo.inference.state import EncodedImage
from promptzoo.networks.prompt_tuned import LearnedPrompt, PromptsForward
from promptzoo.prompts.types import PromptSet

Arrays = Sequence[np.ndarray]


def save_prompt(prompt: nn.Module, record: Mapping[str, Any], path: Path) -> None:
    """Write a learned prompt, in half precision, with its record in the header; atomically.

    Args:
        prompt: what was learned; its state is written.
        record: JSON-able: ``name``, ``bundle``, ``base`` (``sha256``), ``cases``, ``held_out`` …
        path: safetensors file; its folder is created.
    """
    state = {name: value.detach().half().contiguous() for name, value in prompt.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".tmp")
    save_file(state, str(fresh), {KEY: json.dumps(dict(record), ensure_ascii=False)})
    fresh.replace(path)


def load_prompt(path: Path) -> LearnedPrompt:
    """A learned prompt from its file, in eval mode; sizes are read off the tensors.

    Raises:
        BundleError: if the file is no learned prompt.
    """
    try:
        state = {name: value.float() for name, value in load_file(str(path)).items()}
        sets, tokens, _ = state["tokens"].shape
        prompt = LearnedPrompt(tokens, sets, 8 * (state["fine.weight"].shape[1] - tokens))
        prompt.load_state_dict(state)
    except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
        raise BundleError(complain("learned prompt", f"{path}: {str(error).splitlines()[0]}",
                                   "a file that promptzoo learn wrote")) from error
    return prompt.requires_grad_(False).eval()


@dataclass(frozen=True, eq=False)
class LearnedParts:
    """A frozen encoder and the shipped structures as plain callables.

    Args:
        encode: windows ``[B, 1, S, S]`` to the encoder's outputs.
        shipped: its first three outputs to logits ``[B, classes * sets, S/4, S/4]``.
    """

    encode: Callable[[np.ndarray], Arrays]
    shipped: Callable[..., np.ndarray]


class LearnedPredictor(ClassPredictor):
    """Answers class prompts, slice by slice on volumes; an image is encoded once for any number of structures.

    Learned prompts are looked up at every request: one that was added answers at once, one that was removed is gone.

    Args:
        parts: encoder and shipped structures.
        classes: names of the shipped structures.
        window: side of the network's window.
        name: of the bundle, in whose folder learned prompts lie.
        engine: for the answer.
        base_sha256: of the frozen weights; prompts learned on others are not known.
    """

    prompt_kinds = frozenset({"class"})

    def __init__(self, parts: LearnedParts, classes: Sequence[str], window: int, name: str, engine: str,
                 base_sha256: str | None) -> None:
        super().__init__(parts.encode, classes, window, name, engine)
        self.parts, self.shipped, self.base_sha256 = parts, tuple(classes), base_sha256
        self._loaded: dict[tuple[Path, int], LearnedPrompt] = {}

    def depends_on(self, prompts: PromptSet) -> str:
        """What of the learned prompts that are asked for may change: their files and when these were written."""
        asked = {" ".join(prompt.name.lower().split()) for prompt in prompts.of("class")} - set(self.shipped)
        return stamp(asked, self.name, self.base_sha256)

    def channel(self, name: str) -> int:
        """The number of a class among the shipped ones and then the learned ones; see :class:`ClassPredictor`."""
        self.learned = learned_prompts(self.name, self.base_sha256)
        self.classes = self.shipped + tuple(one for one in self.learned if one not in self.shipped)
        return super().channel(name)

    def _seen(self, views: np.ndarray) -> list[Any]:
        parts = [np.asarray(part, np.float16) for part in self.network(views)[:3]]
        return [tuple(part[n] for part in parts) for n in range(len(views))]

    def _chance(self, values: Any, channels: Sequence[int], cut: Sequence[int]) -> np.ndarray:
        sets = self.logits_of(values, channels)
        return expit(sets.mean(1)).max(0)

    def logits_of(self, values: Arrays, channels: Sequence[int]) -> np.ndarray:
        """Logits ``[len(channels), sets, S/4, S/4]`` of some classes on one slice, as the sets of tokens answer."""
        inputs, found = [np.asarray(part, np.float32)[None] for part in values], []
        own = self.parts.shipped(*inputs)[0] if min(channels) <= len(self.shipped) else None
        for channel in channels:
            if channel <= len(self.shipped):
                count = len(own) // len(self.shipped)
                found.append(own[(channel - 1) * count:channel * count])
                continue
            with torch.inference_mode():
                prompt = self._prompt(self.learned[self.classes[channel - 1]])
                found.append(prompt(*map(torch.from_numpy, inputs))[0].numpy())
        return np.stack([one for one in found]) if len({len(one) for one in found}) == 1 else np.stack(
            [one.mean(0, keepdims=True) for one in found])

    def _prompt(self, path: Path) -> LearnedPrompt:
        key = (path, path.stat().st_mtime_ns)
        if key not in self._loaded:
            self._loaded = {old: prompt for old, prompt in self._loaded.items() if old[0].is_file() and old[0] != path}
            self._loaded[key] = load_prompt(path)
        return self._loaded[key]

    def _answer(self, state: EncodedImage, object_id: int, channels: Sequence[int], cut: Sequence[int], note: str,
                logits: Sequence[Any] | None) -> ObjectPrediction:
        answer = super()._answer(state, object_id, channels, cut, note, logits)
        told = [self.logits_of(values, channels) for values in logits or ()]
        return replace(answer, info={**answer.info, "disagreement": round(disagreement(told), 4)})


def disagreement(logits: Sequence[np.ndarray]) -> float:
    """How little the sets of tokens agree on an image: 1 less the mean Dice of their pairs, over all slices.

    Args:
        logits: per slice ``[..., sets, h, w]``.

    Returns:
        In [0, 1]; 0 for a single set, 1 where no two agree or none finds anything.
    """
    masks = [np.moveaxis(np.asarray(one) >= 0, -3, 0).reshape(one.shape[-3], -1) for one in logits]
    if not masks or len(masks[0]) < 2:
        return 0.0
    sets = np.concatenate(masks, 1)
    pairs = [(a, b) for n, a in enumerate(sets) for b in sets[:n]]
    return 1.0 - float(np.mean([2 * (a & b).sum() / max(a.sum() + b.sum(), 1) for a, b in pairs]))


class LearnedInferer(ClassInferer):
    """The predictor as a MONAI inferer.

    Args:
        classes, window, overlap: see :class:`promptzoo.inference.classes.ClassInferer`.
        weights: the bundle's delta, whose header names the frozen weights.
    """

    def __init__(self, classes: Sequence[str], window: int = 256, overlap: str = "probability",
                 weights: str = "") -> None:
        Inferer.__init__(self)
        self.classes, self.window, self.overlap, self.weights = tuple(classes), window, overlap, Path(weights)

    def predictor(self, network: LearnedParts, name: str = "prompt_tuned_seg",
                  engine: str = "torch") -> LearnedPredictor:
        """The predictor around a plain or compiled network."""
        sha = header(self.weights).get("sha256") if self.weights.is_file() else None
        return LearnedPredictor(network, self.classes, self.window, name, engine, sha)

    def wrap(self, network: Any) -> LearnedParts:
        """A torch network as what :meth:`predictor` takes."""
        return LearnedParts(partial(_called, network.image_encoder), partial(_called, PromptsForward(network)))

    def parts(self, network: Any) -> dict[str, Part]:
        """What engines compile: the frozen encoder. The structures are tiny and stay in torch."""
        self._prompts = PromptsForward(network)
        return {"image_encoder": Part(network.image_encoder.eval(), (torch.zeros(1, 1, self.window, self.window),),
                                      ())}

    def assemble(self, compiled: Mapping[str, Any]) -> LearnedParts:
        """The compiled encoder, and the structures of the network that :meth:`parts` was last asked for."""
        return LearnedParts(compiled["image_encoder"], partial(_called, self._prompts))


def _called(module: torch.nn.Module, *inputs: np.ndarray) -> Any:
    """A torch module on arrays, where its parameters are."""
    place = next(module.parameters()).device
    with torch.inference_mode():
        found = module.eval()(*(torch.from_numpy(one).to(place) for one in inputs))
    return [one.float().cpu().numpy() for one in found] if isinstance(found, tuple) else found.float().cpu().numpy()
