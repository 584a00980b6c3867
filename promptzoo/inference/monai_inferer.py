"""The predictor as a MONAI inferer, so that ``python -m monai.bundle run`` segments with prompts."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Mapping, Sequence

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer

from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.inference.interactive import InteractivePredictor
from promptzoo.inference.propagation import Propagation
from promptzoo.inference.zoom import Network, ZoomSettings
from promptzoo.networks.interactive_unet import FusedForward
from promptzoo.prompts.types import PromptSet


class TorchNetwork:
    """A torch network as the plain callable that predictors use.

    Args:
        network: module with ``decode(fused) -> (logits, estimated-Dice logits)``.
        device: where it runs.
    """

    def __init__(self, network: Any, device: torch.device | str | None = None) -> None:
        self.network = network
        self.device = torch.device(device) if device is not None else next(network.parameters()).device

    def __call__(self, fused: np.ndarray) -> Sequence[np.ndarray]:
        """``[B, 1 + P, *S]`` to logits ``[B, 1, *S]`` and estimated Dice ``[B, 1]``, float32."""
        self.network.eval()
        with torch.inference_mode():
            logits, quality = self.network.decode(torch.from_numpy(fused).to(self.device))
        return logits.float().cpu().numpy(), torch.sigmoid(quality.float()).cpu().numpy()


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a network that an engine compiles.

    Args:
        module: in eval mode, positional float32 tensors in.
        example: its inputs.
        masks: which outputs are mask logits.
        samples: makes inputs to calibrate int8 on; None if there are none.
        float_only: stays in floating point where int8 is asked of the others.
    """

    module: torch.nn.Module
    example: tuple[torch.Tensor, ...]
    masks: tuple[int, ...] = (0,)
    samples: Callable[[], Sequence[tuple[np.ndarray, ...]]] | None = None
    float_only: bool = False

    def options(self, precision: str) -> dict[str, Any]:
        """Arguments ``precision`` and ``calibration`` for the engine of this part, asked for a precision."""
        if precision == "int8" and self.float_only:
            precision = "auto"
        samples = self.samples if precision == "int8" else None
        return {"precision": precision, "calibration": samples() if samples else None}


class InteractiveInferer(Inferer):
    """Inferer of the interactive-refinement bundles.

    Args:
        dimensions: 2 or 3.
        settings: arguments of :class:`promptzoo.inference.zoom.ZoomSettings`.
        calibration: see :class:`promptzoo.inference.interactive.InteractivePredictor`.
        overlap: owner of voxels claimed by several objects: ``last``, ``first`` or ``probability``.
        priors: names of the network's prior channels, see :data:`promptzoo.inference.interactive.PRIOR_PREFIX`.
        propagation: arguments of :class:`promptzoo.inference.propagation.Propagation`, for 2D bundles on volumes.
    """

    def __init__(self, dimensions: int, settings: Mapping[str, Any] | None = None,
                 calibration: Mapping[str, Sequence[float]] | None = None, overlap: str = "last",
                 priors: Sequence[str] = (), propagation: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.propagation = Propagation(**(propagation or {}))
        self.priors = tuple(priors)
        self.dimensions, self.overlap, self.calibration = dimensions, overlap, calibration
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in (settings or {}).items()}
        self.settings = ZoomSettings(**values)

    def predictor(self, network: Network, name: str = "interactive_refinement",
                  engine: str = "torch") -> InteractivePredictor:
        """The predictor with these settings around a plain or compiled network."""
        return InteractivePredictor(network, self.dimensions, self.settings, self.calibration, name, engine,
                                    priors=self.priors, propagation=self.propagation)

    def wrap(self, network: Any) -> Any:
        """A torch network as what :meth:`predictor` takes."""
        return TorchNetwork(network)

    def parts(self, network: Any) -> dict[str, Part]:
        """What engines compile."""
        channels = 1 + int(network.prompt_channels)
        example = torch.zeros((1, channels, *(self.settings.window,) * self.dimensions))
        return {"network": Part(FusedForward(network).eval(), (example,))}

    def assemble(self, compiled: Mapping[str, Any]) -> Any:
        """The compiled parts as what :meth:`predictor` takes."""
        return compiled["network"]

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, prompts: Sequence[str] | None = None,
                 **kwargs: Any) -> torch.Tensor:
        """Segment images.

        Args:
            inputs: ``[B, 1, i, j, k]`` or ``[B, 1, i, j]`` intensities; a ``MetaTensor`` brings its affine.
            network: the bundle's network.
            prompts: JSON of one prompt set per image; None for images without prompts.

        Returns:
            Label maps ``[B, 1, *N]`` float32 on the images' own grids, voxel value = object id.
        """
        predictor = self.predictor(self.wrap(network))
        results = []
        for n, image in enumerate(inputs):
            data = np.asarray(image[0].detach().cpu().numpy(), dtype=np.float32)
            affine = np.eye(4)
            if isinstance(inputs, MetaTensor):
                stacked = np.asarray(inputs.affine, dtype=float)
                affine = stacked[n] if stacked.ndim == 3 else stacked
            volume = Volume(data if data.ndim == 3 else data[..., None], Grid((*data.shape, 1)[:3], affine))
            chosen = PromptSet.from_json(prompts[n]) if prompts is not None else PromptSet()
            labels = predictor.decode(predictor.encode(volume), chosen).labelmap(self.overlap)
            results.append(torch.from_numpy(labels.reshape(data.shape).astype(np.float32))[None])
        stacked = torch.stack(results).to(inputs.device)
        return MetaTensor(stacked).copy_meta_from(inputs) if isinstance(inputs, MetaTensor) else stacked
