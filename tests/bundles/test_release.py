"""A release archive runs alone: in an empty directory, with the package that it brings."""
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from promptzoo.cli.maintain.release import make_release
from promptzoo.core.bundles import find_bundles

FORKS = """
import json, os, runpy, sys
import ignite.engine, monai.bundle, scipy.ndimage, skimage.measure, transformers
if "promptzoo" in sys.modules:
    sys.exit("promptzoo is loaded before an archive could bring its own")
for line in sys.stdin:
    root, output, arguments = json.loads(line)
    child = os.fork()
    if child == 0:
        out = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.chdir(root)
        sys.path[0], sys.argv[1:] = root, arguments
        import promptzoo
        print("the package:", promptzoo.__file__, flush=True)
        runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
os._exit(0)
"""
"""Reads ``[folder, file for the output, arguments]`` per line and answers with the exit status of ``python -m
monai.bundle`` in a process of its own there; what is not ours is loaded once for all of them."""


@pytest.fixture(scope="module")
def run():
    """Function ``(root, *arguments) -> (exit status, output)``: ``python -m monai.bundle`` where only ``root`` has
    promptzoo."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PROMPTZOO_BUNDLES")}
    environment["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"  # torch would load the installed promptzoo
    with subprocess.Popen([sys.executable, "-c", FORKS], env=environment, text=True, cwd="/", stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as parent:

        def call(root, *arguments):
            output = root.parent / "output.txt"
            parent.stdin.write(json.dumps([str(root), str(output), arguments]) + "\n")
            parent.stdin.flush()
            return int(parent.stdout.readline()), output.read_text()

        yield call
        parent.stdin.close()


@pytest.mark.slow
def test_release(bundle, case, run, tmp_path):
    """``python -m monai.bundle run`` on the unpacked archive of the first bundle of each family writes a mask."""
    first = next(b.name for b in find_bundles(bundle.path.parent) if b.family == bundle.family)
    if bundle.name != first:
        pytest.skip(f"one archive per family is run: {first}")
    with zipfile.ZipFile(make_release(bundle, tmp_path)) as archive:
        archive.extractall(tmp_path / "alone")
    root = tmp_path / "alone" / bundle.name
    overrides = [part for key, value in case.items() for part in (f"--{key}", str(value))]
    status, said = run(root, "run", "--config_file", "configs/inference.json", *overrides)
    assert status == 0, said[-3000:]
    assert f"the package: {root}" in said
    assert sorted(Path(case["output_dir"]).rglob("*.nii.gz")), said[-2000:]
