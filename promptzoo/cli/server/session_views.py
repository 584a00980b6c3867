"""From sessions and their answers to the JSON of :mod:`promptzoo.cli.server.session_models`."""
from __future__ import annotations

import numpy as np

from promptzoo.cli.server import session_models as models
from promptzoo.cli.server.reply import corrected_box, generated
from promptzoo.cli.server.session_desk import Look
from promptzoo.data.colors import object_color
from promptzoo.inference.sessions import Session, SessionInfo, fold


def head_view(info: SessionInfo) -> models.SessionHead:
    """What a session is about."""
    return models.SessionHead(
        id=info.id, image=info.image_id, image_hash=info.image_hash, user=info.user, bundle=info.bundle,
        bundle_version=info.bundle_version, created=info.created, updated=info.updated or info.created,
        sequence=info.sequence)


def session_view(session: Session, space: str, upto: int | None = None) -> models.SessionView:
    """A session with its state.

    Args:
        session: the session.
        space: ``world`` or ``voxel``, of the prompts' coordinates.
        upto: the state after this event; None for the last.
    """
    events = session.events(upto)
    state = fold(events)
    recorded = events[state.changed - 1].answer if state.changed else None
    prompts = state.prompts.to_voxel(session.info.grid) if space == "voxel" else state.prompts
    bodies = prompts.to_json()["prompts"]
    head = head_view(session.info).model_dump()
    head |= {"sequence": state.sequence, "updated": events[-1].time if events else session.info.created}
    return models.SessionView(
        **head, undo_depth=state.undo_depth, redo_depth=state.redo_depth, overlap=state.overlap,
        through_slices=state.through_slices,
        objects=[models.ObjectBody(object_id=info.object_id, name=info.name, color=info.color)
                 for info in state.objects],
        prompts=[models.PromptView(number=entry.number, sequence=entry.sequence, time=entry.time, prompt=body)
                 for entry, body in zip(state.given, bodies)],
        answer=None if recorded is None else models.RecordedView(
            digest=recorded.digest, seconds=recorded.seconds, engine=recorded.engine, time=recorded.time,
            estimated_dice={str(number): value for number, value in recorded.estimated_dice.items()}))


def answer_view(look: Look, output: str, prefix: str) -> models.AnswerView:
    """The answer to a change.

    Args:
        look: the answer.
        output: of which voxels ``result`` shall tell the address: ``labelmap``, ``probability``, ``uncertainty`` or
            ``none``.
        prefix: of the addresses.
    """
    state, info, answered = look.state, look.session.info, {e.object_id: e for e in look.prediction.objects}
    objects = []
    for known in state.objects:
        entry = answered.get(known.object_id)
        voxels = 0 if entry is None else int(np.count_nonzero(look.labels[entry.region] == known.object_id))
        dice = None if entry is None or entry.estimated_dice is None else round(float(entry.estimated_dice), 4)
        objects.append(models.ObjectAnswer(
            object_id=known.object_id, name=known.name, color=known.color or object_color(known.object_id),
            prompts=sum(given.prompt.object_id == known.object_id for given in state.given), voxels=voxels,
            estimated_dice=dice, through_slices=None if entry is None else entry.info.get("through_slices"),
            corrected_box=None if entry is None else corrected_box(entry),
            **({} if entry is None else generated(entry))))
    result = None if output == "none" else f"{prefix}/{info.id}/{output}?sequence={state.sequence}"
    return models.AnswerView(
        session=info.id, sequence=state.sequence, undo_depth=state.undo_depth, redo_depth=state.redo_depth,
        overlap=state.overlap, objects=objects, numbers=[entry.number for entry in state.given],
        seconds={name: round(value, 4) for name, value in look.seconds.items()}, engine=look.prediction.engine,
        bundle=info.bundle, bundle_version=info.bundle_version, digest=look.digest, reason=look.reason, result=result)


def replay_view(look: Look) -> models.ReplayView:
    """A session computed again beside what was recorded."""
    recorded = look.session.answer(look.state.sequence)
    return models.ReplayView(
        session=look.session.id, sequence=look.state.sequence, digest=look.digest,
        recorded=recorded.digest if recorded else None, equal=recorded.digest == look.digest if recorded else None,
        engine=look.prediction.engine, recorded_engine=recorded.engine if recorded else "",
        seconds=round(look.seconds["total"], 4))
