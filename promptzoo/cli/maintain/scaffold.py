"""Start a bundle: ``scripts/new_bundle NAME [--like BUNDLE] [--family FAMILY]``.

A new bundle begins as a copy of one that works, weights included, so that every command runs from the first minute; its
texts say so, and its numbers, overlays and systems start empty.
"""
from __future__ import annotations

import argparse
import difflib
import json
import re
import shutil
import sys
from pathlib import Path

from promptzoo.core.bundles import METADATA, BundleInfo, find_bundles, get_bundle, read_bundle
from promptzoo.core.catalog import systems
from promptzoo.core.errors import BundleError, NotFoundError, PromptZooError, complain
from promptzoo.core.locations import bundles_dir

DEFAULT_LIKE = "interactive_refinement_2d"
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_README = """# {title}
{description}

## What it is not
It is not a medical device. {not_for}

## Prompts
Takes {prompts} on {dimensions}D images.

## Weights
{trained_on}

## Results
None measured yet. `docs/results.json` holds each number with the command that reproduces it.
"""


def _family(name: str, family: str | None) -> str:
    known = sorted({system.family for system in systems()})
    if family is None:
        guess = name.replace("_", "-")
        family = next((f for f in sorted(known, key=len, reverse=True) if guess.startswith(f)), None)
        if family is None:
            raise NotFoundError(complain("bundle name without a family", name, "a name that begins with a family id",
                                         "Give --family"))
    if family not in known:
        close = difflib.get_close_matches(family, known, n=3, cutoff=0.4)
        raise NotFoundError(complain("family", family, ", ".join(close or known)))
    return family


def _template(family: str, like: str | None, folder: Path) -> BundleInfo:
    if like is not None:
        return get_bundle(like, folder)
    return next((b for b in find_bundles(folder) if b.family == family), None) or get_bundle(DEFAULT_LIKE, folder)


def new_bundle(name: str, like: str | None = None, family: str | None = None, folder: Path | None = None) -> BundleInfo:
    """Create ``folder/name``.

    Args:
        name: lower-case words joined by underscores.
        like: the bundle to start from; by default one of the same family, else ``interactive_refinement_2d``.
        family: id of the mechanism family; by default the one that the name begins with.
        folder: the folder of bundles.

    Returns:
        The new bundle; it passes ``scripts/verify_bundles``.

    Raises:
        BundleError: if the name is not well formed or taken.
        NotFoundError: if the family or the bundle to start from does not exist.
    """
    folder = folder or bundles_dir()
    target = folder / name
    if not _NAME.fullmatch(name):
        raise BundleError(complain("bundle name", name, "lower-case words joined by underscores"))
    if target.exists():
        raise BundleError(complain("bundle name", name, "a name that is not taken", f"Remove {target} first"))
    family = _family(name, family)
    source = _template(family, like, folder)
    shutil.copytree(source.path, target, ignore=shutil.ignore_patterns("eval", "variants", "__pycache__", "*.png"))
    metadata = json.loads(json.dumps(source.metadata))
    trained_on = (f"Not trained yet: a copy of the weights of {source.name} {source.version}. "
                  f"{source.weights['trained_on']}")
    metadata.update(name=name.replace("_", " ").capitalize(), version="0.1.0",
                    changelog={"0.1.0": f"started from {source.name} {source.version}"},
                    description=f"To be written. Started from {source.name}.")
    metadata["promptzoo"].update(family=family, systems={})
    metadata["promptzoo"]["weights"]["trained_on"] = trained_on
    (target / METADATA).write_text(json.dumps(metadata, indent=4) + "\n", encoding="utf-8")
    (target / "docs" / "results.json").write_text('{"schema_version": 1}\n', encoding="utf-8")
    (target / "docs" / "README.md").write_text(_README.format(
        title=metadata["name"], description=metadata["description"], not_for=" ".join(source.not_for),
        prompts=", ".join(source.prompts), dimensions=source.dimensions, trained_on=trained_on), encoding="utf-8")
    return read_bundle(target)


def main(arguments: list[str] | None = None) -> int:
    """Create a bundle; returns the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/new_bundle", description="Start a bundle from one that works.")
    parser.add_argument("name", help="lower-case words joined by underscores, beginning with the family")
    parser.add_argument("--like", metavar="BUNDLE", help="bundle to start from")
    parser.add_argument("--family", help="id of the mechanism family (default: the one the name begins with)")
    options = parser.parse_args(arguments)
    try:
        bundle = new_bundle(options.name, options.like, options.family)
    except PromptZooError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"made {bundle.path}\nnext: its network in configs/train.json, its texts in configs/metadata.json and docs/, "
          f"then train, then scripts/verify_bundles {bundle.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
