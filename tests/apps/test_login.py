"""MONAI Label's own login (OpenID Connect tokens) on a real server: it guards our routes as it guards its own."""
import base64
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import numpy as np
import pytest

from .conftest import free_port, running

OURS = ("/promptzoo/sessions", "/promptzoo/viewer/config", "/dicom-web/studies")
THEIRS = ("/info/", "/datastore/")


@pytest.fixture(scope="module")
def realm():
    """An identity provider's realm with its public key, and a maker of tokens."""
    pytest.importorskip("jwt")
    import jwt
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    answer = json.dumps({"public_key": base64.b64encode(public).decode()}).encode()

    class Realm(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    def token(roles=("monailabel-user",), seconds=300.0, signer=key, algorithm="RS256"):
        return jwt.encode({"preferred_username": "reader", "email": "reader@example.org", "name": "Reader",
                           "exp": time.time() + seconds, "realm_access": {"roles": list(roles)}}, signer, algorithm)

    server = HTTPServer(("127.0.0.1", 0), Realm)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/realm", token
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def server(realm, tmp_path_factory):
    """A server that asks for tokens of the realm."""
    import nibabel

    folder, port = tmp_path_factory.mktemp("login"), free_port()
    (folder / "studies").mkdir()
    noise = np.random.default_rng(0).normal(size=(16, 16, 8)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(noise, np.eye(4)), folder / "studies" / "noise.nii.gz")
    command = [sys.executable, "-m", "promptzoo.cli", "serve", "--studies", str(folder / "studies"),
               "--port", str(port), "--no-preload"]
    environment = {"MONAI_LABEL_AUTH_ENABLE": "true", "MONAI_LABEL_AUTH_REALM_URI": realm[0]}
    with running(command, port, folder / "server", environment, sign="/healthz") as found:
        yield found


@pytest.mark.parametrize("path", OURS + THEIRS)
def test_a_token_of_the_realm_opens_every_route(server, realm, path):
    token = realm[1]()
    assert httpx.get(server.url + path, timeout=60).status_code == 401
    answer = httpx.get(server.url + path, timeout=60, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("path", ["/promptzoo/sessions", "/info/"])
def test_tokens_that_open_nothing(server, realm, path):
    from cryptography.hazmat.primitives.asymmetric import rsa

    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    _, token = realm
    for given, status in ((token(seconds=-60.0), 401), (token(signer=stranger), 401), (token(roles=("guest",)), 403),
                          (token(signer="a" * 32, algorithm="HS256"), 401)):
        answer = httpx.get(server.url + path, timeout=60, headers={"Authorization": f"Bearer {given}"})
        assert answer.status_code == status and answer.json()["detail"], answer.text


def test_infer_is_guarded_too(server, realm):
    asked = {"params": {"image": "noise", "output": "json"}, "timeout": 120}
    assert httpx.post(f"{server.url}/infer/auto", **asked).status_code == 401
    answer = httpx.post(f"{server.url}/infer/auto", headers={"Authorization": f"Bearer {realm[1]()}"}, **asked)
    assert answer.status_code == 200 and "no prompt was given" in answer.json()["reason"]
