"""Training of the masked language model: items, a step that learns, a folder that the cloze loads."""
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import default_collate

from promptzoo.text.attributes.facts import facts
from promptzoo.text.attributes.knowledge import MaskedLanguageCloze
from promptzoo.training.masked_language import (
    IGNORED,
    LONGEST,
    MaskedUpdate,
    SaveFolder,
    SentenceDataset,
    small_bert,
    word_tokenizer,
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return word_tokenizer(tmp_path_factory.mktemp("words"))


def test_items_repeat_know_every_word_and_leave_out_what_is_held_out(tokenizer):
    data = SentenceDataset(tokenizer, 50, 3)
    assert not any(fact.held_out for fact in data.facts) and len(data.facts) < len(facts())
    for number in range(50):
        item = data[number]
        asked = item["labels"] != IGNORED
        assert {one.shape for one in item.values()} == {(LONGEST,)}
        assert (item["input_ids"][asked] == tokenizer.mask_token_id).all()
        assert not (item["input_ids"] == tokenizer.unk_token_id).any()
        assert not (item["labels"] == tokenizer.unk_token_id).any()
    assert torch.equal(data[7]["labels"], SentenceDataset(tokenizer, 50, 3)[7]["labels"])


def test_a_few_steps_learn_and_the_folder_is_a_cloze(tokenizer, tmp_path):
    torch.manual_seed(0)
    network, data = small_bert(len(tokenizer), 16, 1), SentenceDataset(tokenizer, 16)
    batch, losses = default_collate([data[n] for n in range(16)]), []
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    engine = SimpleNamespace(network=network, optimizer=optimizer, state=SimpleNamespace(device="cpu", iteration=1),
                             fire_event=lambda event: None)
    for _ in range(20):
        losses.append(MaskedUpdate()(engine, batch)["loss"])
    assert losses[-1] < 0.7 * losses[0]
    SaveFolder(network, tokenizer, str(tmp_path / "model"))(None)
    cloze = MaskedLanguageCloze(str(tmp_path / "model"))
    chances = cloze.chances(f"The typical color of polyp is {cloze.mask}.")
    assert sum(chance for _, chance in chances) == pytest.approx(1, abs=0.1)
    assert len(cloze.fill("size", "polyp", 2)) == 2
    assert MaskedLanguageCloze(str(tmp_path / "model"), least=0.9).fill("size", "polyp", 2) == []
