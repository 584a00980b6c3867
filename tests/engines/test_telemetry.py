"""Converting a network tells nobody."""
import pytest
import torch

from promptzoo.engines import compile_module
from promptzoo.engines.telemetry import silence_telemetry


@pytest.fixture
def package(monkeypatch, tmp_path):
    """The telemetry package with an empty home folder, nothing that says CI, and no real sender."""
    package = pytest.importorskip("openvino_telemetry", reason="OpenVINO came without its telemetry")
    for name in ("CI", "TF_BUILD", "JENKINS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return package


def test_no_answer_is_a_no(package):
    silence_telemetry()
    silence_telemetry()  # patched once
    checker = package.utils.opt_in_checker
    answer = checker.OptInChecker().check(enable_opt_in_dialog=False, disable_in_ci=False)
    assert answer == checker.ConsentCheckResult.DECLINED


def test_a_users_yes_stands(package, tmp_path):
    silence_telemetry()
    checker = package.utils.opt_in_checker
    file = tmp_path / "intel" / "openvino_telemetry"
    file.parent.mkdir()
    file.write_text("1")
    assert checker.OptInChecker().check(False, False) == checker.ConsentCheckResult.ACCEPTED


def test_converting_sends_nothing(package, engine_cache, monkeypatch, tmp_path):
    sent = []
    from openvino_telemetry.utils.sender import TelemetrySender

    monkeypatch.setattr(TelemetrySender, "send", lambda self, *args: sent.append(args))
    silence_telemetry()
    from openvino.tools.ovc.telemetry_utils import init_ovc_telemetry

    telemetry = init_ovc_telemetry("promptzoo-test")  # the singleton may be older than this test: ask again
    assert not telemetry.consent
    compiled = compile_module(torch.nn.Conv2d(1, 1, 1).eval(), (torch.randn(1, 1, 4, 4),), engine="openvino")
    assert compiled.name == "openvino"
    assert sent == []
    assert not (tmp_path / "intel").exists()
