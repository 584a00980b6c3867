"""Training of the small masked language model that completes "The typical color of a polyp is [MASK].".

Masking as in BERT (Devlin et al., NAACL 2019, section 3.1), and always the word that a sentence is about; whole words
are tokens. What is held out, see :mod:`promptzoo.text.attributes.facts`.
"""
from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Mapping

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys
from torch.utils.data import Dataset

from promptzoo.core.seeding import generator
from promptzoo.text.attributes.facts import KINDS, WAYS, cloze_way, facts, plain_sentences, vocabulary
from promptzoo.text.attributes.knowledge import hugging_face
from promptzoo.training.step import optimise

LONGEST = 32
"""Tokens of a sentence; longer ones are cut."""
OTHERS_MASKED = 0.1
IGNORED = -100


def word_tokenizer(folder: str | Path) -> Any:
    """A BERT tokenizer of whole words for the sentences of :mod:`promptzoo.text.attributes.facts`; its vocabulary is
    written into ``folder``, which is created."""
    transformers = hugging_face("a masked language model")
    known = facts()
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    (place / "vocab.txt").write_text("\n".join(vocabulary(known, plain_sentences(known))) + "\n", encoding="utf-8")
    return transformers.BertTokenizer(str(place / "vocab.txt"))


def small_bert(words: int, hidden: int = 128, layers: int = 2, initial: str = "") -> Any:
    """A ``BertForMaskedLM`` of transformers for ``words`` tokens, 0.6 million parameters for 2300; with ``initial``
    the one in that folder."""
    transformers = hugging_face("a masked language model")
    if initial:
        return transformers.BertForMaskedLM.from_pretrained(initial).float()
    return transformers.BertForMaskedLM(transformers.BertConfig(
        vocab_size=words, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=4,
        intermediate_size=2 * hidden, max_position_embeddings=LONGEST, type_vocab_size=1, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, initializer_range=hidden ** -0.5))


class SentenceDataset(Dataset):
    """Masked sentences: ``input_ids``, ``attention_mask`` and ``labels``, ``[32]`` int64; -100 where none is asked.

    Args:
        tokenizer: see :func:`word_tokenizer`.
        length: number of items; item ``n`` is always the same.
        seed: of all draws.
        plain: share of sentences that are no facts.
    """

    def __init__(self, tokenizer: Any, length: int, seed: int = 0, plain: float = 0.25) -> None:
        self.tokenizer, self.length, self.seed, self.plain = tokenizer, length, seed, plain
        known = facts()
        self.sentences = plain_sentences(known)
        self.facts = [fact for fact in known if not fact.held_out]
        self._about = [[fact for fact in self.facts if fact.attribute == attribute] for attribute in KINDS]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng, mask, about = generator(self.seed, index), self.tokenizer.mask_token, None
        if rng.random() < self.plain:
            text = self.sentences[int(rng.integers(len(self.sentences)))]
        else:
            alike = self._about[int(rng.integers(len(self._about)))]
            fact = alike[int(rng.integers(len(alike)))]
            ways = (*WAYS, cloze_way(fact.attribute))
            weight = 1 / np.arange(1, len(fact.words) + 1)
            about = str(rng.choice(fact.words, p=weight / weight.sum()))
            text = fact.said(ways[int(rng.integers(len(ways)))], mask)
        ids = np.array(self.tokenizer(text)["input_ids"][:LONGEST])
        labels = np.full(LONGEST, IGNORED)
        asked = ids == self.tokenizer.mask_token_id
        if about is not None:
            labels[:len(ids)][asked] = self.tokenizer.convert_tokens_to_ids(about)
        hidden = ~asked & (rng.random(len(ids)) < (OTHERS_MASKED if about else 2 * OTHERS_MASKED))
        hidden[[0, -1]] = False
        labels[:len(ids)][hidden] = ids[hidden]
        ids[hidden] = self.tokenizer.mask_token_id
        padded = np.full(LONGEST, self.tokenizer.pad_token_id)
        padded[:len(ids)] = ids
        return {"input_ids": torch.from_numpy(padded), "labels": torch.from_numpy(labels),
                "attention_mask": torch.from_numpy((np.arange(LONGEST) < len(ids)).astype(np.int64))}


class MaskedUpdate:
    """``iteration_update`` of ``monai.engines.SupervisedTrainer``: cross-entropy of the masked words.

    Args:
        clip_norm: bound of the gradient norm.
    """

    def __init__(self, clip_norm: float = 1.0) -> None:
        self.clip_norm = clip_norm

    def __call__(self, engine: Any, batchdata: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """Train on a batch of :class:`SentenceDataset`."""
        engine.network.train()
        longest = int(batchdata["attention_mask"].sum(1).max())
        given = {name: one[:, :longest].contiguous().to(engine.state.device) for name, one in batchdata.items()}
        bare, asked = getattr(engine.network, "module", engine.network), given["labels"] != IGNORED
        read = bare.bert(given["input_ids"], given["attention_mask"])[0][asked]  # the rest needs no words
        loss = torch.nn.functional.cross_entropy(bare.cls(read), given["labels"][asked])
        optimise(engine, loss, self.clip_norm)
        return {CommonKeys.LOSS: float(loss.detach()), "dice_per_round": []}


class SaveFolder:
    """Write a network of transformers with its tokenizer after every epoch, in half precision.

    Args:
        network, tokenizer: what to save.
        folder: where to; it is created.
    """

    def __init__(self, network: Any, tokenizer: Any, folder: str) -> None:
        self.network, self.tokenizer, self.folder = network, tokenizer, folder

    def attach(self, engine: Engine) -> None:
        """Save at the end of each epoch."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the folder now."""
        copy.deepcopy(self.network).half().save_pretrained(self.folder)
        self.tokenizer.save_pretrained(self.folder)
