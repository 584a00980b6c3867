"""How the authors of public weights prepare images, and where prompts lie in them.

Pictures are ``[H, W]`` grey, rows from the top; places are (x, y) in pixels, pixel centres at integers. Each function
was checked against the code named in its docstring.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from skimage.transform import resize

CT_WINDOW = (-160.0, 240.0)
"""Level 40, width 400 Hounsfield units: the soft-tissue window of MedSAM's ``pre_CT_MR.py``."""


@dataclass(frozen=True)
class Frame:
    """How a picture lies in the network's square image.

    Args:
        size: side of the network's image in pixels.
        original: height and width of the picture.
        inner: height and width that the picture takes in the network's image, from its upper left corner.
        whole: whether places are cut to whole pixels.
        steps: how logits become a mask: ``frame`` over the network's image, ``inner`` over the picture's part of the
            low-resolution mask, ``direct``, or ``chance`` (probabilities are enlarged, not logits).
    """

    size: int
    original: tuple[int, int]
    inner: tuple[int, int]
    whole: bool = False
    steps: str = "direct"

    def places(self, points: np.ndarray) -> np.ndarray:
        """Places ``[..., 2]`` of the picture in the network's image, float32."""
        ratio = np.array([self.inner[1] / self.original[1], self.inner[0] / self.original[0]])
        if self.whole:  # one ratio for both axes, as LiteMedSAM's resize_box_to_256
            return np.trunc(np.asarray(points) * (self.size / max(self.original))).astype(np.float32)
        return (np.asarray(points) * ratio).astype(np.float32)

    def chance(self, logits: np.ndarray) -> np.ndarray:
        """Low-resolution logits ``[m, m]`` to probabilities ``[H, W]`` of the picture, float32."""
        value = torch.from_numpy(np.ascontiguousarray(logits, dtype=np.float32))[None, None]
        height, width = self.inner
        if self.steps == "frame":
            value = F.interpolate(value, (self.size, self.size), mode="bilinear", align_corners=False)
            value = value[..., :height, :width]
        elif self.steps == "inner":
            value = value[..., :height, :width]
        elif self.steps == "chance":
            value = value.sigmoid()
        value = F.interpolate(value, self.original, mode="bilinear", align_corners=False)
        return (value if self.steps == "chance" else value.sigmoid())[0, 0].numpy()

    def low_resolution(self, mask: np.ndarray, side: int) -> np.ndarray:
        """A picture's map ``[H, W]`` as the network's low-resolution map ``[side, side]``, zero where it has none."""
        height, width = (max(1, round(n * side / self.size)) for n in self.inner)
        value = torch.from_numpy(np.ascontiguousarray(mask, dtype=np.float32))[None, None]
        small = F.interpolate(value, (height, width), mode="bilinear", align_corners=False, antialias=True)[0, 0]
        return np.pad(small.numpy(), ((0, side - height), (0, side - width)))


def to_bytes(data: np.ndarray, hounsfield: bool, window: tuple[float, float] = CT_WINDOW,
             percentiles: tuple[float, float] = (0.5, 99.5)) -> np.ndarray:
    """A whole image's intensities as whole numbers from 0 to 255, as in MedSAM's ``utils/pre_CT_MR.py``.

    CT is cut to ``window``; other images between ``percentiles`` of their voxels above 0, and what is exactly 0 stays
    0. Then the lowest value is 0 and the highest 255.

    Args:
        data: ``[*N]`` intensities.
        hounsfield: whether they are Hounsfield units.
        window: black and white in Hounsfield units.
        percentiles: lower and upper.

    Returns:
        ``[*N]`` float32, whole numbers; zeros for an image of one value.
    """
    if hounsfield:
        low, high = window
    else:
        inside = data[data > 0]
        low, high = np.percentile(inside if inside.size else data, percentiles)
    black, white = (float(np.clip(value, low, high)) for value in (data.min(), data.max()))
    grey = np.zeros(data.shape, dtype=np.float32)
    for n, part in enumerate(data if white > black else ()):  # a slab at a time: volumes are large in double precision
        grey[n] = np.floor((np.clip(np.asarray(part, dtype=np.float64), low, high) - black) / (white - black) * 255.0)
    if not hounsfield:
        grey[data == 0] = 0
    return grey


def longest_side(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width whose longer one is ``size``, rounded half up (``ResizeLongestSide`` of segment-anything)."""
    scale = size / max(height, width)
    return int(height * scale + 0.5), int(width * scale + 0.5)


def padded(picture: np.ndarray, size: int) -> np.ndarray:
    """``[C, h, w]`` with zeros below and to the right, up to ``size``."""
    return np.pad(picture, ((0, 0), (0, size - picture.shape[1]), (0, size - picture.shape[2])))


def _rgb(picture: np.ndarray, mean: Any, std: Any) -> np.ndarray:
    """Grey ``[h, w]`` as three channels ``[3, h, w]``, normalised."""
    return ((picture[None] - np.asarray(mean)[:, None, None]) / np.asarray(std)[:, None, None]).astype(np.float32)


def area_weights(before: int, after: int) -> np.ndarray:
    """``[after, before]`` shares of old pixels in new ones: the mean over areas, also for enlargement (as OpenCV)."""
    edges, step = np.arange(after)[:, None] * before / after, before / after
    low, high = np.maximum(edges, np.arange(before)), np.minimum(edges + step, np.arange(before) + 1.0)
    return np.clip(high - low, 0, None) / step


def sam(picture: np.ndarray, size: int, mean: Any, std: Any) -> tuple[np.ndarray, Frame]:
    """segment-anything ``utils/transforms.py`` and ``modeling/sam.py``: longest side, normalise, pad with zeros."""
    height, width = longest_side(*picture.shape, size)
    grey = Image.fromarray(picture.astype(np.uint8)).resize((width, height), Image.Resampling.BILINEAR)
    frame = Frame(size, picture.shape, (height, width), steps="frame")
    return padded(_rgb(np.asarray(grey, dtype=np.float64), mean, std), size), frame


def sam2(picture: np.ndarray, size: int, mean: Any, std: Any) -> tuple[np.ndarray, Frame]:
    """SAM 2 ``utils/transforms.py``: 0 to 1, squash to a square (bilinear, anti-aliased), normalise."""
    value = torch.from_numpy((picture / 255.0).astype(np.float32))[None, None]
    grey = F.interpolate(value, (size, size), mode="bilinear", align_corners=False, antialias=True)[0, 0].numpy()
    return _rgb(grey, mean, std), Frame(size, picture.shape, (size, size))


def medsam(picture: np.ndarray, size: int) -> tuple[np.ndarray, Frame]:
    """MedSAM ``MedSAM_Inference.py``: squash to a square (cubic, anti-aliased), whole numbers, minimum 0, maximum 1."""
    grey = resize(picture.astype(np.uint8), (size, size), order=3, preserve_range=True, anti_aliasing=True)
    grey = grey.astype(np.uint8).astype(np.float64)
    grey = (grey - grey.min()) / max(grey.max() - grey.min(), 1e-8)
    return np.repeat(grey[None].astype(np.float32), 3, 0), Frame(size, picture.shape, (size, size), steps="chance")


def litemedsam(picture: np.ndarray, size: int) -> tuple[np.ndarray, Frame]:
    """LiteMedSAM ``CVPR24_LiteMedSAM_infer.py``: longest side (mean over areas), minimum 0, maximum 1, pad with zeros.

    OpenCV's rounding to whole grey levels is followed to one level.
    """
    height, width = longest_side(*picture.shape, size)
    rows, columns = area_weights(picture.shape[0], height), area_weights(picture.shape[1], width)
    grey = np.rint(rows @ picture.astype(np.float64) @ columns.T)
    grey = (grey - grey.min()) / max(grey.max() - grey.min(), 1e-8)
    frame = Frame(size, picture.shape, (height, width), whole=True, steps="inner")
    return padded(np.repeat(grey[None].astype(np.float32), 3, 0), size), frame


def sam_med2d(picture: np.ndarray, size: int, mean: Any, std: Any) -> tuple[np.ndarray, Frame]:
    """SAM-Med2D ``segment_anything/predictor_sammed.py``: normalise, squash to a square (nearest neighbour)."""
    rows, columns = ((np.arange(size) * n // size) for n in picture.shape)
    frame = Frame(size, picture.shape, (size, size), steps="frame")
    return _rgb(picture[np.ix_(rows, columns)], mean, std), frame


PREPARATIONS: dict[str, Callable[..., tuple[np.ndarray, Frame]]] = {
    "sam": sam, "sam2": sam2, "medsam": medsam, "litemedsam": litemedsam, "sam_med2d": sam_med2d}
"""2D kinds of ``preprocessing`` in the descriptions."""


def prepared(picture: np.ndarray, how: Mapping[str, Any]) -> tuple[np.ndarray, Frame]:
    """A picture ``[H, W]`` of whole numbers 0 to 255 as a network's image ``[3, S, S]`` float32, and where it lies.

    Args:
        picture: see :func:`to_bytes`.
        how: ``preprocessing`` of a 2D description.
    """
    numbers = {name: how[name] for name in ("mean", "std") if name in how}
    return PREPARATIONS[how["kind"]](picture, how["size"], **numbers)


def centred_cube(data: np.ndarray, centre: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The cube of ``size``³ voxels with ``centre`` in its middle, zeros beyond the image (TorchIO's CropOrPad).

    Args:
        data: ``[i, j, k]``.
        centre: voxel that becomes voxel ``size // 2`` of the cube, rounded.
        size: side in voxels.

    Returns:
        The cube float32, and the voxel of ``data`` at which it starts ``[3]`` (may be negative).
    """
    start = np.rint(centre).astype(int) - size // 2
    cube = np.zeros((size,) * 3, dtype=np.float32)
    low, high = np.maximum(start, 0), np.minimum(start + size, data.shape)
    if (high > low).all():
        cube[tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start))] = data[
            tuple(slice(a, b) for a, b in zip(low, high))]
    return cube, start


def z_normalised(cube: np.ndarray) -> np.ndarray:
    """``(v - mean) / std`` with both of the voxels above 0 (TorchIO's ZNormalization as in SAM-Med3D's
    ``utils/infer_utils.py``; std over n - 1). A cube without such voxels, or of one value, only loses the mean."""
    inside = cube[cube > 0].astype(np.float64)
    if not inside.size:
        return cube
    spread = inside.std(ddof=1) if inside.size > 1 else 0.0
    return ((cube - inside.mean()) / (spread if spread > 0 else 1.0)).astype(np.float32)
