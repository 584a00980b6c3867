"""Compiled networks are found again, and only when they are the same."""
import logging
import os

import numpy as np
import pytest
import torch
from torch import nn

from promptzoo.core.errors import EngineError
from promptzoo.engines import compile_module
from promptzoo.engines.cache import BYTES_VARIABLE, EngineCache
from promptzoo.engines.fingerprint import engine_key, hardware_name, library_versions, weights_hash
from promptzoo.engines.openvino_engine import OpenVINOBackend


def test_second_compile_is_a_hit(nets, engine_cache):
    module, example = nets[2]
    first = compile_module(module, example, key="a 1.0.0")
    second = compile_module(module, example, key="a 1.0.0")
    assert (first.from_cache, second.from_cache) == (False, True)
    assert second.parity.passed, "a network from disk is checked too"
    np.testing.assert_array_equal(first(example[0].numpy())[0], second(example[0].numpy())[0])
    assert len(list(engine_cache.glob("*.engine"))) == 1
    assert not compile_module(module, example, key="a 1.0.1").from_cache
    assert not compile_module(module, example, key="a 1.0.0", threads=1).from_cache
    assert not compile_module(module, example, key="a 1.0.0", use_cache=False).from_cache


def test_onnx_is_cached(nets, engine_cache):
    pytest.importorskip("onnxruntime", reason="onnxruntime is in the export extra")
    pytest.importorskip("onnx", reason="onnx is in the export extra")
    module, example = nets[2]
    assert [compile_module(module, example, engine="onnx").from_cache for _ in range(2)] == [False, True]


def test_key_depends_on_everything(nets, monkeypatch):
    module, example = nets[2]
    array = example[0].numpy()
    details = {"engine": "openvino", "precision": "fp32"}
    keys = {engine_key(module, (array,), details)}
    assert keys == {engine_key(module, (np.concatenate([array, array]),), details)}, "the batch is free"
    keys.add(engine_key(module, (array[..., :8],), details))
    keys.add(engine_key(module, (array,), {**details, "precision": "bf16"}))
    with torch.no_grad():
        module.head.bias += 1e-6
    keys.add(engine_key(module, (array,), details))
    with torch.no_grad():
        module.head.bias -= 1e-6
    monkeypatch.setattr("promptzoo.engines.fingerprint.library_versions", lambda: {"torch": "0"})
    keys.add(engine_key(module, (array,), details))
    assert len(keys) == 5


def test_key_depends_on_structure_and_buffers():
    array = np.zeros((1, 4, 4, 4), np.float32)
    weights = torch.zeros(4, 1, 3, 3)
    keys = set()
    for padding in (1, 2):
        conv = nn.Conv2d(4, 4, 3, padding=padding, groups=4, bias=False)
        conv.weight.data.copy_(weights)
        keys.add(engine_key(conv, (array,), {}))
    assert len(keys) == 2
    holder = nn.Identity()
    holder.register_buffer("scale", torch.tensor(1.0), persistent=False)
    before = weights_hash(holder)
    holder.scale += 1
    assert weights_hash(holder) != before


def test_versions_and_hardware_are_named():
    assert {"promptzoo", "torch", "openvino"} <= set(library_versions())
    assert len(hardware_name()) > 3


@pytest.mark.parametrize("damage", [
    lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    lambda content: b"",
    lambda content: b"promptzoo-engine-1\nno json\nxyz",
])
def test_damaged_file_is_compiled_again(nets, engine_cache, caplog, damage):
    module, example = nets[2]
    compile_module(module, example)
    (file,) = engine_cache.glob("*.engine")
    file.write_bytes(damage(file.read_bytes()))
    with caplog.at_level(logging.WARNING):
        again = compile_module(module, example)
    assert again.name == "openvino" and not again.from_cache
    assert "damaged" in caplog.text
    assert compile_module(module, example).from_cache


def test_unusable_payload_is_compiled_again(nets, engine_cache, monkeypatch, caplog):
    """The hash is right but the library cannot read it, or it now answers something else."""
    module, example = nets[2]
    compile_module(module, example)
    (file,) = engine_cache.glob("*.engine")
    EngineCache(engine_cache).put(file.stem, b"not a blob", {})
    with caplog.at_level(logging.WARNING):
        assert not compile_module(module, example).from_cache

    def load(self, payload, request, original=OpenVINOBackend.load):
        runner = original(self, payload, request)
        return lambda inputs: [o * 3 for o in runner(inputs)]

    monkeypatch.setattr(OpenVINOBackend, "load", load)
    again = compile_module(module, example)
    assert again.name == "openvino" and not again.from_cache
    assert "compiled again" in caplog.text


def test_least_recently_used_goes_first(tmp_path):
    cache = EngineCache(tmp_path, max_bytes=3500)
    for age, name in enumerate("abc"):
        assert cache.put(name, bytes(1000), {})
        os.utime(cache.path(name), (1000 + age, 1000 + age))
    assert cache.get("a") == bytes(1000)  # used just now
    assert cache.put("d", bytes(1000), {})
    assert sorted(p.stem for p in tmp_path.glob("*.engine")) == ["a", "c", "d"]
    assert cache.size_bytes() <= 3500
    assert cache.get("b") is None


def test_what_does_not_fit_is_not_stored(tmp_path):
    cache = EngineCache(tmp_path, max_bytes=100)
    assert not cache.put("a", bytes(100), {})
    assert not list(tmp_path.iterdir())


def test_no_half_written_files_stay(tmp_path, monkeypatch):
    stale = tmp_path / ".tmp-dead"
    stale.write_bytes(b"x")
    os.utime(stale, (1, 1))
    cache = EngineCache(tmp_path, max_bytes=10_000)
    assert cache.put("a", b"payload", {"engine": "x"})
    assert [p.name for p in tmp_path.iterdir()] == ["a.engine"]

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert not cache.put("b", b"payload", {})
    assert [p.name for p in tmp_path.iterdir()] == ["a.engine"]


def test_bound_comes_from_the_environment(nets, engine_cache, monkeypatch):
    monkeypatch.setenv(BYTES_VARIABLE, "0")
    module, example = nets[2]
    assert [compile_module(module, example).from_cache for _ in range(2)] == [False, False]
    monkeypatch.setenv(BYTES_VARIABLE, "lots")
    with pytest.raises(EngineError, match=BYTES_VARIABLE):
        EngineCache(engine_cache)


def test_unwritable_cache_is_only_slower(nets, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("promptzoo.engines.cache.cache_dir", lambda *_: tmp_path / "file" / "engines")
    (tmp_path / "file").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        assert compile_module(*nets[2]).name == "openvino"
    assert "cannot be written" in caplog.text
