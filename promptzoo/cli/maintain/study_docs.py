"""Study a bundle and bring its docs up to date: ``scripts/study_bundle BUNDLE DATALIST [--of OTHER] [--limit N]``.

Writes ``study.json``, ``study.md``, ``advice.json``, ``advice.md`` and the plots into ``docs``, the summary with its
command into ``docs/results.json``, and the section *Measured* of ``docs/README.md``.
"""
from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Mapping, Sequence

from promptzoo.cli.maintain.report import SECTION
from promptzoo.core.bundles import BundleInfo, get_bundle, read_json
from promptzoo.core.errors import BundleError, PromptZooError, complain
from promptzoo.evaluation.study_report import report, table

BLOCK = "prompt study"
KEPT = ("advice.md", "dice_clicks.png", "dice_box_noise.png", "selections.png")


def study_bundle(info: BundleInfo, datalist: str, of: str, options: Sequence[str]) -> None:
    """Run ``promptzoo study`` and write the docs of a bundle.

    Args:
        info: whose docs are written.
        datalist: CSV of objects.
        of: name of the bundle that is studied: the bundle itself, or its base.
        options: further options of ``promptzoo study``.

    Raises:
        BundleError: if the study fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        place = str(get_bundle(of, info.path.parent).path)
        done = subprocess.run([sys.executable, "-m", "promptzoo.cli", "study", datalist, "--bundle", place, *options,
                               "--out", scratch], check=False)
        if not Path(scratch, "study.json").is_file():
            raise BundleError(complain(f"study of {of}", f"exit code {done.returncode}", "a study.json"))
        shown = shlex.join(["promptzoo", "study", Path(datalist).name, "--bundle", of, *options])
        write_docs(info, Path(scratch), shown)


def write_docs(info: BundleInfo, folder: Path, command: str) -> None:
    """Bring a folder that ``promptzoo study`` wrote into the docs of a bundle, under the command that repeats it."""
    docs = info.path / "docs"
    study, advice = ({**read_json(folder / name), "command": command} for name in ("study.json", "advice.json"))
    for name, document in (("study.json", study), ("advice.json", advice)):
        (docs / name).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for name in KEPT:
        if (folder / name).is_file():
            shutil.copy(folder / name, docs / name)
    (docs / "study.md").write_text(report(study, study["summary"]), encoding="utf-8")
    results = docs / "results.json"
    blocks = read_json(results) if results.is_file() else {}
    blocks[BLOCK] = {"command": command, "n": study["cases"], "conditions": study["summary"]["all"],
                     "modalities": {name: {"n": _count(part), "dice": {c: b["dice"]["answer"] for c, b in part.items()}}
                                    for name, part in study["summary"]["modality"].items()},
                     "hardware": study["hardware"], "versions": study["versions"]}
    results.write_text(json.dumps(blocks, indent=1) + "\n", encoding="utf-8")
    readme = docs / "README.md"
    text = readme.read_text(encoding="utf-8")
    if not SECTION.search(text):
        raise BundleError(complain(f"docs/README.md of {info.name}", "no section Measured before another one",
                                   "a line '## Measured' followed by a later section"))
    readme.write_text(SECTION.sub(lambda _: measured(study, advice), text, count=1), encoding="utf-8")


def measured(study: Mapping[str, Any], advice: Mapping[str, Any]) -> str:
    """The section *Measured* as Markdown, with what the numbers say."""
    summary = study["summary"]
    counts = ", ".join(f"{name} {_count(part)}" for name, part in summary["modality"].items())
    lines = [f"On {study['cases']} of the real objects that accompany the project (not part of it): {counts}. "
             f"`{study['command']}`.", "*Dice* is that of the answer, the four columns after its band are of the "
             "candidates. By modality: [`study.md`](study.md); what follows: [`advice.md`](advice.md).", "",
             table(summary["all"]), "![Dice against clicks](dice_clicks.png)", ""]
    for name in ("1 point centre", "box"):
        dices = summary["all"].get(name, {}).get("dice", {})
        if "oracle" in dices:
            lines.append(f"- {name}: answer {dices['answer']:.2f}; of the candidates the predicted choice "
                         f"{dices['predicted']:.2f}, the best {dices['oracle']:.2f} (the choice loses "
                         f"{dices['oracle'] - dices['predicted']:.2f}), the worst {dices['worst']:.2f}.")
    for group, entry in (("all objects", advice["all"]), *advice["modality"].items()):
        told = entry.get("recommended")
        lines.append(f"- {group}: {entry['reason']}." if told is None else
                     f"- {group}: begin with {told['condition']}, Dice {told['dice']:.2f} on {told['n']} objects.")
    return "\n".join(lines) + "\n\n"


def _count(part: Mapping[str, Any]) -> int:
    return max(block["n"] for block in part.values())


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``scripts/study_bundle``; returns the exit code."""
    parser = argparse.ArgumentParser(prog="study_bundle", description=__doc__)
    parser.add_argument("bundle", help="name or path of the bundle whose docs are written")
    parser.add_argument("datalist", help="CSV of objects")
    parser.add_argument("--of", help="bundle that is studied, such as the base (default: the bundle itself)")
    parser.add_argument("--limit", type=int, help="at most this many objects")
    parser.add_argument("--task", help="only these of seg2d, seg3d, seg")
    asked = parser.parse_args(argv)
    options = [part for name in ("task", "limit") if getattr(asked, name) is not None
               for part in (f"--{name}", str(getattr(asked, name)))]
    try:
        info = get_bundle(asked.bundle)
        study_bundle(info, asked.datalist, asked.of or info.name, options)
    except PromptZooError as error:
        print(f"study_bundle: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
