"""Images are prepared in the background: last wanted first, bounded, out of the way of prompts, given up when left."""
import threading
import time

import pytest

pytest.importorskip("fastapi", reason="the server needs the extra label")

from promptzoo.cli.server.preparation import Preparation  # noqa: E402
from promptzoo.cli.server.work import WorkQueue  # noqa: E402
from promptzoo.core.errors import ImageError  # noqa: E402


def until(wanted, seconds=20):
    """Wait for something to be true."""
    end = time.monotonic() + seconds
    while not wanted() and time.monotonic() < end:
        time.sleep(0.005)
    assert wanted()


@pytest.fixture
def queue():
    """A queue of work."""
    found = WorkQueue()
    yield found
    found.close()


def test_steps_are_done_between_prompts(queue):
    seen, gate = [], threading.Event()

    def steps(image, bundle):
        for n in range(3):
            seen.append((image, bundle, n))
            yield
            gate.wait(20)

    work = Preparation(steps, queue)
    assert work.want("a", "auto") == "waiting"
    until(lambda: len(seen) == 1)
    until(lambda: not queue.busy or queue.waiting == 0)
    asked = queue.submit(lambda: seen.append("prompt"))
    gate.set()
    asked.result(20)
    until(lambda: work.state("a", "auto") == "ready")
    assert [s for s in seen if s != "prompt"] == [("a", "auto", n) for n in range(3)]
    assert seen.index("prompt") <= 2, "a prompt waits for one step, not for all"


def test_the_image_wanted_last_comes_first_and_few_wait(queue):
    hold = queue.submit(lambda: release.wait(20)) if (release := threading.Event()) else None
    order = []

    def steps(image, bundle):
        order.append(image)
        yield

    work = Preparation(steps, queue, most=2)
    for image in "abc":
        work.want(image, "auto")
    release.set()
    hold.result(20)
    until(lambda: {work.state(i, "auto") for i in "bc"} == {"ready"})
    assert order == ["c", "b"] and work.state("a", "auto") == "dropped"
    assert work.want("c", "auto") == "ready" and order == ["c", "b"], "what is ready is not done again"


def test_an_image_that_was_closed_is_given_up(queue):
    taken, more = [], threading.Event()

    def steps(image, bundle):
        for n in range(1000):
            taken.append(n)
            yield
            more.wait(0.01)

    work = Preparation(steps, queue)
    work.want("a", "auto")
    until(lambda: len(taken) > 2)
    work.drop("a")
    until(lambda: not queue.busy)
    count = len(taken)
    time.sleep(0.1)
    assert len(taken) <= count + 1 and work.state("a", "auto") == "dropped"


def test_what_goes_wrong_is_told_and_the_next_image_comes(queue):
    def steps(image, bundle):
        if image == "bad":
            raise ImageError("no such thing")
        yield

    work = Preparation(steps, queue)
    work.want("bad", "auto")
    until(lambda: work.state("bad", "auto") == "no such thing")
    work.want("good", "auto")
    until(lambda: work.state("good", "auto") == "ready")


def test_the_service_encodes_before_the_first_prompt(service, image_file):
    for _ in service.preparing(image_file):
        pass
    assert service.predictor("clicks_3d").encoded == 1
    image = service.images.open(image_file)
    assert service.states.get((image.content_hash, "clicks_3d", service.bundles["clicks_3d"].version), None)
