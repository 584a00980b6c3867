"""For every test: no display, a cache folder of its own, and a skip where a CUDA device is missing."""
import os
import shutil
import tempfile

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")
_CACHE = tempfile.mkdtemp(prefix="promptzoo-test-cache-")
os.environ["PROMPTZOO_CACHE"] = _CACHE  # set before any import of promptzoo


def pytest_sessionfinish(session, exitstatus):
    """Remove the cache folder of this process."""
    shutil.rmtree(_CACHE, ignore_errors=True)


def pytest_collection_modifyitems(items):
    """Skip tests marked ``gpu`` on a machine without a CUDA device."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))
