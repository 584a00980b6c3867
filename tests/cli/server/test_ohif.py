"""OHIF's files as we serve them: start page, configuration, assets, and nothing beside them."""
import importlib.util
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from promptzoo.cli.server import problems
from promptzoo.cli.server.ohif import configuration, ohif_router, start_page
from promptzoo.core.errors import BundleError, NotFoundError

INDEX = """<!doctype html><html><head><title>OHIF Viewer</title>
<link rel="preconnect" href="https://fonts.gstatic.com" crossorigin/><link href="https://fonts.googleapis.com/css"/>
</head><body><div id="root"></div></body></html>"""
CONFIG = """window.config = {dataSources: [{configuration: {friendlyName: 'Orthanc Server', name: 'Orthanc',
wadoUriRoot: '/proxy/dicom/wado', qidoRoot: '/proxy/dicom/qido', wadoRoot: '/proxy/dicom/wado'}}]};"""


@pytest.fixture
def static(tmp_path):
    """A small OHIF, and a secret beside it."""
    folder = tmp_path / "ohif"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text(INDEX)
    (folder / "app-config.js").write_text(CONFIG)
    (folder / "app.js").write_text("run()")
    (folder / "assets" / "favicon.ico").write_bytes(b"icon")
    (tmp_path / "secret.js").write_text("secret")
    return folder


def client(*arguments):
    app = FastAPI()
    app.include_router(ohif_router(*arguments))
    problems.install(app)
    return TestClient(app)


@pytest.mark.parametrize("path", ["/ohif", "/ohif/", "/ohif/index.html", "/ohif/monai-label?StudyInstanceUIDs=1.2"])
def test_the_start_page_asks_nobody_else_and_knows_its_server(static, path):
    page = client(static).get(path)
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert "fonts." not in page.text and "MONAILABEL_SERVER_URL" in page.text and '<div id="root">' in page.text


def test_assets_are_themselves_also_in_sub_folders(static):
    found = client(static)
    assert found.get("/ohif/assets/favicon.ico").content == b"icon"
    script = found.get("/ohif/app.js")
    assert script.text == "run()" and script.headers["content-type"].startswith("text/javascript")
    assert found.get("/ohif/none.js").status_code == 404
    assert found.get("/ohif/none.js").json()["detail"]["kind"] == "NotFoundError"


@pytest.mark.parametrize("path", ["/ohif/..%2fsecret.js", "/ohif/assets/..%2f..%2fsecret.js",
                                  "/promptzoo/web/..%2fohif.py", "/promptzoo/web/%2fetc%2fpasswd"])
def test_nothing_beside_the_viewer_is_read(static, path):
    answer = client(static).get(path)
    assert answer.status_code == 404 and "secret" not in answer.text.replace("..", "").replace("secret.js", "")


def test_the_configuration_names_our_store_only_if_there_is_one(static):
    ours = client(static, "/dicom-web", "Studies").get("/ohif/app-config.js")
    assert ours.text.count('"/dicom-web"') == 3 and "proxy" not in ours.text and '"Studies"' in ours.text
    assert client(static).get("/ohif/app-config.js").text == CONFIG
    with pytest.raises(BundleError, match="app-config.js"):
        configuration("window.config = {}", "/dicom-web", "x")


def test_no_viewer(tmp_path):
    with pytest.raises(NotFoundError, match="OHIF"):
        ohif_router(tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("monailabel") is None, reason="MONAI Label is not installed")
def test_the_viewer_of_the_wheel_is_the_one_we_know():
    """Its page has the places that are changed; another version of OHIF would need a look."""
    found = importlib.util.find_spec("monailabel")
    folder = Path(found.submodule_search_locations[0]) / "endpoints" / "static" / "ohif"
    page = (folder / "index.html").read_text()
    assert "fonts.googleapis.com" in page and "fonts." not in start_page(page)
    assert configuration((folder / "app-config.js").read_text(), "/dicom-web", "x").count('"/dicom-web"') == 3
