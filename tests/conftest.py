"""For every test: no display, a cache folder of its own, and a skip where a CUDA device is missing."""
import os
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import pytest

os.environ.setdefault("MPLBACKEND", "Agg")
_CACHE = tempfile.mkdtemp(prefix="promptzoo-test-cache-")
os.environ["PROMPTZOO_CACHE"] = _CACHE  # set before any import of promptzoo
os.environ["PROMPTZOO_VERSIONS"] = "off"  # what was trained on this machine is no part of the tests


def pytest_sessionfinish(session, exitstatus):
    """Remove the cache folder of this process."""
    shutil.rmtree(_CACHE, ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    """Tell how a worker of xdist ended that should not have: minus the number of a signal, or its exit status."""
    if error:
        process = node.gateway._io.popen
        try:
            status = process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            status = "none: the process is still there"
        sys.stderr.write(f"\nworker {node.gateway.id}, process {process.pid}: return code {status}\n")


def pytest_collection_modifyitems(items):
    """Skip tests marked ``gpu`` on a machine without a CUDA device."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture
def disc_list(tmp_path):
    """A function that writes a datalist of so many 2D images of a dark disc, ``case 0`` …, and returns its path."""

    def write(count):
        from PIL import Image

        rng, rows = np.random.default_rng(0), ["id,task,image,mask,label_value,modality"]
        for n in range(count):
            y, x = np.mgrid[:64, :64]
            disc = (x - 30 - 2 * n) ** 2 + (y - 32) ** 2 < 14 ** 2
            image = np.where(disc, 60, 150) + rng.normal(0, 8, disc.shape)
            Image.fromarray(np.uint8(image)).save(tmp_path / f"{n}.png")
            Image.fromarray(np.uint8(disc)).save(tmp_path / f"{n}_label.png")
            rows.append(f"case {n},seg2d,{n}.png,{n}_label.png,1,US")
        (tmp_path / "list.csv").write_text("\n".join(rows))
        return tmp_path / "list.csv"

    return write
