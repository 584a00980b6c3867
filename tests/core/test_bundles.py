"""Reading bundle folders: what is found, and what is said about broken ones."""
import subprocess
import sys

import pytest

from promptzoo.core.bundles import block_problems, find_bundles, get_bundle, read_bundle
from promptzoo.core.errors import BundleError, NotFoundError


def test_a_bundle_is_read(tmp_path, write_bundle):
    path = write_bundle(tmp_path)
    (path / "configs" / "train.json").write_text("{}")
    bundle = get_bundle("toy", tmp_path)
    assert (bundle.name, bundle.version, bundle.title, bundle.dimensions) == ("toy", "0.1.0", "A toy", 2)
    assert bundle.prompts == ("point", "box") and bundle.not_for == ("Not a medical device.",)
    assert bundle.weights_path == path / "models" / "model.pt"
    assert list(bundle.variants()) == ["pe-med"] and bundle.results() == {} and bundle.exemptions == {}
    assert bundle.config("train") == path / "configs" / "train.json"
    assert get_bundle(path).path == read_bundle(path).path == path
    assert [b.name for b in find_bundles(tmp_path)] == ["toy"]


def test_unknown_names_come_with_near_matches(tmp_path, write_bundle):
    write_bundle(tmp_path, "interactive_refinement_2d")
    with pytest.raises(NotFoundError, match="Did you mean interactive_refinement_2d"):
        get_bundle("interactive_refinment", tmp_path)
    bundle = get_bundle("interactive_refinement_2d", tmp_path)
    with pytest.raises(NotFoundError, match="variant of bundle .*: got pe_med; allowed: pe-med.* Did you mean pe-med"):
        bundle.variant("pe_med")
    with pytest.raises(NotFoundError, match="config of bundle .*: got serve; allowed: none"):
        bundle.config("serve")


@pytest.mark.parametrize("change, line", [
    ({"task": "segment"}, r"task: 'segment' is not one of \['segmentation'"),
    ({"prompts": ["click"]}, r"prompts\.0: 'click' is not one of \['point'"),
    ({"dimensions": 4}, r"dimensions: 4 is not one of \[2, 3\]"),
    ({"dimension": 2}, "'dimension' was unexpected"),
    ({"weights": {"kind": "shipped", "trained_on": "x", "licence": "y"}}, "weights: 'file' is a required property"),
    ({"systems": {"pe-med": "done"}}, r"systems\.pe-med: 'done' is not one of"),
    ({"exemptions": {"export": "no"}}, "exemptions.export: 'no' is too short"),
    ({"not_for": []}, r"not_for: \[\] is too short"),
])
def test_a_bad_block_is_named(change, line, tmp_path, write_bundle):
    path = write_bundle(tmp_path, **change)
    with pytest.raises(BundleError, match=line):
        read_bundle(path)


def test_a_bundle_without_weights_needs_no_file(block):
    block = {**block, "weights": {"kind": "none", "trained_on": "nothing", "licence": "none"}}
    assert block_problems({"promptzoo": block}) == []
    assert block_problems({}) == ["top level: the promptzoo block is missing"]


@pytest.mark.parametrize("text, line", [
    ("{", "not JSON: got .*line 1 column 2"),
    ("[]", "a list; allowed: a JSON object"),
])
def test_a_broken_bundle_does_not_take_the_others_with_it(text, line, tmp_path, caplog, write_bundle):
    write_bundle(tmp_path, "good")
    bad = write_bundle(tmp_path, "bad")
    (bad / "configs" / "metadata.json").write_text(text)
    assert [b.name for b in find_bundles(tmp_path)] == ["good"]
    assert "bundle left out" in caplog.text
    with pytest.raises(BundleError, match=line):
        get_bundle("bad", tmp_path)


def test_reading_bundles_needs_no_torch(tmp_path, write_bundle):
    write_bundle(tmp_path)
    code = ("import sys; from promptzoo.core.catalog import catalog_rows; rows = catalog_rows(sys.argv[1]); "
            "print(len(rows), sorted({'torch', 'monai'} & set(sys.modules)))")
    answer = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert answer.stdout.split(maxsplit=1) == ["249", "[]\n"]
