"""Images and masks in and out: formats, geometry by hand, and the messages for files that cannot be used."""
import json

import nibabel as nib
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from promptzoo.core.errors import ImageError, NotFoundError
from promptzoo.core.geometry import Grid, all_axis_codes, grid_with_codes
from promptzoo.data.arrays import onto_grid, whole_labels
from promptzoo.data.io import file_format, provenance_path, read_image, read_labels, read_mask, write_mask

MASK_SUFFIXES = (".nii", ".nii.gz", ".mgz", ".nrrd", ".seg.nrrd")


def oblique_grid(shape=(5, 6, 7)):
    """A far-away grid with three spacings, turned by 20 degrees about z and 10 about x."""
    a, b = np.deg2rad((20, 10))
    turn = (np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
            @ np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * (0.7, 1.3, 3.1), (-210.5, 480.25, -1333.0)
    return Grid(shape, affine)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# masks: written and read back

@pytest.mark.parametrize("suffix", MASK_SUFFIXES)
@pytest.mark.parametrize("kind", ["bool", "labels", "many labels"])
def test_masks_return_voxel_exact(tmp_path, rng, suffix, kind):
    grid = oblique_grid()
    mask = {"bool": rng.random(grid.shape) < 0.3, "labels": rng.integers(0, 4, grid.shape).astype(np.int64),
            "many labels": rng.integers(0, 4, grid.shape) * 300}[kind]
    path = write_mask(tmp_path / "deep" / f"mask{suffix}", mask, grid)
    labels, found = read_mask(path)
    assert found == grid
    assert np.array_equal(labels, mask)
    assert labels.dtype == (np.uint16 if kind == "many labels" else np.uint8)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
@pytest.mark.parametrize("codes", all_axis_codes(), ids="".join)
def test_every_axis_arrangement_returns(tmp_path, suffix, codes):
    base = oblique_grid()
    original = np.arange(np.prod(base.shape), dtype=np.int32).reshape(base.shape)
    move, grid = grid_with_codes(base, codes)
    path = write_mask(tmp_path / f"mask{suffix}", move.array(original), grid)
    labels, found = read_mask(path)
    assert found == grid and found.axis_codes == codes
    assert np.array_equal(onto_grid(labels, found, base), original)
    spot = np.argwhere(labels == original[4, 0, 2])[0]
    assert np.allclose(found.to_world(spot), base.to_world((4, 0, 2)), atol=2e-3)


def test_png_masks(tmp_path, rng):
    grid = Grid((9, 6, 1), np.diag([-1, -1, 1, 1]))
    mask = rng.random(grid.shape) < 0.4
    labels, found = read_mask(write_mask(tmp_path / "bool.png", mask, grid))
    assert found == grid and np.array_equal(labels, mask * 255)
    assert np.array_equal(read_mask(tmp_path / "bool.png", 255)[0], mask)
    for name, values in (("few.png", 3), ("many.png", 60000)):
        wanted = rng.integers(0, values, grid.shape)
        assert np.array_equal(read_mask(write_mask(tmp_path / name, wanted, grid))[0], wanted)
    assert Image.open(tmp_path / "few.png").mode == "P"  # labels are stored, viewers show colours


def test_one_label(tmp_path):
    grid = oblique_grid()
    labels = np.zeros(grid.shape, np.uint8)
    labels[1, 2, 3], labels[2, 2, 2] = 5, 6
    path = write_mask(tmp_path / "m.nii.gz", labels, grid)
    mask, _ = read_mask(path, 5)
    assert mask.dtype == bool and np.argwhere(mask).tolist() == [[1, 2, 3]]
    assert not read_mask(path, 9)[0].any()


def test_names_and_provenance(tmp_path):
    grid = oblique_grid()
    labels = np.zeros(grid.shape, np.uint8)
    labels[0, 0, 0], labels[1, 1, 1] = 2, 4
    names = {2: "liver", 4: "spleen"}
    nifti = write_mask(tmp_path / "case.1.nii.gz", labels, grid, names=names, provenance={"engine": "torch"})
    beside = provenance_path(nifti)
    assert beside == tmp_path / "case.1.json"
    assert json.loads(beside.read_text()) == {"names": {"2": "liver", "4": "spleen"}, "engine": "torch"}
    assert read_labels(nifti)[2] == names
    slicer = write_mask(tmp_path / "s.seg.nrrd", labels, grid, names=names)
    assert read_labels(slicer)[2] == names
    assert not provenance_path(slicer).exists()
    header = nrrd.read_header(str(slicer))
    assert header["Segment0_Extent"] == "0 0 0 0 0 0" and header["Segment1_LabelValue"] == "4"


def test_slicer_layers_are_flattened(tmp_path):
    layers = np.zeros((2, 4, 4, 3), np.uint8)
    layers[0, 0:2, 0, 0], layers[1, 1:3, 0, 0] = 1, 1
    header = {"space": "left-posterior-superior", "kinds": ["list", "domain", "domain", "domain"],
              "space directions": np.array([[np.nan] * 3, [2, 0, 0], [0, 2, 0], [0, 0, 3]]), "space origin": [0, 0, 0],
              "Segment0_ID": "a", "Segment0_LabelValue": "1", "Segment0_Layer": "0", "Segment0_Name": "below",
              "Segment1_ID": "b", "Segment1_LabelValue": "1", "Segment1_Layer": "1", "Segment1_Name": "above"}
    nrrd.write(str(tmp_path / "l.seg.nrrd"), layers, header)
    labels, grid, names = read_labels(tmp_path / "l.seg.nrrd")
    assert labels[:, 0, 0].tolist() == [1, 2, 2, 0] and names == {1: "below", 2: "above"}
    assert grid.spacing_mm == (2, 2, 3) and grid.axis_codes == ("L", "P", "S")


# geometry by hand

def test_nifti_keeps_its_affine(tmp_path):
    affine = np.array([[0, 0, 2.5, -10], [-0.5, 0, 0, 20], [0, 3, 0, 5], [0, 0, 0, 1]])
    data = np.zeros((4, 3, 2), np.int16)
    data[1, 2, 1] = 77
    nib.save(nib.Nifti1Image(data, affine), tmp_path / "a.nii.gz")
    volume = read_image(tmp_path / "a.nii.gz")
    assert volume.data[1, 2, 1] == 77 and volume.data.dtype == np.float32
    assert volume.grid.axis_codes == ("P", "S", "R")
    assert volume.grid.to_world((1, 2, 1)).tolist() == [-7.5, 19.5, 11.0]
    assert volume.meta["format"] == "nifti" and volume.meta["source"].endswith("a.nii.gz")


def test_nifti_scaling_is_applied(tmp_path):
    values = np.linspace(-1000, 2000, 8).reshape(2, 2, 2)
    image = nib.Nifti1Image(values, np.eye(4))
    image.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "a.nii")
    assert nib.load(tmp_path / "a.nii").dataobj.slope != 1
    assert np.allclose(read_image(tmp_path / "a.nii").data, values, atol=0.1)  # 16 bits over 3000: steps of 0.05


@pytest.mark.parametrize("space, world", [("left-posterior-superior", [-12, -24, 36]),
                                          ("right-anterior-superior", [12, 24, 36]), ("LAS", [-12, 24, 36])])
def test_nrrd_spaces_become_ras(tmp_path, space, world):
    header = {"space": space, "space directions": np.diag([2.0, 4.0, 6.0]), "space origin": [10, 20, 30],
              "kinds": ["domain"] * 3}
    nrrd.write(str(tmp_path / "a.nrrd"), np.zeros((3, 3, 3), np.int16), header)
    assert read_image(tmp_path / "a.nrrd").grid.to_world((1, 1, 1)).tolist() == world


def test_nrrd_without_space_and_2d(tmp_path):
    nrrd.write(str(tmp_path / "plain.nrrd"), np.zeros((3, 4, 5), np.float32), {"spacings": [1.0, 2.0, 3.0]})
    assert read_image(tmp_path / "plain.nrrd").grid.spacing_mm == (1, 2, 3)
    nrrd.write(str(tmp_path / "flat.nrrd"), np.arange(12, dtype=np.uint8).reshape(3, 4), {"spacings": [1.0, 2.0]})
    flat = read_image(tmp_path / "flat.nrrd")
    assert flat.grid.shape == (3, 4, 1) and flat.grid.is_2d and flat.data[2, 1, 0] == 9


def test_metaimage_becomes_ras(tmp_path):
    image = sitk.GetImageFromArray(np.arange(24, dtype=np.int16).reshape(2, 3, 4))  # k, j, i
    image.SetSpacing((0.5, 1.5, 4.0))
    image.SetOrigin((100.0, -50.0, 25.0))
    image.SetDirection((0, 1, 0, 1, 0, 0, 0, 0, -1))
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    volume = read_image(tmp_path / "a.mha")
    assert volume.grid.shape == (4, 3, 2) and volume.data[3, 1, 1] == 19
    wanted = np.array(image.TransformIndexToPhysicalPoint((3, 1, 1))) * (-1, -1, 1)
    assert np.allclose(volume.grid.to_world((3, 1, 1)), wanted)
    assert np.array_equal(read_mask(tmp_path / "a.mha")[0], volume.data)


def test_itk_sees_our_masks_where_we_see_them(tmp_path, rng):
    grid = oblique_grid()
    for suffix in (".nii.gz", ".nrrd"):
        path = write_mask(tmp_path / f"m{suffix}", rng.random(grid.shape) < 0.5, grid)
        image = sitk.ReadImage(str(path))
        point = np.array(image.TransformIndexToPhysicalPoint((4, 1, 5))) * (-1, -1, 1)
        assert np.allclose(point, grid.to_world((4, 1, 5)), atol=2e-3)


# pictures

def test_png_axes_are_column_row(tmp_path):
    rows = np.zeros((4, 6), np.uint8)  # 4 rows, 6 columns
    rows[1, 5] = 200
    Image.fromarray(rows).save(tmp_path / "a.png")
    volume = read_image(tmp_path / "a.png")
    assert volume.grid.shape == (6, 4, 1) and volume.data[5, 1, 0] == 200
    assert volume.grid.axis_codes == ("L", "P", "S") and volume.grid.spacing_mm == (1, 1, 1)
    assert "rgb" not in volume.meta


def test_sixteen_bit_and_float_pictures(tmp_path):
    rows = np.array([[0, 70], [40000, 65535]], np.uint16)
    Image.fromarray(rows).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").data[:, :, 0].T.tolist() == rows.tolist()
    Image.fromarray(rows.astype(np.float32) / 7).save(tmp_path / "a.tif")
    assert np.allclose(read_image(tmp_path / "a.tif").data[:, :, 0].T, rows / 7)


def test_colour_pictures(tmp_path):
    rows = np.zeros((3, 5, 3), np.uint8)
    rows[2, 4] = (255, 100, 10)
    Image.fromarray(rows).save(tmp_path / "a.png")
    volume = read_image(tmp_path / "a.png")
    assert volume.meta["rgb"].shape == (5, 3, 3) and volume.meta["rgb"][4, 2].tolist() == [255, 100, 10]
    assert volume.data[4, 2, 0] == pytest.approx(0.299 * 255 + 0.587 * 100 + 0.114 * 10, abs=0.01)
    Image.fromarray(np.dstack([rows[..., 1]] * 3)).save(tmp_path / "grey.png")
    assert "rgb" not in read_image(tmp_path / "grey.png").meta
    Image.fromarray(rows).convert("P").save(tmp_path / "palette.png")
    assert read_image(tmp_path / "palette.png").data[4, 2, 0] > 100
    with pytest.raises(ImageError, match="a.png is a colour picture.*palette picture"):
        read_mask(tmp_path / "a.png")


def test_camera_rotation_is_applied(tmp_path):
    rows = np.zeros((16, 32), np.uint8)
    rows[:8] = 250
    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90 degrees clockwise to show
    Image.fromarray(rows).save(tmp_path / "a.jpg", exif=exif, quality=95)
    volume = read_image(tmp_path / "a.jpg")
    assert volume.grid.shape == (16, 32, 1)
    assert volume.data[12, 10, 0] > 200 > 50 > volume.data[3, 10, 0]  # the bright top is now on the right


# several volumes in one file

def test_volumes_of_a_4d_file(tmp_path):
    data = np.zeros((3, 3, 3, 4), np.int16) + np.arange(4, dtype=np.int16)
    path = tmp_path / "d.nii.gz"
    nib.save(nib.Nifti1Image(data, np.eye(4)), path)
    with pytest.raises(ImageError, match=r"d.nii.gz is 4D and holds 4 volumes.*Choose one: 'd.nii.gz#t=0'"):
        read_image(path)
    assert (read_image(f"{path}#t=3").data == 3).all()
    assert (read_image(path, frame=1).data == 1).all()
    assert read_image(f"{path}#t=1", frame=1).data.max() == 1
    with pytest.raises(ImageError, match="volume index.*got 9; allowed: 0 … 3"):
        read_image(path, frame=9)
    with pytest.raises(ImageError, match="volume chosen twice"):
        read_image(f"{path}#t=1", frame=2)
    nib.save(nib.Nifti1Image(data[..., :1], np.eye(4)), path)
    assert read_image(path).grid.shape == (3, 3, 3)
    stored = np.moveaxis(data, 3, 0)
    nrrd.write(str(tmp_path / "d.nrrd"), stored, {"kinds": ["list", "domain", "domain", "domain"],
                                                  "space directions": np.vstack([[np.nan] * 3, np.eye(3)]),
                                                  "space": "left-posterior-superior"})
    assert (read_image(f"{tmp_path / 'd.nrrd'}#t=2").data == 2).all()


def test_pages_of_a_tiff(tmp_path):
    pages = [Image.fromarray(np.full((4, 5), n, np.uint8)) for n in (10, 20)]
    pages[0].save(tmp_path / "p.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(ImageError, match="holds 2 pages.*Choose one"):
        read_image(tmp_path / "p.tif")
    assert read_image(tmp_path / "p.tif", frame=1).data.max() == 20
    with pytest.raises(ImageError, match="page index.*0 … 1"):
        read_image(tmp_path / "p.tif", frame=2)


# files that cannot be used

@pytest.mark.parametrize("read", [read_image, read_mask])
def test_missing_file(tmp_path, read):
    with pytest.raises(NotFoundError, match="image or mask file: got .*nothing.nii.gz.*Check the path"):
        read(tmp_path / "nothing.nii.gz")


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.nrrd", "a.mha", "a.png", "a.mgz", "a.dcm", "a.jpg"])
@pytest.mark.parametrize("content, message", [(b"", "is empty: got 0 bytes"),
                                              (b"\x00garbage" * 40, "cannot read|no DICOM image")])
def test_empty_and_broken_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=message):
        read_image(tmp_path / name)


def test_truncated_nifti(tmp_path, rng):
    nib.save(nib.Nifti1Image(rng.integers(0, 999, (20, 20, 20)).astype(np.int16), np.eye(4)), tmp_path / "a.nii.gz")
    whole = (tmp_path / "a.nii.gz").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match="cannot read a.nii.gz.*entirely"):
        read_image(tmp_path / "a.nii.gz")


def test_unknown_formats(tmp_path):
    (tmp_path / "a.xyz").write_text("hello")
    with pytest.raises(ImageError, match="image format of a.xyz: got .xyz; allowed: a DICOM folder or .nii"):
        read_image(tmp_path / "a.xyz")
    (tmp_path / "plain").write_bytes(bytes(128) + b"DICM")
    assert file_format(tmp_path / "plain") == "dicom"
    with pytest.raises(ImageError, match="mask format: got a.txt; allowed: .nii"):
        write_mask(tmp_path / "a.txt", np.ones((2, 2, 2), bool), Grid((2, 2, 2), np.eye(4)))


def test_images_without_usable_values(tmp_path):
    data = np.full((3, 3, 3), np.nan, np.float32)
    nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "nan.nii.gz")
    with pytest.raises(ImageError, match="nan.nii.gz: image without a finite value"):
        read_image(tmp_path / "nan.nii.gz")
    data[0, 0, 0], data[1, 1, 1] = 3, 8
    nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "some.nii.gz")
    assert read_image(tmp_path / "some.nii.gz").data.min() == 3
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), np.complex64), np.eye(4)), tmp_path / "c.nii")
    with pytest.raises(ImageError, match="c.nii has unusable voxels: got complex64.*magnitude"):
        read_image(tmp_path / "c.nii")


def test_singular_geometry(tmp_path):
    image = nib.Nifti1Image(np.zeros((3, 3, 3), np.int16), np.eye(4))
    image.set_sform(np.diag([1.0, 0, 1, 1]), code=1)
    nib.save(image, tmp_path / "s.nii")
    with pytest.raises(ImageError, match="s.nii: singular affine.*spacing"):
        read_image(tmp_path / "s.nii")


def test_masks_must_hold_whole_numbers(tmp_path):
    nib.save(nib.Nifti1Image(np.linspace(0, 1, 27, dtype=np.float32).reshape(3, 3, 3), np.eye(4)), tmp_path / "p.nii")
    with pytest.raises(ImageError, match="p.nii is not a label map.*Threshold"):
        read_mask(tmp_path / "p.nii")
    assert whole_labels(np.array([0.0, 2.0002]), "m").tolist() == [0, 2]
    assert whole_labels(np.array([-3, 9]), "m").dtype == np.int32
    with pytest.raises(ImageError, match="too large labels"):
        whole_labels(np.array([2.0 ** 40]), "m")


def test_what_cannot_be_written(tmp_path):
    grid = Grid((4, 4, 2), np.eye(4))
    with pytest.raises(ImageError, match=r"mask does not fit its grid: got \[4, 4, 3\]"):
        write_mask(tmp_path / "a.nii", np.zeros((4, 4, 3), bool), grid)
    with pytest.raises(ImageError, match="mask labels.*0 … 65535"):
        write_mask(tmp_path / "a.nii", np.full((4, 4, 2), -1), grid)
    with pytest.raises(ImageError, match="a PNG holds one slice.*seg.nrrd"):
        write_mask(tmp_path / "a.png", np.zeros((4, 4, 2), bool), grid)
    with pytest.raises(ImageError, match="DICOM SEG without its source.*nii.gz"):
        write_mask(tmp_path / "a.dcm", np.ones((4, 4, 2), bool), grid)


# moving masks between aligned grids

def test_onto_grid_moves_flips_crops_and_pads(rng):
    base = oblique_grid((6, 7, 8))
    mask = np.zeros(base.shape, np.uint8)
    mask[2:4, 3:5, 4:6] = rng.integers(1, 9, (2, 2, 2))
    part = Grid((3, 4, 3), np.array(base.affine) @ np.array([[1, 0, 0, 2], [0, 1, 0, 2], [0, 0, 1, 4], [0, 0, 0, 1]]))
    cropped = onto_grid(mask, base, part)
    assert np.array_equal(cropped, mask[2:5, 2:6, 4:7])
    move, turned = grid_with_codes(part, ("S", "L", "P"))
    assert np.array_equal(onto_grid(move.array(cropped), turned, base), mask)


def test_onto_grid_refuses(tmp_path):
    base = oblique_grid()
    half = np.eye(4)
    half[0, 3] = 0.5
    shifted = Grid(base.shape, base.affine @ half)
    with pytest.raises(ImageError, match="mask is not aligned with the image.*Resample"):
        onto_grid(np.ones(base.shape, bool), shifted, base)
    coarse = Grid(base.shape, np.array(base.affine) @ np.diag([1.0, 1.0, 1.1, 1.0]))
    with pytest.raises(ImageError, match="not aligned"):
        onto_grid(np.ones(base.shape, bool), coarse, base)
    away = Grid(base.shape, np.array(base.affine) @ np.array([[1, 0, 0, 3], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    with pytest.raises(ImageError, match="mask reaches beyond the image: got 126 voxels outside"):
        onto_grid(np.ones(base.shape, bool), away, base)
    path = write_mask(tmp_path / "m.nii.gz", np.ones(base.shape, bool), shifted)
    with pytest.raises(ImageError, match="m.nii.gz is not aligned"):
        read_mask(path, reference=base)
