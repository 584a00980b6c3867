"""A release archive runs alone: in an empty directory, with the package that it brings."""
import json
import os
import subprocess
import sys
import zipfile

import nibabel
import pytest

from promptzoo.cli.maintain.release import make_release


@pytest.mark.slow
def test_release(bundle, phantom, workflow, tmp_path):
    """``python -m monai.bundle run`` on the unpacked archive of the first bundle of each family writes a mask."""
    first = min(p.name for p in bundle.path.parent.iterdir() if p.name.startswith(bundle.family.replace("-", "_")))
    if bundle.name != first:
        pytest.skip(f"one archive per family is run: {first}")
    with zipfile.ZipFile(make_release(bundle, tmp_path)) as archive:
        archive.extractall(tmp_path / "alone")
    root = tmp_path / "alone" / bundle.name
    places = {"image": tmp_path / "in" / "case.nii.gz", "prompts": tmp_path / "in" / "case.prompts.json",
              "output": tmp_path / "output"}
    places["image"].parent.mkdir()
    nibabel.save(nibabel.Nifti1Image(phantom.volume.data, phantom.volume.grid.affine), places["image"])
    places["prompts"].write_text(json.dumps(phantom.prompts(bundle.prompts[0]).to_json()))
    made = workflow("inference", kind="inference", places=places)  # only to fill the overrides in
    wanted = {key: made.parser[key] for key in bundle.contract.get("inference_overrides", {})}
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PROMPTZOO_BUNDLES")}

    def run(*arguments):
        return subprocess.run([sys.executable, *arguments], cwd=root, env=environment, capture_output=True, text=True)

    where = run("-c", "import promptzoo; print(promptzoo.__file__)")
    assert where.stdout.startswith(str(root)), where.stderr
    flags = [part for key, value in {**wanted, "output_dir": str(places["output"])}.items()
             for part in (f"--{key}", value if isinstance(value, str) else json.dumps(value))]
    answer = run("-m", "monai.bundle", "run", "--config_file", "configs/inference.json", *flags)
    assert answer.returncode == 0, answer.stderr[-3000:]
    assert sorted(places["output"].rglob("*.nii.gz")), answer.stdout[-2000:]
