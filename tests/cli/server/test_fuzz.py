"""Our routes under requests that nobody sane would send: schemathesis from the OpenAPI document, and by hand."""

import pytest

pytest.importorskip("fastapi", reason="the server needs the extra label")
schemathesis = pytest.importorskip("schemathesis", reason="pip install schemathesis")

from hypothesis import given  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from promptzoo.cli.server.dicomweb import dicomweb_router  # noqa: E402
from promptzoo.cli.server.health import health_router  # noqa: E402
from promptzoo.cli.server.problems import install  # noqa: E402
from promptzoo.cli.server.sessions import PREFIX, sessions_router  # noqa: E402
from promptzoo.cli.server.telemetry import Telemetry  # noqa: E402
from promptzoo.cli.server.viewer import viewer_router  # noqa: E402
from promptzoo.cli.server.wire import Form, read_prompts  # noqa: E402
from promptzoo.core.errors import NotFoundError, PromptZooError  # noqa: E402
from promptzoo.core.geometry import Grid  # noqa: E402
from promptzoo.data.dicomweb.store import DicomStore  # noqa: E402
from promptzoo.inference.sessions import SessionStore  # noqa: E402

from .test_sessions import BallPredictor  # noqa: E402

FEW = settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.fixture
def schema(service, image_file, tmp_path, monkeypatch):
    """All our routes over a small study."""
    from fastapi import FastAPI

    monkeypatch.setenv("PROMPTZOO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PROMPTZOO_CACHE", str(tmp_path / "cache"))
    service._load = lambda path, engine: BallPredictor(path.name)
    archive = DicomStore(image_file.parent)

    def find_image(name):
        if name != "scan":
            raise NotFoundError("image: got x; allowed: scan")
        return image_file

    app = FastAPI()
    with SessionStore(tmp_path / "sessions.sqlite") as store:
        app.include_router(sessions_router(service, store, find_image, archive=archive))
        app.include_router(viewer_router("0", lambda: service.bundles, dict,
                                         lambda strategy, user: {"id": None, "reason": "nothing left"}, archive,
                                         lambda image: service.images.open(image_file).grid))
        app.include_router(dicomweb_router(archive))
        app.include_router(health_router(Telemetry(), lambda: ""))
        install(app)
        from fastapi.testclient import TestClient
        made = TestClient(app).post(PREFIX, json={"image": "scan", "bundle": "clicks_3d"})
        assert made.status_code == 201
        app.state.session = made.json()["id"]
        yield schemathesis.openapi.from_asgi("/openapi.json", app)


def test_no_request_breaks_the_server(schema):
    """schemathesis without its pytest plugin, which does not know this pytest."""
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 35
    session = schema.app.state.session
    for operation in operations:
        calls = []

        @FEW
        @given(case=operation.as_strategy())
        def ask(case):
            calls.append(1)
            if "session_id" in (case.path_parameters or {}) and len(calls) % 2:
                case.path_parameters["session_id"] = session
            answer = case.call()
            assert answer.status_code < 500, (operation.label, answer.text)
            if answer.status_code >= 400:
                detail = answer.json()["detail"]
                assert detail["reason"] and detail["request_id"], detail

        ask()
        assert calls, operation.label


ANY = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8), lambda inner: (
    st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3)), max_leaves=8)
KEYS = st.sampled_from(["foreground", "background", "points", "point_labels", "label_prompt", "roi", "slice", "label",
                        "label_info", "selected_label_name", "text_prompt", "prompts", "liver", "result_dtype"])


@given(st.dictionaries(KEYS, ANY, max_size=5), st.sampled_from(["deepgrow", "deepedit", "vista3d", "scribbles"]))
@settings(max_examples=400, deadline=None, derandomize=True)
def test_parameters_of_infer_are_prompts_or_a_readable_error(params, kind):
    grid = Grid((20, 18, 10), [[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])
    form = Form(kind, {1: "liver", 2: "spleen"}, frozenset({"point", "box", "scribble", "mask", "text", "class"}))
    try:
        read_prompts(params, form, grid).check_on(grid)
    except PromptZooError as error:
        assert 400 <= error.http_status < 500 and str(error)
