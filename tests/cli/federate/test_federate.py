"""Federated training: what leaves a site, what comes back, and a whole job of NVFLARE."""
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from promptzoo.cli.app import app
from promptzoo.cli.federate.simulate import alone, dice_per_site, federated, held_back, pool, write_weights
from promptzoo.cli.federate.sites import SiteCases
from promptzoo.core.bundles import get_bundle
from promptzoo.core.errors import BundleError, PromptZooError
from promptzoo.core.optional import available
from promptzoo.networks.deltas import read_file
from promptzoo.training.federated import FederatedPlan, Site, fill_in, predictor_with, why_not_federable

PLAN = FederatedPlan(rounds=2, iterations=1)


@pytest.fixture
def sites(disc_list):
    """Two sites of three images each."""
    whole = disc_list(6)
    head, *rows = whole.read_text().splitlines()
    found = []
    for name, part in (("north", rows[:3]), ("south", rows[3:])):
        file = whole.with_name(f"{name}.csv")
        file.write_text("\n".join([head, *part]))
        found.append(SiteCases.read(f"{name}={file}"))
    return found


@pytest.fixture(scope="module")
def bundle():
    """The bundle whose adapters are exchanged."""
    return get_bundle("sam_peft")


def test_only_what_is_tuned_leaves_a_site(bundle, sites, tmp_path):
    site = Site(bundle, "north", sites[0].train, PLAN, tmp_path)
    network = site.algo.trainer.network
    everything = {name: value.clone() for name, value in network.state_dict().items()}
    sent = site.train({})
    assert set(sent) == {name for name, value in network.named_parameters() if value.requires_grad}
    assert sum(v.size for v in sent.values()) < 0.05 * sum(v.numel() for v in everything.values())
    changed = {name for name, value in network.state_dict().items() if not value.equal(everything[name])}
    assert changed and changed <= set(sent), "nothing else is trained"
    shifted = {name: value + 0.25 for name, value in sent.items()}
    again = site.train(shifted)
    near = [np.abs(again[name] - shifted[name]).max() < 0.05 for name in sent]
    assert all(near), "a round begins with what was received"


def test_sites_are_told_by_name_and_list(sites):
    assert [len(site.train) for site in sites] == [2, 2] and [len(site.held) for site in sites] == [1, 1]
    assert len(pool(sites).train) == 4
    for wrong in ("north", "no rth=x.csv", "=x.csv"):
        with pytest.raises(PromptZooError, match="NAME=FILE.csv"):
            SiteCases.read(wrong)


def test_bundles_that_cannot_take_part_are_refused(tmp_path, sites):
    assert why_not_federable(get_bundle("interactive_refinement_3d"))
    with pytest.raises(BundleError, match="federated training of text_universal_seg"):
        Site(get_bundle("text_universal_seg"), "north", sites[0].train, PLAN, tmp_path)
    with pytest.raises(PromptZooError, match="plan"):
        FederatedPlan(rounds=0)


def test_weights_become_a_predictor_and_a_file(bundle, sites, tmp_path):
    weights = alone(bundle, sites[0], PLAN, tmp_path)
    told = dice_per_site(bundle, held_back(sites, 0), weights, 1)
    assert set(told) == {"north", "south"} and all(0 <= v <= 1 for v in told["north"]["steps"])
    delta, about = read_file(write_weights(bundle, weights, tmp_path))
    assert about["sha256"] and any(name in delta for name in weights)
    with pytest.raises(BundleError, match="tensors for sam_peft"):
        predictor_with(bundle, {"nothing": np.zeros(1, np.float32)})
    with pytest.raises(BundleError, match="tensors for x"):
        fill_in(Site(bundle, "n", sites[0].train, PLAN, tmp_path / "n").algo.trainer.network,
                {next(iter(weights)): np.zeros((1, 2, 3), np.float32)}, "x")


@pytest.mark.skipif(not available("nvflare"), reason="nvflare comes with the extra scale")
@pytest.mark.slow
def test_a_job_of_nvflare(bundle, sites, tmp_path):
    """Two sites in processes of their own; the result is the mean of what they sent last."""
    mean = federated(bundle, sites, PLAN, tmp_path)
    rounds = {site.name: [json.loads(line) for line in (tmp_path / site.name / "rounds.jsonl").read_text().splitlines()]
              for site in sites}
    size = sum(value.nbytes for value in mean.values())
    for lines in rounds.values():
        assert [(line["received_bytes"], line["sent_bytes"]) for line in lines] == [(0, size), (size, size)]
    sent = [np.load(tmp_path / site.name / "sent.npz") for site in sites]
    for name, value in mean.items():
        np.testing.assert_allclose(value, (sent[0][name] + sent[1][name]) / 2, atol=1e-6)


def test_one_site_is_no_federation(sites, tmp_path):
    result = CliRunner().invoke(app, ["federate", f"north={tmp_path}/missing.csv"])
    assert result.exit_code != 0
