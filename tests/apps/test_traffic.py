"""Many requests at once: the event loop stays free, everybody gets the right answer, and nobody waits for ever."""
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from promptzoo.data.phantoms import inner_point

from .conftest import free_port, running

MODEL = "interactive_refinement_2d"
CLIENTS, BOUND = 16, 20
SOON_S = 0.2
"""Time in which /info must answer while an inference runs."""
SCRIPT = """
import time
import promptzoo.inference

load = promptzoo.inference.load_predictor


class Slow:
    '''The bundle's predictor; an object named "slow" takes five seconds more.'''

    def __init__(self, real):
        self.real, self.name, self.prompt_kinds, self.encode = real, real.name, real.prompt_kinds, real.encode

    def decode(self, state, prompts, previous=None):
        time.sleep(5.0 if any(o.name == "slow" for o in prompts.objects) else 0.0)
        return self.real.decode(state, prompts, previous)


promptzoo.inference.load_predictor = lambda *given, **named: Slow(load(*given, **named))

from promptzoo.cli import main

main()
"""


@pytest.fixture(scope="module")
def server(study, tmp_path_factory):
    """``promptzoo serve`` whose bundles can be told to be slow, with a short queue."""
    folder, port = tmp_path_factory.mktemp("traffic"), free_port()
    (folder / "slow.py").write_text(SCRIPT)
    command = [sys.executable, str(folder / "slow.py"), "serve", "--studies", str(study[0]), "--port", str(port),
               "--queue", str(BOUND), "--engine", "torch"]
    with running(command, port, folder) as found:
        ends = time.monotonic() + 120
        while httpx.get(f"{found.url}/readyz").status_code != 200 and time.monotonic() < ends:
            time.sleep(0.2)
        yield found


@pytest.fixture(scope="module")
def clicks(study):
    """A click in each of several nuclei, as params of a request."""
    case = study[1]["png"]
    points = [inner_point(case.labels == value) for value in np.unique(case.labels)[1:5]]
    return [{"foreground": [list(map(int, p))], "result_extension": ".nrrd"} for p in points]


def ask(server, params):
    """One request; the voxels of the label map, behind the header that holds the time."""
    answer = httpx.post(f"{server.url}/infer/{MODEL}", params={"image": "nuclei", "output": "image"},
                        data={"params": json.dumps(params)}, timeout=120)
    answer.raise_for_status()
    return answer.content.partition(b"\n\n")[2]


def slow(server):
    """A request of five seconds, in a thread that is running when this returns."""
    prompts = {"schema_version": 1, "objects": [{"object_id": 1, "name": "slow"}], "prompts": [
        {"kind": "point", "position": [20, 20, 0], "space": "voxel", "object_id": 1, "positive": True}]}
    thread = threading.Thread(target=ask, args=(server, {"prompts": prompts}))
    thread.start()
    time.sleep(0.3)  # it is in the queue by then
    return thread


def test_info_answers_while_an_inference_runs(server, clicks):
    ask(server, clicks[0])
    thread, times = slow(server), []
    while thread.is_alive() and len(times) < 20:
        started = time.perf_counter()
        assert httpx.get(f"{server.url}/info/").status_code == 200
        times.append(time.perf_counter() - started)
    assert thread.is_alive(), "the slow request must outlast the fast ones"
    thread.join()
    assert np.median(times) < SOON_S, f"median {np.median(times):.3f} s, worst {max(times):.3f} s"


def test_sixteen_clients_get_the_answers_of_one(server, clicks):
    alone = [ask(server, params) for params in clicks]
    assert len(set(alone)) == len(clicks), "different clicks, different masks"
    with ThreadPoolExecutor(CLIENTS) as pool:
        together = list(pool.map(lambda n: ask(server, clicks[n % len(clicks)]), range(CLIENTS)))
    assert all(answer == alone[n % len(clicks)] for n, answer in enumerate(together))


def test_beyond_the_bound_clients_are_told_when_to_come_back(server, clicks):
    thread = slow(server)
    with ThreadPoolExecutor(BOUND + 6) as pool:
        answers = list(pool.map(lambda n: httpx.post(
            f"{server.url}/infer/{MODEL}", params={"image": "nuclei", "output": "json"}, timeout=120,
            data={"params": json.dumps(clicks[n % len(clicks)])}), range(BOUND + 6)))
    thread.join()
    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers} == {200, 429} and len(refused) == 6
    detail = refused[0].json()["detail"]
    assert int(refused[0].headers["Retry-After"]) >= 1 and detail["kind"] == "BusyError"
    assert "Try again" in detail["reason"]
    assert 'promptzoo_queue_waiting{device="cpu"} 0.0' in httpx.get(f"{server.url}/metrics").text
