"""A contact sheet of procedural images: ``python -m promptzoo.data.synthesis --out FILE.png``."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Sequence

from promptzoo.core.optional import require
from promptzoo.core.seeding import generator
from promptzoo.data.synthesis.procedural import Procedural2D, Procedural3D, Sample

_TILE_IN, _DPI = 1.6, 100


def samples(count: int, size: int, seed: int, three_d: bool) -> list[Sample]:
    """``count`` images ``[H, W]`` with masks, each of its own scene; of volumes the slice with most of the target."""
    source = (Procedural3D if three_d else Procedural2D)(size, seed)
    found = [source.sample(generator(seed, n), n_targets=1)[0] for n in range(count)]
    if not three_d:
        return found
    fullest = [int(mask.sum((1, 2)).argmax()) for _, mask in found]
    return [(image[at], mask[at]) for (image, mask), at in zip(found, fullest)]


def contact_sheet(path: str | Path, tiles: Sequence[Sample], columns: int = 8) -> Path:
    """Draw images with the outlines of their targets as one PNG and return its path; folders are made."""
    require("matplotlib", "Drawing a contact sheet")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(tiles) // columns)
    figure = Figure(figsize=(columns * _TILE_IN, rows * _TILE_IN), facecolor="#0b0d10")
    figure.subplots_adjust(0, 0, 1, 1, 0.02, 0.02)
    for n, (image, mask) in enumerate(tiles):
        axes = figure.add_subplot(rows, columns, n + 1)
        axes.axis("off")
        axes.imshow(image, cmap="gray", vmin=-1, vmax=1)
        axes.contour(mask.astype(float), [0.5], colors=["#22c55e"], linewidths=0.8)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    figure.savefig(target, dpi=_DPI)
    return target


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and draw."""
    parser = argparse.ArgumentParser("python -m promptzoo.data.synthesis", description=__doc__)
    parser.add_argument("--out", required=True, metavar="FILE.png")
    parser.add_argument("--three-d", action="store_true", help="slices of volumes instead of 2D images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, help="pixels per side (default: 128, with --three-d 64)")
    parser.add_argument("--count", type=int, default=40, help="number of images (default: 40)")
    asked = parser.parse_args(arguments)
    if asked.seed < 0 or asked.count < 1:
        parser.error("--seed must be at least 0 and --count at least 1")
    size = asked.size or (64 if asked.three_d else 128)
    print(contact_sheet(asked.out, samples(asked.count, size, asked.seed, asked.three_d)))


if __name__ == "__main__":
    main()
