"""The queue of a device: order, bound, errors, clients that leave."""
import asyncio
import threading

import pytest

from promptzoo.cli.server.work import WorkQueue
from promptzoo.core.errors import BusyError, ImageError, PromptZooError


@pytest.fixture
def queue():
    """A queue of at most two waiting jobs."""
    made = WorkQueue("cpu", 2)
    yield made
    made.close()


def test_jobs_run_one_by_one_in_their_order(queue):
    done, gate, alone = [], threading.Event(), threading.Lock()

    def job(number):
        with alone:  # a second job at the same time would fail to take it
            assert gate.wait(10)
            done.append(number)
        return number * 10

    futures = [queue.submit(lambda n=n: job(n)) for n in range(3)]
    assert queue.waiting == 2
    gate.set()
    assert [f.result(10) for f in futures] == [0, 10, 20] and done == [0, 1, 2] and queue.waiting == 0


def test_beyond_the_bound_the_client_is_told_when_to_come_back(queue):
    gate = threading.Event()
    waiting = [queue.submit(lambda: gate.wait(10)) for _ in range(3)]
    with pytest.raises(BusyError, match="requests that wait for cpu: got 2; allowed: at most 2") as told:
        queue.submit(int)
    assert int(told.value.headers["Retry-After"]) >= 1 and told.value.http_status == 429
    gate.set()
    for future in waiting:
        future.result(10)
    assert queue.call(lambda: "again") == "again"


def test_an_error_reaches_who_asked_and_frees_the_place(queue):
    def fails():
        raise ImageError("no picture")

    for _ in range(5):
        with pytest.raises(ImageError, match="no picture"):
            queue.call(fails)
    assert queue.waiting == 0


def test_the_event_loop_stays_free_and_a_client_that_leaves_is_dropped(queue):
    gate, ran = threading.Event(), []

    async def play():
        first = asyncio.create_task(queue.run(lambda: gate.wait(10)))
        second = asyncio.create_task(queue.run(lambda: ran.append("second")))
        await asyncio.sleep(0)  # both are queued; were the loop blocked, the gate would never open
        assert queue.waiting == 1
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert queue.waiting == 0
        gate.set()
        assert await first is True

    asyncio.run(play())
    queue.call(int)
    assert ran == []


def test_a_negative_bound_is_refused():
    with pytest.raises(PromptZooError, match="bound of the queue"):
        WorkQueue("cpu", -1)
