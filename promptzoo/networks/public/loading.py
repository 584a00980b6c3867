"""From a published file to the network that it belongs to."""
from __future__ import annotations

import importlib
import pickle
from pathlib import Path
from typing import Any, Mapping

import torch

from promptzoo.core.errors import BundleError, complain
from promptzoo.networks.public.catalog import PublicWeights
from promptzoo.networks.public.keys import CONVERSIONS, unwrapped

SHOWN = 3
"""Names of tensors told in an error."""


def build(weights: PublicWeights, empty: bool = False, **changes: Any) -> torch.nn.Module:
    """The network of a weight file, in eval mode.

    Args:
        weights: its description.
        empty: make it without memory, to be filled by :func:`fill` (where it holds nothing but tensors of the file).
        changes: arguments instead of those of the layout, such as a smaller ``size`` for tests.
    """
    module, _, name = weights.layout["network"].rpartition(".")
    make = getattr(importlib.import_module(module), name)
    arguments = {**weights.layout["args"], **changes}
    if empty:
        with torch.device("meta"):
            network = make(**arguments).eval()
        if {name for name, _ in network.named_buffers()} <= set(network.state_dict()):
            return network
    return make(**arguments).eval()


def fill(network: torch.nn.Module, state: Mapping[str, torch.Tensor], keys: str, where: str) -> None:
    """Put published tensors into a network, strictly; the tensors are taken over, not copied.

    Args:
        network: result of :func:`build`.
        state: tensors by their published names.
        keys: the layout's rules, see :data:`promptzoo.networks.public.keys.CONVERSIONS`.
        where: the file, for errors.

    Raises:
        BundleError: naming tensors that are missing, too many or of another shape.
    """
    found = CONVERSIONS[keys](state)
    own = {**network.state_dict()}
    problems = {
        "missing": [name for name in own if name not in found],
        "unknown": [name for name in found if name not in own],
        "of another shape": [f"{name} {list(found[name].shape)}, not {list(own[name].shape)}" for name in own
                             if name in found and found[name].shape != own[name].shape]}
    told = [f"{len(names)} {what} ({', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''})"
            for what, names in problems.items() if names]
    if told:
        raise BundleError(complain(f"tensors in {where}", "; ".join(told), "exactly those of the published layout",
                                   "Fetch the file anew, or check that it belongs to these weights"))
    values = {name: value.to(own[name].dtype) for name, value in found.items()}
    network.load_state_dict(values, strict=True, assign=True)
    network.requires_grad_(False)


def read_state(path: Path, wrapper: str | None) -> dict[str, torch.Tensor]:
    """The tensors of a published file, read without running code from it (``weights_only``), on the CPU.

    Raises:
        BundleError: if the file is missing, is none of torch's, wants to run code, or holds no tensors.
    """
    if not path.is_file():
        raise BundleError(complain("weight file", str(path), "an existing file"))
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=_zipped(path))
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BundleError(complain(f"weight file {path}", reason, "a file of torch.save that needs no code",
                                   "Fetch it anew")) from error
    return unwrapped(content, wrapper, str(path))


def load_public(weights: PublicWeights, path: Path) -> torch.nn.Module:
    """The network with the tensors of a published file, in eval mode on the CPU.

    Raises:
        BundleError: see :func:`read_state` and :func:`fill`.
    """
    state = read_state(path, weights.layout["wrapper"])
    network = build(weights, empty=True)
    fill(network, state, weights.layout["keys"], str(path))
    return network


def _zipped(path: Path) -> bool:
    """Whether torch can map the file into memory (its format since 2020)."""
    with path.open("rb") as stream:
        return stream.read(4) == b"PK\x03\x04"
