"""Sessions that survive and replay: an append-only log of prompts, and answers that follow from it (contract 4)."""
from promptzoo.inference.sessions.events import Event, RecordedAnswer, label_digest
from promptzoo.inference.sessions.runner import SessionRunner, replay
from promptzoo.inference.sessions.session import Session, SessionInfo
from promptzoo.inference.sessions.state import GivenPrompt, SessionState, fold
from promptzoo.inference.sessions.store import SessionStore

__all__ = ["Event", "GivenPrompt", "RecordedAnswer", "Session", "SessionInfo", "SessionRunner", "SessionState",
           "SessionStore", "fold", "label_digest", "replay"]
