"""What is computed before the prompts are known is computed once."""
from types import SimpleNamespace

import numpy as np
import pytest

from promptzoo.core.errors import BundleError, NotFoundError
from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.data.phantoms import torso_ct
from promptzoo.inference import load_predictor
from promptzoo.inference.kept import KeptPart, keep_ahead
from promptzoo.prompts import ClassPrompt, PromptSet


class Counted:
    """Doubles arrays, and counts."""

    def __init__(self, alone=False):
        self.calls, self.alone = 0, alone

    def __call__(self, *arrays):
        self.calls += 1
        return 2 * arrays[0] if self.alone else [2 * one for one in arrays]


@pytest.mark.parametrize("alone", [True, False])
def test_an_answer_is_computed_once(tmp_path, alone):
    part, asked = Counted(alone), [np.arange(6, dtype=np.float16).reshape(2, 3), np.ones((1, 2), np.float32)]
    first = KeptPart(part, tmp_path, "net 1")(*asked)
    kept = KeptPart(part, tmp_path, "net 1")
    again = kept(*asked)
    assert part.calls == 1 and isinstance(again, np.ndarray) == alone
    for one, other in zip([first] if alone else first, [again] if alone else again, strict=True):
        assert one.dtype == other.dtype and np.array_equal(one, other)
    assert [file.stat().st_size for file in kept.used] == list(kept.used.values())
    assert not list(tmp_path.rglob(".part-*"))


def test_other_weights_and_other_images_are_computed(tmp_path):
    part, asked = Counted(), np.zeros((2, 3), np.float32)
    KeptPart(part, tmp_path, "net 1")(asked)
    for stamp, array in (("net 2", asked), ("net 1", asked + 1), ("net 1", asked.reshape(3, 2)),
                         ("net 1", asked.astype(np.int32))):
        before = part.calls
        KeptPart(part, tmp_path, stamp)(array)
        assert part.calls == before + 1


def test_a_reader_keeps_nothing(tmp_path):
    part, asked = Counted(), np.ones(4, np.float32)
    reader = KeptPart(part, tmp_path, "net", grow=False)
    assert np.array_equal(reader(asked)[0], 2 * asked) and not list(tmp_path.iterdir()) and not reader.used
    KeptPart(part, tmp_path, "net")(asked)
    assert np.array_equal(reader(asked)[0], 2 * asked) and part.calls == 2 and reader.used


def test_a_broken_file_is_written_anew(tmp_path):
    part, asked = Counted(), np.ones(4, np.float32)
    KeptPart(part, tmp_path, "net")(asked)
    file = next(tmp_path.rglob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:20])
    for _ in range(2):
        assert np.array_equal(KeptPart(part, tmp_path, "net")(asked)[0], 2 * asked)
    assert part.calls == 2


def test_a_predictor_that_needs_prompts_first_is_refused(tmp_path):
    with pytest.raises(BundleError, match="what clicks computes depends on the prompts"):
        keep_ahead(SimpleNamespace(), tmp_path, "clicks 1.0")


@pytest.mark.parametrize("bundle, name", [("text_universal_seg", "liver"), ("sam_peft_organs", "liver"),
                                          ("prompt_tuned_seg", ""), ("learnable_task_prompt", "liver")])
def test_bundles_answer_from_files_as_they_computed(bundle, name, tmp_path, monkeypatch):
    volume = torso_ct(1, (48, 40, 24), (8.0, 8.0, 8.0))[0]
    volume = Volume(volume.data[..., 10:13], Grid((48, 40, 3), volume.grid.affine)) if bundle != "text_universal_seg" \
        else volume
    plain = load_predictor(bundle, engine="torch")
    prompts = PromptSet((ClassPrompt(name or plain.classes[0]),))
    wanted = plain.decode(plain.encode(volume), prompts).objects[0]
    load_predictor(bundle, engine="torch", embeddings=tmp_path).decode(plain.encode(volume), prompts)
    monkeypatch.setenv("PROMPTZOO_EMBEDDINGS", str(tmp_path))
    later = load_predictor(bundle, engine="torch")
    kept = getattr(later, later.ahead_part)
    monkeypatch.setattr(kept, "part", lambda *_: pytest.fail("computed again"))
    found = later.decode(later.encode(volume), prompts).objects[0]
    assert np.array_equal(found.probability, wanted.probability) and kept.used


def test_a_folder_that_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMPTZOO_EMBEDDINGS", str(tmp_path / "none"))
    with pytest.raises(NotFoundError, match="folder of embeddings"):
        load_predictor("text_universal_seg", engine="torch")
