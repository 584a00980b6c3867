"""What is asked back, in sentences that a person reads."""
from __future__ import annotations

from typing import Sequence

from promptzoo.text.lexicon.concepts import Concept, Match
from promptzoo.text.lexicon.parse import Word

MOST = 8
"""Names that are listed at most."""


class Unclear(Exception):
    """A text that cannot be read without guessing.

    Args:
        question: what to ask.
        candidates: what may be meant, the likeliest first.
    """

    def __init__(self, question: str, candidates: Sequence[Match] = ()) -> None:
        super().__init__(question)
        self.question, self.candidates = question, list(candidates)


def asked(unclear: Unclear, classes: Sequence[str] | None) -> str:
    """The question with its candidates, or with the classes of the bundle if there are none."""
    names = list(dict.fromkeys(m.concept.name for m in unclear.candidates))
    text = unclear.question
    if names and "?" not in text:
        text += f" Do you mean {listing(names, 'or')}?"
    elif not names and classes:
        text += f" Known are {listing([c.replace('_', ' ') for c in classes], 'and')}. What should be found?"
    return text if text.endswith("?") else text + " What should be found?"


def listing(names: Sequence[str], join: str) -> str:
    """``a, b or c``; long lists are cut."""
    shown = list(names[:MOST])
    if len(names) > MOST:
        return ", ".join(shown) + f" {join} {len(names) - MOST} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} {join} {shown[-1]}"


def unknown(words: Sequence[Word], strange: Sequence[Word]) -> str:
    """Words that nothing is known of."""
    told = " ".join(w.typed for w in strange)
    whole = " ".join(w.typed for w in words)
    return f'I do not know "{_cut(told)}"' + (f' in "{_cut(whole)}".' if whole != told else ".")


def several(phrase: str, matches: Sequence[Match]) -> str:
    """One phrase, several meanings."""
    return f'"{_cut(phrase)}" may mean {listing([m.concept.name for m in matches], "or")}. Which one?'


def typed(words: Sequence[Word]) -> str:
    """A typing error that may be corrected in several ways."""
    return f'I am not sure how to read "{_cut(" ".join(w.typed for w in words))}".'


def either(matches: Sequence[Match]) -> str:
    """A choice that the person has to make."""
    names = dict.fromkeys(m.concept.name for m in matches)
    return f"Which one: {listing(list(names), 'or')}?"


def no_such_side(concept: Concept, sides: Sequence[str]) -> str:
    """A side of what has none, or another than its own."""
    if concept.side:
        others = " and ".join(side for side in sides if side != concept.side)
        return f'"{concept.name}" is on the {concept.side}, not on the {others}.'
    return f"The {concept.name} is not told apart into left and right here."


def side_alone(sides: Sequence[str]) -> str:
    """A side and nothing that it is the side of."""
    return f"The {' and '.join(dict.fromkeys(sides))} one of what?"


def not_together(matches: Sequence[Match]) -> str:
    """Two known things whose combination is not."""
    told = listing([f'"{m.phrase}"' for m in matches], "and")
    return f"I know {told}, but not the two together; for both put \"and\" between them."


def nothing_wanted(text: str, excluded: Sequence[Concept]) -> str:
    """A text that names nothing, or only what to leave out."""
    if excluded:
        return f"That only says what to leave out: {listing([c.name for c in excluded], 'and')}."
    return f'"{_cut(text)}" names nothing to find.' if text.strip() else "There is no text."


def nothing_excluded(words: Sequence[Word]) -> str:
    """Something is to be left out, and it does not say what."""
    return f'I do not know what to leave out in "{_cut(" ".join(w.typed for w in words))}".'


def contradiction(concepts: Sequence[Concept]) -> str:
    """All that is wanted is excluded, too."""
    return f"{listing([c.name for c in concepts], 'and').capitalize()}: wanted and left out at the same time."


def _cut(text: str, most: int = 80) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[:most - 1] + "…"
