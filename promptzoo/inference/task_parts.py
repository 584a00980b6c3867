"""What stands between a network of many tasks and those who ask it: plain functions, what is kept, files of rows."""
from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Sequence

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from promptzoo.core.errors import BundleError, complain


@dataclass(frozen=True, eq=False)
class TaskParts:
    """The network as plain functions of arrays.

    Args:
        encode: views ``[B, 1, S, S]`` and modalities ``[B, M]`` (None for networks that take none) to maps.
        decode: rows ``[B, numbers]`` and maps to logits ``[B, 1 + C, S/2, S/2]``.
        route: views to logits ``[B, tasks]``.
        rows: of the tasks, ``[tasks, numbers]``.
        fresh: a new structure's row before it is tuned, and which of its numbers a file holds.
        modalities: of the tasks, ``[tasks, M]``; None for networks that take none.
    """

    encode: Callable[..., Sequence[np.ndarray]]
    decode: Callable[..., np.ndarray]
    route: Callable[[np.ndarray], np.ndarray]
    rows: np.ndarray
    fresh: tuple[np.ndarray, np.ndarray]
    modalities: np.ndarray | None = None


@dataclass(eq=False)
class Seen:
    """What is kept of an image: its views ``[n, 1, S, S]``, chances ``[tasks]``, maps by modality, logits by key."""

    views: np.ndarray
    chances: np.ndarray
    maps: dict[int, list[tuple[np.ndarray, ...]]] = field(default_factory=dict)
    logits: OrderedDict[Any, np.ndarray] = field(default_factory=OrderedDict)


def load_row(path: Path, fresh: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The row ``[numbers]`` of a learned structure, from its file.

    Args:
        path: safetensors file with ``tuned``.
        fresh: see :class:`TaskParts`.

    Raises:
        BundleError: if the file holds no such row.
    """
    row, tuned = np.array(fresh[0], np.float32), np.asarray(fresh[1], bool)
    try:
        row[tuned] = load_file(str(path))["tuned"].astype(np.float32)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise BundleError(complain("learned prompt", f"{path}: {str(error).splitlines()[0]}",
                                   "a file that promptzoo learn wrote for this bundle")) from error
    return row
