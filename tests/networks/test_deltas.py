"""Deltas hold what differs from the base, and load only on top of that base."""
import pytest
import torch
from torch import nn

from promptzoo.core.errors import BundleError
from promptzoo.networks.deltas import fill, read_file, save_delta
from promptzoo.networks.warm_start import start_from


class Grown(nn.Module):
    """A base with one more layer, and without the base's second one."""

    def __init__(self):
        super().__init__()
        self.first, self.added = nn.Linear(3, 4), nn.Linear(4, 2)


@pytest.fixture
def base(tmp_path, monkeypatch):
    """Weights of a bundle in half precision, as bundles ship them."""
    monkeypatch.delenv("PROMPTZOO_BUNDLES", raising=False)
    torch.manual_seed(0)
    network = nn.ModuleDict({"first": nn.Linear(3, 4), "second": nn.Linear(4, 4)})
    file = tmp_path / "bundles" / "first_bundle" / "models" / "model.pt"
    file.parent.mkdir(parents=True)
    torch.save({name: value.half() for name, value in network.state_dict().items()}, file)
    return file


@pytest.fixture
def delta(base):
    """A network made from the base, of which one tensor changed, and its delta."""
    network = Grown()
    start_from(network, str(base))
    with torch.no_grad():
        network.first.bias.add_(0.5)
    file = base.parents[2] / "second_bundle" / "models" / "delta.safetensors"
    save_delta(network, base, file)
    return network, file


def test_a_delta_holds_what_differs(delta):
    state, told = read_file(delta[1])
    assert set(state) == {"first.bias", "added.weight", "added.bias"}
    assert told["base"] == "first_bundle/models/model.pt" and len(told["sha256"]) == 64


def test_a_delta_loads_on_its_base(delta):
    network, file = delta
    again, started = Grown(), Grown()
    fill(again, file)
    start_from(started, str(file))
    for name, value in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], value.half().float()), name
        assert torch.equal(started.state_dict()[name], again.state_dict()[name]), name


def test_a_delta_elsewhere_finds_its_base_in_the_folder_of_bundles(delta, base, tmp_path, monkeypatch):
    moved = tmp_path / "a" / "b" / "c" / "delta.safetensors"
    moved.parent.mkdir(parents=True)
    delta[1].rename(moved)
    monkeypatch.setenv("PROMPTZOO_BUNDLES", str(base.parents[2]))
    fill(Grown(), moved)
    base.unlink()
    with pytest.raises(BundleError, match="is missing"):
        fill(Grown(), moved)


def test_another_base_is_refused(delta, base):
    torch.save({"first.weight": torch.zeros(4, 3)}, base)
    with pytest.raises(BundleError, match="Restore that file"):
        fill(Grown(), delta[1])


def test_what_does_not_fit_is_told(delta, tmp_path):
    with pytest.raises(BundleError, match="do not fit the network"):
        fill(nn.Linear(3, 4), delta[1])
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors")
    with pytest.raises(BundleError, match="readable state dictionary"):
        fill(Grown(), tmp_path / "bad.safetensors")
    with pytest.raises(BundleError, match="ends in .safetensors"):
        save_delta(Grown(), delta[1], tmp_path / "delta.pt")
