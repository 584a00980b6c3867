"""The rules of the log: what events add up to, and the steps that lead to an answer."""
from dataclasses import replace

import numpy as np
import pytest

from promptzoo.core.errors import ConflictError, NotFoundError, PromptError, PromptZooError, StoreError
from promptzoo.core.geometry import Grid
from promptzoo.inference.sessions import SessionStore, fold, label_digest
from promptzoo.prompts.types import Box, Lasso, MaskPrompt, ObjectInfo, Point, PromptSet, Scribble, TextPrompt

GRID = Grid((12, 14, 10), np.array([[-1.0, 0.1, 0, 30.3], [0.1, 1.5, 0, -7], [0, 0, 2.0, 1 / 3], [0, 0, 0, 1]]))


@pytest.fixture
def session(tmp_path):
    """An empty session on an oblique image."""
    with SessionStore(tmp_path / "log.sqlite") as store:
        yield store.create("ct", "0" * 64, "reader", "fake", "0.1.0", GRID)


def click(*at, object_id=1, positive=True):
    """A click in voxels."""
    return Point(at, positive, object_id, "voxel")


def shown(session):
    """The voxels of the clicks in force."""
    return [tuple(np.round(p.position, 6)) for p in session.state().prompts.to_voxel(GRID).prompts]


def test_prompts_are_kept_in_world_space_and_every_kind_comes_back(session):
    mask = np.random.default_rng(0).random(GRID.shape) > 0.7
    prompts = (click(1, 2, 3), Box((1, 1, 1), (5, 6, 2), 1, "voxel"), Scribble([[1, 1, 1], [2.5, 2, 1]], False, 1,
               "voxel"), Lasso([[1, 1, 2], [5, 1, 2], [5, 6, 2]], True, 2, "voxel"), MaskPrompt(mask, GRID, 2),
               TextPrompt("liver", 2))
    session.add(prompts, (ObjectInfo(1, "liver", (1, 2, 3)),))
    state = session.state()
    assert state.prompts == PromptSet(prompts, (ObjectInfo(1, "liver", (1, 2, 3)), ObjectInfo(2))).to_world(GRID)
    assert [entry.number for entry in state.given] == [1, 2, 3, 4, 5, 6] and state.prompts.space == "world"


def test_undo_and_redo_go_as_far_as_wanted(session):
    for k in range(5):
        session.add([click(k, 0, 0)])
    for left in range(4, -1, -1):
        session.undo()
        assert len(session.state().given) == left
    with pytest.raises(PromptZooError, match="undo: got nothing to undo"):
        session.undo()
    for back in range(1, 6):
        session.redo()
        assert len(session.state().given) == back
    with pytest.raises(PromptZooError, match="redo: got nothing to redo"):
        session.redo()
    assert [event.sequence for event in session.events()] == list(range(1, 16))


def test_a_new_prompt_after_an_undo_drops_the_branch_from_the_view_but_not_from_the_log(session):
    session.add([click(1, 0, 0)])
    session.add([click(2, 0, 0)])
    session.undo()
    session.add([click(3, 0, 0)])
    state = session.state()
    assert shown(session) == [(1, 0, 0), (3, 0, 0)] and (state.undo_depth, state.redo_depth) == (2, 0)
    assert [entry.number for entry in state.given] == [1, 3], "numbers are never given twice"
    assert [event.kind for event in session.events()] == ["prompts", "prompts", "undo", "prompts"]
    assert len(session.state(upto=2).given) == 2


def test_objects_are_added_renamed_recolored_and_removed(session):
    session.add_object(ObjectInfo(2, "spleen"))
    session.add([click(1, 1, 1)], [ObjectInfo(1, "liver")])
    session.rename_object(1, "left lobe")
    session.recolor_object(2, (9, 8, 7))
    assert session.state().objects == (ObjectInfo(2, "spleen", (9, 8, 7)), ObjectInfo(1, "left lobe"))
    session.add([click(2, 2, 2)])
    assert session.state().object(1).name == "left lobe", "prompts without names change no name"
    session.remove_object(1)
    assert session.state().objects == (ObjectInfo(2, "spleen", (9, 8, 7)),) and not session.state().given
    session.undo()
    assert len(session.state().given) == 2 and session.state().object(1).name == "left lobe"
    with pytest.raises(ConflictError, match="object id: got 2; allowed: one that is not taken"):
        session.add_object(ObjectInfo(2))
    for change in (lambda: session.rename_object(7, "x"), lambda: session.recolor_object(7, None),
                   lambda: session.remove_object(7)):
        with pytest.raises(NotFoundError, match="object id: got 7; allowed: 2, 1"):
            change()


def test_overlap_rule_notes_and_saves(session):
    session.add([click(1, 1, 1)])
    session.set_overlap("probability")
    session.note("looks odd")
    session.record_saved("a" * 64, "/labels/ct.nii.gz", objects=1)
    state = session.state()
    assert (state.overlap, state.sequence, state.changed, state.undo_depth) == ("probability", 4, 2, 2)
    session.undo()
    assert session.state().overlap == "last" and len(session.state().given) == 1
    assert session.events()[3].payload == {"digest": "a" * 64, "place": "/labels/ct.nii.gz", "objects": 1}
    with pytest.raises(PromptZooError, match="overlap rule: got best; allowed: last, first, probability"):
        session.set_overlap("best")
    with pytest.raises(PromptZooError, match="note: got  ; allowed: a text that is not empty"):
        session.note(" ")
    with pytest.raises(PromptZooError, match="digest: got abc"):
        session.record_saved("abc", "x")


def test_what_does_not_fit_the_image_is_refused_and_not_written(session):
    with pytest.raises(PromptError, match="outside the image"):
        session.add([click(50, 0, 0)])
    with pytest.raises(PromptError, match="prompts to add: got none"):
        session.add([])
    with pytest.raises(NotFoundError, match="prompt number: got 1; allowed: none"):
        session.delete_prompt(1)
    assert session.events() == []


def test_a_deleted_prompt_was_never_given(session):
    session.add([click(1, 0, 0), click(2, 0, 0)])
    first = session.state().steps
    session.add([click(3, 0, 0)])
    session.delete_prompt(3)
    assert [step.key for step in session.state().steps] == [step.key for step in first]
    session.delete_prompt(1)
    assert shown(session) == [(2, 0, 0)] and len(session.state().steps) == 1
    assert len(session.state().steps[0].prompts) == 1
    session.undo()
    session.undo()
    assert shown(session) == [(1, 0, 0), (2, 0, 0), (3, 0, 0)]


def test_steps_follow_prompts_and_removals_only(session):
    session.add([click(1, 0, 0)])
    session.add_object(ObjectInfo(3, "c"))
    session.rename_object(1, "a")
    session.set_overlap("first")
    keys = [step.key for step in session.state().steps]
    assert len(keys) == 1
    session.add([click(2, 0, 0, object_id=2)])
    session.remove_object(2)
    steps = session.state().steps
    assert [step.dropped for step in steps] == [None, None, 2] and steps[0].key == keys[0]
    assert [info.object_id for info in steps[1].prompts.objects] == [1, 3, 2]
    assert steps[1].prompts.objects[0].name == "a" and steps[0].prompts.objects[0].name == ""


def test_random_operations_agree_with_a_list(session):
    """Against a model that keeps whole copies of what is seen."""
    rng = np.random.default_rng(20)
    done, undone, number = [((), {})], [], 0
    for turn in range(200):
        prompts, objects = done[-1]
        action = rng.choice(["add", "add", "add", "delete", "undo", "undo", "redo", "remove", "rename", "note"])
        if action == "add":
            count, owner = int(rng.integers(1, 4)), int(rng.integers(1, 4))
            places = rng.integers(0, 10, (count, 3))
            session.add([click(*map(int, at), object_id=owner) for at in places])
            added = tuple((number + n + 1, owner, tuple(map(int, at))) for n, at in enumerate(places))
            number += count
            done.append((prompts + added, {**objects, owner: objects.get(owner, "")}))
        elif action == "delete" and prompts:
            chosen = prompts[int(rng.integers(len(prompts)))][0]
            session.delete_prompt(chosen)
            done.append((tuple(p for p in prompts if p[0] != chosen), objects))
        elif action == "remove" and objects:
            chosen = int(rng.choice(list(objects)))
            session.remove_object(chosen)
            done.append((tuple(p for p in prompts if p[1] != chosen),
                         {key: name for key, name in objects.items() if key != chosen}))
        elif action == "rename" and objects:
            chosen = int(rng.choice(list(objects)))
            session.rename_object(chosen, f"name {turn}")
            done.append((prompts, {**objects, chosen: f"name {turn}"}))
        elif action == "undo" and len(done) > 1:
            session.undo()
            undone.append(done.pop())
            continue
        elif action == "redo" and undone:
            session.redo()
            done.append(undone.pop())
            continue
        elif action == "note":
            session.note(str(turn))
            continue
        else:
            continue
        undone.clear()
        if turn % 10 == 0:
            compare(session.state(), done, undone)
    compare(session.state(), done, undone)
    compare(fold(session.events()), done, undone)


def compare(state, done, undone):
    """A state against the model."""
    prompts, objects = done[-1]
    found = [(entry.number, entry.prompt.object_id, tuple(np.round(GRID.to_index(entry.prompt.position), 4)))
             for entry in state.given]
    assert found == [(number, owner, tuple(map(float, at))) for number, owner, at in prompts]
    assert {info.object_id: info.name for info in state.objects} == objects
    assert [info.object_id for info in state.objects] == list(objects)
    assert (state.undo_depth, state.redo_depth) == (len(done) - 1, len(undone))


def test_a_log_that_no_session_writes_is_damaged(session):
    session.add([click(1, 1, 1)])
    session.undo()
    add, undo = session.events()
    cases = {"nothing to undo": [replace(undo, sequence=1)], "the event before it is 0": [undo],
             "unknown kind": [replace(add, kind="party")],
             "first is None": [replace(add, payload={"set": add.payload["set"]})],
             "schema_version": [replace(add, payload={"first": 1, "set": {}})],
             "damaged": [add, replace(undo, kind="object_renamed", payload={"object_id": 9, "name": "x"})]}
    for words, events in cases.items():
        with pytest.raises(StoreError, match=words):
            fold(events)


def test_the_digest_tells_shape_and_values_but_not_the_type():
    labels = np.arange(24).reshape(2, 3, 4)
    same = {label_digest(labels.astype(kind)) for kind in (np.uint8, np.uint16, np.int32)}
    assert same == {label_digest(np.asfortranarray(labels))} and len(same) == 1
    assert label_digest(labels.reshape(4, 3, 2)) not in same and label_digest(labels + 1) not in same
    with pytest.raises(PromptError, match="label map: got .-1"):
        label_digest(labels - 1)


def test_through_slices_is_part_of_the_log_and_of_the_steps(session):
    session.add([click(1, 0, 0)])
    plain = session.state()
    assert not plain.through_slices and "through_slices" not in session.events()[0].payload["set"]
    session.set_through_slices(True)
    on = session.state()
    assert on.through_slices and on.prompts.through_slices and on.undo_depth == 2
    assert [step.prompts.through_slices for step in on.steps] == [False, True] and len(on.steps[1].prompts) == 1
    session.add([click(2, 0, 0)])
    assert session.state().through_slices and session.events()[-1].payload["set"]["through_slices"] is True
    session.add([click(3, 0, 0)], through_slices=False)
    assert not session.state().through_slices
    session.undo()
    assert session.state().through_slices and len(session.state().steps) == 3
    session.undo(), session.undo()
    assert not session.state().through_slices and session.state().steps[0].key == plain.steps[0].key
    session.redo()
    assert session.state().steps[1].key == on.steps[1].key != plain.steps[0].key
    session.add(PromptSet((click(4, 0, 0),), through_slices=True))
    assert session.state().steps[-1].prompts.through_slices and session.state().steps[-1].sequence == 9


def test_through_slices_before_the_first_prompt_is_no_step(session):
    session.set_through_slices(True)
    assert not session.state().steps and session.state().through_slices
    session.add([click(1, 0, 0)])
    assert session.state().steps[0].prompts.through_slices
    with pytest.raises(PromptError, match="through_slices: got yes"):
        session.set_through_slices("yes")


def test_through_slices_travels_with_the_session(session, tmp_path):
    session.add([click(1, 0, 0)], through_slices=True)
    document = session.provenance()
    assert document["prompts"]["through_slices"] is True
    with SessionStore(tmp_path / "other.sqlite") as other:
        copy = other.restore(document, "ct", "reader", "0" * 64)
        assert copy.state().steps[0].key == session.state().steps[0].key
