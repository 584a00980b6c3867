"""What more processes gain in a batch, and what a study costs beside its segmentation: ``scripts/bench_batch``.

The same procedural torsos go through ``promptzoo batch`` with 1, 2 and 4 processes, and with Ray actors where Ray is
installed. ``start`` is a batch of one study without that study's own seconds: interpreter, bundle, engine.
"""
from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Sequence

from promptzoo.cli.maintain.bench_server import told
from promptzoo.core.optional import available
from promptzoo.data.nifti import write_nifti
from promptzoo.data.phantoms import torso_ct
from promptzoo.evaluation.summary import hardware

BUNDLE, CLASSES = "sam_peft_organs", ("liver", "spleen")
WORKERS = (1, 2, 4)
SHAPE, SPACING_MM = (128, 96, 48), (2.6, 2.6, 6.0)


def torsos(folder: Path, count: int) -> None:
    """Write procedural torsos."""
    for n in range(count):
        volume = torso_ct(n, SHAPE, SPACING_MM)[0]
        write_nifti(folder / f"torso{n:03d}.nii.gz", volume.data, volume.grid)


def run(studies: Path, out: Path, jobs: int, ray: bool) -> dict[str, Any]:
    """One batch in a process of its own; what it tells of itself."""
    command = [sys.executable, "-m", "promptzoo.cli", "batch", str(studies), "--bundle", BUNDLE, "--out", str(out),
               "--jobs", str(jobs), "--json", *(part for name in CLASSES for part in ("--class", name)),
               *(("--ray", "auto") if ray else ())]
    record: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return record


def measure(count: int) -> dict[str, Any]:
    """The table: a row for each number of workers, side by side with one process."""
    with tempfile.TemporaryDirectory(prefix="promptzoo-bench-") as place:
        many, single = Path(place) / "many", Path(place) / "single"
        for folder, number in ((many, count), (single, 1)):
            folder.mkdir()
            torsos(folder, number)
        first = run(single, Path(place) / "first", 1, False)
        rows: list[dict[str, Any]] = []
        for ray in (False, True):
            if ray and not available("ray"):
                continue
            for jobs in WORKERS:
                record = run(many, Path(place) / f"out-{ray}-{jobs}", jobs, ray)
                row = {"how": "Ray actors" if ray else "processes", "workers": jobs, "studies": record["done"],
                       "failed": record["failed"], "seconds": record["seconds"],
                       "seconds_in_studies": record["seconds_in_studies"]}
                one = rows[0] if rows else row
                row["efficiency"] = round(one["seconds"] / row["seconds"] / jobs, 3)
                rows.append(row)
    start = first["seconds"] - first["seconds_in_studies"]
    alone = rows[0]
    return {"bundle": BUNDLE, "studies": count, "voxels": list(SHAPE), "start_s": round(start, 2), "rows": rows,
            "overhead_per_study_ms": round(1e3 * (alone["seconds"] - start - alone["seconds_in_studies"]) / count, 1)}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="scripts/bench_batch", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--studies", type=int, default=32)
    chosen = parser.parse_args(arguments)
    if chosen.studies < 2:
        parser.error("--studies: 2 or more")
    command = shlex.join(["scripts/bench_batch", *(sys.argv[1:] if arguments is None else arguments)])
    return told("bench_batch", lambda: {"command": command, **measure(chosen.studies), "hardware": hardware()},
                chosen.out)


if __name__ == "__main__":
    sys.exit(main())
