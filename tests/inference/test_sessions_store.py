"""The file of the sessions: survives kills, several writers, and is never harmed when it is not ours."""
import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from promptzoo.core.errors import BusyError, ConflictError, NotFoundError, PromptZooError, StoreError
from promptzoo.core.geometry import Grid
from promptzoo.inference.sessions import SessionStore, database
from promptzoo.prompts.types import ObjectInfo, Point

GRID = Grid((20, 20, 20), np.diag([1.5, -1.0, 2.0, 1.0]))
HASH = "ab" * 32
WITHOUT_TORCH = textwrap.dedent("""
    import importlib.util, sys, types
    package = types.ModuleType("promptzoo.inference")  # its own imports load torch, which a log does not need
    package.__path__ = [importlib.util.find_spec("promptzoo").submodule_search_locations[0] + "/inference"]
    sys.modules["promptzoo.inference"] = package
    from promptzoo.inference.sessions import SessionStore
""")
WRITER = WITHOUT_TORCH + textwrap.dedent("""
    from promptzoo.prompts.types import Point
    path, session, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    found = SessionStore(path).open(session)
    print("ready", flush=True)
    sys.stdin.readline()
    for turn in range(count):
        print(found.add([Point((float(turn % 20), 1, 1), space="voxel")]).sequence, flush=True)
""")


@pytest.fixture
def path(tmp_path):
    """Where the log lies."""
    return tmp_path / "folder" / "sessions.sqlite"


def make(store, image="ct", user="reader"):
    """A session."""
    return store.create(image, HASH, user, "fake", "0.1.0", GRID)


def writer(path, session, count):
    """A process that writes clicks and tells the number of each when it is acknowledged."""
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), session.id, str(count)], text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def start(process):
    """Let a writer that has opened the log begin."""
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("\n")
    process.stdin.flush()


def test_a_session_is_there_after_the_store_is_opened_again(path):
    with SessionStore(path) as store:
        session = make(store)
        session.add([Point((1 / 3, -2, 3))], [ObjectInfo(1, "liver", (1, 2, 3))])
        session.record_answer(1, "c" * 64, {1: 0.875, 2: None}, 0.25, "torch fp32")
        before = session.events()
    with SessionStore(path) as store:
        again = store.open(session.id)
        assert again.state().prompts == session_prompts() and again.info.grid.affine.tolist() == GRID.affine.tolist()
        (event,) = again.events()
        assert (event.time, event.kind, event.payload) == (before[0].time, "prompts", before[0].payload)
        assert (event.answer.digest, event.answer.estimated_dice) == ("c" * 64, {1: 0.875, 2: None})
        assert (event.answer.seconds, event.answer.engine) == (0.25, "torch fp32")
        assert again.info.software["promptzoo"] and again.info.image_hash == HASH and again.answer() == event.answer
    with pytest.raises(StoreError, match="session log: got closed"):
        again.undo()


def session_prompts():
    """The prompts of the session above."""
    from promptzoo.prompts.types import PromptSet
    return PromptSet((Point((1 / 3, -2, 3)),), (ObjectInfo(1, "liver", (1, 2, 3)),))


def test_the_first_answer_to_an_event_stands(path):
    session = make(SessionStore(path))
    with pytest.raises(NotFoundError, match="event of session .*: got 1; allowed: none yet"):
        session.record_answer(1, "a" * 64)
    session.add([Point((0, 0, 0))])
    session.record_answer(1, "a" * 64)
    session.record_answer(1, "b" * 64)
    assert session.events()[0].answer.digest == "a" * 64
    with pytest.raises(PromptZooError, match="digest: got ABC"):
        session.record_answer(1, "ABC")


def test_sessions_are_listed_by_user_and_image_latest_first(path):
    store = SessionStore(path)
    made = [make(store, image, user) for image in ("a", "b", "c") for user in ("x", "y")]
    made[1].note("touched last")
    assert [info.id for info in store.list()] == [made[n].id for n in (1, 5, 4, 3, 2, 0)]
    assert [info.image_id for info in store.list(user="x")] == ["c", "b", "a"]
    assert [info.id for info in store.list(user="y", image_id="b")] == [made[3].id]
    assert [info.id for info in store.list(limit=2, offset=1)] == [made[5].id, made[4].id]
    assert (store.count(), store.count(user="x"), store.count(image_id="b"), store.count("nobody")) == (6, 3, 2, 0)
    assert store.list()[0].sequence == 1 and store.list(user="nobody") == []
    with pytest.raises(NotFoundError, match="session: got nothing"):
        store.open("nothing")
    with pytest.raises(PromptZooError, match="page of sessions"):
        store.list(limit=1001)
    with pytest.raises(PromptZooError, match="image_hash of the session"):
        store.create("ct", "", "", "b", "1", GRID)


def test_whoever_saw_less_is_refused(path):
    store = SessionStore(path)
    one = make(store)
    two = store.open(one.id)
    one.add([Point((0, 0, 0))], expected_sequence=0)
    with pytest.raises(ConflictError, match="last event seen: got 0; allowed: 1") as refused:
        two.add([Point((1, 0, 0))], expected_sequence=0)
    assert refused.value.http_status == 409
    two.add([Point((1, 0, 0))], expected_sequence=1)
    with pytest.raises(ConflictError):
        one.undo(expected_sequence=1)
    one.undo()
    assert len(two.state().given) == 1 and [event.sequence for event in two.events()] == [1, 2, 3]


def test_of_two_tabs_that_write_at_once_one_is_refused(path):
    store = SessionStore(path)
    session, outcome = make(store), []
    gate = threading.Barrier(8)

    def tab(number):
        mine = store.open(session.id)
        gate.wait(timeout=30)
        try:
            outcome.append(mine.add([Point((number, 0, 0))], expected_sequence=0).sequence)
        except ConflictError:
            outcome.append(None)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(tab, range(8)))
    assert sorted(map(str, outcome)) == ["1"] + ["None"] * 7 and len(session.events()) == 1


def test_threads_share_a_session(path):
    session = make(SessionStore(path))

    def work(number):
        return [session.add([Point((number, turn, 0), space="voxel")]).sequence for turn in range(10)]

    with ThreadPoolExecutor(6) as pool:
        numbers = sorted(n for found in pool.map(work, range(6)) for n in found)
    assert numbers == list(range(1, 61)) and len(session.state().given) == 60
    assert [entry.number for entry in session.state().given] == list(range(1, 61))


def test_processes_share_a_session(path):
    store = SessionStore(path)
    session = make(store)
    others = [writer(path, session, 25) for _ in range(2)]
    for process in others:
        start(process)
    mine = [session.add([Point((0, 0, 0))]).sequence for _ in range(25)]
    told = [list(map(int, process.communicate(timeout=120)[0].split())) for process in others]
    assert sorted(mine + told[0] + told[1]) == list(range(1, 76)) == [event.sequence for event in session.events()]


@pytest.mark.parametrize("acknowledged", [1, 7, 40])
def test_what_was_acknowledged_survives_kill_9(path, acknowledged):
    with SessionStore(path) as store:
        session = make(store)
        process = writer(path, session, 10 ** 6)
        start(process)
        told = [int(process.stdout.readline()) for _ in range(acknowledged)]
        process.send_signal(signal.SIGKILL)
        told += [int(line) for line in process.stdout.read().split() if line.isdigit()]
        process.wait(timeout=30)
    with SessionStore(path) as store:
        events = store.open(session.id).events()
        assert [event.sequence for event in events] == list(range(1, len(events) + 1)) and len(events) >= max(told)
        assert len(store.open(session.id).state().given) == len(events)
        store.open(session.id).add([Point((0, 0, 0))])


def test_a_commit_is_written_through(path):
    store = SessionStore(path)
    with store._database.reading() as connection:
        values = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert values == ["wal", 2] and os.stat(path).st_mode & 0o077 == 0


def test_the_log_can_only_grow(path):
    session = make(SessionStore(path))
    session.add([Point((0, 0, 0))])
    session.record_answer(1, "a" * 64)
    other = sqlite3.connect(path)
    for table, column in (("sessions", "user"), ("events", "kind"), ("answers", "digest")):
        for statement in (f"UPDATE {table} SET {column} = 'x'", f"DELETE FROM {table}"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                other.execute(statement)
    other.close()


def test_a_log_of_a_newer_promptzoo_is_refused(path):
    SessionStore(path).close()
    other = sqlite3.connect(path)
    other.execute(f"PRAGMA user_version = {database.SCHEMA_VERSION + 1}")
    other.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="session log of a newer promptzoo: .* schema 2; allowed: schema up to 1. Upd"):
        SessionStore(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"PK\x03\x04 a zip", b"x", b"SQLite format 3\x00" + bytes(4000)])
def test_a_file_that_is_no_log_is_left_alone(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(StoreError, match="session log is damaged or no session log: .*left as it is") as refused:
        SessionStore(path)
    assert path.read_bytes() == content and refused.value.http_status == 500
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_a_database_of_something_else_is_left_alone(path):
    path.parent.mkdir()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE patients (name TEXT)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not a session log of promptzoo: .*patients"):
        SessionStore(path)
    assert path.read_bytes() == before


def test_damage_inside_is_told_and_kept(path):
    store = SessionStore(path)
    session = make(store)
    for turn in range(60):
        session.add([Point((turn % 20, 0, 0), space="voxel")])
    store.close()
    content = bytearray(path.read_bytes())
    content[4096 * 6:] = b"\xff" * (len(content) - 4096 * 6)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="session log is damaged"):
        SessionStore(path)
    assert path.read_bytes() == bytes(content)


def test_an_event_that_is_no_json_is_told(path):
    store = SessionStore(path)
    session = make(store)
    with store._database.writing() as connection:
        connection.execute("INSERT INTO events VALUES (?, 1, 'now', 'note', '{')", (session.id,))
    with pytest.raises(StoreError, match=f"event 1 of session {session.id} is damaged"):
        session.events()


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(StoreError, match="session log cannot be opened: .*directory"):
        SessionStore(tmp_path)


def test_an_empty_file_becomes_a_log(path):
    path.parent.mkdir()
    path.touch()
    make(SessionStore(path))
    assert SessionStore(path).count() == 1


def test_two_processes_may_begin_the_same_file(path):
    code = WITHOUT_TORCH + "sys.stdin.readline(); print(SessionStore(sys.argv[1]).count())"
    both = [subprocess.Popen([sys.executable, "-c", code, str(path)], text=True, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE) for _ in range(2)]
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate(timeout=120)[0] for process in both] == ["0\n", "0\n"]


def test_a_writer_that_does_not_end_is_waited_for_and_then_told(path, monkeypatch):
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.2)
    session = make(SessionStore(path))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(BusyError, match="session log: got in use by others for 0.2 s"):
        session.note("now")
    other.execute("ROLLBACK")
    session.note("now")
    assert len(session.events()) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_is_told_to_open_the_log_itself(path):
    session = make(SessionStore(path))
    child = os.fork()
    if not child:
        try:
            session.note("from the child")
        except StoreError as error:
            os._exit(7 if "after a fork" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7 and session.events() == []


def test_provenance_makes_the_same_session_elsewhere(path, tmp_path):
    session = make(SessionStore(path))
    session.add([Point((1 / 3, -2, 3))], [ObjectInfo(1, "liver", (1, 2, 3))])
    session.add([Point((4, -5, 6), False), Point((7, -8, 9), object_id=2)])
    session.add([Point((0, 0, 0))])
    session.delete_prompt(2)
    session.remove_object(2)
    session.set_overlap("first")
    session.add([Point((1, -1, 1))])
    session.undo()
    session.record_answer(8, "d" * 64, {1: 0.5}, 0.1, "torch fp32")
    document = session.provenance(user="reader 7")
    assert json.loads(json.dumps(document)) == document and document["user"] == "reader 7"
    assert document["digest"] == "d" * 64 and document["image"]["hash"] == HASH
    assert [entry["number"] for entry in document["given"]] == [1, 4]
    assert document["given"][0]["time"] == session.events()[0].time
    assert "user" not in session.provenance() and document["software"]["export"]["numpy"] == np.__version__
    other = SessionStore(tmp_path / "other.sqlite").restore(json.dumps(document), "ct-2", "me", HASH)
    one, two = session.state(), other.state()
    assert (two.prompts, two.overlap, two.undo_depth) == (one.prompts, "first", 6)
    assert [step.key for step in two.steps] == [step.key for step in one.steps]
    assert [(e.number, e.time) for e in two.given] == [(e.number, e.time) for e in one.given]
    assert other.answer().digest == "d" * 64 and other.answer().estimated_dice == {1: 0.5}
    assert other.info.origin["session"] == session.id and other.info.user == "me"
    second = other.provenance("reader 7")
    for key in ("prompts", "digest", "image", "bundle", "overlap", "estimated_dice", "engine"):
        assert second[key] == document[key]
    newer = SessionStore(path).restore(document, "ct", bundle_version="0.2.0")
    assert newer.answer() is None and newer.info.bundle_version == "0.2.0" and newer.state().prompts == one.prompts


@pytest.mark.parametrize("change, words", [
    (lambda d: d.update(format="x"), "session document: got x"),
    (lambda d: d.update(format_version=2), "format_version of the session document: got 2"),
    (lambda d: d.pop("operations"), "session document: got 'operations'"),
    (lambda d: d.update(digest="../../x"), "a digest is no SHA-256"),
    (lambda d: d.update(bundle={"name": "x"}), "session document: got bundle"),
    (lambda d: d["operations"][0].update(kind="saved"), "operation 'saved'"),
    (lambda d: d["operations"][0]["payload"].update(first="1"), "first is '1'"),
    (lambda d: d["operations"][0]["payload"]["set"]["prompts"][0].update(position=[9e9, 0, 0]), "outside the image"),
    (lambda d: d["image"].pop("grid"), "session document: got 'grid'|grid: got")])
def test_documents_that_are_no_export(path, change, words):
    store = SessionStore(path)
    session = make(store)
    session.add([Point((0, 0, 0))])
    document = session.provenance()
    change(document)
    with pytest.raises(PromptZooError, match=words):
        store.restore(document, "ct")
    assert store.count() == 1


def test_an_export_belongs_to_its_image(path):
    store = SessionStore(path)
    with pytest.raises(ConflictError, match="image of the session"):
        store.restore(make(store).provenance(), "ct", image_hash="0" * 64)
    for text in ("[]", "{", "7"):
        with pytest.raises(PromptZooError, match="session document"):
            store.restore(text, "ct")
