"""Release archives: ``scripts/make_release BUNDLE [--out DIR]``.

The zip holds the bundle, beside it the weights of the bundle that it is derived from, and, in its root, the package
under its own name, so that ``python -m monai.bundle run`` works in an empty directory on a machine that has promptzoo's
dependencies but not promptzoo. The same files give the same bytes.
"""
from __future__ import annotations

import argparse
import hashlib
import posixpath
import sys
import zipfile
from pathlib import Path
from typing import Iterator

import promptzoo
from promptzoo.cli.maintain.verify import verify
from promptzoo.cli.maintain.versions import release_line
from promptzoo.core.bundles import BundleInfo, get_bundle
from promptzoo.core.errors import BundleError, PromptZooError

_EPOCH = (1980, 1, 1, 0, 0, 0)
_BUNDLE_PARTS = ("LICENSE", "large_files.yml", "configs", "docs", "models")
_PACKAGE_SUFFIXES = (".py", ".json", ".csv", ".typed", ".safetensors")


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files of a bundle that belong into a release, by their names in its folder."""
    for part in _BUNDLE_PARTS:
        top = folder / part
        for file in [top] if top.is_file() else sorted(top.rglob("*")):
            if file.is_file() and not file.name.startswith("."):
                yield file.relative_to(folder).as_posix(), file


def _members(bundle: BundleInfo) -> Iterator[tuple[str, Path]]:
    yield from _files(bundle.path)
    brought = {}
    for folder in bundle.needs:
        brought |= {f"../{folder.name}/{name}": file for name, file in _files(folder)}
    base = bundle.base_weights
    if base is not None:
        brought[f"../{base.relative_to(bundle.path.parent).as_posix()}"] = base
    yield from brought.items()
    package = Path(promptzoo.__file__).parent
    for file in sorted(package.rglob("*")):
        if file.suffix in _PACKAGE_SUFFIXES and "__pycache__" not in file.parts:
            yield (Path("promptzoo") / file.relative_to(package)).as_posix(), file


def make_release(bundle: BundleInfo, out: Path) -> Path:
    """Write ``<name>_v<version>.zip`` into ``out``, which is created.

    Returns:
        Path of the archive.

    Raises:
        BundleError: if the bundle does not pass its offline verification.
    """
    found = verify(bundle.path)
    if found:
        lines = "; ".join(f"{check}: {problem}" for check, problems in found.items() for problem in problems)
        raise BundleError(f"{bundle.name} is not fit for release: {lines}")
    out.mkdir(parents=True, exist_ok=True)
    target = out / f"{bundle.name}_v{bundle.version}.zip"
    with zipfile.ZipFile(target, "w") as archive:
        for name, file in _members(bundle):
            info = zipfile.ZipInfo(posixpath.normpath(f"{bundle.name}/{name}"), _EPOCH)
            info.external_attr = 0o644 << 16
            archive.writestr(info, file.read_bytes(), zipfile.ZIP_DEFLATED)
    return target


def main(arguments: list[str] | None = None) -> int:
    """Make the archive of one bundle; returns the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/make_release", description="Make a zip of a bundle that runs alone.")
    parser.add_argument("bundle", help="name or folder of the bundle")
    parser.add_argument("--out", type=Path, default=Path("dist"), help="folder for the zip (default: dist)")
    options = parser.parse_args(arguments)
    try:
        bundle = get_bundle(options.bundle)
        archive = make_release(bundle, options.out)
    except PromptZooError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{archive}\nsha256 {hashlib.sha256(archive.read_bytes()).hexdigest()}")
    print(f"line for the released section of CHANGELOG.md:\n{release_line(bundle)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
