"""Files of learned prompts: structures that a person taught a bundle, kept apart from it.

A learned prompt is one safetensors file. Its header holds, under :data:`KEY`, a JSON record: name, bundle, frozen base
and its SHA-256, cases, held-out Dice. A file in the bundle's folder of learned prompts is one of the bundle's classes;
without the file the bundle is what it was.
"""
from __future__ import annotations

import json
import re
import shutil
import struct
from pathlib import Path
from typing import Any, Iterable

from promptzoo.core.errors import BundleError, NotFoundError, PromptError, complain
from promptzoo.core.locations import data_dir

SUFFIX, KEY = ".safetensors", "promptzoo"
_NAME = re.compile(r"[a-z0-9][a-z0-9 ()+.-]{0,63}")


def class_name(text: str) -> str:
    """A name as classes are named: lower case, single spaces.

    Raises:
        PromptError: for a name that cannot be one, such as an empty one or a path.
    """
    name = " ".join(str(text).lower().replace("_", " ").split())
    if not _NAME.fullmatch(name):
        raise PromptError(complain("name of a learned prompt", text, "letters, digits, spaces, ().+-, at most 64"))
    return name


def header(path: Path) -> dict[str, str]:
    """The free texts in the header of a safetensors file; no tensor is read.

    Raises:
        BundleError: if it is no such file.
    """
    try:
        with Path(path).open("rb") as file:
            size = struct.unpack("<Q", file.read(8))[0]
            found: dict[str, Any] = json.loads(file.read(min(size, 100_000_000)))
        return dict(found.get("__metadata__") or {})
    except (OSError, ValueError, AttributeError, struct.error) as error:
        raise BundleError(complain("safetensors file", f"{path}: {error}", "a readable safetensors file")) from error


def read_record(path: Path) -> dict[str, Any]:
    """The record of a learned prompt.

    Raises:
        BundleError: if the file is not one.
    """
    text = header(path).get(KEY)
    try:
        record = json.loads(text or "")
        return {**record, "name": class_name(record["name"]), "bundle": str(record["bundle"]),
                "base": dict(record["base"])}
    except (ValueError, KeyError, TypeError, PromptError) as error:
        raise BundleError(complain("learned prompt", str(path), "a file that promptzoo learn wrote")) from error


def learned_folder(bundle: str) -> Path:
    """Where the learned prompts of a bundle lie: ``learned/<bundle>`` in the user's data; it need not exist."""
    return data_dir() / "learned" / bundle


def learned_prompts(bundle: str, base_sha256: str | None = None) -> dict[str, Path]:
    """The learned prompts of a bundle, name to file, by name.

    Args:
        bundle: its name.
        base_sha256: of the frozen weights; prompts learned on others are left out. None takes all.
    """
    found = {}
    for file in sorted(learned_folder(bundle).glob(f"*{SUFFIX}")):
        try:
            record = read_record(file)
        except BundleError:
            continue
        if base_sha256 in (None, record["base"].get("sha256")):
            found[record["name"]] = file
    return found


def stamp(names: Iterable[str], bundle: str, base_sha256: str | None) -> str:
    """What of learned prompts may change under their names: when their files were written; see ``depends_on`` of
    predictors."""
    wanted = set(names)
    known = learned_prompts(bundle, base_sha256) if wanted else {}
    return " ".join(f"{name}@{known[name].stat().st_mtime_ns}" for name in sorted(wanted & set(known)))


def add_learned(path: Path, bundle: str, base_sha256: str, taken: tuple[str, ...] = (), replace: bool = False) -> Path:
    """Copy a learned prompt into the folder of a bundle.

    Args:
        path: the file.
        bundle, base_sha256: whose, and what its frozen weights are.
        taken: names of the bundle's own classes.
        replace: whether a learned prompt of that name may be replaced.

    Returns:
        The copy.

    Raises:
        BundleError: if it is no learned prompt, or was learned on another bundle or other weights.
        PromptError: if the name is taken.
    """
    record = read_record(path)
    if record["bundle"] != bundle or record["base"].get("sha256") != base_sha256:
        told = f"{record['name']}, of {record['bundle']} on weights {str(record['base'].get('sha256'))[:12]}"
        raise BundleError(complain("learned prompt", told, f"one of {bundle} on weights {base_sha256[:12]}",
                                   "Learn it again from its cases"))
    name = record["name"]
    if name in taken:
        raise PromptError(complain(f"name of a prompt for {bundle}", name, "a name that is no class of the bundle"))
    if name in learned_prompts(bundle) and not replace:
        raise PromptError(complain(f"name of a prompt for {bundle}", name, "a name that is not learned yet",
                                   "Remove that one first, or say --replace"))
    target = learned_folder(bundle) / f"{name.replace(' ', '_')}{SUFFIX}"
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_suffix(".tmp")
    shutil.copyfile(path, fresh)
    fresh.replace(target)
    return target


def remove_learned(name: str, bundle: str) -> Path:
    """Delete a learned prompt of a bundle; nothing else of it is anywhere.

    Raises:
        NotFoundError: if there is none of that name.
    """
    known = learned_prompts(bundle)
    wanted = class_name(name)
    if wanted not in known:
        raise NotFoundError(complain(f"learned prompt of {bundle}", name, ", ".join(known) or "none"))
    known[wanted].unlink()
    folder = learned_folder(bundle)
    if not any(folder.iterdir()):
        folder.rmdir()
    return known[wanted]
