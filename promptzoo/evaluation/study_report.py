"""The report of a prompt study: a table, guideline cards and plots."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping, Sequence

from promptzoo.evaluation.study import CHOICES

PLACE_NAMES = {"centre": "centre of the object", "error": "each on the largest error", "random": "anywhere in it",
               "border": "near its border"}


def table(summary: Mapping[str, Mapping[str, Any]]) -> str:
    """One line per condition as Markdown: clicks, Dice of the answer with its band and per choice, NSD, distance, time,
    failures."""
    lines = ["| prompt | clicks | Dice | 95 % | predicted | oracle | mean | worst | NSD | boundary mm | s | failures |",
             "|---" * 12 + "|"]
    for name, block in summary.items():
        dices = [_number(block["dice"].get(key)) for key in CHOICES[1:]]
        failed = ", ".join(f"{flag} {100 * share:.0f} %" for flag, share in block["failures"].items() if share)
        lines.append(f"| {name} | {_plain(block['clicks'])} | {_number(block['dice']['answer'])} | "
                     f"{block['band'][0]:.2f}–{block['band'][1]:.2f} | {' | '.join(dices)} | {_number(block['nsd'])} | "
                     f"{_number(block['boundary_mm'], 1)} | {block['seconds']:.3f} | {failed} |")
    return "\n".join(lines) + "\n"


def report(study: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """The study as Markdown: how it was made, the table of all objects, and mean Dice by modality."""
    modalities = summary["modality"]
    counts = {name: max(block["n"] for block in part.values()) for name, part in modalities.items()}
    lines = [f"# Prompt study of {study['bundle']}", "", f"`{study['command']}`", "",
             f"{study['cases']} objects; {len(study['excluded'])} apart (too small or of too many parts), "
             f"{len(study['errors'])} failed. *Dice* is that of the answer; *predicted*, *oracle*, *mean* and *worst* "
             "are of its candidates. The band is the bootstrap's over objects.", "", table(summary["all"]),
             "## By modality", "", "Mean Dice of the answer.", "",
             "| prompt | " + " | ".join(f"{name} (n = {counts[name]})" for name in modalities) + " |",
             "|---" * (1 + len(modalities)) + "|"]
    for name in summary["all"]:
        cells = [_number(part[name]["dice"]["answer"]) if name in part else "–" for part in modalities.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    if study["left_out"]:
        lines += ["", f"Not taken by {study['bundle']}: {', '.join(study['left_out'])}."]
    return "\n".join(lines) + "\n"


def cards(advice: Mapping[str, Any]) -> str:
    """Guideline cards as Markdown: all objects, each modality, each organ; groups with too few cases in one line."""
    parts = [f"# How to prompt {advice['bundle']}", "",
             "Measured with prompts simulated from reference masks; a person must check every mask. Not a medical "
             "device.",
             "", *_card("All objects", advice["all"])]
    for key, title in (("modality", "Modalities"), ("organ", "Organs")):
        few = [f"{name} ({entry['n']})" for name, entry in advice[key].items() if "reason" in entry]
        parts += [f"## {title}", ""]
        for name, entry in advice[key].items():
            parts += [] if "reason" in entry else _card(name, entry, "###")
        if few:
            parts += [f"Too few cases to advise (fewer than {advice['min_cases']}): {', '.join(few)}.", ""]
    return "\n".join(parts)


def _card(title: str, entry: Mapping[str, Any], level: str = "##") -> list[str]:
    if "reason" in entry:
        return [f"{level} {title}", "", entry["reason"] + ".", ""]
    first = entry["recommended"]
    lines = [f"{level} {title} (n = {entry['n']})", "", f"Begin with **{first['condition']}**: expect Dice "
             f"{first['dice']:.2f} ({first['band'][0]:.2f}–{first['band'][1]:.2f}) for {first['clicks']} clicks; "
             f"{100 * first['missed']:.0f} % missed.", "",
             "| clicks at most | prompt | Dice |", "|---|---|---|"]
    lines += [f"| {budget} | {told['condition']} | {told['dice']:.2f} |" for budget, told in entry["by_budget"].items()]
    if entry["if_wrong"]:
        worst = sorted(entry["if_wrong"].items(), key=lambda pair: -pair[1])[:3]
        lines += ["", "Dice lost if it is off: " + "; ".join(f"{name} {loss:+.2f}" for name, loss in worst) + "."]
    return [*lines, ""]


def plots(study: Mapping[str, Any], summary: Mapping[str, Any], folder: str | Path) -> list[Path]:
    """Three pictures: Dice against clicks, Dice against how far a box is off, and the choices among candidates.

    Those without a point are left out.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made, table_, conditions = [], summary["all"], study["conditions"]
    for name, draw in (("dice_clicks", _dice_clicks), ("dice_box_noise", _dice_noise), ("selections", _selections)):
        figure = Figure(figsize=(7.5, 4.5), dpi=90)
        FigureCanvasAgg(figure)
        if draw(figure.add_subplot(), table_, conditions):
            figure.tight_layout()
            made.append(Path(folder) / f"{name}.png")
            figure.savefig(made[-1], metadata={"Software": None})
    return made


def _line(axes: Any, points: Sequence[tuple[float, Mapping[str, Any]]], label: str) -> bool:
    points = sorted(points, key=lambda pair: pair[0])
    if not points:
        return False
    across, means = [x for x, _ in points], [block["dice"]["answer"] for _, block in points]
    axes.plot(across, means, marker="o", markersize=4, label=label)
    axes.fill_between(across, *zip(*(block["band"] for _, block in points)), alpha=0.12)
    return True


def _dice_clicks(axes: Any, table_: Mapping[str, Any], conditions: Mapping[str, Any]) -> bool:
    drawn = False
    for place, words in PLACE_NAMES.items():
        drawn |= _line(axes, [(c["clicks"], table_[name]) for name, c in conditions.items() if name in table_
                              and c["kind"] == "points" and c["place"] == place and not c["negative"]],
                       f"points, {words}")
    drawn |= _line(axes, [(c["clicks"], table_[name]) for name, c in conditions.items()
                          if name in table_ and c["kind"] == "points" and c["negative"]
                          and c["negative"] == c["count"]], "as many outside as inside")
    for place in ("centre", "error"):
        drawn |= _line(axes, [(c["clicks"], table_[name]) for name, c in conditions.items() if name in table_
                              and c["kind"].startswith("box") and not c["noisy"] and not c["enlarge"]
                              and (c["kind"] == "box" or c["place"] == place)], f"box, then points ({place})")
    axes.set(xlabel="clicks (a box counts two)", ylabel="mean Dice", ylim=(0, 1))
    axes.legend(fontsize=7, loc="lower right")
    return drawn


def _dice_noise(axes: Any, table_: Mapping[str, Any], conditions: Mapping[str, Any]) -> bool:
    drawn, tight = False, [(0.0, block) for name, block in table_.items() if name == "box"]
    for key, words in (("enlarge", "enlarged"), ("shift", "shifted"), ("jitter", "sides jittered (deviation)")):
        off = [(100 * conditions[name][key], block) for name, block in table_.items()
               if conditions[name]["kind"] == "box" and conditions[name][key]]
        drawn |= _line(axes, [*tight, *off] if off else [], words)
    axes.set(xlabel="% of the box's side", ylabel="mean Dice", ylim=(0, 1))
    axes.legend(fontsize=8)
    return drawn


def _selections(axes: Any, table_: Mapping[str, Any], conditions: Mapping[str, Any]) -> bool:
    rows = {name: block for name, block in table_.items() if "oracle" in block["dice"]
            and not conditions[name]["noisy"] and conditions[name]["kind"] != "everything"}
    for number, choice in enumerate(CHOICES):
        axes.scatter([block["dice"][choice] for block in rows.values()], range(len(rows)), s=22, label=choice,
                     marker="o<>sD"[number])
    axes.set_yticks(range(len(rows)), list(rows), fontsize=6)
    axes.invert_yaxis()
    axes.set(xlabel="mean Dice", xlim=(0, 1))
    axes.legend(fontsize=7, loc="lower left")
    return bool(rows)


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _plain(value: int | None) -> str:
    return "–" if value is None else str(value)
