"""The version rule of bundles: what was released under a version stays as it was.

``CHANGELOG.md`` names, under each released heading, the bundle versions that the release ships, each with a digest of
its content: ``- `interactive_refinement_2d` 0.1.0, content `0123456789abcdef` ``. A bundle whose content differs from
what was released under its version needs a new version. No git history is needed to check it.
"""
from __future__ import annotations

import hashlib
import re
from pathlib import Path

from promptzoo.core.bundles import BundleInfo

VERSION = re.compile(r"\d\.\d\.\d")
_HEADING = re.compile(r"^## (.*)$", re.MULTILINE)
_SHIPPED = re.compile(r"`(?P<name>[a-z0-9_]+)` (?P<version>\d\.\d\.\d), content `(?P<digest>[0-9a-f]{16})`")


def content_files(path: Path) -> list[Path]:
    """The files of a bundle that decide what it does: configs, weights and the list of public weights; sorted."""
    found = [f for part in ("configs", "models") for f in (path / part).rglob("*") if f.is_file()]
    kept = [f for f in found if not f.name.startswith(".") and f.suffix in (".json", ".pt", ".safetensors", ".conf")]
    return sorted([*kept, *path.glob("large_files.yml")])


def content_digest(path: Path) -> str:
    """16 hexadecimal digits over names and bytes of :func:`content_files`."""
    digest = hashlib.sha256()
    for file in content_files(path):
        digest.update(file.relative_to(path).as_posix().encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def release_line(bundle: BundleInfo) -> str:
    """The line for the released section of ``CHANGELOG.md``."""
    return f"- `{bundle.name}` {bundle.version}, content `{content_digest(bundle.path)}`"


def released(changelog: str) -> dict[tuple[str, str], str]:
    """``(bundle, version)`` to content digest, from the released sections of a changelog's text."""
    parts = _HEADING.split(changelog)
    sections = zip(parts[1::2], parts[2::2])
    return {(match["name"], match["version"]): match["digest"]
            for heading, text in sections if "unreleased" not in heading.lower() for match in _SHIPPED.finditer(text)}


def version_problems(bundle: BundleInfo, changelog: str) -> list[str]:
    """What is wrong with a bundle's version, one line each.

    Args:
        bundle: the bundle.
        changelog: text of the repository's ``CHANGELOG.md``; empty if there is none.
    """
    problems = []
    if not VERSION.fullmatch(bundle.version):
        problems.append(f"version {bundle.version}: allowed are three one-digit numbers, since MONAI compares versions "
                        "as text")
    changes = bundle.metadata.get("changelog")
    if not isinstance(changes, dict) or not str(changes.get(bundle.version, "")).strip():
        problems.append(f"version {bundle.version} has no line in the changelog of configs/metadata.json")
    before = released(changelog).get((bundle.name, bundle.version))
    if before not in (None, content_digest(bundle.path)):
        problems.append(f"version {bundle.version} was released with other content: raise the version in "
                        "configs/metadata.json and say in its changelog what changed")
    return problems
