"""What things are called and look like: a small file of concepts, and a cloze over its sentences or a masked LM."""
from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Mapping, Protocol, Sequence

from promptzoo.core.autoload import mend_imports
from promptzoo.core.errors import NotFoundError, PromptZooError, complain
from promptzoo.core.optional import require
from promptzoo.data.synthesis.attribute_words import GROUPS, group_of, meaning, tokens

ATTRIBUTES = ("colour", "shape", "texture", "size", "location", "tone")
"""What a cloze or a question can be about."""


@dataclass(frozen=True)
class Concept:
    """A thing: its name, other names, the everyday noun for it, attributes given by hand, sentences about it."""

    name: str
    aliases: tuple[str, ...]
    noun: str
    manual: Mapping[str, str]
    sentences: tuple[str, ...]


@cache
def concepts(path: str | None = None) -> tuple[Concept, ...]:
    """The concepts of ``appearance.json`` or of another file of its form.

    Raises:
        NotFoundError: if there is no such file.
        PromptZooError: if it has another form, or an attribute by hand is no word of that group.
    """
    place = Path(path) if path else Path(__file__).with_name("appearance.json")
    if not place.is_file():
        raise NotFoundError(complain("file of appearances", str(place), "an existing JSON file"))
    try:
        content = json.loads(place.read_text(encoding="utf-8"))["concepts"]
        found = tuple(Concept(name, tuple(told["aliases"]), told["noun"], dict(told["manual"]),
                              tuple(told["sentences"])) for name, told in content.items())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PromptZooError(complain(f"{place.name} is no file of appearances", f"{type(error).__name__}: {error}",
                                      "concepts with aliases, noun, manual and sentences")) from error
    for one in found:
        for attribute, word in one.manual.items():
            if attribute not in ATTRIBUTES or meaning(word) not in GROUPS[attribute]:
                raise PromptZooError(complain(f"{attribute} of {one.name}", word, ", ".join(GROUPS.get(attribute, ()))
                                              or "one of " + ", ".join(ATTRIBUTES)))
    return found


def concept_of(text: str, known: Sequence[Concept] | None = None) -> Concept | None:
    """The concept whose name or alias stands in a text, the longest if there are several; None if there is none."""
    said = f" {' '.join(tokens(text))} "
    hits = [(len(name), one) for one in (concepts() if known is None else known)
            for name in (one.name, *one.aliases) if f" {name} " in said]
    return max(hits, key=lambda hit: hit[0])[1] if hits else None


class Cloze(Protocol):
    """Completes sentences such as "The typical colour of <name> is [MASK]."."""

    name: str

    def fill(self, attribute: str, concept: str, k: int) -> list[tuple[str, float]]:
        """At most ``k`` words of an attribute for a concept with their share, likeliest first."""


class CountCloze:
    """A cloze by counting: words of the attribute in the sentences of :func:`concepts`. No language model.

    The sentences about the concept itself are counted; for an unknown concept there is no answer.
    """

    name = "counts"

    def __init__(self, known: Sequence[Concept] | None = None) -> None:
        self.known = concepts() if known is None else tuple(known)

    def fill(self, attribute: str, concept: str, k: int) -> list[tuple[str, float]]:
        """See :class:`Cloze`."""
        one = concept_of(concept, self.known)
        own = {w for n in ((one.name, *one.aliases) if one else ()) for w in tokens(n)}
        counts = Counter(meaning(word) for sentence in (one.sentences if one else ()) for word in tokens(sentence)
                         if group_of(word) == attribute and word not in own)
        total = sum(counts.values())
        return [(str(word), count / total) for word, count in counts.most_common(k)]


CLOZE_SENTENCES = {
    "colour": "The typical color of {name} is {mask}.", "shape": "The typical shape of {name} is {mask}.",
    "location": "The location of {name} is at {mask}.", "size": "The typical size of {name} is {mask}.",
    "texture": "The typical texture of {name} is {mask}."}
"""The sentences that the public code of MIU-VL completes, and two more of the same form."""


class MaskedLanguageCloze:
    """A cloze by a masked language model of transformers, such as PubMedBERT, from a local folder or the hub's cache.

    A local folder is loaded at the first question.

    Args:
        source: folder or name for ``AutoModelForMaskedLM``.
        only_known: keep words of the attribute's group alone (None: any word that is not a piece or a stop word).
        least: words with a smaller chance are left out, so that an attribute may have no answer.

    Raises:
        NotFoundError: if it cannot be loaded.
    """

    name = "masked language model"

    def __init__(self, source: str, only_known: bool = True, least: float = 0.0) -> None:
        self.source, self.only_known, self.least = source, only_known, least
        self._parts: tuple[Any, Any] | None = None
        if not (Path(source) / "config.json").is_file():
            self._load()

    def _load(self) -> tuple[Any, Any]:
        """The tokenizer and the model in single precision."""
        if self._parts is None:
            transformers = hugging_face("a masked language model")
            try:
                self._parts = (transformers.AutoTokenizer.from_pretrained(self.source),
                               transformers.AutoModelForMaskedLM.from_pretrained(self.source).float().eval())
            except (OSError, ValueError) as error:
                raise not_there("masked language model", self.source, error) from error
        return self._parts

    @property
    def mask(self) -> str:
        """What stands in a sentence for the word that is asked."""
        return str(self._load()[0].mask_token)

    def chances(self, text: str) -> list[tuple[str, float]]:
        """Every whole word with its chance in the place of the mask of a sentence, likeliest first."""
        import torch

        tokenizer, model = self._load()
        given = tokenizer(text, return_tensors="pt")
        with torch.inference_mode():
            logits = model(**given).logits[0]
        at = int((given["input_ids"][0] == tokenizer.mask_token_id).nonzero()[0])
        chance = torch.softmax(logits[at].float(), 0)
        order = chance.argsort(descending=True).tolist()
        return [(word, float(chance[n])) for n, word in zip(order, tokenizer.convert_ids_to_tokens(order))
                if word.isalpha()]

    def fill(self, attribute: str, concept: str, k: int) -> list[tuple[str, float]]:
        """See :class:`Cloze`; attributes without a sentence in :data:`CLOZE_SENTENCES` have no answer."""
        if attribute not in CLOZE_SENTENCES:
            return []
        answers: dict[str, float] = {}
        for word, chance in self.chances(CLOZE_SENTENCES[attribute].format(name=concept, mask=self.mask)):
            if len(answers) == k or chance < self.least:
                break
            if not self.only_known:
                answers[word] = chance
            elif (meant := meaning(word)) in GROUPS[attribute] and meant is not None:
                answers.setdefault(meant, chance)
        return list(answers.items())


def hugging_face(feature: str) -> Any:
    """The package transformers for a feature, see :func:`promptzoo.core.optional.require`."""
    mend_imports()  # transformers imports torchvision
    return require("transformers", feature)


def not_there(what: str, source: str, error: Any) -> NotFoundError:
    """The error for a model that is neither a local folder nor reachable."""
    return NotFoundError(complain(what, source, "a local folder of transformers, or a name on a hub that is reachable",
                                  f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"))
