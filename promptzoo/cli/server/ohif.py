"""OHIF from MONAI Label's wheel, made to work with our server without a rebuild.

MONAI Label serves the same files, but with three defects: assets in sub-folders answer with the start page (it joins
paths with ``os.pathsep``), its panel looks for the server on port 8000 whatever the port is, and the page asks Google
for fonts, which tells them that somebody looks at a study. The start page gets our panel, the configuration our store.
"""
from __future__ import annotations

import json
import mimetypes
import re
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse, Response

from promptzoo.core.errors import BundleError, NotFoundError, complain

WEB = Path(__file__).with_name("web")
"""Scripts and styles of our panel."""
_OUTSIDE = re.compile(r"<link[^>]*https://fonts\.[^>]*>")
_OUTSIDE_CSS = re.compile(r"@import\s*(url\()?[\"']?https://fonts\.[^;]*;")
_HERE = """<script>if (!/MONAILABEL_SERVER_URL=/.test(document.cookie))
  document.cookie = 'MONAILABEL_SERVER_URL=' + encodeURIComponent(location.origin + '/') + ';path=/;SameSite=Strict';
</script>"""
_PANEL = ('<link href="/promptzoo/web/panel.css" rel="stylesheet"/>'
          '<script type="module" src="/promptzoo/web/panel.js"></script>')


def start_page(text: str) -> str:
    """OHIF's ``index.html`` without foreign fonts, with this server as MONAI Label's and with our panel."""
    panel = _PANEL if (WEB / "panel.js").is_file() else ""
    return _OUTSIDE.sub("", text).replace("</head>", f"{_HERE}{panel}</head>", 1)


def configuration(text: str, root: str, name: str) -> str:
    """OHIF's ``app-config.js`` with a DICOMweb root of ours.

    Args:
        text: the file.
        root: path of the store on this server; QIDO-RS, WADO-RS and STOW-RS are there.
        name: what the study list calls it.

    Raises:
        BundleError: if the file has no data source to change.
    """
    changed, count = re.subn(r"(qidoRoot|wadoRoot|wadoUriRoot):\s*'[^']*'",
                             lambda found: f"{found[1]}: {json.dumps(root)}", text)
    if count < 2:
        raise BundleError(complain("app-config.js of OHIF", "no DICOMweb data source", "qidoRoot and wadoRoot"))
    changed = re.sub(r"friendlyName:\s*'[^']*'", lambda _: f"friendlyName: {json.dumps(name)}", changed)
    return changed.replace("supportsFuzzyMatching: true", "supportsFuzzyMatching: false")


def ohif_router(static: Path, root: str = "", name: str = "promptzoo") -> APIRouter:
    """The routes ``/ohif/…`` and ``/promptzoo/web/…``.

    Args:
        static: folder of OHIF's files.
        root: path of our DICOMweb store; empty leaves MONAI Label's proxy to a DICOMweb server.
        name: what the study list calls the store.

    Raises:
        NotFoundError: if OHIF is not there.
    """
    static = static.resolve()
    if not (static / "index.html").is_file():
        raise NotFoundError(complain("OHIF", str(static), "a folder with index.html", "Install monailabel again"))
    router = APIRouter(include_in_schema=False)

    @router.get("/promptzoo/web/{path:path}")
    def web(path: str) -> FileResponse:
        return _file(WEB, path)

    @router.get("/ohif")
    @router.get("/ohif/{path:path}")
    def ohif(path: str = "") -> Response:
        if path == "app-config.js" and root:
            text = configuration((static / path).read_text(encoding="utf-8"), root, name)
            return Response(text, media_type="text/javascript", headers={"Cache-Control": "no-cache"})
        if path in ("", "index.html") or not (static / path).is_file():
            if Path(path).suffix in (".js", ".css", ".wasm", ".map", ".png", ".ico", ".svg", ".json"):
                return _file(static, path)  # a missing asset is missing; a route of the viewer is the start page
            text = start_page((static / "index.html").read_text(encoding="utf-8"))
            return HTMLResponse(text, headers={"Cache-Control": "no-cache"})
        if path.endswith(".css"):
            place = _inside(static, path)
            return Response(_OUTSIDE_CSS.sub("", place.read_text(encoding="utf-8")), media_type="text/css")
        return _file(static, path)

    return router


def _inside(folder: Path, path: str) -> Path:
    place = (folder / path).resolve()
    if folder not in place.parents or not place.is_file():
        raise NotFoundError(complain("file of the viewer", path, "an existing one"))
    return place


def _file(folder: Path, path: str) -> FileResponse:
    place = _inside(folder, path)
    kind = "text/javascript" if place.suffix == ".js" else mimetypes.guess_type(place.name)[0]
    return FileResponse(place, media_type=kind or "application/octet-stream")
