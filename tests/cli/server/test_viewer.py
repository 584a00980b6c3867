"""The advice that the panel asks for when a case opens."""
import json
from functools import partial

import pytest

pytest.importorskip("fastapi", reason="the server needs the extra label")

from fastapi import FastAPI  # noqa: E402
from fastapi.testclient import TestClient  # noqa: E402

from promptzoo.cli.server.problems import install  # noqa: E402
from promptzoo.cli.server.viewer import viewer_router  # noqa: E402
from promptzoo.core.bundles import get_bundle  # noqa: E402


def nothing_left(strategy, user):
    """A worklist that is done."""
    return {"id": None, "reason": f"nothing for {user} by {strategy}"}


@pytest.fixture
def ask(service, image_file):
    """A function that asks for advice, or for another path; the bundle of volumes has some."""
    docs = service.bundles["clicks_3d"].path / "docs"
    docs.mkdir()
    entry = {"condition": "box +5%", "prompt": "box", "count": 1, "clicks": 2, "margin": 0.05, "dice": 0.81, "n": 12}
    (docs / "advice.json").write_text(json.dumps({"all": {"n": 3, "reason": "too few cases: 3"},
                                                  "modality": {"X-ray": {"n": 12, "recommended": entry}}, "organ": {}}))
    app = FastAPI()
    app.include_router(viewer_router("0", lambda: service.bundles, dict, nothing_left, None,
                                     lambda image: service.images.open(image_file).grid))
    install(app)
    client = TestClient(app)

    def get(code=200, path="advice", **query):
        answer = client.get(f"/promptzoo/viewer/{path}", params=query)
        assert answer.status_code == code, answer.text
        return answer.json()

    return get


def test_advice_is_served_by_modality(ask):
    told = ask(bundle="clicks_3d", modality="DX")
    assert told["recommended_prompt"] == "box" and told["expected_dice"] == 0.81 and told["n"] == 12
    assert told["reason"] == "box +5%: Dice 0.81 on 12 objects, modality X-ray" and told["margin"] == 0.05
    nothing = ask(bundle="clicks_3d", modality="MR")
    assert nothing["recommended_prompt"] is None and "enough objects" in nothing["reason"]
    assert ask(bundle="clicks_2d", modality="DX")["recommended_prompt"] is None


def test_auto_is_the_bundle_that_fits_the_image(ask):
    told = ask(modality="CR", image="scan")
    assert told["bundle"] == "clicks_3d" and told["recommended_prompt"] == "box"
    assert "bundle: got auto" in ask(404)["detail"]["reason"]
    assert "clicks_2d" in ask(404, bundle="nope")["detail"]["reason"]


def test_words_are_read_for_the_bundle_that_knows_them(ask, service):
    metadata = service.bundles["clicks_3d"].path / "configs" / "metadata.json"
    told = json.loads(metadata.read_text())
    told["promptzoo"] |= {"prompts": ["text"],
                          "label": {"type": "segmentation", "labels": ["kidney left", "kidney right"]}}
    metadata.write_text(json.dumps(told))
    service.bundles["clicks_3d"] = get_bundle(metadata.parents[1])
    read = partial(ask, path="words")
    assert read(text="both kidneys", image="scan") == {
        "bundle": "clicks_3d", "names": ["left kidney", "right kidney"], "note": "", "question": "", "candidates": []}
    assert "was read as left kidney" in read(text="left kidny", bundle="clicks_3d")["note"]
    unclear = read(text="qwertz")
    assert unclear["names"] == [] and "qwertz" in unclear["question"]
    assert read(text="kidney stone or cyst")["question"]
    assert "nope" in read(404, text="kidney", bundle="nope")["detail"]["reason"]
    told["promptzoo"]["extra"] = {"reads_sentences": True}
    metadata.write_text(json.dumps(told))
    service.bundles["clicks_3d"] = get_bundle(metadata.parents[1])
    assert read(text=" upper left kidney, one cyst ", bundle="clicks_3d")["names"] == ["upper left kidney, one cyst"]


def test_the_next_case_is_that_of_a_user(ask):
    told = ask(path="next", strategy="entropy", user="anna")
    assert told["image"] is None and told["reason"] == "nothing for anna by entropy"
