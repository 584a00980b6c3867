"""Our routes before MONAI Label's: inference off the event loop, sessions, DICOMweb, OHIF, health and metrics."""
import inspect
import sys
from functools import partial
from pathlib import Path

from fastapi import BackgroundTasks, Depends, FastAPI, File, Form, UploadFile
from fastapi.middleware.cors import CORSMiddleware
from lib.pacs import credentials
from lib.train import BackgroundTrainer
from monailabel.config import settings
from monailabel.endpoints import infer as infer_endpoint
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.exception import MONAILabelException

import promptzoo
from promptzoo.cli.server import problems
from promptzoo.cli.server.dicomweb import PREFIX, dicomweb_router
from promptzoo.cli.server.front import FrontSettings, install
from promptzoo.cli.server.health import health_router
from promptzoo.cli.server.learning import learning_router
from promptzoo.cli.server.ohif import ohif_router
from promptzoo.cli.server.pacs import pacs_router
from promptzoo.cli.server.preparation import Preparation, preparation_router
from promptzoo.cli.server.saving import LabelSaver
from promptzoo.cli.server.sessions import sessions_router
from promptzoo.cli.server.viewer import viewer_router

OURS = {"/infer/[^/]+": ("POST",), "/healthz|/readyz|/metrics": (), "/promptzoo(/.*)?": (), "/ohif(/.*)?": ("GET",),
        f"{PREFIX}/.*": ()}
"""Paths that are answered here, with their methods."""


def infer_route(app, queue):
    """``POST /infer/{model}`` as MONAI Label has it, but in the queue of the device: its own blocks the event loop, so
    that nobody gets any answer while one inference runs."""

    @app.post("/infer/{model}", tags=["Infer"], summary="Run inference of a model",
              responses={429: {"description": "Too many requests wait; Retry-After says how long to stay away"}})
    async def api_run_inference(
        background_tasks: BackgroundTasks, model: str, image: str = "", session_id: str = "",
        params: str = Form("{}"), file: UploadFile = File(None), label: UploadFile = File(None),
        output: infer_endpoint.ResultType | None = None,
        user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER)),
    ):
        return await queue.run(partial(infer_endpoint.run_inference, background_tasks, model, image, session_id, params,
                                       file, label, output))


def serve_ours(desk, queue, telemetry, unready, token="", most_bytes=0):
    """Put our routes before MONAI Label's application, if one runs in this process.

    Args:
        desk: :class:`lib.desk.Desk`: sessions, store and images of the app.
        queue: :class:`promptzoo.cli.server.work.WorkQueue` of the device.
        telemetry: :class:`promptzoo.cli.server.telemetry.Telemetry`.
        unready: says what the server still waits for; empty once it can answer.
        token: bearer token that every request must have; empty for none.
        most_bytes: largest body of a request; 0 for the default.
    """
    host = sys.modules.get("monailabel.app")  # absent in the processes of background tasks, which answer nobody
    if host is None:
        return
    ours = FastAPI(title="promptzoo", version=promptzoo.__version__, openapi_url="/promptzoo/openapi.json",
                   docs_url=None, redoc_url=None)
    ours.add_middleware(CORSMiddleware, allow_origins=[str(o) for o in settings.MONAI_LABEL_CORS_ORIGINS] or ["*"],
                        allow_methods=["*"], allow_headers=["*"])
    ours.include_router(health_router(telemetry, unready, token))
    limits = FrontSettings(token, most_bytes) if most_bytes else FrontSettings(token)
    login = [Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]  # MONAI Label's own, where it is switched on
    saver = LabelSaver(desk.save_label, desk.archive)
    ours.include_router(sessions_router(desk.service, desk.sessions, desk.find_image, queue.call, saver, desk.runner,
                                        desk.archive), dependencies=login)
    ours.include_router(viewer_router(promptzoo.__version__, desk.bundles, desk.strategies, desk.next_case,
                                      desk.archive, lambda image: queue.call(lambda: desk.grid_of(image))),
                        dependencies=login)
    preparation = Preparation(lambda image, bundle: desk.service.preparing(desk.find_image(image), bundle), queue)
    ours.include_router(preparation_router(preparation), dependencies=login)
    ours.include_router(learning_router(desk.trainable, desk.service.bundle, desk.service.renew,
                                        BackgroundTrainer(desk.app)), dependencies=login)
    if desk.store is not None:
        ours.include_router(dicomweb_router(desk.store, limits.most_bytes, desk.look_again), dependencies=login)
    else:
        ours.include_router(pacs_router(desk.client.base_url, *credentials()), dependencies=login)
    static = Path(inspect.getfile(host)).parent / "endpoints" / "static" / "ohif"
    ours.include_router(ohif_router(static, PREFIX))
    infer_route(ours, queue)
    problems.install(ours, MONAILabelException)
    install(host.app, ours, OURS, limits, telemetry)
