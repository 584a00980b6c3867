"""Start a network from the weights of a relative: fewer dimensions, fewer input channels, fewer modules."""
from __future__ import annotations

from pathlib import Path
from typing import Sequence

import torch
from torch import nn

from promptzoo.core.errors import BundleError, complain
from promptzoo.networks.deltas import SUFFIX, whole


def adapted(name: str, source: torch.Tensor, own: torch.Tensor) -> torch.Tensor | None:
    """A relative's tensor in the shape of ``own``, or None if it does not fit.

    A 2D kernel is repeated along the new first axis and divided by its length (Carreira and Zisserman, "Quo vadis,
    action recognition?", CVPR 2017, section 2.2.1), so a volume that is constant along that axis gives the 2D answer.
    Input channels that the relative lacks start at zero, so they do not disturb what was learned.
    """
    value = source.to(own.dtype)
    if own.dim() == value.dim() + 1 and own.dim() == 5 and own.shape[3:] == value.shape[2:]:
        value = value.unsqueeze(2).expand(*value.shape[:2], *own.shape[2:]) / own.shape[2]
    if value.shape == own.shape:
        return value.clone()
    if value.dim() >= 2 and value.dim() == own.dim() and value.shape[2:] == own.shape[2:] \
            and value.shape[0] == own.shape[0] and value.shape[1] < own.shape[1]:
        grown = torch.zeros_like(own)
        grown[:, :value.shape[1]] = value
        return grown
    return None


def start_from(network: nn.Module, weights: str, fresh: Sequence[str] = ()) -> nn.Module:
    """Load what fits from a weights file into a network; the rest keeps its initial values.

    A network of another build may have a method ``inherited(state) -> state`` that gives the relative's tensors the
    names and forms that they have in it.

    Args:
        network: network to fill, changed in place.
        weights: state dictionary file of a relative, or a delta of one (its base is taken along); an empty string
            leaves the network as it is.
        fresh: beginnings of names of tensors that keep their initial values all the same.

    Returns:
        The network.

    Raises:
        BundleError: if the file does not exist or nothing in it fits.
    """
    if not weights:
        return network
    if not Path(weights).is_file():
        raise BundleError(complain("weights to start from", weights, "an existing file",
                                   "Train that bundle first, or pass --initial_weights ''"))
    source = whole(Path(weights), network)
    if Path(weights).suffix != SUFFIX and hasattr(network, "inherited"):
        source = network.inherited(source)
    state, taken = network.state_dict(), 0
    for name, own in state.items():
        known = name in source and not name.startswith(tuple(fresh))
        value = adapted(name, source[name], own) if known else None
        if value is not None:
            state[name], taken = value, taken + 1
    if not taken:
        raise BundleError(complain("weights to start from", weights, "weights of a related network"))
    network.load_state_dict(state)
    return network
