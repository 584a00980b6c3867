"""Measure a bundle and write its ``docs/results.json``: ``scripts/measure_bundle BUNDLE DATALIST``.

Every block of the file is one ``promptzoo bench`` run and holds the command that repeats it. Rows that training may
have seen (licence class ``open``) and the others are also reported apart. A bundle for some images only names further
options of the bench as ``extra.measure`` of its metadata; a derived bundle is measured beside its base. The tables of
the bundle's ``docs/README.md`` and of the repository's README follow.
"""
from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

from promptzoo.cli.maintain.report import renew, with_row
from promptzoo.core.bundles import BundleInfo, get_bundle, read_json
from promptzoo.core.errors import BundleError, PromptZooError, complain
from promptzoo.training.real import LICENCE_CLASS, LICENCE_COLUMN

PEERS = "random-walker,ellipse,graph-cut"


@dataclass(frozen=True)
class Block:
    """One measurement: its name in the file and the options of ``promptzoo bench``."""

    name: str
    options: tuple[str, ...]
    bundle: str | None = None


_BY_CLASS = ("--protocol", "class", "--slices", "none")


def plan(info: BundleInfo) -> list[Block]:
    """What is measured on a bundle of one dimension."""
    if "class" in info.prompts and "point" not in info.prompts:
        sets = info.block.get("extra", {}).get("class_sets", {})
        return [Block(f"class {name}", (*_BY_CLASS, "--match", match))
                for name, match in sets.items()] or [Block("class", _BY_CLASS)]
    if info.dimensions == 2:
        through = ("--protocol", "anchors", "--task", "seg3d", "--slices", "none", "--limit", "12")
        rival = [Block("through slices: interactive_refinement_3d", through, "interactive_refinement_3d")]
        base = info.weights.get("base", {}).get("bundle")
        strokes = [Block("human scribbles", ("--protocol", "scribbles", "--match", "medscribble"))]
        return [Block("clicks", ("--protocol", "clicks", "--clicks", "10")),
                Block("box", ("--protocol", "box", "--baseline", PEERS)),
                *[Block(f"{name} with {base}", ("--protocol", name), base) for name in ("box", "clicks") if base],
                Block("box+clicks", ("--protocol", "box+clicks", "--clicks", "5")),
                *(strokes if "scribble" in info.prompts else []),
                Block("through slices", through), *(rival if info.name == "interactive_refinement_2d" else []),
                Block("clicks beside peers", ("--protocol", "clicks", "--clicks", "10", "--limit", "24",
                                              "--baseline", PEERS)),
                Block("robustness", ("--protocol", "box", "--limit", "16", "--robustness"))]
    return [Block("box+clicks", ("--protocol", "box+clicks", "--clicks", "5")),
            Block("clicks", ("--protocol", "clicks", "--clicks", "5")),
            *_beside(info),
            Block("box+clicks beside peers", ("--protocol", "box+clicks", "--clicks", "5", "--limit", "6",
                                              "--baseline", PEERS)),
            Block("robustness", ("--protocol", "box", "--limit", "4", "--robustness"))]


def _beside(info: BundleInfo) -> list[Block]:
    """Other bundles on the same volumes: the 2D bundle of the same name slice by slice; beside ``sam_3d``, which has
    none, the SAM-like 2D bundle, the early-fusion network that its weights began from, and variants with weights."""
    boxed, clicked = (("--protocol", kind, "--clicks", "5") for kind in ("box+clicks", "clicks"))
    if info.family != "sam-3d":
        return [Block("slice-wise 2D box+clicks", (*boxed, "--slice-wise"), info.name.replace("_3d", "_2d"))]
    flat, fused = "sam_box_finetune", "interactive_refinement_3d"
    return [Block(f"slice-wise {flat} box+clicks", (*boxed, "--slice-wise"), flat),
            Block(f"slice-wise {flat} clicks", (*clicked, "--slice-wise"), flat),
            Block(f"{fused} box+clicks", boxed, fused), Block(f"{fused} clicks", clicked, fused),
            *(Block(f"{name} {kind}", (*asked, "--variant", name)) for name in info.variants()
              if (info.path / "models" / f"{name}.safetensors").is_file()
              for kind, asked in (("box+clicks", boxed), ("clicks", clicked)))]


def measure(info: BundleInfo, datalist: str, jobs: int = 1, limit: int | None = None,
            only: Sequence[str] = ()) -> dict[str, Any]:
    """Run the benches of :func:`plan` one after the other and put their summaries into ``docs/results.json``.

    Args:
        info: the bundle.
        datalist: CSV of cases, see ``promptzoo bench --help``.
        jobs: processes of each bench.
        limit: at most this many cases for the blocks without a limit of their own; None takes all.
        only: names of blocks to renew; the others keep their former values. Empty renews all.

    Returns:
        The document written.

    Raises:
        BundleError: if a bench run fails.
    """
    place = info.path / "docs" / "results.json"
    document = read_json(place) if place.is_file() else {}
    for block in plan(info):
        if only and block.name not in only:
            continue
        options = [*block.options, *info.block.get("extra", {}).get("measure", ())]
        if limit is not None and "--limit" not in options:
            options += ["--limit", str(limit)]
        if "--robustness" not in options:
            options += ["--jobs", str(jobs)]
        options += ["--by", LICENCE_COLUMN]
        document[block.name] = {"bundle": block.bundle or info.name,
                                **_run(block.bundle or info.name, info.path.parent, datalist, options)}
        place.parent.mkdir(exist_ok=True)
        place.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        print(f"{block.name}: Dice {document[block.name]['dice']}", flush=True)
    write_report(info)
    return document


def write_report(info: BundleInfo) -> None:
    """Bring the tables of the bundle's ``docs/README.md`` and of the repository's README up to date."""
    (info.path / "docs" / "README.md").write_text(renew(info), encoding="utf-8")
    readme = info.path.parents[1] / "README.md"
    if readme.is_file():
        readme.write_text(with_row(readme.read_text(encoding="utf-8"), info), encoding="utf-8")


def _run(bundle: str, folder: Path, datalist: str, options: Sequence[str]) -> dict[str, Any]:
    arguments = ["bench", datalist, "--bundle", bundle, *options]
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "results.json"
        told = [*arguments[:3], str(folder / bundle), *arguments[4:]]
        done = subprocess.run([sys.executable, "-m", "promptzoo.cli", *told, "--out", str(out)], check=False)
        if not out.is_file():
            raise BundleError(complain(f"bench of {bundle}", f"exit code {done.returncode}", "a results file"))
        results = read_json(out)
    shown = shlex.join(["promptzoo", "bench", Path(datalist).name, *arguments[2:]])
    return _digest(results, shown)


def _digest(results: dict[str, Any], command: str) -> dict[str, Any]:
    """The part of a bench run that is kept: means per step, by modality, peers, calibration, robustness."""
    summary = results["summary"]
    kept = {"command": command, "engine": results["engine"], "n": summary["n"], "steps": summary["steps"],
            **{key: summary[key] for key in ("dice", "nsd", "noc90", "dsc_auc", "nsd_auc", "seconds_p50")},
            "by_modality": {name: {"n": part["n"], "dice": part["dice"]}
                            for name, part in summary["by_modality"].items()},
            **_seen_apart(results["groups"]),
            "calibration": results["calibration"], "monotonicity": results["monotonicity"],
            "peers": {name: {key: part["summary"][key] for key in ("dice", "nsd", "dsc_auc")}
                      for name, part in results["baselines"].items()},
            "excluded": results["excluded"]["n"], "errors": len(results["errors"]),
            "hardware": results["hardware"], "versions": results["versions"]}
    if "robustness" in results:
        kept["robustness"] = results["robustness"]
    return kept


def _seen_apart(groups: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Mean Dice of the rows that training may draw from (``seen``) and of all others (``unseen``)."""
    kept = {}
    for name, wanted in (("seen", True), ("unseen", False)):
        parts = [group for value, group in groups.items() if (value == LICENCE_CLASS) is wanted and group["n"]]
        total = sum(part["n"] for part in parts)
        steps = zip(*([part["n"] * dice for dice in part["dice"]] for part in parts))
        kept[name] = {"n": total, "dice": [round(sum(step) / total, 4) for step in steps]}
    return kept


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``scripts/measure_bundle``; returns the exit code."""
    parser = argparse.ArgumentParser(prog="measure_bundle", description=__doc__)
    parser.add_argument("bundle", help="name or path of the bundle")
    parser.add_argument("datalist", help="CSV of cases")
    parser.add_argument("--jobs", type=int, default=1, help="processes of each bench")
    parser.add_argument("--limit", type=int, default=None, help="at most this many cases per block")
    parser.add_argument("--only", action="append", default=[], help="renew this block only; may be repeated")
    asked = parser.parse_args(argv)
    try:
        measure(get_bundle(asked.bundle), asked.datalist, asked.jobs, asked.limit, asked.only)
    except PromptZooError as error:
        print(f"measure_bundle: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
