"""Tables of measured numbers in a bundle's ``docs/README.md`` and in the repository's README, from ``results.json``."""
from __future__ import annotations

import re
from typing import Any, Sequence

from promptzoo.core.bundles import BundleInfo, read_json
from promptzoo.core.errors import BundleError, complain

SECTION = re.compile(r"(?<=^## Measured\n).*?(?=^## )", re.M | re.S)
ROW = "| [`{name}`](bundles/{name}/docs/README.md) |"


def measured(info: BundleInfo) -> str:
    """Section *Measured* as Markdown: mean Dice per step of every block, by modality, beside peers, by what was seen.

    Raises:
        BundleError: if the bundle has no measured results.
    """
    lines = ["On the real images that accompany the project (not part of it); every block of `docs/results.json` holds "
             "its command.", "Mean Dice; *seen* are rows that the second stage of training may draw from, *unseen* all "
             "others."]
    for name, block in _blocks(info).items():
        apart = f"{block['excluded']} apart: too small or of more than 3 components"
        steps = block["steps"]
        lines += ["", f"**{name}** ({block['n']} objects; {apart})", "", f"| | {' | '.join(steps)} |",
                  "|---" * (len(steps) + 1) + "|", _line(f"**{block.get('bundle', info.name)}**", block["dice"])]
        lines += [_line(f"{part} (n = {block[part]['n']})", block[part]["dice"]) for part in ("seen", "unseen")
                  if block.get(part, {}).get("n")]
        lines += [_line(peer, numbers["dice"]) for peer, numbers in block.get("peers", {}).items()]
        lines += [_line(f"{kind} (n = {part['n']})", part["dice"]) for kind, part in block["by_modality"].items()]
        drops = block["monotonicity"]
        if drops["steps"]:
            lines += ["", f"Correct clicks that lowered Dice by more than {drops['threshold']}: {drops['drops']} of "
                          f"{drops['steps']}."]
    return "\n".join(lines) + "\n\n"


def renew(info: BundleInfo) -> str:
    """The text of ``docs/README.md`` with its section *Measured* made anew; the caller writes it.

    Raises:
        BundleError: without that section, or without results.
    """
    text = (info.path / "docs" / "README.md").read_text(encoding="utf-8")
    if not SECTION.search(text):
        raise BundleError(complain(f"docs/README.md of {info.name}", "no section Measured before another one",
                                   "a line '## Measured' followed by a later section"))
    return SECTION.sub(lambda _: measured(info), text, count=1)


def readme_row(info: BundleInfo) -> str:
    """The bundle's row in the repository's README: prompts, weights, Dice of the box and of 1, 3, 5, 10 clicks."""
    blocks = _blocks(info)
    clicks = blocks["clicks"]["dice"]
    boxed = blocks.get("box", blocks["box+clicks"])
    kinds = ", ".join(info.prompts)
    file, base = info.weights_path, info.weights.get("base")
    size = 0.0 if file is None else file.stat().st_size / 1e6
    numbers = [boxed["dice"][0], *(clicks[n - 1] if n <= len(clicks) else None for n in (1, 3, 5, 10))]
    what = "2D images and largest slices" if info.dimensions == 2 else "volumes"
    weights = f"those of `{base['bundle']}`" if base else f"{size:.1f} MB, {info.weights['licence']}"
    cells = [kinds, weights, *("–" if value is None else f"{value:.2f}" for value in numbers),
             f"{blocks['clicks']['n']} real {what}"]
    return f"{ROW.format(name=info.name)} {' | '.join(cells)} |"


def with_row(readme: str, info: BundleInfo) -> str:
    """The text of the repository's README with the bundle's row renewed; unchanged if it has none."""
    start = re.escape(ROW.format(name=info.name))
    return re.sub(rf"^{start}.*$", lambda _: readme_row(info), readme, flags=re.M)


def _blocks(info: BundleInfo) -> dict[str, Any]:
    place = info.path / "docs" / "results.json"
    blocks = {k: v for k, v in (read_json(place) if place.is_file() else {}).items()
              if isinstance(v, dict) and "by_modality" in v}
    if not blocks:
        raise BundleError(complain(f"docs/results.json of {info.name}", "no measured block",
                                   "what scripts/measure_bundle writes"))
    return blocks


def _line(name: str, dice: Sequence[float | None]) -> str:
    return f"| {name} | {' | '.join('–' if value is None else f'{value:.3f}' for value in dice)} |"
