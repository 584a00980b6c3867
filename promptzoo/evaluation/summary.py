"""From per-case records to the numbers of a results file."""
from __future__ import annotations

import os
import platform
import resource
import sys
from importlib import metadata
from typing import Any, Sequence

import numpy as np

from promptzoo import __version__
from promptzoo.evaluation.metrics import calibration, click_auc, number_of_clicks

PACKAGES = ("torch", "monai", "numpy", "scipy", "scikit-image", "numpymaxflow", "openvino", "onnxruntime", "tensorrt")


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return round(float(np.mean(known)), 4) if known else None


def _block(records: Sequence[dict]) -> dict:
    steps = records[0]["steps"]
    clicks = [n for n, step in enumerate(steps) if step.startswith("click")]
    before = clicks[0] - 1 if clicks and clicks[0] else None

    def at_clicks(record: dict, name: str) -> list[float]:
        return [record[name][n] for n in clicks]

    counts = [number_of_clicks(at_clicks(r, "dice"), before=0.0 if before is None else r["dice"][before])
              for r in records] if clicks else []
    return {
        "n": len(records),
        "dice": [_mean([r["dice"][n] for r in records]) for n in range(len(steps))],
        "nsd": [_mean([r["nsd"][n] for r in records]) for n in range(len(steps))],
        "noc90": _mean(counts),
        "noc90_unreached": sum(count > len(clicks) for count in counts) if clicks else None,
        "dsc_auc": _mean([click_auc(at_clicks(r, "dice")) for r in records]),
        "nsd_auc": _mean([click_auc(at_clicks(r, "nsd")) for r in records]),
        "seconds_p50": [round(float(np.median([r["seconds"][n] for r in records])), 4) for n in range(len(steps))],
    }


def summarise(records: Sequence[dict]) -> dict:
    """Means over cases.

    Args:
        records: entries of ``cases`` (:meth:`promptzoo.evaluation.protocols.Trial.record`) of one protocol.

    Returns:
        ``steps`` (their names), ``n``, ``dice`` and ``nsd`` (mean per step), ``noc90`` (mean clicks to Dice 0.90; a
        case that never gets there counts N + 1), ``noc90_unreached`` (how many), ``dsc_auc`` and ``nsd_auc`` (None with
        fewer than five clicks), ``seconds_p50``, and ``by_modality`` with the same per modality. Without records:
        ``{"n": 0, "dice": [], …}``.
    """
    if not records:
        return {"steps": [], "n": 0, "dice": [], "nsd": [], "noc90": None, "noc90_unreached": None, "dsc_auc": None,
                "nsd_auc": None, "seconds_p50": [], "by_modality": {}}
    groups: dict[str, list[dict]] = {}
    for record in records:
        groups.setdefault(record["modality"], []).append(record)
    return {"steps": list(records[0]["steps"]), **_block(records),
            "by_modality": {name: _block(groups[name]) for name in sorted(groups)}}


def calibrate(records: Sequence[dict]) -> dict:
    """:func:`promptzoo.evaluation.metrics.calibration` of the estimated Dice over all steps of all cases."""
    estimated, true = [], []
    for record in records:
        for guess, value in zip(record.get("estimated_dice", ()), record["dice"]):
            estimated.append(guess)
            true.append(value)
    block = calibration(estimated, true)
    return {key: round(v, 4) if isinstance(v, float) else v for key, v in block.items()}


def versions() -> dict[str, str]:
    """Versions of promptzoo, Python and the packages that can change a number; absent packages are left out."""
    found = {"promptzoo": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """What the run was made on: processor, usable cores, memory, GPU if torch is loaded and sees one, peak memory."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            model = next((line.split(":", 1)[1].strip() for line in stream if line.startswith("model name")), model)
    except OSError:
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    unit = 1 if sys.platform == "darwin" else 1024
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) * unit
    block: dict[str, Any] = {"cpu": model, "cores": cores, "system": platform.platform(),
                             "peak_rss_mb": round(peak / 2 ** 20, 1)}
    try:
        block["memory_gb"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2 ** 30, 1)
    except (ValueError, OSError, AttributeError):
        pass
    torch = sys.modules.get("torch")
    if torch is not None:
        block["torch_threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            block["gpu"] = torch.cuda.get_device_name()
    return block
