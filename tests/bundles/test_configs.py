"""The configs parse, have MONAI's properties, and their networks do what the metadata says."""
import torch
from monai.bundle import ConfigParser, verify_net_in_out

from promptzoo.inference.loader import load_weights


def _missing(workflow):
    workflow.initialize()
    return workflow.check_properties()


def test_properties(bundle, workflow, small_training, case):
    """train.json and inference.json have every property that MONAI requires of them."""
    assert _missing(workflow("train", kind="train", **small_training)) == []
    assert _missing(workflow("inference", kind="inference", **case)) == []


def test_overlays(bundle, workflow, small_training):
    """The overlays on train.json say what to run with ids that it has."""
    for overlay in ("evaluate", "multi_gpu_train"):
        merged, plain = workflow("train", overlay, kind="train", **small_training), workflow("train", kind="train")
        assert "run" in merged.parser and merged.parser.get("network_def") == plain.parser.get("network_def")


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
        load_weights(network, bundle.weights_path, bundle.name)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    again = _network(bundle)
    again.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True), strict=True)
    first, second = network.state_dict(), again.state_dict()
    assert first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
