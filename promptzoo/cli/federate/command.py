"""``promptzoo federate``: the command."""
from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import List, Optional

import typer

from promptzoo.cli.common import JSON_OPTION, command_line, print_json, print_table, say, waiting
from promptzoo.core.bundles import get_bundle
from promptzoo.core.errors import BundleError, PromptZooError, complain
from promptzoo.core.files import write_whole


def federate(
    ctx: typer.Context,
    site: List[str] = typer.Argument(..., help="A site: NAME=FILE.csv (as for promptzoo bench) or NAME=FILE.csv#TEXT "
                                               "for rows whose id or image path contains the text. Two or more."),
    bundle: str = typer.Option("sam_peft", "--bundle", "-b", help="Name of a bundle that tunes a part of a network."),
    rounds: int = typer.Option(4, min=1, help="Exchanges."),
    iterations: int = typer.Option(12, min=1, help="Steps of the optimiser at every site between two exchanges."),
    learning_rate: float = typer.Option(1e-3, help="Its highest value."),
    clicks: int = typer.Option(1, min=1, help="Of the simulated annotator, after a box."),
    seed: int = typer.Option(0, min=0, help="Of everything random."),
    out: Optional[Path] = typer.Option(None, "--out", "-o", help="Folder for federated.json and the weights."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Train the tuned part of a bundle (adapters, prompts) at several sites that exchange nothing else.

    An NVFLARE simulator job of federated averaging on this machine, a process for each site; compared, on cases that
    each site holds back, with the bundle as it is, with each site alone, and with all cases in one place.
    """
    from promptzoo.cli.federate import simulate
    from promptzoo.cli.federate.sites import SiteCases
    from promptzoo.training.federated import FederatedPlan, why_not_federable

    info = get_bundle(bundle)
    why = why_not_federable(info)
    if why:
        raise BundleError(complain(f"federated training of {bundle}", why, "a bundle like sam_peft"))
    sites = [SiteCases.read(told) for told in site]
    if len({one.name for one in sites}) < max(2, len(sites)):
        raise PromptZooError(complain("sites", [one.name for one in sites], "two or more, of different names"))
    plan = FederatedPlan(rounds, iterations, learning_rate, seed)
    with tempfile.TemporaryDirectory(prefix="promptzoo-federate-") as folder:
        work = Path(folder)

        with waiting(f"{info.name} as it is", as_json):
            held = simulate.held_back(sites, seed)
            results = {"as it is": simulate.dice_per_site(info, held, {}, clicks)}
        with waiting(f"{len(sites)} sites, {rounds} rounds", as_json):
            weights = simulate.federated(info, sites, plan, work / "federated")
            results["federated"] = simulate.dice_per_site(info, held, weights, clicks)
        with waiting("Each site alone", as_json):
            results["alone"] = {}
            for one in sites:
                own = simulate.alone(info, one, plan, work / "alone")
                results["alone"] |= simulate.dice_per_site(info, {one.name: held[one.name]}, own, clicks)
        with waiting("All cases in one place", as_json):
            everything = simulate.alone(info, simulate.pool(sites), plan, work / "pooled")
            results["pooled"] = simulate.dice_per_site(info, held, everything, clicks)
        traffic = simulate.bytes_of(work / "federated", sites)
    document = {"command": command_line(ctx), "bundle": info.name, "version": info.version, "plan": asdict(plan),
                "cases": {one.name: {"train": len(one.train), "held": len(one.held)} for one in sites},
                "tensors": len(weights), "numbers": int(sum(value.size for value in weights.values())),
                "traffic": traffic, "dice": results}
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / "federated.json", json.dumps(document, indent=1) + "\n")
        say(f"Weights: {simulate.write_weights(info, weights, out)}")
    if as_json:
        print_json(document)
        return
    names = [one.name for one in sites]
    print_table(["Dice after the last click", *names],
                [[how, *(results[how][name]["steps"][-1] for name in names)] for how in results])
    each = {entry["sent_bytes"] for entries in traffic.values() for entry in entries}
    say(f"A round: {max(each)} bytes from each site and as many back to it ({len(weights)} tensors).")
