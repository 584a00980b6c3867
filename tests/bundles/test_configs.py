"""The configs parse, have MONAI's properties, and their networks do what the metadata says."""
import pytest
import torch
from monai.bundle import ConfigParser, verify_net_in_out


@pytest.mark.parametrize("config, kind", [("train", "train"), ("inference", "inference")])
def test_properties(bundle, workflow, config, kind):
    assert workflow(config, kind=kind).check_properties() == []


@pytest.mark.parametrize("overlay", ["evaluate", "multi_gpu_train"])
def test_overlays(bundle, workflow, overlay):
    """Overlays on train.json keep its properties."""
    assert workflow("train", overlay, kind="train").check_properties() == []


def test_net_in_out(bundle):
    verify_net_in_out(net_id="network_def", meta_file=str(bundle.path / "configs" / "metadata.json"),
                      config_file=str(bundle.config("inference")), device="cpu", bundle_root=str(bundle.path))


def _network(bundle, *overlays):
    parser = ConfigParser()
    parser.read_config([str(bundle.config("inference")), *map(str, overlays)])
    parser["bundle_root"] = str(bundle.path)
    return parser.get_parsed_content("network_def")


def test_variants(bundle):
    """Every overlay builds a network that runs as the metadata describes it."""
    for system, overlay in bundle.variants().items():
        assert isinstance(_network(bundle, overlay), torch.nn.Module), system
        verify_net_in_out(net_id="network_def", meta_file=str(bundle.path / "configs" / "metadata.json"),
                          config_file=[str(bundle.config("inference")), str(overlay)], device="cpu",
                          bundle_root=str(bundle.path))


def test_weights_fit(bundle, tmp_path):
    """Shipped weights load strictly, and a saved copy gives the same tensors."""
    network = _network(bundle)
    if bundle.weights["kind"] == "shipped":
        network.load_state_dict(torch.load(bundle.weights_path, map_location="cpu", weights_only=True), strict=True)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    again = _network(bundle)
    again.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True), strict=True)
    first, second = network.state_dict(), again.state_dict()
    assert first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
