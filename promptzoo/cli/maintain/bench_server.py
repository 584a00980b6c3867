"""How the server answers one client and sixteen at once: ``scripts/bench_server``.

Every request is one click on the procedural torso through ``/infer``, each at another voxel. The i-th of n simultaneous
requests waits for the i - 1 before it, so its time is compared with i times that of a single client.
"""
from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Sequence

import httpx
import numpy as np

from promptzoo.cli.maintain.serving import serving
from promptzoo.core.errors import PromptZooError
from promptzoo.data.phantoms import write_sample_studies
from promptzoo.evaluation.summary import hardware

MODEL = "interactive_refinement_3d"
LIMIT = 4.0
"""Most p95 of time per queued position, relative to a single client."""


def ask(url: str, image: str, voxel: Sequence[int]) -> float:
    """Seconds of one request."""
    started = time.perf_counter()
    answer = httpx.post(f"{url}/infer/{MODEL}", params={"image": image, "output": "image"}, timeout=600, data={
        "params": json.dumps({"foreground": [list(map(int, voxel))], "result_extension": ".nrrd"})})
    answer.raise_for_status()
    return time.perf_counter() - started


def measure(url: str, image: str, start: Sequence[int], clients: int = 16, rounds: int = 3) -> dict[str, Any]:
    """Ask alone, then ``rounds`` times with many at once.

    Args:
        url: of the server.
        image: image id.
        start: a voxel well inside the image.
        clients: how many at once.
        rounds: how often.

    Returns:
        Seconds and ratios.
    """
    voxels = ([start[0] + n % 9, start[1] + (n // 9) % 9, start[2] + n // 81] for n in range(10000))
    ask(url, image, next(voxels))  # encodes the image
    alone = [ask(url, image, next(voxels)) for _ in range(12)]
    single = float(np.median(alone))
    ratios: list[float] = []
    slowest = 0.0
    with ThreadPoolExecutor(clients) as pool:
        for _ in range(rounds):
            times = sorted(pool.map(lambda voxel: ask(url, image, voxel), [next(voxels) for _ in range(clients)]))
            ratios += [seconds / (position * single) for position, seconds in enumerate(times, 1)]
            slowest = max(slowest, times[-1])
    return {"clients": clients, "single_p50_s": round(single, 4), "slowest_s": round(slowest, 3),
            "per_position_p50": round(float(np.median(ratios)), 3),
            "per_position_p95": round(float(np.percentile(ratios, 95)), 3), "limit": LIMIT}


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``scripts/bench_server``; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench_server", description=__doc__)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--out", type=Path, default=None, help="JSON to write")
    asked = parser.parse_args(argv)

    def bench() -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="promptzoo-bench-") as folder:
            study = next(s for s in write_sample_studies(Path(folder) / "studies") if s["modality"] == "CT")
            with serving(Path(study["image"]).parent) as url:
                return {**measure(url, study["id"], study["clicks"]["liver"], asked.clients), "hardware": hardware()}

    return told("bench_server", bench, asked.out)


def told(name: str, bench: Callable[[], dict[str, Any]], out: Path | None) -> int:
    """Run a bench, print its numbers as JSON and write them to a file if there is one; the exit code."""
    try:
        text = json.dumps(bench(), indent=1)
    except PromptZooError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
