"""``promptzoo serve``: the MONAI Label server with the bundles."""
from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import typer

from promptzoo.cli import options
from promptzoo.cli.choice import weights_present
from promptzoo.cli.common import existing, progress, say, say_error
from promptzoo.cli.server.studies import Studies, prepare_studies
from promptzoo.cli.server.token import read_token
from promptzoo.core.bundles import find_bundles
from promptzoo.core.errors import NotFoundError, PromptZooError, complain
from promptzoo.core.locations import bundles_dir, cache_dir
from promptzoo.core.optional import require

LOCAL = ("127.0.0.1", "localhost", "::1")
M_ARENA_MAX, M_MMAP_THRESHOLD = -8, -3
"""Numbers of the settings in glibc's malloc.h."""
LARGEST_EXAMPLE_BYTES = 30 << 20
"""Larger images are not read for the example that is printed."""


def serve(
    studies: Optional[str] = typer.Option(None, help="Folder with NIfTI, NRRD, pictures or DICOM series, at any depth; "
                                                     "or the URL of a DICOMweb server. Default: a sample study."),
    pacs_user: str = typer.Option("", help="User of the DICOMweb server."),
    pacs_password_file: Optional[Path] = typer.Option(None, help="File with the password of the DICOMweb server."),
    host: str = typer.Option("127.0.0.1", help="Address to listen on; others than this are open to the network."),
    port: int = typer.Option(8000, min=1, max=65535, help="OHIF's panel expects 8000."),
    engine: str = options.ENGINE,
    bundles: Optional[Path] = typer.Option(None, help="Folder of bundles. Default: those of this installation. Bundles "
                                                      "are programs: serve only those you trust."),
    cache_mb: int = typer.Option(512, min=0, help="Most memory for prepared images."),
    token_file: Optional[Path] = typer.Option(None, help="File with a token that every request must carry."),
    tls_cert: Optional[Path] = typer.Option(None, help="Certificate chain (PEM) for https."),
    tls_key: Optional[Path] = typer.Option(None, help="Private key (PEM) of the certificate."),
    behind_proxy: bool = typer.Option(False, "--behind-proxy", help="A proxy before this server speaks https."),
    queue: int = typer.Option(32, min=0, help="Most requests that wait for the device; more are answered 429."),
    upload_mb: int = typer.Option(2048, min=1, help="Largest request."),
    preload: bool = typer.Option(True, "--preload/--no-preload", help="Load the bundles at once, not at first use."),
    log_level: str = typer.Option("warning", help="debug, info, warning or error."),
) -> None:
    """Start the MONAI Label server for 3D Slicer, OHIF and scripts.

    Prints what to do next; stop it with Ctrl+C. Without a token file it has no login: listen on other addresses only in
    a network you trust.
    """
    require("monailabel", "the server", "label")
    app_dir = app_folder()
    _check_port(host, port)
    token = read_token(token_file)
    _check_exposure(host, port, bool(token), tls_cert, tls_key, behind_proxy)
    folder = existing(bundles, "bundles folder") if bundles else bundles_dir()
    if not any(weights_present(info) for info in find_bundles(folder)):
        raise NotFoundError(complain("bundles with weights", f"none in {folder}", "a folder with at least one"))
    if studies is not None and "://" in studies:
        _pacs_login(pacs_user, pacs_password_file)
        prepared, example, source = Studies(Path(), Path()), {"pacs": studies}, studies
    else:
        prepared, example = _studies(None if studies is None else Path(studies))
        source = str(prepared.source)
    export_settings(app_dir, source, port, {
        "engine": engine, "bundles": str(folder.resolve()), "cache_mb": str(cache_mb), "preload": str(preload).lower(),
        "queue": str(queue), "upload_mb": str(upload_mb),
        **({"token_file": str(token_file.expanduser().resolve())} if token_file else {})})
    _run(host, port, log_level, prepared, example, Access(token, tls_cert, tls_key))


@dataclass(frozen=True)
class Access:
    """Who may speak to the server, and how: its token (empty for none) and the files of https."""

    token: str = ""
    tls_cert: Path | None = None
    tls_key: Path | None = None


def app_folder() -> Path:
    """The MONAI Label app: ``$PROMPTZOO_APP`` or ``apps/promptlabel`` beside the package.

    Raises:
        NotFoundError: if it is not there.
    """
    chosen = os.environ.get("PROMPTZOO_APP")
    folder = Path(chosen) if chosen else Path(__file__).resolve().parents[2] / "apps" / "promptlabel"
    if not (folder / "main.py").is_file():
        raise NotFoundError(complain("MONAI Label app", str(folder), "a folder with main.py",
                                     "Install promptzoo from its repository with pip install -e, or set PROMPTZOO_APP"))
    return folder.resolve()


def _check_exposure(host: str, port: int, token: bool, cert: Path | None, key: Path | None, proxy: bool) -> None:
    """Refuse to send a token in the clear over a network, and warn where there is none."""
    for given, other, name in ((cert, key, "--tls-key"), (key, cert, "--tls-cert")):
        if given is not None:
            existing(given, "file of https")
            if other is None:
                raise PromptZooError(complain(f"https with {given.name} alone", "one file", f"{name} as well"))
    if host in LOCAL:
        return
    if not token:
        say(f"Warning: listening on {host} without a login: whoever reaches port {port} can read the studies.")
    elif cert is None and not proxy:
        raise PromptZooError(complain(f"a token on {host}", "no https, so everybody on the way can read the token",
                                      "--tls-cert and --tls-key, or --behind-proxy if a proxy speaks https"))


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PromptZooError(complain(f"cannot listen on {host}:{port}", error.strerror or str(error),
                                          "a free port of this machine",
                                          f"Stop the other server, or choose another port: --port {port % 65535 + 1}"
                                          )) from error


def _studies(folder: Path | None) -> tuple[Studies, dict[str, Any]]:
    """The folder of studies, prepared, and an example: image id, file, object and a voxel to click at."""
    records = None if folder is not None else sample_studies()
    with progress("DICOM series") as report:
        prepared = prepare_studies(Path(records[0]["image"]).parent if records else folder, report)
    for uid, reason in prepared.skipped.items():
        say(f"Left out: DICOM series {uid}: {reason}")
    if not prepared.images:
        say_error(f"{folder} holds no image that can be served; upload one from 3D Slicer, or give another folder")
    if records:
        name, click = next(iter(records[0]["clicks"].items()))
        return prepared, {"image": records[0]["id"], "file": records[0]["image"], "object": name, "click": click}
    image, file = next(iter(prepared.images.items()), ("IMAGE_ID", Path("IMAGE")))
    return prepared, {"image": image, "file": str(file), "object": "its middle", "click": _middle(file)}


def sample_studies() -> list[dict[str, Any]]:
    """The records of the sample studies in the user cache, made if they are not there.

    Returns:
        As :func:`promptzoo.data.phantoms.write_sample_studies`.
    """
    listing = cache_dir("samples") / "records.json"
    if listing.is_file():
        records = json.loads(listing.read_text(encoding="utf-8"))
        if all(Path(record["image"]).is_file() for record in records):
            return records
    from promptzoo.data.phantoms import write_sample_studies

    folder = listing.with_name("studies")
    say(f"No --studies: making sample studies in {folder}")
    records = write_sample_studies(folder)
    listing.write_text(json.dumps(records, indent=2), encoding="utf-8")
    return records


def _middle(path: Path) -> list[int]:
    """The middle voxel of an image, as an example; the first if reading the image would take long."""
    try:
        if path.stat().st_size <= LARGEST_EXAMPLE_BYTES:
            from promptzoo.data.io import read_image

            return [n // 2 for n in read_image(path).grid.shape]
    except (OSError, PromptZooError):
        pass
    return [0, 0, 0]


def _pacs_login(user: str, password_file: Path | None) -> None:
    """Hand the credentials to MONAI Label's settings; what the environment says already stays."""
    if bool(user) != (password_file is not None):
        raise PromptZooError(complain("credentials of the DICOMweb server", "one of the two",
                                      "--pacs-user and --pacs-password-file, or neither"))
    if user and password_file is not None:
        password = existing(password_file, "password file").read_text(encoding="utf-8").strip()
        os.environ.update({"MONAI_LABEL_DICOMWEB_USERNAME": user, "MONAI_LABEL_DICOMWEB_PASSWORD": password})


def export_settings(app_dir: Path, studies: str, port: int, conf: dict[str, str]) -> None:
    """Tell MONAI Label, and the processes that it starts, what to serve; what the user has set himself stays.

    Args:
        app_dir: the app.
        studies: the folder of studies, or the URL of a DICOMweb server.
        port: of the server.
        conf: configuration of the app.
    """
    os.environ.update({
        "MONAI_LABEL_APP_DIR": str(app_dir), "MONAI_LABEL_STUDIES": str(studies), "MONAI_LABEL_SERVER_PORT": str(port),
        "MONAI_LABEL_APP_CONF": json.dumps(conf)})
    os.environ.setdefault("MONAI_LABEL_SESSION_PATH", str(cache_dir("sessions")))
    os.environ["PROMPTZOO_REFERENCES"] = str(studies)  # a request may name finished cases there, and no other file


def next_steps(url: str, prepared: Studies, models: list[str], example: dict[str, Any], token: bool = False) -> str:
    """What a person can do now.

    Args:
        url: of the server.
        prepared: the studies of a folder.
        models: names of the click models, the preselected one first.
        example: ``image`` (id), ``file``, ``object`` and ``click`` (voxel); or ``pacs``, a DICOMweb server.
        token: whether requests must carry one.
    """
    login = "" if not token else f"""
Every request needs the token: -H 'Authorization: Bearer TOKEN'; a browser signs in once at
    {url}/promptzoo/login?given=TOKEN"""
    if "pacs" in example:
        return f"""
promptzoo serves the DICOMweb server {example["pacs"]} at {url}
Not a medical device: a person must check every mask.{login}

OHIF, with the promptzoo panel at its right: {url}/ohif/ (choose a study, then MONAI Label).
3D Slicer (extension MONAILabel): module MONAI Label, server {url}, Next Sample.
Models: {url}/info/   Images: {url}/datastore/?output=all   All routes: {url}/   Stop: Ctrl+C
"""
    model, click = (models or ["auto"])[0], example["click"]
    return f"""
promptzoo serves {len(prepared.images)} images of {prepared.source} at {url}
Not a medical device: a person must check every mask.{login}

3D Slicer (extension MONAILabel): module MONAI Label, server {url}, Next Sample.
    SmartEdit: choose {model}, then click or place a ROI. Scribbles: choose {model}_scribbles, then paint.
OHIF, with the promptzoo panel at its right: {url}/promptzoo/viewer/open?image={example["image"]}
    All studies: {url}/ohif/ (choose one, then MONAI Label).
curl, one click on {example["image"]} ({example["object"]}); -F file=@FILE instead of image=ID sends an image of yours:
    curl '{url}/infer/{model}?image={example["image"]}&output=image' -o mask.nii.gz \\
        -F 'params={json.dumps({"foreground": [click], "result_extension": ".nii.gz"})}'
The same on the command line, without the server:
    promptzoo segment {example["file"]} --bundle {model} --point {",".join(map(str, click))} --png overlay.png
Models: {url}/info/   Images: {url}/datastore/?output=all   All routes: {url}/   Stop: Ctrl+C
"""


def _spare_memory(heaps: int = 2, mapped_bytes: int = 2 << 20) -> None:
    """Let all threads share a few heaps (glibc gives each its own, and what is freed in one serves no other), and give
    large arrays back to the system as soon as they are freed."""
    with contextlib.suppress(OSError, AttributeError):  # another C library has neither the file nor the settings
        malloc = ctypes.CDLL("libc.so.6")
        malloc.mallopt(M_ARENA_MAX, heaps)
        malloc.mallopt(M_MMAP_THRESHOLD, mapped_bytes)


def _run(host: str, port: int, log_level: str, prepared: Studies, example: dict[str, Any], access: Access) -> None:
    """Start MONAI Label's application and stay until it is stopped."""
    from promptzoo.core.autoload import mend_imports

    _spare_memory()  # before the first thread
    mend_imports()  # before the first import of MONAI Label
    logging.basicConfig(level=log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("timeloop").addFilter(lambda record: record.levelno >= logging.WARNING)
    say("Starting; this takes about ten seconds.")
    import uvicorn
    from monailabel.app import app

    class Server(uvicorn.Server):
        """Says what to do next as soon as requests are answered."""

        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            if self.started:
                from monailabel.interfaces.utils.app import app_instance

                models = [name for name, task in app_instance().info()["models"].items() if task["type"] == "deepgrow"]
                shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
                scheme = "https" if access.tls_cert else "http"
                say(next_steps(f"{scheme}://{shown}:{port}", prepared, models, example, bool(access.token)))

    files = {} if access.tls_cert is None else {"ssl_certfile": access.tls_cert, "ssl_keyfile": access.tls_key}
    server = Server(uvicorn.Config(app, host=host, port=port, log_level=log_level, log_config=None, **files))
    try:
        server.run()
    except KeyboardInterrupt:
        say("Stopped.")
    if not server.started:
        raise PromptZooError(complain("server", "it stopped while starting", "a start", "The lines above say why"))
