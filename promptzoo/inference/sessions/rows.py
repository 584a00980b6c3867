"""Between the rows of the database and the events of a session."""
from __future__ import annotations

import json
import sqlite3
from typing import Any

from promptzoo.core.errors import NotFoundError, StoreError, complain
from promptzoo.inference.sessions.database import Database
from promptzoo.inference.sessions.events import Event, RecordedAnswer

_EVENTS = """
    SELECT e.sequence, e.time, e.kind, e.payload, a.digest, a.estimated_dice, a.seconds, a.engine, a.time
    FROM events e LEFT JOIN answers a ON a.rowid = (
        SELECT min(first.rowid) FROM answers first WHERE first.session = e.session AND first.sequence = e.sequence)
    WHERE e.session = ? AND e.sequence > ? ORDER BY e.sequence"""


def loads(text: str, where: str) -> Any:
    """JSON of a row.

    Raises:
        StoreError: if it is not JSON.
    """
    try:
        return json.loads(text)
    except (TypeError, ValueError) as error:
        raise StoreError(complain(f"{where} is damaged", str(error), "JSON", "Restore the log from a backup"
                                  )) from error


def read_events(database: Database, session: str, after: int = 0) -> list[Event]:
    """The events of a session with a sequence number above ``after``, in order, each with its first answer."""
    with database.reading() as connection:
        rows = connection.execute(_EVENTS, (session, after)).fetchall()
    return [_event(session, row) for row in rows]


def _event(session: str, row: tuple) -> Event:
    sequence, time, kind, payload, digest, dice, seconds, engine, told = row
    where = f"event {sequence} of session {session}"
    body, answer = loads(payload, where), None
    if not isinstance(body, dict):
        raise StoreError(complain(f"{where} is damaged", type(body).__name__, "a JSON object"))
    if digest is not None:
        estimates = {int(number): value for number, value in loads(dice, f"answer to {where}").items()}
        answer = RecordedAnswer(digest, estimates, seconds, engine, told)
    return Event(session, sequence, time, kind, body, answer)


def last_sequence(connection: sqlite3.Connection, session: str) -> int:
    """Number of the last event of a session, 0 if it has none."""
    return int(connection.execute("SELECT coalesce(max(sequence), 0) FROM events WHERE session = ?", (session,)
                                  ).fetchone()[0])


def append_event(connection: sqlite3.Connection, event: Event, payload: str) -> bool:
    """Append an event inside a writing transaction.

    Returns:
        Whether it was appended: its number must be the next one of its session.
    """
    if event.sequence != last_sequence(connection, event.session) + 1:
        return False
    connection.execute("INSERT INTO events (session, sequence, time, kind, payload) VALUES (?, ?, ?, ?, ?)",
                       (event.session, event.sequence, event.time, event.kind, payload))
    return True


def add_answer(connection: sqlite3.Connection, session: str, sequence: int, answer: RecordedAnswer) -> None:
    """Record the answer to an event that has none, inside a writing transaction.

    Raises:
        NotFoundError: if there is no such event.
    """
    last = last_sequence(connection, session)
    if not 1 <= sequence <= last:
        raise NotFoundError(complain(f"event of session {session}", sequence, f"1 … {last}" if last else "none yet"))
    found = connection.execute("SELECT 1 FROM answers WHERE session = ? AND sequence = ?", (session, sequence))
    if found.fetchone() is None:
        estimates = {str(number): value for number, value in answer.estimated_dice.items()}
        connection.execute(
            "INSERT INTO answers (session, sequence, time, digest, estimated_dice, seconds, engine) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (session, sequence, answer.time, answer.digest, json.dumps(estimates), answer.seconds, answer.engine))
