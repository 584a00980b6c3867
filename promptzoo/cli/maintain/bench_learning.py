"""What learning costs those who work: ``scripts/bench_learning``.

Clicks on the procedural torso through ``/infer``, without and with a training in the background, and the time that each
strategy takes to choose among a thousand images whose scores are cached.
"""
from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Sequence

import httpx
import numpy as np

from promptzoo.active_learning.ledger import Ledger
from promptzoo.active_learning.scores import Scored, Seen
from promptzoo.active_learning.strategies import STRATEGIES, Pool, choose
from promptzoo.cli.maintain.bench_server import ask, told
from promptzoo.cli.maintain.serving import serving
from promptzoo.cli.server.learning import PREFIX as LEARNING
from promptzoo.cli.server.sessions import PREFIX as SESSIONS
from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.seeding import generator
from promptzoo.data.phantoms import write_sample_studies
from promptzoo.evaluation.summary import hardware
from promptzoo.prompts.types import Point, PromptSet

BUNDLE = "sam_box_finetune"
SLOWER_LIMIT, CHOICE_LIMIT_MS = 2.0, 200.0


def choosing(count: int = 1000, repeats: int = 5) -> dict[str, Any]:
    """Milliseconds of each strategy among ``count`` images with cached scores, a tenth more being labelled."""
    rng = generator(0)
    made = [Scored(str(n), {"organ": Seen(*rng.random(5).tolist())}, rng.normal(size=256).astype(np.float32))
            for n in range(count + count // 10)]
    with tempfile.TemporaryDirectory(prefix="promptzoo-bench-") as folder:
        ledger = Ledger(Path(folder) / "work.sqlite")
        for one in made:
            ledger.keep("key", one)
        names = [one.image for one in made]
        started = time.perf_counter()
        ledger.scores("key", names)
        found: dict[str, Any] = {"read_scores_once_ms": round(1e3 * (time.perf_counter() - started), 1)}
        for name in STRATEGIES:
            spent = []
            for seed in range(repeats):
                started = time.perf_counter()
                known = ledger.scores("key", names)
                pool = Pool(names[:count], known, [known[n] for n in names[count:]], generator(seed))
                choose(name, pool)
                spent.append(1e3 * (time.perf_counter() - started))
            found[name] = round(float(np.median(spent)), 2)
    return found


def clicking(clicks: int = 30) -> dict[str, Any]:
    """Milliseconds of a click without and with a training in the background."""
    with tempfile.TemporaryDirectory(prefix="promptzoo-bench-") as folder:
        studies = write_sample_studies(Path(folder) / "studies")
        scan = next(s for s in studies if s["modality"] == "CT")
        with serving(Path(scan["image"]).parent) as url:
            for study in [s for s in studies if s is not scan][:2]:
                begun = _send("POST", url + SESSIONS, {"image": study["id"], "bundle": BUNDLE})
                point = Point(tuple(next(iter(study["clicks"].values()))), space="voxel")
                given = PromptSet((point,)).to_json()["prompts"]
                _send("POST", f"{url}{SESSIONS}/{begun['id']}/prompts", {"prompts": given})
                _send("POST", f"{url}{SESSIONS}/{begun['id']}/save", {})
            start = scan["clicks"]["liver"]
            voxels = ([start[0] + n % 9, start[1] + (n // 9) % 9, start[2] + n // 81] for n in range(10000))
            ask(url, scan["id"], next(voxels))  # encodes the image
            alone = [ask(url, scan["id"], next(voxels)) for _ in range(clicks)]
            _send("POST", f"{url}{LEARNING}/{BUNDLE}/training", {"iterations": 100_000})
            ends = time.monotonic() + 300
            while (progress := _send("GET", f"{url}{LEARNING}/{BUNDLE}")["progress"])["state"] != "training":
                if time.monotonic() > ends:
                    raise PromptZooError(complain("training", progress, "one that runs"))
                time.sleep(0.5)
            beside = [ask(url, scan["id"], next(voxels)) for _ in range(clicks)]
            _send("DELETE", f"{url}{LEARNING}/{BUNDLE}/training")
    spent = {"alone_p50_ms": round(1e3 * float(np.median(alone)), 1),
             "alone_p95_ms": round(1e3 * float(np.percentile(alone, 95)), 1),
             "training_p50_ms": round(1e3 * float(np.median(beside)), 1),
             "training_p95_ms": round(1e3 * float(np.percentile(beside, 95)), 1)}
    return {**spent, "slower": round(spent["training_p50_ms"] / spent["alone_p50_ms"], 3)}


def _send(method: str, address: str, body: Any = None) -> Any:
    answer = httpx.request(method, address, json=body, timeout=300)
    answer.raise_for_status()
    return answer.json()


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``scripts/bench_learning``; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench_learning", description=__doc__)
    parser.add_argument("--out", type=Path, default=None, help="JSON to write")
    asked = parser.parse_args(argv)
    return told("bench_learning", lambda: {
        "click": {**clicking(), "limit": SLOWER_LIMIT}, "hardware": hardware(),
        "choose_among_1000_ms": {**choosing(), "limit": CHOICE_LIMIT_MS}}, asked.out)


if __name__ == "__main__":
    sys.exit(main())
