"""Finished cases are files: which they are, and when they were written."""
import os

from promptzoo.inference.reference_cases import ROOT_VARIABLE, stamps, written
from promptzoo.prompts.types import Point, PromptSet, ReferencePrompt


def test_a_case_that_is_written_anew_is_another(tmp_path, monkeypatch):
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    for name in ("a.png", "m.png"):
        (tmp_path / name).write_bytes(b"x")
    prompts = PromptSet((ReferencePrompt("a.png", "m.png", 1), Point((0, 0, 0))))
    before = written(prompts)
    assert before and written(prompts) == before and not written(PromptSet((Point((0, 0, 0)),)))
    os.utime(tmp_path / "m.png", ns=(7, 7))
    assert written(prompts) != before and stamps(prompts.prompts[0])[1] == 7
    (tmp_path / "m.png").unlink()
    assert stamps(prompts.prompts[0])[1] == 0
    assert stamps(ReferencePrompt("../etc/passwd", "m.png", 1)) == (0, 0), "nothing beyond the folder is looked at"
