"""Every work-around for MONAI Label 0.8.5 and its dependencies: the defect is still there, and is mended."""
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from promptzoo.core import autoload, torchvision_shim
from promptzoo.core.errors import ImageError, NotFoundError, PromptError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def shims():
    """``lib.shims`` of the app, as MONAI Label imports it."""
    app_dir = str(ROOT / "apps" / "promptlabel")
    sys.path.insert(0, app_dir)
    try:
        yield importlib.import_module("lib.shims")
    finally:
        sys.path.remove(app_dir)


def python(code):
    """Run code in a fresh interpreter in which torch does not call our entry point."""
    return subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=300,
                          env={"PYTHONPATH": str(ROOT), "TORCH_DEVICE_BACKEND_AUTOLOAD": "0", "PATH": "/usr/bin:/bin"})


def test_pydicom_seg_needs_a_module_that_pydicom_3_dropped():
    """monailabel.datastore imports pydicom_seg, which imports pydicom._storage_sopclass_uids."""
    import pydicom.uid

    autoload.mend_imports()
    module = importlib.import_module(autoload.STORAGE_UIDS)
    assert module.SegmentationStorage == pydicom.uid.SegmentationStorage
    assert not hasattr(module, "ExplicitVRLittleEndian")
    from pydicom_seg.reader import SegmentReader

    assert SegmentReader is not None
    found = [finder for finder in sys.meta_path if isinstance(finder, autoload.StorageUids)]
    assert len(found) == 1 and found[0].find_spec("pydicom.other") is None


def test_monai_label_starts_only_with_mended_imports():
    """pydicom_seg, and beside a CPU build of torch torchvision for CUDA, break the import of MONAI Label's app."""
    broken = python("import monailabel.app")
    assert "_storage_sopclass_uids" in broken.stderr or "torchvision::nms does not exist" in broken.stderr
    mended = python("from promptzoo.core.autoload import mend_imports; mend_imports(); mend_imports()\n"
                    "import monailabel.app, torchvision; print(torchvision.__name__)")
    assert mended.returncode == 0, mended.stderr
    assert mended.stdout.endswith("torchvision\n")


def test_operators_are_declared_only_for_cpu_torch_beside_cuda_torchvision(monkeypatch):
    import torch

    monkeypatch.setattr(torchvision_shim, "_library", [])
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr(torchvision_shim, "built_for_cuda", lambda: False)
    assert torchvision_shim.declare_operators() is False  # a matching pair, or no torchvision
    monkeypatch.setattr(torchvision_shim, "built_for_cuda", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert torchvision_shim.declare_operators() is False  # both for CUDA


def test_torchvision_says_what_it_was_built_for(monkeypatch, tmp_path):
    def spec(text):
        (tmp_path / "version.py").write_text(text)
        return importlib.machinery.ModuleSpec("torchvision", None, origin=str(tmp_path / "__init__.py"))

    for text, cuda in (("__version__ = '0.28.0+cu130'\ngit_version = 'a'\n", True),
                       ("__version__ = '0.28.0+cpu'\ngit_version = 'a+cu'\n", False),
                       ("__version__ = '0.28.0'\n", False)):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, text=text: spec(text))
        assert torchvision_shim.built_for_cuda() is cuda
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert torchvision_shim.built_for_cuda() is False


def test_scoring_processes_and_the_two_hour_cache_are_off_unless_wanted(shims, monkeypatch):
    from monailabel.config import settings

    for name, value in (("MONAI_LABEL_AUTO_UPDATE_SCORING", True), ("MONAI_LABEL_DICOMWEB_CACHE_EXPIRY", 7200)):
        monkeypatch.setattr(settings, name, value)
    monkeypatch.delenv("MONAI_LABEL_AUTO_UPDATE_SCORING", raising=False)
    monkeypatch.setenv("MONAI_LABEL_DICOMWEB_CACHE_EXPIRY", "7200")
    shims.settings_that_work()
    assert settings.MONAI_LABEL_AUTO_UPDATE_SCORING is False and settings.MONAI_LABEL_DICOMWEB_CACHE_EXPIRY == 7200


def test_background_tasks_need_a_python_path(shims, monkeypatch):
    """monailabel.utils.async_tasks.utils._task_func reads os.environ["PYTHONPATH"]."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    shims.background_tasks_start()
    import os

    assert os.environ["PYTHONPATH"] == ""


def test_background_tasks_refuse_unknown_models_at_once(shims, monkeypatch):
    from monailabel.utils.async_tasks import task

    class App:
        """Knows no model."""

        def check_task(self, method, request):
            raise NotFoundError(f"{method} {request['model']}")

    shims.background_tasks_start()
    monkeypatch.setattr(shims, "app_instance", App)
    with pytest.raises(NotFoundError, match="batch_infer none"):
        task.AsyncTask.run("batch_infer", request={"model": "none"})


def test_infer_requests_are_checked_before_anything_runs(shims, monkeypatch):
    from monailabel.endpoints import infer

    shims.infer_requests_are_checked()
    shims.infer_requests_are_checked()
    assert not hasattr(infer.run_inference.__wrapped__, "__wrapped__")
    monkeypatch.setattr(shims, "app_instance", lambda: type("App", (), {"datastore": lambda self: None})())
    for error, message, request in (
            (NotFoundError, "image of the request", {}),
            (PromptError, "a JSON object", {"image": "a", "params": "[1]"}),
            (ValueError, "Expecting value", {"image": "a", "params": "x"}),
            (ImageError, "dicom_seg", {"image": "a", "output": "dicom_seg"})):
        with pytest.raises(error, match=message):
            infer.run_inference(None, "auto", **request)


def test_batch_inference_without_a_cuda_device(shims, monkeypatch):
    """BatchInferTask picks device n modulo the number of CUDA devices."""
    import torch
    from monailabel.interfaces.tasks.batch_infer import BatchInferTask

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)

    class Store:
        """Two images."""

        def list_images(self):
            return ["a", "b"]

    def infer(request, datastore):
        return {"label": request["image"]}

    with pytest.raises(ZeroDivisionError):
        BatchInferTask()({"max_workers": 1}, Store(), infer)
    done = shims.BatchInfer()({"max_workers": 1}, Store(), infer)
    assert done == {"a": {"label": "a"}, "b": {"label": "b"}}


def test_errors_are_not_installed_where_no_server_runs(shims, monkeypatch):
    monkeypatch.delitem(sys.modules, "monailabel.app", raising=False)
    shims.errors_are_json()
    assert "monailabel.app" not in sys.modules
