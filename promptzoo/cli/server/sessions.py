"""Sessions over HTTP: ``/promptzoo/sessions``.

Every writing request takes ``?expected_sequence=``, the number of the last event that the client has seen; if the
session went on without it, the answer is 409 and nothing was written. Errors are JSON where the application has
:func:`promptzoo.cli.server.problems.install`.
"""
from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any, Callable, Literal, Optional, TypeVar

from fastapi import APIRouter, Header, Query, Request, Response

from promptzoo.cli.server import session_models as models
from promptzoo.cli.server.saving import Archive, Saved
from promptzoo.cli.server.session_desk import Look, Serving, SessionDesk
from promptzoo.cli.server.session_maps import MEDIA_TYPES, labelmap_response, object_response
from promptzoo.cli.server.session_views import answer_view, head_view, replay_view, session_view
from promptzoo.core.errors import NotFoundError, PromptError, PromptZooError, complain
from promptzoo.data.dicomweb.links import SeriesLink
from promptzoo.inference.sessions import Event, Session, SessionRunner, SessionStore
from promptzoo.prompts.types import ObjectInfo, PromptSet

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
PREFIX = "/promptzoo/sessions"
BYTES: dict[int | str, dict[str, Any]] = {200: {"description": "The voxels.", "content": {
    kind: {"schema": {"type": "string", "format": "binary"}} for kind in sorted(set(MEDIA_TYPES.values()))}}}
Output = Literal["none", "labelmap", "probability", "uncertainty"]
Expected = Query(None, ge=0, description="Number of the last event seen; 409 if there are later ones.")
Shown = Literal["image", "series"]
OnGrid = Query("image", description="Voxels of the image file, or [column, row, slice] of the DICOM series that shows "
                                    "it in a viewer; for raw voxels and for prompts in voxel space.")
Sequence = Query(None, ge=0, description="The state after this event; default the last.")


class OneAtATime:
    """Runs a job in the calling thread, one after the other; a server with a queue gives that instead."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __call__(self, job: Callable[[], Result]) -> Result:
        """The job's result."""
        with self._lock:
            return job()


def sessions_router(service: Serving, store: SessionStore, find_image: Callable[[str], Path],
                    run: Callable[[Callable[[], Any]], Any] | None = None,
                    save: Callable[[Look, str, bool], Saved] | None = None, runner: SessionRunner | None = None,
                    archive: Archive | None = None) -> APIRouter:
    """The endpoints.

    Args:
        service: as a rule a :class:`~promptzoo.cli.server.service.PromptService`.
        store: where sessions are kept.
        find_image: path of the image of an id; raises NotFoundError for one that is not served.
        run: executes heavy work (a job without arguments) and returns its result; it must not run two jobs of one
            device at once. Default :class:`OneAtATime`. Events are written inside the job, so that a request that is
            refused because the server is busy has written nothing.
        save: stores a label map under a tag, with an RT Structure Set if wanted; without it there is no
            ``POST …/save``.
        runner: keeps answers in memory; default with its default bounds.
        archive: which DICOM series shows an image; without it, nothing can be told on the grid of a series.
    """
    router = APIRouter(prefix=PREFIX, tags=["sessions"])
    desk, execute = SessionDesk(service, store, find_image, runner), OneAtATime() if run is None else run

    def changed(request: Request, session_id: str, write: Callable[[Session], Event], output: str = "labelmap"
                ) -> models.AnswerView:
        session = store.open(session_id)
        look = execute(lambda: desk.change(session, lambda: write(session)))
        return answer_view(look, output, str(request.scope.get("root_path", "")) + PREFIX)

    def shown(session: Session, grid: str) -> SeriesLink | None:
        if grid == "image":
            return None
        if archive is None:
            raise NotFoundError(complain("grid", grid, "image, as this server has no DICOM store"))
        return archive.link(session.info.image_id)

    @router.post("", status_code=201)
    def create(body: models.NewSession) -> models.SessionView:
        """Begin a session on an image."""
        return session_view(execute(lambda: desk.create(body.image, body.bundle, body.user, body.kinds, body.texts)),
                            "world")

    @router.post("/import", status_code=201)
    def restore(body: models.ImportedSession) -> models.SessionView:
        """Make a session from an export."""
        return session_view(execute(lambda: desk.restore(body.document, body.image, body.user, body.present_bundle)),
                            "world")

    @router.get("")
    def listing(user: Optional[str] = None, image: Optional[str] = None, limit: int = Query(100, ge=0, le=1000),
                offset: int = Query(0, ge=0)) -> models.SessionPage:
        """Sessions, the one changed last first."""
        return models.SessionPage(total=store.count(user, image),
                                  sessions=[head_view(info) for info in store.list(user, image, limit, offset)])

    @router.get("/{session_id}")
    def state(session_id: str, sequence: Optional[int] = Sequence, space: Literal["world", "voxel"] = "world"
              ) -> models.SessionView:
        """What a session shows now, or showed after an event."""
        return session_view(store.open(session_id), space, sequence)

    @router.post("/{session_id}/prompts")
    def add(request: Request, session_id: str, body: models.NewPrompts, output: Output = "labelmap",
            grid: Shown = OnGrid, expected_sequence: Optional[int] = Expected) -> models.AnswerView:
        """Add prompts and answer; prompts in voxel space are voxels of ``grid``."""
        document = body.model_dump(exclude_unset=True, exclude={"through_slices"})
        prompts = PromptSet.from_json({**document, "schema_version": body.schema_version, "objects": []})
        objects = tuple(ObjectInfo(entry.object_id, entry.name, entry.color) for entry in body.objects)
        session = store.open(session_id)
        link = shown(session, grid)
        if link is not None and link.voxels is not None:
            prompts = prompts.to_world(link.voxels.series)
        look = execute(lambda: desk.add(session, prompts, objects, expected_sequence, body.through_slices))
        return answer_view(look, output, str(request.scope.get("root_path", "")) + PREFIX)

    @router.delete("/{session_id}/prompts/{number}")
    def delete(request: Request, session_id: str, number: int, output: Output = "labelmap",
               expected_sequence: Optional[int] = Expected) -> models.AnswerView:
        """Delete one prompt and answer as if it had never been given."""
        return changed(request, session_id, lambda s: s.delete_prompt(number, expected_sequence), output)

    @router.post("/{session_id}/undo")
    def undo(request: Request, session_id: str, output: Output = "labelmap",
             expected_sequence: Optional[int] = Expected) -> models.AnswerView:
        """Take the last operation back."""
        return changed(request, session_id, lambda s: s.undo(expected_sequence), output)

    @router.post("/{session_id}/redo")
    def redo(request: Request, session_id: str, output: Output = "labelmap",
             expected_sequence: Optional[int] = Expected) -> models.AnswerView:
        """Do again what was undone last."""
        return changed(request, session_id, lambda s: s.redo(expected_sequence), output)

    @router.post("/{session_id}/objects", status_code=201)
    def add_object(session_id: str, body: models.ObjectBody, expected_sequence: Optional[int] = Expected
                   ) -> models.SessionView:
        """Add an object that has no prompts yet."""
        session = store.open(session_id)
        session.add_object(ObjectInfo(body.object_id, body.name, body.color), expected_sequence)
        return session_view(session, "world")

    @router.patch("/{session_id}/objects/{object_id}")
    def change_object(session_id: str, object_id: int, body: models.ObjectChange,
                      expected_sequence: Optional[int] = Expected) -> models.SessionView:
        """Give an object another name or another colour; the masks stay."""
        session = store.open(session_id)
        if len(body.model_fields_set) != 1 or (body.name is None and "name" in body.model_fields_set):
            raise PromptError(complain("change of an object", sorted(body.model_fields_set), "either name or color"))
        if body.name is not None:
            session.rename_object(object_id, body.name, expected_sequence)
        else:
            session.recolor_object(object_id, body.color, expected_sequence)
        return session_view(session, "world")

    @router.delete("/{session_id}/objects/{object_id}")
    def remove_object(request: Request, session_id: str, object_id: int, output: Output = "labelmap",
                      expected_sequence: Optional[int] = Expected) -> models.AnswerView:
        """Remove an object, its prompts and its mask; the other masks stay."""
        return changed(request, session_id, lambda s: s.remove_object(object_id, expected_sequence), output)

    @router.put("/{session_id}/overlap")
    def overlap(request: Request, session_id: str, body: models.OverlapBody, output: Output = "labelmap",
                expected_sequence: Optional[int] = Expected) -> models.AnswerView:
        """Change who owns a voxel claimed twice."""
        return changed(request, session_id, lambda s: s.set_overlap(body.rule, expected_sequence), output)

    @router.put("/{session_id}/through-slices")
    def through_slices(request: Request, session_id: str, body: models.ThroughSlicesBody, output: Output = "labelmap",
                       expected_sequence: Optional[int] = Expected) -> models.AnswerView:
        """Change whether 2D bundles carry prompts through a volume; the prompted slices keep their masks."""
        return changed(request, session_id, lambda s: s.set_through_slices(body.on, expected_sequence), output)

    @router.post("/{session_id}/notes", status_code=201)
    def note(session_id: str, body: models.NoteBody, expected_sequence: Optional[int] = Expected
             ) -> models.SessionView:
        """Write a remark into the log."""
        session = store.open(session_id)
        session.note(body.text, expected_sequence)
        return session_view(session, "world")

    @router.get("/{session_id}/labelmap", response_class=Response, responses=BYTES)
    def labelmap(session_id: str, sequence: Optional[int] = Sequence,
                 format: Literal["raw", "nii.gz", "nrrd"] = "raw", grid: Shown = OnGrid,
                 accept_encoding: str = Header("")) -> Response:
        """The label map: voxel value = object id."""
        session = store.open(session_id)
        link = shown(session, grid)
        look = execute(lambda: desk.look(session, sequence))
        return labelmap_response(look, format, "gzip" in accept_encoding, link)

    def object_map(what: str, session_id: str, object_id: int | None, sequence: int | None, form: str, grid: str,
                   accept_encoding: str) -> Response:
        session = store.open(session_id)
        link = shown(session, grid)
        look = execute(lambda: desk.look(session, sequence))
        return object_response(look, what, object_id, form, "gzip" in accept_encoding, link)

    @router.get("/{session_id}/probability", response_class=Response, responses=BYTES)
    def probability(session_id: str, object: Optional[int] = None, sequence: Optional[int] = Sequence,
                    format: Literal["raw", "nii.gz"] = "raw", grid: Shown = OnGrid,
                    accept_encoding: str = Header("")) -> Response:
        """Probability of one object, float32 in [0, 1]."""
        return object_map("probability", session_id, object, sequence, format, grid, accept_encoding)

    @router.get("/{session_id}/uncertainty", response_class=Response, responses=BYTES)
    def uncertainty(session_id: str, object: Optional[int] = None, sequence: Optional[int] = Sequence,
                    format: Literal["raw", "nii.gz"] = "raw", grid: Shown = OnGrid,
                    accept_encoding: str = Header("")) -> Response:
        """Uncertainty of one object in bits, float32 in [0, 1]."""
        return object_map("uncertainty", session_id, object, sequence, format, grid, accept_encoding)

    @router.get("/{session_id}/replay")
    def again(session_id: str, sequence: Optional[int] = Sequence) -> models.ReplayView:
        """Compute the answer from the log alone, and compare it with the one that was shown."""
        session = store.open(session_id)
        return replay_view(execute(lambda: desk.again(session, sequence)))

    @router.get("/{session_id}/export")
    def export(session_id: str, user: Optional[str] = Query(None, description="What to call the user; left out if "
                                                                              "not given."),
               sequence: Optional[int] = Sequence) -> dict[str, Any]:
        """How the masks came about, as a document that can be imported elsewhere."""
        session = store.open(session_id)
        if session.answer(sequence) is None:
            try:
                execute(lambda: desk.look(session, sequence))  # so that the document has a digest
            except PromptZooError as error:  # a session that cannot be answered here can still move elsewhere
                logger.info("session %s is exported without a digest: %s", session.id, error)
        return session.provenance(user, sequence)

    if save is not None:
        @router.post("/{session_id}/save")
        def save_labels(session_id: str, body: models.SaveBody, expected_sequence: Optional[int] = Expected
                        ) -> models.SavedView:
            """Save the label map, and write that into the log."""
            session = store.open(session_id)
            session.check_expected(expected_sequence)
            look = execute(lambda: desk.look(session))
            saved = save(look, body.tag, body.rtstruct)
            number = look.state.sequence
            if saved.place:
                number = session.record_saved(look.digest, saved.place, tag=body.tag, state=look.state.sequence,
                                              seg=saved.seg_instance).sequence
            return models.SavedView(session=session.id, sequence=number, place=Path(saved.place).name,
                                    digest=look.digest, seg_series=saved.seg_series, seg_instance=saved.seg_instance,
                                    rtstruct_instance=saved.rtstruct_instance, reason=saved.reason)

    return router
