"""Public weights in the place of a bundle: ``--weights NAME`` of segment and bench."""
from __future__ import annotations

from typing import Any

from promptzoo.core.bundles import BundleInfo
from promptzoo.core.errors import PromptZooError, complain
from promptzoo.networks.public import store
from promptzoo.networks.public.catalog import get_public

VERSION = "public"


def public_info(name: str, bundle: str | None, variant: str | None) -> BundleInfo:
    """Public weights described as a bundle: prompts, dimensions, weights and what they are not for.

    They are none: nothing here was trained or measured by promptzoo, so the contract of bundles says nothing of them.

    Args:
        name: of the weights.
        bundle, variant: what was asked for beside them.

    Raises:
        PromptZooError: if a bundle or a variant was asked for as well.
        NotFoundError: for unknown weights, or a file that is not here; the message says how to get it.
        BundleError: for a damaged file.
    """
    if bundle not in (None, "auto") or variant is not None:
        raise PromptZooError(complain(f"--weights {name} with", f"--bundle {bundle}" if variant is None else
                                      f"--variant {variant}", "public weights alone, or a bundle"))
    weights = get_public(name)
    path = store.ready(weights)
    block = {"schema_version": 1, "family": "public-weights", "task": "segmentation", "prompts": list(weights.prompts),
             "dimensions": weights.dimensions, "space": "RAS", "not_for": list(weights.not_for),
             "weights": {"kind": "public", "file": path.name, "licence": weights.licence,
                         "trained_on": "see " + weights.pages[0]}}
    return BundleInfo(name, path.parent, {"version": VERSION, "name": weights.title, "promptzoo": block,
                                          "description": weights.record["for"]})


def is_public(info: BundleInfo) -> bool:
    """Whether this is the result of :func:`public_info`."""
    return info.version == VERSION


def load(info: BundleInfo, engine: str, precision: str, variant: str | None) -> Any:
    """The predictor of a bundle or of public weights."""
    if not is_public(info):
        from promptzoo.inference import load_predictor

        return load_predictor(str(info.path), engine, precision, variant)
    return load_named(info.name, engine, precision)


def load_named(name: str, engine: str, precision: str) -> Any:
    """The predictor of public weights."""
    from promptzoo.engines import compile_module
    from promptzoo.inference.public_sam import load_public_predictor

    return load_public_predictor(name, engine, precision, compile_module)
