"""Downloads from a server on this machine: whole, continued, damaged, refused, offline."""
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from promptzoo.core.errors import BundleError, NotFoundError, PromptZooError
from promptzoo.networks.public import store
from promptzoo.networks.public.download import get

CONTENT = bytes(range(256)) * 5000


class Server(ThreadingHTTPServer):
    """Serves ``content``; ``ranges`` says whether it can continue, ``most`` after how many bytes it hangs up."""

    content, ranges, most, kind = CONTENT, True, None, "application/octet-stream"

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []

    @property
    def url(self):
        """The address of the file."""
        return f"http://127.0.0.1:{self.server_address[1]}/small.pth"


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    def do_GET(self):
        """The file, or the rest of it."""
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append(wanted)
        begins = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.ranges else 0
        if begins >= len(server.content):
            self.send_error(416)
            return
        rest = server.content[begins:]
        self.send_response(206 if begins else 200)
        self.send_header("Content-Type", server.kind)
        self.send_header("Content-Length", str(len(rest)))
        if begins:
            self.send_header("Content-Range", f"bytes {begins}-{len(server.content) - 1}/{len(server.content)}")
        self.end_headers()
        self.wfile.write(rest[:server.most])
        self.close_connection = True

    def log_message(self, *arguments):
        """Say nothing."""


@pytest.fixture
def server():
    """A running server."""
    running = Server()
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def weights(describe, server, place):
    """Weights that the server has (descriptions of real ones allow https only)."""
    described = describe(CONTENT)
    described.record["urls"][:] = [server.url]
    return described


def test_a_file_arrives_whole(weights, server):
    told = []
    path = get(weights, lambda *progress: told.append(progress))
    assert path == store.place(weights) and path.read_bytes() == CONTENT and store.checked(weights)
    assert told[-1] == (len(CONTENT), len(CONTENT), "small.pth") and not store.partial(weights).exists()
    assert server.asked == [None]


def test_a_broken_download_is_continued(weights, server):
    server.most = 300_000
    with pytest.raises(PromptZooError, match="put it at"):
        get(weights)
    had = store.partial(weights).stat().st_size
    assert had == 300_000 and store.state(weights) == store.MISSING
    server.most = None
    assert get(weights).read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={had}-"]


def test_a_server_that_cannot_continue_begins_anew(weights, server):
    store.partial(weights).write_bytes(b"x" * 1000)
    server.ranges = False
    assert get(weights).read_bytes() == CONTENT


def test_a_part_that_is_whole_is_not_fetched_again(weights, server):
    store.partial(weights).write_bytes(CONTENT)
    assert get(weights).read_bytes() == CONTENT and server.asked == []


def test_a_part_without_a_rest_is_judged_by_its_digest(describe, server, place):
    weights = describe(CONTENT, bytes=None)
    weights.record["urls"][:] = [server.url]
    store.partial(weights).write_bytes(CONTENT)
    assert get(weights).read_bytes() == CONTENT and len(server.asked) == 1


def test_another_file_is_thrown_away(weights, server):
    server.content = CONTENT[:-1] + b"?"
    with pytest.raises(BundleError, match="sha256"):
        get(weights)
    assert not store.partial(weights).exists() and store.state(weights) == store.MISSING


def test_a_page_is_no_file(weights, server):
    server.kind = "text/html; charset=utf-8"
    with pytest.raises(PromptZooError, match="a page, not with a file"):
        get(weights)


def test_the_second_address_serves_where_the_first_does_not(weights, server):
    weights.record["urls"].insert(0, "http://127.0.0.1:9/small.pth")
    assert get(weights).read_bytes() == CONTENT


def test_offline_says_what_to_fetch_and_where_to_put_it(describe, place):
    weights = describe(CONTENT)
    weights.record["urls"][:] = ["http://127.0.0.1:9/small.pth"]
    with pytest.raises(PromptZooError, match="No network: Fetch http://127.0.0.1:9/small.pth elsewhere and put it at "
                                             ".*/weights/small.pth, then: promptzoo weights verify small"):
        get(weights)
    with pytest.raises(NotFoundError, match="none that a program can use"):
        get(describe(CONTENT, urls=[]))
