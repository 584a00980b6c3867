"""The README screenshot: box, correction, undo, save and reload in OHIF, with seconds (``scripts/ohif_picture``).

Serves a folder of DICOM, draws in the first case with mouse and keys in headless Chromium, and writes
``docs/ohif_panel.png`` and ``docs/ohif_panel.json`` (seconds and clicks of every step).
"""
from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any, Iterator, Sequence

from promptzoo.cli.maintain.browser import Viewer, chromium, new_page
from promptzoo.cli.maintain.serving import serving
from promptzoo.core.errors import MissingDependencyError, PromptZooError, complain


def draw(viewer: Viewer, image: str, low: Sequence[float], high: Sequence[float], click: Sequence[float],
         picture: Path, depth_mm: float) -> dict[str, Any]:
    """Segment one object as a person does.

    Args:
        viewer: OHIF.
        image: image id.
        low, high: corners of a box on an axial slice, voxels ``[column, row, slice]``.
        click: a voxel to correct at.
        picture: PNG to write before saving.
        depth_mm: how far the box reaches across slices.

    Returns:
        Seconds by step, clicks and drags, estimated Dice, and the SOP Instance UID saved.
    """
    seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def timed(name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        seconds[name] = round(time.perf_counter() - started, 1)

    page = viewer.page
    with timed("open"):
        viewer.open(image)
    viewer.jump([(a + b) / 2 for a, b in zip(low, high)])
    page.locator("[data-pz='depth']").fill(str(depth_mm))
    page.locator("[data-pz='depth']").dispatch_event("change")
    with timed("box"):
        viewer.press("box")
        viewer.drag(low, high)
        viewer.settle()
    with timed("correction"):
        viewer.press("point+")
        viewer.click(click)
        viewer.settle()
    with timed("undo and redo"):
        viewer.press("undo")
        viewer.settle()
        viewer.press("redo")
        viewer.settle()
    page.mouse.move(5, 5)
    page.wait_for_timeout(500)
    page.screenshot(path=str(picture))
    told = viewer.get("s.answer.objects[0]")
    with timed("save"):
        viewer.press("save")
        viewer.settle()
    message = page.locator("[data-pz='message']").inner_text()
    with timed("reload"):
        page.reload()
        viewer.open(image)
        viewer.settle()
    modalities = viewer.get("services.displaySetService.getActiveDisplaySets().map((set) => set.Modality)")
    return {"seconds": seconds, "clicks and drags": viewer.actions, "estimated_dice": told["estimated_dice"],
            "voxels": told["voxels"], "saved": message, "seg_is_there": "SEG" in modalities}


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``scripts/ohif_picture``; returns the exit code."""
    parser = argparse.ArgumentParser(prog="ohif_picture", description=__doc__)
    parser.add_argument("studies", type=Path, help="folder of studies; masks are saved into it")
    parser.add_argument("image", help="image id, for example a SeriesInstanceUID")
    parser.add_argument("--box", required=True, help="i0,j0,i1,j1,k: corners on slice k of the series")
    parser.add_argument("--click", required=True, help="i,j,k: a voxel to correct at")
    parser.add_argument("--depth", type=float, default=0.0, help="how far the box reaches across slices, in mm")
    parser.add_argument("--out", type=Path, default=Path("docs/ohif_panel.png"))
    asked = parser.parse_args(argv)
    try:
        if not chromium():
            raise MissingDependencyError(complain("browser", "none", "Chromium and playwright",
                                                  "apt-get install chromium; pip install playwright"))
        i0, j0, i1, j1, k = (float(value) for value in asked.box.split(","))
        click = [float(value) for value in asked.click.split(",")]
        with serving(asked.studies) as url, new_page() as page:
            told = draw(Viewer(page, url), asked.image, (i0, j0, k), (i1, j1, k), click, asked.out, asked.depth)
        asked.out.with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        print(json.dumps(told))
    except (PromptZooError, ValueError) as error:
        print(f"ohif_picture: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
