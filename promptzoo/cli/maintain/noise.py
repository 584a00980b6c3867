"""Measure Dice against the noise of prompts: ``scripts/measure_noise BUNDLE DATALIST``.

Gives the bundle, its variants and ``sam_box_finetune`` the same poor boxes and clicks; writes the block ``noise`` of
the bundle's ``docs/results.json``, the picture ``docs/noise.png`` and the section *Dice against noise* of its
``docs/README.md``.
"""
from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any, Sequence

from promptzoo.core.bundles import BundleInfo, get_bundle, read_json
from promptzoo.core.errors import PromptZooError, complain
from promptzoo.evaluation.summary import hardware, versions
from promptzoo.training.real import LICENCE_CLASS, LICENCE_COLUMN

BESIDE = "sam_box_finetune"
SECTION = re.compile(r"(?<=^## Dice against noise\n).*?(?=^## )", re.M | re.S)


def measure(info: BundleInfo, datalist: str, limit: int = 40, beside: str = BESIDE, engine: str = "auto"
            ) -> dict[str, Any]:
    """Measure and write; returns the block.

    Raises:
        PromptZooError: if the bundle's ``docs/README.md`` has no section *Dice against noise*.
    """
    from promptzoo.evaluation.datalist import Datalist
    from promptzoo.evaluation.noise import noise_curves
    from promptzoo.inference import load_predictor

    listed = Datalist.read(datalist, slices="largest", max_components=3)
    predictors = {beside: load_predictor(info.path.parent / beside, engine),
                  info.name: load_predictor(info.path, engine),
                  **{name: load_predictor(info.path, engine, variant=name) for name in info.variants()}}
    block = {"command": f"scripts/measure_noise {info.name} {Path(datalist).name} --limit {limit}",
             "engine": predictors[info.name].engine, **noise_curves(  # type: ignore[attr-defined]
                 listed, predictors, limit=limit, progress=_told,
                 by=lambda row: "seen" if row.extra.get(LICENCE_COLUMN) == LICENCE_CLASS else "unseen"),
             "hardware": hardware(), "versions": versions()}
    place = info.path / "docs" / "results.json"
    document = read_json(place) if place.is_file() else {}
    place.write_text(json.dumps({**document, "noise": block}, indent=1) + "\n", encoding="utf-8")
    _draw(block, info.path / "docs" / "noise.png")
    readme = info.path / "docs" / "README.md"
    text = readme.read_text(encoding="utf-8")
    if not SECTION.search(text):
        raise PromptZooError(complain(f"{readme}", "no section '## Dice against noise' before another one", "one"))
    readme.write_text(SECTION.sub(lambda _: table(block), text, count=1), encoding="utf-8")
    return block


def table(block: dict[str, Any]) -> str:
    """The section as Markdown."""
    shifts = block["shifts"]
    head = ["", *(f"{shift:g}" for shift in shifts), "click anywhere", "estimate, far box"]
    groups = ", ".join(f"{n} {name}" for name, n in block["groups"].items())
    lines = ["![Dice against the shift of the box](noise.png)\n",
             f"{block['n']} real objects ({groups} in training), `{block['command']}`. Boxes are moved along both axes "
             "by this share of their sides; mean Dice. *Estimate, far box*: the estimated Dice of a box that misses "
             "the object.\n",
             _row(head), "|---" * len(head) + "|"]
    for name, curves in block["dice"].items():
        lines.append(_row([f"**{name}**", *curves["all"], block["click"][name]["all"], block["far_box"][name]]))
        lines += [_row([part, *curves[part], block["click"][name][part], ""]) for part in curves if part != "all"]
    lines += ["", "Intersection over union of the box with the true one:\n", _row(["", *(f"{s:g}" for s in shifts)]),
              "|---" * (len(shifts) + 1) + "|", *(_row([name, *curve]) for name, curve in block["box_iou"].items())]
    return "\n".join(lines) + "\n\n"


def _row(cells: Sequence[Any]) -> str:
    return f"| {' | '.join(f'{c:.3f}' if isinstance(c, float) else str(c) for c in cells)} |"


def _draw(block: dict[str, Any], place: Path) -> None:
    from promptzoo.core.optional import require

    figure = require("matplotlib.figure", "drawing a plot").Figure((5, 3.4), dpi=110, layout="constrained")
    axes = figure.subplots()
    for name, curves in block["dice"].items():
        axes.plot(block["shifts"], curves["all"], marker="o", label=name)
    axes.set(xlabel="shift of the box along both axes, in sides", ylabel="mean Dice", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(place)


def _told(done: int, total: int, name: str) -> None:
    print(f"{done} of {total}: {name}", file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``scripts/measure_noise``; returns the exit code."""
    parser = argparse.ArgumentParser(prog="measure_noise", description=__doc__)
    parser.add_argument("bundle", help="name or path of the bundle")
    parser.add_argument("datalist", help="CSV of cases")
    parser.add_argument("--limit", type=int, default=40, help="at most this many cases")
    parser.add_argument("--engine", default="auto", help="engine to measure with")
    asked = parser.parse_args(argv)
    try:
        block = measure(get_bundle(asked.bundle), asked.datalist, asked.limit, engine=asked.engine)
    except PromptZooError as error:
        print(f"measure_noise: {error}", file=sys.stderr)
        return 2
    print(json.dumps({key: block[key] for key in ("dice", "click", "far_box", "box_iou")}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
