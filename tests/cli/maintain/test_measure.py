"""``scripts/measure_bundle``: what it keeps of a bench run."""
import csv
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from promptzoo.cli.maintain import measure, report
from promptzoo.core.bundles import get_bundle
from promptzoo.core.errors import BundleError

SHIPPED = Path(__file__).parents[3] / "bundles" / "interactive_refinement_2d"


@pytest.fixture
def copied_bundle(tmp_path):
    """A copy of a shipped bundle whose results may be overwritten."""
    return Path(shutil.copytree(SHIPPED, tmp_path / "bundles" / SHIPPED.name))


@pytest.fixture
def datalist(tmp_path):
    """Two discs on noise-free images, one of a licence class that training may use."""
    path = tmp_path / "list.csv"
    x, y = np.mgrid[:48, :48]
    with path.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["id", "task", "image", "mask", "label_value", "modality", "licence_class"])
        for name, radius, licence in (("a", 9, "open"), ("b", 12, "nc"), ("c", 14, "unstated")):
            disc = ((x - 24) ** 2 + (y - 22) ** 2 <= radius ** 2)[..., None]
            nibabel.save(nibabel.Nifti1Image(np.where(disc, 200, 50).astype(np.int16), np.eye(4)),
                         tmp_path / f"{name}.nii.gz")
            nibabel.save(nibabel.Nifti1Image(disc.astype(np.uint8), np.eye(4)), tmp_path / f"{name}_mask.nii.gz")
            rows.writerow([name, "seg2d", f"{name}.nii.gz", f"{name}_mask.nii.gz", 1, "CT", licence])
    return path


def test_one_block_is_renewed_and_rows_of_training_stand_apart(copied_bundle, datalist, capsys):
    place = copied_bundle / "docs" / "results.json"
    before = json.loads(place.read_text())
    assert measure.main([str(copied_bundle), str(datalist), "--only", "box"]) == 0
    after = json.loads(place.read_text())
    assert {k: v for k, v in after.items() if k != "box"} == {k: v for k, v in before.items() if k != "box"}
    block = after["box"]
    assert block["n"] == 3 and (block["seen"]["n"], block["unseen"]["n"]) == (1, 2)
    together = (block["seen"]["dice"][0] + 2 * block["unseen"]["dice"][0]) / 3
    assert block["dice"][0] == pytest.approx(together, abs=2e-4)
    assert block["command"].startswith("promptzoo bench list.csv --bundle interactive_refinement_2d --protocol box")
    assert set(block["peers"]) == {"random-walker", "ellipse", "graph-cut"}
    assert "box: Dice" in capsys.readouterr().out
    table = (copied_bundle / "docs" / "README.md").read_text()
    assert f"| unseen (n = 2) | {block['unseen']['dice'][0]:.3f} |" in table and "## Variants" in table


@pytest.mark.parametrize("name", ["interactive_refinement_2d", "interactive_refinement_3d"])
def test_tables_of_shipped_bundles_are_their_results(name):
    info = get_bundle(SHIPPED.parent / name)
    assert report.renew(info) == (info.path / "docs" / "README.md").read_text()
    readme = (SHIPPED.parents[1] / "README.md").read_text()
    assert report.readme_row(info) in readme and report.with_row(readme, info) == readme


def test_docs_without_a_place_or_numbers_are_told(copied_bundle):
    info = get_bundle(copied_bundle)
    (copied_bundle / "docs" / "README.md").write_text("# Empty")
    with pytest.raises(BundleError, match="no section Measured"):
        report.renew(info)
    (copied_bundle / "docs" / "results.json").unlink()
    with pytest.raises(BundleError, match="no measured block"):
        report.measured(info)


def test_an_unknown_bundle_is_told(datalist, capsys):
    assert measure.main(["nothing_here", str(datalist)]) == 2
    assert "nothing_here" in capsys.readouterr().err
