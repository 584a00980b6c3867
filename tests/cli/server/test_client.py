"""The thin client against the sessions' routes, with a network that fails on purpose."""
import subprocess
import sys

import httpx
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the server needs the extra label")

from promptzoo.client import Client, ObjectInfo, Point, ServerError  # noqa: E402
from promptzoo.core.errors import BusyError  # noqa: E402

from .test_sessions import served  # noqa: E402, F401


class Network:
    """Between the client and a test server; ``failures`` holds what the next requests meet: ``lost answer`` (the server
    gets the request, the client no answer) or ``unreachable``."""

    def __init__(self, server):
        self.server, self.failures, self.slept, self.methods = server, [], [], []

    def __call__(self, request):
        failure = self.failures.pop(0) if self.failures else ""
        self.methods.append(request.method)
        if failure == "unreachable":
            raise httpx.ConnectError("nobody listens", request=request)
        answer = self.server.request(request.method, str(request.url), content=request.content,
                                     headers={"content-type": "application/json"})
        if failure == "lost answer":
            raise httpx.ReadError("the line broke", request=request)
        headers = {name: value for name, value in answer.headers.items() if name != "content-encoding"}
        return httpx.Response(answer.status_code, headers=headers, content=answer.content, request=request)

    def client(self, **more):
        """A client on this network."""
        return Client("http://testserver", transport=httpx.MockTransport(self), sleep=self.slept.append, **more)


@pytest.fixture
def network(served):  # noqa: F811
    return Network(served())


def test_from_the_first_click_to_a_copy_of_the_session(network):
    with network.client() as client:
        session = client.begin("scan", "clicks_3d", "ann")
        first = session.add(Point((3, 4, 5), space="voxel"), objects=[ObjectInfo(1, "cyst")])
        assert (first.sequence, first.numbers, first.voxels, first.reason) == (1, (1,), {1: 33}, "")
        labels, affine = session.labelmap()
        assert labels[3, 4, 5] == 1 and labels.sum() == 33 and affine.shape == (4, 4)
        probability, _ = session.probability(1)
        assert probability.dtype == np.float32 and np.array_equal(probability >= 0.5, labels == 1)
        assert session.undo().reason == "no prompt was given" and not session.labelmap()[0].any()
        assert session.redo().voxels == {1: 33} and session.replay()["equal"] is True
        assert [p.kind for p in session.refresh().prompts.prompts] == ["point"]
        copy = client.restore(session.export(), "scan")
        assert copy.id != session.id and np.array_equal(copy.labelmap()[0], labels)
        assert [entry["id"] for entry in client.sessions(user="ann")] == [session.id]
        assert client.open(session.id).sequence == session.sequence == 3


def test_an_answer_that_got_lost_is_not_a_second_click(network):
    session = network.client().begin("scan", "clicks_3d")
    network.failures = ["lost answer"]
    answer = session.add(Point((3, 4, 5), space="voxel"))
    assert (answer.sequence, answer.numbers, session.sequence) == (1, (1,), 1) and network.slept == [0.5]
    network.failures = ["unreachable", "unreachable"]
    answer = session.add(Point((5, 5, 5), space="voxel"))
    assert answer.numbers == (1, 2) and len(network.server.store.open(session.id).events()) == 2


def test_a_server_that_stays_away(network):
    client = network.client(retries=2)
    network.failures = ["unreachable"] * 3
    with pytest.raises(ConnectionError, match="cannot be reached"):
        client.begin("scan")
    assert network.slept == [0.5, 1.0]


def test_a_busy_server_is_asked_again_when_it_says(served):  # noqa: F811
    refused = []

    def run(job):
        if len(refused) < 2:
            refused.append(1)
            raise BusyError("queue: got 33 waiting; allowed: at most 32", 3)
        return job()

    network = Network(served(run=run))
    session = network.client().begin("scan", "clicks_3d")
    assert network.slept == [3.0, 3.0] and session.sequence == 0


def test_refusals_have_the_words_of_the_server(network):
    client = network.client()
    with pytest.raises(ServerError, match="image") as caught:
        client.begin("nothing")
    assert caught.value.status == 404 and caught.value.request_id
    session = client.begin("scan", "clicks_3d")
    with pytest.raises(ServerError, match="outside the image") as caught:
        session.add(Point((300, 4, 5), space="voxel"))
    assert caught.value.status == 422 and session.sequence == 0
    other = client.open(session.id)
    other.add(Point((3, 4, 5), space="voxel"))
    with pytest.raises(ServerError, match="last event") as caught:
        session.add(Point((3, 4, 5), space="voxel"))
    assert caught.value.status == 409
    assert session.refresh().add(Point((5, 5, 5), space="voxel")).numbers == (1, 2)


def test_no_torch_is_needed():
    code = "import sys, promptzoo.client; sys.exit('torch' in sys.modules or 'monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_through_slices_from_a_program(network):
    with network.client() as client:
        session = client.begin("scan", "clicks_3d", "ann")
        session.add(Point((3, 4, 5), space="voxel"), through_slices=True)
        assert session.refresh().prompts.through_slices
        session.through_slices(False)
        assert not session.refresh().prompts.through_slices
        session.undo()
        assert session.refresh().prompts.through_slices and session.replay()["equal"] is True
