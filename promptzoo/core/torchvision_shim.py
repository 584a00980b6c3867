"""torchvision built for CUDA beside a torch built for the CPU.

The package index serves torchvision with CUDA operators only. Beside ``torch +cpu`` its library cannot be loaded, so
that the schemas of its operators are missing and its import ends with ``operator torchvision::nms does not exist``;
MONAI Label, transformers' SamModel, peft and open_clip fail with it. Declaring the two schemas that torchvision
registers fake kernels for cures the import. The operators themselves (nms, roi_align) stay unavailable in that
combination. With a matching pair nothing is done.
"""
from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

SCHEMAS = ("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
           "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
_library: list[Any] = []  # a torch.library.Library withdraws its schemas when it is collected


def built_for_cuda() -> bool:
    """Whether the installed torchvision says that it was built for CUDA; read without importing it."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    try:
        text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return False
    return "+cu" in text.partition("git_version")[0]


def declare_operators() -> bool:
    """Declare the operator schemas if torch has no CUDA and torchvision was built for it; call before its first import.

    Returns:
        Whether the schemas are declared now.
    """
    if _library:
        return True
    if "torchvision" in sys.modules or not built_for_cuda():
        return False
    torch = importlib.import_module("torch")
    if torch.version.cuda is not None:
        return False
    try:
        library = torch.library.Library("torchvision", "DEF")
    except RuntimeError:  # somebody else declared them
        return False
    for schema in SCHEMAS:
        library.define(schema)
    _library.append(library)
    return True
