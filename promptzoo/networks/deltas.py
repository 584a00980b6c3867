"""Weight files, and deltas: files with only those tensors in which a network differs from the base it was made from.

A delta is a safetensors file that names its base, ``<bundle>/models/<file>``, and the base's SHA-256; the base may be
a delta itself. It lies beside the delta's bundle, as it does in the repository and in a release, or else in the folder
of bundles.
"""
from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from promptzoo.core.errors import BundleError, PromptZooError, complain
from promptzoo.core.locations import bundles_dir

SUFFIX = ".safetensors"


def read_file(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors of one file as they are stored, and what a delta says of its base; nothing is executed.

    Raises:
        BundleError: if the file cannot be read.
    """
    try:
        if path.suffix == SUFFIX:
            with safe_open(str(path), "pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})
        state = torch.load(path, map_location="cpu", weights_only=True)
        return dict(state.get("model", state)), {}
    except (OSError, RuntimeError, AttributeError, SafetensorError) as error:
        raise BundleError(complain("weights file", f"{path}: {str(error).splitlines()[0]}", "a readable state "
                                   "dictionary or safetensors file")) from error


def base_of(path: Path, told: dict[str, str]) -> Path:
    """The file that a delta's tensors go on top of.

    Args:
        path: the delta, ``<bundle>/models/<file>`` or elsewhere.
        told: what it says of its base.

    Raises:
        BundleError: if the base is missing, or is not the one that the delta was made from.
    """
    places = [path.resolve().parents[2] / told["base"]]
    try:
        places.append(bundles_dir() / told["base"])
    except PromptZooError:
        pass  # a release in an empty folder has no folder of bundles
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise BundleError(complain(f"base of {path.name}", f"{places[0]} is missing", f"{told['base']}, beside the "
                                   "bundle or in the folder of bundles"))
    digest = hashlib.sha256(found.read_bytes()).hexdigest()
    if digest != told["sha256"]:
        raise BundleError(complain(f"base of {path.name}", f"{found} with sha256 {digest}", told["sha256"],
                                   "Restore that file, or train the delta again"))
    return found


def whole(path: Path, network: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of a file for a network; under those of a delta lie those of its base that the network has.

    Raises:
        BundleError: if a file is missing or unreadable.
    """
    state, told = read_file(path)
    if "base" not in told:
        return state
    base = _inherited(base_of(path, told), network)
    own = network.state_dict()
    return {**{name: value for name, value in base.items() if name in own}, **state}


def _inherited(path: Path, network: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of a base, under the network's names; the base may be a delta itself."""
    state, told = read_file(path)
    if "base" in told:
        return whole(path, network)
    return network.inherited(state) if hasattr(network, "inherited") else state


def fill(network: nn.Module, path: Path) -> None:
    """Load a weights file into a network, strictly; a delta brings its base along.

    Tensors of the base that the network lacks are left out; a method ``inherited(state) -> state`` of the network may
    rename those that it has under another name.

    Raises:
        BundleError: if a file is missing, unreadable or does not fit.
    """
    state = whole(path, network)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise BundleError(complain(f"weights {path.name} do not fit the network", " ".join(str(error).split()[:60]),
                                   "weights of this network")) from error


def delta_of(network: nn.Module, base: Path) -> dict[str, torch.Tensor]:
    """The tensors, in half precision, that a network does not share with its base's file."""
    stored, found = _inherited(base, network), {}
    for name, value in network.state_dict().items():
        value = value.detach().cpu().contiguous().clone()
        value = value.half() if value.is_floating_point() else value
        if name not in stored or not torch.equal(stored[name].to(value.dtype), value):
            found[name] = value
    return found


def save_delta(network: nn.Module, base: str | Path, path: Path) -> None:
    """Write the delta of a network, atomically.

    Args:
        network: what to save.
        base: weights that it was made from, ``…/<bundle>/models/<file>``.
        path: safetensors file to write; its folder is created.

    Raises:
        BundleError: if the base cannot be read, or ``path`` has another suffix.
    """
    place = Path(base).resolve()
    if path.suffix != SUFFIX:
        raise BundleError(complain("name of a delta", path.name, f"a name that ends in {SUFFIX}"))
    found = delta_of(network, place)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".tmp")
    save_file(found, str(fresh), {"base": place.relative_to(place.parents[2]).as_posix(),
                                  "sha256": hashlib.sha256(place.read_bytes()).hexdigest()})
    fresh.replace(path)
