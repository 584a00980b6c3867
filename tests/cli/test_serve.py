"""``promptzoo serve`` up to the start of the server; the server itself is tested in tests/apps."""
import importlib.util
import json
import os
import shlex
import socket

import pytest

from promptzoo.cli import serve as command

pytestmark = pytest.mark.skipif(importlib.util.find_spec("monailabel") is None, reason="MONAI Label is not installed")


@pytest.fixture
def started(monkeypatch):
    """What would be started, and an environment that is put back."""
    calls = []
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(command, "_run", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(command, "_check_port", lambda host, port: None)
    return calls


def test_serve_a_folder(run, started, bundles, volume_file, series_folder):
    said = run("serve", "--studies", volume_file.parent, "--port", 8077, "--engine", "torch", "--no-preload").stderr
    (host, port, level, prepared, example, access), = started
    assert (host, port, level) == ("127.0.0.1", 8077, "warning") and "scan" in prepared.images
    assert example["click"] == [20, 18, 10] and example["image"] == "scan"
    assert json.loads(os.environ["MONAI_LABEL_APP_CONF"]) == {
        "engine": "torch", "bundles": str(bundles), "cache_mb": "512", "preload": "false",
        "queue": "32", "upload_mb": "2048"}
    assert os.environ["MONAI_LABEL_STUDIES"] == str(volume_file.parent) and "Warning" not in said
    assert os.environ["MONAI_LABEL_APP_DIR"].endswith("apps/promptlabel")


def test_what_to_do_next_can_be_pasted(run, started, bundles, volume_file):
    run("serve", "--studies", volume_file.parent)
    text = command.next_steps("http://127.0.0.1:8000", started[0][3], ["solid_3d", "flat_2d"], started[0][4])
    curl = shlex.split(text.partition("curl '")[2].partition("\nThe same")[0].join(["curl '", ""]))
    assert curl[1].startswith("http://127.0.0.1:8000/infer/solid_3d?image=scan")
    assert json.loads(curl[-1].partition("=")[2])["foreground"] == [[20, 18, 10]]
    segment = shlex.split(text.partition("    promptzoo segment ")[2].splitlines()[0])
    assert segment == [str(volume_file), "--bundle", "solid_3d", "--point", "20,18,10", "--png", "overlay.png"]
    assert "Not a medical device" in text and "Slicer" in text and "/ohif/" in text


def test_other_addresses_are_warned_of(run, started, bundles, volume_file):
    assert "without a login" in run("serve", "--studies", volume_file.parent, "--host", "0.0.0.0").stderr


def test_a_token_is_never_sent_in_the_clear_over_a_network(run, started, bundles, volume_file, tmp_path):
    secret, chain = tmp_path / "token", tmp_path / "chain.pem"
    secret.write_text("0123456789abcdef0123")
    chain.write_text("")
    away = ("serve", "--studies", volume_file.parent, "--token-file", secret, "--host", "0.0.0.0")
    assert "a token on 0.0.0.0" in run(*away, code=2).stderr and not started
    assert "https with chain.pem alone" in run(*away, "--tls-cert", chain, code=2).stderr and not started
    run(*away, "--tls-cert", chain, "--tls-key", chain)
    run(*away, "--behind-proxy")
    run("serve", "--studies", volume_file.parent, "--token-file", secret)
    assert [call[5].token for call in started] == ["0123456789abcdef0123"] * 3
    assert json.loads(os.environ["MONAI_LABEL_APP_CONF"])["token_file"] == str(secret)
    assert "/promptzoo/login" in command.next_steps("http://x", *started[0][3:4], [], started[0][4], True)
    assert "token file" in run("serve", "--token-file", tmp_path / "none", code=4).stderr


@pytest.mark.parametrize("arguments, code, message", [
    (["--studies", "none"], 4, "studies folder"), (["--bundles", "none"], 4, "bundles folder")])
def test_errors(run, started, bundles, arguments, code, message):
    assert message in " ".join(run("serve", *arguments, code=code).stderr.split()) and not started


def test_settings_of_the_user_stay(started, tmp_path):
    os.environ["MONAI_LABEL_SESSION_PATH"] = "/mine"
    command.export_settings(tmp_path, tmp_path, 8001, {"engine": "torch"})
    assert os.environ["MONAI_LABEL_SESSION_PATH"] == "/mine" and os.environ["MONAI_LABEL_SERVER_PORT"] == "8001"


def test_bundles_without_weights(run, started, make_bundle, volume_file):
    make_bundle("solid_3d", 3, weights=False)
    said = run("serve", "--studies", volume_file.parent, code=4).stderr
    assert "bundles with weights" in said


def test_no_app(run, started, bundles, monkeypatch, tmp_path):
    monkeypatch.setenv("PROMPTZOO_APP", str(tmp_path))
    assert "MONAI Label app" in run("serve", code=4).stderr


def test_a_port_in_use(run, monkeypatch, bundles):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = run("serve", "--port", port, code=2).stderr
    assert f"cannot listen on 127.0.0.1:{port}" in said and f"--port {port % 65535 + 1}" in said


def test_sample_studies_are_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMPTZOO_CACHE", str(tmp_path))
    made = []

    def write(folder):
        made.append(folder)
        folder.mkdir()
        (folder / "a.nii.gz").touch()
        return [{"id": "a", "image": str(folder / "a.nii.gz"), "clicks": {"liver": [1, 2, 3]}}]

    monkeypatch.setattr("promptzoo.data.phantoms.write_sample_studies", write)
    first, second = command.sample_studies(), command.sample_studies()
    assert first == second and len(made) == 1
    (made[0] / "a.nii.gz").unlink()
    made[0].rmdir()
    command.sample_studies()
    assert len(made) == 2
