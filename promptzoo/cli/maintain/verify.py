"""Offline verification of bundle folders: ``scripts/verify_bundles [NAME …]``.

Every check takes a bundle and returns what is wrong, one line each. A bundle is excused from a check only by its own
metadata, with the reason.
"""
from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any, Callable, Iterator

from promptzoo.cli.maintain.versions import version_problems
from promptzoo.core.bundles import BundleInfo, block_problems, read_bundle, read_json, schema_problems
from promptzoo.core.catalog import get_system
from promptzoo.core.errors import NotFoundError, PromptZooError
from promptzoo.core.locations import bundles_dir

META_SCHEMA = "meta_schema_20240725.json"
WEIGHTS_BYTES_MAX = 10 * 1024 * 1024
REQUIRED_FILES = (
    "LICENSE", "large_files.yml", "configs/metadata.json", "configs/train.json", "configs/inference.json",
    "configs/evaluate.json", "configs/multi_gpu_train.json", "configs/inference_trt.json", "docs/README.md",
    "docs/data_license.txt", "docs/results.json")
NOT_MEDICAL = "not a medical device"
_ABSOLUTE = re.compile(r"^(/|~|[A-Za-z]:[\\/])")


def check_metadata(bundle: BundleInfo) -> list[str]:
    """The metadata fits MONAI's schema, of which a copy is in the package."""
    problems = schema_problems(bundle.metadata, META_SCHEMA)
    if not str(bundle.metadata.get("schema", "")).endswith(META_SCHEMA):
        problems.append(f"schema: got {bundle.metadata.get('schema')!r}; allowed: the address of {META_SCHEMA}")
    return problems


def check_promptzoo_block(bundle: BundleInfo) -> list[str]:
    """The promptzoo block fits its schema."""
    return block_problems(bundle.metadata)


def check_required_files(bundle: BundleInfo) -> list[str]:
    """Every file that a bundle consists of is there and not empty."""
    missing = [name for name in REQUIRED_FILES if not (bundle.path / name).is_file()]
    empty = [name for name in REQUIRED_FILES if name not in missing and not (bundle.path / name).read_bytes().strip()]
    return [f"missing file: {name}" for name in missing] + [f"empty file: {name}" for name in empty]


def check_no_python(bundle: BundleInfo) -> list[str]:
    """No Python inside the bundle: code belongs in the package."""
    return [f"Python inside the bundle: {file.relative_to(bundle.path)}" for file in sorted(bundle.path.rglob("*.py"))]


def _strings(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _strings(inner, f"{where}::{key}" if where else str(key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _strings(inner, f"{where}::{index}")
    elif isinstance(value, str):
        yield where, value


def check_configs(bundle: BundleInfo) -> list[str]:
    """Every config and overlay is a JSON object and names no path of one machine."""
    problems = []
    for file in sorted((bundle.path / "configs").rglob("*.json")):
        name = file.relative_to(bundle.path)
        try:
            content = read_json(file)
        except PromptZooError as error:
            problems.append(str(error))
            continue
        problems += [f"{name}, {where}: absolute path {text}" for where, text in _strings(content)
                     if _ABSOLUTE.match(text)]
    return problems


def check_systems(bundle: BundleInfo) -> list[str]:
    """Systems and overlays name each other, and the catalog knows them as members of the bundle's family."""
    overlays = bundle.variants()
    problems = [f"systems: {name} works, but there is no configs/variants/{name}.json"
                for name, state in bundle.systems.items() if state == "works" and name not in overlays]
    problems += [f"configs/variants/{name}.json: not named in systems"
                 for name in overlays if name not in bundle.systems]
    for name in bundle.systems:
        try:
            family = get_system(name).family
        except NotFoundError as error:
            problems.append(f"systems: {error}")
            continue
        if family != bundle.family:
            problems.append(f"systems: {name} is of the family {family}, the bundle of {bundle.family}")
    return problems


def check_needs(bundle: BundleInfo) -> list[str]:
    """The bundles that it runs lie beside it."""
    return [f"needs: no bundle {folder.name} beside it" for folder in bundle.needs
            if not (folder / "configs" / "metadata.json").is_file()]


def check_version(bundle: BundleInfo) -> list[str]:
    """The version has a changelog line, and content released under a version has not changed."""
    changelog = bundle.path.parents[1] / "CHANGELOG.md"
    return version_problems(bundle, changelog.read_text(encoding="utf-8") if changelog.is_file() else "")


def _uncovered(value: Any, where: str = "", covered: bool = False) -> Iterator[str]:
    if isinstance(value, dict):
        covered = covered or (isinstance(value.get("command"), str) and bool(value["command"].strip()))
        for key, inner in value.items():
            yield from _uncovered(inner, f"{where}.{key}" if where else str(key), covered)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _uncovered(inner, f"{where}.{index}", covered)
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and not covered and where != "schema_version":
        yield where


def check_results(bundle: BundleInfo) -> list[str]:
    """Every number of docs/results.json stands under an object with the ``command`` that reproduces it."""
    return [f"docs/results.json, {where}: a number without a command" for where in _uncovered(bundle.results())]


def check_docs(bundle: BundleInfo) -> list[str]:
    """The README says plainly what the bundle is not."""
    readme = bundle.path / "docs" / "README.md"
    text = readme.read_text(encoding="utf-8").lower() if readme.is_file() else ""
    return [] if NOT_MEDICAL in text else [f"docs/README.md does not say: {NOT_MEDICAL}"]


def check_weights(bundle: BundleInfo) -> list[str]:
    """Shipped weights are there, small, and a state dict that loads without running code."""
    if bundle.weights["kind"] != "shipped":
        return []
    base, file, name = bundle.base_weights, bundle.weights_path, bundle.weights["file"]
    if base is not None:
        found = hashlib.sha256(base.read_bytes()).hexdigest() if base.is_file() else "no such file"
        if found != bundle.weights["base"]["sha256"]:
            return [f"weights of the base {bundle.weights['base']['bundle']}: {found}; allowed: the sha256 in "
                    "metadata.json, after this bundle was checked and measured with them"]
    if file is None or not file.is_file():
        return [f"missing weights: {name}"]
    limit = min(WEIGHTS_BYTES_MAX, bundle.weights.get("bytes_max", WEIGHTS_BYTES_MAX))
    models, problems = bundle.path / "models", []
    for one in dict.fromkeys([file, *sorted(f for s in ("*.pt", "*.safetensors") for f in models.glob(s))]):
        shown = name if one == file else one.relative_to(bundle.path).as_posix()
        problems += ([f"{shown}: {one.stat().st_size} bytes; allowed: {limit}"] if one.stat().st_size > limit
                     else weight_file_problems(one, shown))
    return problems


def weight_file_problems(file: Path, name: str) -> list[str]:
    """What is wrong with one file of weights; the base of a delta must be there too."""
    import torch  # only this check needs it

    from promptzoo.networks.deltas import SUFFIX, base_of, read_file

    try:
        if file.suffix == SUFFIX:
            state, told = read_file(file)
            if "base" in told:
                base_of(file, told)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except PromptZooError as error:
        return [f"{name}: {error}"]
    except Exception as error:  # whatever the file makes the loader say is what is wrong with it
        return [f"{name}: does not load with weights_only=True: {error}"]
    if not isinstance(state, dict) or not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        return [f"{name}: not a flat state dict; save the network's state_dict() alone"]
    bad = [key for key, value in state.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    return [f"{name}: {key} is not finite" for key in bad]


CHECKS: dict[str, Callable[[BundleInfo], list[str]]] = {
    "metadata": check_metadata,
    "promptzoo_block": check_promptzoo_block,
    "required_files": check_required_files,
    "no_python": check_no_python,
    "configs": check_configs,
    "systems": check_systems,
    "needs": check_needs,
    "version": check_version,
    "results": check_results,
    "docs": check_docs,
    "weights": check_weights,
}
"""Name, as used in ``exemptions``, to check."""


def verify(path: Path) -> dict[str, list[str]]:
    """Run every check on the bundle in ``path``.

    Returns:
        Check name to problems, for the checks that found some; empty if the bundle is well. A bundle that cannot be
        read at all fails ``promptzoo_block`` alone.
    """
    try:
        bundle = read_bundle(path)
    except PromptZooError as error:
        return {"promptzoo_block": [str(error)]}
    found = {name: check(bundle) for name, check in CHECKS.items() if name not in bundle.exemptions}
    return {name: problems for name, problems in found.items() if problems}


def bundle_folders(folder: Path) -> list[Path]:
    """Every folder of bundles, readable as a bundle or not, by name."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(("_", ".")))


def main(arguments: list[str] | None = None) -> int:
    """Verify the named bundles, or all; returns the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/verify_bundles", description="Verify bundles offline.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="bundles to verify (default: all)")
    parser.add_argument("--folder", type=Path, help="folder of bundles (default: bundles/ of this repository)")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    options = parser.parse_args(arguments)
    try:
        folder = options.folder or bundles_dir()
    except PromptZooError as error:
        print(error, file=sys.stderr)
        return 1
    paths = [folder / name for name in options.names] or bundle_folders(folder)
    findings = {path.name: verify(path) for path in paths}
    if options.json:
        print(json.dumps(findings, indent=2))
    else:
        for name, found in findings.items():
            print(f"{name}: {'ok' if not found else ''}".rstrip())
            for check, problems in found.items():
                print("\n".join(f"  {check}: {problem}" for problem in problems))
        broken = sum(bool(found) for found in findings.values())
        print(f"{len(findings) - broken} of {len(findings)} bundles are well")
    return int(any(findings.values()))


if __name__ == "__main__":
    sys.exit(main())
