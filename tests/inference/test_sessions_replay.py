"""Live answers and replayed answers are the same bits, whatever was dropped from memory in between."""
import numpy as np
import pytest

from promptzoo.core.errors import BundleError, ConflictError, PromptZooError
from promptzoo.core.geometry import Grid
from promptzoo.core.protocols import ObjectPrediction, Prediction
from promptzoo.core.volume import Volume
from promptzoo.inference.interactive import InteractivePredictor
from promptzoo.inference.sessions import SessionRunner, SessionStore, label_digest, replay
from promptzoo.prompts.types import ObjectInfo, Point

SHAPE = (9, 8, 7)
GRID = Grid(SHAPE, np.diag([1.0, -1.5, 2.0, 1.0]))
ANSWER_BYTES = 4 * 9 * 8 * 7


class Remembering:
    """A predictor whose answer depends on every bit of the answer before; counts its decodes."""

    def __init__(self, name="remembering", engine="fake", kinds=("point",)):
        self.name, self.engine, self.prompt_kinds = name, engine, frozenset(kinds)
        self.decoded, self.encoded = [], 0

    def encode(self, volume):
        self.encoded += 1
        return volume

    def decode(self, state, prompts, previous=None):
        self.decoded.append((prompts, previous))
        found = []
        earlier = {entry.object_id: entry.full_probability() for entry in previous.objects} if previous else {}
        for info in prompts.objects:
            value = earlier.get(info.object_id, np.zeros(SHAPE, np.float32)) * np.float32(0.61803)
            for point in prompts.to_voxel(GRID).of("point", info.object_id):
                distance = sum((axis - at) ** 2 for axis, at in zip(np.indices(SHAPE), point.position))
                value = value + np.float32(0.4 if point.positive else -0.4) * np.exp(-distance / 9).astype(np.float32)
            value = np.clip(value + np.float32(0.01) * np.tanh(state.data), 0, 1).astype(np.float32)
            found.append(ObjectPrediction(info.object_id, GRID, (0, 0, 0), value, 0.5, 0.3))
        return Prediction(GRID, tuple(found), 0.0, self.engine)


@pytest.fixture
def volume():
    return Volume(np.random.default_rng(0).normal(size=SHAPE).astype(np.float32), GRID)


@pytest.fixture
def store(tmp_path):
    with SessionStore(tmp_path / "log.sqlite") as found:
        yield found


class Desk:
    """A session with its predictor and runner, as a server holds them."""

    def __init__(self, store, volume, runner=None, predictor=None):
        self.predictor = predictor or Remembering()
        self.session = store.create("x", volume.content_hash, "me", self.predictor.name, "0.1.0", GRID)
        self.runner, self.volume = runner or SessionRunner(), volume

    def live(self, upto=None):
        """The answer now."""
        return self.runner.answer(self.session, self.predictor, lambda: self.predictor.encode(self.volume), upto)

    def click(self, *at, object_id=1, positive=True):
        """Click and look."""
        self.session.add([Point(at, positive, object_id, "voxel")])
        return self.live()

    def do(self, name, *arguments):
        """Change and look."""
        getattr(self.session, name)(*arguments)
        return self.live()


def bits(prediction):
    """Everything of a prediction that could differ."""
    return [(entry.object_id, entry.offset, entry.probability.tobytes()) for entry in prediction.objects]


@pytest.fixture
def desk(store, volume):
    return Desk(store, volume)


def play(desk):
    """A session with everything in it; the bits that were shown after every event."""
    shown = [bits(desk.live())]
    for turn in (lambda: desk.click(1, 2, 3), lambda: desk.click(5, 5, 5), lambda: desk.click(8, 1, 1, object_id=2),
                 lambda: desk.click(2, 2, 2, positive=False), lambda: desk.do("undo"), lambda: desk.do("undo"),
                 lambda: desk.do("redo"), lambda: desk.click(4, 4, 4), lambda: desk.do("delete_prompt", 2),
                 lambda: desk.do("rename_object", 1, "liver"), lambda: desk.click(3, 3, 1, object_id=3),
                 lambda: desk.do("note", "x"), lambda: desk.do("remove_object", 2), lambda: desk.click(7, 7, 6),
                 lambda: desk.do("set_overlap", "probability"), lambda: desk.do("delete_prompt", 1),
                 lambda: desk.do("undo"), lambda: desk.do("undo"), lambda: desk.do("add_object", ObjectInfo(9, "new")),
                 lambda: desk.click(0, 0, 6, object_id=9)):
        shown.append(bits(turn()))
    return shown


@pytest.mark.parametrize("limit", [1 << 30, 5 * ANSWER_BYTES, 0])
def test_live_is_replay_after_every_event(store, volume, limit, tmp_path):
    desk = Desk(store, volume, SessionRunner(limit))
    shown = play(desk)
    assert len({str(entry) for entry in shown}) > 10, "the test would prove nothing if the answers were alike"
    with SessionStore(store.path) as again:  # as after a restart
        session = again.open(desk.session.id)
        for upto, expected in enumerate(shown):
            assert bits(replay(session, Remembering(), volume, upto)) == expected, upto
        assert bits(replay(session, Remembering(), volume)) == shown[-1]


def test_the_same_session_from_its_export(desk, volume, tmp_path):
    shown = play(desk)
    desk.session.record_answer(desk.session.state().changed, label_digest(desk.live().labelmap("last")))
    with SessionStore(tmp_path / "other.sqlite") as other:
        copy = other.restore(desk.session.provenance(), "y")
        prediction = replay(copy, Remembering(), volume)
        assert bits(prediction) == shown[-1]
        assert label_digest(prediction.labelmap(copy.state().overlap)) == copy.answer().digest


def test_undo_shows_the_earlier_mask_without_a_decode(desk):
    first, second = bits(desk.click(1, 2, 3)), bits(desk.click(5, 5, 5))
    count = len(desk.predictor.decoded)
    assert bits(desk.do("undo")) == first != second and bits(desk.do("redo")) == second
    assert len(desk.predictor.decoded) == count == 2


def test_a_new_prompt_refines_the_answer_before_and_costs_one_decode(desk):
    answers = [desk.click(turn, turn, turn) for turn in range(5)]
    assert [previous for _, previous in desk.predictor.decoded] == [None, *answers[:-1]]
    assert [len(prompts) for prompts, _ in desk.predictor.decoded] == [1, 2, 3, 4, 5]


def test_deleting_the_last_prompt_is_like_undo_and_deleting_another_leaves_no_trace(store, volume):
    desk, other = Desk(store, volume), Desk(store, volume)
    first = bits(desk.click(1, 2, 3))
    desk.click(5, 5, 5)
    assert bits(desk.do("delete_prompt", 2)) == first and len(desk.predictor.decoded) == 2
    desk.click(6, 6, 6)
    other.click(6, 6, 6)
    assert bits(desk.do("delete_prompt", 1)) == bits(other.live())
    assert desk.do("delete_prompt", 3).objects == ()


def test_removing_an_object_leaves_the_other_masks_as_they_are(desk):
    desk.click(1, 2, 3)
    both = desk.click(5, 5, 5, object_id=2)
    count = len(desk.predictor.decoded)
    left = desk.do("remove_object", 1)
    assert [entry.object_id for entry in left.objects] == [2] and len(desk.predictor.decoded) == count
    assert left[2].probability is both[2].probability
    assert desk.do("remove_object", 2).objects == () and bits(desk.do("undo")) == bits(left)


def test_memory_is_bounded_in_bytes_and_keeps_the_last_answer(store, volume):
    desk = Desk(store, volume, SessionRunner(3 * ANSWER_BYTES))
    for turn in range(6):
        desk.click(turn, 1, 1)
        assert desk.runner.held_bytes() <= 3 * ANSWER_BYTES
    assert len(desk.predictor.decoded) == 6
    for _ in range(4):
        desk.do("undo")
    assert len(desk.predictor.decoded) == 9, "the third and second answers were dropped: computed again from the log"
    tiny = Desk(store, volume, SessionRunner(10))
    for turn in range(6):
        tiny.click(8 - turn, 2, 2)
    assert len(tiny.predictor.decoded) == 6 and tiny.runner.held_bytes() == ANSWER_BYTES


def test_an_answer_from_files_that_changed_is_not_shown_again(store, volume):
    """Learned prompts and finished cases are files: written anew, they give another answer to the same prompts."""
    desk, written = Desk(store, volume), [1]
    desk.predictor.depends_on = lambda prompts: f"{len(prompts)} prompts, files of {written[0]}"
    first = bits(desk.click(1, 1, 1))
    assert bits(desk.live()) == first and len(desk.predictor.decoded) == 1
    written[0] = 2
    desk.live()
    assert len(desk.predictor.decoded) == 2
    written[0] = 1
    assert bits(desk.live()) == first and len(desk.predictor.decoded) == 2


def test_idle_sessions_leave_the_memory_and_not_the_disk(store, volume):
    now = [0.0]
    desk = Desk(store, volume, SessionRunner(idle_s=60, clock=lambda: now[0]))
    first = bits(desk.click(1, 1, 1))
    now[0] = 50
    second = bits(desk.click(2, 2, 2))
    now[0] = 100
    assert desk.runner.expire() == 0, "the first answer was used at 50 s"
    now[0] = 111
    assert desk.runner.expire() == 2 and desk.runner.held_bytes() == 0
    assert bits(desk.live()) == second and bits(desk.do("undo")) == first and len(desk.predictor.decoded) == 4
    desk.runner.forget()
    assert desk.runner.held_bytes() == 0


def test_the_image_is_encoded_only_if_something_must_be_decoded(desk):
    desk.live()
    assert desk.predictor.encoded == 0
    desk.click(1, 1, 1)
    desk.live()
    desk.do("rename_object", 1, "x")
    assert desk.predictor.encoded == 1


def test_another_engine_or_bundle_version_does_not_share_answers(store, volume):
    desk = Desk(store, volume)
    desk.click(1, 1, 1)
    desk.predictor = Remembering(engine="other")
    desk.live()
    assert len(desk.predictor.decoded) == 1
    newer = store.create("x", volume.content_hash, "me", "remembering", "0.2.0", GRID)
    newer.add([Point((1, 1, 1), space="voxel")])
    desk.runner.answer(newer, desk.predictor, lambda: volume)
    assert len(desk.predictor.decoded) == 2


def test_a_bundle_without_prompts_answers_at_once(store, volume):
    desk = Desk(store, volume, predictor=Remembering("automatic", kinds=()))
    desk.live()
    desk.live()
    assert len(desk.predictor.decoded) == 1


def test_replay_wants_the_image_and_the_bundle_of_the_session(desk, volume):
    with pytest.raises(ConflictError, match="image of the session"):
        replay(desk.session, desk.predictor, Volume(volume.data + 1, GRID))
    with pytest.raises(BundleError, match="predictor of the session: got other; allowed: remembering"):
        replay(desk.session, Remembering("other"), volume)
    with pytest.raises(PromptZooError, match="event of session .*: got 5; allowed: 0 … 0"):
        replay(desk.session, desk.predictor, volume, 5)
    with pytest.raises(PromptZooError, match="bounds of the session memory"):
        SessionRunner(-1)


def test_the_real_bundle_replays_bit_for_bit(store, tmp_path):
    from promptzoo.data.phantoms import inner_point, ultrasound_cyst
    from promptzoo.inference import load_predictor

    volume, labels, names = ultrasound_cyst(shape=(96, 80), pixel_mm=0.48)
    predictor = load_predictor("interactive_refinement_2d", engine="torch")
    session = store.create("us", volume.content_hash, "", predictor.name, "1", volume.grid)
    runner, shown = SessionRunner(), []

    def look():
        prediction = runner.answer(session, predictor, lambda: predictor.encode(volume))
        shown.append((bits(prediction), label_digest(prediction.labelmap(session.state().overlap))))

    for object_id, value in enumerate(names, 1):
        click = Point(inner_point(labels == value), True, object_id, "voxel")
        session.add([click], [ObjectInfo(object_id, names[value])])
        look()
    for change in (lambda: session.add([Point((3, 3, 0), False, 1, "voxel")]), session.undo, session.redo,
                   lambda: session.delete_prompt(1), session.undo):
        change()
        look()
    assert len({digest for _, digest in shown}) >= 3
    with SessionStore(store.path) as again:
        other = load_predictor("interactive_refinement_2d", engine="torch")
        for upto, (expected, digest) in enumerate(shown, 1):
            found = replay(again.open(session.id), other, volume, upto)
            assert bits(found) == expected and label_digest(found.labelmap()) == digest


def test_prompts_carried_through_slices_replay_bit_for_bit(store):
    """A 2D bundle in a session: on, an edit on another slice, off, undo, redo; from memory and from the log alone."""
    from .test_through import SETTINGS, Seeing, ball

    volume, mask = ball()
    predictor = InteractivePredictor(None, 2, SETTINGS, segmenter=Seeing())
    session = store.create("x", volume.content_hash, "me", predictor.name, "0.1.0", volume.grid)
    runner = SessionRunner()

    def shown():
        """The live answer, checked against a replay without memory."""
        live = runner.answer(session, predictor, lambda: predictor.encode(volume))
        fresh = InteractivePredictor(None, 2, SETTINGS, segmenter=Seeing())
        again = replay(session, fresh, volume)
        assert label_digest(live.labelmap()) == label_digest(again.labelmap())
        assert live[1].full_probability().tobytes() == again[1].full_probability().tobytes()
        return live[1].mask

    session.add([Point((9, 12, 14), True, 1, "voxel")])
    assert np.flatnonzero(shown().any((0, 1))).tolist() == [14]
    session.set_through_slices(True)
    assert np.array_equal(shown(), mask)
    session.add([Point((9, 12, 17), False, 1, "voxel")])
    edited = shown()
    assert not edited[9, :, 17].any() and edited[..., 18].any() and np.array_equal(edited[..., :14], mask[..., :14])
    session.set_through_slices(False)
    assert np.flatnonzero(shown().any((0, 1))).tolist() == [14, 17], "the slices that have prompts, positive or not"
    session.undo()
    assert np.array_equal(shown(), edited)
    session.undo()
    assert np.array_equal(shown(), mask)
    session.redo()
    assert np.array_equal(shown(), edited)
    session.delete_prompt(2)
    assert np.array_equal(shown(), mask), "as if the negative click had never been given"
