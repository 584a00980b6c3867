"""Datalists: columns, filters, exclusion rules, reduction to a slice."""
import pickle

import numpy as np
import pytest

from promptzoo.core.errors import ImageError, NotFoundError, PromptZooError
from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.evaluation.datalist import Datalist, acquisition_axis, count_components, take_slice


def test_other_tasks_are_counted_and_ignored(folder):
    listed = Datalist.read(folder / "list.csv")
    assert [r.id for r in listed.rows] == ["round", "square", "tiny", "parts", "empty", "lost"]
    assert listed.ignored == {"cls": 1, "det": 1}


def test_exclusion_rules(folder):
    rows, excluded = Datalist.read(folder / "list.csv", max_components=3).select()
    assert [r.id for r in rows] == ["round", "square", "lost"]
    assert [(r.id, why) for r, why in excluded] == [("tiny", "9 voxels"), ("parts", "5 components"),
                                                    ("empty", "0 voxels")]
    rows, excluded = Datalist.read(folder / "list.csv", min_voxels=1).select()
    assert [r.id for r, _ in excluded] == ["empty"]


def test_filters(folder):
    assert [r.id for r in Datalist.read(folder / "list.csv", modalities=["mr"]).rows] == ["square", "lost"]
    assert [r.id for r in Datalist.read(folder / "list.csv", match="squ").rows] == ["square"]
    with pytest.raises(ImageError, match="without a segmentation row"):
        Datalist.read(folder / "list.csv", modalities=["PET"])


def test_limit_is_seeded_and_nested(folder):
    listed = Datalist.read(folder / "list.csv", max_components=3)
    one, two = ([r.id for r in listed.select(n, 5)[0]] for n in (1, 2))
    assert set(one) < set(two) and len(two) == 2
    assert two == [r.id for r in listed.select(2, 5)[0]]
    assert {tuple(r.id for r in listed.select(1, seed)[0]) for seed in range(8)} != {tuple(one)}


def test_loaded_case(folder):
    listed = Datalist.read(folder / "list.csv")
    case = pickle.loads(pickle.dumps(listed)).load(listed.rows[1])
    assert case.volume.grid.shape == (50, 40, 1) and case.mask.dtype == bool
    assert np.argwhere(case.mask).min(0).tolist() == [30, 5, 0]  # columns first
    assert case.components == 1 and case.volume.meta["modality"] == "MR" and case.slice_of is None


def test_clear_errors(folder):
    listed = Datalist.read(folder / "list.csv")
    with pytest.raises(NotFoundError, match="lost.png"):
        listed.load(listed.rows[-1])
    with pytest.raises(NotFoundError, match="datalist"):
        Datalist.read(folder / "none.csv")
    text = (folder / "list.csv").read_text()
    (folder / "short.csv").write_text(text.replace("modality", "kind", 1))
    with pytest.raises(ImageError, match="lacks columns modality"):
        Datalist.read(folder / "short.csv")
    (folder / "twice.csv").write_text(text + "round,seg2d,round.png,round_mask.png,255,CT\n")
    with pytest.raises(ImageError, match="given twice"):
        Datalist.read(folder / "twice.csv")
    (folder / "value.csv").write_text(text.replace(",255,", ",white,", 1))
    with pytest.raises(ImageError, match="label_value"):
        Datalist.read(folder / "value.csv")
    with pytest.raises(PromptZooError, match="slices option"):
        Datalist.read(folder / "list.csv", slices="middle")


def test_components_ignore_crumbs():
    mask = np.zeros((60, 60, 3), bool)
    mask[2:22, 2:22, 1] = True
    mask[22, 22, 2] = True  # touches by a corner: 26-connected
    mask[40, 40, 0] = True  # one voxel of 402: below 1 %
    assert count_components(mask) == 1
    mask[50:53, 50:53, 0] = True
    assert count_components(mask) == 2
    assert count_components(np.zeros((3, 3, 3), bool)) == 0


@pytest.mark.parametrize("shape, spacing, axis", [
    ((9, 9, 9), (1, 5, 1), 1), ((9, 9, 9), (1, 1, 1), 2), ((9, 9, 9), (2, 2, 1), 2), ((9, 1, 9), (1, 1, 4), 1)])
def test_acquisition_axis(shape, spacing, axis):
    assert acquisition_axis(Grid(shape, np.diag([*spacing, 1.0]))) == axis


def test_slices_keep_their_place_in_the_world(tmp_path):
    from promptzoo.data.io import write_mask
    mask = np.zeros((12, 8, 14), bool)
    mask[2:9, 3, 4:12] = True
    mask[3:7, 4, 5:9] = True
    affine = np.array([[0, 4, 0, -7], [1.5, 0, 0, 20], [0, 0, -1, 3], [0, 0, 0, 1.0]])
    data = np.random.default_rng(0).normal(size=mask.shape)
    volume = Volume(data, Grid(mask.shape, affine))
    part, flat = take_slice(volume, mask, 1, 3)
    assert part.grid.shape == (12, 14, 1) and flat.sum() == 56
    assert np.allclose(part.grid.to_world((5, 6, 0)), volume.grid.to_world((5, 3, 6)))
    assert part.data[5, 6, 0] == np.float32(data[5, 3, 6])
    write_mask(tmp_path / "m.nii.gz", mask, volume.grid)
    (tmp_path / "l.csv").write_text("id,task,image,mask,label_value,modality\na,seg3d,m.nii.gz,m.nii.gz,1,CT\n")
    listed = Datalist.read(tmp_path / "l.csv", slices="largest")
    case = listed.load(listed.rows[0])
    assert case.slice_of == (1, 3) and case.mask.sum() == 56
    assert listed.load(listed.rows[0], (1, 4)).mask.sum() == 16
    assert Datalist.read(tmp_path / "l.csv").load(listed.rows[0]).mask.sum() == 72
