"""``promptzoo learn`` and ``learned``: teach a bundle a structure from a few corrected cases; list, add, rank and
remove what it was taught."""
from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Optional

import typer

from promptzoo.cli import options
from promptzoo.cli.common import EXIT_CODES, JSON_OPTION, existing, print_json, print_table, progress, waiting
from promptzoo.core.bundles import BundleInfo, find_bundles, get_bundle
from promptzoo.core.errors import BundleError, PromptError, complain
from promptzoo.core.learned import add_learned, class_name, learned_prompts, read_record, remove_learned

DEFAULT = "prompt_tuned_seg"
BUNDLE = typer.Option(DEFAULT, "--bundle", "-b", help="A bundle that can be taught; see: promptzoo learned list.")

app = typer.Typer(no_args_is_help=True, epilog=EXIT_CODES,
                  help="Structures that bundles were taught from a few cases: list, add, rank, remove.")


def learn(
    name: str = typer.Argument(..., help="What the structure is called: the name of the new class."),
    datalist: Path = typer.Argument(..., help="CSV of corrected cases: id, task, image, mask, label_value, modality; "
                                              "1 to 20 rows of the structure."),
    bundle: str = BUNDLE,
    out: Optional[Path] = typer.Option(None, "--out", "-o", help="Write the learned prompt here, to share it, instead "
                                                                 "of adding it to the bundle."),
    match: Optional[str] = options.MATCH,
    limit: Optional[int] = typer.Option(None, min=1, max=20, help="Only the first cases."),
    measure: bool = typer.Option(True, help="Measure it on cases held out, in two folds; takes as long again."),
    replace: bool = typer.Option(False, "--replace", help="Replace what was learned under that name."),
    seed: int = typer.Option(0, help="Of all draws."),
    variant: Optional[str] = typer.Option(None, "--variant", help="Teach this variant of the bundle."),
    engine: str = options.ENGINE,
    as_json: bool = JSON_OPTION,
) -> None:
    """Teach a bundle a structure from 1 to 20 corrected cases, in about a minute on a CPU.

    The bundle's network is frozen: what is learned is a file of a few kilobytes, with the number of cases and the Dice
    on held-out ones in it. Added to the bundle it is one of its classes, for segment --class NAME and in the viewer, at
    once; removed, nothing of it is left.
    """
    from promptzoo.evaluation.datalist import Datalist
    from promptzoo.inference.learned import save_prompt
    from promptzoo.training.teachers import teacher_for

    info, name = _teachable(bundle), class_name(name)
    if name in info.block["label"]["labels"]:
        raise PromptError(complain("name of a learned prompt", name, "a name that is no class of the bundle"))
    if out is None and name in learned_prompts(info.name) and not replace:
        raise PromptError(complain("name of a learned prompt", name, "a new name", "Or say --replace"))
    if out is not None and out.suffix != ".safetensors":
        raise PromptError(complain("--out", out.name, "a name that ends in .safetensors"))
    source = Datalist.read(existing(datalist, "datalist"), match=match)
    with waiting("Reading the cases", as_json):
        loaded = [source.load(row) for row in source.rows[:limit]]
        cases = [(case.row.id, case.volume, case.mask) for case in loaded]
        teacher = teacher_for(info, engine, seed, variant)
    with progress("Learning", as_json) as report:
        found = teacher.learn(name, cases, report)
    told = None
    if measure and len(cases) > 1:
        with waiting("Measuring on cases held out", as_json):
            told = teacher.held_out(name, cases)
    record = {"name": name, "bundle": info.name, "version": info.version, "variant": variant,
              "base": {"bundle": (info.weights.get("base") or {}).get("bundle", info.name), "sha256": teacher.base},
              "cases": len(cases), "modalities": sorted({case.row.modality for case in loaded}), "held_out": told,
              "loss": round(found.loss, 4), "seconds": round(found.seconds, 1), "seed": seed}
    with tempfile.TemporaryDirectory() as folder:
        fresh = out or Path(folder) / f"{name.replace(' ', '_')}.safetensors"
        save_prompt(found.prompt, record, fresh)
        place = out or add_learned(fresh, info.name, str(teacher.base), _own(info), replace)
    record |= {"file": str(place), "bytes": place.stat().st_size}
    if as_json:
        print_json(record)
        return
    held = f"Dice {told['dice']:.2f} on cases held out" if told else "not measured on other cases"
    typer.echo(f"{name}: learned from {len(cases)} case{'s' * (len(cases) > 1)} in {found.seconds:.0f} s, {held}; "
               f"{place.stat().st_size / 1000:.0f} kB in {place}")
    of_variant = f" --variant {variant}" if variant else ""
    typer.echo(f"promptzoo learned add {place}" if out else
               f"promptzoo segment IMAGE --bundle {info.name}{of_variant} --class \"{name}\"")


@app.command("list", help="List what bundles were taught.")
def list_(bundle: Optional[str] = typer.Option(None, "--bundle", "-b", help="Only this bundle."),
          as_json: bool = JSON_OPTION) -> None:
    """List learned prompts."""
    taught = [_teachable(bundle)] if bundle else [info for info in find_bundles() if info.learns]
    found = [{**read_record(file), "file": str(file), "bytes": file.stat().st_size}
             for info in taught for file in learned_prompts(info.name).values()]
    fits = {info.name: info.frozen_sha256 for info in taught}
    for record in found:
        record["for"] = f"--variant {record['variant']}" if record.get("variant") else \
            "the bundle" if record["base"].get("sha256") == fits[record["bundle"]] else "other weights: learn it again"
    if as_json:
        print_json(found)
        return
    print_table(["name", "bundle", "for", "cases", "held-out Dice", "modality", "bytes", "file"],
                [[r["name"], r["bundle"], r["for"], r.get("cases"), (r.get("held_out") or {}).get("dice"),
                  ", ".join(r.get("modalities") or ()), r["bytes"], r["file"]] for r in found])
    names = ", ".join(info.name for info in taught) or "no bundle"
    typer.echo(f"{len(found)} learned. Bundles that can be taught: {names}. Teach one: promptzoo learn NAME DATALIST")


@app.command(help="Add a learned prompt that somebody shared.")
def add(file: Path = typer.Argument(..., help="File that promptzoo learn --out wrote."),
        replace: bool = typer.Option(False, "--replace", help="Replace what was learned under that name.")) -> None:
    """Add a learned prompt to its bundle."""
    record = read_record(existing(file, "learned prompt"))
    info = _teachable(record["bundle"])
    place = add_learned(file, info.name, _frozen(info, record), _own(info), replace)
    typer.echo(f"{record['name']} is a class of {info.name}: {place}")


@app.command(help="Remove a learned prompt; the bundle is then what it was before.")
def remove(name: str = typer.Argument(..., help="Name of the structure."), bundle: str = BUNDLE) -> None:
    """Remove a learned prompt."""
    typer.echo(f"removed {remove_learned(name, _teachable(bundle).name)}")


@app.command(help="Which cases to label next: those on which the sets of tokens of a structure disagree most.")
def rank(name: str = typer.Argument(..., help="Name of the structure, learned or shipped."),
         datalist: Path = typer.Argument(..., help="CSV of cases; masks are not looked at."), bundle: str = BUNDLE,
         match: Optional[str] = options.MATCH,
         variant: Optional[str] = typer.Option(None, "--variant", help="Ask this variant of the bundle."),
         engine: str = options.ENGINE, as_json: bool = JSON_OPTION) -> None:
    """Rank cases by disagreement."""
    from promptzoo.data.io import read_image
    from promptzoo.evaluation.datalist import Datalist
    from promptzoo.inference import load_predictor
    from promptzoo.prompts import ClassPrompt, PromptSet

    predictor = load_predictor(_teachable(bundle).path, engine, variant=variant)
    rows, found = Datalist.read(existing(datalist, "datalist"), match=match).rows, []
    with progress("Looking", as_json) as report:
        for number, row in enumerate(rows, 1):
            state = predictor.encode(read_image(row.image))
            answer = predictor.decode(state, PromptSet((ClassPrompt(name),))).objects[0]
            if "disagreement" not in answer.info:
                raise BundleError(complain("bundle to rank cases with", bundle, "one that has several prompts of a "
                                           f"structure, such as {DEFAULT}"))
            found.append({"id": row.id, "disagreement": answer.info["disagreement"], "image": str(row.image)})
            report(number, len(rows), row.id)
    found.sort(key=lambda entry: -entry["disagreement"])
    if as_json:
        print_json(found)
        return
    print_table(["id", "disagreement", "image"], [[e["id"], e["disagreement"], e["image"]] for e in found])


def _teachable(bundle: str) -> BundleInfo:
    info = get_bundle(bundle)
    if not info.learns:
        known = ", ".join(one.name for one in find_bundles() if one.learns)
        raise BundleError(complain("bundle to teach", info.name, known or "none here"))
    return info


def _frozen(info: BundleInfo, record: dict[str, Any]) -> str:
    """SHA-256 of the weights that a learned prompt has to belong to: those of its variant."""
    if not record.get("variant"):
        return str(info.frozen_sha256)
    from promptzoo.inference import load_predictor

    return str(load_predictor(info.path, "torch", variant=record["variant"]).base_sha256)  # type: ignore[attr-defined]


def _own(info: BundleInfo) -> tuple[Any, ...]:
    """The bundle's own classes."""
    return tuple(info.block["label"]["labels"])
