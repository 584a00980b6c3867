"""From a bundle folder to a predictor."""
from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Iterable

import torch
from monai.bundle import ConfigParser

from promptzoo.core.bundles import BundleInfo, get_bundle
from promptzoo.core.errors import BundleError, NotFoundError, complain
from promptzoo.core.locations import embeddings_dir
from promptzoo.core.protocols import Predictor
from promptzoo.inference.kept import keep_ahead
from promptzoo.networks.deltas import fill


def read_bundle_config(info: BundleInfo, variant: str | None = None) -> ConfigParser:
    """The bundle's inference configuration, with a variant overlay merged in.

    Raises:
        NotFoundError: if the variant does not exist.
        BundleError: if the configuration cannot be read.
    """
    files = [info.path / "configs" / "inference.json"]
    if variant:
        overlay = info.path / "configs" / "variants" / f"{variant}.json"
        if not overlay.is_file():
            raise NotFoundError(complain(f"variant of bundle {info.name}", variant,
                                         ", ".join(sorted(info.variants())) or "none"))
        files.append(overlay)
    parser = ConfigParser()
    try:
        parser.read_config([str(f) for f in files])
    except (OSError, ValueError) as error:
        raise BundleError(complain(f"configuration of bundle {info.name}", str(error), "readable JSON")) from error
    parser["bundle_root"] = str(info.path)
    return parser


def load_network(info: BundleInfo, variant: str | None = None) -> tuple[Any, ConfigParser]:
    """The bundle's network with its weights, in eval mode on the CPU, and its configuration.

    Raises:
        BundleError: if the weights are missing or do not fit the network.
    """
    parser = read_bundle_config(info, variant)
    network = parser.get_parsed_content("network_def")
    weights = Path(str(parser.get_parsed_content("weights")))
    load_weights(network, weights, info.name)
    return network.eval(), parser


def load_weights(network: torch.nn.Module, path: Path, bundle: str) -> None:
    """Load weights or a delta (nothing in them is executed, any float precision) into a network, strictly.

    Raises:
        BundleError: if the file, or the base of a delta, is missing or does not fit the network.
    """
    if not path.is_file():
        raise BundleError(complain(f"weights of bundle {bundle}", str(path), "an existing file",
                                   "Train it with configs/train.json or restore models/ from the repository"))
    try:
        fill(network, path)
    except BundleError as error:
        raise BundleError(f"bundle {bundle}: {error}") from error


def filled(network: torch.nn.Module, path: str | Path) -> torch.nn.Module:
    """A network after :func:`load_weights`, for configurations that need the weights before an engine starts."""
    load_weights(network, Path(path), Path(path).parent.parent.name)
    return network


def load_predictor(bundle: str | Path, engine: str = "auto", precision: str = "auto", variant: str | None = None,
                   bundles_folder: str | Path | None = None, embeddings: str | Path | None = None) -> Predictor:
    """Load a bundle for prompting.

    Args:
        bundle: name below the bundles folder, or a path.
        engine: ``auto``, ``torch``, ``openvino``, ``onnxruntime`` or ``tensorrt``.
        precision: ``auto`` (what the bundle's metadata found best), ``fp32``, ``bf16`` or ``int8``.
        variant: system id of a variant overlay.
        bundles_folder: where names are looked up; the default is :func:`promptzoo.core.locations.bundles_dir`.
        embeddings: folder in which the predictor keeps, and finds, what it computes before it knows the prompts (see
            :class:`promptzoo.inference.kept.KeptPart`). Without it predictors that compute such things look for them
            in ``$PROMPTZOO_EMBEDDINGS`` and keep nothing there.

    Returns:
        A predictor (contract 3).

    Raises:
        NotFoundError: for an unknown bundle or variant.
        BundleError: if the bundle cannot be used, or embeddings are asked for and it has none.
        EngineError: for an unknown engine or precision.
    """
    info = get_bundle(bundle, bundles_folder)
    predictor, told = _loaded(info, engine, precision, variant)
    usual = embeddings_dir() if getattr(predictor, "ahead_part", "") else None
    folder = embeddings or usual
    if folder is not None:
        stamp = f"{info.name} {info.version} {variant or ''} {told} {_content(info)}"
        keep_ahead(predictor, folder, stamp, grow=embeddings is not None)
    return predictor


def _content(info: BundleInfo) -> str:
    """Digest of the weight files, which may be trained anew under the same version."""
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted((info.path / "models").glob("*.*")):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def _loaded(info: BundleInfo, engine: str, precision: str, variant: str | None) -> tuple[Predictor, str]:
    """The predictor of :func:`load_predictor`, and what its parts run on."""
    network, parser = load_network(info, variant)
    inferer = parser.get_parsed_content("inferer")
    if engine == "torch" and precision in ("auto", "fp32"):
        return inferer.predictor(inferer.wrap(network), info.name, "torch fp32"), "torch fp32"
    compile_engine = parser.get_parsed_content("compile_engine")  # engines are a sibling floor: named by the bundle
    compiled = {name: compile_engine(part.module, part.example, engine=engine, **part.options(precision),
                                     precision_policy=dict(info.precision), mask_outputs=part.masks,
                                     key=f"{info.name}-{info.version}-{variant or ''}-{name}")
                for name, part in inferer.parts(network).items()}
    told = " + ".join(dict.fromkeys(f"{part.name} {part.precision}" for part in compiled.values()))
    return inferer.predictor(inferer.assemble(compiled), info.name, told), told


def missing_kinds(predictor: Predictor, kinds: Iterable[str]) -> set[str]:
    """The prompt kinds among ``kinds`` that a predictor does not take."""
    return set(kinds) - set(predictor.prompt_kinds)
