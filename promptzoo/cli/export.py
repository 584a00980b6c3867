"""``promptzoo export``: a bundle's network as a file for another program."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import typer

from promptzoo.cli.common import JSON_OPTION, print_json, print_table, waiting
from promptzoo.core.bundles import get_bundle


def export(
    bundle: str = typer.Argument(..., help="Name of a bundle, or the path of its folder."),
    engine: str = typer.Option("onnxruntime", help="onnxruntime (ONNX), openvino (IR), torch (pt2) or tensorrt."),
    precision: str = typer.Option("fp32", help="fp32, bf16, fp16 or int8, as the engine has it."),
    out: Path = typer.Option(Path("."), "--out", "-o", help="Folder; made if missing."),
    variant: Optional[str] = typer.Option(None, help="Catalog id of a variant overlay of the bundle."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Write a bundle's network for an engine, and check the written file against torch.

    Beside the network goes export.json: inputs, outputs, hashes, parity and versions. Nothing is kept of a file that
    does not agree with torch.
    """
    info = get_bundle(bundle)
    if variant is not None:
        info.variant(variant)
    from promptzoo.engines import export_bundle_module

    with waiting(f"Exporting {info.name} for {engine}", as_json):
        module, example = network_and_example(str(info.path), variant)
        note = export_bundle_module(module, (example,), out, engine, precision, name=info.name)
    if as_json:
        print_json({"bundle": info.name, "version": info.version, "variant": variant, "folder": str(out), **note})
        return
    print_table(["file", "bytes", "sha256"], [[f["name"], f["bytes"], f["sha256"]] for f in note["files"]],
                f"{info.name} {info.version} for {note['engine']}, {note['precision']}")
    for kind in ("inputs", "outputs"):
        shapes = (f"{tensor['name']} {' x '.join(str(n) for n in tensor['shape'])}" for tensor in note[kind])
        typer.echo(f"{kind}: " + ", ".join(shapes))
    typer.echo("checked against torch: " + ("agrees" if note["parity"] else "not possible on this machine"))
    typer.echo(f"folder: {out}")


def network_and_example(bundle: str, variant: str | None) -> tuple[Any, Any]:
    """The bundle's network as one module from fused image and prompt maps to outputs, and an example input.

    Raises:
        BundleError: if the weights are missing or do not fit.
    """
    import torch

    from promptzoo.inference.loader import load_network
    from promptzoo.networks.interactive_unet import FusedForward

    network, parser = load_network(get_bundle(bundle), variant)
    inferer = parser.get_parsed_content("inferer")
    channels = 1 + int(network.prompt_channels)
    example = torch.zeros((1, channels, *(inferer.settings.window,) * inferer.dimensions))
    return FusedForward(network).eval(), example
