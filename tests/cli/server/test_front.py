"""The front before the host: token, size, request id, whose route it is, and what is counted."""
import json
import logging

import pytest
from fastapi import FastAPI, UploadFile
from fastapi.testclient import TestClient

from promptzoo.cli.server import problems
from promptzoo.cli.server.front import COOKIE, FrontSettings, install
from promptzoo.cli.server.health import health_router
from promptzoo.cli.server.telemetry import Telemetry
from promptzoo.cli.server.token import read_token
from promptzoo.core.errors import NotFoundError, PromptZooError

TOKEN = "0123456789abcdefXYZ"
PATHS = {"/infer/[^/]+": ("POST",), "/healthz|/readyz|/metrics": (), "/promptzoo(/.*)?": ()}


def make(token="", most_bytes=2000, unready=""):
    """A host whose every answer says "host", and the front with our routes before it."""
    host, ours, telemetry = FastAPI(), FastAPI(), Telemetry()

    @host.api_route("/{path:path}", methods=["GET", "POST", "PUT"])
    async def anything(path: str):
        return "host"

    @ours.post("/infer/{model}")
    def infer(model: str, file: UploadFile):
        return f"ours {model} {len(file.file.read())}"

    ours.include_router(health_router(telemetry, lambda: unready, token))
    problems.install(ours)
    for _ in range(2):  # the second call replaces the first
        install(host, ours, PATHS, FrontSettings(token, most_bytes), telemetry)
    return TestClient(host)


def upload(size):
    return {"file": ("scan.nii.gz", b"x" * size)}


def test_our_routes_come_first_and_by_method():
    client = make()
    assert client.post("/infer/two_d", files=upload(5)).json() == "ours two_d 5"
    assert client.get("/infer/two_d").json() == "host" and client.post("/infer/wsi/two_d").json() == "host"
    assert client.get("/info/").json() == "host"
    assert client.get("/healthz").json() == {"status": "ok"}


def test_every_answer_has_a_request_id_and_errors_repeat_it():
    client = make()
    first, second = client.get("/info/"), client.post("/infer/two_d")
    assert second.status_code == 422
    assert second.json()["detail"]["request_id"] == second.headers["x-request-id"] != first.headers["x-request-id"]


def test_ready_says_what_it_waits_for():
    assert make().get("/readyz").status_code == 200
    waiting = make(unready="the bundles are being loaded").get("/readyz")
    assert waiting.status_code == 503 and waiting.json()["reason"] == "the bundles are being loaded"


@pytest.mark.parametrize("path", ["/info/", "/metrics", "/ohif/", "/promptzoo/openapi.json"])
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"},
                                     {"Cookie": f"{COOKIE}=wrong"}, {"Authorization": "Bearer é".encode("latin-1")}])
def test_without_the_token_nothing_is_told(path, headers):
    refused = make(TOKEN).get(path, headers=headers)
    assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer"
    assert refused.json()["detail"]["kind"] == "AccessError" and TOKEN not in refused.text


def test_with_the_token_everything_answers():
    client = make(TOKEN)
    assert client.get("/info/", headers={"Authorization": f"bearer {TOKEN}"}).json() == "host"
    assert client.get("/healthz").status_code == 200, "probes have no token"


def test_a_browser_signs_in_once():
    client = make(TOKEN)
    answer = client.get("/promptzoo/login", params={"given": TOKEN, "next": "/ohif/viewer?x=1"}, follow_redirects=False)
    assert answer.status_code == 303 and answer.headers["location"] == "/ohif/viewer?x=1"
    assert "HttpOnly" in answer.headers["set-cookie"] and "SameSite=strict" in answer.headers["set-cookie"]
    assert client.get("/info/").json() == "host"
    client.cookies.clear()
    assert client.get("/promptzoo/login", params={"given": "wrong"}).status_code == 401
    for away in ("https://elsewhere", "//elsewhere", "/\\elsewhere", "/a\nb"):
        assert client.get("/promptzoo/login", params={"given": TOKEN, "next": away}).status_code == 422


@pytest.mark.parametrize("path", ["/infer/two_d", "/datastore/image"])
def test_a_request_that_is_too_large_is_refused_whether_it_says_so_or_not(path):
    client = make(most_bytes=500)
    told = client.post(path, files=upload(600))
    assert told.status_code == 413 and "at most 500" in told.json()["detail"]["reason"]

    def silently():
        yield from (b"x" * 100 for _ in range(9))

    hidden = client.post("/infer/two_d", content=silently(),
                         headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert hidden.status_code == 413 and hidden.json()["detail"]["kind"] == "TooLargeError"


def test_metrics_and_log_tell_routes_and_no_ids(caplog):
    client = make()
    with caplog.at_level(logging.INFO, "promptzoo.requests"):
        client.get("/datastore/image", params={"image": "DOE^JOHN"})
        client.post("/infer/two_d", files=upload(5), params={"image": "DOE^JOHN"})
    lines = [json.loads(record.message) for record in caplog.records if record.name == "promptzoo.requests"]
    assert [(line["method"], line["status"]) for line in lines] == [("GET", 200), ("POST", 200)]
    assert lines[1]["route"] == "/infer/{model}" and "DOE" not in caplog.text
    text = client.get("/metrics").text
    assert 'promptzoo_requests_total{method="POST",route="/infer/{model}",status="200"} 1.0' in text
    assert "DOE" not in text


def test_token_file(tmp_path, caplog, monkeypatch):
    heard = logging.getLogger("promptzoo.cli.server.token")
    monkeypatch.setattr(heard, "disabled", False)  # whatever libraries that configure logging did in earlier tests
    monkeypatch.setattr(logging.getLogger("promptzoo"), "propagate", True)
    caplog.set_level(logging.WARNING, heard.name)
    place = tmp_path / "token"
    assert read_token(None) == ""
    with pytest.raises(NotFoundError, match="token file"):
        read_token(place)
    for bad in ("short", "has spaces in its middle", 'quote"quote"quote"quote'):
        place.write_text(bad)
        with pytest.raises(PromptZooError, match="token: got"):
            read_token(place)
    place.write_text(TOKEN + "\n")
    place.chmod(0o644)
    assert read_token(place) == TOKEN and "can be read by others" in caplog.text
    place.chmod(0o600)
    caplog.clear()
    assert read_token(place) == TOKEN and caplog.text == ""
