"""The pieces of a prompt typed on the command line: numbers, signs, labels, files; and labels as object ids."""
from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Sequence

from promptzoo.core.errors import NotFoundError, PromptError, complain
from promptzoo.prompts.types import ObjectInfo

_SIGNS = {"+": True, "-": False}


@dataclass
class Names:
    """Object ids by label."""

    by_name: dict[str, int] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)

    def reserve(self, labels: Sequence[str]) -> None:
        """Give every label its id: numbers first, then names in their order."""
        for label in labels:
            if label.isdecimal():
                self.taken.add(int(label))
        for label in dict.fromkeys(labels):
            if not label.isdecimal() and label not in self.by_name:
                number = next(n for n in range(1, 65537) if n not in self.taken)
                self.by_name[label] = number
                self.taken.add(number)

    def id_of(self, label: str) -> int:
        """The id of a reserved label."""
        return int(label) if label.isdecimal() else self.by_name[label]

    def objects(self, used: Sequence[int]) -> tuple[ObjectInfo, ...]:
        """The objects, in the order of their ids."""
        names = {number: name for name, number in self.by_name.items()}
        return tuple(ObjectInfo(n, names.get(n, "")) for n in sorted(set(used)))


def split_point(text: str, what: str, counts: Sequence[int]) -> tuple[list[float], bool, str]:
    """Numbers, sign and label of a prompt written with commas.

    Args:
        text: what was typed, such as ``10,20,3,-,liver``.
        what: for the message, ``point`` or ``box``.
        counts: how many coordinates there may be; the largest that is there is taken.

    Raises:
        PromptError: if the text has another form.
    """
    parts = [part.strip() for part in text.split(",")]
    allowed = f"{' or '.join(str(c) for c in counts)} numbers" + (", then + or -" if what == "point" else "") \
        + ", then a label, separated by commas"
    leading = 0
    while leading < len(parts) and is_number(parts[leading]):
        leading += 1
    fitting = [c for c in counts if c <= leading]
    if not fitting:
        raise PromptError(complain(f"--{what}", text, allowed))
    rest = parts[max(fitting):]
    sign, label = sign_and_label(rest, f"--{what}", text, allowed)
    if what == "box" and sign is False:
        raise PromptError(complain("--box with a minus", text, allowed, "Negative boxes do not exist: use a negative "
                                                                        "point, scribble or lasso"))
    return [float(p) for p in parts[:max(fitting)]], sign is not False, label


def is_there(path: str | Path) -> bool:
    """Whether a text names an existing file; False for texts that no file could have as its name."""
    try:
        return Path(path).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return False


def is_number(text: str) -> bool:
    """Whether the text is a number (``nan`` is one)."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def sign_and_label(parts: Sequence[str], what: str, text: str, allowed: str) -> tuple[bool | None, str]:
    """Sign (None if not said) and label in what follows the coordinates or the file.

    Args:
        parts: the pieces that follow.
        what, text, allowed: for the message: the option, what was typed, its form.

    Raises:
        PromptError: if there is more than a sign and a label, or the label is an unusable number.
    """
    rest, sign = list(parts), None
    if rest and rest[0] in _SIGNS:
        sign = _SIGNS[rest.pop(0)]
    label = rest.pop(0) if rest else ""
    if rest or (parts and not label and sign is None):
        raise PromptError(complain(what, text, allowed))
    if label.isdecimal() and not 1 <= int(label) <= 65535:
        raise PromptError(complain(f"object id in {what}", label, "an integer from 1 to 65535"))
    if label and not label.isdecimal() and is_number(label):
        raise PromptError(complain(f"label in {what}", label, "a name, or an integer from 1 to 65535"))
    return sign, label


def split_file(text: str, what: str) -> tuple[Path, bool | None, str]:
    """File, sign (None if not said) and label of ``FILE[,+|-][,label]``.

    Raises:
        NotFoundError: if no beginning of the text is an existing file.
        PromptError: if something else than a sign and a label follows it.
    """
    parts = text.split(",")
    for end in range(len(parts), 0, -1):
        path = Path(",".join(parts[:end])).expanduser()
        if is_there(path):
            rest = [part.strip() for part in parts[end:]]
            return path, *sign_and_label(rest, what, text, "FILE, then + or -, then a label, separated by commas")
    raise NotFoundError(complain(f"file of {what}", text, "an existing file, then + or -, then a label",
                                 "Check the path"))
