"""The embedded DICOMweb store without HTTP: index, search, frames of every kind, storing, safety."""
import json
import os
import threading
from io import BytesIO
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from promptzoo.cli.server.studies import prepare_studies
from promptzoo.core.errors import ConflictError, ImageError, NotFoundError
from promptzoo.data.dicomweb.errors import QueryError, UnsupportedMediaError
from promptzoo.data.dicomweb.model import bulk_value, element, json_of
from promptzoo.data.dicomweb.multipart import read_multipart, write_multipart
from promptzoo.data.dicomweb.query import matches, parse_query
from promptzoo.data.dicomweb.store import DicomStore

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "dicom"
real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real series in {REAL}")

CT, SEG = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.66.4"


def image(uid="1.2.3.1", series="1.2.3", study="1.2", rows=3, columns=5, **values):
    """A small CT slice whose pixels count up; all identifiers given."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = CT
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = uid
    data.StudyInstanceUID, data.SeriesInstanceUID, data.Modality = study, series, "CT"
    data.PatientID, data.PatientName, data.StudyDate, data.StudyTime = "P1", "Doe^Jane", "20240115", "101530"
    data.InstanceNumber, data.SeriesNumber = int(uid.split(".")[-1]), 1
    data.Rows, data.Columns, data.SamplesPerPixel, data.PhotometricInterpretation = rows, columns, 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    data.PixelData = np.arange(rows * columns, dtype="<u2").tobytes()
    for key, value in values.items():
        setattr(data, key, value)
    return data


def save(data, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=options.pop("enforce_file_format", True), **options)
    return path


def as_bytes(data):
    buffer = BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def find(store, level="study", within=(), **filters):
    return store.search(level, parse_query(filters.items()), *within)


def uids(found, tag="0020000D"):
    return [one[tag]["Value"][0] for one in found]


@pytest.fixture
def store(tmp_path):
    """Two studies: CT of three slices with a mask, and an MR slice; searches look at the folder every time."""
    for number in (2, 1, 3):
        save(image(f"1.2.3.{number}"), tmp_path / "s" / "ct" / f"{number}.dcm")
    save(image("1.2.4.1", "1.2.4", SOPClassUID=SEG, Modality="SEG", SeriesNumber=9), tmp_path / "s" / "mask.dcm")
    save(image("1.9.1.1", "1.9.1", "1.9", PatientName="Roe^Rick", PatientID="P2", Modality="MR", StudyDate="20230301"),
         tmp_path / "s" / "no suffix")
    (tmp_path / "s" / "notes").write_text("not DICOM")
    return DicomStore(tmp_path / "s", rescan_s=0)


def test_levels_and_counts(store):
    studies = find(store)
    assert uids(studies) == ["1.2", "1.9"]  # the latest first
    assert studies[0]["00080061"]["Value"] == ["CT", "SEG"]
    assert (studies[0]["00201206"]["Value"], studies[0]["00201208"]["Value"]) == ([2], [4])
    assert studies[0]["00100010"]["Value"] == [{"Alphabetic": "Doe^Jane"}]
    assert uids(find(store, "series"), "0020000E") == ["1.2.3", "1.2.4", "1.9.1"]
    series = find(store, "series", ("1.2",))
    assert [s["00201209"]["Value"] for s in series] == [[3], [1]] and "00100010" not in series[0]
    assert uids(find(store, "instance", ("1.2", "1.2.3")), "00080018") == ["1.2.3.1", "1.2.3.2", "1.2.3.3"]
    assert find(store, "series", ("no such",)) == [] and store.skipped == {}


@pytest.mark.parametrize("filters, found", [
    ({"PatientName": "doe*"}, ["1.2"]), ({"00100010": "ROE"}, ["1.9"]), ({"PatientID": "P?"}, ["1.2", "1.9"]),
    ({"PatientID": "p1"}, []), ({"StudyDate": "20240101-"}, ["1.2"]), ({"StudyDate": "-20231231"}, ["1.9"]),
    ({"StudyDate": "20230301-20240115"}, ["1.2", "1.9"]), ({"ModalitiesInStudy": "SEG"}, ["1.2"]),
    ({"ModalitiesInStudy": "MR\\SEG"}, ["1.2", "1.9"]), ({"StudyInstanceUID": "1.9,1.7"}, ["1.9"]),
    ({"StudyInstanceUID": "1.*"}, []), ({"Modality": "MR"}, ["1.9"]), ({"limit": "1"}, ["1.2"]),
    ({"limit": "1", "offset": "1"}, ["1.9"]), ({"offset": "2"}, []), ({"fuzzymatching": "true"}, ["1.2", "1.9"]),
    ({"PatientName": "*"}, ["1.2", "1.9"]), ({"AccessionNumber": ""}, ["1.2", "1.9"]),
    ({"AccessionNumber": "A1"}, []), ({"PatientWeight": "70"}, ["1.2", "1.9"])])
def test_filters(store, filters, found):
    assert uids(find(store, **filters)) == found


def test_include_fields(store):
    one, = find(store, "instance", ("1.2", "1.2.3"), InstanceNumber="2", includefield="00280102,PatientName")
    assert one["00280102"] == {"vr": "US", "Value": [15]}  # not in the index
    assert one["00100010"]["Value"][0]["Alphabetic"] == "Doe^Jane"
    assert "00100010" in find(store, "instance", ("1.2", "1.2.3"), includefield="all")[0]


@pytest.mark.parametrize("pair", [("NoSuchThing", "1"), ("limit", "-1"), ("offset", "x"), ("includefield", "Nothing")])
def test_queries_that_make_no_sense(pair):
    with pytest.raises(QueryError, match=f"{pair[1]}|{pair[0]}"):
        parse_query([pair])


@pytest.mark.parametrize("keyword, values, wanted, expected", [
    ("StudyTime", ["101530.5"], "1000-1100", True), ("StudyTime", ["235900"], "1000-1100", False),
    ("StudyTime", ["101530"], "10:15-10:16", True), ("SeriesNumber", [3], "3", True), ("Rows", [512], "256", False),
    ("SeriesDescription", ["T1 (axial)"], "T1 (*", True), ("SeriesDescription", [], "x", False)])
def test_matching(keyword, values, wanted, expected):
    tag = f"{pydicom.datadict.tag_for_keyword(keyword):08X}"
    assert matches(element(keyword, *values), tag, wanted) is expected


def test_metadata_has_addresses_for_bulk_and_no_pixels(store):
    path = store.folder / "ct" / "1.dcm"
    data = pydicom.dcmread(path)
    block = data.private_block(0x0099, "TEST", create=True)
    block.add_new(1, "OB", b"x" * 6000)
    block.add_new(2, "OB", b"small")
    data.ReferencedImageSequence = [Dataset()]
    data.ReferencedImageSequence[0].add_new(0x00420011, "OB", b"y" * 5000)
    save(data, path)
    store.refresh()
    one = store.instances("1.2", "1.2.3", "1.2.3.1")[0]
    told = store.metadata(one, "http://x/dicom-web")
    root = "http://x/dicom-web/studies/1.2/series/1.2.3/instances/1.2.3.1/bulkdata"
    assert told["7FE00010"] == {"vr": "OW", "BulkDataURI": f"{root}/7FE00010"}
    assert told["00991001"]["BulkDataURI"] == f"{root}/00991001" and "InlineBinary" in told["00991002"]
    assert told["00081140"]["Value"][0]["00420011"]["BulkDataURI"] == f"{root}/00081140/1/00420011"
    assert b"".join(store.bulk(one, "00991001")) == b"x" * 6000
    assert b"".join(store.bulk(one, "00081140/1/00420011")) == b"y" * 5000
    assert b"".join(store.bulk(one, "7FE00010")) == data.PixelData
    for nothing in ("00100010", "00081140/2/00420011", "zz", "00081140/1"):
        with pytest.raises(NotFoundError, match="bulk data"):
            store.bulk(one, nothing)
    assert told["00083002"]["Value"] == [str(ExplicitVRLittleEndian)]


def test_values_that_break_the_rules_cost_themselves_only(tmp_path):
    data = image()
    data.StationName = "A station name that is too long"
    data.add_new(0x00181310, "FD", float("nan"))
    path = save(data, tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes().replace(b"IS\x02\x001 ", b"IS\x02\x00x ", 1))  # SeriesNumber
    store = DicomStore(tmp_path)
    told = store.metadata(store.instances("1.2")[0])
    assert told["00081010"]["Value"] == ["A station name that is too long"]
    json.dumps(told, allow_nan=False)
    assert "00200011" not in told and "00200013" in told
    assert json_of(data)["00181310"]["Value"] == [None]
    assert bulk_value(data, "00100010") is None


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian,
                                    DeflatedExplicitVRLittleEndian])
def test_native_frames(syntax, tmp_path):
    pixels = np.arange(4 * 3 * 5).reshape(4, 3, 5)
    data = image(NumberOfFrames=4, PixelData=pixels.astype("<u2").tobytes())
    data.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        data["PixelData"].value = pixels.astype(">u2").tobytes()
    path = tmp_path / "a.dcm"
    pydicom.dcmwrite(path, data, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian,
                     enforce_file_format=True)
    store = DicomStore(tmp_path)
    one = store.instances("1.2")[0]
    told, frames = store.frames(one, [3, 1])
    order = ">u2" if syntax == ExplicitVRBigEndian else "<u2"
    assert told == (ExplicitVRLittleEndian if syntax == DeflatedExplicitVRLittleEndian else syntax)
    assert [np.frombuffer(f, order).tolist() for f in frames] == [pixels[n].ravel().tolist() for n in (2, 0)]
    for missing in ([0], [5], [1, 5]):
        with pytest.raises(NotFoundError, match="frame.*1 … 4"):
            store.frames(one, missing)


def test_frames_of_one_bit_are_cut_between_bits(tmp_path):
    pixels = np.random.default_rng(3).integers(0, 2, (5, 3, 5), dtype=np.uint8)
    data = image(NumberOfFrames=5, BitsAllocated=1, BitsStored=1, HighBit=0, SOPClassUID=SEG, Modality="SEG")
    packed = np.packbits(pixels.ravel(), bitorder="little").tobytes()
    data.PixelData = packed + b"\0" * (len(packed) % 2)
    save(data, tmp_path / "a.dcm")
    store = DicomStore(tmp_path)
    _, frames = store.frames(store.instances("1.2")[0], [1, 2, 3, 4, 5])
    for wanted, frame in zip(pixels, frames, strict=True):
        assert np.unpackbits(np.frombuffer(frame, np.uint8), bitorder="little")[:15].tolist() == wanted.ravel().tolist()


def test_compressed_frames_are_given_as_they_are(tmp_path):
    data = image(NumberOfFrames=2)
    data.file_meta.TransferSyntaxUID = RLELossless
    data.PixelData = encapsulate([b"first frame.", b"second one"])
    data["PixelData"].VR = "OB"
    save(data, tmp_path / "a.dcm")
    store = DicomStore(tmp_path)
    syntax, frames = store.frames(store.instances("1.2")[0], [2, 1])
    assert syntax == RLELossless and list(frames) == [b"second one", b"first frame."]


def test_objects_without_pixels_and_short_files(tmp_path):
    short = image()
    short.PixelData = short.PixelData[:20]
    save(short, tmp_path / "short.dcm")
    report = image("1.2.5.1", "1.2.5", Modality="SR")
    del report.Rows, report.PixelData
    save(report, tmp_path / "sr.dcm")
    store = DicomStore(tmp_path)
    with pytest.raises(ImageError, match="too short.*20 bytes"):
        store.frames(store.instances("1.2", "1.2.3")[0], [1])
    one = store.instances("1.2", "1.2.5")[0]
    with pytest.raises(NotFoundError, match="SR without pixels"):
        store.frames(one, [1])
    assert "7FE00010" not in store.metadata(one)


def test_a_file_without_preamble_is_completed(tmp_path):
    data = image()
    del data.file_meta
    data.save_as(tmp_path / "a.dcm", implicit_vr=True, little_endian=True, enforce_file_format=False)
    store = DicomStore(tmp_path)
    sent = pydicom.dcmread(BytesIO(b"".join(store.file(store.instances("1.2")[0]))))
    assert sent.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian and sent.PixelData == data.PixelData
    assert len(list(store.frames(store.instances("1.2")[0], [1])[1])[0]) == 30


def test_files_are_found_and_forgotten(store):
    save(image("1.5.1.1", "1.5.1", "1.5"), store.folder / "new" / "a.dcm")
    assert "1.5" in uids(find(store))
    (store.folder / "new" / "a.dcm").unlink()
    assert "1.5" not in uids(find(store))
    with pytest.raises(NotFoundError, match="study in the store.*1.5.*search lists"):
        store.instances("1.5")
    changed = store.folder / "ct" / "1.dcm"
    save(image("1.2.3.1", PatientName="New^Name"), changed)
    assert uids(find(store, PatientName="New")) == ["1.2"]


def test_looks_are_debounced(store, monkeypatch):
    patient = DicomStore(store.folder, rescan_s=1000)
    assert len(find(patient)) == 2
    save(image("1.5.1.1", "1.5.1", "1.5"), store.folder / "a.dcm")
    assert len(find(patient)) == 2 and len(find(store)) == 3
    patient.refresh(force=True)
    assert len(find(patient)) == 3


def test_image_ids_are_those_of_the_server(tmp_path):
    for place in ("a.nii", "a.nii.gz", "sub/b c.nii", "sub/b_c.nii.gz", "labels/final/a.nii", "sub/labels/l.nii"):
        (tmp_path / "s" / place).parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4)), tmp_path / "s" / place)
    save(image(), tmp_path / "s" / "ct" / "1.dcm")
    store = DicomStore(tmp_path / "s")
    assert set(store.links()) == set(prepare_studies(tmp_path / "s").images)
    assert store.link("1.2.3").voxels is None and store.image_of("1.2.3") == "1.2.3"


def test_links_out_of_the_folder_are_not_followed(tmp_path):
    save(image(), tmp_path / "secret" / "a.dcm")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a.dcm").symlink_to(tmp_path / "secret" / "a.dcm")
    (tmp_path / "s" / "folder").symlink_to(tmp_path / "secret")
    store = DicomStore(tmp_path / "s")
    assert find(store) == [] and "leads out" in store.skipped["a.dcm"]


def test_stored_masks_and_images_have_their_places(store):
    mask = image("1.2.8.1", "1.2.8", Modality="SEG", SOPClassUID=SEG)
    one, new = store.store(as_bytes(mask), "1.2")
    assert new and one.path == store.folder / "labels" / "dicom" / "1.2.8.1.dcm"
    assert "1.2.8" in uids(find(store, "series", ("1.2",)), "0020000E")
    assert store.store(as_bytes(mask))[1] is False  # the same again
    picture, _ = store.store(as_bytes(image("1.2.3.4")))
    assert picture.path == store.folder / "received" / "1.2.3" / "1.2.3.4.dcm"
    assert not list(store.folder.rglob("*.part"))


def test_what_is_not_stored(store):
    before = sorted(store.folder.rglob("*"))
    with pytest.raises(ConflictError, match="SOPInstanceUID.*1.2.3.1.*new UID"):
        store.store(as_bytes(image("1.2.3.1", PatientName="Other")))
    with pytest.raises(ConflictError, match="study of a stored instance: got 1.2; allowed: 1.9"):
        store.store(as_bytes(image("1.2.3.7")), "1.9")
    whole = as_bytes(image("1.2.3.7"))
    with pytest.raises(ImageError, match="pixel data of a stored instance: got 25 bytes; allowed: 30"):
        store.store(whole[:-5])
    with pytest.raises(ImageError, match="of a stored instance|cannot be parsed"):
        store.store(whole[:400])
    with pytest.raises(ImageError, match="pixel data of a stored instance: got 20 bytes; allowed: 30"):
        store.store(as_bytes(image("1.2.3.7", PixelData=b"\0" * 20)))
    for data in (b"", b"no DICOM", whole[132:]):
        with pytest.raises(ImageError, match="DICM"):
            store.store(data)
    evil = as_bytes(image("1.2.3.7")).replace(b"1.2.3.7\0", b"../../e\0")
    with pytest.raises(ImageError, match="SOPInstanceUID of a stored instance: got ../../e"):
        store.store(evil)
    assert sorted(store.folder.rglob("*")) == before


def test_a_read_only_folder_has_its_masks_in_the_cache(store):
    os.chmod(store.folder, 0o555)
    try:
        mask = image("1.2.8.1", "1.2.8", Modality="SEG", SOPClassUID=SEG)
        one, _ = store.store(as_bytes(mask))
        assert not one.path.is_relative_to(store.folder) and one.path.name == "1.2.8.1.dcm"
        assert "1.2.8" in uids(find(DicomStore(store.folder), "series", ("1.2",)), "0020000E")
    finally:
        os.chmod(store.folder, 0o755)


def test_a_labels_folder_that_leads_away_is_not_written_to(store, tmp_path):
    (tmp_path / "away").mkdir()
    (store.folder / "labels").symlink_to(tmp_path / "away")
    one, _ = store.store(as_bytes(image("1.2.8.1", "1.2.8", Modality="SEG", SOPClassUID=SEG)))
    assert not list((tmp_path / "away").iterdir()) and not one.path.is_relative_to(store.folder)


def test_many_threads(store):
    nib.save(nib.Nifti1Image(np.arange(24 ** 3, dtype=np.int16).reshape(24, 24, 24), np.eye(4)), store.folder / "v.nii")
    link, failed = store.link("v"), []

    def work(number):
        try:
            for turn in range(5):
                store.store(as_bytes(image(f"1.2.8.{number * 10 + turn}", "1.2.8", Modality="SEG", SOPClassUID=SEG)))
                assert len(find(store)) == 3
                for one in store.instances(link.study_uid):
                    json.dumps(store.metadata(one))
                    assert len(list(store.frames(one, [1])[1])[0]) == 24 * 24 * 2
        except Exception as error:  # told below, in the thread that pytest watches
            failed.append(error)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and len(store.instances("1.2", "1.2.8")) == 20


def test_multipart_goes_both_ways(tmp_path):
    parts = [b"\r\n--almost", b"", bytes(range(256)) * 50, b"\r\n"]
    message = b"".join(write_multipart((("application/dicom", [p[:3], p[3:]]) for p in parts), "edge"))
    with (tmp_path / "m").open("wb+") as stream:
        stream.write(message)
        stream.flush()
        kind = 'multipart/related; type="application/dicom"; boundary="edge"'
        assert list(read_multipart(stream, kind)) == parts
        for wrong in ("application/json", "multipart/related; type=image/jpeg; boundary=edge", "multipart/related", ""):
            with pytest.raises(UnsupportedMediaError, match="content type"):
                list(read_multipart(stream, wrong))
        with pytest.raises(ImageError, match="no part"):
            list(read_multipart(stream, "multipart/related; boundary=other"))
        stream.truncate(len(message) - 12)
        with pytest.raises(ImageError, match="without its last line"):
            list(read_multipart(stream, kind))


@real
def test_real_files_are_all_served(tmp_path):
    store = DicomStore(REAL)
    store.refresh()
    series = {s["0020000E"]["Value"][0]: s for s in find(store, "series")}
    sts = [one for one in series.values() if "STS_002" in json.dumps(one)]
    assert len(store.skipped) <= 1 and len(series) >= 45 and len(sts) == 6
    assert sum(s["00201209"]["Value"][0] for s in sts) == 134
    for name in ("MR-SIEMENS-DICOM-WithOverlays.dcm", "eCT_Supplemental.dcm", "JPEG2000_UNC.dcm", "liver.dcm"):
        path = next(REAL.rglob(name))
        data = pydicom.dcmread(path)
        one = store.instances(data.StudyInstanceUID, data.SeriesInstanceUID, data.SOPInstanceUID)[0]
        json.dumps(store.metadata(one), allow_nan=False)
        assert b"".join(store.file(one)) == path.read_bytes()
        assert len(list(store.frames(one, [1])[1])) == 1
