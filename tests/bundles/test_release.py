"""A release archive runs alone: in an empty directory, with the package that it brings."""
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from promptzoo.cli.maintain.release import make_release
from promptzoo.core.bundles import find_bundles


@pytest.mark.slow
def test_release(bundle, case, tmp_path):
    """``python -m monai.bundle run`` on the unpacked archive of the first bundle of each family writes a mask."""
    first = next(b.name for b in find_bundles(bundle.path.parent) if b.family == bundle.family)
    if bundle.name != first:
        pytest.skip(f"one archive per family is run: {first}")
    with zipfile.ZipFile(make_release(bundle, tmp_path)) as archive:
        archive.extractall(tmp_path / "alone")
    root = tmp_path / "alone" / bundle.name
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PROMPTZOO_BUNDLES")}

    def run(*arguments):
        return subprocess.run([sys.executable, *arguments], cwd=root, env=environment, capture_output=True, text=True)

    where = run("-c", "import promptzoo; print(promptzoo.__file__)")
    assert where.stdout.startswith(str(root)), where.stderr
    overrides = [part for key, value in case.items() for part in (f"--{key}", str(value))]
    answer = run("-m", "monai.bundle", "run", "--config_file", "configs/inference.json", *overrides)
    assert answer.returncode == 0, answer.stderr[-3000:]
    assert sorted(Path(case["output_dir"]).rglob("*.nii.gz")), answer.stdout[-2000:]
