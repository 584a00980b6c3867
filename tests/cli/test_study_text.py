"""``promptzoo study --text``: the lexicon, a bundle, and what it refuses."""
import json
import re
from pathlib import Path

import pytest

from promptzoo.cli.study_text import classes_of
from promptzoo.core.bundles import get_bundle
from promptzoo.core.errors import PromptZooError


def test_the_lexicon_alone(run):
    told = run("study", "--text", "lexicon", "--limit", "3", "--out", "o").stdout
    assert "lexicon: " in told and "two typos" in told and "everyday, with tower" in told
    stored = json.loads(Path("o", "text.json").read_text())
    assert stored["command"] == "promptzoo study --text lexicon --limit 3 --out o"
    assert stored["reading"]["concepts"] == 3 and stored["reading"]["kinds"]["name"]["right"] == 1


@pytest.mark.parametrize("arguments, message", [
    (("--text", "lexicon", "--variant", "x"), "with --text lexicon: got x; allowed: no datalist and no variant"),
    (("--text", "sam_box_finetune"), "prompts of sam_box_finetune: .*allowed: text, with classes"),
    ((), "study without: got DATALIST"), (("list.csv",), "study without: got --bundle")])
def test_unusable_requests(run, arguments, message):
    answer = run("study", *arguments, code=2)
    assert re.search(message, answer.stderr)


def test_classes_of_a_bundle_that_takes_text():
    assert "kidney left" in classes_of(get_bundle("sam_peft_organs"))
    with pytest.raises(PromptZooError, match="prompts of sam_3d"):
        classes_of(get_bundle("sam_3d"))
