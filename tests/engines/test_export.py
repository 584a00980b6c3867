"""Exported files run in the library they are for and agree with torch."""
import json

import numpy as np
import pytest
import torch

from promptzoo.core.errors import EngineError
from promptzoo.engines import export_bundle_module
from promptzoo.engines.openvino_engine import OpenVINORunner
from promptzoo.engines.signal_stack import kept_signal_stack


def needs_onnx():
    """Skip without the export extra."""
    for name in ("onnx", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is in the export extra")


def check(note, folder, engine, names):
    """The note on disk is the one returned and describes what lies there."""
    assert json.loads((folder / "export.json").read_text()) == note
    assert note["engine"] == engine and note["parity"]["passed"] and note["versions"]["torch"]
    assert [f["name"] for f in note["files"]] == names
    assert sorted(p.name for p in folder.iterdir()) == sorted([*names, "export.json"])
    assert all(f["bytes"] == (folder / f["name"]).stat().st_size for f in note["files"])


def test_onnx(nets, tmp_path):
    needs_onnx()
    import onnxruntime

    module, example = nets[3]
    note = export_bundle_module(module, example, tmp_path / "new", "onnx", name="net")
    check(note, tmp_path / "new", "onnxruntime", ["net.onnx"])
    assert note["inputs"] == [{"name": "input_0", "shape": ["batch", 3, 16, 20, 12]}]
    assert [o["shape"] for o in note["outputs"]] == [["batch", 1, 16, 20, 12], ["batch", 1]]
    session = onnxruntime.InferenceSession(str(tmp_path / "new" / "net.onnx"), providers=["CPUExecutionProvider"])
    image = torch.randn(3, 3, 16, 20, 12)
    with torch.no_grad():
        wanted = module(image)[0].numpy()
    np.testing.assert_allclose(session.run(["output_0"], {"input_0": image.numpy()})[0], wanted, atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_openvino(nets, tmp_path, precision):
    import openvino

    module, example = nets[2]
    calibration = None
    if precision == "int8":
        pytest.importorskip("nncf", reason="nncf is in the export extra")
        calibration = [(torch.randn_like(example[0]),) for _ in range(4)]
    note = export_bundle_module(module, example, tmp_path, "openvino", precision, calibration=calibration)
    check(note, tmp_path, "openvino", ["model.xml", "model.bin"])
    assert note["runtime"]["config"]["INFERENCE_PRECISION_HINT"] == "f32"
    with kept_signal_stack():
        compiled = openvino.Core().compile_model(str(tmp_path / "model.xml"), "CPU", note["runtime"]["config"])
    assert compiled.inputs[0].any_name == "input_0" and compiled.outputs[1].any_name == "output_1"
    assert OpenVINORunner(compiled)([np.zeros((2, 3, 16, 20), np.float32)])[0].shape == (2, 1, 16, 20)


def test_torch(nets, tmp_path):
    module, example = nets[2]
    note = export_bundle_module(module, example, tmp_path, "torch")
    check(note, tmp_path, "torch", ["model.pt2"])
    program = torch.export.load(tmp_path / "model.pt2").module()
    image = torch.randn(1, 3, 16, 20)
    with torch.no_grad():
        torch.testing.assert_close(program(image)[0], module(image)[0], atol=1e-5, rtol=1e-4)


def test_tensorrt_writes_the_encoder(nets, tmp_path, capsys):
    needs_onnx()
    import onnxruntime

    module, example = nets[2]
    note = export_bundle_module(module, example, tmp_path, "tensorrt", "fp16")
    assert capsys.readouterr().out == "", "stdout belongs to the commands that print JSON"
    check(note, tmp_path, "tensorrt", ["image_encoder.onnx"])
    session = onnxruntime.InferenceSession(str(tmp_path / "image_encoder.onnx"), providers=["CPUExecutionProvider"])
    image = torch.randn(3, 3, 16, 20)
    with torch.no_grad():
        wanted = module.image_encoder(image)
    got = session.run(["output_0", "output_1"], {"image": image.numpy()})
    for a, b in zip(wanted, got):
        np.testing.assert_allclose(b, a.numpy(), atol=1e-5)


def test_a_wrong_export_is_not_kept(nets, tmp_path, monkeypatch):
    copies_its_input = lambda inputs: [inputs[0][:, :1], inputs[0]]  # noqa: E731
    monkeypatch.setattr("promptzoo.engines.export.OpenVINORunner", lambda _: copies_its_input)
    (tmp_path / "model.xml").write_text("earlier")
    with pytest.raises(EngineError, match="disagrees with torch"):
        export_bundle_module(*nets[2], tmp_path, "openvino")
    assert [p.name for p in tmp_path.iterdir()] == ["model.xml"]
    assert (tmp_path / "model.xml").read_text() == "earlier"


@pytest.mark.parametrize("engine, precision, message", [
    ("coreml", "fp32", "unknown engine"),
    ("onnx", "bf16", "allowed: auto, fp32, int8"),
    ("torch", "bf16", "allowed: auto, fp32"),
    ("openvino", "int8", "calibration samples"),
])
def test_unknown_names(nets, tmp_path, engine, precision, message):
    pytest.importorskip("nncf", reason="nncf is in the export extra")
    with pytest.raises(EngineError, match=message):
        export_bundle_module(*nets[2], tmp_path, engine, precision)
