"""``promptzoo export``: a bundle's network as a file for another program."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import typer

from promptzoo.cli import options
from promptzoo.cli.common import JSON_OPTION, print_json, print_table, waiting
from promptzoo.core.bundles import get_bundle


def export(
    bundle: str = typer.Argument(..., help="Name of a bundle, or the path of its folder."),
    engine: str = typer.Option("onnxruntime", help="onnxruntime (ONNX), openvino (IR), torch (pt2) or tensorrt."),
    precision: str = typer.Option("fp32", help="fp32, bf16, fp16 or int8, as the engine has it."),
    out: Path = typer.Option(Path("."), "--out", "-o", help="Folder; made if missing."),
    variant: Optional[str] = options.VARIANT,
    as_json: bool = JSON_OPTION,
) -> None:
    """Write a bundle's network for an engine, and check the written file against torch.

    Beside the network goes export.json: inputs, outputs, hashes, parity and versions. Nothing is kept of a file that
    does not agree with torch. A network of several parts (image encoder, decoder) gets a folder for each.
    """
    info = get_bundle(bundle)
    if variant is not None:
        info.variant(variant)
    from promptzoo.engines import export_bundle_module

    with waiting(f"Exporting {info.name} for {engine}", as_json):
        parts = network_parts(str(info.path), variant)
        notes = {}
        for name, part in parts.items():
            folder, stem = (out, info.name) if len(parts) == 1 else (out / name, name)
            note = export_bundle_module(part.module, part.example, folder, engine, name=stem,
                                        mask_outputs=() if name == "image_encoder" else (0,),
                                        **part.options(precision))
            notes[name] = {"folder": str(folder), **note}
    if as_json:
        told = next(iter(notes.values())) if len(parts) == 1 else {"folder": str(out), "parts": notes}
        print_json({"bundle": info.name, "version": info.version, "variant": variant, **told})
        return
    for note in notes.values():
        _tell(f"{info.name} {info.version}", note)


def _tell(title: str, note: dict[str, Any]) -> None:
    print_table(["file", "bytes", "sha256"], [[f["name"], f["bytes"], f["sha256"]] for f in note["files"]],
                f"{title} for {note['engine']}, {note['precision']}")
    for kind in ("inputs", "outputs"):
        shapes = (f"{tensor['name']} {' x '.join(str(n) for n in tensor['shape'])}" for tensor in note[kind])
        typer.echo(f"{kind}: " + ", ".join(shapes))
    typer.echo("checked against torch: " + ("agrees" if note["parity"] else "not possible on this machine"))
    typer.echo(f"folder: {note['folder']}")


def network_parts(bundle: str, variant: str | None) -> dict[str, Any]:
    """The parts of a bundle's network that engines compile, see :class:`promptzoo.inference.monai_inferer.Part`.

    Raises:
        BundleError: if the weights are missing or do not fit.
    """
    from promptzoo.inference.loader import load_network

    network, parser = load_network(get_bundle(bundle), variant)
    return parser.get_parsed_content("inferer").parts(network)
