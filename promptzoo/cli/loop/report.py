"""Loops side by side: area under the curve of Dice against clicks, and paired differences to the baseline."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np
from scipy import stats

BASELINE = "foreground"


def area(curve: Sequence[Mapping[str, Any]], budget: float) -> float:
    """Mean Dice over the clicks from 0 to ``budget``: trapezoids, the last value holds to the end."""
    clicks, values = [float(point["clicks"]) for point in curve], [float(point["score"]) for point in curve]
    if clicks[-1] < budget:
        clicks, values = [*clicks, budget], [*values, values[-1]]
    grid = np.linspace(0, budget, 201)
    return float(np.interp(grid, clicks, values).mean())


def compare(loops: Sequence[Mapping[str, Any]], budget: float, baseline: str = BASELINE) -> dict[str, dict[str, Any]]:
    """Each strategy over its seeds.

    Args:
        loops: results of :func:`promptzoo.cli.loop.simulate.run_loop`.
        budget: clicks of the axis.
        baseline: strategy that the others are compared with, seed by seed.

    Returns:
        By strategy: ``area`` (mean), ``start`` and ``end`` (mean Dice before and after), ``seeds``; ``difference`` to
        the baseline with its 95 % interval ``low`` and ``high`` (paired t over the seeds; absent for the baseline
        itself and with fewer than two common seeds), and ``verdict``.
    """
    areas: dict[str, dict[int, float]] = {}
    for loop in loops:
        areas.setdefault(loop["strategy"], {})[loop["seed"]] = area(loop["curve"], budget)
    told = {}
    for name, found in areas.items():
        own = [loop for loop in loops if loop["strategy"] == name]
        entry: dict[str, Any] = {"area": float(np.mean(list(found.values()))), "seeds": len(found),
                                 "start": float(np.mean([loop["curve"][0]["score"] for loop in own])),
                                 "end": float(np.mean([loop["curve"][-1]["score"] for loop in own]))}
        common = sorted(set(found) & set(areas.get(baseline, {})))
        if name != baseline and len(common) >= 2:
            gaps = np.array([found[seed] - areas[baseline][seed] for seed in common])
            half = float(stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / np.sqrt(len(gaps)))
            entry |= {"difference": float(gaps.mean()), "low": float(gaps.mean() - half),
                      "high": float(gaps.mean() + half)}
            entry["verdict"] = ("better" if entry["low"] > 0 else "worse" if entry["high"] < 0 else
                                "no difference shown")
        told[name] = {key: round(value, 4) if isinstance(value, float) else value for key, value in entry.items()}
    return dict(sorted(told.items(), key=lambda pair: -pair[1]["area"]))


def plot(loops: Sequence[Mapping[str, Any]], budget: float, file: Path) -> None:
    """Mean Dice against clicks spent, a line for each strategy."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.5), dpi=90)
    FigureCanvasAgg(figure)
    axes, grid = figure.add_subplot(), np.linspace(0, budget, 61)
    for name in dict.fromkeys(loop["strategy"] for loop in loops):
        lines = [np.interp(grid, [p["clicks"] for p in loop["curve"]], [p["score"] for p in loop["curve"]])
                 for loop in loops if loop["strategy"] == name]
        axes.plot(grid, np.mean(lines, 0), label=name, linewidth=2.5 if name == BASELINE else 1.3)
    axes.set_xlabel("clicks spent")
    axes.set_ylabel("Dice on held-out images")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(file, metadata={"Software": None})
