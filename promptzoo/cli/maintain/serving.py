"""A server in a process of its own, for pictures and benchmarks."""
from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Iterator

import httpx

from promptzoo.core.errors import PromptZooError, complain

READY_S = 180.0


@contextlib.contextmanager
def serving(studies: Path) -> Iterator[str]:
    """``promptzoo serve`` over a folder on a free port; its address. Sessions go to a temporary folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="promptzoo-picture-") as scratch:
        places = {"PROMPTZOO_CACHE": f"{scratch}/cache", "PROMPTZOO_DATA": f"{scratch}/data"}
        process = subprocess.Popen([sys.executable, "-m", "promptzoo.cli", "serve", "--studies", str(studies), "--port",
                                    str(port)], env={**os.environ, **places}, stdout=subprocess.DEVNULL)
        url, ends = f"http://127.0.0.1:{port}", time.monotonic() + READY_S
        try:
            while time.monotonic() < ends and process.poll() is None:
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(f"{url}/readyz").status_code == 200:
                        break
                time.sleep(0.3)
            else:
                raise PromptZooError(complain("server", "no answer of /readyz", f"one within {READY_S:.0f} s"))
            yield url
        finally:
            process.terminate()
            process.wait(30)
