"""``promptzoo words``: how a text is read."""
import json


def test_a_text_is_shown_as_it_is_read(run):
    told = json.loads(run("words", "left kidny but not the cyst", "--json").stdout)
    assert [(m["role"], m["id"], m["how"]) for m in told["matches"]][0] == ("wanted", "kidney_left", "fuzzy")
    assert told["matches"][0]["parent"] == "kidney" and told["question"] == ""
    assert any(m["role"] == "left out" for m in told["matches"])
    assert "left kidney" in run("words", "left kidny").stdout


def test_questions_have_an_exit_code(run):
    assert "qwertz" in run("words", "qwertz", code=2).stderr
    told = json.loads(run("words", "qwertz", "--json", code=2).stdout)
    assert told["matches"] == [] and "qwertz" in told["question"]


def test_for_the_classes_of_a_bundle(run, make_bundle, bundles):
    make_bundle("organs_3d", 3, prompts=["text"], label={"type": "segmentation", "labels": ["liver", "Kidney (L)"]})
    told = json.loads(run("words", "left kidney", "--bundle", "organs_3d", "--json").stdout)
    assert told["matches"][0]["class"] == "Kidney (L)"
    assert "classes as which solid_3d reads words" in run("words", "liver", "--bundle", "solid_3d", code=5).stderr


def test_a_file_of_the_hospital(run, tmp_path):
    file = tmp_path / "ours.json"
    file.write_text(json.dumps({"region": "our_house", "concepts": [
        {"id": "liver", "everyday": ["Leber"]}, {"id": "dialysis_shunt", "name": "dialysis shunt", "lateral": True}]}))
    told = json.loads(run("words", "Leber and left dialysis shunt", "--lexicon", file, "--json").stdout)
    assert [m["id"] for m in told["matches"]] == ["liver", "dialysis_shunt_left"]
    file.write_text(json.dumps({"region": "our_house", "concepts": [{"id": "Not An Id"}]}))
    assert "lexicon file ours.json" in run("words", "--lexicon", file, code=2).stderr


def test_the_lexicon_is_counted(run):
    told = json.loads(run("words", "--json").stdout)
    assert sum(region["concepts"] for region in told.values()) >= 300 and "abdomen" in told
    assert "words and phrases" in run("words").stdout
