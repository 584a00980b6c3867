"""Explicit random generators; promptzoo never touches the global ones."""
from __future__ import annotations

import numpy as np

from promptzoo.core.errors import PromptZooError, complain


def generator(*entropy: int) -> np.random.Generator:
    """A numpy generator from one or more non-negative integers (seed, worker, index …).

    Raises:
        PromptZooError: if no integer or a negative one is given.
    """
    if not entropy or any(int(e) != e or e < 0 for e in entropy):
        raise PromptZooError(complain("seed", list(entropy), "one or more non-negative integers"))
    return np.random.default_rng([int(e) for e in entropy])
