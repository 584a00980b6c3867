"""A batch on a Ray cluster: the same studies, the same workers, as actors."""
from __future__ import annotations

from typing import Any, Callable, Iterator, Sequence

from promptzoo.cli.batch.pool import Outcome, tried
from promptzoo.cli.batch.studies import Study
from promptzoo.cli.batch.worker import Job, Worker
from promptzoo.core.optional import require


def work_on_ray(job: Job, studies: Sequence[Study], actors: int, retries: int, address: str,
                make: Callable[[Job], Callable[[Study], dict[str, Any]]] = Worker) -> Iterator[Outcome]:
    """Answer studies on a cluster, in the order in which they are finished; see :func:`work_through`.

    Images and the folder of results must be reachable under the same paths on all nodes.

    Args:
        job, studies, retries, make: see :func:`promptzoo.cli.batch.pool.work_through`.
        actors: how many work at a time.
        address: of the cluster; ``auto`` for the one of this machine, which is started if there is none.

    Raises:
        MissingDependencyError: without ``ray``.
    """
    ray = require("ray", "promptzoo batch --ray", "scale")
    if not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=False)
        except ConnectionError:
            if address != "auto":
                raise
            ray.init(log_to_driver=False)
    count = max(1, min(actors, len(studies)))
    # an actor that the cluster has no room for would wait for ever: more actors than cores share them
    share = min(1.0, int(100 * ray.cluster_resources().get("CPU", 1.0) / count) / 100)
    remote = ray.remote(max_restarts=0, num_cpus=max(0.01, share))(_Actor)
    idle = [remote.remote(job, make) for _ in range(count)]
    waiting, running = [(study, 1) for study in reversed(studies)], {}
    while waiting or running:
        while waiting and idle:
            (study, number), actor = waiting.pop(), idle.pop()
            running[actor.do.remote(study)] = (study, number, actor)
        ready, _ = ray.wait(list(running))
        for reference in ready:
            study, number, actor = running.pop(reference)
            try:
                record, error, again = ray.get(reference)
            except ray.exceptions.RayError as failure:
                record, error, again = None, f"{type(failure).__name__}: the actor died", True
                actor = remote.remote(job, make)
            idle.append(actor)
            if again and number <= retries:
                waiting.insert(0, (study, number + 1))
            else:
                yield study, record, error


class _Actor:
    """A worker on a node."""

    def __init__(self, job: Job, make: Callable[[Job], Callable[[Study], dict[str, Any]]]) -> None:
        self.work = make(job)

    def do(self, study: Study) -> tuple[dict[str, Any] | None, str, bool]:
        """Answer a study."""
        return tried(self.work, study)
