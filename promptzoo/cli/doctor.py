"""``promptzoo doctor``: does this installation work? Engines, weights, a prompt end to end, orientation, the cache."""
from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Iterator, List, Optional

import numpy as np
import typer

from promptzoo import __version__
from promptzoo.cli.choice import file_sha256
from promptzoo.cli.common import JSON_OPTION, UNEXPECTED, print_json, print_table, waiting, words
from promptzoo.cli.maintain.versions import content_digest, released
from promptzoo.core.bundles import BundleInfo, find_bundles, get_bundle
from promptzoo.core.errors import PromptZooError
from promptzoo.core.geometry import Grid, grid_with_codes
from promptzoo.core.locations import cache_dir
from promptzoo.core.volume import Volume
from promptzoo.prompts.types import Box, Point, PromptSet

AXIS_CODES = (("L", "P", "S"), ("R", "S", "A"), ("I", "L", "A"), ("A", "S", "R"))
"""Arrangements tried against the phantom's own (RAS)."""
DICE_LEAST = 0.8
"""One click on a bright ellipse must give at least this."""
SHAPES = {2: (96, 80, 1), 3: (64, 56, 40)}
OK, NOTE, BAD = "ok", "note", "WRONG"


@dataclass(frozen=True)
class Finding:
    """One line of the report; ``state`` is ``ok``, ``note`` (nothing to worry about) or ``WRONG``."""

    check: str
    state: str
    detail: str


def doctor(
    bundle: Optional[List[str]] = typer.Option(None, "--bundle", "-b", help="Only these bundles; commas or several "
                                                                            "times. Default: all."),
    engine: str = typer.Option("auto", help="Engine for the end-to-end check."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Test this installation: engines, weights, one prompt end to end, orientation, cache folder.

    Ends with a plain verdict, and with exit code 1 if something is wrong.
    """
    findings = [_versions(), _cache()]
    with waiting("Looking for engines", as_json):
        findings += _engines()
    try:
        found = [get_bundle(name) for name in words(bundle)] or find_bundles()
        findings += [] if found else [Finding("bundles", BAD, "none found; set PROMPTZOO_BUNDLES")]
    except PromptZooError as error:
        found = []
        findings.append(Finding("bundles", BAD, str(error)))
    for info in found:
        with waiting(f"Trying {info.name}", as_json):
            findings += _bundle(info, engine)
    wrong = [f for f in findings if f.state == BAD]
    verdict = "promptzoo works here." if not wrong else \
        f"Something is wrong: {len(wrong)} of {len(findings)} checks failed."
    if as_json:
        print_json({"ok": not wrong, "verdict": verdict, "findings": [asdict(f) for f in findings]})
    else:
        print_table(["check", "state", "detail"], [[f.check, f.state, f.detail] for f in findings])
        typer.echo(verdict)
    if wrong:
        raise typer.Exit(UNEXPECTED)


def _versions() -> Finding:
    import platform

    return Finding("versions", OK, f"promptzoo {__version__}, Python {platform.python_version()}")


def _cache() -> Finding:
    try:
        folder = cache_dir()
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Finding("cache folder", BAD, f"{error}; set PROMPTZOO_CACHE to a folder that can be written")
    return Finding("cache folder", OK, f"{folder} can be written")


def _engines() -> Iterator[Finding]:
    try:
        from promptzoo.engines import engine_report

        report = engine_report()
    except Exception as error:  # a broken installation of torch raises anything
        yield Finding("engines", BAD, f"{type(error).__name__}: {error}")
        return
    for entry in report:
        chosen = " (auto takes this one)" if entry["auto"] else ""
        if entry["available"]:
            yield Finding(f"engine {entry['engine']}", OK, f"{entry['version']} on {entry['device']}: "
                                                           f"{', '.join(entry['precisions'])}{chosen}")
        else:
            yield Finding(f"engine {entry['engine']}", BAD if entry["engine"] == "torch" else NOTE, entry["why"])


def _bundle(info: BundleInfo, engine: str) -> Iterator[Finding]:
    """Weights, end to end, orientation of one bundle."""
    path, kind = info.weights_path, info.weights["kind"]
    if kind == "none":
        yield Finding(f"{info.name}: weights", NOTE, "the bundle needs none")
    elif path is None or not path.is_file():
        state = BAD if kind == "shipped" else NOTE
        yield Finding(f"{info.name}: weights", state, f"{info.weights.get('file')} is missing; " + (
            "restore it from the repository" if kind == "shipped" else "public weights are fetched on request"))
        return
    else:
        same = _as_released(info)
        yield Finding(f"{info.name}: weights", BAD if same is False else OK,
                      f"{path.stat().st_size / 1e6:.1f} MB, sha256 {file_sha256(path)[:16]}…, {info.weights['licence']}"
                      + {True: ", as released", False: f", not what was released as {info.version}", None: ""}[same])
    if info.task != "segmentation" or not {"point", "box"} & set(info.prompts):
        yield Finding(f"{info.name}: one prompt", NOTE, "takes neither a point nor a box: not tried")
        return
    try:
        from promptzoo.inference import load_predictor

        predictor = load_predictor(str(info.path), engine)
        volume, mask = phantom(info.dimensions)
        prompts = centre_prompt(mask, volume.grid, "point" if "point" in info.prompts else "box")
        yield _end_to_end(info, predictor, volume, mask, prompts)
        yield _orientation(info, predictor, volume, prompts)
    except Exception as error:  # whatever it is, it is what the doctor is asked for
        yield Finding(f"{info.name}: one prompt", BAD, f"{type(error).__name__}: {error}")


def _as_released(info: BundleInfo) -> bool | None:
    """Whether weights and configs are those that the changelog names for this version; None if it names none."""
    changelog = info.path.parents[1] / "CHANGELOG.md"
    known = released(changelog.read_text(encoding="utf-8")) if changelog.is_file() else {}
    expected = known.get((info.name, info.version))
    return None if expected is None else expected == content_digest(info.path)


def phantom(dimensions: int) -> tuple[Volume, np.ndarray]:
    """A noisy image with a bright ellipse or ellipsoid, anisotropic and far from the origin, and its mask."""
    shape = SHAPES[dimensions]
    centre, radii = np.array(shape) * (0.45, 0.55, 0.5), np.array(shape) * (0.25, 0.22, 0.3)
    places = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1) + 0.5
    mask = ((((places - centre) / radii) ** 2)[..., :dimensions]).sum(-1) <= 1
    affine = np.diag([0.8, 0.9, 1.5, 1.0])
    affine[:3, 3] = (-130.0, 42.0, 615.0)
    noise = np.random.default_rng(0).normal(0, 8, shape)
    return Volume(60 + 90 * mask + noise, Grid(shape, affine), {"source": "phantom"}), mask


def centre_prompt(mask: np.ndarray, grid: Grid, kind: str) -> PromptSet:
    """A click in the middle of the mask, or its box, in world space."""
    inside = np.argwhere(mask)
    if kind == "box":
        return PromptSet((Box(tuple(inside.min(0)), tuple(inside.max(0) + 1), 1, "voxel"),)).to_world(grid)
    centre = inside[np.abs(inside - inside.mean(0)).sum(1).argmin()]
    return PromptSet((Point(tuple(centre), True, 1, "voxel"),)).to_world(grid)


def _end_to_end(info: BundleInfo, predictor: Any, volume: Volume, mask: np.ndarray, prompts: PromptSet) -> Finding:
    """One prompt, from the image to a mask file that is read back."""
    from promptzoo.data.io import read_mask, write_mask

    prediction = predictor.decode(predictor.encode(volume), prompts)
    labels = prediction.labelmap()
    with tempfile.TemporaryDirectory() as folder:
        back, grid = read_mask(write_mask(Path(folder, "mask.nii.gz"), labels.astype(np.uint8), volume.grid))
    same = np.array_equal(back, labels) and grid.same_space(volume.grid)
    dice = 2 * float((mask & (labels > 0)).sum()) / max(1, int(mask.sum() + (labels > 0).sum()))
    good = same and dice >= DICE_LEAST
    detail = f"Dice {dice:.2f} on a phantom, {prediction.engine}, {prediction.seconds * 1000:.0f} ms"
    if dice < DICE_LEAST:
        detail += f"; at least {DICE_LEAST} was expected"
    return Finding(f"{info.name}: one prompt", OK if good else BAD,
                   detail + ("" if same else "; the mask file does not come back as it was written"))


def _orientation(info: BundleInfo, predictor: Any, volume: Volume, prompts: PromptSet) -> Finding:
    """The same scan stored in other axis orders, the same prompt in the world: the same voxels."""
    own = predictor.decode(predictor.encode(volume), prompts).labelmap()
    if not own.any():
        return Finding(f"{info.name}: orientation", NOTE, "nothing to compare: the mask is empty")
    different = []
    for codes in AXIS_CODES:
        move, grid = grid_with_codes(volume.grid, codes)
        turned = Volume(np.ascontiguousarray(move.array(volume.data)), grid, volume.meta)
        answer = predictor.decode(predictor.encode(turned), prompts).labelmap()
        if not np.array_equal(move.inverse_array(answer), own):
            different.append("".join(codes))
    names = ", ".join("".join(codes) for codes in AXIS_CODES)
    if different:
        return Finding(f"{info.name}: orientation", BAD, f"another mask when stored as {', '.join(different)}")
    return Finding(f"{info.name}: orientation", OK, f"the same mask when stored as {names}")
