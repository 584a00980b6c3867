"""Processes that work through studies; one that dies is replaced, and its study given to another."""
from __future__ import annotations

import multiprocessing
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Callable, Iterator, Sequence

from promptzoo.cli.batch.studies import Study
from promptzoo.cli.batch.worker import Job, Worker
from promptzoo.core.errors import PromptZooError

Outcome = tuple[Study, dict[str, Any] | None, str]
"""A study, what the worker says of it, and what went wrong (empty if nothing)."""


@dataclass(eq=False)
class _Attempt:
    study: Study
    number: int = 1


@dataclass(eq=False)
class _Process:
    process: Any
    pipe: Connection
    attempt: _Attempt | None = field(default=None)
    dead: bool = False

    def give(self, attempt: _Attempt) -> None:
        """Send a study; if the process died while it was idle, :meth:`answer` will tell."""
        self.attempt = attempt
        try:
            self.pipe.send(attempt.study)
        except OSError:
            self.dead = True

    def answer(self) -> tuple[dict[str, Any] | None, str, bool]:
        """What it says of its study: record, what went wrong, and whether another attempt makes sense."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            self.dead = True
            self.process.join(5)
            return None, f"the process ended with exit code {self.process.exitcode}", True


def work_through(job: Job, studies: Sequence[Study], jobs: int = 1, retries: int = 2,
                 make: Callable[[Job], Callable[[Study], dict[str, Any]]] = Worker) -> Iterator[Outcome]:
    """Answer studies, in the order in which they are finished.

    Errors that a person can cure (:class:`PromptZooError`) end a study at once; others, and the death of its process,
    are tried again. With ``jobs`` 1 the work is done in this process.

    Args:
        job: what is done.
        studies: each with its own id.
        jobs: processes.
        retries: further attempts at a study.
        make: makes what answers studies, in each process once; picklable.
    """
    if jobs == 1:
        yield from _alone(make(job), studies, retries)
        return
    context = multiprocessing.get_context("spawn")
    waiting = deque(_Attempt(study) for study in studies)

    def start() -> _Process:
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(there, job, make), daemon=True)
        process.start()
        there.close()
        return _Process(process, here)

    workers = [start() for _ in range(min(jobs, len(studies)))]
    try:
        while waiting or any(worker.attempt for worker in workers):
            for worker in workers:
                if worker.attempt is None and waiting:
                    worker.give(waiting.popleft())
            ready = wait([worker.pipe for worker in workers if worker.attempt is not None])
            for place, worker in enumerate(workers):
                if worker.attempt is None or worker.pipe not in ready:
                    continue
                attempt, worker.attempt = worker.attempt, None
                record, error, again = worker.answer()
                if again and attempt.number <= retries:
                    waiting.append(_Attempt(attempt.study, attempt.number + 1))
                else:
                    yield attempt.study, record, error
                if worker.dead:
                    workers[place] = start()
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join(5)


def _alone(work: Callable[[Study], dict[str, Any]], studies: Sequence[Study], retries: int) -> Iterator[Outcome]:
    for study in studies:
        for number in range(1, retries + 2):
            record, error, again = tried(work, study)
            if not again or number > retries:
                yield study, record, error
                break


def tried(work: Callable[[Study], dict[str, Any]], study: Study) -> tuple[dict[str, Any] | None, str, bool]:
    """The record, what went wrong, and whether another attempt makes sense."""
    try:
        return work(study), "", False
    except PromptZooError as error:
        return None, f"{error.kind}: {error}", False
    except Exception as error:  # a defect, or a machine in trouble: the batch goes on
        return None, f"{type(error).__name__}: {error}", True


def _serve(pipe: Connection, job: Job, make: Callable[[Job], Callable[[Study], dict[str, Any]]]) -> None:
    """The loop of a process."""
    work = make(job)
    while True:
        try:
            study = pipe.recv()
        except EOFError:
            return
        pipe.send(tried(work, study))
