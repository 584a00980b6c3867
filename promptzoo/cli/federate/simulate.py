"""Federated, local-only and pooled training of a bundle, side by side."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np
import torch

from promptzoo.cli.federate.job import GLOBAL
from promptzoo.cli.federate.sites import SiteCases, open_site, write_work
from promptzoo.core.bundles import BundleInfo
from promptzoo.core.errors import PromptZooError
from promptzoo.core.optional import require
from promptzoo.core.seeding import generator
from promptzoo.inference.loader import load_network
from promptzoo.networks.deltas import SUFFIX, base_of, read_file, save_delta
from promptzoo.training.federated import FederatedPlan, Weights, fill_in, predictor_with
from promptzoo.training.held_back import HeldBack, measured, objects_of

MOST_OBJECTS = 24


def federated(bundle: BundleInfo, sites: Sequence[SiteCases], plan: FederatedPlan, work: Path) -> Weights:
    """Run an NVFLARE simulator job of federated averaging (McMahan et al., AISTATS 2017), a process for each site.

    Args:
        bundle: see :class:`promptzoo.training.federated.Site`.
        sites: at least two.
        plan: how.
        work: folder for the job; ``<site>/rounds.jsonl`` tells the bytes of every round.

    Returns:
        The mean tensors after the last round.

    Raises:
        MissingDependencyError: without NVFLARE.
        PromptZooError: if the job failed, with the end of its log.
    """
    require("nvflare", "federated training", "scale")
    write_work(work, bundle.path, sites, plan)
    log = work / "nvflare.log"
    environment = {"OMP_NUM_THREADS": "1", **os.environ}  # as many processes as sites share the cores
    with log.open("wb") as output:
        ended = subprocess.run([sys.executable, "-m", "promptzoo.cli.federate.job", str(work)], stdout=output,
                               stderr=subprocess.STDOUT, env=environment)
    if ended.returncode or not (work / GLOBAL).is_file():
        raise PromptZooError(f"the job of NVFLARE ended with status {ended.returncode}:\n"
                             + "\n".join(log.read_text(errors="replace").splitlines()[-20:]))
    with np.load(work / GLOBAL) as found:
        return {name: found[name] for name in found.files}


def alone(bundle: BundleInfo, site: SiteCases, plan: FederatedPlan, work: Path) -> Weights:
    """The same number of steps on one site's cases, without an exchange."""
    write_work(work, bundle.path, [site], plan)
    trainer, weights = open_site(work, site.name), {}  # type: Any, Weights
    for _ in range(plan.rounds):
        weights = trainer.train(weights)
    return weights


def pool(sites: Sequence[SiteCases]) -> SiteCases:
    """All cases in one place, as nobody may have them."""
    train, held = (tuple(replace(case, id=f"{site.name}/{case.id}") for site in sites for case in getattr(site, part))
                   for part in ("train", "held"))
    return SiteCases("pooled", train, held)


def held_back(sites: Sequence[SiteCases], seed: int) -> dict[str, list[HeldBack]]:
    """The objects that each site measures on, read once."""
    return {site.name: objects_of(site.held, MOST_OBJECTS, generator(seed, 61)) for site in sites}


def dice_per_site(bundle: BundleInfo, held: Mapping[str, Sequence[HeldBack]], weights: Mapping[str, np.ndarray],
                  clicks: int) -> dict[str, dict[str, Any]]:
    """Mean Dice on the objects of :func:`held_back`: after a box (or first click), and with further clicks."""
    predictor = predictor_with(bundle, weights)
    protocol = "box+clicks" if "box" in bundle.prompts else "clicks"
    told = {name: measured(predictor, objects, clicks, protocol) for name, objects in held.items()}
    return {name: {key: found[key] for key in ("steps", "objects", "score")} for name, found in told.items()}


def bytes_of(work: Path, sites: Sequence[SiteCases]) -> dict[str, list[dict[str, int]]]:
    """What each site received and sent, round by round."""
    return {site.name: [json.loads(line) for line in
                        (work / site.name / "rounds.jsonl").read_text(encoding="utf-8").splitlines()]
            for site in sites}


def write_weights(bundle: BundleInfo, weights: Mapping[str, np.ndarray], folder: Path) -> Path:
    """The bundle's weights with these tensors, in the form in which the bundle ships its own."""
    network = load_network(bundle)[0]
    fill_in(network, weights, bundle.name)
    shipped = bundle.weights_path
    target = folder / f"federated{shipped.suffix}"
    if shipped.suffix == SUFFIX:
        save_delta(network, base_of(shipped, read_file(shipped)[1]), target)
    else:
        torch.save(network.state_dict(), target)
    return target
