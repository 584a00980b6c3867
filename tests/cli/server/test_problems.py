"""Errors as JSON, also in an application that runs already."""
import logging

import pytest

pytest.importorskip("fastapi", reason="the server needs the extra label")

from fastapi import FastAPI, HTTPException  # noqa: E402
from fastapi.testclient import TestClient  # noqa: E402

from promptzoo.cli.server.problems import install, problem  # noqa: E402
from promptzoo.core.errors import BundleError, EngineError, NotFoundError, PromptError  # noqa: E402


class HostError(Exception):
    """An error in the form of MONAI Label's."""

    def __init__(self, name):
        super().__init__()
        self.error, self.msg = type("Kind", (), {"name": name})(), "the host says no"


@pytest.mark.parametrize("error, status, kind", [
    (PromptError("p"), 422, "PromptError"), (NotFoundError("n"), 404, "NotFoundError"),
    (BundleError("b"), 500, "BundleError"), (EngineError("e"), 500, "EngineError"),
    (HTTPException(404, "gone"), 404, "Not Found"), (HostError("INVALID_INPUT"), 400, "INVALID_INPUT"),
    (HostError("APP_ERROR"), 404, "APP_ERROR"), (HostError("INFERENCE_ERROR"), 500, "INFERENCE_ERROR"),
    (KeyError("secret"), 500, "KeyError")])
def test_status_and_kind(error, status, kind):
    found, body = problem(error)
    assert (found, body["detail"]["kind"]) == (status, kind)
    assert len(body["detail"]["request_id"]) == 12


def test_a_defect_keeps_its_words_for_the_log():
    assert "secret" not in str(problem(KeyError("secret"))[1])


def test_an_application_that_runs_learns_to_answer(caplog):
    app = FastAPI()

    @app.get("/{what}")
    def fail(what: str, number: int = 0):
        raise {"prompt": PromptError("outside"), "host": HostError("APP_INIT_ERROR"),
               "http": HTTPException(418, "teapot")}.get(what, ZeroDivisionError("deep inside"))

    client = TestClient(app, raise_server_exceptions=False)
    assert client.get("/prompt").text == "Internal Server Error"
    install(app, HostError)
    install(app, HostError)
    assert client.get("/prompt").json()["detail"]["reason"] == "outside"
    assert client.get("/prompt").status_code == 422
    host = client.get("/host")
    assert host.status_code == 404 and host.json()["detail"]["reason"] == "the host says no"
    assert client.get("/http").json()["detail"]["reason"] == "teapot"
    bad = client.get("/prompt?number=x")
    assert bad.status_code == 422 and "query.number" in bad.json()["detail"]["reason"]
    assert client.get("/a/b").json()["detail"]["kind"] == "Not Found"
    with caplog.at_level(logging.ERROR):
        defect = client.get("/defect")
    assert defect.status_code == 500 and defect.json()["detail"]["kind"] == "ZeroDivisionError"
    assert "deep inside" in caplog.text and defect.json()["detail"]["request_id"] in caplog.text
