"""Store a study of text prompts: ``python -m promptzoo.cli.maintain.text_study lexicon|BUNDLE``.

For ``lexicon`` it writes ``docs/text_robustness.json``, which a test gates; for a bundle the block ``text`` of its
``docs/results.json``.
"""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Sequence

from promptzoo.cli.study_text import LEXICON, show, study_text
from promptzoo.core.bundles import get_bundle, read_json
from promptzoo.core.errors import PromptZooError
from promptzoo.evaluation.summary import hardware, versions

STORED = Path(__file__).resolve().parents[3] / "docs" / "text_robustness.json"


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="text_study", description=__doc__)
    parser.add_argument("target", help="lexicon, or name or path of a bundle")
    parser.add_argument("datalist", nargs="?", help="CSV of cases; default: phantoms")
    parser.add_argument("--limit", type=int, help="at most this many objects of the datalist")
    parser.add_argument("--engine", default="auto", help="engine to measure with")
    asked = parser.parse_args(argv)
    command = f"promptzoo study {Path(asked.datalist).name + ' ' if asked.datalist else ''}--text {asked.target}"
    command += f" --limit {asked.limit}" if asked.limit is not None else ""
    try:
        told = study_text(asked.target, command, asked.datalist, limit=asked.limit, engine=asked.engine, quiet=True)
        told |= {"versions": versions(), "hardware": hardware()}
        if asked.target == LEXICON:
            STORED.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        else:
            place = get_bundle(asked.target).path / "docs" / "results.json"
            document = read_json(place) if place.is_file() else {}
            place.write_text(json.dumps({**document, "text": told}, indent=1) + "\n", encoding="utf-8")
    except PromptZooError as error:
        print(f"text_study: {error}", file=sys.stderr)
        return 2
    show(told)
    return 0


if __name__ == "__main__":
    sys.exit(main())
