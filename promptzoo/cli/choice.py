"""Which bundle ``--bundle auto`` takes, and what identifies the bundle that was taken."""
from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Collection, Iterable

from promptzoo.core.bundles import BundleInfo, find_bundles
from promptzoo.core.errors import NotFoundError, UnclearTextError, complain
from promptzoo.core.geometry import Grid


def choose_bundle(grid: Grid, kinds: Iterable[str], bundles: Iterable[BundleInfo] | None = None,
                  classes: Iterable[str] = (), texts: Iterable[str] = ()) -> BundleInfo:
    """The bundle for an image and the kinds of prompt given, by metadata alone.

    A bundle fits that segments, takes every kind, knows every class, and ships its weights. An image of one slice goes
    to a 2D bundle, a volume to a 3D one; without one, to a 2D bundle, which segments the slices that carry a prompt.
    Among several the first by name is taken, those that stand alone before those derived for some purpose, and these
    before those that say of themselves that others are to be preferred (``extra.chosen_last``); for prompts that are
    names and words alone, the one whose measured Dice by name is highest.

    Args:
        grid: the image's grid.
        kinds: kinds of prompt, see ``promptzoo.prompts.types.KINDS``.
        bundles: those to choose from; the installed ones if None.
        classes: names of the class prompts among them.
        texts: those of the text prompts; a bundle fits that knows something of each.

    Raises:
        UnclearTextError: if a text is unclear to every bundle, with the question.
        NotFoundError: if none fits, with the reason of each; if no bundle knows a class, with those that are known.
    """
    wanted, kinds, classes = 2 if grid.is_2d else 3, set(kinds), {name.lower() for name in classes}
    bundles = list(find_bundles() if bundles is None else bundles)
    known = {str(name).lower() for info in bundles if "class" in info.prompts for name in info.label.get("labels", ())}
    if classes - known:
        raise NotFoundError(complain("class", ", ".join(sorted(classes - known)), ", ".join(sorted(known)) or "none",
                                     "Draw it instead, with --point or --box"))
    texts, reasons, fitting = list(texts), [], []
    for info in sorted(bundles, key=lambda b: (_last(b), "base" in b.weights, b.name)):
        why = _why_not(info, kinds, wanted, classes, texts)
        if why:
            reasons.append(f"{info.name}: {why}")
        else:
            fitting.append(info)
    if not fitting:
        unclear = _unclear(texts, bundles)
        if unclear is not None:
            raise unclear
        raise NotFoundError(complain(f"a {wanted}D bundle for {', '.join(sorted(kinds)) or 'no prompt'}",
                                     "; ".join(reasons) or "no bundles", "a bundle that takes these prompts",
                                     "See: promptzoo bundles"))
    if kinds and kinds <= {"class", "text"}:
        return max(fitting, key=_measured_by_name)
    return next((info for info in fitting if info.dimensions == wanted), fitting[0])


def _last(info: BundleInfo) -> bool:
    return bool(info.block.get("extra", {}).get("chosen_last"))


def _measured_by_name(info: BundleInfo) -> float:
    """Mean Dice of structures asked for by name in the bundle's results; 0 where nothing was measured."""
    blocks = [block for name, block in info.results().items() if name.split()[0] == "class" and "dice" in block]
    told = [(block["dice"][0], block["n"]) for block in blocks if block["n"]]
    return sum(dice * n for dice, n in told) / sum(n for _, n in told) if told else 0.0


def _unclear(texts: Iterable[str], bundles: list[BundleInfo]) -> UnclearTextError | None:
    """Why a text is unclear to all of these bundles together; None if each text means something to one of them."""
    from promptzoo.text.wording import read_wording

    names = list(dict.fromkeys(str(name) for info in bundles for name in info.spoken_classes))
    for text in texts if names else ():
        try:
            read_wording(text, names)
        except UnclearTextError as error:
            return error
    return None


def _why_not(info: BundleInfo, kinds: set[str], wanted: int, classes: set[str], texts: Collection[str] = ()) -> str:
    if info.task != "segmentation":
        return f"is for {info.task}"
    if not kinds <= set(info.prompts):
        return f"does not take {', '.join(sorted(kinds - set(info.prompts)))}"
    if unknown := classes - {str(name).lower() for name in info.label.get("labels", ())}:
        return f"does not know the class {', '.join(sorted(unknown))}"
    if "text" in info.prompts and texts:
        if not info.spoken_classes:
            return "reads whole sentences: name it to use it"
        unclear = next((e for e in (_unclear([text], [info]) for text in texts) if e is not None), None)
        if unclear is not None:
            return str(unclear)
    if info.dimensions > wanted:
        return "is for volumes"
    if info.weights["kind"] != "shipped" or not weights_present(info):
        return "has no weights here"
    return ""


def weights_present(info: BundleInfo) -> bool:
    """Whether the bundle's weight file is there."""
    return info.weights_path is not None and info.weights_path.is_file()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def weights_record(info: BundleInfo, variant: str | None = None) -> dict[str, Any]:
    """File (relative to the bundle), size, SHA-256 and licence of the weights; a variant may name its own file."""
    path = info.weights_path
    if variant is not None:
        from promptzoo.inference.loader import read_bundle_config

        path = Path(str(read_bundle_config(info, variant).get_parsed_content("weights")))
    there = path is not None and path.is_file()
    inside = path is not None and path.is_relative_to(info.path)
    return {"file": None if path is None else path.relative_to(info.path).as_posix() if inside else path.name,
            "bytes": path.stat().st_size if there else None,  # type: ignore[union-attr]
            "sha256": file_sha256(path) if there else None,  # type: ignore[arg-type]
            "licence": info.weights["licence"]}
